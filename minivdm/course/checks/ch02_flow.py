"""Exercises 2.7 and 2.8: the probability flow."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, raises

from .ch02_shared import FreshSDE, GaussianData, per, walk
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


def _flow(label, hint, formula):
    """A misconception from a formula of (drift, g, score)."""

    def wrong(score, x, t, sde):
        return formula(sde.drift(x, t), per(sde.diffusion(t), x), score(x, t))

    probability_flow.misconception(label, hint)(wrong)


_flow(
    "no half",
    "This is the drift of the reverse *SDE*, whose noise undoes half of the pull. The flow has no noise: "
    "it needs half of g^2 score.",
    lambda f, g, s: f - g**2 * s,
)
_flow(
    "plus",
    "The sign of the score is wrong: f - g^2 score / 2. (Time runs upwards here, towards noise; the score "
    "points towards the data.)",
    lambda f, g, s: f + g**2 * s / 2,
)
_flow("g not squared", "The score is multiplied by g(t)^2, here by g(t).", lambda f, g, s: f - g * s / 2)
_flow("no drift", "The drift f is missing.", lambda f, g, s: -(g**2) * s / 2)
_flow(
    "no score",
    "This is the drift alone: it shrinks everything to zero. The score's part is missing.",
    lambda f, g, s: f,
)
_flow(
    "everything halved",
    "The drift is halved, too. Only the part with the score has the half.",
    lambda f, g, s: (f - g**2 * s) / 2,
)


@probability_flow.misconception(
    "no shape for broadcasting",
    "sde.diffusion(t) has the shape (B,), and PyTorch lines it up with the *last* axis of x. "
    "expand_like(sde.diffusion(t), x) gives it the shape (B, 1, ..., 1).",
)
def _(score, x, t, sde):
    return sde.drift(x, t) - sde.diffusion(t) ** 2 * score(x, t) / 2


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
        want = x
        for t, s in zip(times, times[1:]):
            (a, b), (c, d), h = data.slope(t, 0.5), data.slope(s, 0.5), s - t
            first = a * want + b
            want = want + h / 2 * (first + c * (want + h * first) + d)
        yield close(f"x after {len(times) - 1} steps, {name}", got, want)
    fine = [1 - 0.95 * i / 150 for i in range(151)]
    x, (start, end) = draw.normal(6, 2).double(), (fine[0], fine[-1])
    ratio = (data.variance(end) / data.variance(start)) ** 0.5
    want = sde.alpha_bar(end) ** 0.5 * data.mean + ratio * (x - sde.alpha_bar(start) ** 0.5 * data.mean)
    yield close("150 steps: the exact solution of the ODE", f(data.score, x, sde, fine), want, atol=5e-3, rtol=5e-3)
    calls = []
    got = f(data.score, x, sde, falling, callback=lambda *a: calls.append(a))
    yield equal("first argument of each callback(s, x)", [round(a[0], 5) for a in calls], falling[1:])
    yield close("x in the last callback: the result", calls[-1][1], got)
    again = f(data.score, x, sde, falling)
    yield holds("no chance in it", torch.equal(got, again), "two equal calls give different results")
    for bad in ([0.5, 0.9, 0.3], [0.9, 0.0]):
        yield raises(f"times {bad}", ValueError, lambda bad=bad: f(data.score, x, sde, bad))


def heun_with(mistake, score, x, sde, times, callback):
    """A solver with room for one mistake."""
    steps = [b - a for a, b in zip(times, times[1:])]
    bad = not all(0 < t <= 1 for t in times) or not (all(h > 0 for h in steps) or all(h < 0 for h in steps))
    if bad and mistake != "unchecked" or mistake == "falling only" and steps[0] > 0:
        raise ValueError("times")

    def slope(x, time):
        t = torch.full(x.shape[:1], time, dtype=x.dtype, device=x.device)
        return sde.drift(x, t) - (0.5 if mistake != "SDE" else 1) * per(sde.diffusion(t), x) ** 2 * score(x, t)

    for now, then in zip(times, times[1:]):
        h = abs(then - now) if mistake == "abs" else now - then if mistake == "sign" else then - now
        first = slope(x, now)
        x_2 = x if mistake == "same x" else x + first if mistake == "no h" else x + h * first
        if mistake == "midpoint":
            x = x + h * slope(x + h / 2 * first, (now + then) / 2)
        elif mistake == "euler":
            x = x + h * first
        else:
            second = slope(x_2, now if mistake == "same time" else then)
            mean = {"sum": first + second, "second only": second}.get(mistake, (first + second) / 2)
            x = x_2 + h * mean if mistake == "twice" else x + h * mean
        if callback and mistake != "no callback":
            callback(now if mistake == "old time" else then, x)
        if mistake == "returns early":
            return x
    return x


def _ode(mistake, label, hint):
    """Add a misconception: the solver above with one mistake in it."""

    def solve(score, x, sde, times, callback=None):
        return heun_with(mistake, score, x, sde, times, callback)

    probability_flow_ode.misconception(label, hint)(solve)


_ode(
    "euler",
    "Euler's step",
    "This is Euler's step: one slope, at the start of the step. Heun asks a second time, where Euler's step ends, and "
    "goes along the mean of both slopes.",
)
_ode(
    "same time",
    "second slope at the old time",
    "The second slope is taken at the new place, but at the old time t. It belongs to the end of the step: time s.",
)
_ode(
    "same x",
    "second slope at the old place",
    "The second slope is taken at the new time, but at the old x. Try the whole step first: x + (s - t) k_1.",
)
_ode("no h", "trial step of length 1", "The trial step for the second slope is x + k_1: multiply the slope by s - t.")
_ode("sum", "sum instead of mean", "The two slopes are added, so each step is twice as long: take their mean.")
_ode("second only", "second slope only", "Only the second slope is used. Heun's step goes along the mean of both.")
_ode(
    "midpoint",
    "midpoint rule",
    "This is the midpoint rule, which is of second order, too. Asked for is Heun's: slopes at both *ends* of the step.",
)
_ode("twice", "step made twice", "The mean slope is added to the trial point. Add it to the x from before the step.")
_ode(
    "sign",
    "time runs backwards",
    "The step is t - s. It must be s - t, which is negative when times fall: then the "
    "same formula leads from noise to data.",
)
_ode("abs", "absolute step", "The step is |s - t|, so falling times go the wrong way. Leave the sign in.")
_ode(
    "SDE",
    "the SDE's drift",
    "This follows f - g^2 score, the drift of the reverse SDE. Without noise, half of the "
    "score's part is right: call flow.",
)
_ode(
    "falling only",
    "one direction only",
    "Rising times are refused, but they are the way from data to noise. Call checked_times(times) without `falling`.",
)
_ode(
    "unchecked",
    "times not checked",
    "Good times are walked well, but a list that turns back or contains 0 is walked "
    "without complaint. Call checked_times(times) first.",
)
_ode(
    "no callback",
    "callback never called",
    "The callback is never called. After each step: callback(s, x), if there is one.",
)
_ode("old time", "callback with the old time", "The callback gets the time *before* the step. It belongs to the new x.")
_ode("returns early", "return inside the loop", "Only one step is made: the `return` stands inside the loop.")
