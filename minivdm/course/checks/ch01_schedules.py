"""Exercises 1.1, 1.2 and 1.4: the tables."""

import math

import torch

from minivdm.course.exercise import close, equal, exercise, raises

from .common import checked_betas


@exercise("schedules.linear_betas")
def linear_betas(f, draw):
    def want(T, start=1e-4, end=0.02):
        return torch.tensor([1000 / T * (start + (end - start) * i / (T - 1)) for i in range(T)], dtype=torch.float64)

    yield close("T = 1000, the paper's", f(1000), want(1000), atol=1e-12, rtol=1e-9)
    T = draw.integers(30, 900)
    yield close(f"T = {T}", f(T), want(T), atol=1e-12, rtol=1e-9)
    start, end = draw.uniform(2, low=1e-4, high=5e-3).sort().values.tolist()
    name = f"T = {T}, start = {start:.5f}, end = {end:.5f}"
    yield close(name, f(T, start, end), want(T, start, end), atol=1e-12, rtol=1e-9)
    yield raises("T = 20, where the last beta would be 1", ValueError, lambda: f(20))
    yield raises("start = 0: a beta of 0", ValueError, lambda: f(100, 0.0, 0.02))
    yield raises("start = -0.1: a negative beta", ValueError, lambda: f(1000, -0.1, 0.02))
    yield raises("T = 100 and end = 0.2, where it would be 2", ValueError, lambda: f(100, 1e-4, 0.2))


@linear_betas.misconception(
    "not stretched",
    "For T = 1000 this is right; for any other T the betas must be multiplied "
    "by 1000 / T, or a short schedule ends with most of the signal still there.",
)
def _(T, start=1e-4, end=0.02):
    if not 1000 / T * end < 1 or start <= 0:
        raise ValueError
    return torch.linspace(start, end, T, dtype=torch.float64)


@linear_betas.misconception(
    "last value missing",
    "The last beta falls one step short of the end: both ends belong to "
    "the line, so there are T - 1 intervals between T values.",
)
def _(T, start=1e-4, end=0.02):
    if not 1000 / T * end < 1 or start <= 0:
        raise ValueError
    return 1000 / T * (start + (end - start) * torch.arange(T, dtype=torch.float64) / T)


@linear_betas.misconception(
    "levels counted from 0",
    "The line starts one step too early, below `start`. The first beta belongs to level t = 1, where (t - 1) is 0.",
)
def _(T, start=1e-4, end=0.02):
    if not 1000 / T * end < 1 or start <= 0:
        raise ValueError
    return 1000 / T * (start + (end - start) * (torch.arange(T, dtype=torch.float64) - 1) / (T - 1))


@linear_betas.misconception("alphas", "These are alphas, 1 - beta. The function is asked for the betas themselves.")
def _(T, start=1e-4, end=0.02):
    if not 1000 / T * end < 1 or start <= 0:
        raise ValueError
    return 1 - 1000 / T * torch.linspace(start, end, T, dtype=torch.float64)


@linear_betas.misconception(
    "linear in the square root",
    "This is linear in sqrt(beta), the schedule of Stable Diffusion. DDPM's is linear in beta itself.",
)
def _(T, start=1e-4, end=0.02):
    if not 1000 / T * end < 1 or start <= 0:
        raise ValueError
    return 1000 / T * torch.linspace(start**0.5, end**0.5, T, dtype=torch.float64) ** 2


@linear_betas.misconception(
    "float32 arithmetic",
    "The values are rounded to float32 on the way, and a product of a "
    "thousand of them drifts. Give `dtype=torch.float64` where the numbers are first made.",
)
def _(T, start=1e-4, end=0.02):
    if not 1000 / T * end < 1 or start <= 0:
        raise ValueError
    return 1000 / T * torch.linspace(start, end, T).double()


@linear_betas.misconception(
    "refusal by T alone",
    "T <= 20 is right for the paper's start and end only. Look at the betas themselves: is one of them not in (0, 1)?",
)
def _(T, start=1e-4, end=0.02):
    if T <= 20 or start <= 0:
        raise ValueError
    return 1000 / T * torch.linspace(start, end, T, dtype=torch.float64)


@linear_betas.misconception(
    "zero not refused",
    "A beta that is too large is refused, but not one of 0, which adds no noise. All betas must be above 0, too.",
)
def _(T, start=1e-4, end=0.02):
    if not 1000 / T * end < 1:
        raise ValueError
    return 1000 / T * torch.linspace(start, end, T, dtype=torch.float64)


@linear_betas.misconception(
    "no refusal",
    "The values are right, but for T <= 20 a beta reaches 1 and the signal is "
    "multiplied by zero. Raise a ValueError when a beta is not in (0, 1).",
)
def _(T, start=1e-4, end=0.02):
    return 1000 / T * torch.linspace(start, end, T, dtype=torch.float64)


