"""Exercises 2.9 and 2.10: the divergence, and the likelihood."""

import math

import torch

from minivdm.course.exercise import close, exercise, holds, raises

from .ch02_shared import FreshSDE, GaussianData, walk


@exercise("sde.value_and_divergence")
def value_and_divergence(f, draw):
    names = ("value", "divergence")
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
        yield close(f"value and exact divergence, {name}", f(field, x), want, names=names)
        e = noise.flatten(1)
        estimate = torch.einsum("bi,bij,bj->b", e, jacobian, e)
        yield close(f"value and noise^T J noise, {name}", f(field, x, noise), (want[0], estimate), names=names)
    with torch.no_grad():
        inside = f(field, x)
    yield close("inside torch.no_grad()", inside, want, names=names)
    free = not any(part.requires_grad for part in (*f(field, x), *f(field, x, noise)))
    yield holds("results detached from the graph", free, "a result still requires grad: the graph would grow and grow")


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
    "one number for the batch",
    {"divergence.detach()": "divergence.detach().sum()"},
    "The divergences of all samples are summed up: keep one for each sample, (B,).",
)
value_and_divergence.edit(
    "graph kept",
    {"value.detach()": "value"},
    "The results are still tied to the graph. Over a hundred steps it would fill the memory: return .detach()ed "
    "tensors, and leave out create_graph.",
)
value_and_divergence.edit(
    "wrong order",
    {"value.detach(), divergence.detach()": "divergence.detach(), value.detach()"},
    "The value comes first, then the divergence.",
)
value_and_divergence.edit(
    "gradients switched off",
    {"with torch.enable_grad():": "if True:"},
    "Inside torch.no_grad() this fails, and samplers are often called there. Put the work under torch.enable_grad().",
)


@exercise("sde.ode_log_likelihood")
def ode_log_likelihood(f, draw):
    sde = FreshSDE(draw)
    data, times = GaussianData(draw, sde), walk(draw, 3)[::-1]
    x, noise = draw.normal(5, 1, 2, 2).double(), draw.normal(5, 1, 2, 2).double()
    size = noise.flatten(1).square().sum(1)
    for name, given, trace in (("exact", None, torch.full((5,), 4.0)), ("with noise", noise, size)):
        end, total = x, torch.zeros(5, dtype=torch.float64)
        for t, s in zip(times, times[1:]):
            end, stretch = data.heun(end, t, s)
            total = total + stretch * trace  # J = a I, so noise^T J noise = a |noise|^2
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
ode_log_likelihood.edit(
    "one number for the batch",
    {"return log_normal + total": "return (log_normal + total).sum()"},
    "The log-likelihoods of all samples are summed up: keep one for each, (B,).",
)
ode_log_likelihood.edit(
    "negative log-likelihood",
    {"return log_normal + total": "return -(log_normal + total)"},
    "This is -log p(x). Asked for is log p(x), which is large where data is likely.",
)
ode_log_likelihood.edit(
    "times not checked",
    {"checked_times(times, falling=False)": "times"},
    "Good times are walked well, but falling ones (or a 0) are walked without complaint. Call "
    "checked_times(times, falling=False) first.",
)
