"""Exercise 1.4: the cosine schedule."""

import math

import torch

from minivdm.course.exercise import close, exercise


@exercise("schedules.cosine_betas")
def cosine_betas(f, draw):
    def want(T, s=0.008, max_beta=0.999):
        share = [math.cos((i / T + s) / (1 + s) * math.pi / 2) ** 2 for i in range(T + 1)]
        return torch.tensor([min(1 - share[i + 1] / share[i], max_beta) for i in range(T)], dtype=torch.float64)

    T = draw.integers(10, 300)
    s, cap = draw.uniform(1, low=0.01, high=0.1).item(), draw.uniform(1, low=0.2, high=0.6).item()
    named = {
        "T = 1000": (1000,),
        "T = 1": (1,),
        "T = 2": (2,),
        f"T = {T}": (T,),
        f"T = {T}, s = {s:.3f}, max_beta = {cap:.2f}": (T, s, cap),
    }
    for name, arguments in named.items():
        yield close(name, f(*arguments), want(*arguments), atol=1e-9, rtol=1e-6)


NO_DATA = "it takes numbers, not tensors"


@cosine_betas.promises(samples=NO_DATA, dtype=NO_DATA, layout=NO_DATA, device=NO_DATA, gradients=NO_DATA)
def ordinary(f, draw):
    return f, dict(T=100)


cosine_betas.edit(
    "alpha_bar with level 0",
    {"(1 - f[1:] / f[:-1]).clamp(max=max_beta)": "f / f[0]"},
    "These are the T + 1 values of alpha_bar. A beta is the share lost from one level to the next: "
    "1 minus the ratio of neighbours, which makes T values.",
)
cosine_betas.edit(
    "1 - alpha_bar",
    {"f[:-1]": "f[0]"},
    "This is 1 - alpha_bar. A beta is the share lost from one level to the next: "
    "1 minus the ratio of neighbouring alpha_bars.",
)
cosine_betas.edit(
    "difference, not ratio",
    {"1 - f[1:] / f[:-1]": "(f[:-1] - f[1:]) / f[0]"},
    "This is alpha_bar[t-1] - alpha_bar[t]. A beta is a share of what is still there, so divide by alpha_bar[t-1].",
)
cosine_betas.edit(
    "ratio upside down",
    {"f[1:] / f[:-1]": "f[:-1] / f[1:]"},
    "The ratio is the wrong way up: alpha_bar falls, so alpha_bar[t] / alpha_bar[t-1] is below 1.",
)
cosine_betas.edit(
    "not capped",
    {".clamp(max=max_beta)": ""},
    "The last beta is 1: it erases the signal completely, and the way back would divide by zero. "
    "Cap the betas at max_beta.",
)
cosine_betas.edit(
    "clamped from below",
    {"max=max_beta": "max_beta"},
    "clamp(x) with one number sets the *smallest* value: all betas became max_beta. Write clamp(max=max_beta).",
)
cosine_betas.edit("not squared", {" ** 2": ""}, "f(t) is the *square* of the cosine.")
cosine_betas.edit(
    "not divided by 1 + s",
    {" / (1 + s)": ""},
    "The angle must end at a right angle: t/T + s runs from s to 1 + s, so divide it by 1 + s.",
)
cosine_betas.edit(
    "no offset",
    {"(level / T + s) / (1 + s)": "level / T"},
    "The small offset s is missing, so the first betas are too close to zero.",
)
cosine_betas.edit(
    "float32 arithmetic",
    {"T + 1, dtype=torch.float64": "T + 1", "max_beta)  #": "max_beta).double()  #"},
    "The values are rounded to float32 on the way, and the difference of two nearly equal numbers loses its digits. "
    "Give `dtype=torch.float64` where the numbers are first made.",
)
