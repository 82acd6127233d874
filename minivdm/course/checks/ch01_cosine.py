"""Exercise 1.4: the cosine schedule."""

import math

import torch

from minivdm.course.exercise import close, exercise


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
