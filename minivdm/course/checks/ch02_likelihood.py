"""Exercises 2.9 and 2.10: the divergence, and the likelihood."""

import math

import torch
from torch import nn

from minivdm.course.exercise import close, exercise, holds
from minivdm.course.probes import alike
from minivdm.course.shared_probes import PROMISES

from .ch02_shared import EULER_AT_END, OTHER_SDE, SDE, WALKS, GaussianData, bad_times, fresh_sde, per, walk

SIGNS = "The noise's signs are used instead of the noise: take it as it is given."


class Field(nn.Module):
    """A field in which all numbers of a sample act on each other: x_i sin(sum_j x_j mix_ji)."""

    def __init__(self, mix):
        super().__init__()
        self.mix = nn.Parameter(mix)

    def forward(self, x):
        return x * torch.sin(x.flatten(1) @ self.mix.to(x.dtype)).reshape(x.shape)


@exercise("sde.value_and_divergence")
def value_and_divergence(f, draw):
    names = ("value", "divergence")
    for name, shape in {
        "points (5, 3)": (5, 3),
        "pictures (4, 2, 3, 2), each number a dimension": (4, 2, 3, 2),
    }.items():
        size = math.prod(shape[1:])
        mix = draw.normal(size, size).double()

        def field(x, mix=mix):
            return torch.sin(x.flatten(1) @ mix.to(x.dtype)).reshape(x.shape) * x

        x, noise = draw.normal(*shape).double(), draw.normal(*shape).double()
        exact, again = f(field, x), f(field, x)
        message = "two equal calls differ: without `noise` the divergence is exact, and nothing is drawn"
        yield holds(f"no chance in it without noise, {name}", alike(exact, again, 0, 0), message)
        flat = x.flatten(1)
        inner = flat @ mix  # d field_i / d x_j = sin(inner_i) [i = j] + cos(inner_i) x_i mix_ji
        jacobian = torch.diag_embed(inner.sin()) + torch.einsum("bi,ji->bij", inner.cos() * flat, mix)
        want = field(x), torch.einsum("bii->b", jacobian)
        yield close(f"value and exact divergence, {name}", exact, want, names=names)
        guess, again = f(field, x, noise), f(field, x, noise)
        message = "two equal calls differ: take the `noise` that is given, and draw none"
        yield holds(f"the noise is the one that was given, {name}", alike(guess, again, 0, 0), message)
        e = noise.flatten(1)
        estimate = torch.einsum("bi,bij,bj->b", e, jacobian, e)
        yield close(f"value and noise^T J noise, {name}", guess, (want[0], estimate), names=names)
    with torch.no_grad():
        inside = f(field, x)
    yield close("inside torch.no_grad()", inside, want, names=names)
    free = not any(part.requires_grad for part in (*f(field, x), *f(field, x, noise)))
    yield holds("results detached from the graph", free, "a result still requires grad: the graph would grow and grow")
    yield close("float32", f(field, x.float()), want, 1e-4, 1e-3, dtype=torch.float32, names=names)
    x = draw.normal(2, 3, 8, 10).double()

    def neighbours(x):
        return x.sin() + x * x.flatten(1).roll(1, 1).reshape(x.shape)

    want = neighbours(x), (x.cos().flatten(1) + x.flatten(1).roll(1, 1)).sum(1)
    yield close("240 dimensions, exact all the same", f(neighbours, x), want, names=names)
    inputs = dict(field=Field(draw.normal(6, 6)), x=draw.normal(4, 1, 3, 2), noise=draw.normal(4, 1, 3, 2))
    for promise in ("samples", "layout", "device"):
        yield from PROMISES[promise](f, inputs, draw)


@value_and_divergence.promises(
    "samples", "dtype", "layout", "device", gradients="the docstring promises results detached from the graph"
)
def in_a_network(f, draw):
    return f, dict(field=Field(draw.normal(6, 6)), x=draw.normal(4, 1, 3, 2))


