"""Correct solutions of chapter 03, written as differently as people write them."""

import math

import numpy as np
import torch

from minivdm.diffusion.forward_process import q_posterior, to_x0
from minivdm.diffusion.samplers import checked_levels, ddim_invert, ddim_sample, ddim_step
from tests.checks.collected import alternative


@alternative("samplers.sampling_levels")
def levels_by_linspace(T, n):
    if n < 1 or n > T:
        raise ValueError("n")
    return np.linspace(T, 0, n + 1).round().astype(int).tolist()


@alternative("samplers.sampling_levels")
def levels_by_torch(T, n):
    if n not in range(1, T + 1):
        raise ValueError("n")
    return (torch.arange(n, -1, -1) * T).div(n, rounding_mode="floor").tolist()


@alternative("samplers.sampling_levels")
def levels_by_a_loop(T, n):
    if not (n > 0 and T >= n):
        raise ValueError(f"{n} steps cannot be made of {T} levels")
    levels, left = [T], n
    while left:
        levels.append(levels[-1] - math.ceil(levels[-1] / left))
        left -= 1
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


@alternative("samplers.ddim_step")
def ddim_step_by_the_posterior(x_t, x0, t, s, noise, schedule, eta=0.0):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    ab_t, ab_s = schedule.alpha_bar[t].view(shape), schedule.alpha_bar[s].view(shape)
    variance = eta**2 * q_posterior(x0, x_t, t, s, schedule)[1]
    ratio = ((1 - ab_s - variance).clamp(min=0) / (1 - ab_t)).sqrt()  # how much of the old noise stays
    return ratio * x_t + (ab_s.sqrt() - ratio * ab_t.sqrt()) * x0 + variance.sqrt() * noise


@alternative("samplers.ddim_step")
def ddim_step_in_place_on_copies(x_t, x0, t, s, noise, schedule, eta=0.0):
    ab = schedule.alpha_bar.to(x_t.device)
    ab_t, ab_s = (ab[level].reshape([-1] + [1] * (x_t.dim() - 1)) for level in (t, s))
    eps = x_t.clone().sub_(ab_t.sqrt() * x0).div_((1 - ab_t).sqrt())
    sigma = eta * ((1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)).sqrt()
    eps.mul_((1 - ab_s - sigma.square()).relu().sqrt())
    return torch.addcmul(eps, ab_s.sqrt(), x0) + sigma * noise


@alternative("samplers.ddim_sample")
def ddim_with_while(model, x, schedule, levels=None, cond=None, eta=0.0, clip_x0=False, generator=None, callback=None):
    if eta < 0 or eta > 1:
        raise ValueError(f"eta = {eta}")
    walk = checked_levels(levels, schedule)
    with torch.no_grad():
        while len(walk) > 1:
            t, s = (torch.full((len(x),), level, device=x.device) for level in walk[:2])
            guess = to_x0(x, t, model(x, t, cond), schedule)
            guess = torch.clamp(guess, -1.0, 1.0) if clip_x0 else guess
            noise = torch.randn(x.shape, generator=generator, device=x.device)
            x = ddim_step(x, guess, t, s, noise, schedule, eta)
            walk = walk[1:]
            if callback is not None:
                callback(walk[0], x, guess)
    return x


@alternative("samplers.ddim_sample")
@torch.no_grad()
def ddim_with_own_algebra(
    model, x, schedule, levels=None, cond=None, eta=0.0, clip_x0=False, generator=None, callback=None
):
    levels = checked_levels(levels, schedule)
    if abs(2 * eta - 1) > 1:
        raise ValueError("a share lies in 0..1")
    for t, s in zip(levels, levels[1:]):
        ab_t, ab_s = schedule.alpha_bar[t].double(), schedule.alpha_bar[s].double()
        eps = model(x, torch.tensor([t] * len(x)), cond)
        x0 = (x - (1 - ab_t).sqrt() * eps) / ab_t.sqrt()
        if clip_x0:
            x0 = x0.clip(-1, 1)
            eps = (x - ab_t.sqrt() * x0) / (1 - ab_t).sqrt()
        sigma = eta * ((1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)).sqrt()
        x = ab_s.sqrt() * x0 + (1 - ab_s - sigma**2).clamp(min=0).sqrt() * eps
        if eta > 0 and s > 0:
            x = x + sigma * torch.empty_like(x).normal_(generator=generator)
        x, x0 = x.float(), x0.float()
        if callback:
            callback(s, x, x0)
    return x


@alternative("samplers.ddim_invert")
@torch.no_grad()
def invert_with_its_own_noising(model, x0, schedule, levels=None, cond=None, callback=None):
    up, x = checked_levels(levels, schedule)[::-1], x0
    for s, t in zip(up, up[1:]):
        below, above = torch.full((len(x),), s), torch.full((len(x),), t)
        eps = model(x, above, cond)
        guess = to_x0(x, below, eps, schedule)
        ab = schedule.alpha_bar[t]
        x = ab.sqrt() * guess + (1 - ab).sqrt() * eps
        if callback:
            callback(t, x, guess)
    return x


@alternative("samplers.ddim_invert")
@torch.no_grad()
def invert_as_an_euler_step(model, x0, schedule, levels=None, cond=None, callback=None):
    levels = checked_levels(levels, schedule)
    sigma = (1 / schedule.alpha_bar.double() - 1).sqrt()
    scaled = x0.double()
    for i in range(len(levels) - 1, 0, -1):
        s, t = levels[i], levels[i - 1]
        x = (scaled * schedule.alpha_bar[s].sqrt()).float()
        eps = model(x, torch.full((len(x0),), t), cond)
        guess = scaled - sigma[s] * eps
        scaled = scaled + (sigma[t] - sigma[s]) * eps
        if callback:
            callback(t, (scaled * schedule.alpha_bar[t].sqrt()).float(), guess.float())
    return (scaled * schedule.alpha_bar[levels[0]].sqrt()).float()


@alternative("bridge.ddib")
def ddib_in_one_line(x0, source, target, schedule, levels=None, source_cond=None, target_cond=None):
    return ddim_sample(
        target, ddim_invert(source, x0, schedule, levels=levels, cond=source_cond), schedule, levels, cond=target_cond
    )


@alternative("bridge.ddib")
def ddib_by_the_last_callback(x0, source, target, schedule, levels=None, source_cond=None, target_cond=None):
    kept = []
    walk = checked_levels(levels, schedule)
    ddim_invert(source, x0, schedule, walk, source_cond, callback=lambda t, x, guess: kept.append(x))
    return ddim_sample(target, kept[-1], schedule, walk, target_cond, eta=0.0)
