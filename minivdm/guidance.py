r"""Following a condition more closely than the data do (Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022).

One network learns both eps(x, t, c) and, because the condition is dropped now and then, eps(x, t, null). At sampling
time the difference between the two points to where the condition matters, and guidance walks further that way:

    eps = eps_u + s (eps_c - eps_u)        s = 1: off;  s = 0: unconditional   (the paper's w is s - 1)
"""

from itertools import pairwise

import torch

from .diffusion import to_x0
from .samplers import checked_levels, ddim_step


def drop_condition(tokens, probability=0.1, generator=None):
    """Replace each *sample's* tokens by the null prompt, all or nothing, with a given probability.

    Args:
        tokens: (B, L) long.
        probability: of dropping, 0..1; 10 to 20% is usual (Ho and Salimans, 2022, section 4).
        generator: `torch.Generator` on the tokens' device.

    Returns:
        (B, L) long; a dropped row is all 0, the padding.
    """
    keep = torch.rand(len(tokens), 1, generator=generator, device=tokens.device) >= probability  # (B, 1)
    return tokens * keep


class ClassifierFreeGuidance:
    r"""A model that follows its condition `scale` times as far: eps_u + scale (eps_c - eps_u).

    Both estimates come from *one* call on a doubled batch, which keeps a GPU busier than two calls.

    Args:
        model: `model(x, t, cond)` returns an estimate of eps, like x.
        scale: guidance scale s; 1 = off, and then the batch is not doubled.
        null: the null condition, like `cond` or one row of it; default: all 0, the padding of tokens.

    Called as `guided(x, t, cond)` with x (B, ...), t (B,) long and cond (B, L) long or (B, L, D) float; returns a
    tensor like x.
    Raises a ValueError if there is no condition to follow.
    """

    def __init__(self, model, scale, null=None):
        self.model, self.scale, self.null = model, scale, null

    def __call__(self, x, t, cond=None):
        if cond is None:
            raise ValueError("guidance needs a condition: expected (B, L) tokens, got None")
        if self.scale == 1:
            return self.model(x, t, cond)
        null = torch.zeros_like(cond) if self.null is None else self.null.expand_as(cond)
        both = torch.cat([null, cond])  # (2B, L) or (2B, L, D)
        eps_u, eps_c = self.model(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)  # 2 x (B, ...)
        return eps_u + self.scale * (eps_c - eps_u)


def null_text_inversion(model, path, cond, null, schedule, scale=7.5, inner_steps=10, lr=1e-2):
    r"""Null prompts, one for each step, with which guided DDIM sampling retraces an inversion.

    Mokady et al., "Null-text Inversion for Editing Real Images using Guided Diffusion Models", CVPR 2023, section 3.3.
    Down the levels t_0 = T > t_1 > ... > t_N = 0, from z = path[T] and with `null` as the first guess, for i = 0..N-1:

        eps = eps_u + scale (eps_c - eps_u),    eps_u = model(z, t_i, null_i),    eps_c = model(z, t_i, cond)
        z' = the DDIM step (eta = 0) of z from t_i to t_(i+1) with this eps
        null_i = argmin mean( (z' - path[t_(i+1)])^2 )          by Adam, at most `inner_steps` steps, lr (1 - i / (2 N))
        z = z' with the null_i found;    null_(i+1) starts from null_i

    A step's search ends early where the error falls below 1e-5 + 2e-5 i. Only the null prompts learn; the model's weights
    are left as they are, and so are their gradients.

    Args:
        model: `model(x, t, cond)` returns an estimate of eps, like x, for a context (B, L, D) float; differentiable in it.
        path: dict from level to (B, ...) tensor, the points of an inversion at guidance 1, levels T and 0 included.
        cond: (B, L) long tokens or (B, L, D) context, the prompt.
        null: (L, D) or (B, L, D) context of the null prompt.
        schedule: a `NoiseSchedule`.
        scale: guidance scale.
        inner_steps: Adam steps per level at most.
        lr: learning rate at the first level.

    Returns:
        dict from level to (B, L, D): the null context for the step that leaves this level.

    Raises:
        ValueError: if the path's levels do not end at 0.
    """
    levels = checked_levels(sorted(path, reverse=True), schedule)
    z, steps = path[levels[0]], len(levels) - 1
    null, nulls = null.expand(len(z), *null.shape[-2:]).clone(), {}  # (B, L, D)
    for i, (level, target) in enumerate(pairwise(levels)):
        t = torch.full(z.shape[:1], level, device=z.device)  # (B,)
        s = torch.full_like(t, target)
        with torch.no_grad():
            eps_c = model(z, t, cond)  # like z

        def step(context):
            eps_u = model(z, t, context)
            eps = eps_u + scale * (eps_c - eps_u)
            return ddim_step(z, to_x0(z, t, eps, schedule), t, s, torch.zeros_like(z), schedule)

        null = null.detach().requires_grad_()
        adam = torch.optim.Adam([null], lr=lr * (1 - i / (2 * steps)))
        for _ in range(inner_steps):
            error = (step(null) - path[target]).square().flatten(1).mean(dim=1)  # (B,)
            if error.max() < 1e-5 + 2e-5 * i:
                break
            (null.grad,) = torch.autograd.grad(error.sum(), null)
            adam.step()
        with torch.no_grad():
            z = step(null)
        nulls[level] = null.detach()
    return nulls


class NullTextGuidance:
    """A guided model whose null prompt depends on the level, as `null_text_inversion` found it.

    Args:
        model, scale: as for `ClassifierFreeGuidance`.
        nulls: dict from level to (B, L, D) context.

    Called as `guided(x, t, cond)` with one level for the whole batch and cond (B, L, D) float.
    """

    def __init__(self, model, scale, nulls):
        self.model, self.scale, self.nulls = model, scale, nulls

    def __call__(self, x, t, cond):
        return ClassifierFreeGuidance(self.model, self.scale, self.nulls[int(t[0])])(x, t, cond)
