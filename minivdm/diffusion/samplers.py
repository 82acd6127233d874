r"""From noise to data: walk a list of levels downwards. And back: DDIM inversion walks the same list upwards.

A sampler takes `model(x, t, cond)` (an estimate of eps), a start x at the first level of the list, and a schedule. It
walks *consecutive pairs* (t, s) of one strictly decreasing list that ends at 0, so it can skip levels, and there is no
special last step.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from .forward_process import q_posterior, q_sample, to_x0
from .schedules import NoiseSchedule, per_sample, require_schedule


def all_levels(schedule: NoiseSchedule) -> list[int]:
    """The full walk T, T-1, ..., 1, 0 as a list of ints."""
    return list(range(schedule.T, -1, -1))


def ddpm_step(
    x_t: Tensor,
    x0: Tensor,
    t: Tensor,
    s: Tensor,
    noise: Tensor,
    schedule: "NoiseSchedule",
) -> Tensor:
    r"""One ancestral step from level t down to level s (Ho et al., NeurIPS 2020, algorithm 2).

        x_s = mean + sqrt(variance) * noise,        mean, variance of q(x_s | x_t, x_0)

    Args:
        x_t: (B, ...) the current sample at level t.
        x0: like x_t, the estimate of the clean data.
        t, s: (B,) long, levels with 0 <= s < t <= T.
        noise: like x_t, standard normal.
        schedule: a `NoiseSchedule`.

    Returns:
        x_s, like x_t. At s = 0 the variance is 0, so x_0 comes back exactly.
    """
    mean, variance = q_posterior(x0, x_t, t, s, schedule)
    return mean + variance.sqrt() * noise


@torch.no_grad()
def ddpm_sample(
    model: "Callable",
    x: Tensor,
    schedule: "NoiseSchedule",
    levels: "Sequence[int] | None" = None,
    cond: Tensor | None = None,
    clip_x0: bool = False,
    generator: torch.Generator | None = None,
    callback: "Callable | None" = None,
) -> Tensor:
    r"""Ancestral sampling, over all levels or a sublist of them.

    Ho et al., NeurIPS 2020, algorithm 2. For each pair (t, s): estimate eps, turn it into x_0,
    then draw x_s from q(x_s | x_t, x_0) with fresh noise.

    Args:
        model: `model(x, t, cond)` returns an estimate of eps, like x; t is a (B,) long tensor.
        x: (B, ...) start, standard normal for a walk from T.
        schedule: a `NoiseSchedule`.
        levels: strictly decreasing ints from the start's level to 0; default T, T-1, ..., 0.
        cond: passed on to the model.
        clip_x0: clamp each estimate of x_0 to [-1, 1], as suits images.
        generator: `torch.Generator` on x's device.
        callback: called as `callback(s, x, x0)` after each step.

    Returns:
        The sample at level 0, like the start.

    Raises:
        ValueError: if `levels` does not fall strictly, leaves 0..T or does not end at 0.
    """
    levels = checked_levels(levels, schedule)
    for level, target in pairwise(levels):
        t = torch.full(x.shape[:1], level, device=x.device)  # (B,)
        s = torch.full_like(t, target)
        x0 = to_x0(x, t, model(x, t, cond), schedule)
        if clip_x0:
            x0 = x0.clamp(-1, 1)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        x = ddpm_step(x, x0, t, s, noise, schedule)
        if callback:
            callback(target, x, x0)
    return x


def checked_levels(levels: Sequence[int] | None, schedule: NoiseSchedule) -> list[int]:
    """`levels` as a list of ints (default: all of them), or a ValueError that says what is wrong with them."""
    require_schedule(schedule)
    if levels is None:
        return all_levels(schedule)
    if not isinstance(levels, Iterable):
        raise ValueError(f"levels must be a list, such as sampling_levels({schedule.T}, 50), got {levels!r}")
    given = list(levels)
    try:
        levels = [int(level) for level in given]
    except (TypeError, ValueError, OverflowError):  # no numbers; NaN; infinity
        levels = None
    if given != levels:
        raise ValueError(f"levels must be whole numbers, got {given}")
    falling = all(t > s for t, s in pairwise(levels))
    if len(levels) < 2 or not falling or levels[-1] != 0 or levels[0] > schedule.T:
        raise ValueError(f"levels must fall strictly from at most {schedule.T} to 0, got {levels}")
    return levels


def sampling_levels(T: int, n: int) -> list[int]:
    r"""n steps from T to 0, as even as whole numbers allow.

    The "linear" choice of Song et al., ICLR 2021, appendix D.2: the n + 1 levels

        floor(T i / n),        i = n, n-1, ..., 1, 0

    Args:
        T: number of noisy levels, an int >= 1.
        n: number of steps, 1..T.

    Returns:
        List of n + 1 strictly decreasing ints, from T to 0; any two steps differ by at most 1.

    Raises:
        ValueError: if n is not in 1..T.
    """
    if not 1 <= n <= T:
        raise ValueError(f"the number of steps must lie in 1..{T}, got {n}")
    return [T * i // n for i in range(n, -1, -1)]


def ddim_step(
    x_t: Tensor,
    x0: Tensor,
    t: Tensor,
    s: Tensor,
    noise: Tensor,
    schedule: "NoiseSchedule",
    eta: float = 0.0,
) -> Tensor:
    r"""One step from level t down to level s that can do without fresh noise.

    Song et al., "Denoising Diffusion Implicit Models", ICLR 2021, eqs. 12 and 16.

        eps = ( x_t - sqrt(alpha_bar_t) x_0 ) / sqrt(1 - alpha_bar_t)
        sigma^2 = eta^2 (1 - alpha_bar_s) / (1 - alpha_bar_t) (1 - alpha_bar_t / alpha_bar_s)
        x_s = sqrt(alpha_bar_s) x_0 + sqrt(1 - alpha_bar_s - sigma^2) eps + sigma noise

    eta = 0 is DDIM, which keeps the noise that is in x_t; eta = 1 is DDPM. Here eps is read off
    x_0, so it fits an x_0 that has been clipped.

    Args:
        x_t: (B, ...) the current sample at level t.
        x0: like x_t, the estimate of the clean data.
        t, s: (B,) long, levels with 0 <= s < t <= T.
        noise: like x_t, standard normal; of no effect at eta = 0.
        schedule: a `NoiseSchedule`.
        eta: share of DDPM's noise, 0..1.

    Returns:
        x_s, like x_t. At s = 0 it is x_0.
    """
    ab_t = per_sample(schedule.alpha_bar, t, x_t)  # (B, 1, ..., 1)
    ab_s = per_sample(schedule.alpha_bar, s, x_t)  # (B, 1, ..., 1)
    eps = (x_t - ab_t.sqrt() * x0) / (1 - ab_t).sqrt()
    variance = eta**2 * (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)  # (B, 1, ..., 1) sigma^2
    kept = (1 - ab_s - variance).clamp(min=0).sqrt()  # rounding may take 0 below 0
    return ab_s.sqrt() * x0 + kept * eps + variance.sqrt() * noise


@torch.no_grad()
def ddim_sample(
    model: "Callable",
    x: Tensor,
    schedule: "NoiseSchedule",
    levels: "Sequence[int] | None" = None,
    cond: Tensor | None = None,
    eta: float = 0.0,
    clip_x0: bool = False,
    generator: torch.Generator | None = None,
    callback: "Callable | None" = None,
) -> Tensor:
    r"""DDIM sampling, over all levels or a sublist of them (Song et al., ICLR 2021, section 4).

    For each pair (t, s): estimate eps, turn it into x_0, and go to x_s by `ddim_step`. At eta = 0
    nothing is random: the sample is a function of the start.

    Args:
        model: `model(x, t, cond)` returns an estimate of eps, like x; t is a (B,) long tensor.
        x: (B, ...) start, standard normal for a walk from T.
        schedule: a `NoiseSchedule`.
        levels: strictly decreasing ints from the start's level to 0, for instance
            `sampling_levels(T, 50)`; default T, T-1, ..., 0.
        cond: passed on to the model.
        eta: share of DDPM's noise, 0..1.
        clip_x0: clamp each estimate of x_0 to [-1, 1], as suits images.
        generator: `torch.Generator` on x's device; without effect at eta = 0.
        callback: called as `callback(s, x, x0)` after each step.

    Returns:
        The sample at level 0, like the start.

    Raises:
        ValueError: if `levels` does not fall strictly, leaves 0..T or does not end at 0; if eta is
            not in 0..1.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in 0..1, got {eta}")
    levels = checked_levels(levels, schedule)
    for level, target in pairwise(levels):
        t = torch.full(x.shape[:1], level, device=x.device)  # (B,)
        s = torch.full_like(t, target)
        x0 = to_x0(x, t, model(x, t, cond), schedule)
        if clip_x0:
            x0 = x0.clamp(-1, 1)
        noise = torch.zeros_like(x)
        if eta:
            noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        x = ddim_step(x, x0, t, s, noise, schedule, eta)
        if callback:
            callback(target, x, x0)
    return x


