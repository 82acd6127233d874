"""The tables of the forward process against figures computed with exact fractions or by hand."""

from fractions import Fraction

import pytest
import torch

from minivdm.diffusion.extension import ReconstructionGuidance
from minivdm.diffusion.forward_process import diffusion_loss, perturb, q_sample, to_x0
from minivdm.diffusion.mixtures import ideal_denoiser, ring_mixture
from minivdm.diffusion.predictions import EpsModel, prediction_loss
from minivdm.diffusion.samplers import ddim_invert, ddim_sample, ddpm_sample
from minivdm.diffusion.schedules import (
    NoiseSchedule,
    cosine_betas,
    expand_like,
    linear_betas,
    per_sample,
    shifted_betas,
)
from minivdm.diffusion.sde import VPSDE, score_from_eps


def test_known_ends():
    assert NoiseSchedule(linear_betas(1000)).alpha_bar[-1].item() == pytest.approx(4.04e-5, rel=2e-3)
    assert NoiseSchedule(cosine_betas(1000)).alpha_bar[-1].item() == pytest.approx(2.43e-9, rel=1e-2)


@pytest.mark.parametrize("betas", [linear_betas, cosine_betas])
@pytest.mark.parametrize("T", [21, 50, 1000])
def test_tables(betas, T):
    betas = betas(T)
    schedule = NoiseSchedule(betas)
    assert betas.dtype == torch.float64 and betas.shape == (T,)
    assert schedule.T == T and schedule.alpha_bar.shape == schedule.beta.shape == (T + 1,)
    assert schedule.alpha_bar[0] == 1 and schedule.beta[0] == 0
    assert schedule.alpha_bar.dtype == torch.float32
    assert (schedule.alpha_bar.diff() < 0).all() and schedule.alpha_bar[-1] > 0
    product = Fraction(1)
    for beta in betas.tolist():
        product *= 1 - Fraction(beta)
    assert schedule.alpha_bar[-1].item() == pytest.approx(float(product), rel=1e-6)


@pytest.mark.parametrize("betas", [linear_betas(50), cosine_betas(200), [0.5, 0.25, 0.9]])
@pytest.mark.parametrize("factor", [0.5, 1, 2, 4.0])
def test_shifted_schedules_have_so_many_times_the_noise(betas, factor):
    shifted, kept, betas = Fraction(1), Fraction(1), torch.as_tensor(betas, dtype=torch.float64)
    moved = shifted_betas(betas, factor)
    assert moved.dtype == torch.float64 and moved.shape == betas.shape and ((moved > 0) & (moved < 1)).all()
    for old, new in zip(betas.tolist(), moved.tolist()):
        kept, shifted = kept * (1 - Fraction(old)), shifted * (1 - Fraction(new))
        assert float((1 - shifted) / shifted) == pytest.approx(float((1 - kept) / kept) * factor**2, rel=1e-6)


@pytest.mark.parametrize("factor", [0, -1, float("nan"), float("inf")])
def test_bad_factors(factor):
    with pytest.raises(ValueError, match=f"factor must be a positive number, got {factor}"):
        shifted_betas(cosine_betas(10), factor)


@pytest.mark.parametrize("T", [2, 10, 20])
def test_too_few_levels_are_refused(T):
    with pytest.raises(ValueError, match=r"betas must lie in \(0, 1\)"):
        linear_betas(T)


