r"""Diffusion in continuous time: a stochastic differential equation, its reverse, and an ODE with the same densities.

Let the number of levels grow and the steps shrink, and DDPM's chain becomes the variance-preserving SDE (Song et al.,
"Score-Based Generative Modeling through Stochastic Differential Equations", ICLR 2021), with time t from 0 to 1:

    dx = f(x, t) dt + g(t) dw,      f = -beta(t) x / 2,   g = sqrt(beta(t))              data -> noise
    dx = ( f - g^2 score ) dt + g dw                                  reverse SDE        noise -> data
    dx = ( f - g^2 score / 2 ) dt                                     probability flow   both ways

where score(x, t) = grad log p_t(x). Samplers take `score(x, t)`, t a (B,) float tensor, and walk a list of times. At
t = 0 the score of sharp data is infinite, so walks stop short of it, at `T_MIN`.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from .gradients import outside_inference_mode
from .predictions import to_score
from .schedules import NoiseSchedule, checked_like, expand_like, require_floats, require_levels, require_schedule

T_MIN = 1e-5  # Song et al., ICLR 2021, appendix C


class VPSDE:
    r"""The variance-preserving SDE with a linear beta (Song et al., ICLR 2021, eqs. 11, 32 and 33).

        dx = -beta(t) x / 2 dt + sqrt(beta(t)) dw,                          0 <= t <= 1
        beta(t) = beta_min + t (beta_max - beta_min)
        alpha_bar(t) = exp( - integral of beta from 0 to t )
                     = exp( -( beta_min t + (beta_max - beta_min) t^2 / 2 ) )

    As before, x_t = sqrt(alpha_bar(t)) x_0 + sqrt(1 - alpha_bar(t)) eps. It is what DDPM with
    `linear_betas(T)` becomes as T grows: level i stands at the time i/T, and its beta is
    beta(i/T) / T. The methods can be differentiated by x and t.

    Args:
        beta_min, beta_max: rate of noise at t = 0 and t = 1, per unit of time;
            0 < beta_min <= beta_max, else a ValueError. So is a mean rate at which alpha_bar(1) is
            exactly 0 or 1 in float32.
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        if not 0 < beta_min <= beta_max:
            raise ValueError(f"expected 0 < beta_min <= beta_max, got {beta_min} and {beta_max}")
        require_mean_rate((beta_min + beta_max) / 2)
        self.beta_min, self.beta_max = beta_min, beta_max

    def beta(self, t: Tensor) -> Tensor:
        """Rate at which noise is added, (B,), at times t, (B,) float."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def alpha_bar(self, t: Tensor) -> Tensor:
        """Share of the data's variance that is left, (B,), at times t, (B,) float; 1 at t = 0."""
        return torch.exp(-(self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / 2))

    def alpha(self, t: Tensor) -> Tensor:
        """Factor of the data, sqrt(alpha_bar(t)), (B,), at times t, (B,), which lie in 0..1."""
        require_levels(t, 0, 1)
        return self.alpha_bar(t).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        """Factor of the noise, sqrt(1 - alpha_bar(t)), (B,), at times t, (B,), as for `alpha`."""
        require_levels(t, 0, 1)
        return (1 - self.alpha_bar(t)).sqrt()

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """f(x, t) = -beta(t) x / 2, like x, for x (B, ...) at times t, (B,) float."""
        return -expand_like(self.beta(t), x) * x / 2

    def diffusion(self, t: Tensor) -> Tensor:
        """g(t) = sqrt(beta(t)), (B,), at times t, (B,) float."""
        return self.beta(t).sqrt()


def require_mean_rate(rate: float) -> None:
    """Raise a ValueError if alpha_bar(1) = exp(-rate) is exactly 0 or 1 in float32."""
    limits = torch.finfo(torch.float32)
    if not limits.eps <= rate <= -math.log(limits.tiny):
        how = f"exp(-{rate:.4g}) = {math.exp(-rate):.3g}"
        raise ValueError(f"alpha_bar(1) must lie between 0 and 1, also in float32; here it is {how}")


