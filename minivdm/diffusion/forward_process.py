r"""The forward process, its posterior, and the loss that trains a denoiser.

From clean data x_0 one jump reaches any level (Ho et al., NeurIPS 2020, eq. 4):

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps,        eps ~ N(0, I)

A network `model(x_t, t, cond)` learns to read eps off x_t. Below, s < t are two levels; DDPM steps from t to s = t - 1.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .schedules import NoiseSchedule, checked_like, expand_like, per_sample, require_data


def q_sample(x0: Tensor, t: Tensor, noise: Tensor, schedule: "NoiseSchedule") -> Tensor:
    r"""Jump from clean data to level t (Ho et al., 2020, eq. 4).

        x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps

    Args:
        x0: (B, ...) clean data, images in [-1, 1].
        t: (B,) long, the level of each sample, 0..T.
        noise: like x0, the standard normal eps.
        schedule: a `NoiseSchedule`.

    Returns:
        x_t, like x0.
    """
    alpha_bar = per_sample(schedule.alpha_bar, t, x0, noise)  # (B, 1, ..., 1)
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise


def perturb(x0: Tensor, t: Tensor, noise: Tensor, schedule: object) -> Tensor:
    r"""The same jump for whole and real times, and for every schedule that answers `alpha(t)` and `sigma(t)`.

        x_t = alpha(t) x_0 + sigma(t) eps

    For a `NoiseSchedule` this is `q_sample`, also between its levels; for a `VPSDE` it is the SDE's transition from
    time 0 (Song et al., "Score-Based Generative Modeling through SDEs", ICLR 2021, eq. 29).

    Args:
        x0: (B, ...) clean data.
        t: (B,) levels or times, as the schedule counts them; long or float.
        noise: like x0, the standard normal eps.
        schedule: has `alpha(t)` and `sigma(t)`, each (B,) for (B,).

    Returns:
        x_t, like x0.
    """
    require_data(x0, schedule)
    checked_like(noise, x0)
    return expand_like(schedule.alpha(t), x0) * x0 + expand_like(schedule.sigma(t), x0) * noise


def to_x0(x_t: Tensor, t: Tensor, eps: Tensor, schedule: "NoiseSchedule") -> Tensor:
    r"""The clean data that x_t and a noise estimate imply: `q_sample`, solved for x_0.

    Ho et al., NeurIPS 2020, eq. 15.

        x_0 = ( x_t - sqrt(1 - alpha_bar_t) eps ) / sqrt(alpha_bar_t)

    Args:
        x_t: (B, ...) noisy data at level t.
        t: (B,) long, levels 0..T.
        eps: like x_t, the noise or an estimate of it.
        schedule: a `NoiseSchedule`.

    Returns:
        x_0 or its estimate, like x_t.
    """
    alpha_bar = per_sample(schedule.alpha_bar, t, x_t, eps)  # (B, 1, ..., 1)
    return (x_t - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()


def q_posterior(
    x0: Tensor,
    x_t: Tensor,
    t: Tensor,
    s: Tensor,
    schedule: "NoiseSchedule",
) -> tuple[Tensor, Tensor]:
    r"""Mean and variance of q(x_s | x_t, x_0) for two levels s < t.

    Ho et al., NeurIPS 2020, eqs. 6-7, where s = t - 1.

        alpha = alpha_bar_t / alpha_bar_s,    beta = 1 - alpha              (the step from s to t)
        mean = (  sqrt(alpha_bar_s) beta x_0
                + sqrt(alpha) (1 - alpha_bar_s) x_t  ) / (1 - alpha_bar_t)
        variance = beta (1 - alpha_bar_s) / (1 - alpha_bar_t)

    Args:
        x0, x_t: (B, ...) clean data (or an estimate of it) and the same data at level t.
        t, s: (B,) long, levels with 0 <= s < t <= T.
        schedule: a `NoiseSchedule`.

    Returns:
        mean, like x_t, and variance, (B, 1, ..., 1). At s = 0 they are x_0 and 0.
    """
    ab_t = per_sample(schedule.alpha_bar, t, x_t)  # (B, 1, ..., 1)
    ab_s = per_sample(schedule.alpha_bar, s, x_t)  # (B, 1, ..., 1)
    alpha = ab_t / ab_s
    beta = 1 - alpha
    mean = (ab_s.sqrt() * beta * x0 + alpha.sqrt() * (1 - ab_s) * x_t) / (1 - ab_t)
    return mean, beta * (1 - ab_s) / (1 - ab_t)


def diffusion_loss(
    model: "Callable",
    x0: Tensor,
    schedule: "NoiseSchedule",
    cond: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""The simple loss: predict the noise at a random level.

    Ho et al., NeurIPS 2020, eq. 14 and algorithm 1.

        L = E_{t ~ U{1..T}, eps ~ N(0, I)}  mean( ( eps - model(x_t, t, cond) )^2 )

    Every sample draws a level of its own, and noise like x0: of its shape and dtype, on its device.
    The mean runs over the batch and over all elements.

    Args:
        model: `model(x_t, t, cond)` returns an estimate of eps, like x_t.
        x0: (B, ...) clean data.
        schedule: a `NoiseSchedule`.
        cond: passed on to the model.
        generator: `torch.Generator` on x0's device, for repeatable levels and noise.

    Returns:
        Scalar tensor.
    """
    require_data(x0, schedule)
    like = dict(generator=generator, device=x0.device)
    t = torch.randint(1, schedule.T + 1, x0.shape[:1], **like)  # (B,)
    noise = torch.randn(x0.shape, dtype=x0.dtype, **like)  # like x0
    x_t = q_sample(x0, t, noise, schedule)
    return (checked_like(model(x_t, t, cond), x_t) - noise).square().mean()
