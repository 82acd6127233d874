"""Exercise 2.6: the reverse SDE."""

import math

import torch

from minivdm.course.exercise import close, equal, exercise, holds, near, raises

from .ch02_shared import FreshSDE, GaussianData, per, walk
from .common import right_device


@exercise("sde.reverse_sde_sample")
def reverse_sde_sample(f, draw):
    sde = FreshSDE(draw)
    data, times = GaussianData(draw, sde), walk(draw, 4)
    now, then = times[1:3]
    x = draw.normal(4, 1, 3, 3)
    a, b = data.slope(now, 1.0)
    want = x.double() + (a * x.double() + b) * (then - now)
    got = f(data.score, x, sde, [now, then], generator=draw.generator())
    yield close("a single step, which is the last: no noise", got, want, dtype=torch.float32, atol=1e-4)

    data.seen.clear()
    start = draw.normal(20_000, 1)
    got = f(data.score, start, sde, times, generator=draw.generator())
    yield equal("times at which the score was asked", data.times(), [round(t, 5) for t in times[:-1]])
    yield close("the first x that the score sees is the start", data.seen[0][0], start)
    noises, xs = [], [x for x, _ in data.seen]
    for i in range(len(times) - 2):  # the last step has none
        (a, b), h = data.slope(times[i], 1.0), times[i + 1] - times[i]
        left = xs[i + 1].double() - xs[i].double() - (a * xs[i].double() + b) * h
        noises.append(left / (sde.beta(times[i]) * -h) ** 0.5)
        yield near(f"mean of the noise in step {i + 1}", noises[-1].mean().item(), 0.0, within=0.04)
        yield near(f"standard deviation of the noise in step {i + 1}", noises[-1].std().item(), 1.0, within=0.03)
    message = "the same noise in two steps: its pushes add up. Draw fresh noise for each step"
    yield holds("fresh noise in each step", (noises[0] * noises[1]).mean().abs() < 0.05, message)
    (a, b), h = data.slope(times[-2], 1.0), times[-1] - times[-2]
    want = xs[-1].double() * (1 + a * h) + b * h
    yield close("the last of several steps: no noise", got, want, dtype=torch.float32, atol=1e-4)

    calls = []
    x = draw.normal(3, 2)
    got = f(data.score, x, sde, times, generator=draw.generator(), callback=lambda *a: calls.append(a))
    yield equal("first argument of each callback(s, x)", [round(a[0], 5) for a in calls], times[1:])
    yield close("x in the last callback: the result", calls[-1][1], got)
    generator = draw.generator()
    state = generator.get_state()
    first = f(data.score, x, sde, times, generator=generator)
    generator.set_state(state)
    again = f(data.score, x, sde, times, generator=generator)
    message = "the noise must come from `generator`: torch.randn(x.shape, generator=generator, device=x.device)"
    yield holds("the same generator state gives the same sample", torch.equal(first, again), message)
    generator = draw.generator()
    yield right_device(lambda g=generator: f(data.score, x, sde, times, generator=g))
    for bad in (times[::-1], [0.9, 0.0]):
        yield raises(f"times {bad}", ValueError, lambda bad=bad: f(data.score, x, sde, bad))


def walk_with(mistake, score, x, sde, times, generator, callback):
    """A sampler with room for one mistake."""
    pairs = list(zip(times[:-1], times[1:]))
    if mistake != "unchecked" and (not all(0 < t <= 1 for t in times) or not all(t > s for t, s in pairs)):
        raise ValueError("times")
    where = {} if mistake == "no device" else {"device": x.device}
    once = torch.randn(x.shape, generator=generator, **where)
    for now, then in pairs[:-1] if mistake == "stops early" else pairs:
        t = torch.full(x.shape[:1], then if mistake == "new time" else now, dtype=x.dtype)
        h = now - then if mistake == "sign" else then - now
        f, g, s = sde.drift(x, t), per(sde.diffusion(t), x), score(x, t)
        drift = {
            "half": f - g**2 * s / 2,
            "plus": f + g**2 * s,
            "g": f - g * s,
            "no score": f,
            "no drift": -(g**2) * s,
            "turned drift": -f - g**2 * s,
        }.get(mistake, f - g**2 * s)
        fresh = torch.randn(x.shape, generator=None if mistake == "own noise" else generator, **where)
        noise = {"no noise": 0 * x, "one noise": once, "rand": (fresh > 0).to(x.dtype)}.get(mistake, fresh)
        size = {
            "dt": g * abs(h),
            "no dt": g,
            "no g": math.sqrt(abs(h)),
            "g squared": g**2 * math.sqrt(abs(h)),
            "nan": g * torch.tensor(-abs(h)).sqrt(),
        }.get(mistake, g * math.sqrt(abs(h)))
        keep = 1.0 if then != times[-1] or mistake == "noise at the end" else 0.0
        x = x + drift * h + (size * noise if keep else 0)
        if callback and mistake != "no callback":
            callback(now if mistake == "old time" else then, x)
        if mistake == "returns early":
            return x
    return x


