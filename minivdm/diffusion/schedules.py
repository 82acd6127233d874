r"""How much noise each level carries.

The forward process adds a little Gaussian noise at each of T steps (Ho et al., "Denoising Diffusion Probabilistic
Models", NeurIPS 2020, eq. 2):

    q(x_t | x_{t-1}) = N( sqrt(1 - beta_t) x_{t-1},  beta_t I ),        alpha_bar_t = prod_{i<=t} (1 - beta_i)

A schedule is a choice of beta_1..beta_T. Everything else in a diffusion model reads `alpha_bar`, the share of the
data's variance that is left at level t. Level 0 is clean data, so every table has T + 1 entries, `alpha_bar[0] == 1`.
Tables are computed in float64 and stored in float32.
"""

import math

import torch
from torch import Tensor


def linear_betas(T: int, start: float = 1e-4, end: float = 0.02) -> Tensor:
    r"""Betas that grow linearly (Ho et al., 2020, section 4), stretched to any number of levels.

        beta_t = (1000 / T) * ( start + (end - start) * (t - 1) / (T - 1) ),        t = 1..T

    The paper has T = 1000. The factor 1000 / T spreads the same total amount of noise over
    fewer or more levels.

    Args:
        T: number of noisy levels, an int >= 2.
        start, end: the paper's first and last beta (no unit; a share of variance per step).

    Returns:
        (T,) float64 tensor, `betas[0]` belonging to level 1.

    Raises:
        ValueError: if a stretched beta is not in (0, 1): at the paper's values, for T <= 20.
    """
    scale = 1000 / T
    if not 0 < scale * min(start, end) <= scale * max(start, end) < 1:
        came = f"T = {T} stretches {start}..{end} to {scale * start}..{scale * end}"
        raise ValueError(f"betas must lie in (0, 1); {came}")
    return torch.linspace(scale * start, scale * end, T, dtype=torch.float64)  # (T,)


def cosine_betas(T: int, s: float = 0.008, max_beta: float = 0.999) -> Tensor:
    r"""Betas whose alpha_bar falls as a squared cosine (Nichol and Dhariwal, ICML 2021, eq. 17).

        f(t) = cos( (t/T + s) / (1 + s) * pi/2 )^2,     alpha_bar_t = f(t) / f(0),
        beta_t = min( 1 - alpha_bar_t / alpha_bar_{t-1},  max_beta ),           t = 1..T

    Args:
        T: number of noisy levels, an int >= 1.
        s: small offset that keeps beta_1 away from zero.
        max_beta: cap that keeps the last level from destroying *everything* (f(T) = 0).

    Returns:
        (T,) float64 tensor, `betas[0]` belonging to level 1.
    """
    level = torch.arange(T + 1, dtype=torch.float64)  # (T+1,)
    f = torch.cos((level / T + s) / (1 + s) * math.pi / 2) ** 2  # (T+1,)
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta)  # (T,)


def shifted_betas(betas: Tensor, factor: float) -> Tensor:
    r"""The betas of a schedule with more noise: at each level, `factor` times as much beside the data.

    Where many pixels or frames show the same thing, noise averages out over them, and what the data show is plain to
    see at levels meant to hide it (Hoogeboom et al., "simple diffusion", ICML 2023, section 3.1).

        alpha_bar'_t / (1 - alpha_bar'_t) = alpha_bar_t / (1 - alpha_bar_t) / factor^2

    Args:
        betas: (T,) tensor with values in (0, 1), of the schedule to shift.
        factor: above 0; 1 changes nothing.

    Returns:
        (T,) float64 tensor, `betas[0]` belonging to level 1.

    Raises:
        ValueError: if the betas do not lie in (0, 1) or the factor is not positive.
    """
    if not 0 < factor < math.inf:
        raise ValueError(f"factor must be a positive number, got {factor}")
    kept = torch.cumprod(1 - checked_betas(betas), dim=0)  # (T,) alpha_bar from level 1 on
    kept = torch.cat([kept.new_ones(1), kept / (kept + factor**2 * (1 - kept))])  # (T+1,)
    return 1 - kept[1:] / kept[:-1]  # (T,)


