"""Null-text inversion with room for one mistake: what the misconceptions of exercise 5.8 run."""

from itertools import pairwise

import torch


def landing(mistake, model, z, level, target, null, cond, schedule, scale):
    """Where the guided step lands, with room for one mistake."""
    asked = torch.full((len(z),), target if mistake == "asked below" else level)
    ab_t, ab_s = schedule.alpha_bar[level], schedule.alpha_bar[target]
    eps_u, eps_c = model(z, asked, null), model(z, asked, cond)
    eps_u, eps_c = (eps_c, eps_u) if mistake == "wrong way" else (eps_u, eps_c)
    eps = eps_u + (1 + scale if mistake == "w" else scale) * (eps_c - eps_u)
    x0 = (z - (1 - ab_t).sqrt() * eps) / ab_t.sqrt()
    x0 = x0.clamp(-1, 1) if mistake == "clip" else x0
    return ab_s.sqrt() * x0 + (1 - ab_s).sqrt() * eps


def search_with(mistake, model, path, cond, null, schedule, scale, inner_steps, lr):
    """A search with room for one mistake."""
    levels = sorted(path, reverse=mistake != "upwards")
    T = (schedule.T if mistake == "T" else schedule).T  # an int has none
    if levels[0] > T or levels[-1] != 0 and mistake != "unchecked":
        raise ValueError("levels")
    z, nulls = path[levels[0]], {}
    start = null.expand(len(z), *null.shape[-2:]).clone()
    if mistake == "cond learns":
        start, cond = (cond if cond.is_floating_point() else model.table[cond]).detach().clone(), start
    if mistake == "frozen":
        model.requires_grad_(False)
    null, adam = start.clone().requires_grad_(), None
    for i, (level, target) in enumerate(pairwise(levels)):
        if mistake == "restart":
            null = start.clone().requires_grad_()
        elif mistake not in ("shared", "one adam"):
            null = null.detach().clone().requires_grad_()
        if adam is None or mistake != "one adam":
            adam = (torch.optim.SGD if mistake == "sgd" else torch.optim.Adam)([null], lr=lr)
        goal = path[{"own level": level, "clean": levels[-1]}.get(mistake, target)]
        limit = {"never early": 0, "constant limit": 1e-5}.get(mistake, 1e-5 + 2e-5 * i)

        def land(null, scale=scale, z=z, level=level, target=target):
            words = (cond, null) if mistake == "cond learns" else (null, cond)
            return landing(mistake, model, z, level, target, *words, schedule, scale)

        first = land(null).detach()
        for j in range(inner_steps):
            z = land(null)
            error = (z - goal).square().flatten(1).mean(dim=1)
            if error.max() < limit:
                break
            falling = {"constant": 1, "by level": 1 - i / (2 * (len(levels) - 1))}.get(mistake, 1 - j / inner_steps)
            adam.param_groups[0]["lr"] = lr * falling
            if mistake == "backward":
                adam.zero_grad()
                error.sum().backward()
            else:
                (null.grad,) = torch.autograd.grad(error.sum(), null)
            if mistake != "no step":
                adam.step()
        z = (z if mistake == "a step behind" else land(null)).detach()
        z = {"first null": first, "on the path": path[target]}.get(mistake, z)
        if mistake == "unguided":
            z = land(null, 1).detach()
        nulls[target if mistake == "targets" else level] = null if mistake == "shared" else null.detach().clone()
    return nulls
