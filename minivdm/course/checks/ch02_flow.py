"""Exercises 2.7 and 2.8: the probability flow."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, raises

from .ch02_shared import SHAPELESS, FreshSDE, GaussianData, callback_probes, per, walk
from .common import SHAPES


@exercise("sde.probability_flow")
def probability_flow(f, draw):
    sde = FreshSDE(draw)
    data = GaussianData(draw, sde)
    for name, shape in SHAPES.items():
        x, t = draw.normal(*shape), draw.uniform(shape[0], low=0.05)
        lines = [data.slope(time, 0.5) for time in t.double().tolist()]
        a, b = (per(torch.tensor(part, dtype=torch.float64), x.double()) for part in zip(*lines))
        yield close(f"dx/dt of {name}, data N(m, s^2)", f(data.score, x, t, sde), a * x + b, dtype=torch.float32)


probability_flow.edit(
    "no half",
    {" / 2": ""},
    "This drift is the reverse *SDE*'s, whose noise undoes half of the pull. The flow needs half of g^2 score.",
)
probability_flow.edit(
    "plus",
    {"- expand_like": "+ expand_like"},
    "The sign of the score is wrong. (Time runs upwards here, towards noise; the score points towards the data.)",
)
probability_flow.edit("g not squared", {" ** 2": ""}, "The score is multiplied by g(t), not by g(t)^2.")
probability_flow.edit("no drift", {"sde.drift(x, t) -": "-"}, "The drift f is missing.")
probability_flow.edit(
    "everything halved", {"drift(x, t)": "drift(x, t) / 2"}, "The drift is halved, too: only the score has the half."
)
probability_flow.edit(
    "shape (B,)",
    {"expand_like(sde.diffusion(t), x)": "sde.diffusion(t)"},
    SHAPELESS.format("sde.diffusion(t)", "expand_like(sde.diffusion(t), x)"),
)


@exercise("sde.probability_flow_ode")
def probability_flow_ode(f, draw):
    sde = FreshSDE(draw)
    data = GaussianData(draw, sde)
    falling = walk(draw, 4)
    for times, name in ((falling, "from noise to data"), (falling[::-1], "from data to noise")):
        x = draw.normal(5, 1, 2, 2).double()
        data.seen.clear()
        got = f(data.score, x, sde, times)
        asked = [time for pair in zip(times, times[1:]) for time in pair]
        yield equal(f"times at which the score is asked, {name}", data.times(), [round(t, 5) for t in asked])
        yield close(f"the first x that the score sees, {name}", data.seen[0][0], x)
        for t, s in zip(times, times[1:]):
            x, _ = data.heun(x, t, s)
        yield close(f"x after {len(times) - 1} steps, {name}", got, x)
    fine = [1 - 0.95 * i / 150 for i in range(151)]
    x, (start, end) = draw.normal(6, 2).double(), (fine[0], fine[-1])
    ratio = (data.variance(end) / data.variance(start)) ** 0.5
    want = sde.alpha_bar(end) ** 0.5 * data.mean + ratio * (x - sde.alpha_bar(start) ** 0.5 * data.mean)
    yield close("150 steps: the exact solution of the ODE", f(data.score, x, sde, fine), want, atol=5e-3, rtol=5e-3)
    yield from callback_probes(lambda call: f(data.score, x, sde, falling, callback=call), falling)
    first, again = f(data.score, x, sde, falling), f(data.score, x, sde, falling)
    yield holds("no chance in it", torch.equal(first, again), "two equal calls give different results")
    for bad in ([0.5, 0.9, 0.3], [0.9, 0.0]):
        yield raises(f"times {bad}", ValueError, lambda bad=bad: f(data.score, x, sde, bad))


probability_flow_ode.edit(
    "Euler's step",
    {"probability_flow(score, x + dt * first, s, sde)": "first"},
    "This is Euler's step: one slope, at the start of the step. Heun asks a second time, where Euler's step ends, and "
    "goes along the mean of both slopes.",
)
probability_flow_ode.edit(
    "second slope at the old time",
    {"first, s, sde": "first, t, sde"},
    "The second slope is taken at the new place, but at the old time t. It belongs to the end of the step: time s.",
)
probability_flow_ode.edit(
    "second slope at the old place",
    {"x + dt * first, s": "x, s"},
    "The second slope is taken at the new time, but at the old x. Try the whole step first: x + (s - t) k_1.",
)
probability_flow_ode.edit(
    "trial step x + k_1", {"x + dt * first, s": "x + first, s"}, "The trial step is x + k_1: multiply k_1 by s - t."
)
probability_flow_ode.edit(
    "sum instead of mean", {" / 2": ""}, "The two slopes are added, so each step is twice as long: take their mean."
)
probability_flow_ode.edit(
    "second only", {"(first + second) / 2": "second"}, "Only the second slope is used: Heun takes the mean of both."
)
probability_flow_ode.edit(
    "midpoint rule",
    {"x + dt * first, s": "x + dt / 2 * first, (t + s) / 2", "(first + second) / 2": "second"},
    "This is the midpoint rule, which is of second order, too. Asked for is Heun's: slopes at both *ends* of the step.",
)
probability_flow_ode.edit(
    "time runs backwards",
    {"then - now": "now - then"},
    "The step must be s - t: negative when times fall, and then the same formula leads from noise to data.",
)
probability_flow_ode.edit(
    "one direction only",
    {"checked_times(times)": "checked_times(times, falling=True)"},
    "Rising times are refused, but they are the way from data to noise. Call checked_times(times) without `falling`.",
)
probability_flow_ode.edit(
    "times not checked",
    {"checked_times(times)": "times"},
    "Good times are walked well, but a list that turns back or contains 0 is walked without complaint. Call "
    "checked_times(times) first.",
)
probability_flow_ode.edit(
    "no callback", {"callback(then, x)": "pass"}, "The callback is never called. After each step: callback(s, x)."
)