class NoiseSchedule:
    r"""The tables of one forward process, indexed by level 0..T.

        beta[0] = 0,   alpha_bar[0] = 1,   alpha_bar[t] = (1 - beta_1) (1 - beta_2) ... (1 - beta_t)

    Attributes:
        T: number of noisy levels (int).
        beta: (T+1,) float32, variance added on the step from level t-1 to t.
        alpha_bar: (T+1,) float32, share of the data's variance left at level t.
    """

    def __init__(self, betas: Tensor):
        """Fill the tables from `betas`, a (T,) tensor for levels 1..T with values in (0, 1)."""
        betas = checked_betas(betas)  # (T,) float64
        level_0 = betas.new_zeros(1)
        self.T = len(betas)
        self.beta = torch.cat([level_0, betas]).float()  # (T+1,)
        self.alpha_bar = torch.cat([level_0 + 1, torch.cumprod(1 - betas, dim=0)]).float()  # (T+1,)

    def alpha(self, t: Tensor) -> Tensor:
        """Factor of the data at levels t, in t's shape: sqrt(alpha_bar_t).

        Levels may lie between two whole ones. There alpha_bar is interpolated in its logarithm, as
        if beta were spread evenly over the step:

            ln alpha_bar_t = (1 - f) ln alpha_bar_k + f ln alpha_bar_{k+1},      t = k + f

        Args:
            t: tensor of levels in 0..T, long or float, of any shape.
        """
        return (self._log_alpha_bar(t) / 2).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """Factor of the noise at levels t, as `alpha` that of the data: sqrt(1 - alpha_bar_t)."""
        return (-torch.expm1(self._log_alpha_bar(t))).sqrt()

    def _log_alpha_bar(self, t: Tensor) -> Tensor:
        require_levels(t, 0, self.T)
        table = self.alpha_bar.to(t.device).log()  # (T+1,)
        below = t.floor().long()
        above = (below + 1).clamp(max=self.T)
        return table[below] + (t - below) * (table[above] - table[below])

    def to(self, device: str | torch.device) -> "NoiseSchedule":
        """Move the tables to `device` and return this schedule."""
        self.beta, self.alpha_bar = self.beta.to(device), self.alpha_bar.to(device)
        return self

    def __repr__(self) -> str:
        return f"NoiseSchedule(T={self.T}, alpha_bar[T]={self.alpha_bar[-1].item():.3g})"


def checked_betas(betas: Tensor) -> Tensor:
    """`betas` as a (T,) float64 tensor, or a ValueError that says what is wrong with them.

    Their alpha_bar must fall at each level and stay above 0, also when it is stored in float32: samplers divide by
    sqrt(alpha_bar) and by sqrt(1 - alpha_bar), so with an exact 0, or a 1 above level 0, each sample would be NaN.
    """
    try:
        betas = torch.as_tensor(betas, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"betas must be a non-empty 1-D tensor, got {type(betas).__name__} {betas!r}") from None
    if betas.ndim != 1 or len(betas) == 0:
        raise ValueError(f"betas must be a non-empty 1-D tensor, got shape {tuple(betas.shape)}")
    if not bool(((betas > 0) & (betas < 1)).all()):  # NaN fails this, too
        raise ValueError(f"betas must lie in (0, 1), got values from {betas.min():.3g} to {betas.max():.3g}")
    alpha_bar = torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, dim=0)]).float()  # (T+1,)
    least = torch.finfo(torch.float32).tiny
    useless = (alpha_bar.diff() >= 0) | (alpha_bar[1:] < least)  # (T,)
    if useless.any():
        level = int(useless.nonzero()[0]) + 1
        came = f"{alpha_bar[level]:.9g} at level {level}, after {alpha_bar[level - 1]:.9g}"
        raise ValueError(
            f"alpha_bar must fall at each level and stay above 0 in float32, from {least:.3g} on; it is {came}"
        )
    return betas


def require_schedule(schedule: object) -> None:
    """Raise a ValueError unless this is a schedule: not its betas, nor its number of levels."""
    if not hasattr(schedule, "alpha_bar"):
        came = type(schedule).__name__
        raise ValueError(f"expected a schedule, such as NoiseSchedule(betas), got {came} {schedule!r:.60}")


