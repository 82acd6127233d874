"""Exercises 1.1 and 1.2: the tables."""

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
