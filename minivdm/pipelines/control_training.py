"""Training of a ControlNet beside a locked model."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from ..diffusion.forward_process import q_sample
from ..diffusion.guidance import drop_condition
from ..diffusion.predictions import EpsModel, to_v
from ..diffusion.schedules import NoiseSchedule
from ..models.controlnet import ControlledUNet, ControlNet
from ..training.ema import EMA
from ..training.loop import train


class Steered(nn.Module):
    """A locked base, its text encoder and one ControlNet, in the form in which `train` calls a network.

    Args:
        model: as from `build_text2image` or `build_text2video`; its parameters ask for no gradient any more.
        control: a `ControlNet` made for its U-Net.

    `forward(x, t, tokens)` takes (B, C + c, ...), the hint's c channels behind the C of the noisy data.
    """

    def __init__(self, model: EpsModel, control: ControlNet):
        super().__init__()
        model.requires_grad_(False)
        self.net, self.encoder = ControlledUNet(model.net.net, control), model.net.encoder
        self.hint_channels = control.hint_channels

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        x, hint = apart(x, self.hint_channels)
        return self.net(x, t, self.encoder(tokens), [hint])


def apart(x: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Data (B, C, ...) and hint (B, channels, ...) that were put one behind the other."""
    return x[:, :-channels], x[:, -channels:]


def hinted_loss(
    net: Callable,
    x0: Tensor,
    schedule: NoiseSchedule,
    cond: Tensor,
    generator: torch.Generator | None = None,
    hint_channels: int = 1,
    lowest: int = 1,
    prediction_type: str = "v",
) -> Tensor:
    """`prediction_loss` of data with a hint behind their channels, which gets no noise, from the level `lowest` on.

    Args:
        net, schedule, generator: as for `prediction_loss`; the network gets noisy data and hint as one tensor.
        x0: (B, C + c, ...) clean data and hint.
        cond: (B, L) tokens.
        hint_channels: c.
        lowest: the lowest level to draw.
        prediction_type: what the network estimates: "eps", "x0" or "v".

    Returns:
        Scalar tensor.
    """
    x0, hint = apart(x0, hint_channels)
    like = dict(generator=generator, device=x0.device)
    t = torch.randint(lowest, schedule.T + 1, x0.shape[:1], **like)  # (B,)
    eps = torch.randn(x0.shape, dtype=x0.dtype, **like)  # like x0
    target = {"eps": eps, "x0": x0, "v": to_v(x0, t, eps, schedule)}[prediction_type]
    guess = net(torch.cat([q_sample(x0, t, eps, schedule), hint], dim=1), t, cond)
    return (guess - target).square().mean()


def train_control(
    model: EpsModel,
    control: ControlNet,
    draw: Callable,
    steps: int,
    lr: float = 1e-3,
    drop: float = 0.5,
    lowest: int = 1,
    warm_up: int = 20,
    **options: object,
) -> Iterator[tuple[int, Tensor]]:
    """Train a ControlNet beside a locked model; a generator, as `train` is.

    Zhang et al., ICCV 2023, section 3.3: the base's own loss, on data with their hints. Half of the prompts are taken
    away, so that the hint must be read for what it shows.

    Args:
        model: as from `build_text2image` or `build_text2video`; it stays as it is, and asks for no gradient any more.
        control: a `ControlNet` made for its U-Net, on its device; changed in place.
        draw: `draw(generator)` returns clean data (B, C, ...), hints (B, c, ...) and tokens (B, L).
        steps: number of optimiser steps.
        lr: learning rate of Adam; it grows for `warm_up` steps, and falls to 0 along a straight line. (No weight
            decays: those of the copy are good as they are.)
        drop: share of the prompts that are taken away.
        lowest: levels below it are left out. Where it is hardly noisy, x_t shows more than any hint.
        warm_up: steps in which the learning rate grows.
        options: more of `train`'s.

    Yields:
        (step, loss): steps done, from 1, and the loss as a detached scalar tensor.

    Raises:
        ValueError: if the lowest level is none of the schedule's; and from `train`.
        FloatingPointError: from `train`, if the loss is not finite.
    """
    if not 1 <= lowest <= model.schedule.T:
        raise ValueError(f"the lowest level must lie in 1..{model.schedule.T}, got {lowest}")
    net, device = Steered(model, control), next(control.parameters()).device

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x0, hint, tokens = draw(generator)
        return torch.cat([x0, hint], dim=1), drop_condition(tokens, drop, generator)

    about = dict(hint_channels=control.hint_channels, lowest=lowest, prediction_type=model.prediction_type)
    chosen = dict(optimizer="adam", decay="linear", warm_up=warm_up, progress=False)
    chosen |= dict(loss=partial(hinted_loss, **about))
    yield from train(net, EMA(net), batch, model.schedule.to(device), steps, lr, **(chosen | options))
    net.eval()
