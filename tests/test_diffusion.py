"""Forward process, posterior and loss against closed forms."""

from itertools import product

import pytest
import torch

from minivdm.diffusion.bridge import ddib
from minivdm.diffusion.extension import ReconstructionGuidance
from minivdm.diffusion.forward_process import diffusion_loss, perturb, q_posterior, q_sample, to_x0
from minivdm.diffusion.guidance import ClassifierFreeGuidance, drop_condition, null_text_inversion
from minivdm.diffusion.mixtures import GaussianMixture, ideal_denoiser
from minivdm.diffusion.predictions import EpsModel, from_v, prediction_loss, to_eps, to_score, to_v
from minivdm.diffusion.samplers import ddim_invert, ddim_sample, ddim_step, ddpm_sample, ddpm_step
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas, linear_betas
from minivdm.diffusion.sde import VPSDE, ode_log_likelihood, probability_flow_ode, reverse_sde_sample


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


SCHEDULE, LEVEL, HALF = NoiseSchedule(linear_betas(100)), torch.tensor([3, 60]), torch.tensor([0.3, 0.6])


def zeros(x, t, cond=None):
    return torch.zeros_like(x)


TAKES_DATA = {  # each called with pictures, or what stands for them
    "q_sample": lambda x: q_sample(x, LEVEL, torch.randn(x.shape), SCHEDULE),
    "perturb": lambda x: perturb(x, LEVEL, torch.randn(x.shape), SCHEDULE),
    "perturb by an SDE": lambda x: perturb(x, HALF, torch.randn(x.shape), VPSDE()),
    "to_x0": lambda x: to_x0(x, LEVEL, torch.randn(x.shape), SCHEDULE),
    "q_posterior": lambda x: q_posterior(x, x, LEVEL, LEVEL - 1, SCHEDULE),
    "diffusion_loss": lambda x: diffusion_loss(zeros, x, SCHEDULE),
    "prediction_loss": lambda x: prediction_loss(zeros, x, SCHEDULE),
    "to_eps": lambda x: to_eps(x, LEVEL, torch.randn(x.shape), SCHEDULE),
    "to_v": lambda x: to_v(x, LEVEL, torch.randn(x.shape), SCHEDULE),
    "from_v": lambda x: from_v(x, LEVEL, torch.randn(x.shape), SCHEDULE),
    "to_score": lambda x: to_score(x, LEVEL, SCHEDULE),
    "EpsModel": lambda x: EpsModel(zeros, "v", SCHEDULE)(x, LEVEL),
    "ddpm_step": lambda x: ddpm_step(x, x, LEVEL, LEVEL - 1, torch.randn(x.shape), SCHEDULE),
    "ddim_step": lambda x: ddim_step(x, x, LEVEL, LEVEL - 1, torch.randn(x.shape), SCHEDULE),
    "ddpm_sample": lambda x: ddpm_sample(zeros, x, SCHEDULE, [50, 0]),
    "ddim_sample": lambda x: ddim_sample(zeros, x, SCHEDULE, [50, 0]),
    "ddim_invert": lambda x: ddim_invert(zeros, x, SCHEDULE, [50, 0]),
    "ddib": lambda x: ddib(x, zeros, zeros, SCHEDULE, [50, 0]),
    "reverse_sde_sample": lambda x: reverse_sde_sample(zeros, x, VPSDE(), [1, 0.5, 0.1]),
    "probability_flow_ode": lambda x: probability_flow_ode(zeros, x, VPSDE(), [1, 0.5, 0.1]),
    "ode_log_likelihood": lambda x: ode_log_likelihood(zeros, x, VPSDE(), [0.1, 0.5, 1]),
    "ReconstructionGuidance": lambda x: ReconstructionGuidance(zeros, SCHEDULE, x[..., None], 1.0),
    "null_text_inversion": lambda x: null_text_inversion(zeros, {9: x, 0: x}, x, torch.ones(3, 2), SCHEDULE),
}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", TAKES_DATA)
def test_whole_numbers_and_16_bits_are_refused_in_one_way(name, dtype):
    """In bytes, sqrt(alpha_bar) would be 0, and the answer nothing but noise."""
    with pytest.raises(ValueError, match=f"expected float32 or more, got {dtype}"):
        TAKES_DATA[name](torch.ones(2, 3, 4, 4).to(dtype))