def require_levels(t: Tensor, least: int, most: int) -> None:
    """Raise a ValueError if levels on the CPU leave least..most; on a GPU, looking would wait for the device."""
    if t.device.type == "cpu" and not ((t >= least) & (t <= most)).all():  # NaN fails this, too
        raise ValueError(f"levels must lie in {least}..{most}, got {t.min().item()}..{t.max().item()}")


def require_floats(x: Tensor) -> None:
    """Raise a ValueError unless x is a tensor of floats with 32 bits or more, as what carries noise must be."""
    if not torch.is_tensor(x) or not x.is_floating_point():
        came = x.dtype if torch.is_tensor(x) else type(x).__name__
        advice = "pictures in bytes become floats in [-1, 1] by to_model_range"
        raise ValueError(f"expected float32 or more, got {came}: {advice}")
    if torch.finfo(x.dtype).bits < 32:
        why = "in 16 bits alpha_bar is rounded to 1 near level 0, and 1 - alpha_bar to 0"
        raise ValueError(f"expected float32 or more, got {x.dtype}: {why}; give x.float()")


def require_data(x0: Tensor, schedule: object) -> None:
    """Raise a ValueError unless x0 can be given noise by this schedule: see `require_floats` and `require_schedule`.

    So is an empty batch: a mean over it, such as a loss, would be NaN.
    """
    require_schedule(schedule)
    require_floats(x0)
    if not x0.numel():
        raise ValueError(f"expected data, got an empty tensor of shape {tuple(x0.shape)}")


def checked_like(y: Tensor, x: Tensor) -> Tensor:
    """`y`, an estimate or noise for x, or a ValueError unless it has x's shape and dtype: none is stretched to fit."""
    if not torch.is_tensor(y) or y.shape != x.shape or y.dtype != x.dtype:
        came = f"{y.dtype} of shape {tuple(y.shape)}" if torch.is_tensor(y) else f"{type(y).__name__}"
        raise ValueError(f"expected an estimate or noise like x, {x.dtype} of shape {tuple(x.shape)}; got {came}")
    return y


def per_sample(table: Tensor, t: Tensor, x: Tensor, *others: Tensor) -> Tensor:
    """Look up each sample's own level, shaped to broadcast against the batch.

    Args:
        table: (T+1,) tensor indexed by level, for instance `schedule.alpha_bar`; best on x's device already.
        t: (B,) long tensor of levels in 0..T.
        x: (B, ...) float tensor of 32 bits or more; only its shape, dtype and device are used.
        others: what is to be combined with x, such as its noise: like x, else a ValueError (see `checked_like`).

    Returns:
        (B, 1, ..., 1) tensor `table[t]` in x's dtype and on its device.

    Raises:
        ValueError: if t is not a (B,) integer tensor, a level lies outside 0..T, x holds whole numbers, or x has 16
            bits: near level 0 an alpha_bar of so few bits is exactly 1, as if there were no noise. Networks may
            compute in 16 bits. On a GPU, levels outside 0..T end in PyTorch's own error instead: to look at them
            here, the program would have to wait for the device in every step.
    """
    T = len(table) - 1
    if not torch.is_tensor(t) or t.is_floating_point() or t.dtype == torch.bool or t.shape != x.shape[:1]:
        came = f"{t.dtype} of shape {tuple(t.shape)}" if torch.is_tensor(t) else repr(t)
        raise ValueError(f"t must hold one integer level per sample, shape ({len(x)},); got {came}")
    require_levels(t, 0, T)
    require_floats(x)
    for other in others:
        checked_like(other, x)
    t = t.to(x.device, torch.long)
    return expand_like(table.to(x.device).index_select(0, t), x)  # (B, 1, ..., 1); unlike table[t], refuses t < 0


def expand_like(values: Tensor, x: Tensor) -> Tensor:
    """`values`, one per sample, shaped to broadcast against x (B, ...): (B, 1, ..., 1), in x's dtype, on its device.

    Raises:
        ValueError: if values is not (B,), or x holds no floats of 32 bits or more.
    """
    require_floats(x)
    if values.shape != x.shape[:1]:
        raise ValueError(f"expected one value per sample, shape ({len(x)},), got {tuple(values.shape)}")
    return values.to(x).reshape(-1, *[1] * (x.ndim - 1))