value_and_divergence.edit(
    "whole rows",
    {"row.flatten(1)[:, i]": "row.flatten(1).sum(dim=1)"},
    "This adds up *all* entries of the Jacobian, as does the gradient of value.sum(). The divergence is its diagonal "
    "alone: one backward pass for each dimension i, of which entry i counts.",
)
value_and_divergence.edit(
    "noise on one side only",
    {"(product * noise)": "product"},
    "noise^T J is right, but it must be multiplied by the noise once more before it is summed: noise^T J noise.",
)
value_and_divergence.edit(
    "mean instead of sum",
    {"sum(dim=1)": "mean(dim=1)", "divergence.detach()": "divergence.detach() / x[0].numel()"},
    "This is the mean over the dimensions. The divergence is the sum.",
)
value_and_divergence.edit(
    "noise ignored",
    {"if noise is not None": "if False"},
    "The exact divergence is computed even if `noise` is given. For a picture with its thousands of dimensions that "
    "would take for ever.",
)
value_and_divergence.edit(
    "gradients switched off",
    {"with torch.enable_grad():": "if True:"},
    "Inside torch.no_grad() this fails, and samplers are often called there. Put the work under torch.enable_grad().",
)
for mistake in (
    (
        "noise at the end",
        {"(value * noise)": "value"},
        "The left factor of noise^T J noise is missing: (value * noise).",
    ),
    ("last dimension missing", {"unbind(dim=1))": "unbind(dim=1)[:-1])"}, "The last dimension is left out of the sum."),
    ("two dimensions", {"unbind(dim=1))": "unbind(dim=1)[:2])"}, "Only the first two dimensions are summed: take all."),
    ("channels", {"(dim=1))": "(dim=1)[:value.shape[1]])"}, "As many numbers as channels are summed: take all."),
    ("signs", {"noise).sum()": "noise.sign()).sum()", "product * noise": "product * noise.sign()"}, SIGNS),
    ("divided by the noise", {"product * noise": "product / noise"}, "noise^T J is divided by the noise: multiply."),
    ("entry before", {"[:, i]": "[:, i - 1]"}, "Of the gradient of entry i, entry i - 1 is taken: not the diagonal."),
    ("v * noise", {"value.detach(), (": "(value * noise).detach(), ("}, "The value has been multiplied by noise."),
    ("first noise", {"* noise)": "* noise[:1])"}, "All samples get the noise of the first one. Each has its own."),
    (
        "first axis only",
        {
            "value.flatten(1).unbind(dim=1)": "value.unbind(dim=1)",
            "row.flatten(1)[:, i]": "row[:, i].reshape(len(x), -1).sum(dim=1)",
        },
        "This goes through the channels, not through all numbers of a picture: flatten(1) first.",
    ),
    (
        "gradients pile up",
        {
            "row = torch.autograd.grad(part.sum(), x, ": "part.sum().backward(",
            "=True)[0]": "=True)",
            "row.fl": "x.grad.fl",
        },
        "backward() *adds* to x.grad, so each pass holds all earlier ones. torch.autograd.grad returns one pass alone.",
    ),
):
    value_and_divergence.edit(*mistake)


class Coupled:
    """A score that is no straight line, in which neighbours act on each other: -(1 + t) (sin x_i + cos x_{i+1})."""

    def __init__(self, sde):
        self.sde = sde

    def score(self, x, t):
        y, scale = x.flatten(1), 1 + per(t, x).flatten(1)
        return -(scale * (y.sin() + y.roll(-1, 1).cos())).reshape(x.shape)

    def flow(self, x, t, e=None):
        """dx/dt at points (B, D), and its divergence, or e^T J e."""
        half, scale = self.sde.beta(t) / 2, 1 + t
        own, next_one = half * (scale * x.cos() - 1), -half * scale * x.roll(-1, 1).sin()  # J_{i,i} and J_{i,i+1}
        spread = own if e is None else own * e**2 + next_one * e * e.roll(-1, 1)
        return half * (scale * (x.sin() + x.roll(-1, 1).cos()) - x), spread.sum(1)


