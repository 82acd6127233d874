r"""What the stages of a cascade have in common: a schedule, and a walk down its levels.

A stage is an `EpsModel`. Beside x and t it gets a row of numbers for each sample, `cond` (see `Told`), and some get
another clip that stands beside x (see `Beside`).
"""

import torch
from torch import Tensor

from ..diffusion.guidance import ClassifierFreeGuidance
from ..diffusion.predictions import EpsModel
from ..diffusion.samplers import ddim_sample, sampling_levels
from ..diffusion.schedules import NoiseSchedule, cosine_betas, shifted_betas
from ..models.conditioning import Beside


def stage_schedule(shift: float = 1.0) -> NoiseSchedule:
    """The shifted cosine schedule with T = 1000 that all stages use."""
    return NoiseSchedule(shifted_betas(cosine_betas(1000), shift))


def told(embedding: Tensor, *numbers: Tensor | float) -> Tensor:
    """The `cond` of `Told`, (B, E + n): embeddings (B, E), and behind them numbers, (B,) or one for all."""
    rows = [each if torch.is_tensor(each) else embedding.new_full(embedding.shape[:1], each) for each in numbers]
    return torch.cat([embedding, *(row[:, None].to(embedding) for row in rows)], dim=1)


def without_embedding(cond: Tensor, size: int) -> Tensor:
    """What guidance compares with: the embedding taken away, and nothing else.

    Guidance walks away from this. Were the frame rate taken away, too, it would walk away from
    other frame rates, and clips would be faster than was asked for.

    Args:
        cond: (B, E + n) embeddings, and what is told beside them.
        size: E.

    Returns:
        A tensor like cond: 0 in its first E columns, the others as they are.
    """
    return torch.cat([torch.zeros_like(cond[:, :size]), cond[:, size:]], dim=1)


def sample_stage(
    model: "EpsModel",
    noise: Tensor,
    cond: Tensor,
    steps: int,
    guidance_scale: float = 1.0,
    embedding_dim: int = 0,
    beside: Tensor | None = None,
    clip_x0: bool = True,
) -> Tensor:
    """What a stage makes of noise: DDIM with eta = 0, so equal noise gives equal results.

    Args:
        model: an `EpsModel`.
        noise: (B, ...) the start.
        cond: (B, E + n) what the network is told; see `Told`.
        steps: DDIM steps, 1..T.
        guidance_scale: how closely to follow the embedding; 1 = off.
        embedding_dim: E, how much of cond is the embedding.
        beside: (B, c, ...) what stands beside x, or None.
        clip_x0: clamp each estimate of x_0 to [-1, 1], where pixels lie.

    Returns:
        A tensor like noise, in [-1, 1] with `clip_x0`.
    """
    if beside is not None:
        model = model.around(Beside(model.net, beside))
    guided = ClassifierFreeGuidance(model, guidance_scale, without_embedding(cond, embedding_dim))
    schedule = model.schedule.to(noise.device)
    return ddim_sample(guided, noise, schedule, sampling_levels(schedule.T, steps), cond, clip_x0=clip_x0)
