r"""Following a condition more closely than the data do (Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022).

One network learns both eps(x, t, c) and, because the condition is dropped now and then, eps(x, t, null). At sampling
time the difference between the two points to where the condition matters, and guidance walks further that way:

    eps = eps_u + s (eps_c - eps_u)        s = 1: off;  s = 0: unconditional   (the paper's w is s - 1)
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from .forward_process import to_x0
from .gradients import outside_inference_mode
from .samplers import checked_levels, ddim_step
from .schedules import NoiseSchedule


def require_tokens(tokens: Tensor, probability: float) -> None:
    """Raise a ValueError unless tokens are (B, L) whole numbers, padded with 0, and the probability lies in 0..1."""
    if tokens.ndim != 2 or tokens.is_floating_point():
        came = f"{tokens.dtype} of shape {tuple(tokens.shape)}"
        raise ValueError(f"expected (B, L) long tokens, got {came}: zeros are no null context")
    if not 0 <= probability <= 1:
        raise ValueError(f"the probability must lie in 0..1, got {probability}")


def drop_condition(
    tokens: Tensor,
    probability: float = 0.1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Replace each *sample's* tokens by the null prompt, all or nothing, by chance.

    Args:
        tokens: (B, L) long.
        probability: of dropping, 0..1, for each sample by itself; 10 to 20% is usual (Ho and
            Salimans, 2022, section 4).
        generator: `torch.Generator` on the tokens' device.

    Returns:
        (B, L) long; a dropped row is all 0, the padding.
    """
    require_tokens(tokens, probability)
    coins = torch.rand(len(tokens), 1, generator=generator, device=tokens.device)  # (B, 1)
    return tokens * (coins >= probability)


def require_null(null: Tensor | None, cond: Tensor) -> None:
    """Raise a ValueError unless `null` is a null condition for `cond`: like it, or one row of it; None for tokens."""
    if null is None:
        if cond.is_floating_point():
            came = f"got a context of shape {tuple(cond.shape)} alone"
            advice = "give null=..., what the text encoder makes of the empty prompt"
            raise ValueError(f"guidance with a ready context needs the context of the null prompt, {came}: {advice}")
        return
    rows = [tuple(cond.shape), (1, *cond.shape[1:]), tuple(cond.shape[1:])]
    if tuple(null.shape) not in rows or null.is_floating_point() != cond.is_floating_point():
        came = f"{null.dtype} of shape {tuple(null.shape)} for {cond.dtype} of shape {tuple(cond.shape)}"
        raise ValueError(f"the null condition must be like the condition, or one row of it; got {came}")


class ClassifierFreeGuidance:
    r"""A model that follows its condition `scale` times as far: eps_u + scale (eps_c - eps_u).

    Both estimates come from *one* call on a doubled batch, which keeps a GPU busier than two calls.
    x, t and the condition are all doubled.

    Args:
        model: `model(x, t, cond)` returns an estimate of eps, like x.
        scale: guidance scale s; 1 = off, and then the batch is not doubled.
        null: the null condition, like `cond` or one row of it for all samples; default, for tokens
            alone: all 0, the padding.

    Called as `guided(x, t, cond)` with x (B, ...), t (B,) long and cond (B, L) long or (B, L, D)
    float; returns a tensor like x.
    Raises a ValueError if there is no condition to follow.
    """

    def __init__(self, model: "Callable", scale: float, null: Tensor | None = None):
        if not abs(scale) < float("inf"):
            raise ValueError(f"the guidance scale must be a finite number, got {scale}")
        self.model, self.scale, self.null = model, scale, null

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        if cond is None:
            raise ValueError("guidance needs a condition: expected (B, L) tokens, got None")
        if self.scale == 1:
            return self.model(x, t, cond)
        require_null(self.null, cond)
        null = torch.zeros_like(cond) if self.null is None else self.null.expand_as(cond)
        both = torch.cat([null, cond])  # (2B, L) or (2B, L, D)
        eps = self.model(torch.cat([x, x]), torch.cat([t, t]), both)  # (2B, ...)
        eps_u, eps_c = eps.chunk(2)
        return eps_u + self.scale * (eps_c - eps_u)


