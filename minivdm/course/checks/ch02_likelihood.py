"""Exercises 2.9 and 2.10: the divergence, and the likelihood."""

import math

import torch

from minivdm.course.exercise import close, exercise, holds, raises

from .ch02_shared import FreshSDE, GaussianData, per, walk


@exercise("sde.value_and_divergence")
def value_and_divergence(f, draw):
    for name, shape in {"points (5, 3)": (5, 3), "images (4, 1, 2, 3)": (4, 1, 2, 3)}.items():
        size = math.prod(shape[1:])
        mix = draw.normal(size, size).double()

        def field(x, mix=mix):
            return torch.sin(x.flatten(1) @ mix).reshape(x.shape) * x

        x, noise = draw.normal(*shape).double(), draw.normal(*shape).double()
        flat = x.flatten(1)
        inner = flat @ mix  # d field_i / d x_j = sin(inner_i) [i = j] + cos(inner_i) x_i mix_ji
        jacobian = torch.diag_embed(inner.sin()) + torch.einsum("bi,ji->bij", inner.cos() * flat, mix)
        want = field(x), torch.einsum("bii->b", jacobian)
        names = ("value", "divergence")
        got = f(field, x)
        yield close(f"value and exact divergence, {name}", got, want, names=names)
        e = noise.flatten(1)
        estimate = torch.einsum("bi,bij,bj->b", e, jacobian, e)
        yield close(f"value and noise^T J noise, {name}", f(field, x, noise), (want[0], estimate), names=names)
    with torch.no_grad():
        inside = f(field, x)
    yield close("inside torch.no_grad()", inside, want, names=names)
    free = not any(part.requires_grad for part in (*f(field, x), *f(field, x, noise)))
    yield holds("results detached from the graph", free, "a result still requires grad: the graph would grow and grow")