@exercise("schedules.NoiseSchedule")
def noise_schedule(f, draw):
    T = draw.integers(5, 40)
    betas = draw.uniform(T, low=0.01, high=0.3).double()
    schedule = f(betas)
    ab = [1.0]
    for b in betas.tolist():
        ab.append(ab[-1] * (1 - b))
    names = ["T", "beta", "alpha_bar"]
    there = [name for name in names if hasattr(schedule, name)]
    yield equal("what `__init__` stores in self", there, names, usable=False)
    yield equal("schedule.T", schedule.T, T)
    yield close("schedule.alpha_bar", schedule.alpha_bar, torch.tensor(ab), rtol=1e-5)
    for bad in (2.0, 0.0):
        yield raises(f"a beta of {bad:g}", ValueError, lambda bad=bad: f(torch.tensor([0.1, bad, 0.1])))
    yield close("schedule.beta", schedule.beta, torch.tensor([0.0] + betas.tolist()), rtol=1e-5)


class _Tables:
    """A wrong NoiseSchedule in one line: what goes into the table, and what stands at level 0."""

    def fill(self, betas, alpha_bar):
        checked_betas(betas)
        self.T = len(betas)
        self.beta = torch.cat([torch.zeros(1), betas.float()])
        self.alpha_bar = alpha_bar.float()


@noise_schedule.misconception(
    "betas not checked",
    "The tables are right for good betas, but a beta of 2 (or 0) is taken without complaint. Call checked_betas(betas) "
    "first.",
)
class _:
    def __init__(self, betas):
        self.T = len(betas)
        self.beta = torch.cat([torch.zeros(1), betas.float()])
        self.alpha_bar = torch.cat([torch.ones(1), torch.cumprod(1 - betas.double(), dim=0).float()])


@noise_schedule.misconception(
    "no level 0",
    "The tables have T entries, so alpha_bar[0] belongs to level 1 and every "
    "look-up is off by one. Put level 0 first: beta 0, alpha_bar 1.",
)
class _(_Tables):
    def __init__(self, betas):
        self.fill(betas, torch.cumprod(1 - betas, dim=0))
        self.beta = self.beta[1:]


@noise_schedule.misconception(
    "local variables",
    "The tables vanish when `__init__` ends, because they are local variables. Store them in the object: self.T, "
    "self.beta, self.alpha_bar.",
)
class _:
    def __init__(self, betas):
        alpha_bar = torch.cumprod(1 - betas, dim=0)  # noqa: F841  (that is the mistake)


@noise_schedule.misconception(
    "nothing left at level 0",
    "alpha_bar[0] is 0. Level 0 is clean data: *all* of the picture is left there, so the share is 1.",
)
class _(_Tables):
    def __init__(self, betas):
        self.fill(betas, torch.cat([torch.zeros(1), torch.cumprod(1 - betas, dim=0)]))


@noise_schedule.misconception(
    "shifted by one level",
    "alpha_bar[t] is the product up to t - 1: everything stands one level too high. The first step's 1 - beta belongs "
    "to level 1.",
)
class _(_Tables):
    def __init__(self, betas):
        self.fill(betas, torch.cat([torch.ones(2), torch.cumprod(1 - betas, dim=0)[:-1]]))


@noise_schedule.misconception(
    "product of the betas",
    "alpha_bar is the product of the *alphas*, 1 - beta: what "
    "is kept at each step. The product of the betas falls to zero at once.",
)
class _(_Tables):
    def __init__(self, betas):
        self.fill(betas, torch.cat([torch.ones(1), torch.cumprod(betas, dim=0)]))


@noise_schedule.misconception(
    "alpha, not its product",
    "This is 1 - beta of each single step. alpha_bar[t] is the product over *all* steps up to t: see torch.cumprod.",
)
class _(_Tables):
    def __init__(self, betas):
        self.fill(betas, torch.cat([torch.ones(1), 1 - betas]))


@noise_schedule.misconception(
    "sum instead of product",
    "Here 1 minus the *sum* of the betas; it even becomes negative. The shares that each step keeps multiply.",
)
class _(_Tables):
    def __init__(self, betas):
        self.fill(betas, torch.cat([torch.ones(1), 1 - torch.cumsum(betas, dim=0)]))


@noise_schedule.misconception(
    "square root stored",
    "This table holds sqrt(alpha_bar), the factor of the signal. Store "
    "alpha_bar, the share of variance: the equations take roots where they need them.",
)
class _(_Tables):
    def __init__(self, betas):
        self.fill(betas, torch.cat([torch.ones(1), torch.cumprod(1 - betas, dim=0).sqrt()]))