@pytest.mark.parametrize(
    "betas, message",
    [
        ([], "non-empty 1-D"),
        ([[0.1, 0.2]], "got shape (1, 2)"),
        ([0.1, 1.0], "from 0.1 to 1"),
        ([0.0, 0.1], "from 0 to 0.1"),
        ([0.1, float("nan")], "must lie in (0, 1)"),
        (torch.tensor([0, 1]), "from 0 to 1"),
        (1000, "got shape ()"),
        ("cosine", "got str 'cosine'"),
        (None, "got NoneType None"),
        (NoiseSchedule([0.1, 0.2]), "got NoiseSchedule NoiseSchedule(T=2"),
        (torch.full((1000,), 0.2), " at level 392, after 1.2"),
        (torch.full((1000,), 2e-8), "it is 1 at level 1, after 1"),
        ([0.1, 1e-9, 0.1], "it is 0.899999976 at level 2, after 0.899999976"),
        ([1 - 1e-10] * 5, "it is 9.99"),
        (linear_betas(1000, 1e-9, 0.02), "it is 1 at level 1"),
        (shifted_betas(cosine_betas(1000), 1e-4), "it is 1 at level 1"),
        (shifted_betas(cosine_betas(1000), 1e16), "from 0"),
    ],
)
def test_bad_betas(betas, message):
    with pytest.raises(ValueError) as error:
        NoiseSchedule(betas)
    assert message in str(error.value)


