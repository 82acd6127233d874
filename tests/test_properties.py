"""Properties of all schedules, whatever their betas: what is accepted samples finitely, what is not says why."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minivdm.diffusion.mixtures import ideal_denoiser, ring_mixture
from minivdm.diffusion.predictions import EpsModel
from minivdm.diffusion.samplers import ddim_invert, ddim_sample, ddpm_sample, sampling_levels
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas, linear_betas, shifted_betas
from minivdm.diffusion.sde import T_MIN, VPSDE, probability_flow_ode, reverse_sde_sample, score_from_eps, time_grid

MOST_STEPS = 12  # of one walk

PROBABILITY = st.floats(0, 1, exclude_min=True, exclude_max=True)
ODDS = st.floats(-40, 40).map(lambda a: 1 / (1 + math.exp(a)))  # as many near 0 and near 1 as between
STRETCHES = st.lists(st.tuples(st.one_of(PROBABILITY, ODDS), st.integers(1, 300)), min_size=1, max_size=4)
BETAS = st.one_of(
    st.lists(st.one_of(PROBABILITY, ODDS), min_size=1, max_size=30),
    STRETCHES.map(lambda parts: [beta for beta, count in parts for _ in range(count)][:1000]),
    st.builds(lambda T, shift: shifted_betas(cosine_betas(T), shift), st.integers(1, 1000), st.floats(1e-3, 1e3)),
    st.builds(linear_betas, st.integers(21, 1000)),
)

NETS = {
    "nothing": lambda x, t, cond=None: torch.zeros_like(x),
    "all": lambda x, t, cond=None: x,
    "bounded": lambda x, t, cond=None: torch.tanh(3 * x + t[:, None] / 100),
}


def accepted(betas):
    """The schedule, or None if it is refused with a reason."""
    try:
        return NoiseSchedule(torch.as_tensor(betas, dtype=torch.float64))
    except ValueError as error:
        assert "must" in str(error)
        return None


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(
    betas=BETAS,
    net=st.sampled_from(["ideal", *NETS]),
    kind=st.sampled_from(["eps", "x0", "v"]),
    eta=st.floats(0, 1),
    clip=st.booleans(),
)
@example([0.2] * 1000, "nothing", "eps", 0.0, True)
@example([2e-8] * 1000, "nothing", "eps", 0.0, True)
@example([1 - 1e-9] * 4, "ideal", "eps", 1.0, False)
@example([6e-8], "bounded", "x0", 0.5, False)
@example([1e-7, 1 - 1e-12], "ideal", "eps", 0.0, False)
def test_any_schedule_that_is_accepted_samples_finitely(betas, net, kind, eta, clip):
    schedule = accepted(betas)
    if schedule is None:
        return
    table, generator = schedule.alpha_bar, torch.Generator().manual_seed(0)
    assert table[0] == 1 and (table.diff() < 0).all() and table[-1] > 0
    model = ideal_denoiser(ring_mixture(), schedule) if net == "ideal" else EpsModel(NETS[net], kind, schedule)
    x = torch.randn(3, 2, generator=generator)
    levels = sampling_levels(schedule.T, min(schedule.T, MOST_STEPS))
    options = dict(clip_x0=clip, generator=generator)
    samples = {
        "ddpm": ddpm_sample(model, x, schedule, levels, **options),
        "ddim": ddim_sample(model, x, schedule, levels, eta=eta, **options),
        "inverted": ddim_invert(model, x, schedule, levels),
    }
    assert {name: bool(sample.isfinite().all()) for name, sample in samples.items()} == dict.fromkeys(samples, True)


@settings(max_examples=30, derandomize=True, deadline=None, database=None)
@given(betas=st.lists(st.floats(), max_size=4))
def test_any_other_numbers_are_refused_with_a_reason(betas):
    accepted(betas)


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(rates=st.tuples(st.floats(), st.floats()))
@example((0.1, 20.0))
@example((1e-5, 1e-5))
@example((0.1, 174.0))
def test_any_sde_that_is_accepted_samples_finitely(rates):
    try:
        sde = VPSDE(*rates)
    except ValueError as error:
        assert "must" in str(error) or "expected" in str(error)
        return
    end, ring, times = torch.ones(1), ring_mixture(), time_grid(1, T_MIN, 4)
    assert 0 < sde.alpha_bar(end) < 1 and 0 < sde.alpha(end) < 1 and 0 < sde.sigma(end) <= 1
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, generator=generator)

    def score(x, t):
        return ring.score(x, sde.alpha_bar(t))

    assert reverse_sde_sample(score, x, sde, times, generator).isfinite().all()
    assert probability_flow_ode(score, x, sde, times).isfinite().all()


@pytest.mark.parametrize("T", [21, 100, 1000])
@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize("net", NETS)
def test_a_model_of_levels_samples_finitely_along_the_sde(net, kind, T):
    schedule = NoiseSchedule(linear_betas(T))
    score, x = score_from_eps(EpsModel(NETS[net], kind, schedule), schedule), torch.randn(3, 2)
    for sample in (reverse_sde_sample, probability_flow_ode):
        assert sample(score, x, VPSDE(), time_grid(1, T_MIN, 10)).isfinite().all()


def test_the_properties_are_tried_on_enough_schedules():
    """Of the betas drawn, many are accepted."""
    tried = []

    @settings(max_examples=60, derandomize=True, deadline=None, database=None)
    @given(betas=BETAS)
    def draw(betas):
        tried.append(accepted(betas) is not None)

    draw()
    assert sum(tried) >= 20 and not all(tried)


@pytest.mark.parametrize("T", [1, 2, 1000])
def test_one_to_a_thousand_levels(T):
    schedule = NoiseSchedule(cosine_betas(T))
    model = ideal_denoiser(ring_mixture(), schedule)
    assert ddpm_sample(model, torch.randn(2, 2), schedule).isfinite().all()