@torch.no_grad()
def reverse_sde_sample(
    score: "Callable",
    x: Tensor,
    sde: "VPSDE",
    times: "Sequence[float]",
    generator: torch.Generator | None = None,
    callback: "Callable | None" = None,
) -> Tensor:
    r"""From noise to data along the reverse SDE, by Euler-Maruyama steps.

    Song et al., ICLR 2021, eq. 6.

        x_s = x_t + ( f(x_t, t) - g(t)^2 score(x_t, t) ) (s - t)  +  g(t) sqrt(t - s) noise

    for neighbours t > s in the list of times. The last step leaves its noise out: nothing would
    remove it again.

    Args:
        score: `score(x, t)` returns grad log p_t(x), like x; t is a (B,) float tensor.
        x: (B, ...) start, in 32 bits or more, standard normal for a walk from t = 1.
        sde: a `VPSDE`.
        times: falling times in (0, 1], such as `time_grid(1, T_MIN, steps)`.
        generator: `torch.Generator` on x's device.
        callback: called as `callback(s, x)` after each step, with s a float and an x that stays as
            it is, so that it can be kept.

    Returns:
        The sample at the last time, like the start.

    Raises:
        ValueError: if `times` does not fall strictly within (0, 1].
    """
    times = checked_times(times, falling=True)
    for now, then in pairwise(times):
        t, dt = at_time(now, x), then - now  # (B,), a float < 0
        g = expand_like(sde.diffusion(t), x)  # (B, 1, ..., 1)
        x = x + (sde.drift(x, t) - g**2 * checked_like(score(x, t), x)) * dt
        if then != times[-1]:
            noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            x = x + g * math.sqrt(-dt) * noise
        if callback:
            callback(then, x)
    return x


def probability_flow(score: "Callable", x: Tensor, t: Tensor, sde: "VPSDE") -> Tensor:
    r"""The velocity of the probability flow: noiseless, it moves the density just as the SDE does.

    Song et al., ICLR 2021, eq. 13.

        dx/dt = f(x, t) - g(t)^2 score(x, t) / 2

    Args:
        score: `score(x, t)` returns grad log p_t(x), like x.
        x: (B, ...) points.
        t: (B,) float times.
        sde: a `VPSDE`.

    Returns:
        dx/dt, like x.
    """
    s = checked_like(score(x, t), x)
    return sde.drift(x, t) - expand_like(sde.diffusion(t), x) ** 2 * s / 2


@torch.no_grad()
def probability_flow_ode(
    score: "Callable",
    x: Tensor,
    sde: "VPSDE",
    times: "Sequence[float]",
    callback: "Callable | None" = None,
) -> Tensor:
    r"""Follow the probability flow along a list of times, up or down, by Heun's second-order steps.

        k_1 = probability_flow(x_t, t),    k_2 = probability_flow(x_t + (s - t) k_1, s)
        x_s = x_t + (s - t) (k_1 + k_2) / 2

    for neighbours t, s in the list. Falling times lead from noise to data, rising ones from data
    to noise.

    Args:
        score: `score(x, t)` returns grad log p_t(x), like x; t is a (B,) float tensor.
        x: (B, ...) start, at the first of the times.
        sde: a `VPSDE`.
        times: times in (0, 1] that fall or rise, such as `time_grid(1, T_MIN, steps)`.
        callback: called as `callback(s, x)` after each step, with s a float and an x that stays as
            it is, so that it can be kept.

    Returns:
        x at the last time, like the start.

    Raises:
        ValueError: if `times` neither falls nor rises strictly within (0, 1].
    """
    for now, then in pairwise(checked_times(times)):
        t, s, dt = at_time(now, x), at_time(then, x), then - now
        first = probability_flow(score, x, t, sde)
        second = probability_flow(score, x + dt * first, s, sde)
        x = x + dt * (first + second) / 2
        if callback:
            callback(then, x)
    return x


