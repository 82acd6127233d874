"""Exercises 13.1 and 13.2: structural similarity, of two windows and of pictures."""

import math

import torch

from minivdm.course.exercise import close, exercise, holds, near, raises

A, B = 0.0001, 0.0009  # C1 and C2


def of_three(mu_x, mu_y, var_x, var_y, cov):
    """Luminance times contrast times structure, as Wang et al. define them, in float64."""
    mu_x, mu_y, var_x, var_y, cov = (each.double() for each in (mu_x, mu_y, var_x, var_y, cov))
    both = (var_x * var_y).sqrt()
    luminance = (2 * mu_x * mu_y + A) / (mu_x**2 + mu_y**2 + A)
    contrast = (2 * both + B) / (var_x + var_y + B)
    return luminance * contrast * (cov + B / 2) / (both + B / 2)


def moments(draw, *shape, low=0.0, high=0.2):
    """Means, variances and a covariance that fits them."""
    mu_x, mu_y = draw.uniform(*shape), draw.uniform(*shape)
    var_x, var_y = draw.uniform(*shape, low=low, high=high), draw.uniform(*shape, low=low, high=high)
    return mu_x, mu_y, var_x, var_y, draw.uniform(*shape, low=-0.95, high=0.95) * (var_x * var_y).sqrt()


@exercise("picture_metrics.ssim_of_moments")
def ssim_of_moments(f, draw):
    like = dict(atol=1e-5, rtol=1e-4, dtype=torch.float32)
    for name, shape, scale in (("ordinary windows", (40,), 1), ("dark and pale ones", (4, 5), 0.03)):
        mu_x, mu_y, var_x, var_y, cov = moments(draw, *shape)
        given = scale * mu_x, scale * mu_y, scale**2 * var_x, scale**2 * var_y, scale**2 * cov
        yield close(f"{name}: luminance * contrast * structure", f(*given), of_three(*given), **like)
    mu, _, var, _, _ = moments(draw, 10)
    yield close("equal windows", f(mu, mu, var, var, var), torch.ones(10), **like)
    yield close("a window and its negative", f(mu, mu, var, var, -var), (B - 2 * var) / (B + 2 * var), **like)
    flat = [mu, 1 - mu, torch.zeros(10), var, torch.zeros(10)]
    flat = [each.double().requires_grad_() for each in flat]
    got = f(*flat)
    yield close("one of the windows is constant", got, of_three(*[each.detach() for each in flat]), atol=1e-9)
    slope = torch.autograd.grad(got.sum(), flat[2], allow_unused=True)[0] if got.requires_grad else None
    finite = slope is None or slope.isfinite().all()
    yield holds("there, the slope is finite", finite, "it is not: a root of the variance is left in the formula")


@ssim_of_moments.promises("samples", "dtype", "layout", "device", "gradients")
def ordinary_moments(f, draw):
    names = "mu_x", "mu_y", "var_x", "var_y", "cov"
    return f, dict(zip(names, moments(draw, 4, 3, 2, low=0.05)))


ssim_of_moments.edit(
    "the product of the squared means",
    {"mu_x**2 + mu_y**2 + C1": "mu_x**2 * mu_y**2 + C1"},
    "In the luminance's denominator a plus sign is missing (as it is in some printed versions): two equal windows must "
    "get 1.",
)
ssim_of_moments.edit(
    "the product of the variances",
    {"var_x + var_y + C2": "var_x * var_y + C2"},
    "In the contrast's denominator a plus sign is missing (as it is in some printed versions): two equal windows must "
    "get 1.",
)
ssim_of_moments.edit(
    "products in both denominators",
    {"mu_x**2 + mu_y**2 + C1": "mu_x**2 * mu_y**2 + C1", "var_x + var_y + C2": "var_x * var_y + C2"},
    "These are the denominators of the slide, which lost a plus sign each: two equal windows must get 1.",
)
ssim_of_moments.edit(
    "variances squared",
    {"var_x + var_y + C2": "var_x**2 + var_y**2 + C2"},
    "var_x is sigma_x^2 already: do not square it again.",
)
ssim_of_moments.edit(
    "half of the covariance",
    {"2 * cov + C2": "cov + C2"},
    "A factor of 2 got lost: with C3 = C2 / 2, structure is (2 cov + C2) / (2 sigma_x sigma_y + C2). What does its "
    "denominator cancel?",
)
ssim_of_moments.edit(
    "C3 = C2",
    {"(2 * cov + C2) / (var_x + var_y + C2)": "2 * (cov + C2) / (var_x + var_y + 2 * C2)"},
    "This is the product for a larger constant: C3 is C2 / 2, and contrast has C2 itself.",
)
ssim_of_moments.edit(
    "constants exchanged",
    {
        "mu_x * mu_y + C1": "mu_x * mu_y + C2",
        "mu_y**2 + C1": "mu_y**2 + C2",
        "cov + C2": "cov + C1",
        "var_y + C2": "var_y + C1",
    },
    "C1 belongs to the means, C2 to variances and covariance.",
)
ssim_of_moments.edit(
    "without luminance", {"return luminance * rest": "return rest"}, "How bright the windows are does not count here."
)
ssim_of_moments.edit(
    "luminance alone", {"return luminance * rest": "return luminance"}, "Contrast and structure are missing."
)
ssim_of_moments.edit(
    "a sum of both",
    {"return luminance * rest": "return (luminance + rest) / 2"},
    "The parts are averaged. They are multiplied: whoever fails in one fails altogether.",
)
ssim_of_moments.edit(
    "without constants",
    {"mu_x * mu_y + C1": "mu_x * mu_y", "mu_y**2 + C1": "mu_y**2", "cov + C2": "cov", "var_y + C2": "var_y"},
    "C1 and C2 are missing. They matter where a window is dark or even.",
)
ssim_of_moments.edit(
    "structure left out",
    {"2 * cov + C2": "2 * (var_x * var_y).sqrt() + C2"},
    "This is luminance times contrast: it does not know the covariance, so any two patterns are alike.",
)