def wrong(mistake, label, hint):
    """Add a misconception: the sampler above with one mistake in it."""

    def sample(score, x, sde, times, generator=None, callback=None):
        return walk_with(mistake, score, x, sde, times, generator, callback)

    reverse_sde_sample.misconception(label, hint)(sample)


wrong(
    "sign",
    "the step's sign",
    "The drift is multiplied by t - s. Time runs backwards here, so dt = s - t is negative; that alone turns the "
    "drift round.",
)
wrong(
    "half", "half of the score", "Half of g^2 score is the flow, which has no noise. With noise, all of it is needed."
)
wrong(
    "plus",
    "plus instead of minus",
    "The sign of the score is wrong: f - g^2 score. (dt is negative, so the step goes *towards* the data.)",
)
wrong("g", "g not squared", "The score is multiplied by g, not by g^2.")
wrong("no score", "no score", "Only the drift f is followed. Backwards in time it blows x up; the score is missing.")
wrong("no drift", "no drift", "The drift f is missing: the step has f - g^2 score.")
wrong("turned drift", "drift turned round as well", "The drift's sign is turned by hand, but dt < 0 turns it already.")
wrong(
    "no noise",
    "no noise",
    "There is no noise. With all of g^2 score and no noise, points fall into the modes and the spread is lost.",
)
wrong(
    "noise at the end",
    "noise in the last step",
    "The last step adds noise, too, and nothing removes it again: leave it out there.",
)
wrong(
    "dt",
    "noise times dt",
    "The noise is multiplied by the time step itself. Variances add up, so the noise of a step has the *variance* "
    "g^2 (t - s): take the root of t - s.",
)
wrong(
    "no dt",
    "noise not scaled by the step",
    "The noise is as large for a small step as for a large one: multiply by sqrt(t - s).",
)
wrong("no g", "noise without g", "The noise has the size sqrt(t - s); the factor g is missing.")
wrong("g squared", "g squared in the noise", "g^2 is a variance per time. The noise itself is multiplied by g.")
wrong("nan", "root of a negative number", "s - t is negative, and its root is NaN. The noise needs the root of t - s.")
wrong("rand", "noise that is not normal", "The noise is not standard normal: use torch.randn, not torch.rand.")
wrong("one noise", "the same noise in every step", "The noise is drawn once, outside the loop. Draw it in each step.")
wrong("own noise", "generator ignored", "The noise does not come from `generator`, so a sample cannot be repeated.")
wrong(
    "new time",
    "evaluated at the new time",
    "Drift and score are evaluated at s. They belong to the time that x has *before* the step: t.",
)
wrong("stops early", "one step too few", "The last pair of times is not walked.")
wrong(
    "unchecked",
    "times not checked",
    "Good times are walked well, but times that rise or contain 0 are walked without complaint. Call "
    "checked_times(times, falling=True) first.",
)
wrong("returns early", "return inside the loop", "Only one step is made: the `return` stands inside the loop.")
wrong("no callback", "callback never called", "The callback is never called. After each step: callback(s, x).")
wrong(
    "old time", "callback with the old time", "The callback gets the time *before* the step. It belongs to the new x."
)
wrong("no device", "noise drawn on the CPU", "This works on a CPU only: give torch.randn device=x.device.")