def divergence_with(mistake, field, x, noise):
    """A divergence with room for one mistake."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = field(x)
        if mistake == "sum of all":
            return value.detach(), torch.autograd.grad(value.sum(), x)[0].flatten(1).sum(1)
        if noise is not None and mistake != "always exact":
            product = torch.autograd.grad((value * noise).sum(), x, create_graph=mistake == "graph")[0]
            if mistake == "only once":
                return value.detach(), product.flatten(1).sum(1)
            if mistake == "mean":
                return value.detach(), (product * noise).flatten(1).mean(1)
            total = (product * noise).flatten(1).sum(1)
            return (value, total) if mistake == "graph" else (value.detach(), total)
        total = 0
        for i in range(x[0].numel()):
            part = value.flatten(1)[:, i].sum()
            row = torch.autograd.grad(part, x, retain_graph=True, create_graph=mistake == "graph")[0].flatten(1)
            total = total + (row.sum(1) if mistake == "whole rows" else row[:, i])
        total = total / x[0].numel() if mistake == "mean" else total
        if mistake == "one number":
            return value.detach(), total.sum()
        if mistake == "order":
            return total, value.detach()
        return (value, total) if mistake == "graph" else (value.detach(), total.detach())


def _div(mistake, label, hint):
    """Add a misconception: the divergence above with one mistake in it."""

    def divergence(field, x, noise=None):
        return divergence_with(mistake, field, x, noise)

    value_and_divergence.misconception(label, hint)(divergence)


_div(
    "sum of all",
    "one backward pass for everything",
    "The gradient of value.sum(), summed up, adds up *all* entries of the Jacobian. The divergence is its diagonal "
    "alone: one backward pass for each dimension i, of which entry i counts.",
)
_div(
    "whole rows",
    "whole rows",
    "For each dimension the whole row of the Jacobian is added up. Only entry i of row i belongs to the diagonal.",
)
_div(
    "only once",
    "noise on one side only",
    "noise^T J is right, but it must be multiplied by the noise once more before it is summed: noise^T J noise.",
)
_div("mean", "mean instead of sum", "This is the mean over the dimensions. The divergence is the sum.")
_div(
    "always exact",
    "noise ignored",
    "The exact divergence is computed even if `noise` is given. For a picture with its thousands of dimensions that "
    "would take for ever.",
)
_div(
    "one number",
    "one number for the batch",
    "The divergences of all samples are summed up: keep one for each sample, (B,).",
)
_div(
    "graph",
    "graph kept",
    "The results are still tied to the graph. Over a hundred steps it would fill the memory: "
    "return .detach()ed tensors, and leave out create_graph.",
)
_div("order", "wrong order", "The value comes first, then the divergence.")


@value_and_divergence.misconception(
    "gradients switched off",
    "Inside torch.no_grad() this fails, and samplers are often called there. Put the work under torch.enable_grad().",
)
def _(field, x, noise=None):
    if not torch.is_grad_enabled():
        raise RuntimeError("element 0 of tensors does not require grad")
    return divergence_with("", field, x, noise)


@exercise("sde.ode_log_likelihood")
def ode_log_likelihood(f, draw):
    sde = FreshSDE(draw)
    data, times = GaussianData(draw, sde), walk(draw, 3)[::-1]
    x, noise = draw.normal(5, 1, 2, 2).double(), draw.normal(5, 1, 2, 2).double()
    size = noise.flatten(1).square().sum(1)
    for name, given, trace in (("exact", None, torch.full((5,), 4.0)), ("with noise", noise, size)):
        end, total = x, torch.zeros(5, dtype=torch.float64)
        for t, s in zip(times, times[1:]):
            (a, b), (c, d), h = data.slope(t, 0.5), data.slope(s, 0.5), s - t
            first = a * end + b
            end = end + h / 2 * (first + c * (end + h * first) + d)
            total = total + h / 2 * (a + c) * trace  # J = a I, so noise^T J noise = a |noise|^2
        normal = torch.distributions.Normal(0, 1).log_prob(end).flatten(1).sum(1)
        yield close(f"{len(times) - 1} steps, {name}", f(data.score, x, sde, times, given), normal + total)
    fine = [0.01 + 0.99 * i / 60 for i in range(61)]
    big = FreshSDE(draw)  # strong enough that the data has become standard normal at t = 1
    big.beta_max = 30.0
    data.sde = big
    mean, v = big.alpha_bar(0.01) ** 0.5 * data.mean, data.variance(0.01)
    x = mean + v**0.5 * draw.normal(6, 3).double()
    want = torch.distributions.Normal(mean, v**0.5).log_prob(x).sum(1)
    yield close("60 steps: log density of Gaussian data", f(data.score, x, big, fine), want, atol=0.03, rtol=0.02)
    for bad in (fine[::-1], [0.0, 1.0]):
        yield raises(f"times {bad[0]:g}, ..., {bad[-1]:g}", ValueError, lambda bad=bad: f(data.score, x, big, bad))


def likelihood_with(mistake, score, x, sde, times, noise):
    """A log-likelihood with room for one mistake."""
    pairs = list(zip(times, times[1:]))
    if mistake != "unchecked" and (not all(0 < t <= 1 for t in times) or not all(t < s for t, s in pairs)):
        raise ValueError("times")
    noise = None if mistake == "noise ignored" else noise

    def slope(x, time):
        def field(x):
            t = torch.full(x.shape[:1], time, dtype=x.dtype)
            return sde.drift(x, t) - per(sde.diffusion(t), x) ** 2 * score(x, t) / 2

        return divergence_with("", field, x, noise)

    total, start = 0, x
    for now, then in pairs:
        h = then - now
        first, one = slope(x, now)
        second, two = slope(x + h * first, then)
        part = {"first only": one, "sum": one + two}.get(mistake, (one + two) / 2)
        total = total + (part if mistake == "no dt" else h * part)
        x = x + h * (first if mistake == "euler" else (first + second) / 2)
    x = start if mistake == "prior of the data" else x
    square, size = x.flatten(1).square().sum(1), x[0].numel()
    normal = -square / 2 - math.log(2 * math.pi) / 2 * (1 if mistake == "one 2 pi" else size)
    changed = {"no half": normal - square / 2, "no prior": 0 * normal, "no constant": -square / 2}
    result = changed.get(mistake, normal) + (-total if mistake == "minus" else total)
    return {"per dimension": result / size, "one number": result.sum(), "negative": -result}.get(mistake, result)


def _ll(mistake, label, hint):
    """Add a misconception: the likelihood above with one mistake in it."""

    def likelihood(score, x, sde, times, noise=None):
        return likelihood_with(mistake, score, x, sde, times, noise)

    ode_log_likelihood.misconception(label, hint)(likelihood)


_ll(
    "minus",
    "integral subtracted",
    "The integral has the wrong sign. Where the flow spreads points apart, the density at the start was *higher* than "
    "it is at the end: add it.",
)
_ll("no prior", "no log N(x_1)", "The log density of the noise that the walk ends in is missing.")
_ll(
    "prior of the data",
    "log N of the data",
    "log N is evaluated at the data x_0. It belongs to where the walk ends, x_1: does x move along the flow?",
)
_ll("one 2 pi", "one dimension's constant", "log(2 pi) / 2 is subtracted once. It belongs to each dimension.")
_ll("no constant", "constant missing", "The constant log(2 pi) / 2 of each dimension is missing from log N.")
_ll("no half", "half missing in log N", "log N has x^2 / 2; here x^2 is not halved.")
_ll("euler", "x moves by Euler's steps", "The integral is Heun's, but x moves by its first slope alone: use both.")
_ll(
    "first only",
    "integral by Euler",
    "Only the divergence at the start of each step is used: take the mean of both ends, as for x.",
)
_ll("sum", "divergences added", "The two divergences of a step are added: take their mean.")
_ll("no dt", "divergence not times dt", "The divergences are added up as they are: multiply each by the step, s - t.")
_ll("noise ignored", "noise ignored", "`noise` is not handed on to value_and_divergence.")
_ll(
    "per dimension",
    "per dimension",
    "This is divided by the number of dimensions. Asked for is log p of the whole sample.",
)
_ll(
    "one number",
    "one number for the batch",
    "The log-likelihoods of all samples are summed up: keep one for each, (B,).",
)
_ll(
    "negative",
    "negative log-likelihood",
    "This is -log p(x). Asked for is log p(x), which is large where data is likely.",
)
_ll(
    "unchecked",
    "times not checked",
    "Good times are walked well, but falling ones (or a 0) are walked without "
    "complaint. Call checked_times(times, falling=False) first.",
)
