"""Exercise 4.1: the level as a row of waves."""

import math

import torch

from minivdm.course.exercise import close, exercise, raises


def waves(levels, dim, max_period=10_000):
    """The embedding, number by number in float64."""
    n = dim // 2
    angles = [[level * max_period ** (-k / n) for k in range(n)] for level in levels]
    rows = [[math.cos(a) for a in row] + [math.sin(a) for a in row] for row in angles]
    return torch.tensor(rows, dtype=torch.float64)


@exercise("layers.timestep_embedding")
def timestep_embedding(f, draw):
    like = dict(atol=5e-4, dtype=torch.float32)
    t = draw.integers(1, 60, 5)
    yield close("dim = 8", f(t, 8), waves(t.tolist(), 8), **like)
    t = draw.integers(0, 1000, 6)
    yield close("levels up to 1000, dim = 32", f(t, 32), waves(t.tolist(), 32), **like)
    period = draw.integers(20, 200)
    yield close(f"max_period = {period}", f(t, 6, period), waves(t.tolist(), 6, period), **like)
    yield close("dim = 2: a single frequency, 1", f(t, 2), waves(t.tolist(), 2), **like)
    t = draw.uniform(4, high=50)
    yield close("levels between whole numbers", f(t, 8), waves(t.tolist(), 8), **like)
    t = torch.tensor([0, 1, 1000, 4000])
    yield close(
        "levels 0, 1, 1000 and 4000 in one batch", f(t, 8), waves(t.tolist(), 8), atol=2e-3, dtype=torch.float32
    )
    for kind in (torch.float64, torch.float16, torch.int32):
        t = torch.tensor([3, 17]).to(kind)
        yield close(f"levels of {kind}", f(t, 8), waves([3, 17], 8), **like)
    yield raises("dim = 7", ValueError, lambda: f(t, 7))


@timestep_embedding.promises(
    "samples", "layout", "device", dtype="the result is float32 whatever t is", gradients="levels are given, not learnt"
)
def real_levels(f, draw):
    return f, dict(t=draw.uniform(3, low=1, high=9), dim=8)


timestep_embedding.edit(
    "k / dim",
    {"/ half": "/ dim"},
    "The exponents run only to a half: k is divided by dim. There are n = dim / 2 frequencies, so divide by n.",
)
timestep_embedding.edit(
    "k / (n - 1)",
    {"/ half": "/ (half - 1)"},
    "The exponents are divided by n - 1, so that the last is exactly -1. Some programs do that; here they are -k / n.",
)
timestep_embedding.edit(
    "frequencies that grow",
    {"-math.log": "math.log"},
    "The frequencies grow with k. The exponent is negative: from 1 they fall.",
)
timestep_embedding.edit(
    "max_period ignored",
    {"math.log(max_period)": "math.log(10_000)"},
    "Right for max_period = 10000, but the argument is not used.",
)
timestep_embedding.edit(
    "2 pi inside", {"* w": "* w * 2 * math.pi"}, "The angle is t w_k in radians; here it was multiplied by 2 pi."
)
timestep_embedding.edit(
    "cosines and sines in turns",
    {"torch.cat([angle.cos(), angle.sin()], dim=-1)": "torch.stack([angle.cos(), angle.sin()], dim=-1).flatten(1)"},
    "Cosines and sines take turns here. First all cosines, then all sines.",
)
timestep_embedding.edit(
    "sines first",
    {"angle.cos(), angle.sin()": "angle.sin(), angle.cos()"},
    "The sines come first. The order is: all cosines, then all sines.",
)
timestep_embedding.edit(
    "stacked along the batch", {", dim=-1": ""}, "Cosines and sines are stacked along the batch: give torch.cat dim=-1."
)
timestep_embedding.edit(
    "fractions cut off",
    {"t.float()": "t.long()"},
    "Levels may lie between whole numbers, and here they are cut off: use t.float().",
)