@torch.no_grad()
def ddim_invert(
    model: "Callable",
    x0: Tensor,
    schedule: "NoiseSchedule",
    levels: "Sequence[int] | None" = None,
    cond: Tensor | None = None,
    callback: "Callable | None" = None,
) -> Tensor:
    r"""The noise from which DDIM would draw x_0: the same list of levels, walked upwards.

    Song et al., ICLR 2021, section 5.4. For each pair (s, t) with s < t, from (0, ...) to (..., T):

        eps = model(x_s, t)                                 asked at the level t that it goes *to*
        x_0 = ( x_s - sqrt(1 - alpha_bar_s) eps ) / sqrt(alpha_bar_s)
        x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps

    `ddim_sample` will ask the model at x_t, which is not known yet; x_s stands in for it. So the
    two undo each other up to an error that shrinks with the steps, and exactly if eps does not
    depend on x. Nothing is clamped: what a clamp has cut off cannot be put back.

    Args:
        model: `model(x, t, cond)` returns an estimate of eps, like x; t is a (B,) long tensor.
        x0: (B, ...) clean data.
        schedule: a `NoiseSchedule`.
        levels: the *falling* list that `ddim_sample` takes; default T, T-1, ..., 0.
        cond: passed on to the model.
        callback: called as `callback(t, x, guess)` after each step, with the level reached, x at
            that level and the estimate of x_0 that was used.

    Returns:
        x at the first level of the list, like x0; for data that the model knows, near N(0, I) at T.

    Raises:
        ValueError: if `levels` does not fall strictly, leaves 0..T or does not end at 0.
    """
    levels, x = checked_levels(levels, schedule), x0
    for level, target in pairwise(reversed(levels)):
        s = torch.full(x.shape[:1], level, device=x.device)  # (B,)
        t = torch.full_like(s, target)
        eps = model(x, t, cond)
        guess = to_x0(x, s, eps, schedule)
        x = q_sample(guess, t, eps, schedule)
        if callback:
            callback(target, x, guess)
    return x
