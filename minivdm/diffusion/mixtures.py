r"""Data whose perfect denoiser is known: mixtures of Gaussians.

For a mixture with weights w_k, means mu_k and one standard deviation sigma_k a component, the noisy data is a mixture,
too, and the best guess of the clean data is a weighted mean over the components:

    x_t | k ~ N( sqrt(ab) mu_k, v_k I ),     v_k = ab sigma_k^2 + 1 - ab,      r_k = p(k | x_t)
    E[x_0 | x_t] = sum_k r_k ( mu_k + sqrt(ab) sigma_k^2 / v_k (x_t - sqrt(ab) mu_k) )
    score = grad log p(x_t) = sum_k r_k ( sqrt(ab) mu_k - x_t ) / v_k

So samplers can be tested with no network and no training error. With sigma = 0 and one component a training image, it
is the denoiser that minimises the training loss exactly.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .predictions import to_eps
from .schedules import NoiseSchedule, per_sample, require_floats, require_levels, require_schedule


class GaussianMixture:
    """A mixture of isotropic Gaussians over data of any shape.

    Args:
        means: (K, ...) tensor.
        std: standard deviation(s), a float or a (K,) tensor, >= 0.
        weights: (K,) tensor, positive; equal by default. They are normalised.

    Where alpha_bar is asked for, it lies in 0..1; with std = 0 it is below 1, since a point has no density.

    Raises:
        ValueError: if means or data are no floats, or a standard deviation, a weight or an alpha_bar is not as above
            (on a GPU, where looking would wait for the device, such an alpha_bar gives NaN).
    """

    def __init__(self, means: Tensor, std: float | Tensor, weights: Tensor | None = None):
        require_floats(means)
        self.means = means
        self.std = torch.as_tensor(std, dtype=means.dtype, device=means.device).expand(len(means))  # (K,)
        weights = means.new_ones(len(means)) if weights is None else weights
        if not (self.std >= 0).all() or not ((weights > 0) & weights.isfinite()).all():  # NaN fails these, too
            raise ValueError("expected standard deviations of 0 or more and positive weights")
        self.log_weights = (weights / weights.sum()).log()  # (K,)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n points, (n, ...), with a `generator` on the means' device."""
        k = torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)  # (n,)
        noise = torch.randn(n, *self.means.shape[1:], generator=generator, device=self.means.device)
        return self.means[k] + per_sample(self.std, k, noise) * noise

    def log_prob(self, x_t: Tensor, alpha_bar: float | Tensor = 1.0) -> Tensor:
        """log p(x_t) in nats, (B,), where alpha_bar (a float or (B,)) says how noisy x_t is; 1 means clean."""
        return self._log_joint(x_t, self._column(x_t, alpha_bar)).logsumexp(dim=1)

    def denoise(self, x_t: Tensor, alpha_bar: float | Tensor) -> Tensor:
        """E[x_0 | x_t], like x_t, for noisy data (B, ...) and its alpha_bar, a float or (B,)."""
        ab = self._column(x_t, alpha_bar)  # (B, 1)
        responsibility = self._log_joint(x_t, ab).softmax(dim=1)  # (B, K)
        gain = ab.sqrt() * self.std**2 / (ab * self.std**2 + 1 - ab)  # (B, K)
        kept = (responsibility * gain).sum(dim=1, keepdim=True)  # (B, 1)
        pulled = (responsibility * (1 - gain * ab.sqrt())) @ self.means.flatten(1)  # (B, D)
        return (kept * x_t.flatten(1) + pulled).reshape(x_t.shape)

    def score(self, x_t: Tensor, alpha_bar: float | Tensor) -> Tensor:
        """grad log p(x_t), like x_t, for data (B, ...) and its alpha_bar, a float or (B,); 1 means clean."""
        ab = self._column(x_t, alpha_bar)  # (B, 1)
        pull = self._log_joint(x_t, ab).softmax(dim=1) / (ab * self.std**2 + 1 - ab)  # (B, K) r_k / v_k
        towards = ab.sqrt() * (pull @ self.means.flatten(1)) - pull.sum(dim=1, keepdim=True) * x_t.flatten(1)  # (B, D)
        return towards.reshape(x_t.shape)

    def _log_joint(self, x_t: Tensor, ab: Tensor) -> Tensor:
        """log p(x_t, k), (B, K)."""
        x, mu = x_t.flatten(1), self.means.flatten(1)  # (B, D), (K, D)
        variance = ab * self.std**2 + 1 - ab  # (B, K)
        keep = ab.sqrt().clamp(min=1e-12)  # below, keep mu is lost beside x, and (x / keep)^2 might overflow
        distance = torch.cdist(x / keep, mu, compute_mode="donot_use_mm_for_euclid_dist") ** 2 * keep**2  # (B, K)
        return self.log_weights - distance / (2 * variance) - x.shape[1] / 2 * (2 * math.pi * variance).log()

    def _column(self, x_t: Tensor, alpha_bar: float | Tensor) -> Tensor:
        """alpha_bar, checked, as a column (B, 1)."""
        require_floats(x_t)
        ab = torch.as_tensor(alpha_bar, dtype=x_t.dtype, device=x_t.device).expand(len(x_t))[:, None]  # (B, 1)
        in_range = (ab >= 0) & (ab * self.std**2 + 1 - ab > 0) & (ab <= 1)  # (B, K); NaN fails this, too
        if ab.device.type == "cpu" and not in_range.all():
            raise ValueError(f"alpha_bar must lie in 0..1, and below 1 if std is 0; got {alpha_bar}")
        return ab


def ideal_denoiser(mixture: GaussianMixture, schedule: NoiseSchedule) -> Callable:
    """The perfect `model(x_t, t, cond)` for this data: eps = (x_t - sqrt(ab) E[x_0 | x_t]) / sqrt(1 - ab).

    It knows levels 1..T; at level 0, where there is no noise to find, it raises a ValueError (on a GPU, where looking
    would wait for the device, eps is infinite or NaN there).
    """
    require_schedule(schedule)

    def model(x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        require_levels(t, 1, schedule.T)
        ab = per_sample(schedule.alpha_bar, t, x_t)  # (B, 1, ..., 1)
        x0 = mixture.denoise(x_t, ab.flatten())
        return to_eps(x_t, t, x0, schedule)

    return model


def ring_mixture(k: int = 8, radius: float = 1.0, std: float = 0.08) -> GaussianMixture:
    """k equal Gaussians on a circle, the usual first test for a generative model; points are (n, 2)."""
    angle = torch.arange(k) * 2 * math.pi / k
    return GaussianMixture(radius * torch.stack([angle.cos(), angle.sin()], dim=1), std)


def spiral_mixture(k: int = 150, turns: float = 2.0, std: float = 0.025) -> GaussianMixture:
    """A spiral drawn with k small Gaussians: a curve that no single Gaussian resembles; points are (n, 2)."""
    u = torch.linspace(0.12, 1, k)
    angle = 2 * math.pi * turns * u
    return GaussianMixture(1.25 * u[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1), std)
