"""Exercises 1.1 and 1.2: the tables."""

import itertools
import operator

import torch

from minivdm.course.exercise import close, equal, exercise, raises


@exercise("schedules.linear_betas")
def linear_betas(f, draw):
    def want(T, start=1e-4, end=0.02):
        return torch.tensor([1000 / T * (start + (end - start) * i / (T - 1)) for i in range(T)], dtype=torch.float64)

    T, longer = draw.integers(30, 900), draw.integers(1500, 3000)
    start, end = draw.uniform(2, low=1e-4, high=5e-3).sort().values.tolist()
    named = {
        "T = 1000, the paper's": (1000,),
        f"T = {T}": (T,),
        f"T = {longer}": (longer,),
        "T = 22": (22,),
        f"T = {T}, start = {start:.5f}, end = {end:.5f}": (T, start, end),
    }
    for name, arguments in named.items():
        yield close(name, f(*arguments), want(*arguments), atol=1e-12, rtol=1e-9)
    refused = {
        "T = 20, where the last beta would be 1": (20,),
        "T = 100 and end = 0.2, where it would be 2": (100, 1e-4, 0.2),
        "start = 0: a beta of 0": (100, 0.0, 0.02),
        "start = -0.1: a negative beta": (1000, -0.1, 0.02),
        "falling betas, of which the first is 2": (100, 0.2, 1e-4),
        "falling betas, of which the last is negative": (1000, 0.02, -0.1),
    }
    for name, arguments in refused.items():
        yield raises(name, ValueError, lambda arguments=arguments: f(*arguments))


NO_DATA = "it takes numbers, not tensors"


@linear_betas.promises(samples=NO_DATA, dtype=NO_DATA, layout=NO_DATA, device=NO_DATA, gradients=NO_DATA)
def ordinary(f, draw):
    return f, dict(T=100)


linear_betas.edit(
    "not stretched",
    {"linspace(scale * start, scale * end": "linspace(start, end"},
    "For T = 1000 this is right; for any other T the betas must be multiplied by 1000 / T, "
    "or a short schedule ends with most of the signal still there.",
)
linear_betas.edit(
    "last value missing",
    {"T, dtype=torch.float64)": "T + 1, dtype=torch.float64)[:-1]"},
    "The last beta falls one step short of the end: both ends belong to the line, "
    "so there are T - 1 intervals between T values.",
)
linear_betas.edit(
    "levels counted from 0",
    {"return ": "return scale * (start - end) / (T - 1) + "},
    "The line starts one step too early, below `start`. The first beta belongs to level t = 1, where (t - 1) is 0.",
)
linear_betas.edit(
    "linear in the square root",
    {"scale * start, scale * end,": "(scale * start) ** 0.5, (scale * end) ** 0.5,", "64)": "64) ** 2"},
    "This is linear in sqrt(beta), the schedule of Stable Diffusion. DDPM's is linear in beta itself.",
)
linear_betas.edit(
    "float32 arithmetic",
    {"T, dtype=torch.float64)": "T).double()"},
    "The values are rounded to float32 on the way, and a product of a thousand of them drifts. "
    "Give `dtype=torch.float64` where the numbers are first made.",
)
linear_betas.edit(
    "refusal by T alone",
    {"not 0 < scale * min(start, end) <= scale * max(start, end) < 1": "T <= 20"},
    "T <= 20 is right for the paper's start and end only. Look at the betas themselves: is one of them not in (0, 1)?",
)


@exercise("schedules.NoiseSchedule")
def noise_schedule(f, draw):
    T = draw.integers(5, 40)
    betas = draw.uniform(T, low=0.01, high=0.3).double()
    schedule = f(betas)
    ab = [1.0]
    for b in betas.tolist():
        ab.append(ab[-1] * (1 - b))
    names = ["T", "beta", "alpha_bar"]
    there = [name for name in names if name in vars(schedule)]
    yield equal("what `__init__` stores in self", there, names, usable=False)
    yield equal("schedule.T", schedule.T, T)
    yield equal("the type of schedule.T", type(schedule.T).__name__, "int")
    yield close("schedule.alpha_bar", schedule.alpha_bar, torch.tensor(ab), rtol=1e-5)
    for bad in (2.0, 0.0):
        yield raises(f"a beta of {bad:g}", ValueError, lambda bad=bad: f(torch.tensor([0.1, bad, 0.1])))
    yield close("schedule.beta", schedule.beta, torch.tensor([0.0] + betas.tolist()), rtol=1e-5)
    other = f(1 - betas)  # as many levels
    yield close(
        "another schedule with as many levels", other.beta, torch.tensor([0.0] + (1 - betas).tolist()), rtol=1e-5
    )
    yield close("the first schedule, after that", schedule.alpha_bar, torch.tensor(ab), rtol=1e-5)
    yield close("T = 1", f(betas[:1]).alpha_bar, torch.tensor([1, 1 - betas[0].item()]), rtol=1e-5)
    for kind, given in {"a list": [0.3, 0.1], "float32": torch.tensor([0.3, 0.1])}.items():
        yield close(f"betas as {kind}", f(given).alpha_bar, torch.tensor([1.0, 0.7, 0.63]), rtol=1e-5)
    for name, low, high in (("few", 1e-4, 0.02), ("much", 5e-3, 0.03)):
        betas = draw.uniform(1000, low=low, high=high).double()
        want = torch.tensor([1.0, *itertools.accumulate((1 - betas).tolist(), operator.mul)], dtype=torch.float64)
        got = f(betas).alpha_bar
        yield close(f"T = 1000, {name} noise a step, to seven digits", got, want, 1e-12, 2e-7, dtype=torch.float32)


TABLES = "it makes tables from a list of betas"


@noise_schedule.promises(
    samples=TABLES, dtype=TABLES, layout=TABLES, gradients=TABLES, device="tables are moved by `to`"
)
def tables_of(f, draw):
    return f, dict(betas=draw.uniform(9, low=0.1, high=0.2))


noise_schedule.edit(
    "local variables",
    {"self.": ""},
    "The tables vanish when `__init__` ends, because they are local variables. "
    "Store them in the object: self.T, self.beta, self.alpha_bar.",
)
noise_schedule.edit(
    "nothing left at level 0",
    {"level_0 + 1": "level_0"},
    "alpha_bar[0] is 0. Level 0 is clean data: *all* of the picture is left there, so the share is 1.",
)
noise_schedule.edit(
    "product of the betas",
    {"cumprod(1 - betas": "cumprod(betas"},
    "alpha_bar is the product of the *alphas*, 1 - beta: what is kept at each step. "
    "The product of the betas falls to zero at once.",
)
noise_schedule.edit(
    "alpha, not its product",
    {"torch.cumprod(1 - betas, dim=0)": "1 - betas"},
    "This is 1 - beta of each single step. alpha_bar[t] is the product over *all* steps up to t: see torch.cumprod.",
)
