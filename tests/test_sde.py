"""The SDE, its reverse and the flow: against closed forms, DDPM, and solvers of other libraries."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from minivdm.diffusion.mixtures import GaussianMixture, ideal_denoiser, ring_mixture
from minivdm.diffusion.samplers import ddpm_sample
from minivdm.diffusion.schedules import NoiseSchedule, linear_betas
from minivdm.diffusion.sde import (
    T_MIN,
    VPSDE,
    checked_times,
    expand_like,
    ode_log_likelihood,
    probability_flow,
    probability_flow_ode,
    reverse_sde_sample,
    score_from_eps,
    time_grid,
    value_and_divergence,
)

SDE = VPSDE()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ring(std=0.12):
    return GaussianMixture(ring_mixture().means.double(), std, torch.arange(1.0, 9.0).double())


def score_in(mixture):
    return lambda x, t: mixture.score(x, SDE.alpha_bar(t))


def test_alpha_bar_is_the_limit_of_the_tables():
    gaps = []
    for T in (100, 1000, 10_000):
        table = NoiseSchedule(linear_betas(T)).alpha_bar
        gaps.append((table - SDE.alpha_bar(torch.arange(T + 1) / T)).abs().max().item())
    assert gaps[1] < gaps[0] / 8 and gaps[2] < gaps[1] / 8 and gaps[2] < 1e-3


def test_forward_in_small_steps_has_the_marginals():
    """Euler-Maruyama up to t = 0.3, with drift and diffusion alone, gives the mean and variance of alpha_bar."""
    x, n = torch.full((100_000, 1), 1.5), 300
    for i in range(n):
        t = torch.full((len(x),), 0.3 * i / n)
        noise = torch.randn(x.shape, generator=seeded(i))
        x = x + SDE.drift(x, t) * 0.3 / n + expand_like(SDE.diffusion(t), x) * math.sqrt(0.3 / n) * noise
    ab = SDE.alpha_bar(torch.tensor(0.3)).item()
    assert x.mean().item() == pytest.approx(math.sqrt(ab) * 1.5, abs=0.01)
    assert x.var().item() == pytest.approx(1 - ab, abs=0.01)


def test_reverse_sde_follows_ddpm_path_by_path():
    mixture, apart = GaussianMixture(ring().means.float(), 0.12), []
    start = torch.randn(500, 2, generator=seeded())
    for T in (100, 400):
        schedule = NoiseSchedule(linear_betas(T))
        a = ddpm_sample(ideal_denoiser(mixture, schedule), start, schedule, generator=seeded(1))
        b = reverse_sde_sample(score_in(mixture), start, SDE, time_grid(1, T_MIN, T), generator=seeded(1))
        apart.append((a - b).norm(dim=1).median().item())
    assert apart[1] < 0.03 and apart[1] < apart[0] / 2


def test_the_last_step_leaves_no_noise():
    """For data that is one point, nothing but noise of the last step could keep samples apart."""
    point = GaussianMixture(torch.tensor([[0.3, -0.8]]), 0.0)
    times = time_grid(1, T_MIN, 300, power=2)
    x = reverse_sde_sample(score_in(point), torch.randn(50, 2, generator=seeded()), SDE, times, seeded(1))
    assert (x - point.means).abs().max() < 0.01


def test_flow_against_scipy():
    mixture = ring()
    x = mixture.sample(3, seeded())

    def slope(t, flat):
        now = torch.full((3,), t, dtype=torch.float64)
        return probability_flow(score_in(mixture), torch.from_numpy(flat).reshape(3, 2), now, SDE).flatten().numpy()

    want = integrate.solve_ivp(slope, (0.001, 1.0), x.flatten().numpy(), rtol=1e-9, atol=1e-10).y[:, -1]
    errors = []
    for steps in (50, 100, 200):
        got = probability_flow_ode(score_in(mixture), x, SDE, time_grid(0.001, 1, steps, power=2))
        errors.append(np.abs(got.flatten().numpy() - want).max())
    assert errors[-1] < 1e-4 and errors[1] < errors[0] / 3 and errors[2] < errors[1] / 3  # second order


def test_flow_there_and_back():
    mixture, times = ring(), time_grid(T_MIN, 1, 200, power=2)
    x, seen = mixture.sample(200, seeded()), []
    code = probability_flow_ode(score_in(mixture), x, SDE, times, callback=lambda s, x: seen.append(s))
    assert seen == times[1:]
    back = probability_flow_ode(score_in(mixture), code, SDE, times[::-1])
    assert (back - x).norm(dim=1).median() < 1e-3
    assert abs(code.std().item() - 1) < 0.1


@pytest.mark.parametrize("shape", [(4, 3), (2, 1, 2, 3)])
def test_divergence_by_finite_differences(shape):
    size, h = math.prod(shape[1:]), 1e-6
    mix = torch.randn(size, size, generator=seeded(), dtype=torch.float64)
    x = torch.randn(shape, generator=seeded(1), dtype=torch.float64)

    def field(x):
        return torch.tanh(x.flatten(1) @ mix).reshape(x.shape) * x.flatten(1).sum(1).reshape(-1, *[1] * (x.ndim - 1))

    want = torch.zeros(len(x), dtype=torch.float64)
    for i in range(size):
        step = torch.zeros(size, dtype=torch.float64)
        step[i] = h
        step = step.reshape(shape[1:])
        want += (field(x + step) - field(x - step)).flatten(1)[:, i] / (2 * h)
    with torch.no_grad():
        value, exact = value_and_divergence(field, x)
    assert torch.equal(value, field(x)) and torch.allclose(exact, want, atol=1e-7)
    assert not exact.requires_grad and not x.requires_grad
    rows = torch.arange(len(x)).repeat(4000)
    signs = torch.randint(0, 2, (len(rows), *shape[1:]), generator=seeded(2)).double() * 2 - 1
    estimate = value_and_divergence(field, x[rows], signs)[1].reshape(4000, -1)
    assert ((estimate.mean(0) - exact).abs() < 5 * estimate.std(0) / 4000**0.5).all()


def test_log_likelihood_of_a_mixture():
    mixture = ring()
    x = mixture.sample(200, seeded())
    truth = mixture.log_prob(x)

    def error(times):
        return (ode_log_likelihood(score_in(mixture), x, SDE, times) - truth).abs().mean().item()

    assert error(time_grid(T_MIN, 1, 100, power=2)) < 0.003
    coarse, fine = error(time_grid(T_MIN, 1, 50)), error(time_grid(T_MIN, 1, 100))
    assert fine < coarse / 3  # second order, far above the floor that N(x_1; 0, I) sets


def test_hutchinson_is_right_on_average():
    mixture, times = ring(), time_grid(T_MIN, 1, 30, power=2)
    x = mixture.sample(4, seeded())
    exact = ode_log_likelihood(score_in(mixture), x, SDE, times)
    signs = torch.randint(0, 2, (4, 400, 2), generator=seeded(1)).double() * 2 - 1
    each = ode_log_likelihood(score_in(mixture), x.repeat_interleave(400, 0), SDE, times, signs.flatten(0, 1))
    each = each.reshape(4, 400)
    assert ((each.mean(1) - exact).abs() < 5 * each.std(1) / 20).all()


def test_images_and_single_precision():
    mixture = GaussianMixture(torch.randn(3, 1, 2, 2, generator=seeded()), 0.5)
    x = mixture.sample(20, seeded(1))
    log_p = ode_log_likelihood(score_in(mixture), x, SDE, time_grid(T_MIN, 1, 100, power=2))
    assert log_p.dtype == torch.float32 and (log_p - mixture.log_prob(x)).abs().max() < 0.02


def test_a_discrete_model_as_a_score():
    mixture, schedule = ring(), NoiseSchedule(linear_betas(1000))
    x, conds = mixture.sample(50, seeded()), []
    ideal = ideal_denoiser(mixture, schedule)

    def model(x, level, cond):
        conds.append(cond)
        return ideal(x, level)

    score = score_from_eps(model, schedule, cond="label")
    for level in (1, 30, 1000):
        t = torch.full((50,), level / 1000, dtype=torch.float64)
        want = mixture.score(x, schedule.alpha_bar[level].item())
        assert torch.allclose(score(x, t), want, rtol=1e-4, atol=1e-4)
    assert torch.isfinite(score(x, torch.full((50,), T_MIN))).all() and set(conds) == {"label"}
    got = ode_log_likelihood(score, x, SDE, time_grid(T_MIN, 1, 100, power=2))
    assert (got - mixture.log_prob(x)).abs().mean() < 0.05


def test_time_grid():
    assert time_grid(1, 0.5, 2) == [1, 0.75, 0.5]
    times = time_grid(T_MIN, 1, 10, power=2)
    assert len(times) == 11 and times[0] == T_MIN and times[-1] == 1
    assert times == pytest.approx(time_grid(1, T_MIN, 10, power=2)[::-1])


@pytest.mark.parametrize("times", [[0.5], [], [1.0, 0.0], [1.1, 0.5], [0.9, 0.2, 0.5], [0.5, 0.5], [float("nan"), 0.5]])
def test_bad_times(times):
    x = torch.zeros(1, 2)
    score = score_in(ring())
    for call in (
        lambda: reverse_sde_sample(score, x, SDE, times),
        lambda: probability_flow_ode(score, x, SDE, times),
        lambda: ode_log_likelihood(score, x, SDE, times[::-1]),
    ):
        with pytest.raises(ValueError, match=r"times must (fall|rise|fall or rise) strictly within \(0, 1\], got"):
            call()


def test_the_wrong_direction_and_other_bad_input():
    with pytest.raises(ValueError, match="times must fall strictly"):
        checked_times([0.1, 0.5], falling=True)
    with pytest.raises(ValueError, match="times must rise strictly"):
        checked_times([0.5, 0.1], falling=False)
    with pytest.raises(ValueError, match="expected 0 < beta_min <= beta_max, got 2 and 1"):
        VPSDE(2, 1)
    with pytest.raises(ValueError, match=r"expected one value per sample, shape \(3,\), got \(1,\)"):
        SDE.drift(torch.zeros(3, 2), torch.ones(1))


class Net(torch.nn.Module):
    """A score with weights, and a square that the graph would have to keep."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Linear(3, 3).double()

    def forward(self, x, t):
        return -x + 0.1 * torch.tanh(self.w(x)) ** 2 * t[:, None]


