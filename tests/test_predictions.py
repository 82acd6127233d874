"""Noise, clean data, velocity and score: against automatic differentiation, finite differences and each other."""

import pytest
import torch

from minivdm.diffusion.forward_process import diffusion_loss, q_sample, to_x0
from minivdm.diffusion.mixtures import GaussianMixture, ideal_denoiser, ring_mixture
from minivdm.diffusion.predictions import EpsModel, from_v, prediction_loss, to_eps, to_score, to_v
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas, linear_betas


@pytest.fixture(params=[linear_betas, cosine_betas])
def schedule(request):
    return NoiseSchedule(request.param(1000))


def noisy(schedule, seed=0):
    """Clean data, noise and noisy data at all levels, float64."""
    generator = torch.Generator().manual_seed(seed)
    x0, eps = torch.randn(2, schedule.T, 6, generator=generator, dtype=torch.float64)
    t = torch.arange(1, schedule.T + 1)
    return x0, eps, t, q_sample(x0, t, eps, schedule)


def test_round_trips_at_every_level(schedule):
    x0, eps, t, x_t = noisy(schedule)
    back = from_v(x_t, t, to_v(x0, t, eps, schedule), schedule)
    assert torch.allclose(back[0], x0, atol=1e-12) and torch.allclose(back[1], eps, atol=1e-12)
    assert torch.allclose(to_eps(x_t, t, x0, schedule), eps, atol=1e-9)
    assert torch.allclose(to_eps(x_t, t, to_x0(x_t, t, eps, schedule), schedule), eps, atol=1e-9)


def test_v_is_the_speed_on_the_arc(schedule):
    """Finite differences of cos(a) x_0 + sin(a) eps by the angle a; and v is at a right angle in (x_0, eps)."""
    x0, eps, t, x_t = noisy(schedule)
    angle, h = schedule.alpha_bar.double()[t].sqrt().acos()[:, None], 1e-6
    rise = (angle + h).cos() * x0 + (angle + h).sin() * eps - (angle - h).cos() * x0 - (angle - h).sin() * eps
    v = to_v(x0, t, eps, schedule)
    assert torch.allclose(rise / (2 * h), v, atol=1e-6)
    assert torch.allclose(x_t**2 + v**2, x0**2 + eps**2)


def test_the_score_is_the_gradient_of_the_noisy_density(schedule):
    ring = ring_mixture(std=0.1)
    ring = GaussianMixture(ring.means.double(), 0.1)
    for level in (1, 50, 400, 999):
        ab = schedule.alpha_bar[level].double()
        x = (ab.sqrt() * ring.sample(20) + (1 - ab).sqrt() * torch.randn(20, 2)).requires_grad_()
        want = torch.autograd.grad(ring.log_prob(x, ab).sum(), x)[0]
        t = torch.full((20,), level)
        assert torch.allclose(to_score(ideal_denoiser(ring, schedule)(x, t), t, schedule), want, atol=1e-6, rtol=1e-6)


def test_an_error_in_v_never_grows(schedule):
    x0, eps, t, x_t = noisy(schedule)
    off = 0.01 * torch.ones_like(x0)
    for got, want in zip(from_v(x_t, t, to_v(x0, t, eps, schedule) + off, schedule), (x0, eps)):
        assert (got - want).abs().max() <= 0.01 + 1e-12
    in_x0 = (to_x0(x_t, t, eps + off, schedule) - x0).abs()
    in_eps = (to_eps(x_t, t, x0 + off, schedule) - eps).abs()
    assert in_x0[-1].max() > 1 and in_eps[0].max() > 0.5  # a hundredfold at the two ends


@pytest.mark.parametrize("prediction_type", ["eps", "x0", "v", "score"])
def test_eps_model_undresses_any_prediction(schedule, prediction_type):
    x0, eps, t, x_t = noisy(schedule)
    answers = {"eps": eps, "x0": x0, "v": to_v(x0, t, eps, schedule), "score": to_score(eps, t, schedule)}
    model = EpsModel(
        lambda x, t, cond: answers[prediction_type] if cond == "label" else None, prediction_type, schedule
    )
    assert torch.allclose(model(x_t, t, "label"), eps, atol=1e-9)


def test_prediction_loss_of_noise_is_the_simple_loss(schedule):
    x0 = torch.randn(50, 1, 4, 4)

    def net(x, t, cond):
        return 0.3 * x

    def seeded():
        return torch.Generator().manual_seed(1)

    simple = diffusion_loss(net, x0, schedule, generator=seeded())
    assert torch.equal(prediction_loss(net, x0, schedule, generator=seeded(), prediction_type="eps"), simple)


def test_the_weights_of_the_targets(schedule):
    """The same estimate in three clothes: the squared errors are SNR : 1 : SNR + 1."""
    x0, eps, t, x_t = noisy(schedule)
    guess = x0 + 0.1 * torch.randn_like(x0)
    its_eps = to_eps(x_t, t, guess, schedule)
    ab = schedule.alpha_bar.double()[t][:, None]
    snr, square = ab / (1 - ab), (guess - x0).square()
    assert torch.allclose((its_eps - eps).square(), snr * square, rtol=1e-5)
    v_error = to_v(guess, t, its_eps, schedule) - to_v(x0, t, eps, schedule)
    assert torch.allclose(v_error.square(), (snr + 1) * square, rtol=1e-5)


def test_bad_input():
    schedule = NoiseSchedule(linear_betas(30))
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="prediction_type must be one of eps, x0, v, score; got 'noise'"):
        EpsModel(None, "noise", schedule)
    with pytest.raises(ValueError, match='prediction_type must be "eps", "x0" or "v", got \'score\''):
        prediction_loss(None, x, schedule, prediction_type="score")
    for call in (
        lambda t: to_eps(x, t, x, schedule),
        lambda t: to_v(x, t, x, schedule),
        lambda t: from_v(x, t, x, schedule),
        lambda t: to_score(x, t, schedule),
    ):
        with pytest.raises(ValueError, match="levels must lie in 0..30, got 31..31"):
            call(torch.tensor([31, 31]))
        with pytest.raises(ValueError, match=r"shape \(2,\); got torch.float32"):
            call(torch.ones(2))