def by_windows(x, y):
    """The mean over all places where a window fits, one after the other, in float64."""
    offsets = torch.arange(-5, 6).double()
    g = torch.exp(-(offsets**2) / 4.5)
    g = torch.outer(g, g) / g.sum() ** 2
    x, y = (each.double().reshape(-1, *each.shape[-2:]) for each in (x, y))
    found = []
    for a, b in zip(x, y):
        for i in range(a.shape[0] - 10):
            for j in range(a.shape[1] - 10):
                p, q = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
                m, n = (g * p).sum(), (g * q).sum()
                found.append(
                    of_three(m, n, (g * (p - m) ** 2).sum(), (g * (q - n) ** 2).sum(), (g * (p - m) * (q - n)).sum())
                )
    return torch.stack(found).mean().item()


@exercise("picture_metrics.ssim")
def ssim(f, draw):
    x = draw.uniform(2, 3, 13, 14)
    x[:, :, :5] = 0.1 * x[:, :, :5]  # the border is not like the rest
    near_x = (x + 0.15 * draw.normal(2, 3, 13, 14)).clamp(0, 1)
    for name, y in (("a noisy picture", near_x), ("a brighter one", 0.4 + 0.6 * x), ("its negative", 1 - x)):
        yield near(f"{name}: the mean over all windows", f(x, y), by_windows(x, y), within=1e-5)
    yield near("equal pictures", f(x, x), 1, within=1e-6)
    yield near("the other way round", f(near_x, x), by_windows(x, near_x), within=1e-5)
    clips, others = draw.uniform(2, 3, 3, 11, 12), draw.uniform(2, 3, 3, 11, 12)
    yield near("clips of three frames", f(clips, others), by_windows(clips, others), within=1e-5)
    black = torch.zeros(1, 1, 11, 11)
    yield near("black and white, one window", f(black, 1 + black), A / (1 + A), within=1e-6)
    for name, one, two in (
        ("10 rows", x[:, :, :10], x[:, :, :10]),
        ("two shapes", x, x[:, :, :12]),
        ("pictures in 0..255", 255 * x, 255 * x),
        ("NaN", x, x * math.nan),
        ("one picture (C, H, W)", x[0], x[0]),
    ):
        yield raises(f"{name}", ValueError, lambda one=one, two=two: f(one, two))


FLOAT = "it returns a float"


@ssim.promises("device", samples="the mean over all pictures", dtype=FLOAT, layout=FLOAT, gradients=FLOAT)
def ordinary_pictures(f, draw):
    return f, dict(x=draw.uniform(2, 3, 12, 13), y=draw.uniform(2, 3, 12, 13))