def test_samplers_keep_no_graph():
    """Not even of what a caller has asked gradients for: as `ddpm_sample`."""
    net, x, kept = Net(), torch.randn(4, 3, dtype=torch.float64, requires_grad=True), []
    up = time_grid(T_MIN, 1, 5)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        ends = [
            reverse_sde_sample(net, x, SDE, up[::-1], seeded()),
            probability_flow_ode(net, x, SDE, up),
            ode_log_likelihood(lambda x, t: -x, x, SDE, up),
        ]
    assert not any(end.requires_grad for end in ends)
    assert len(kept) <= 60, "the likelihood differentiates within a step, and forgets"


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_likelihood_works_where_gradients_are_off(mode):
    net, up = Net(), time_grid(T_MIN, 1, 4)
    x, noise = torch.randn(2, 4, 3, dtype=torch.float64, generator=seeded())
    want = [ode_log_likelihood(net, x, SDE, up), ode_log_likelihood(net, x, SDE, up, noise)]
    value, divergence = value_and_divergence(torch.tanh, x)
    with mode():
        x, noise = torch.randn(2, 4, 3, dtype=torch.float64, generator=seeded())
        got = [ode_log_likelihood(net, x, SDE, up), ode_log_likelihood(net, x, SDE, up, noise)]
        again = value_and_divergence(torch.tanh, x)
        reverse_sde_sample(net, x, SDE, up[::-1]), probability_flow_ode(net, x, SDE, up)
        assert not torch.is_grad_enabled()
    assert all(torch.equal(a, b) for a, b in zip((*got, *again), (*want, value, divergence)))


