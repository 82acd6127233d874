"""DDIM, its inversion and the bridge between two models, against data whose walks have a closed form."""

from itertools import pairwise

import pytest
import torch

from minivdm.diffusion.bridge import ddib
from minivdm.diffusion.forward_process import q_sample
from minivdm.diffusion.mixtures import GaussianMixture, ideal_denoiser, ring_mixture
from minivdm.diffusion.samplers import all_levels, ddim_invert, ddim_sample, ddim_step, ddpm_step, sampling_levels
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas, linear_betas


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def double(schedule):
    """The same schedule with tables in float64, so that rounding does not hide an error."""
    schedule.alpha_bar = schedule.alpha_bar.double()
    return schedule


def gaussian_denoiser(schedule, mean, std):
    """E[eps | x_t] for data N(mean, std^2), by linear regression."""

    def model(x, t, cond=None):
        ab = schedule.alpha_bar[t].reshape(-1, *[1] * (x.ndim - 1))
        return (1 - ab).sqrt() * (x - ab.sqrt() * mean) / (ab * std**2 + 1 - ab)

    return model


def blind(schedule, shape, seed=0):
    """A model whose eps depends on the level alone, and so does not mind where x is."""
    e = torch.randn(schedule.T + 1, *shape, generator=seeded(seed), dtype=torch.float64)
    return lambda x, t, cond=None: e[t]


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_for_every_n_a_point_is_hit_exactly(eta):
    T = 37
    schedule, point = double(NoiseSchedule(linear_betas(T))), torch.tensor([[0.3, -0.8]], dtype=torch.float64)
    ideal = ideal_denoiser(GaussianMixture(point, 0.0), schedule)
    for n in range(1, T + 1):
        asked, reached = [], []

        def model(x, t, cond=None):
            asked.append(t[0].item())  # noqa: B023  (called in this round only)
            return ideal(x, t)

        start = torch.randn(3, 2, generator=seeded(n), dtype=torch.float64)
        x = ddim_sample(
            model,
            start,
            schedule,
            sampling_levels(T, n),
            eta=eta,
            generator=seeded(n),
            callback=lambda s, *_, reached=reached: reached.append(s),
        )
        assert len(asked) == n and [*asked, 0] == [T, *reached] == sampling_levels(T, n)
        assert (x - point).abs().max() < 1e-9


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_noise_has_the_right_variance_whatever_eta(eta):
    """Given x_0, level s is reached with the marginal of `q_sample`; eta only says how much of the noise is fresh."""
    schedule, n = NoiseSchedule(linear_betas(50)), 200_000
    x0, t, s = torch.full((n, 1), 0.7), torch.full((n,), 40), torch.full((n,), 25)
    eps, noise = torch.randn(2, n, 1, generator=seeded())
    x_s = ddim_step(q_sample(x0, t, eps, schedule), x0, t, s, noise, schedule, eta)
    ab_s, ab_t = schedule.alpha_bar[25], schedule.alpha_bar[40]
    assert x_s.mean().item() == pytest.approx(0.7 * ab_s.sqrt().item(), abs=0.01)
    assert x_s.var().item() == pytest.approx(1 - ab_s.item(), abs=0.01)
    fresh = eta * ((1 - ab_t / ab_s) / (1 - ab_t)).sqrt().item()  # sigma as a share of the noise at s
    assert torch.corrcoef(torch.cat([x_s, noise], 1).T)[0, 1].item() == pytest.approx(fresh, abs=0.01)
    assert torch.corrcoef(torch.cat([x_s, eps], 1).T)[0, 1].item() == pytest.approx((1 - fresh**2) ** 0.5, abs=0.01)


@pytest.mark.parametrize("betas", [linear_betas, cosine_betas])
def test_a_step_is_an_euler_step_in_the_right_variables(betas):
    """x / sqrt(ab) moves by eps times the change of sqrt((1 - ab) / ab) (Song et al., ICLR 2021, eq. 13)."""
    schedule = double(NoiseSchedule(betas(60)))
    x, x0 = torch.randn(2, 5, 3, generator=seeded(), dtype=torch.float64)
    t, s = torch.tensor([60, 33, 12, 7, 1]), torch.tensor([59, 20, 1, 0, 0])
    ab_t, ab_s = schedule.alpha_bar[t][:, None], schedule.alpha_bar[s][:, None]
    eps = (x - ab_t.sqrt() * x0) / (1 - ab_t).sqrt()
    euler = x / ab_t.sqrt() + ((1 / ab_s - 1).sqrt() - (1 / ab_t - 1).sqrt()) * eps
    assert torch.allclose(ddim_step(x, x0, t, s, x, schedule), ab_s.sqrt() * euler, atol=1e-9)