ONE_BY_ONE = "x, y = (each.reshape(-1, 1, *each.shape[-2:]) for each in (x, y))  # (B C F, 1, H, W)"
RESULT = "return ssim_of_moments(mu_x, mu_y, var_x, var_y, cov).mean().item()"
ssim.edit(
    "the border, too",
    {ONE_BY_ONE: f"{ONE_BY_ONE}\n    x, y = (F.pad(each, (5, 5, 5, 5)) for each in (x, y))"},
    "Windows that reach beyond the picture count, too, filled up with zeros. Only those count that lie inside.",
)
ssim.edit(
    "variance without the mean",
    {"window_mean(x * x) - mu_x**2": "window_mean(x * x)", "window_mean(y * y) - mu_y**2": "window_mean(y * y)"},
    "The mean of the squares is no variance: subtract the square of the mean.",
)
VARIANCES = "window_mean(x * x) - mu_x**2, window_mean(y * y) - mu_y**2"
ssim.edit(
    "the mean of the whole picture",
    {VARIANCES: "(window_mean((each - each.mean((2, 3), keepdim=True)) ** 2) for each in (x, y))"},
    "The squares are those of distances to the mean of the whole picture. Each window has a mean of its own, mu: what "
    "is left of the mean of x^2 if you subtract its square?",
)
ssim.edit(
    "pixels minus windows",
    {VARIANCES: "window_mean((x - mu_x) ** 2), window_mean((y - mu_y) ** 2)"},
    "x has a value for each pixel, mu_x one for each window, so they cannot be subtracted; and a pixel lies in many "
    "windows, each with a mean of its own. Write the variance as the mean of a square minus a square.",
)
ssim.edit(
    "the means not squared",
    {VARIANCES: "window_mean(x * x) - mu_x, window_mean(y * y) - mu_y"},
    "The mean is subtracted from the mean of the squares. It is the *square* of the mean that is subtracted.",
)
ssim.edit(
    "pictures and channels alone",
    {ONE_BY_ONE: "x, y = (each.flatten(0, 1).unsqueeze(1) for each in (x, y))"},
    "Pictures and channels are made one axis, and clips (B, C, F, H, W) keep their frames as another. `window_mean` "
    "takes (N, 1, H, W): all axes but the last two go into N.",
)
ssim.edit(
    "covariance without the means",
    {"window_mean(x * y) - mu_x * mu_y": "window_mean(x * y)"},
    "The mean of the products is no covariance: subtract the product of the means.",
)
ssim.edit(
    "all windows together",
    {RESULT: "return ssim_of_moments(*(each.mean() for each in (mu_x, mu_y, var_x, var_y, cov))).item()"},
    "The moments are averaged over the places first, and then compared. Compare at each place, then average.",
)
ssim.edit(
    "one window as large as the picture",
    {
        "window_mean(x), window_mean(y)": "(each.mean((2, 3)) for each in (x, y))",
        "window_mean(x * x) - mu_x**2, window_mean(y * y) - mu_y**2": (
            "(each.var((2, 3), correction=0) for each in (x, y))"
        ),
        "window_mean(x * y) - mu_x * mu_y": "(x * y).mean((2, 3)) - mu_x * mu_y",
    },
    "The moments are those of the whole picture. Each place has a window of its own: `window_mean`.",
)
ssim.edit(
    "standard deviations",
    {"var_x, var_y, cov).mean": "var_x.abs().sqrt(), var_y.abs().sqrt(), cov).mean"},
    "ssim_of_moments takes variances, and gets standard deviations.",
)
ssim.edit(
    "N - 1",
    {
        "cov = window_mean(x * y) - mu_x * mu_y": (
            "cov = (window_mean(x * y) - mu_x * mu_y) * 121 / 120\n    var_x, var_y = var_x * 121 / 120, "
            "var_y * 121 / 120"
        )
    },
    "Variances and covariance are multiplied by 121 / 120. The weights add up to 1, and the mean weighted by them is "
    "what is meant.",
)
ssim.edit(
    "grey pictures",
    {"x, y = pictures_of(x, y)": "x, y = (each.mean(1, keepdim=True) for each in pictures_of(x, y))"},
    "The channels are averaged before the comparison. Each channel is compared by itself, and the "
    "results are averaged.",
)
ssim.edit(
    "a dissimilarity",
    {RESULT: RESULT.replace("return ", "return 1 - ")},
    "For equal pictures this is 0. The similarity is 1 there: higher is better.",
)
ssim.edit(
    "no less than 0",
    {RESULT: RESULT.replace(".mean()", ".clamp(min=0).mean()")},
    "Negative similarities are set to 0. A window against its negative has one, and it counts as it is.",
)
ssim.edit(
    "all weights alike",
    {
        "mu_x, mu_y = window_mean(x)": (
            "window_mean = lambda each: F.avg_pool2d(each, 11, 1)\n    mu_x, mu_y = window_mean(x)"
        )
    },
    "All 121 pixels of a window weigh the same. They are weighted by a Gaussian: `window_mean`.",
)
