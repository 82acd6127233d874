"""Chapter 03 written in other ways: loops over single samples, float64, Euler steps, noise that is always drawn."""

import math

import torch

from minivdm.course.exercise import edited
from minivdm.diffusion.samplers import checked_levels, ddim_invert, ddim_sample
from tests.checks.collected import alternative


@alternative("samplers.sampling_levels")
def levels_by_a_loop(T, n):
    if not (n > 0 and T >= n):
        raise ValueError(f"{n} steps cannot be made of {T} levels")
    levels = [T]
    for left in range(n, 0, -1):
        levels.append(levels[-1] - math.ceil(levels[-1] / left))
    return levels


@alternative("samplers.ddim_step")
def ddim_step_sample_by_sample(x_t, x0, t, s, noise, schedule, eta=0.0):
    rows = []
    for i in range(len(x_t)):
        ab_t, ab_s = float(schedule.alpha_bar[t[i]]), float(schedule.alpha_bar[s[i]])
        sigma = eta * math.sqrt((1 - ab_s) / (1 - ab_t)) * math.sqrt(1 - ab_t / ab_s)
        eps = (x_t[i].double() - math.sqrt(ab_t) * x0[i].double()) / math.sqrt(1 - ab_t)
        row = math.sqrt(ab_s) * x0[i] + math.sqrt(max(1 - ab_s - sigma * sigma, 0)) * eps + sigma * noise[i]
        rows.append(row.to(x_t.dtype))
    return torch.stack(rows)


@alternative("bridge.ddib")
def ddib_by_the_last_callback(x0, source, target, schedule, levels=None, source_cond=None, target_cond=None):
    kept, walk = [], checked_levels(levels, schedule)
    ddim_invert(source, x0, schedule, walk, source_cond, callback=lambda t, x, guess: kept.append(x))
    return ddim_sample(target, kept[-1], schedule, walk, target_cond, eta=0.0)


ARANGE = 'torch.arange(n, -1, -1).mul(T).div(n, rounding_mode="floor").tolist()'
RATIO = """kept = ((1 - ab_s - variance).clamp(min=0) / (1 - ab_t)).sqrt()
    return kept * x_t + (ab_s.sqrt() - kept * ab_t.sqrt()) * x0 + variance.sqrt() * noise"""
DRAW = "torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)"
ZEROS = f"torch.zeros_like(x)\n        if eta:\n            noise = {DRAW}"
WIDE = """a, b = schedule.alpha_bar[level].double(), schedule.alpha_bar[target].double()
        sigma, eps = eta * ((1 - b) / (1 - a) * (1 - a / b)).sqrt(), (x - a.sqrt() * x0) / (1 - a).sqrt()
        x = (b.sqrt() * x0 + (1 - b - sigma**2).clamp(min=0).sqrt() * eps + sigma * noise).to(eps.dtype)"""
EULER = """(a, b), e = schedule.alpha_bar[[level, target]].double(), eps.double()
        x = (b.sqrt() * (x / a.sqrt() + ((1 / b - 1).sqrt() - (1 / a - 1).sqrt()) * e)).to(eps.dtype)"""
UP = "i, level in enumerate(levels[:0:-1], 2):\n        target = levels[-i]"
for name, changes in [
    ("samplers.sampling_levels", {"[T * i // n for i in range(n, -1, -1)]": ARANGE}),
    ("samplers.ddim_step", {"kept = (1 - ab_s - variance).clamp(min=0).sqrt()": RATIO}),
    ("samplers.ddim_sample", {ZEROS: "torch.randn(x.shape, generator=generator, device=x.device)"}),
    ("samplers.ddim_sample", {"x = ddim_step(x, x0, t, s, noise, schedule, eta)": WIDE}),
    ("samplers.ddim_invert", {"x = q_sample(guess, t, eps, schedule)": EULER}),
    ("samplers.ddim_invert", {"level, target in pairwise(reversed(levels)):": UP}),
    ("bridge.ddib", {"levels, source_cond)": "cond=source_cond, levels=levels)"}),
]:
    alternative(name)(edited(name, changes))
