r"""From one kind of picture to another without a single pair of examples: Dual Diffusion Implicit Bridges.

DDIM ties each picture to one noise, and every diffusion model with the same schedule uses the same noises. So the noise
is a language that two models share, though they have never met (Su et al., ICLR 2023):

    x  -- invert with the source's model -->  noise  -- sample with the target's model -->  x'
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from .samplers import ddim_invert, ddim_sample
from .schedules import NoiseSchedule


def ddib(
    x0: Tensor,
    source: "Callable",
    target: "Callable",
    schedule: "NoiseSchedule",
    levels: "Sequence[int] | None" = None,
    source_cond: Tensor | None = None,
    target_cond: Tensor | None = None,
) -> Tensor:
    """Translate data of the source into data of the target, through the noise that both share.

    Su et al., "Dual Diffusion Implicit Bridges for Image-to-Image Translation", ICLR 2023,
    algorithm 1: DDIM inversion with one model, DDIM sampling (eta = 0) with the other.

    Args:
        x0: (B, ...) clean data of the source.
        source, target: `model(x, t, cond)` each, estimates of eps; they may be one and the same
            conditional model.
        schedule: the `NoiseSchedule` of both.
        levels: strictly decreasing ints from T to 0, for both ways; default T, T-1, ..., 0.
        source_cond, target_cond: passed on to the source and to the target.

    Returns:
        Clean data of the target, like x0. The way back, with source and target (and their
        conditions) exchanged, gives x0 again, up to the error of the inversion.

    Raises:
        ValueError: if `levels` does not fall strictly, leaves 0..T or does not end at 0.
    """
    noise = ddim_invert(source, x0, schedule, levels, source_cond)  # like x0
    return ddim_sample(target, noise, schedule, levels, target_cond)
