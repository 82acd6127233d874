"""The closed-form denoiser against brute-force averages."""

import math

import pytest
import torch

from minivdm.diffusion.mixtures import GaussianMixture, ideal_denoiser, ring_mixture, spiral_mixture
from minivdm.diffusion.schedules import NoiseSchedule, linear_betas


def test_denoise_is_the_average_of_what_could_have_been():
    """E[x_0 | x_t] by numerical integration on a grid, for data in one dimension."""
    mixture = GaussianMixture(torch.tensor([[-1.0], [0.5]]), torch.tensor([0.2, 0.4]), torch.tensor([1.0, 3.0]))
    grid = torch.linspace(-4, 4, 40_001, dtype=torch.float64)
    density = sum(w / 4 * torch.exp(-((grid - m) ** 2) / (2 * s**2)) / s for m, s, w in [(-1, 0.2, 1), (0.5, 0.4, 3)])
    for ab in (0.999, 0.6, 0.05):
        x_t = torch.tensor([[-0.9], [0.1], [1.2]])
        likelihood = torch.exp(-((x_t - math.sqrt(ab) * grid) ** 2) / (2 * (1 - ab)))
        joint = likelihood * density
        want = (joint * grid).sum(1) / joint.sum(1)
        assert torch.allclose(mixture.denoise(x_t, ab).flatten().double(), want, atol=1e-4)


def test_log_prob_integrates_to_one():
    axis = torch.linspace(-4, 4, 401)
    points = torch.cartesian_prod(axis, axis)
    for mixture in (ring_mixture(), spiral_mixture(k=20, std=0.1)):
        for ab in (1.0, 0.5):
            total = mixture.log_prob(points, ab).exp().sum() * (axis[1] - axis[0]) ** 2
            assert abs(total.item() - 1) < 1e-3


def test_samples_have_the_moments():
    mixture = GaussianMixture(torch.tensor([[0.0, 0.0], [2.0, -2.0]]), 0.5, torch.tensor([3.0, 1.0]))
    x = mixture.sample(200_000, torch.Generator().manual_seed(0))
    assert torch.allclose(x.mean(0), torch.tensor([0.5, -0.5]), atol=0.01)
    assert torch.allclose(x.var(0), torch.full((2,), 0.25 + 0.75), atol=0.02)


def test_images_work_too():
    images = torch.randn(10, 1, 8, 8)
    memory = GaussianMixture(images, 0.0)
    assert torch.allclose(memory.denoise(images, 0.9999), images, atol=1e-3)


def test_score_is_the_gradient_of_log_prob():
    means = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mixture = GaussianMixture(means, torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]).double(), torch.arange(1.0, 6.0).double())
    for ab in (1.0, 0.7, 0.01, torch.tensor([1.0, 0.9, 0.5, 0.1])):
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
        want = torch.autograd.grad(mixture.log_prob(x, ab).sum(), x)[0]
        assert torch.allclose(mixture.score(x, ab), want, rtol=1e-6, atol=1e-6)


def test_score_and_best_guess_say_the_same():
    """Tweedie's formula: sqrt(ab) E[x_0 | x_t] = x_t + (1 - ab) score; for images, too."""
    memory = GaussianMixture(torch.randn(6, 1, 4, 4), 0.3)
    x = torch.randn(7, 1, 4, 4)
    for ab in (0.9, 0.3):
        want = math.sqrt(ab) * memory.denoise(x, ab)
        assert torch.allclose(x + (1 - ab) * memory.score(x, ab), want, atol=1e-5)


def test_at_level_0_there_is_no_noise_to_find():
    schedule = NoiseSchedule(linear_betas(50))
    model = ideal_denoiser(ring_mixture(), schedule)
    for level in (0, 51, -1):
        with pytest.raises(ValueError, match=r"levels must lie in 1\.\.50"):
            model(torch.zeros(2, 2), torch.tensor([3, level]))
    with torch.inference_mode():
        assert model(torch.zeros(2, 2), torch.tensor([1, 50])).isfinite().all()


@pytest.mark.parametrize("alpha_bar", [1e-37, 1e-42, 0.0])
def test_of_nearly_pure_noise_the_best_guess_is_the_mean(alpha_bar):
    mixture = GaussianMixture(torch.tensor([[1.0, 2.0], [3.0, -2.0]]), 0.1, torch.tensor([3.0, 1.0]))
    x = 3 * torch.randn(20, 2)
    assert torch.allclose(mixture.denoise(x, alpha_bar), torch.tensor([[1.5, 1.0]]), atol=1e-5)
    assert torch.allclose(mixture.score(x, alpha_bar), -x, atol=1e-5)
    want = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
    assert torch.allclose(mixture.log_prob(x, alpha_bar), want, atol=1e-5)


@pytest.mark.parametrize(
    "means, std, weights",
    [
        (torch.ones(2, 2), -0.1, None),
        (torch.ones(2, 2), float("nan"), None),
        (torch.ones(2, 2), 0.1, torch.tensor([1.0, -0.5])),
        (torch.ones(2, 2), 0.1, torch.tensor([1.0, float("nan")])),
        (torch.ones(2, 2).long(), 0.1, None),
    ],
)
def test_what_is_no_mixture(means, std, weights):
    with pytest.raises(ValueError, match="expected"):
        GaussianMixture(means, std, weights)


@pytest.mark.parametrize("ask", ["score", "denoise", "log_prob"])
@pytest.mark.parametrize(
    ("std", "x", "alpha_bar", "message"),
    [
        (0.1, torch.zeros(4, 2), 1.5, "must lie in 0..1"),
        (0.1, torch.zeros(4, 2), -0.5, "must lie in 0..1"),
        (0.1, torch.zeros(4, 2), float("nan"), "must lie in 0..1"),
        (0.0, torch.zeros(4, 2), 1.0, "below 1 if std is 0"),
        (0.1, torch.zeros(4, 2, dtype=torch.long), 0.5, "expected float32 or more"),  # 0.5 as a whole number is 0
    ],
)
def test_what_a_mixture_cannot_be_asked(ask, std, x, alpha_bar, message):
    with pytest.raises(ValueError, match=message):
        getattr(GaussianMixture(torch.randn(3, 2), std), ask)(x, alpha_bar)
