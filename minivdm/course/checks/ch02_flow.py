"""Exercises 2.7 and 2.8: the probability flow."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds
from minivdm.course.probes import alike

from .ch02_shared import (
    CASES,
    EULER_AT_END,
    OTHER_SDE,
    WALKS,
    GaussianData,
    bad_times,
    callback_probes,
    fresh_sde,
    per,
    walk,
)


@exercise("sde.probability_flow")
def probability_flow(f, draw):
    def flow_probes(name, sde, x, t, atol=1e-5):
        data = GaussianData(draw, sde)
        lines = [data.slope(time, 0.5) for time in t.double().tolist()]
        a, b = (per(torch.tensor(part, dtype=torch.float64), x.double()) for part in zip(*lines))
        got, again = f(data.score, x, t, sde), f(data.score, x, t, sde)
        yield holds(
            f"no chance in it, {name}", alike(got, again, 0, 0), "two equal calls differ: the flow has no noise"
        )
        yield close(f"the x at which the score is asked, {name}", data.seen[0][0], x)
        yield close(f"the t at which the score is asked, {name}", data.seen[0][1], t, atol=1e-7)
        yield close(f"dx/dt of {name}, data N(m, s^2)", got, a * x + b, atol, dtype=torch.float32)
        same = all(torch.equal(one, copy) for one, copy in data.gave)
        yield holds("what the score returned stays as it was", same, "it was changed in place, and may be used again")

    for name, shape in CASES.items():
        yield from flow_probes(name, fresh_sde(draw), draw.normal(*shape), draw.uniform(shape[0], low=0.05))
    times = torch.tensor([1e-5, 1e-3, 0.5, 1.0])
    yield from flow_probes("points far away, near t = 0, too", fresh_sde(draw), 30 * draw.normal(4, 3, 2), times, 2e-3)


@probability_flow.promises("samples", "dtype", "layout", "device", gradients=("x",))
def flow(f, draw):
    sde = fresh_sde(draw)
    inputs = dict(score=GaussianData(draw, sde).score, x=draw.normal(4, 5, 3, 2), t=torch.tensor([1.0, 0.1, 0.5, 0.3]))
    return f, {**inputs, "sde": sde}


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
G, OWN = "expand_like(sde.diffusion(t), x)", "Each has a time of its own, and so a g of its own."
for mistake in (
    ("half of g", {" / 2": "", G: f"({G} / 2)"}, "g is halved before it is squared, which leaves a quarter: g^2 / 2."),
    ("sigma as g", {"sde.diffusion": "sde.sigma"}, "sigma is all noise up to t. g(t) is its rate."),
    ("no score", {f" - {G} ** 2 * s / 2": ""}, "The score is missing."),
    ("drift's sign", {"sde.drift": "-sde.drift"}, "The drift has the wrong sign: add f as it is."),
    ("drift without beta", {"sde.drift(x, t)": "-x / 2"}, "The drift is sde.drift(x, t), with beta(t)."),
    ("given SDE ignored", {"sde.": "type(sde)()."}, OTHER_SDE),
    ("shape (B,)", {G: "sde.diffusion(t)"}, f"g has the shape (B,), which lines up with the *last* axis: {G}."),
    ("rows only", {G: "sde.diffusion(t)[:, None]"}, f"g has the shape (B, 1), which fits rows (B, D) alone: {G}."),
    ("g of the first", {G: "sde.diffusion(t)[0]"}, f"All samples get g of the first. {OWN}"),
    ("mean of g^2", {f"{G} ** 2": "(sde.diffusion(t)**2).mean()"}, f"All samples get one g. {OWN}"),
):
    probability_flow.edit(*mistake)


@exercise("sde.probability_flow_ode")
def probability_flow_ode(f, draw):
    sde = fresh_sde(draw)
    data = GaussianData(draw, sde)
    falling = walk(draw, 4)
    for times, name in ((falling, "from noise to data"), (falling[::-1], "from data to noise")):
        x = 4 * draw.normal(5, 1, 3, 2).double()
        data.seen.clear()
        got = f(data.score, x, sde, times)
        wanted = [round(time, 5) for pair in zip(times, times[1:]) for time in pair]
        asked = equal(f"times at which the score is asked, at both ends of each step, {name}", data.times(), wanted)
        yield asked
        if not asked.ok:
            return
        yield close(f"the first x that the score sees, {name}", data.seen[0][0], x)
        a, b = data.slope(times[0], 0.5)
        trial = x + (times[1] - times[0]) * (a * x + b)
        yield close(f"the second x that the score sees, x + (s - t) k_1, {name}", data.seen[1][0], trial)
        for t, s in zip(times, times[1:]):
            x, _ = data.heun(x, t, s)
        yield close(f"x after {len(times) - 1} steps, {name}", got, x)
    fine = [1 - 0.95 * i / 150 for i in range(151)]
    x, (start, end) = draw.normal(6, 2).double(), (fine[0], fine[-1])
    ratio = (data.variance(end) / data.variance(start)) ** 0.5
    want = sde.alpha_bar(end) ** 0.5 * data.mean + ratio * (x - sde.alpha_bar(start) ** 0.5 * data.mean)
    yield close("150 steps: the exact solution of the ODE", f(data.score, x, sde, fine), want, atol=5e-3, rtol=5e-3)
    first, again = f(data.score, x, sde, falling), f(data.score, x, sde, tuple(falling))
    yield holds("no chance in it", torch.equal(first, again), "two equal calls give different results")
    path, end = [], x
    for t, s in zip(falling, falling[1:]):
        end, _ = data.heun(end, t, s)
        path.append(end)
    yield from callback_probes(lambda call: f(data.score, x, sde, falling, callback=call), falling, lambda: path)
    yield from bad_times(lambda bad: f(data.score, x, sde, bad), {"times that turn back": [0.5, 0.9, 0.3]})


@probability_flow_ode.promises("samples", "dtype", "layout", "device", gradients="a walk of many steps needs no graph")
def few_steps(f, draw):
    sde = fresh_sde(draw)
    score = GaussianData(draw, sde).score
    return f, dict(score=score, x=draw.normal(4, 5, 3, 2), sde=sde, times=[0.2, 0.5, 1.0])


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
BOTH = "(first + second) / 2"
for mistake in (
    ("first only", {BOTH: "first"}, "Only the first slope is used, which is Euler's step: take the mean."),
    ("other weights", {BOTH: "(first + 2 * second) / 3"}, "The slopes have the weights 1/3 and 2/3: take the mean."),
    ("half a trial", {"x + dt * first, s": "x + dt / 2 * first, s"}, "The trial is half a step: try x + (s - t) k_1."),
    ("always down", {"then - now": "-abs(then - now)"}, "The step is negative whichever way times run. It is s - t."),
    ("Euler at the end", {BOTH: EULER_AT_END}, "The last step is Euler's, as in some samplers. Here all are Heun's."),
    ("too early", {"x = x + dt": "old, x = x, x + dt", "return x": "return old"}, "This is x before the last step."),
    (
        "callback with the trial point",
        {"x = x + dt": "trial, x = x + dt * first, x + dt", "callback(then, x)": "callback(then, trial)"},
        "The callback gets the trial point. Give it the new x, at the end of the step.",
    ),
    *WALKS,
    ("given SDE ignored", {", sde)": ", type(sde)())"}, OTHER_SDE),
):
    probability_flow_ode.edit(*mistake)
