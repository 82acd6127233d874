"""DDIM and its inversion beside the `diffusers` library: equal where that library is right, and right where it is not.

Its timestep k is the level t = k + 1. With "trailing" spacing, and where n divides T, its list is ours. Its step goes
down by T // n, whatever the list says (diffusers issues 9261, 11347 and 12633), so for other n the two part: see the
last tests.
"""

import pytest
import torch

from minivdm.diffusion.mixtures import GaussianMixture, ideal_denoiser, ring_mixture
from minivdm.diffusion.samplers import ddim_invert, ddim_sample, ddim_step, sampling_levels
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas, linear_betas

diffusers = pytest.importorskip("diffusers")

T = 1000


def theirs(kind, n, betas, **settings):
    """One of their schedulers on our betas, with n steps from T; the level below the lowest is clean data."""
    settings = {"timestep_spacing": "trailing", "clip_sample": False, "set_alpha_to_one": True} | settings
    scheduler = kind(num_train_timesteps=T, trained_betas=betas.tolist(), **settings)
    scheduler.set_timesteps(n)
    return scheduler


def walk(scheduler, model, x, **settings):
    """Their loop, with a model that is told our levels."""
    for k in scheduler.timesteps:
        eps = model(x, torch.full((len(x),), k.item() + 1))
        x = scheduler.step(eps, k, x, **settings).prev_sample
    return x


def a_case(betas, seed=0):
    schedule, ring = NoiseSchedule(betas), ring_mixture(std=0.3)
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(seed))
    return schedule, ideal_denoiser(ring, schedule), x


@pytest.mark.parametrize("betas", [linear_betas(T), cosine_betas(T)], ids=["linear", "cosine"])
@pytest.mark.parametrize("n", [1, 5, 50, 1000])
def test_their_list_and_samples_are_ours_where_n_divides_T(n, betas):
    schedule, model, x = a_case(betas)
    scheduler = theirs(diffusers.DDIMScheduler, n, betas)
    assert [k + 1 for k in scheduler.timesteps.tolist()] == sampling_levels(T, n)[:-1]
    want = walk(scheduler, model, x)
    got = ddim_sample(model, x, schedule, sampling_levels(T, n))
    assert (got - want).abs().max() < 2e-3  # float32: their table is rounded anew at each of its T products


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("clip", [False, True])
def test_a_step_with_given_noise(eta, clip):
    betas = linear_betas(T)
    schedule, scheduler = NoiseSchedule(betas), theirs(diffusers.DDIMScheduler, 50, betas, clip_sample=clip)
    x, eps, noise = torch.randn(3, 6, 3, generator=torch.Generator().manual_seed(0))
    for k in scheduler.timesteps[[0, 17, -2]]:
        t = torch.full((6,), k.item() + 1)
        settings = dict(eta=eta, variance_noise=noise, use_clipped_model_output=clip)
        want = scheduler.step(eps, k, x, **settings)
        got = ddim_step(x, want.pred_original_sample, t, t - 20, noise, schedule, eta)
        assert torch.allclose(got, want.prev_sample, atol=1e-3)


@pytest.mark.parametrize("betas", [linear_betas(T), cosine_betas(T)], ids=["linear", "cosine"])
@pytest.mark.parametrize("n", [5, 50, 1000])
def test_their_inversion_is_ours_where_n_divides_T(n, betas):
    schedule, model, _ = a_case(betas)
    x0 = ring_mixture(std=0.3).sample(50, torch.Generator().manual_seed(1))
    scheduler = theirs(diffusers.DDIMInverseScheduler, n, betas)
    assert [k + 1 for k in scheduler.timesteps.tolist()] == sampling_levels(T, n)[-2::-1]
    want = walk(scheduler, model, x0)
    got = ddim_invert(model, x0, schedule, sampling_levels(T, n))
    assert (got - want).abs().max() < 2e-3


@pytest.mark.parametrize("n", [300, 600, 700])
def test_where_n_does_not_divide_T_we_hit_a_point_and_walk_our_own_list(n):
    """Their step of T // n levels does not match their list, and for n > T / 2 it can end at level 1, with noise."""
    betas, point = linear_betas(T), torch.tensor([[0.3, -0.8]])
    schedule = NoiseSchedule(betas)
    model, x = ideal_denoiser(GaussianMixture(point, 0.0), schedule), torch.randn(20, 2)
    scheduler = theirs(diffusers.DDIMScheduler, n, betas)
    listed = [k + 1 for k in scheduler.timesteps.tolist()]
    assumed = [k - T // n for k in listed]
    assert assumed[:-1] != listed[1:], "they have mended it: compare with them for all n"
    assert (ddim_sample(model, x, schedule, sampling_levels(T, n)) - point).abs().max() < 1e-3
    missed = (walk(scheduler, model, x) - point).abs().max()
    assert (missed > 2e-3) == (n == 600) == (assumed[-1] > 0)


@pytest.mark.parametrize("n", [300, 600])
def test_where_n_does_not_divide_T_we_agree_with_the_closed_form_and_they_do_not(n):
    betas, mean, std = cosine_betas(T), 0.6, 0.5
    schedule = NoiseSchedule(betas)
    model = ideal_denoiser(GaussianMixture(torch.tensor([[mean]]), std), schedule)
    x, ab = torch.randn(50, 1), schedule.alpha_bar.double()
    levels, factor = sampling_levels(T, n), 1.0
    for t, s in zip(levels, levels[1:]):
        mixed = (ab[s] * ab[t]).sqrt() * std**2 + ((1 - ab[s]) * (1 - ab[t])).sqrt()
        factor = factor * mixed / (ab[t] * std**2 + 1 - ab[t])
    exact = mean + factor * (x - ab[T].sqrt() * mean)
    ours = (ddim_sample(model, x, schedule, levels) - exact).abs().max()
    other = (walk(theirs(diffusers.DDIMScheduler, n, betas), model, x) - exact).abs().max()
    assert ours < 1e-3 and other > 10 * ours
