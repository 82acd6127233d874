"""Exercise 13.5: an estimate that is right on average."""

import math

import torch

from minivdm.course.exercise import exercise, holds, near, raises, reaches


def by_loops(x, y):
    """The three means, pair by pair, in Python's floats."""

    def k(a, b):
        return (sum(p * q for p, q in zip(a, b)) / len(a) + 1) ** 3

    x, y = x.double().tolist(), y.double().tolist()
    xx = [k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    yy = [k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
    xy = [k(a, b) for a in x for b in y]
    return sum(xx) / len(xx) + sum(yy) / len(yy) - 2 * sum(xy) / len(xy)


@exercise("metrics.polynomial_mmd")
def polynomial_mmd(f, draw):
    pairs = [(draw.normal(6, 3), draw.normal(6, 3)) for _ in range(150)]
    values = torch.tensor([float(f(x, y)) for x, y in pairs], dtype=torch.float64)
    error = values.std().item() / 150**0.5
    wrong = f"the mean of 150 is {values.mean():.3g} ± {error:.2g} (standard error)"
    yield holds("two draws of one distribution: 0 on average", abs(values.mean()) <= 4.5 * error, wrong)
    never = "150 values, and none is below 0: what is never negative cannot be 0 on average"
    yield holds("some of these values are negative", values.min() < 0, never)
    for name, n, m, d in (("5 and 8 samples", 5, 8, 4), ("two samples each", 2, 2, 3), ("one feature", 7, 4, 1)):
        x, y = draw.normal(n, d), 1.5 * draw.normal(m, d) + 0.5
        want = by_loops(x, y)
        yield near(f"{name}: the mean over pairs", f(x, y), want, within=1e-4 * (1 + abs(want)))
    x = draw.normal(6, 5)
    want = by_loops(x, x)
    yield near("a set with itself", f(x, x.clone()), want, within=1e-4 * (1 + abs(want)))
    far = 20 * draw.normal(5, 2) + 3
    want = by_loops(far, x[:, :2])
    yield near("large features", f(far, x[:, :2]), want, within=1e-4 * abs(want))
    apart = [float(f(draw.normal(12, 2), draw.normal(12, 2) + 1.5)) for _ in range(5)]
    yield reaches("sets at different places", apart, at_least=1)
    yield raises("one sample", ValueError, lambda: f(x[:1], x))
    yield raises("one sample in the other set", ValueError, lambda: f(x, x[:1]))
    yield raises("other dimensions", ValueError, lambda: f(x, x[:, :4]))
    yield raises("NaN", ValueError, lambda: f(x, x * math.nan))
    yield raises("features of 1e60", ValueError, lambda: f(1e60 * x.double(), x.double()))


FLOAT = "it returns a float"


@polynomial_mmd.promises("device", samples="a distance of sets", dtype=FLOAT, layout=FLOAT, gradients=FLOAT)
def ordinary(f, draw):
    return f, dict(x=draw.normal(9, 3), y=draw.normal(12, 3))


WITHIN_X = "(xx.sum() - xx.trace()) / (n * (n - 1))  # without i = j"
WITHIN_Y = "(yy.sum() - yy.trace()) / (m * (m - 1))"
RETURNED = "finite(mmd.item(), "
polynomial_mmd.edit(
    "all pairs, and nothing below 0",
    {WITHIN_X: "xx.mean()", WITHIN_Y: "yy.mean()", RETURNED: "finite(max(mmd.item(), 0.0), "},
    "Draw two small sets from one distribution, often, and look at the mean. Within a set, is a pair of a sample with "
    "itself a pair of two draws? And if an estimate of 0 is never negative, what is its mean?",
)
polynomial_mmd.edit(
    "nothing below 0",
    {RETURNED: "finite(max(mmd.item(), 0.0), "},
    "What is below 0 becomes 0, so the mean over many draws is too large. An unbiased estimate of 0 must be negative "
    "half of the time.",
)
polynomial_mmd.edit(
    "the absolute value",
    {RETURNED: "finite(abs(mmd.item()), "},
    "The sign is thrown away, so the mean over many draws is too large.",
)
polynomial_mmd.edit(
    "the wrong number of pairs",
    {"(n * (n - 1))": "n**2", "(m * (m - 1))": "m**2"},
    "The pairs of a sample with itself are left out of the sum, but still counted: there are n (n - 1) others.",
)
polynomial_mmd.edit(
    "left out across, too",
    {"2 * xy.mean()": "2 * (xy.sum() - xy.diagonal().sum()) / (n * m - min(n, m))"},
    "Pairs (x_i, y_i) are left out, too. Those are two draws like any others: the mean across runs over all of them.",
)
polynomial_mmd.edit(
    "no division by D", {"/ a.shape[1] + 1": "+ 1"}, "The scalar product is divided by the number of features D first."
)
polynomial_mmd.edit("a square", {") ** 3": ") ** 2"}, "The kernel is a third power.")
polynomial_mmd.edit("no 1", {"/ a.shape[1] + 1)": "/ a.shape[1])"}, "The kernel has a 1: (a . b / D + 1)^3.")
polynomial_mmd.edit(
    "across once",
    {"- 2 * xy.mean()": "- xy.mean()"},
    "The pairs across the sets count twice: equal sets must give about 0.",
)
polynomial_mmd.edit(
    "anything is taken",
    {"x, y = checked_features(x, y)": "x, y = x.double(), y.double()"},
    "What cannot be compared must be refused with a ValueError: `checked_features`.",
)