X = torch.randn(2, 3, 4, 4)
ASKS_A_MODEL = {
    "diffusion_loss": lambda model: diffusion_loss(model, X, SCHEDULE),
    "prediction_loss": lambda model: prediction_loss(model, X, SCHEDULE),
    "EpsModel": lambda model: EpsModel(model, "eps", SCHEDULE)(X, LEVEL),
    "ddpm_sample": lambda model: ddpm_sample(model, X, SCHEDULE, [50, 0]),
    "ddim_sample": lambda model: ddim_sample(model, X, SCHEDULE, [50, 0]),
    "guided": lambda model: ddim_sample(
        ClassifierFreeGuidance(model, 2.0), X, SCHEDULE, [50, 0], torch.ones(2, 3)[:, :2].long()
    ),
    "ddim_invert": lambda model: ddim_invert(model, X, SCHEDULE, [50, 0]),
    "reverse_sde_sample": lambda model: reverse_sde_sample(model, X, VPSDE(), [1, 0.5, 0.1]),
    "probability_flow_ode": lambda model: probability_flow_ode(model, X, VPSDE(), [1, 0.5, 0.1]),
    "ode_log_likelihood": lambda model: ode_log_likelihood(model, X, VPSDE(), [0.1, 0.5, 1]),
    "ReconstructionGuidance": lambda model: ReconstructionGuidance(model, SCHEDULE, X[:, :, :2], 1.0)(X, LEVEL),
    "null_text_inversion": lambda model: null_text_inversion(model, {9: X, 0: X}, X, torch.ones(3, 2), SCHEDULE),
}


ANSWERS = {
    "B1": (lambda x: x[:, 0, 0, :1], r"\(2, 1\)"),
    "B111": (lambda x: x[:, :1, :1, :1], r"\(2, 1, 1, 1\)"),
    "float64": (lambda x: x.double(), "torch.float64"),
    "float16": (lambda x: x.half(), "torch.float16"),
    "fewer": (lambda x: x[:1], r"\(1, 3, 4, 4\)"),
    "tuple": (lambda x: (x, x), "got tuple"),
}
NO_ROWS_TO_HALVE = [("guided", "fewer"), ("guided", "tuple"), ("null_text_inversion", "tuple")]


@pytest.mark.parametrize("name, answer", [p for p in product(ASKS_A_MODEL, ANSWERS) if p not in NO_ROWS_TO_HALVE])
def test_an_estimate_of_another_shape_or_dtype_is_refused(name, answer):
    give, came = ANSWERS[answer]
    with pytest.raises(ValueError, match=rf"expected an estimate or noise like x, torch.float32 of shape .*{came}"):
        ASKS_A_MODEL[name](lambda x, t, cond=None: give(x))


def test_noise_is_not_stretched():
    for call in (q_sample, to_x0, to_eps, to_v, from_v):
        for other in (X[:, :1, :1, :1], X.double(), X[:1]):
            with pytest.raises(ValueError, match="expected an estimate or noise like x"):
                call(X, LEVEL, other, SCHEDULE)


CHANNELS_LAST = X.contiguous(memory_format=torch.channels_last)
DRAWS = {  # each called with a start and a generator
    "ddpm_sample": lambda x, g: ddpm_sample(zeros, x, SCHEDULE, [50, 20, 0], generator=g),
    "ddim_sample": lambda x, g: ddim_sample(zeros, x, SCHEDULE, [50, 20, 0], eta=0.7, generator=g),
    "reverse_sde_sample": lambda x, g: reverse_sde_sample(zeros, x, VPSDE(), [1, 0.5, 0.1], g),
    "diffusion_loss": lambda x, g: diffusion_loss(zeros, x, SCHEDULE, generator=g),
    "prediction_loss": lambda x, g: prediction_loss(zeros, x, SCHEDULE, generator=g),
    "drop_condition": lambda x, g: drop_condition((9 * x[..., 0, 0]).long(), 0.5, g),
    "mixture": lambda x, g: GaussianMixture(x, 0.3).sample(5, g),
}


@pytest.mark.parametrize("x", [CHANNELS_LAST, X.mT.contiguous().mT, X.repeat(1, 1, 1, 2)[..., ::2].clone()[:]])
@pytest.mark.parametrize("name", DRAWS)
def test_noise_does_not_depend_on_how_the_start_lies_in_memory(name, x):
    x = x.copy_(X)
    got, want = (DRAWS[name](start, torch.Generator().manual_seed(0)) for start in (x, X.clone()))
    assert torch.allclose(got, want, atol=1e-6)


def test_samplers_leave_levels_and_start_as_they_were():
    levels, times, x = [50, 20, 0], [1.0, 0.5, 0.1], X.clone()
    for sample in (ddpm_sample, ddim_sample, ddim_invert):
        sample(zeros, x, SCHEDULE, levels, clip_x0=True) if sample is not ddim_invert else sample(
            zeros, x, SCHEDULE, levels
        )
    for sample in (reverse_sde_sample, probability_flow_ode):
        sample(zeros, x, VPSDE(), times)
    ode_log_likelihood(zeros, x, VPSDE(), times[::-1])
    assert levels == [50, 20, 0] and times == [1.0, 0.5, 0.1] and torch.equal(x, X) and not x.requires_grad