def test_at_eta_1_a_step_is_ddpms():
    schedule = double(NoiseSchedule(linear_betas(50)))
    x, x0, noise = torch.randn(3, 4, 5, generator=seeded(), dtype=torch.float64)
    t, s = torch.tensor([50, 20, 9, 1]), torch.tensor([49, 10, 0, 0])
    got = ddim_step(x, x0, t, s, noise, schedule, eta=1.0)
    assert torch.allclose(got, ddpm_step(x, x0, t, s, noise, schedule), atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_gaussian_data_agree_with_the_closed_form_at_any_eta(eta):
    schedule, mean, std, levels = NoiseSchedule(cosine_betas(100)), 0.6, 0.5, sampling_levels(100, 9)
    ab = schedule.alpha_bar.double()
    m, v = 0.0, 1.0
    for t, s in pairwise(levels):
        total = ab[t] * std**2 + 1 - ab[t]
        variance = eta**2 * (1 - ab[s]) / (1 - ab[t]) * (1 - ab[t] / ab[s])
        slope = ((ab[s] * ab[t]).sqrt() * std**2 + ((1 - ab[s] - variance).clamp(0) * (1 - ab[t])).sqrt()) / total
        m, v = ab[s].sqrt() * mean + slope * (m - ab[t].sqrt() * mean), slope**2 * v + variance
    start = torch.randn(100_000, 1, generator=seeded())
    x = ddim_sample(gaussian_denoiser(schedule, mean, std), start, schedule, levels, eta=eta, generator=seeded(1))
    assert x.mean().item() == pytest.approx(float(m), abs=0.01)
    assert x.std().item() == pytest.approx(float(v) ** 0.5, abs=0.01)


def test_many_steps_follow_the_probability_flow():
    """For N(mean, std^2) it stretches the start by std and moves it by the mean."""
    schedule, mean, std = double(NoiseSchedule(cosine_betas(1000))), 0.6, 0.5
    start = torch.randn(5, 2, generator=seeded(), dtype=torch.float64)
    got = ddim_sample(gaussian_denoiser(schedule, mean, std), start, schedule)
    assert torch.allclose(got, mean + std * start, atol=0.02)


def test_few_steps_are_better_spent_without_noise():
    """With 20 steps both make Gaussian data too narrow, and DDPM loses more than 1.5 times as much as DDIM."""
    schedule, start = NoiseSchedule(linear_betas(1000)), torch.randn(100_000, 1, generator=seeded())
    model, levels = gaussian_denoiser(schedule, 0.0, 0.6), sampling_levels(1000, 20)
    lost = [0.6 - ddim_sample(model, start, schedule, levels, eta=eta, generator=seeded(1)).std() for eta in (0.0, 1.0)]
    assert 0.06 < lost[0] < 0.08 and lost[1] > 1.5 * lost[0]


def test_without_eta_nothing_is_random():
    schedule = NoiseSchedule(linear_betas(30))
    model, start = ideal_denoiser(ring_mixture(), schedule), torch.randn(4, 2, generator=seeded())
    before = torch.get_rng_state()
    first = ddim_sample(model, start, schedule, generator=seeded(1))
    assert torch.equal(first, ddim_sample(model, start, schedule)) and torch.equal(torch.get_rng_state(), before)
    other = [ddim_sample(model, start, schedule, eta=0.5, generator=seeded(i)) for i in (1, 1, 2)]
    assert torch.equal(other[0], other[1]) and not torch.equal(other[0], other[2])


@pytest.mark.parametrize("n", [1, 2, 7, 20, 39, 40])
def test_with_an_eps_independent_of_x_inversion_is_exact(n):
    schedule = double(NoiseSchedule(cosine_betas(40)))
    x0 = torch.randn(4, 1, 3, 3, generator=seeded(), dtype=torch.float64)
    model, levels, asked = blind(schedule, (1, 3, 3)), sampling_levels(40, n), []
    noise = ddim_invert(lambda x, t, cond: asked.append(t[0].item()) or model(x, t), x0, schedule, levels)
    assert asked == levels[-2::-1], "asked at the level that it goes to"
    assert (noise - x0).abs().max() > 0.5
    assert (ddim_sample(model, noise, schedule, levels) - x0).abs().max() < 1e-8
    start = torch.randn(4, 1, 3, 3, generator=seeded(1), dtype=torch.float64)
    again = ddim_invert(model, ddim_sample(model, start, schedule, levels), schedule, levels)
    assert (again - start).abs().max() < 1e-8


def test_the_round_trip_error_falls_as_one_over_n():
    schedule, ring = double(NoiseSchedule(linear_betas(1000))), ring_mixture()
    ring = GaussianMixture(ring.means.double(), 0.3)
    model, x0 = ideal_denoiser(ring, schedule), ring.sample(200, seeded()).double()
    errors = []
    for n in (125, 250, 500, 1000):
        levels = sampling_levels(1000, n)
        back = ddim_sample(model, ddim_invert(model, x0, schedule, levels), schedule, levels)
        errors.append((back - x0).norm(dim=1).mean().item())
    assert errors[-1] < 0.01 and all(1.4 < a / b < 3 for a, b in pairwise(errors))


def test_inverted_noise_of_gaussian_data_is_their_standard_score():
    schedule, mean, std = double(NoiseSchedule(cosine_betas(1000))), 0.6, 0.5
    x0 = mean + std * torch.randn(500, 2, generator=seeded(), dtype=torch.float64)
    noise = ddim_invert(gaussian_denoiser(schedule, mean, std), x0, schedule)
    assert (noise - (x0 - mean) / std).abs().max() < 0.1


def test_the_trajectory_is_told():
    schedule, told = double(NoiseSchedule(linear_betas(30))), []
    x0 = torch.randn(3, 2, generator=seeded(), dtype=torch.float64)
    model, levels = gaussian_denoiser(schedule, 0.2, 0.7), [30, 12, 4, 0]
    noise = ddim_invert(model, x0, schedule, levels, callback=lambda *a: told.append(a))
    assert [t for t, _, _ in told] == [4, 12, 30] and torch.equal(told[-1][1], noise)
    assert torch.allclose(told[0][2], x0) and not torch.allclose(told[1][2], x0)


def test_a_bridge_between_gaussians_is_the_affine_map():
    schedule = double(NoiseSchedule(cosine_betas(2000)))
    a, b = gaussian_denoiser(schedule, 0.6, 0.5), gaussian_denoiser(schedule, -1.0, 1.5)
    x0 = 0.6 + 0.5 * torch.randn(200, 1, generator=seeded(), dtype=torch.float64)
    there = ddib(x0, a, b, schedule)
    assert (there - (-1.0 + 1.5 * (x0 - 0.6) / 0.5)).abs().max() < 0.1
    assert (ddib(there, b, a, schedule) - x0).abs().max() < 0.05


def test_a_bridge_hands_conditions_and_levels_on():
    schedule, asked = double(NoiseSchedule(linear_betas(30))), []

    def model(x, t, cond):
        asked.append((t[0].item(), cond))
        return x * 0.1

    ddib(torch.ones(2, 1).double(), model, model, schedule, [30, 9, 0], source_cond="up", target_cond="down")
    assert asked == [(9, "up"), (30, "up"), (30, "down"), (9, "down")]


@pytest.mark.parametrize("levels", [[30, 10, 10, 0], [10, 30, 0], [0, 10, 30], [30, 5], [31, 0], [0], []])
def test_bad_level_lists(levels):
    schedule = NoiseSchedule(linear_betas(30))
    for walk in (ddim_sample, ddim_invert):
        with pytest.raises(ValueError, match="levels must fall strictly from at most 30 to 0, got"):
            walk(lambda x, t, cond=None: x, torch.zeros(1, 2), schedule, levels)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_bad_eta(eta):
    with pytest.raises(ValueError, match=f"eta must lie in 0..1, got {eta}"):
        ddim_sample(lambda x, t, cond=None: x, torch.zeros(1, 2), NoiseSchedule(linear_betas(30)), eta=eta)


def test_a_walk_may_have_any_number_of_steps():
    schedule = NoiseSchedule(linear_betas(30))
    assert all_levels(schedule) == sampling_levels(30, 30)
    for T in (1, 7, 60, 250):
        for n in range(1, T + 1):
            levels = sampling_levels(T, n)
            steps = [t - s for t, s in pairwise(levels)]
            assert len(steps) == n and (levels[0], levels[-1]) == (T, 0) and 1 <= min(steps) >= max(steps) - 1
    for n in (0, 31, -1):
        with pytest.raises(ValueError, match=f"steps must lie in 1..30, got {n}"):
            sampling_levels(30, n)
