"""Exercise 13.3: the Frechet distance, and what a broken one does not notice."""

import math

import torch

from minivdm.course.exercise import exercise, holds, near, raises


def by_roots(x, y):
    """|mu_x - mu_y|^2 + tr(S_x + S_y - 2 R), with R the root of the symmetric S_x^(1/2) S_y S_x^(1/2), in float64."""
    x, y = x.double(), y.double()
    s_x, s_y = torch.cov(x.T).reshape(x.shape[1], -1), torch.cov(y.T).reshape(y.shape[1], -1)

    def root(s):
        values, vectors = torch.linalg.eigh(s)
        return vectors * values.clamp(min=0).sqrt() @ vectors.T

    middle = root(root(s_x) @ s_y @ root(s_x))
    return ((x.mean(0) - y.mean(0)).square().sum() + (s_x + s_y - 2 * middle).trace()).item()


def cloud(draw, n, d):
    """Correlated features, not centred."""
    return draw.normal(n, d) @ draw.normal(d, d) + draw.normal(d)


@exercise("metrics.frechet_distance")
def frechet_distance(f, draw):
    one = draw.normal(1, 3)
    yield raises("one sample has no covariance", ValueError, lambda: f(one, draw.normal(9, 3)))
    x, y = 2 * draw.normal(60, 1) + 1, draw.normal(45, 1)
    want = by_roots(x, y)
    yield near("one feature: means and standard deviations", f(x, y), want, within=1e-4 * (1 + want))
    alone = draw.normal(90, 3) * torch.tensor([0.5, 1, 3])
    for name, a, b in (
        ("two features", cloud(draw, 50, 2), cloud(draw, 70, 2)),
        ("six features, 40 and 90 samples", cloud(draw, 40, 6), cloud(draw, 90, 6)),
        ("few samples: 6 and 9 of 12 features", cloud(draw, 6, 12), cloud(draw, 9, 12)),
        ("two samples", cloud(draw, 2, 4), cloud(draw, 30, 4)),
        ("the same spread everywhere but at another place", alone, alone + 2),
    ):
        want = by_roots(a, b)
        yield near(name, f(a, b), want, within=2e-3 * (1 + want))
    slant = draw.normal(200, 1)
    rising = torch.cat([slant, slant], dim=1) + 0.1 * draw.normal(200, 2)
    want = by_roots(rising, rising * torch.tensor([1, -1]))
    yield near("a cloud and its mirror image", f(rising, rising * torch.tensor([1, -1])), want, within=0.01 * want)
    a, b = cloud(draw, 30, 5), cloud(draw, 40, 5)
    yield near("the other way round it is the same", f(b, a), by_roots(a, b), within=1e-3 * (1 + by_roots(a, b)))
    value = f(a, a.clone())
    yield holds("equal sets: 0, and never below", -1e-12 <= value < 1e-3, f"got {value:.3g}")
    point = torch.ones(3, 2)
    yield near("points without any spread", f(point, 3 * point), 8, within=1e-3)
    yield raises("nor has one in the other set", ValueError, lambda: f(draw.normal(9, 3), one))
    yield raises("no samples", ValueError, lambda: f(one[:0], draw.normal(9, 3)))
    yield raises("other dimensions, as `checked_features` refuses them", ValueError, lambda: f(a, b[:, :4]))
    for value in (math.nan, math.inf):
        bad = a.clone()
        bad[3, 1] = value
        yield raises(f"{value} among the features", ValueError, lambda bad=bad: f(bad, b))


FLOAT = "it returns a float"


@frechet_distance.promises("device", samples="a distance of sets", dtype=FLOAT, layout=FLOAT, gradients=FLOAT)
def ordinary(f, draw):
    return f, dict(x=draw.normal(9, 3), y=draw.normal(12, 3))


