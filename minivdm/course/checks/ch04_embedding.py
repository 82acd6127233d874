"""Exercise 4.1: the level as a row of waves."""

import math

import torch

from minivdm.course.exercise import close, exercise, holds, raises


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
    yield raises("dim = 7", ValueError, lambda: f(t, 7))
    yield holds("the result is made where t is", *same_place(f))


def same_place(f):
    """Whether t and the frequencies are on one device, asked of a device that holds shapes and no numbers."""
    try:
        f(torch.zeros(3, device="meta"), 8)
    except RuntimeError as error:
        if "device" in str(error) and not isinstance(error, NotImplementedError):
            return False, "the frequencies were made on the CPU, whatever device t is on: give device=t.device"
    return True, ""


def embed_with(mistake, t, dim, max_period):
    """An embedding with room for one mistake."""
    if dim % 2 and mistake != "odd":
        raise ValueError("dim")
    n = dim // 2
    k = torch.arange(n, device="cpu" if mistake == "device" else t.device)
    divisor = {"whole dim": dim, "last is slowest": max(n - 1, 1)}.get(mistake, n)
    sign = 1 if mistake == "rising" else -1
    period = {"fixed": 10_000, "e": math.e}.get(mistake, max_period)
    w = torch.exp(sign * math.log(period) * k / divisor)
    angle = (t.long() if mistake == "whole" else t).float()[:, None] * w
    angle = 2 * math.pi * angle if mistake == "turns" else angle
    if mistake == "sine":
        return angle.repeat(1, 2).sin()
    if mistake == "woven":
        return torch.stack([angle.cos(), angle.sin()], dim=-1).flatten(1)
    if mistake == "half":
        return angle.sin()
    if mistake == "on end":
        return torch.cat([angle.cos(), angle.sin()])
    parts = [angle.cos(), angle.sin()]
    emb = torch.cat(parts[::-1] if mistake == "sine first" else parts, dim=-1)
    return emb.double() if mistake == "double" else emb


def wrong(mistake, label, hint):
    """Add a misconception: the embedding above with one mistake in it."""

    def embedding(t, dim, max_period=10_000):
        return embed_with(mistake, t, dim, max_period)

    timestep_embedding.misconception(label, hint)(embedding)


wrong(
    "whole dim",
    "k / dim",
    "The exponents run only to a half: k is divided by dim. There are n = dim / 2 frequencies, so divide by n.",
)
wrong(
    "last is slowest",
    "k / (n - 1)",
    "The exponents are divided by n - 1, so that the last is exactly -1. Some programs do that; here they are -k / n.",
)
wrong("rising", "frequencies that grow", "The frequencies grow with k. The exponent is negative: from 1 they fall.")
wrong("fixed", "max_period ignored", "Right for max_period = 10000, but the argument is not used.")
wrong("e", "the base forgotten", "The frequencies are exp(-k / n). Their base is max_period, not e.")
wrong("turns", "2 pi inside", "The angle is t w_k in radians; here it was multiplied by 2 pi.")
wrong("sine", "sines only", "Both halves are sines. One sine alone cannot tell a rising wave from a falling one.")
wrong("woven", "cosines and sines in turns", "Cosines and sines take turns here. First all cosines, then all sines.")
wrong("sine first", "sines first", "The sines come first. The order is: all cosines, then all sines.")
wrong("half", "one wave only", "Only dim / 2 columns: put cosines and sines side by side, torch.cat(.., dim=-1).")
wrong("on end", "stacked along the batch", "Cosines and sines are stacked along the batch: give torch.cat dim=-1.")
wrong("whole", "fractions cut off", "Levels may lie between whole numbers, and here they are cut off: use t.float().")
wrong("double", "float64 result", "The result is float64, and layers expect float32: compute with t.float().")
wrong("odd", "odd dim accepted", "An odd dim leaves a cosine without its sine. Raise a ValueError for it.")
wrong(
    "device",
    "frequencies on the CPU",
    "This works on a CPU only: torch.arange makes its numbers there unless told otherwise. Give device=t.device.",
)
