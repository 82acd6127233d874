"""Exercises 2.5 and 2.6: the variance-preserving SDE, and its reverse."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, near, raises

from .ch02_shared import SHAPELESS, FreshSDE, GaussianData, callback_probes, per, walk
from .common import SHAPES, right_device, same_seed_same_result


@exercise("sde.VPSDE")
def vpsde(f, draw):
    for low, high in ((0.1, 20.0), (draw.uniform(1, low=0.2, high=2).item(), draw.uniform(1, low=3, high=12).item())):
        sde = f(low, high)

        def beta(t, low=low, high=high):
            return low + t.double() * (high - low)

        name = f"beta from {low:.3g} to {high:.3g}"
        t = torch.cat([draw.uniform(5, low=0.05, high=0.95), torch.tensor([0.0, 1.0])]).double()
        grid = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None] * t  # (1001, 7)
        want = torch.exp(-torch.trapezoid(beta(grid), grid, dim=0))
        yield close(f"alpha_bar by numerical integration, {name}", sde.alpha_bar(t), want, rtol=1e-4, atol=1e-8)
        yield close(f"diffusion, {name}", sde.diffusion(t), beta(t).sqrt())
        for kind, shape in SHAPES.items():
            x, t = draw.normal(*shape), draw.uniform(shape[0])
            want = -0.5 * per(beta(t), x.double()) * x
            yield close(f"drift for {kind}, {name}", sde.drift(x, t), want, dtype=torch.float32)


vpsde.edit(
    "no half in the integral",
    {"t**2 / 2": "t**2"},
    "This is exp(-beta(t) t), as if beta had been that large all the way. It grows on a line, so its integral from 0 "
    "to t has a half: beta_min t + (beta_max - beta_min) t^2 / 2.",
)
vpsde.edit(
    "square root of alpha_bar",
    {"t**2 / 2)": "t**2 / 2) / 2"},
    "This is sqrt(alpha_bar), the factor of the picture. alpha_bar is a share of *variance*: exp(-integral), without "
    "the half that stands in the drift.",
)
vpsde.edit("noise instead of picture", {"torch.exp": "1 - torch.exp"}, "This is the share of noise, 1 - alpha_bar.")
vpsde.edit("growing", {"exp(-": "exp("}, "alpha_bar grows here. The exponent is minus the integral.")
vpsde.edit("drift's sign", {"-expand_like": "expand_like"}, "The drift points away from zero: put a minus in front.")
vpsde.edit(
    "drift without half", {"x / 2": "x"}, "The drift is twice too strong: sqrt(1 - beta dt) is about 1 - beta dt / 2."
)
vpsde.edit(
    "root in the drift", {"beta(t), x": "beta(t).sqrt(), x"}, "The drift has beta(t) itself; the root belongs to g."
)
vpsde.edit(
    "shape (B,)",
    {"expand_like(self.beta(t), x)": "self.beta(t)"},
    SHAPELESS.format("beta(t)", "expand_like(self.beta(t), x)"),
)
vpsde.edit(
    "variance as g", {".sqrt()": ""}, "This is a variance per time. g multiplies the noise itself: take the root."
)
vpsde.edit(
    "the noise so far",
    {"self.beta(t).sqrt()": "(1 - self.alpha_bar(t)).sqrt()"},
    "This is the standard deviation of all noise up to t. g(t) is the rate at which it comes in *now*.",
)
vpsde.edit(
    "half in the diffusion",
    {"self.beta(t).sqrt()": "(self.beta(t) / 2).sqrt()"},
    "There is no half in g: g^2 = beta(t). The half belongs to the drift alone.",
)


@exercise("sde.reverse_sde_sample")
def reverse_sde_sample(f, draw):
    sde = FreshSDE(draw)
    data, times = GaussianData(draw, sde), walk(draw, 4)

    def euler(x, t, s):
        (a, b), x = data.slope(t, 1.0), x.double()
        return x + (a * x + b) * (s - t)

    x, last_two = draw.normal(4, 1, 3, 3), times[1:3]
    got = f(data.score, x, sde, last_two, generator=draw.generator())
    want = euler(x, *last_two)
    yield close("a single step, which is the last: no noise", got, want, dtype=torch.float32, atol=1e-4)

    data.seen.clear()
    start = draw.normal(20_000, 1)
    got = f(data.score, start, sde, times, generator=draw.generator())
    yield equal("times at which the score was asked", data.times(), [round(t, 5) for t in times[:-1]])
    yield close("the first x that the score sees is the start", data.seen[0][0], start)
    noises, xs = [], [x for x, _ in data.seen]
    for i, (t, s) in enumerate(zip(times[:-2], times[1:])):  # the last step has none
        noises.append((xs[i + 1].double() - euler(xs[i], t, s)) / (sde.beta(t) * (t - s)) ** 0.5)
        yield near(f"mean of the noise in step {i + 1}", noises[-1].mean().item(), 0.0, within=0.04)
        yield near(f"standard deviation of the noise in step {i + 1}", noises[-1].std().item(), 1.0, within=0.03)
    message = "the same noise in two steps: its pushes add up. Draw fresh noise for each step"
    yield holds("fresh noise in each step", (noises[0] * noises[1]).mean().abs() < 0.05, message)

    def sample(generator, callback=None):
        return f(data.score, x, sde, times, generator=generator, callback=callback)

    generator = draw.generator()
    yield from same_seed_same_result("sample", sample, draw)
    yield right_device(lambda: sample(generator))
    want = euler(xs[-1], *times[-2:])
    yield close("the last of several steps: no noise", got, want, dtype=torch.float32, atol=1e-4)
    yield from callback_probes(lambda callback: sample(draw.generator(), callback), times)
    for bad in ([0.9, 0.0], times[::-1]):
        yield raises(f"times {bad}", ValueError, lambda bad=bad: f(data.score, x, sde, bad))


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
    "no noise",
    {"if then != times[-1]": "if False"},
    "There is no noise. With all of g^2 score and no noise, points fall into the modes and the spread is lost.",
)
reverse_sde_sample.edit(
    "noise in the last step",
    {"if then != times[-1]": "if True"},
    "The last step adds noise, too, and nothing removes it again: leave it out there.",
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
    "no generator", {"generator=generator, ": ""}, "The noise is not from `generator`: a sample cannot be repeated."
)
reverse_sde_sample.edit(
    "evaluated at the new time",
    {"at_time(now": "at_time(then"},
    "Drift and score are evaluated at s. They belong to the time that x has *before* the step: t.",
)
reverse_sde_sample.edit(
    "times not checked",
    {"checked_times(times, falling=True)": "times"},
    "Good times are walked well, but times that rise or contain 0 are walked without complaint. Call "
    "checked_times(times, falling=True) first.",
)
reverse_sde_sample.edit(
    "no callback", {"callback(then, x)": "pass"}, "The callback is never called. After each step: callback(s, x)."
)