@outside_inference_mode
@torch.enable_grad()
def null_text_inversion(
    model: "Callable",
    path: dict[int, Tensor],
    cond: Tensor,
    null: Tensor,
    schedule: "NoiseSchedule",
    scale: float = 7.5,
    inner_steps: int = 10,
    lr: float = 0.05,
) -> dict[int, Tensor]:
    r"""Null prompts, one for each step, with which guided DDIM sampling retraces an inversion.

    Mokady et al., "Null-text Inversion for Editing Real Images using Guided Diffusion Models",
    CVPR 2023, section 3.3. Down the levels t_0 = T > t_1 > ... > t_N = 0, from z = path[T] and
    with `null` as the first guess, for i = 0..N-1:

        eps_u = model(z, t_i, null_i),    eps_c = model(z, t_i, cond)
        eps = eps_u + scale (eps_c - eps_u)
        z' = the DDIM step (eta = 0) of z from t_i to t_(i+1) with this eps
        null_i = argmin mean( (z' - path[t_(i+1)])^2 )
        z = z' with the null_i found;    null_(i+1) starts from a copy of null_i

    Each level's search is by an Adam of its own, whose steps j = 0, 1, .. have the rate
    lr (1 - j / inner_steps). It ends after `inner_steps`, or as soon as the error of every sample
    is below 1e-5 + 2e-5 i. Only the null contexts learn: the model's weights and their gradients
    are left as they are. (The paper lowers the rate from level to level instead, from 0.01.
    Lowering it within each level allows a larger one that ends in no overshoot.)

    Args:
        model: `model(x, t, cond)` returns an estimate of eps, like x; differentiable in a context
            (B, L, D).
        path: dict from level to (B, ...) tensor, in any order: the points of an inversion at
            guidance 1, levels T and 0 included.
        cond: (B, L) long tokens or (B, L, D) context, the prompt.
        null: (L, D), (1, L, D) or (B, L, D) context of the null prompt.
        schedule: a `NoiseSchedule`.
        scale: guidance scale.
        inner_steps: Adam steps per level at most.
        lr: learning rate of the first of them.

    Returns:
        dict from level to (B, L, D): the null context for the step that leaves this level.

    Raises:
        ValueError: from `checked_levels(levels, schedule)`, if the path's levels do not end at 0.

    On a GPU each Adam step waits for the device, to see whether the error is small enough.
    """
    levels = checked_levels(sorted(path, reverse=True), schedule)
    z = path[levels[0]]
    require_context(null, len(z))
    null, nulls = null.expand(len(z), *null.shape[-2:]).clone(), {}  # (B, L, D)
    for i, (level, target) in enumerate(pairwise(levels)):
        t = torch.full(z.shape[:1], level, device=z.device)  # (B,)
        s = torch.full_like(t, target)
        with torch.no_grad():
            eps_c = model(z, t, cond)  # like z

        null = null.detach().clone().requires_grad_()  # the earlier steps keep theirs
        adam = torch.optim.Adam([null])
        for j in range(inner_steps + 1):
            eps_u = model(z, t, null)
            eps = eps_u + scale * (eps_c - eps_u)
            landed = ddim_step(z, to_x0(z, t, eps, schedule), t, s, torch.zeros_like(z), schedule)
            error = (landed - path[target]).square().flatten(1).mean(dim=1)  # (B,)
            if j == inner_steps or error.max() < 1e-5 + 2e-5 * i:
                break
            adam.param_groups[0]["lr"] = lr * (1 - j / inner_steps)
            (null.grad,) = torch.autograd.grad(error.sum(), null)
            adam.step()
        z, nulls[level] = landed.detach(), null.detach()
    return nulls


def require_context(null: Tensor, samples: int) -> None:
    """Raise a ValueError unless `null` is a context that can learn: (L, D) or (B, L, D), floats."""
    shape = tuple(null.shape)
    if not null.is_floating_point() or len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, samples)):
        expected = f"(L, D) or ({samples}, L, D)"
        raise ValueError(f"expected the null prompt's context, {expected} floats; got {null.dtype} of shape {shape}")


class NullTextGuidance:
    """A guided model whose null prompt depends on the level, as `null_text_inversion` found it.

    Args:
        model, scale: as for `ClassifierFreeGuidance`.
        nulls: dict from level to (B, L, D) context.

    Called as `guided(x, t, cond)` with one level for the whole batch and cond (B, L, D) float. On a
    GPU each call waits for the device, to read the level.
    Raises a ValueError if the batch has several levels, a KeyError if one has no null context.
    """

    def __init__(self, model: "Callable", scale: float, nulls: dict[int, Tensor]):
        self.model, self.scale, self.nulls = model, scale, nulls

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        level = int(t[0])
        if (t != level).any():
            raise ValueError(f"expected one level for the whole batch, got {t.tolist()}")
        return ClassifierFreeGuidance(self.model, self.scale, self.nulls[level])(x, t, cond)