TRACE = """    # A = Q R with Q^T Q = 1, so R has the same covariance, and at most D rows.
    r_a, r_b = torch.linalg.qr(a, mode="r").R, torch.linalg.qr(b, mode="r").R
    trace = torch.linalg.svdvals(r_a @ r_b.T).sum() / (n * m) ** 0.5
"""
DIAGONAL = """    s_x, s_y = a.T @ a / n, b.T @ b / m
    trace = (s_x.diagonal() * s_y.diagonal()).sqrt().sum()
"""
CHECKED, COUNTS = "x, y = checked_features(x, y)", "n, m = len(x) - 1, len(y) - 1"
ONE_WILL_DO = {CHECKED: "x, y = x.double(), y.double()", COUNTS: "n, m = max(len(x) - 1, 1), max(len(y) - 1, 1)"}
frechet_distance.edit(
    "uncorrelated, and one sample will do",
    {TRACE: DIAGONAL, **ONE_WILL_DO},
    "Compare it with the truth in two cases. Two clouds that differ only in how their features go together: what of a "
    "covariance does the trace use? And a set of one sample, whose spread nobody can know.",
)
frechet_distance.edit(
    "uncorrelated",
    {TRACE: DIAGONAL},
    "The trace uses the diagonals alone, as if features were uncorrelated. It takes the root of the *matrix* S_x S_y: "
    "its trace is the sum of the roots of the eigenvalues.",
)
frechet_distance.edit(
    "one sample will do",
    ONE_WILL_DO,
    "One sample is taken for a set without any spread, and the distance looks like any other. A covariance needs at "
    "least two; and what is not finite or does not fit must be refused, too: `checked_features`.",
)
frechet_distance.edit(
    "a root of each element",
    {TRACE: "    trace = (a.T @ a @ b.T @ b / (n * m)).abs().sqrt().trace()\n"},
    "The root is taken of each element of S_x S_y. The root of a matrix is another one: R R = S_x "
    "S_y, and the trace of R "
    "is the sum of the roots of the eigenvalues.",
)
ROOT_BELOW_0 = "    trace = torch.linalg.eigvals(a.T @ a @ b.T @ b / (n * m)).real.sqrt().sum()\n"
frechet_distance.edit(
    "the root of a rounding error",
    {TRACE: ROOT_BELOW_0},
    "Some eigenvalues are 0, as there are fewer samples than features, and rounding makes such a one -1e-17: its root "
    "is NaN. No feature is too large. Clamp the eigenvalues at 0 before you take the roots.",
)
frechet_distance.edit(
    "the root of a rounding error, returned",
    {
        TRACE: ROOT_BELOW_0,
        'finite(max(distance.item(), 0.0) * scale * scale, "the squares of the features")': (
            "distance.item() * scale * scale"
        ),
    },
    "Rounding makes some eigenvalues that should be 0 a little negative, and the root of -1e-17 is NaN: clamp the "
    "eigenvalues at 0 first.",
)
frechet_distance.edit(
    "only the number of samples is looked at",
    {
        CHECKED: """x, y = x.double(), y.double()
    if min(len(x), len(y)) < 2:
        raise ValueError("one sample has no covariance")"""
    },
    "One sample is refused now, but sets of other dimensions, and features that are NaN or infinite, are not: "
    "`checked_features` refuses all of them.",
)
frechet_distance.edit(
    "eigenvalues of a symmetric matrix",
    {TRACE: "    trace = torch.linalg.eigvalsh(a.T @ a @ b.T @ b / (n * m)).clamp(min=0).sqrt().sum()\n"},
    "`eigvalsh` is for symmetric matrices and looks at one triangle only. A product of two symmetric matrices is not "
    "symmetric: `torch.linalg.eigvals`, whose imaginary parts are 0 up to rounding.",
)
frechet_distance.edit(
    "eigenvalues without the root",
    {".sum() / (n * m) ** 0.5": ".square().sum() / (n * m)"},
    "This adds the eigenvalues of S_x S_y, not their roots.",
)
frechet_distance.edit(
    "the roots of each apart",
    {TRACE: "    trace = (torch.linalg.svdvals(a).sum() / n**0.5 * torch.linalg.svdvals(b).sum() / m**0.5)\n"},
    "Each covariance is looked at by itself, and the product taken of the sums. The eigenvalues are those of the "
    "product S_x S_y.",
)
frechet_distance.edit(
    "covariances with N",
    {COUNTS: "n, m = len(x), len(y)"},
    "The covariances are divided by N. Papers, and `torch.cov`, divide by N - 1.",
)
frechet_distance.edit(
    "means not squared",
    {"- (y / scale).mean(0)).square().sum()": "- (y / scale).mean(0)).norm() / scale"},
    "The distance of the means is not squared.",
)
frechet_distance.edit(
    "without the means",
    {"distance = between + a": "distance = a"},
    "The means do not count: two equal clouds at different places have the distance 0.",
)
frechet_distance.edit(
    "the trace once",
    {"- 2 * trace": "- trace"},
    "The trace of the root counts twice: equal sets must have the distance 0.",
)
frechet_distance.edit(
    "the root of the whole",
    {"max(distance.item(), 0.0) * scale * scale": "max(distance.item(), 0.0) ** 0.5 * scale"},
    "This is the root of the distance. What is called the Frechet distance in FID and FVD is the squared one.",
)