@outside_inference_mode
def value_and_divergence(
    field: "Callable",
    x: Tensor,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""A vector field and its divergence, sum_i d field_i / d x_i: how fast it parts points.

    Exact, by one backward pass for each dimension; or, given `noise`, estimated by a single one
    (Hutchinson, 1989; Grathwohl et al., "FFJORD", ICLR 2019):

        E[ noise^T J noise ] = tr J,    J = d field / d x,    if the noise has mean 0, covariance I

    Args:
        field: `field(x)` returns a tensor like x; each sample's row depends on that sample alone.
        x: (B, ...) points.
        noise: None for the exact divergence; or like x, standard normal or random signs.

    Returns:
        field(x), like x, and its divergence, (B,); both detached from the graph.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = checked_like(field(x), x)
        if noise is not None:
            checked_like(noise, x)  # one number for all would count more than the diagonal
            product = torch.autograd.grad((value * noise).sum(), x)[0]  # (B, ...) noise^T J
            return value.detach(), (product * noise).flatten(1).sum(dim=1)
        divergence = x.new_zeros(len(x))  # (B,)
        for i, part in enumerate(value.flatten(1).unbind(dim=1)):  # (B,)
            row = torch.autograd.grad(part.sum(), x, retain_graph=True)[0]  # (B, ...)
            divergence = divergence + row.flatten(1)[:, i]
        return value.detach(), divergence.detach()


@outside_inference_mode
@torch.no_grad()
def ode_log_likelihood(
    score: "Callable",
    x: Tensor,
    sde: "VPSDE",
    times: "Sequence[float]",
    noise: Tensor | None = None,
) -> Tensor:
    r"""log p(x) of data: follow the flow to pure noise, and add up how much it spreads on the way.

    Instantaneous change of variables (Chen et al., NeurIPS 2018; Song et al., ICLR 2021,
    section 4.3 and appendix D.2):

        log p_0(x_0) = log N(x_1; 0, I) + integral from 0 to 1 of div probability_flow(x_t, t) dt

    Points and integral advance together, by Heun's steps.

    Args:
        score: `score(x, t)` returns grad log p_t(x), like x, and can be differentiated by x.
        x: (B, ...) data.
        sde: a `VPSDE`.
        times: rising times in (0, 1], such as `time_grid(T_MIN, 1, steps)`; the last should be 1.
        noise: None for exact divergences; or like x, for Hutchinson's estimate, the same noise at
            all times.

    Returns:
        (B,) log-likelihood in nats, in x's dtype.

    Raises:
        ValueError: if `times` does not rise strictly within (0, 1].
    """

    def flow(time: Tensor) -> "Callable":
        return lambda y: probability_flow(score, y, time, sde)

    total = x.new_zeros(len(x))  # (B,)
    for now, then in pairwise(checked_times(times, falling=False)):
        t, s, dt = at_time(now, x), at_time(then, x), then - now
        first, divergence_1 = value_and_divergence(flow(t), x, noise)
        there = x + dt * first
        second, divergence_2 = value_and_divergence(flow(s), there, noise)
        x = x + dt * (first + second) / 2
        total = total + dt * (divergence_1 + divergence_2) / 2
    log_normal = -(x**2 + math.log(2 * math.pi)).flatten(1).sum(dim=1) / 2  # (B,)
    return log_normal + total


def score_from_eps(model: Callable, schedule: NoiseSchedule, cond: Tensor | None = None) -> Callable:
    """A trained model of eps as `score(x, t)` in continuous time: it is asked at the level next to T t.

    Args:
        model: `model(x, level, cond)` returns an estimate of eps, like x; level is a (B,) long tensor, 1..T.
        schedule: the `NoiseSchedule` it was trained with, `NoiseSchedule(linear_betas(T))` for the default `VPSDE`.
        cond: passed on to the model.
    """
    require_schedule(schedule)

    def score(x: Tensor, t: Tensor) -> Tensor:
        level = (t * schedule.T).round().long().clamp(1, schedule.T)  # (B,)
        return to_score(model(x, level, cond), level, schedule)

    return score


def time_grid(start: float, end: float, steps: int, power: float = 1) -> list[float]:
    """`steps` steps from start to end, equal in t^(1/power): a list of steps + 1 floats. Power 2 is finer near 0.

    Raises:
        ValueError: if there is no step.
    """
    if steps < 1:
        raise ValueError(f"the number of steps must be at least 1, got {steps}")
    a, b = start ** (1 / power), end ** (1 / power)
    return [start, *((a + (b - a) * i / steps) ** power for i in range(1, steps)), end]


def at_time(t: float, x: Tensor) -> Tensor:
    """The time t, a float, for each sample of x: (B,) in x's dtype and on its device. ValueError if x has no floats."""
    require_floats(x)
    return torch.full(x.shape[:1], t, dtype=x.dtype, device=x.device)


def checked_times(times: Sequence[float], falling: bool | None = None) -> list[float]:
    """`times` as a list of floats that falls or rises strictly, or a ValueError that says what is wrong with it."""
    try:
        times = [float(t) for t in times]
    except (TypeError, ValueError):
        raise ValueError(f"times must be a list, such as time_grid(1, T_MIN, 50), got {times!r}") from None
    falls = all(t > s for t, s in pairwise(times))
    rises = all(t < s for t, s in pairwise(times))
    good = {True: falls, False: rises, None: falls or rises}[falling]
    if len(times) < 2 or not good or not all(0 < t <= 1 for t in times):
        how = {True: "fall", False: "rise", None: "fall or rise"}[falling]
        raise ValueError(f"times must {how} strictly within (0, 1], got {times[:3]} ... ({len(times)} times)")
    return times
