"""Forward process, posterior and loss against closed forms."""

import pytest
import torch

from minivdm.diffusion.forward_process import diffusion_loss, q_posterior, q_sample, to_x0
from minivdm.diffusion.mixtures import GaussianMixture, ideal_denoiser
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas, linear_betas


@pytest.fixture(params=[linear_betas, cosine_betas])
def schedule(request):
    return NoiseSchedule(request.param(100))


def test_one_jump_is_many_steps():
    schedule = NoiseSchedule(linear_betas(50))
    generator = torch.Generator().manual_seed(0)
    x = torch.full((200_000,), 1.5)
    for beta in schedule.beta[1:31]:
        x = (1 - beta).sqrt() * x + beta.sqrt() * torch.randn(x.shape, generator=generator)
    mean = schedule.alpha_bar[30].sqrt() * 1.5
    assert x.mean().item() == pytest.approx(mean.item(), abs=0.01)
    assert x.var().item() == pytest.approx(1 - schedule.alpha_bar[30].item(), abs=0.01)


def test_to_x0_undoes_q_sample(schedule):
    x0, noise = torch.randn(100, 3, 4, 4), torch.randn(100, 3, 4, 4)
    t = torch.arange(0, 100)
    x_t = q_sample(x0, t, noise, schedule)
    loose = schedule.alpha_bar[t].rsqrt().reshape(-1, 1, 1, 1) * 1e-5
    assert ((to_x0(x_t, t, noise, schedule) - x0).abs() <= 1e-5 + loose).all()


def test_posterior_by_regression(schedule):
    """Draw (x_s, x_t) jointly for a known x_0; regress x_s on x_t. No formula of the posterior is used."""
    generator = torch.Generator().manual_seed(0)
    n, x0, s, t = 400_000, 0.7, 20, 35
    ab_s, ab_t = schedule.alpha_bar[s].double(), schedule.alpha_bar[t].double()
    x_s = ab_s.sqrt() * x0 + (1 - ab_s).sqrt() * torch.randn(n, generator=generator, dtype=torch.float64)
    a = ab_t / ab_s
    x_t = a.sqrt() * x_s + (1 - a).sqrt() * torch.randn(n, generator=generator, dtype=torch.float64)
    slope = torch.cov(torch.stack([x_s, x_t]))[0, 1] / x_t.var()
    at = 0.3
    mean = x_s.mean() + slope * (at - x_t.mean())
    variance = x_s.var() - slope**2 * x_t.var()
    got_mean, got_variance = q_posterior(
        torch.tensor([[x0]]), torch.tensor([[at]]), torch.tensor([t]), torch.tensor([s]), schedule
    )
    assert got_mean.item() == pytest.approx(mean.item(), abs=5e-3)
    assert got_variance.item() == pytest.approx(variance.item(), rel=2e-2)


def test_posterior_at_level_0(schedule):
    x0, x_t = torch.randn(5, 2), torch.randn(5, 2)
    t = torch.tensor([1, 2, 50, 99, 100])
    mean, variance = q_posterior(x0, x_t, t, torch.zeros_like(t), schedule)
    assert torch.equal(variance, torch.zeros(5, 1))
    assert torch.allclose(mean, x0, atol=1e-6)


def test_the_ideal_denoiser_has_the_least_loss():
    schedule = NoiseSchedule(linear_betas(100))
    mixture = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), 0.3)
    x0 = mixture.sample(20_000, torch.Generator().manual_seed(0))
    ideal = ideal_denoiser(mixture, schedule)

    def loss(model):
        return diffusion_loss(model, x0, schedule, generator=torch.Generator().manual_seed(1)).item()

    best = loss(ideal)
    assert best < loss(lambda x, t, cond=None: 1.05 * ideal(x, t))
    assert best < loss(lambda x, t, cond=None: ideal(x, t) + 0.05)
    assert best < loss(lambda x, t, cond=None: ideal(x, (t + 2).clamp(max=100)))


def test_loss_draws_every_level_and_passes_the_condition():
    schedule, seen = NoiseSchedule(linear_betas(25)), []

    def model(x, t, cond):
        seen.append((t, cond))
        return torch.zeros_like(x)

    loss = diffusion_loss(model, torch.zeros(5000, 1), schedule, cond="label")
    ((t, cond),) = seen
    assert set(t.tolist()) == set(range(1, 26)) and cond == "label"
    assert loss.item() == pytest.approx(1, abs=0.1)  # the mean square of standard normal noise