@pytest.mark.parametrize("rates", [(0.1, float("inf")), (0.1, 300), (1e-9, 1e-8), (float("nan"), 1), (1, float("nan"))])
def test_rates_that_float32_cannot_hold_are_refused(rates):
    with pytest.raises(ValueError, match=r"alpha_bar\(1\) must lie between 0 and 1|expected 0 < beta_min <= beta_max"):
        VPSDE(*rates)


@pytest.mark.parametrize("times", [5, None, [0.5, "a"], [0.5, float("nan"), 0.1]])
def test_times_that_are_none(times):
    with pytest.raises(ValueError, match="times must"):
        reverse_sde_sample(lambda x, t: -x, torch.zeros(2, 3), SDE, times)


@pytest.mark.parametrize("steps", [0, -3])
def test_a_grid_has_a_step(steps):
    with pytest.raises(ValueError, match="the number of steps must be at least 1"):
        time_grid(1, T_MIN, steps)


def test_what_is_not_like_x_has_no_divergence():
    x = torch.randn(2, 3)
    for field, noise in (
        (lambda x: x[:, :2], None),
        (lambda x: x, torch.ones(1)),
        (lambda x: x, torch.ones(2, 3).long()),
    ):
        with pytest.raises(ValueError, match="like x"):
            value_and_divergence(field, x, noise)