@exercise("sde.ode_log_likelihood")
def ode_log_likelihood(f, draw):
    for name, shape, noisy in (
        ("exact divergences of points", (5, 2), False),
        ("divergences by noise", (5, 2, 4, 3), True),
        ("exact divergences of pictures", (5, 2, 4, 3), False),
    ):
        sde = fresh_sde(draw)
        score, times = Coupled(sde), walk(draw, 3)[::-1]
        x, noise = draw.normal(*shape).double(), draw.normal(*shape).double() if noisy else None
        got, again = f(score.score, x, sde, times, noise), f(score.score, x, sde, tuple(times), noise)
        message = "two equal calls differ: exact without `noise`; with it, the same noise at all times"
        yield holds(f"no chance in it, {name}", alike(got, again, 0, 0), message)
        end, e, total = x.flatten(1), noise.flatten(1) if noisy else None, torch.zeros(5, dtype=torch.float64)
        for t, s in zip(times, times[1:]):
            first, one = score.flow(end, t, e)
            second, other = score.flow(end + (s - t) * first, s, e)
            end, total = end + (s - t) / 2 * (first + second), total + (s - t) / 2 * (one + other)
        want = torch.distributions.Normal(0, 1).log_prob(end).sum(1) + total
        yield (right := close(f"{len(times) - 1} steps, {name}", got, want, 1e-4))
        if not right.ok:
            return  # the rest would only repeat it, slowly
        got = f(score.score, x.float(), sde, times, noise.float() if noisy else None)
        yield close(f"the same in float32, {name}", got, want, 1e-3, 1e-3, dtype=torch.float32)
    fine = [0.01 + 0.99 * i / 60 for i in range(61)]
    big = SDE(draw.uniform(1, low=0.5, high=2).item(), 30.0)  # strong enough that data becomes standard normal at t = 1
    data = GaussianData(draw, big)
    mean, v = big.alpha_bar(0.01) ** 0.5 * data.mean, data.variance(0.01)
    x = mean + v**0.5 * draw.normal(6, 3).double()
    want = torch.distributions.Normal(mean, v**0.5).log_prob(x).sum(1)
    yield close("60 steps: log density of Gaussian data", f(data.score, x, big, fine), want, atol=0.03, rtol=0.02)
    others = {"times that fall": times[::-1], "times that turn back": [0.3, 0.9, 0.5]}
    yield from bad_times(lambda bad: f(data.score, x, big, bad), others)


@ode_log_likelihood.promises(
    "samples", "dtype", "layout", "device", gradients="divergences come detached from the graph"
)
def few_steps(f, draw):
    sde = fresh_sde(draw)
    inputs = dict(score=Coupled(sde).score, x=draw.normal(4, 1, 3, 2), sde=sde, times=[0.2, 0.5, 1.0])
    return f, {**inputs, "noise": draw.normal(4, 1, 3, 2)}


