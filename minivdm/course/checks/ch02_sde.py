"""Exercises 2.5 and 2.6: the variance-preserving SDE, and its reverse."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, near, raises
from minivdm.course.probes import alike
from minivdm.course.shared_probes import PROMISES

from .ch02_shared import (
    CASES,
    OTHER_SDE,
    WALKS,
    GaussianData,
    bad_times,
    callback_probes,
    fresh_sde,
    per,
    walk,
)


@exercise("sde.VPSDE")
def vpsde(f, draw):
    low, high = draw.uniform(1, low=0.2, high=2).item(), draw.uniform(1, low=3, high=12).item()
    cases = {
        "the default betas": (),
        f"betas from {low:.3g} to {high:.3g}, no defaults": (low, high),
        "hardly any data at the end": (2.0, 60.0),
        "a constant beta of 3": (3.0, 3.0),
    }
    for name, betas in cases.items():
        sde, (start, end) = f(*betas), betas or (0.1, 20.0)

        def beta(t, start=start, end=end):
            return start + t.double() * (end - start)

        t = torch.cat([torch.tensor([0.0, 1e-5, 1e-3, 1.0]), draw.uniform(5, low=0.05, high=0.95)]).double()
        grid = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None] * t  # (1001, 9)
        want = torch.exp(-torch.trapezoid(beta(grid), grid, dim=0))
        yield close(f"alpha_bar to six digits, {name}", sde.alpha_bar(t), want, rtol=2e-6, atol=0)
        yield close(f"diffusion, {name}", sde.diffusion(t), beta(t).sqrt())
        for kind, shape in CASES.items():
            x, t = draw.normal(*shape), torch.cat([torch.tensor([1.0, 0.0]), draw.uniform(shape[0])])[: shape[0]]
            want = -0.5 * per(beta(t), x.double()) * x
            yield close(f"drift for {kind}, {name}", sde.drift(x, t), want, dtype=torch.float32)
    for bad in ((0.0, 1.0), (-1.0, 2.0), (2.0, 1.0)):
        yield raises("beta_min = {:g}, beta_max = {:g}".format(*bad), ValueError, lambda bad=bad: f(*bad))


@vpsde.promises("samples", "dtype", "layout", "device", "gradients")
def its_methods(f, draw):
    sde = f(0.3, 7.0)

    def call(x, t):
        return sde.alpha_bar(t), sde.drift(x, t), sde.diffusion(t)

    return call, dict(x=draw.normal(4, 3, 2, 5), t=torch.tensor([1.0, 0.0, 0.3, 0.7]))


vpsde.edit(
    "no half in the integral",
    {"t**2 / 2": "t**2"},
    "This is exp(-beta(t) t), as if beta had been that large all the way. It grows on a line, so its integral from 0 "
    "to t has a half: beta_min t + (beta_max - beta_min) t^2 / 2.",
)
vpsde.edit(
    "root in the drift", {"beta(t), x": "beta(t).sqrt(), x"}, "The drift has beta(t) itself; the root belongs to g."
)
vpsde.edit(
    "the noise so far",
    {"self.beta(t).sqrt()": "(1 - self.alpha_bar(t)).sqrt()"},
    "This is the standard deviation of all noise up to t. g(t) is the rate at which it comes in *now*.",
)
BETA = "self.beta(t).sqrt()"
LINE = "beta(t) goes along a straight line from beta_min to beta_max, and g is its root."
for mistake in (
    ("all", {"(self.beta_max - self.beta_min) * t**2": "self.beta_max * t**2"}, "beta grows by beta_max - beta_min."),
    ("power of two", {"torch.exp(": "torch.exp2("}, "This is a power of 2. alpha_bar is one of e."),
    ("no exp", {"torch.exp(-(": "(1 - ("}, "This is 1 - integral, right for small t alone: take exp of minus that."),
    (
        "integral as rate",
        {"self.beta(t), x": "-self.alpha_bar(t).log(), x"},
        "The drift has beta(t), not its integral.",
    ),
    ("root on a line", {BETA: "torch.lerp(0 * t + self.beta_min**0.5, 0 * t + self.beta_max**0.5, t)"}, LINE),
    ("geometric", {BETA: "self.beta_min**(0.5 - t / 2) * self.beta_max**(t / 2)"}, f"This one is geometric. {LINE}"),
    (
        "integral from t to 1",
        {"self.beta_min * t + ": "self.beta_min * (1 - t) + ", "t**2 / 2": "(1 - t**2) / 2"},
        "This is the integral from t to 1. What has been lost by t is the integral from 0 to t.",
    ),
):
    vpsde.edit(*mistake)


@exercise("sde.reverse_sde_sample")
def reverse_sde_sample(f, draw):
    sde = fresh_sde(draw)
    data, times = GaussianData(draw, sde), walk(draw, 4)

    def euler(x, t, s):
        (a, b), x = data.slope(t, 1.0), x.double()
        return x + (a * x + b) * (s - t)

    x, last_two = 5 * draw.normal(4, 1, 3, 2), times[1:3]
    got, other = (f(data.score, x, sde, last_two, generator=draw.generator()) for _ in range(2))
    message = "two generators give two results: the last step leaves its noise out"
    yield holds("no noise in a single step, which is the last", alike(got, other, 0, 0), message)
    want = euler(x, *last_two)
    yield close("a single step", got, want, dtype=torch.float32, atol=1e-4)

    data.seen.clear()
    start = draw.normal(20_000, 1)
    got = f(data.score, start, sde, tuple(times), generator=draw.generator())
    asked = equal("times at which the score was asked, once a step", data.times(), [round(t, 5) for t in times[:-1]])
    yield asked
    if not asked.ok:
        return
    yield close("the first x that the score sees is the start", data.seen[0][0], start)
    noises, xs = [], [x for x, _ in data.seen]
    for i, (t, s) in enumerate(zip(times[:-2], times[1:])):  # the last step has none
        noise = (xs[i + 1].double() - euler(xs[i], t, s)) / (sde.beta(t) * (t - s)) ** 0.5
        one = noise.abs().max() > 1e-3 and noise.std() < 1e-3
        yield holds(f"each sample gets noise of its own in step {i + 1}", not one, "all get the same: draw x.shape")
        yield near(f"mean of the noise in step {i + 1}", noise.mean().item(), 0.0, within=0.04)
        yield near(f"standard deviation of the noise in step {i + 1}", noise.std().item(), 1.0, within=0.03)
        noises.append(noise)
    message = "the same noise in two steps: its pushes add up. Draw fresh noise for each step"
    yield holds("fresh noise in each step", (noises[0] * noises[1]).mean().abs() < 0.05, message)
    want = euler(xs[-1], *times[-2:])
    yield close("the last of several steps: no noise", got, want, dtype=torch.float32, atol=1e-4)

    seed, ends = draw.integers(0, 2**31 - 1), []

    def sample(callback):
        data.seen.clear()
        torch.manual_seed(seed)  # where the generator is ignored, another probe says so
        got = f(data.score, x, sde, times, torch.Generator().manual_seed(seed), callback=callback)
        ends[:] = [*(x for x, _ in data.seen[1:]), got]
        return got

    yield from callback_probes(sample, times, lambda: ends)
    yield from bad_times(lambda bad: f(data.score, x, sde, bad), {"times that rise": times[::-1]})
    one_step = dict(score=data.score, x=draw.normal(4, 5, 3, 2), sde=sde, times=last_two)
    for promise in ("samples", "layout"):
        yield from PROMISES[promise](f, one_step, draw)


@reverse_sde_sample.promises(
    "dtype",
    "device",
    "generator",
    "noise",
    samples="noise is drawn for a whole batch; a step without noise is tried instead",
    layout="noise may be drawn in the order of memory; a step without noise is tried instead",
    gradients="a sampler needs no graph",
)
def few_steps(f, draw):
    sde = fresh_sde(draw)
    inputs = dict(score=GaussianData(draw, sde).score, x=draw.normal(4, 5, 3, 2), sde=sde, times=[0.9, 0.5, 0.2])
    return f, {**inputs, "generator": draw.generator()}


reverse_sde_sample.edit(
    "the step's sign",
    {") * dt": ") * -dt"},
    "The drift is multiplied by t - s. Time runs backwards, so s - t is negative; that turns the drift round.",
)
reverse_sde_sample.edit(
    "half of the score", {"g**2": "g**2 / 2"}, "Half of g^2 score is the flow. With noise, all of it is needed."
)
reverse_sde_sample.edit(
    "plus instead of minus",
    {"- g**2": "+ g**2"},
    "The sign of the score is wrong: f - g^2 score. (dt is negative, so the step goes *towards* the data.)",
)
reverse_sde_sample.edit("g not squared", {"g**2": "g"}, "The score is multiplied by g, not by g^2.")
reverse_sde_sample.edit(
    "drift turned, too", {"(sde.drift": "(-sde.drift"}, "The drift is turned by hand, but dt < 0 turns it already."
)
reverse_sde_sample.edit(
    "noise times dt",
    {"math.sqrt(-dt)": "-dt"},
    "The noise is multiplied by the time step itself. Variances add up, so the noise of a step has the *variance* "
    "g^2 (t - s): take the root of t - s.",
)
reverse_sde_sample.edit(
    "noise without dt",
    {"math.sqrt(-dt) * ": ""},
    "The noise is the same for all step lengths: multiply by sqrt(t - s).",
)
reverse_sde_sample.edit(
    "root of a negative number",
    {"math.sqrt(-dt)": "torch.tensor(dt).sqrt()"},
    "s - t is negative, and its root is NaN. The noise needs the root of t - s.",
)
reverse_sde_sample.edit(
    "evaluated at the new time",
    {"at_time(now": "at_time(then"},
    "Drift and score are evaluated at s. They belong to the time that x has *before* the step: t.",
)
WHEN = "It belongs to the time that x has *before* the step: t."
G = "expand_like(sde.diffusion(t), x)"
for mistake in (
    ("score late", {"score(x, t)": "score(x, at_time(then, x))"}, f"The score is asked at s. {WHEN}"),
    ("drift late", {"drift(x, t)": "drift(x, at_time(then, x))"}, f"The drift is that of the time s. {WHEN}"),
    ("g late", {"g * math": "expand_like(sde.diffusion(at_time(then, x)), x) * math"}, f"The noise has g(s). {WHEN}"),
    ("no drift", {"sde.drift(x, t) - ": "-"}, "The drift f is missing: the step is f - g^2 score, times s - t."),
    ("no score", {" - g**2 * checked_like(score(x, t), x)": ""}, "The score is missing: the step is f - g^2 score."),
    ("noise times g^2", {"g * math": "g**2 * math"}, "The noise has the factor g^2. It is g."),
    ("noise without g", {"g * math": "math"}, "The noise lacks its factor g(t)."),
    (
        "drift first",
        {"t) - g**2": "t)) * dt\n        x = x - (g**2"},
        "The score is asked after the drift's step, not at x_t.",
    ),
    (
        "callback before the noise",
        {
            "        if then": "        if callback:\n            callback(then, x)\n        if then",
            "noise\n        if callback:\n            callback(then, x)": "noise",
        },
        "The callback is given x before the noise is added. Call it at the end of the step.",
    ),
    *WALKS,
    ("given SDE ignored", {"sde.": "type(sde)()."}, OTHER_SDE),
):
    reverse_sde_sample.edit(*mistake)