def test_per_sample_shapes():
    table = torch.arange(5.0)
    t = torch.tensor([0, 4, 2])
    for shape in [(3,), (3, 2), (3, 1, 8, 8), (3, 3, 4, 8, 8)]:
        picked = per_sample(table, t, torch.zeros(shape, dtype=torch.float64))
        assert picked.shape == (3, *[1] * (len(shape) - 1)) and picked.dtype == torch.float64
        assert picked.flatten().tolist() == [0, 4, 2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits_are_too_few_for_a_level(dtype):
    """The first level of the linear schedule leaves 0.9999 of the variance: in 16 bits that would be 1, no noise."""
    schedule, t = NoiseSchedule(linear_betas(1000)), torch.ones(2, dtype=torch.long)
    x = torch.randn(2, 3)
    assert schedule.alpha_bar[1] < 1 and schedule.alpha_bar[1].to(dtype) == 1
    assert (q_sample(0 * x, t, x, schedule) / x).allclose(torch.tensor(0.01), rtol=1e-3)
    for call in (
        lambda x: q_sample(x, t, x, schedule),
        lambda x: to_x0(x, t, x, schedule),
        lambda x: ddim_sample(lambda x, t, cond: x, x, schedule, [1000, 1, 0]),
    ):
        with pytest.raises(ValueError, match=f"expected float32 or more, got {dtype}: .* give x.float"):
            call(x.to(dtype))


@pytest.mark.parametrize(
    "t, message",
    [
        (torch.tensor([0, 5, 1]), "levels must lie in 0..4, got 0..5"),
        (torch.tensor([-1, 0, 1]), "got -1..1"),
        (torch.tensor([0, 1]), "shape (3,)"),
        (torch.tensor([0.0, 1.0, 2.0]), "got torch.float32"),
        (3, "got 3"),
    ],
)
def test_bad_levels(t, message):
    with pytest.raises(ValueError) as error:
        per_sample(torch.arange(5.0), t, torch.zeros(3, 2))
    assert message in str(error.value)


def test_alpha_and_sigma_at_whole_levels_are_the_table():
    schedule = NoiseSchedule(linear_betas(50))
    t = torch.arange(51)
    for levels in (t, t.float()):
        assert torch.allclose(schedule.alpha(levels), schedule.alpha_bar.sqrt(), rtol=1e-6)
        assert torch.allclose(schedule.sigma(levels), (1 - schedule.alpha_bar).sqrt(), rtol=1e-5)
    assert schedule.alpha(t[:1]).item() == 1 and schedule.sigma(t[:1]).item() == 0


def test_between_two_levels_noise_comes_in_evenly():
    """The signal-to-noise ratio falls all the way, and half a step twice is a whole one."""
    schedule = NoiseSchedule(cosine_betas(20))
    t = torch.linspace(0, 20, 401)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    assert (
        torch.allclose(alpha**2 + sigma**2, torch.ones(401)) and (alpha.diff() < 0).all() and (sigma.diff() > 0).all()
    )
    halves = schedule.alpha(torch.arange(20) + 0.5)
    assert torch.allclose(halves**2, schedule.alpha(torch.arange(20)) * schedule.alpha(torch.arange(1, 21)), rtol=1e-5)


def test_perturb_is_q_sample_for_a_table_and_the_transition_of_an_sde():
    schedule, x0, noise = NoiseSchedule(linear_betas(1000)), torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    t = torch.tensor([0, 1, 500, 1000])
    assert torch.allclose(perturb(x0, t, noise, schedule), q_sample(x0, t, noise, schedule), atol=1e-6)
    far = perturb(x0, t / 1000, noise, VPSDE())
    assert torch.allclose(far, q_sample(x0, t, noise, schedule), atol=0.02)  # the table is the SDE in 1,000 steps
    assert torch.equal(far[0], x0[0])


def test_expand_like_refuses_what_is_not_one_value_per_sample():
    assert expand_like(torch.ones(2), torch.zeros(2, 3, 4)).shape == (2, 1, 1)
    with pytest.raises(ValueError, match=r"expected one value per sample, shape \(2,\), got \(3,\)"):
        expand_like(torch.ones(3), torch.zeros(2, 3, 4))


@pytest.mark.parametrize("betas", [[1e-7] * 4, [1 - 1e-9] * 4, [1e-3, 0.5, 1 - 1e-12]])
def test_extreme_betas_that_float32_can_hold_are_accepted(betas):
    table = NoiseSchedule(betas).alpha_bar
    assert (table.diff() < 0).all() and table[0] == 1 and table[-1] > 0


@pytest.mark.parametrize("t", [-1.0, 50.5, float("nan")])
def test_alpha_and_sigma_know_no_other_levels(t):
    schedule = NoiseSchedule(linear_betas(50))
    for call in (schedule.alpha, schedule.sigma):
        with pytest.raises(ValueError, match=r"levels must lie in 0\.\.50"):
            call(torch.tensor([3.0, t]))


@pytest.mark.parametrize("given", [linear_betas(30), 10, None])
def test_betas_are_no_schedule(given):
    x, t = torch.zeros(2, 3), torch.ones(2).long()
    eps, mixture = (lambda x, t, cond: x), ring_mixture()
    for call in (
        lambda: ddim_sample(eps, x, given),
        lambda: ddpm_sample(eps, x, given, [3, 0]),
        lambda: ddim_invert(eps, x, given),
        lambda: diffusion_loss(eps, x, given),
        lambda: prediction_loss(eps, x, given),
        lambda: perturb(x, t, x, given),
        lambda: EpsModel(eps, "v", given),
        lambda: ideal_denoiser(mixture, given),
        lambda: score_from_eps(eps, given),
        lambda: ReconstructionGuidance(eps, given, x, 1.0),
    ):
        with pytest.raises(ValueError, match=r"expected a schedule, such as NoiseSchedule\(betas\), got"):
            call()


@pytest.mark.parametrize("t", [-0.1, 1.1, 500.0, float("nan")])
def test_an_sde_knows_no_times_but_0_to_1(t):
    sde, t = VPSDE(), torch.tensor([0.5, t])
    for ask in (sde.alpha, sde.sigma, lambda t: perturb(torch.zeros(2, 3), t, torch.ones(2, 3), sde)):
        with pytest.raises(ValueError, match=r"must lie in 0\.\.1"):
            ask(t)


def test_bools_are_no_levels():
    with pytest.raises(ValueError, match="one integer level per sample"):
        per_sample(torch.ones(11), torch.tensor([True, False]), torch.zeros(2, 3))


@pytest.mark.parametrize("loss", [diffusion_loss, prediction_loss])
@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_an_empty_batch_has_no_loss(loss, shape):
    with pytest.raises(ValueError, match="empty tensor of shape"):
        loss(lambda x, t, cond: x, torch.zeros(shape), NoiseSchedule(linear_betas(100)))
