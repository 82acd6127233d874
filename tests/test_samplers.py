"""The ancestral sampler against data whose chain has a closed form."""

import pytest
import torch

from minivdm.diffusion.mixtures import GaussianMixture, ideal_denoiser, ring_mixture
from minivdm.diffusion.samplers import ddpm_sample
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas, linear_betas
from minivdm.evaluation.metrics import gaussian_mmd


def sublist(T, n):
    """n steps from T to 0, as even as ints allow."""
    return [round(T * i / n) for i in range(n, -1, -1)]


@pytest.mark.parametrize("n", range(1, 31))
def test_n_steps_end_at_0_and_hit_a_point_exactly(n):
    schedule = NoiseSchedule(linear_betas(30))
    point = torch.tensor([[0.3, -0.8]])
    ideal, asked = ideal_denoiser(GaussianMixture(point, 0.0), schedule), []

    def model(x, t, cond=None):
        asked.append(t[0].item())
        return ideal(x, t)

    targets = []
    x = ddpm_sample(model, torch.randn(4, 2), schedule, sublist(30, n), callback=lambda s, *_: targets.append(s))
    assert len(asked) == n and asked[0] == 30 and targets[-1] == 0
    assert asked[1:] == targets[:-1]
    # From level 30 in one step, float32 rounding of x is divided by sqrt(alpha_bar[30]) = 0.005.
    assert torch.allclose(x, point.expand(4, 2), atol=1e-4 if n == 1 else 1e-5)


@pytest.mark.parametrize("betas", [linear_betas, cosine_betas])
@pytest.mark.parametrize("n", [3, 17, 100])
def test_gaussian_data_agrees_with_the_closed_form(betas, n):
    schedule = NoiseSchedule(betas(100))
    mean, std = 0.6, 0.5
    levels = sublist(100, n)
    ab = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas(100), 0)])
    m, v = 0.0, 1.0
    for t, s in zip(levels[:-1], levels[1:]):
        # x_s given x_t: precision-weighted mean of what x_t says and what the guess of x_0 says
        a = ab[t] / ab[s]
        k = ab[t].sqrt() * std**2 / (ab[t] * std**2 + 1 - ab[t])
        w = a.sqrt() * (1 - ab[s]) / (1 - ab[t])
        u = ab[s].sqrt() * (1 - a) / (1 - ab[t])
        m = (w + u * k) * m + u * (1 - k * ab[t].sqrt()) * mean
        v = (w + u * k) ** 2 * v + (1 - a) * (1 - ab[s]) / (1 - ab[t])
    mixture = GaussianMixture(torch.tensor([[mean]]), std)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(100_000, 1, generator=generator)
    x = ddpm_sample(ideal_denoiser(mixture, schedule), start, schedule, levels, generator=generator)
    assert x.mean().item() == pytest.approx(float(m), abs=0.01)
    assert x.std().item() == pytest.approx(float(v) ** 0.5, abs=0.01)


def test_many_steps_reach_the_mixture_and_few_do_not():
    schedule, ring = NoiseSchedule(linear_betas(400)), ring_mixture()
    generator = torch.Generator().manual_seed(0)

    def distance(n):
        start = torch.randn(1000, 2, generator=generator)
        x = ddpm_sample(ideal_denoiser(ring, schedule), start, schedule, sublist(400, n), generator=generator)
        return gaussian_mmd(x, ring.sample(1000, generator), 0.2)

    honest = max(gaussian_mmd(ring.sample(1000, generator), ring.sample(1000, generator), 0.2) for _ in range(20))
    assert distance(400) < 1.5 * honest
    assert distance(3) > 3 * honest


def test_clip_bounds_the_result():
    schedule = NoiseSchedule(linear_betas(30))
    x = ddpm_sample(lambda x, t, cond=None: -x, torch.randn(8, 1, 4, 4), schedule, clip_x0=True)
    assert x.abs().max() <= 1


@pytest.mark.parametrize("levels", [[30, 10, 10, 0], [10, 30, 0], [30, 5], [31, 0], [0], []])
def test_bad_level_lists(levels):
    with pytest.raises(ValueError, match="levels must fall strictly from at most 30 to 0, got"):
        ddpm_sample(lambda x, t, cond=None: x, torch.zeros(1, 2), NoiseSchedule(linear_betas(30)), levels)


@pytest.mark.parametrize("levels, message", [(10, "a list, such as sampling_levels"), ([30.7, 10, 0], "whole numbers")])
def test_what_is_no_list_of_whole_levels_is_refused(levels, message):
    with pytest.raises(ValueError, match=message):
        ddpm_sample(lambda x, t, cond=None: -x, torch.randn(2, 3), NoiseSchedule(linear_betas(50)), levels)