ode_log_likelihood.edit(
    "integral subtracted",
    {"log_normal + total": "log_normal - total"},
    "The integral has the wrong sign. Where the flow spreads points apart, the density at the start was *higher* than "
    "it is at the end: add it.",
)
ode_log_likelihood.edit(
    "no log N(x_1)", {"log_normal + total": "total"}, "The log density of the noise that the walk ends in is missing."
)
ode_log_likelihood.edit(
    "log N of the data",
    {"total = x.new_zeros(len(x))": "total, start = x.new_zeros(len(x)), x", "x**2": "start**2"},
    "log N is evaluated at the data x_0. It belongs to where the walk ends, x_1: does x move along the flow?",
)
ode_log_likelihood.edit(
    "one dimension's constant",
    {"(x**2 + math.log(2 * math.pi)).flatten(1).sum(dim=1)": "((x**2).flatten(1).sum(dim=1) + math.log(2 * math.pi))"},
    "log(2 pi) / 2 is subtracted once. It belongs to each dimension.",
)
ode_log_likelihood.edit(
    "constant missing", {" + math.log(2 * math.pi)": ""}, "Each dimension's log(2 pi) / 2 is missing from log N."
)
ode_log_likelihood.edit(
    "integral by Euler",
    {"(divergence_1 + divergence_2) / 2": "divergence_1"},
    "Only the divergence at the start of each step is used: take the mean of both ends, as for x.",
)
ode_log_likelihood.edit(
    "no dt", {"total + dt * ": "total + "}, "The divergences are added up as they are: multiply each by s - t."
)
ode_log_likelihood.edit("noise ignored", {", noise)": ")"}, "`noise` is not handed on to value_and_divergence.")
MEAN, BOTH, LOG = "(divergence_1 + divergence_2) / 2", "(first + second) / 2", "math.log(2 * math.pi)"
SUM, RESULT = f"(x**2 + {LOG}).flatten(1).sum(dim=1)", "return log_normal + total"
for mistake in (
    ("second only", {MEAN: "divergence_2"}, "Only the divergence at each step's end is used: take both ends' mean."),
    (
        "second divergence at the old place",
        {"second, divergence_2 =": "divergence_2 = value_and_divergence(flow(s), x, noise)[1]\n        second, _ ="},
        "The second divergence is taken where the step began. Like the second slope, it belongs to x + (s - t) k_1.",
    ),
    ("old time twice", {"flow(s)": "flow(t)"}, "Both slopes are taken at the time t. The second belongs to s."),
    ("points by Euler", {BOTH: "first"}, "The points go by Euler's steps: take the mean of both slopes."),
    ("all by Euler", {BOTH: "first", MEAN: "divergence_1"}, "These are Euler's steps: take the mean of both ends."),
    (
        "Euler at the end",
        {BOTH: EULER_AT_END, "divergence_2)": "(divergence_1 if then == times[-1] else divergence_2))"},
        "The last step is Euler's. All are Heun's.",
    ),
    (
        "noise once",
        {"there, noise": "there"},
        "Only a step's first divergence is estimated with `noise`: give it to both.",
    ),
    ("signs of the noise", {", noise)": ", None if noise is None else noise.sign())"}, SIGNS),
    ("mean", {".sum(dim=1) / 2": ".mean(dim=1) / 2"}, "log N is a mean over the dimensions: take the sum."),
    ("not halved", {LOG: f"2 * {LOG}"}, "log(2 pi) is subtracted for each dimension. It is half: log sqrt(2 pi)."),
    ("bits", {RESULT: "return (log_normal + total) / math.log(2)"}, "This is in bits, not in nats."),
    ("per time", {"+ total": "+ total / (times[-1] - times[0])"}, "The integral is divided by the length of time."),
    ("batch", {LOG: f"len(x) * {LOG}"}, "log(2 pi) / 2 is subtracted for the whole batch's numbers, not a sample's."),
    (
        "channels",
        {SUM: f"((x**2).flatten(1).sum(dim=1) + x.shape[1] * {LOG})"},
        "log(2 pi) / 2: each number, not channel.",
    ),
    ("mean integral", {"+ total": "+ total.mean()"}, "All samples get the batch's mean integral. Each has its own."),
    (
        "score's divergence missing",
        {"probability_flow(score, y": "probability_flow(lambda *given: score(*given).detach(), y"},
        "The divergence of the score is missing: it must not be asked under no_grad, nor be detached.",
    ),
    *WALKS[:2],
    ("given SDE ignored", {", sde)": ", type(sde)())"}, OTHER_SDE),
):
    ode_log_likelihood.edit(*mistake)
