r"""DreamBooth's loss: learn from a few pictures of a new thing, and be reminded of the old ones meanwhile.

Ruiz et al., "DreamBooth", CVPR 2023, section 3.3. A model tuned on a few pictures of one thing soon draws nothing else:
its words lose their meaning (*language drift*). So each batch also holds *prior* pictures, which the model itself drew
before it was tuned, with the captions from which it drew them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .forward_process import q_sample
from .predictions import to_v
from .schedules import checked_like, require_data


def prior_preservation_loss(
    net: "Callable",
    x0: Tensor,
    schedule: "NoiseSchedule",  # noqa: F821
    cond: Tensor | None = None,
    generator: torch.Generator | None = None,
    prior: int = 0,
    weight: float = 1.0,
) -> Tensor:
    r"""The loss of a network that predicts v, on pictures of a new thing and on prior pictures.

    Ruiz et al., "DreamBooth", CVPR 2023, section 3.3, eq. 2.

    A batch holds both kinds: the pictures of the new thing come first, the last `prior` samples
    are prior pictures. Each kind counts by its own mean, so how many there are of the one changes
    nothing in how much the other counts. Levels and noise are drawn as in `prediction_loss`: first
    the levels 1..T of all samples, then the noise of all. The network is called once, with the
    whole batch.

    Equation:
        e_b = mean( ( v_b - net(x_t, t, cond)_b )^2 )                over the elements of sample b
        L   = mean of e_b over the new thing's samples  +  weight * mean of e_b over the prior ones

    Args:
        net: `net(x_t, t, cond)` returns an estimate of v, like x_t.
        x0: (B, ...) clean pictures: B - prior of the new thing, then the prior ones.
        schedule: a `NoiseSchedule`.
        cond: passed on to the network.
        generator: `torch.Generator` on x0's device.
        prior: how many of the last samples are prior pictures; 0: none, and no second term.
        weight: how much their mean counts, lambda in the paper.

    Returns:
        Scalar tensor.

    Raises:
        ValueError: if `prior` is not in 0..B - 1, so that no sample of the new thing would be left.
    """
    require_data(x0, schedule)
    if not 0 <= prior < len(x0):
        raise ValueError(f"prior must lie in 0..{len(x0) - 1} for {len(x0)} samples, got {prior}")
    like = dict(generator=generator, device=x0.device)
    t = torch.randint(1, schedule.T + 1, x0.shape[:1], **like)  # (B,)
    eps = torch.randn(x0.shape, dtype=x0.dtype, **like)  # like x0
    guess = checked_like(net(q_sample(x0, t, eps, schedule), t, cond), x0)
    error = (guess - to_v(x0, t, eps, schedule)).square().flatten(1).mean(dim=1)  # (B,)
    new, old = error[: len(error) - prior], error[len(error) - prior :]
    return new.mean() + weight * old.mean() if prior else new.mean()
