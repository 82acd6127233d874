r"""One model in four clothes: the noise, the clean data, the velocity and the score.

At a level t the noisy data ties them together, so whoever knows one of them knows all:

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps
    v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0       (Salimans and Ho, ICLR 2022, section 4 and appendix D)
    score = grad log p(x_t) = -E[eps | x_t] / sqrt(1 - alpha_bar_t)            (Song et al., ICLR 2021; Vincent, 2011)

They differ in what an error costs. One in eps counts sqrt((1 - alpha_bar_t) / alpha_bar_t) times as much in x_0, which
is without bound at high levels; one in x_0 counts the inverse of that in eps; one in v is never magnified.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .forward_process import q_sample
from .schedules import (
    NoiseSchedule,
    checked_like,
    per_sample,
    require_data,
    require_floats,
    require_levels,
    require_schedule,
)


def to_eps(x_t: Tensor, t: Tensor, x0: Tensor, schedule: "NoiseSchedule") -> Tensor:
    r"""The noise that x_t and a guess of the clean data imply: `q_sample`, solved for eps.

        eps = ( x_t - sqrt(alpha_bar_t) x_0 ) / sqrt(1 - alpha_bar_t)

    Args:
        x_t: (B, ...) noisy data at level t, in 32 bits or more.
        t: (B,) long, levels 1..T; level 0 has no noise to find, and gives infinity or NaN.
        x0: like x_t, the clean data or an estimate of it.
        schedule: a `NoiseSchedule`.

    Returns:
        eps or its estimate, like x_t.
    """
    alpha_bar = per_sample(schedule.alpha_bar, t, x_t, x0)  # (B, 1, ..., 1)
    return (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()


def to_v(x0: Tensor, t: Tensor, eps: Tensor, schedule: "NoiseSchedule") -> Tensor:
    r"""The velocity: x_t turned by a right angle, in the plane with the axes x_0 and eps.

    Salimans and Ho, ICLR 2022, appendix D.

        v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0

    Args:
        x0: (B, ...) clean data, in 32 bits or more.
        t: (B,) long, levels 0..T.
        eps: like x0, the noise in x_t.
        schedule: a `NoiseSchedule`.

    Returns:
        v, like x0.
    """
    alpha_bar = per_sample(schedule.alpha_bar, t, x0, eps)  # (B, 1, ..., 1)
    return alpha_bar.sqrt() * eps - (1 - alpha_bar).sqrt() * x0


def from_v(x_t: Tensor, t: Tensor, v: Tensor, schedule: "NoiseSchedule") -> tuple[Tensor, Tensor]:
    r"""The clean data and the noise that x_t and a velocity imply.

    Salimans and Ho, ICLR 2022, appendix D.

        x_0 = sqrt(alpha_bar_t) x_t - sqrt(1 - alpha_bar_t) v
        eps = sqrt(alpha_bar_t) v + sqrt(1 - alpha_bar_t) x_t

    Args:
        x_t: (B, ...) noisy data at level t, in 32 bits or more.
        t: (B,) long, levels 0..T.
        v: like x_t, the velocity or an estimate of it.
        schedule: a `NoiseSchedule`.

    Returns:
        x_0 and eps, each like x_t.
    """
    alpha_bar = per_sample(schedule.alpha_bar, t, x_t, v)  # (B, 1, ..., 1)
    keep, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return keep * x_t - noise * v, keep * v + noise * x_t


def to_score(eps: Tensor, t: Tensor, schedule: "NoiseSchedule") -> Tensor:
    r"""The score, which points from x_t towards likely data.

    Song et al., ICLR 2021; in Ho et al., NeurIPS 2020, behind eq. 13.

        grad log p(x_t) = -E[eps | x_t] / sqrt(1 - alpha_bar_t)

    Args:
        eps: (B, ...) an estimate of the noise in x_t, in 32 bits or more; the score is exact where
            it is E[eps | x_t].
        t: (B,) long, levels 1..T.
        schedule: a `NoiseSchedule`.

    Returns:
        The score, like eps, in units of 1 / x_t.
    """
    return -eps / (1 - per_sample(schedule.alpha_bar, t, eps)).sqrt()


PREDICTIONS = ("eps", "x0", "v", "score")


class EpsModel(nn.Module):
    """A network that predicts something else, seen as a model that predicts eps, as samplers expect.

    Args:
        net: `net(x, t, cond)` returns an estimate, like x.
        prediction_type: what it estimates: "eps", "x0", "v" or "score" (anything else: ValueError).
        schedule: the `NoiseSchedule` it was trained with.

    `forward(x, t, cond=None)` takes levels 1..T and returns an estimate of eps, like x. Another level (where it can be
    seen without waiting for a GPU) or an estimate of the net that is not like x is a ValueError.
    """

    def __init__(self, net: Callable, prediction_type: str, schedule: NoiseSchedule):
        super().__init__()
        require_schedule(schedule)
        if prediction_type not in PREDICTIONS:
            known = ", ".join(PREDICTIONS)
            raise ValueError(f"prediction_type must be one of {known}; got {prediction_type!r}")
        self.net, self.prediction_type, self.schedule = net, prediction_type, schedule

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        require_floats(x)
        require_levels(t, 1, self.schedule.T)
        schedule, guess = self.schedule.to(x.device), checked_like(self.net(x, t, cond), x)
        if self.prediction_type == "eps":
            return guess
        if self.prediction_type == "x0":
            return to_eps(x, t, guess, schedule)
        if self.prediction_type == "v":
            return from_v(x, t, guess, schedule)[1]
        # to_score, solved for eps
        return -(1 - per_sample(schedule.alpha_bar, t, x)).sqrt() * guess

    def around(self, net: nn.Module) -> "EpsModel":
        """The same model around another network."""
        return EpsModel(net, self.prediction_type, self.schedule)


def prediction_loss(
    net: "Callable",
    x0: Tensor,
    schedule: "NoiseSchedule",
    cond: Tensor | None = None,
    generator: torch.Generator | None = None,
    prediction_type: str = "v",
) -> Tensor:
    r"""The loss of a network that predicts eps, x_0 or v: `diffusion_loss` with another target.

        L = E_{t ~ U{1..T}, eps ~ N(0, I)}  mean( ( target - net(x_t, t, cond) )^2 )

    The three weigh the levels differently: a squared error in v is (SNR_t + 1) times the one in
    x_0 that it implies, a squared error in eps SNR_t times, with
    SNR_t = alpha_bar_t / (1 - alpha_bar_t) (Salimans and Ho, 2022, section 4).

    Args:
        net: `net(x_t, t, cond)` returns an estimate of the target, like x_t.
        x0: (B, ...) clean data.
        schedule: a `NoiseSchedule`.
        cond: passed on to the network.
        generator: `torch.Generator` on x0's device.
        prediction_type: "eps", "x0" or "v" (anything else: ValueError).

    Returns:
        Scalar tensor.
    """
    if prediction_type not in ("eps", "x0", "v"):
        raise ValueError(f'prediction_type must be "eps", "x0" or "v", got {prediction_type!r}')
    require_data(x0, schedule)
    like = dict(generator=generator, device=x0.device)
    t = torch.randint(1, schedule.T + 1, x0.shape[:1], **like)  # (B,)
    eps = torch.randn(x0.shape, dtype=x0.dtype, **like)  # like x0
    target = {"eps": eps, "x0": x0, "v": to_v(x0, t, eps, schedule)}[prediction_type]
    guess = checked_like(net(q_sample(x0, t, eps, schedule), t, cond), x0)
    return (guess - target).square().mean()