@exercise("schedules.cosine_betas")
def cosine_betas(f, draw):
    def want(T, s=0.008, max_beta=0.999):
        share = [math.cos((i / T + s) / (1 + s) * math.pi / 2) ** 2 for i in range(T + 1)]
        return torch.tensor([min(1 - share[i + 1] / share[i], max_beta) for i in range(T)], dtype=torch.float64)

    yield close("T = 1000", f(1000), want(1000), atol=1e-9, rtol=1e-6)
    T = draw.integers(10, 300)
    yield close(f"T = {T}", f(T), want(T), atol=1e-9, rtol=1e-6)
    s, cap = draw.uniform(1, low=0.01, high=0.1).item(), draw.uniform(1, low=0.2, high=0.6).item()
    yield close(f"T = {T}, s = {s:.3f}, max_beta = {cap:.2f}", f(T, s, cap), want(T, s, cap), atol=1e-9, rtol=1e-6)


def _cosine(T, s):
    return torch.cos((torch.arange(T + 1, dtype=torch.float64) / T + s) / (1 + s) * math.pi / 2) ** 2


@cosine_betas.misconception(
    "alpha_bar with level 0",
    "These are the T + 1 values of alpha_bar. A beta is the share lost from one level to the next: 1 minus the ratio "
    "of neighbours, which makes T values.",
)
def _(T, s=0.008, max_beta=0.999):
    f = _cosine(T, s)
    return f / f[0]


@cosine_betas.misconception(
    "not capped",
    "The last beta is 1: it erases the signal completely, and the way back would "
    "divide by zero. Cap the betas at max_beta.",
)
def _(T, s=0.008, max_beta=0.999):
    f = _cosine(T, s)
    return 1 - f[1:] / f[:-1]


@cosine_betas.misconception("not squared", "f(t) is the *square* of the cosine.")
def _(T, s=0.008, max_beta=0.999):
    f = _cosine(T, s).sqrt()
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta)


@cosine_betas.misconception(
    "alpha_bar returned",
    "This is 1 - alpha_bar. A beta is the share lost "
    "from one level to the next: 1 minus the ratio of neighbouring alpha_bars.",
)
def _(T, s=0.008, max_beta=0.999):
    f = _cosine(T, s)
    return (1 - f[1:] / f[0]).clamp(max=max_beta)


@cosine_betas.misconception(
    "clamped from below",
    "clamp(x) with one number sets the *smallest* value: all betas became max_beta. Write clamp(max=max_beta).",
)
def _(T, s=0.008, max_beta=0.999):
    f = _cosine(T, s)
    return (1 - f[1:] / f[:-1]).clamp(max_beta)


@cosine_betas.misconception(
    "alpha_bar itself",
    "This is alpha_bar. A beta is the share lost from one level to the next: 1 minus the ratio of neighbouring "
    "alpha_bars.",
)
def _(T, s=0.008, max_beta=0.999):
    f = _cosine(T, s)
    return f[1:] / f[0]


@cosine_betas.misconception("no pi", "The angle runs from 0 to 1, not to a right angle: the factor pi / 2 is missing.")
def _(T, s=0.008, max_beta=0.999):
    f = torch.cos((torch.arange(T + 1, dtype=torch.float64) / T + s) / (1 + s)) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta)


@cosine_betas.misconception(
    "ratio upside down",
    "The ratio is the wrong way up: alpha_bar falls, so alpha_bar[t] / alpha_bar[t-1] is below 1.",
)
def _(T, s=0.008, max_beta=0.999):
    f = _cosine(T, s)
    return (1 - f[:-1] / f[1:]).clamp(max=max_beta)


@cosine_betas.misconception(
    "not divided by 1 + s",
    "The angle must end at a right angle: t/T + s runs from s to 1 + s, so divide it by 1 + s.",
)
def _(T, s=0.008, max_beta=0.999):
    f = torch.cos((torch.arange(T + 1, dtype=torch.float64) / T + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta)


@cosine_betas.misconception(
    "float32 arithmetic",
    "The values are rounded to float32 on the way, and the difference of two nearly equal numbers loses its digits. "
    "Give `dtype=torch.float64` where the numbers are first made.",
)
def _(T, s=0.008, max_beta=0.999):
    f = torch.cos((torch.arange(T + 1) / T + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).double()


@cosine_betas.misconception("no offset", "The small offset s is missing, so the first betas are too close to zero.")
def _(T, s=0.008, max_beta=0.999):
    f = _cosine(T, 0.0)
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta)


@cosine_betas.misconception(
    "difference, not ratio",
    "This is alpha_bar[t-1] - alpha_bar[t]. A beta is a share of what is still there, so divide by alpha_bar[t-1].",
)
def _(T, s=0.008, max_beta=0.999):
    f = _cosine(T, s)
    return ((f[:-1] - f[1:]) / f[0]).clamp(max=max_beta)
