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


def linear_betas(T, start=1e-4, end=0.02):
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


def cosine_betas(T, s=0.008, max_beta=0.999):
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


def shifted_betas(betas, factor):
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

    def __init__(self, betas):
        """Fill the tables from `betas`, a (T,) tensor for levels 1..T with values in (0, 1)."""
        betas = checked_betas(betas)  # (T,) float64
        level_0 = betas.new_zeros(1)
        self.T = len(betas)
        self.beta = torch.cat([level_0, betas]).float()  # (T+1,)
        self.alpha_bar = torch.cat([level_0 + 1, torch.cumprod(1 - betas, dim=0)]).float()  # (T+1,)

    def alpha(self, t):
        """Factor of the data at levels t, in t's shape: sqrt(alpha_bar_t).

        Levels may lie between two whole ones. There alpha_bar is interpolated in its logarithm, as
        if beta were spread evenly over the step:

            ln alpha_bar_t = (1 - f) ln alpha_bar_k + f ln alpha_bar_{k+1},      t = k + f

        Args:
            t: tensor of levels in 0..T, long or float, of any shape.
        """
        return (self._log_alpha_bar(t) / 2).exp()

    def sigma(self, t):
        """Factor of the noise at levels t, as `alpha` that of the data: sqrt(1 - alpha_bar_t)."""
        return (-torch.expm1(self._log_alpha_bar(t))).sqrt()

    def _log_alpha_bar(self, t):
        table = self.alpha_bar.to(t.device).log()  # (T+1,)
        below = t.floor().long()
        above = (below + 1).clamp(max=self.T)
        return table[below] + (t - below) * (table[above] - table[below])

    def to(self, device):
        """Move the tables to `device` and return this schedule."""
        self.beta, self.alpha_bar = self.beta.to(device), self.alpha_bar.to(device)
        return self

    def __repr__(self):
        return f"NoiseSchedule(T={self.T}, alpha_bar[T]={self.alpha_bar[-1].item():.3g})"


def checked_betas(betas):
    """`betas` as a (T,) float64 tensor, or a ValueError that says what is wrong with them."""
    betas = torch.as_tensor(betas, dtype=torch.float64)
    if betas.ndim != 1 or len(betas) == 0:
        raise ValueError(f"betas must be a non-empty 1-D tensor, got shape {tuple(betas.shape)}")
    if not bool(((betas > 0) & (betas < 1)).all()):  # NaN fails this, too
        raise ValueError(f"betas must lie in (0, 1), got values from {betas.min():.3g} to {betas.max():.3g}")
    return betas


def per_sample(table, t, x):
    """Look up each sample's own level, shaped to broadcast against the batch.

    Args:
        table: (T+1,) tensor indexed by level, for instance `schedule.alpha_bar`; best on x's device already.
        t: (B,) long tensor of levels in 0..T.
        x: (B, ...) float tensor of 32 bits or more; only its shape, dtype and device are used.

    Returns:
        (B, 1, ..., 1) tensor `table[t]` in x's dtype and on its device.

    Raises:
        ValueError: if t is not a (B,) integer tensor, a level lies outside 0..T, or x has 16 bits: near level 0 an
            alpha_bar of so few bits is exactly 1, as if there were no noise. Networks may compute in 16 bits.
            On a GPU, levels outside 0..T end in PyTorch's own error instead: to look at them here, the program would
            have to wait for the device in every step.
    """
    T = len(table) - 1
    if not torch.is_tensor(t) or t.is_floating_point() or t.shape != x.shape[:1]:
        came = f"{t.dtype} of shape {tuple(t.shape)}" if torch.is_tensor(t) else repr(t)
        raise ValueError(f"t must hold one integer level per sample, shape ({len(x)},); got {came}")
    if t.device.type == "cpu" and t.numel() and not 0 <= int(t.min()) <= int(t.max()) <= T:
        raise ValueError(f"levels must lie in 0..{T}, got {int(t.min())}..{int(t.max())}")
    if x.is_floating_point() and torch.finfo(x.dtype).bits < 32:
        why = "in 16 bits alpha_bar is rounded to 1 near level 0, and 1 - alpha_bar to 0"
        raise ValueError(f"expected float32 or more, got {x.dtype}: {why}; give x.float()")
    t = t.to(x.device, torch.long)
    return expand_like(table.to(x.device).index_select(0, t), x)  # (B, 1, ..., 1); unlike table[t], refuses t < 0


def expand_like(values, x):
    """`values`, one per sample, shaped to broadcast against x (B, ...): (B, 1, ..., 1), in x's dtype, on its device.

    Raises:
        ValueError: if values is not (B,).
    """
    if values.shape != x.shape[:1]:
        raise ValueError(f"expected one value per sample, shape ({len(x)},), got {tuple(values.shape)}")
    return values.to(x).reshape(-1, *[1] * (x.ndim - 1))
