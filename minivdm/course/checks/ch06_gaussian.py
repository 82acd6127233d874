"""Exercises 6.1 and 6.2: what a Gaussian latent costs, and how one is drawn."""

import math

import torch

from minivdm.course.exercise import close, exercise, holds, near


def integrated(mean, logvar):
    """KL( N(mean, exp(logvar)) || N(0, 1) ) of one number: the integral of p ln(p / q), on a fine grid."""
    std = math.exp(logvar / 2)
    x = mean + std * torch.linspace(-12, 12, 6001, dtype=torch.float64)
    log_p = -((x - mean) / std).square() / 2 - math.log(std) - math.log(2 * math.pi) / 2
    log_q = -x.square() / 2 - math.log(2 * math.pi) / 2
    return torch.trapezoid(log_p.exp() * (log_p - log_q), x).item()


def by_integrals(mean, logvar):
    """The sum over each sample's elements, (B,) float64."""
    rows = [zip(a.flatten().tolist(), b.flatten().tolist()) for a, b in zip(mean, logvar)]
    return torch.tensor([sum(integrated(a, b) for a, b in row) for row in rows], dtype=torch.float64)


@exercise("autoencoder.gaussian_kl")
def gaussian_kl(f, draw):
    like = dict(atol=1e-4, rtol=1e-4, dtype=torch.float32)
    mean, logvar = draw.normal(3, 1), 1.5 * draw.normal(3, 1)
    yield close("one number each: the integral of p ln(p / q)", f(mean, logvar), by_integrals(mean, logvar), **like)
    mean, logvar = draw.normal(4, 2, 3, 2), 1.5 * draw.normal(4, 2, 3, 2)
    yield close("4 samples of 2 x 3 x 2: the sum", f(mean, logvar), by_integrals(mean, logvar), **like)
    yield close("mean = 0, logvar = 0 costs nothing", f(torch.zeros(2, 5, 3), torch.zeros(2, 5, 3)), torch.zeros(2))
    mean, logvar = draw.normal(2, 6), torch.full((2, 6), -30.0)
    yield close("logvar = -30 stays finite", f(mean, logvar), (mean.double().square() + 29).sum(1) / 2, **like)
    mean, logvar = torch.zeros(2, 3), 1e-4 * draw.normal(2, 3)
    got = f(mean, logvar)
    yield holds("never below 0", torch.is_tensor(got) and (got > -1e-5).all(), "a KL divergence is at least 0")


@gaussian_kl.promises("samples", "dtype", "layout", "device", "gradients")
def four_latents(f, draw):
    return f, dict(mean=draw.normal(4, 2, 3, 2), logvar=draw.normal(4, 2, 3, 2))


gaussian_kl.edit(
    "no half", {" / 2": ""}, "This is twice the divergence: the logarithm of a Gaussian has a factor of 1/2 throughout."
)
gaussian_kl.edit(
    "the mean over a sample's elements",
    {".sum(dim=1)": ".mean(dim=1)"},
    "The elements' divergences are averaged. Independent elements add up: sum over a sample, or the price of a nat "
    "would depend on the size of the latent.",
)
gaussian_kl.edit(
    "logvar taken for log std",
    {"logvar.exp() - 1 - logvar": "(2 * logvar).exp() - 1 - 2 * logvar"},
    "logvar is used as the logarithm of the standard deviation. It is that of the variance: exp(logvar) is sigma^2.",
)
gaussian_kl.edit(
    "logvar taken for the variance",
    {"logvar.exp() - 1 - logvar": "logvar - 1 - logvar.log()"},
    "logvar is used as the variance itself. The variance is exp(logvar), and its logarithm is logvar.",
)
gaussian_kl.edit(
    "the divergence the other way round",
    {"mean.square() + logvar.exp() - 1 - logvar": "(mean.square() + 1) / logvar.exp() - 1 + logvar"},
    "This is KL( N(0, I) || N(mean, var) ), averaged over N(0, I). The average runs over what the encoder says: "
    "KL( N(mean, var) || N(0, I) ).",
)
gaussian_kl.edit(
    "the sign of logvar",
    {"- 1 - logvar": "- 1 + logvar"},
    "The logarithm has the wrong sign: a *small* variance must cost much, since it says exactly which z was meant.",
)
gaussian_kl.edit(
    "no 1", {" - 1 - logvar": " - logvar"}, "At mean = 0 and variance 1 this is not 0. The entropy brings in a -1/2."
)
gaussian_kl.edit(
    "the standard deviation for the variance",
    {"logvar.exp()": "(logvar / 2).exp()"},
    "exp(logvar / 2) is the standard deviation. E z^2 = mean^2 + variance, and the variance is exp(logvar).",
)
gaussian_kl.edit(
    "the mean is not squared", {"mean.square()": "mean.abs()"}, "E z^2 = mean^2 + variance: the mean enters squared."
)
gaussian_kl.edit(
    "the sum over the batch, too",
    {"each.flatten(1).sum(dim=1)": "each.sum()"},
    "The batch is added up, too. Each sample has its own number: (B,).",
)


def moments_of(mean, logvar):
    return torch.cat([mean, logvar], dim=1)


@exercise("autoencoder.DiagonalGaussian")
def diagonal_gaussian(f, draw):
    mean, logvar = 2 * draw.normal(1, 2, 3, 2), 1.5 * draw.normal(1, 2, 3, 2)
    n = 4000
    z = f(moments_of(mean, logvar).expand(n, -1, -1, -1)).sample(draw.generator())
    like = torch.is_tensor(z) and z.shape == (n, 2, 3, 2)
    came = tuple(z.shape) if torch.is_tensor(z) else z
    yield holds("one z for each sample", like, f"expected ({n}, 2, 3, 2), got {came}", usable=False)
    if not like:
        return
    few, seed = moments_of(draw.normal(3, 2, 3, 2), draw.normal(3, 2, 3, 2)), draw.integers(0, 2**31 - 2)
    one, again, other = (f(few).sample(torch.Generator().manual_seed(each)) for each in (seed, seed, seed + 1))
    same = torch.allclose(one, again, rtol=0, atol=0, equal_nan=True)
    message = "two equal generators gave two different z: the generator is not used where the noise is drawn"
    yield holds("the same seed gives the same z", same, message)
    message = "two generators with different seeds gave the same z: where is the noise?"
    yield holds("another seed gives another z", not torch.equal(one, other), message)
    noise = ((z - mean) / (logvar / 2).exp()).double()  # standard normal
    message = "all samples of the batch got the same noise: draw numbers for each sample"
    yield holds("samples with the same mean and variance differ", bool((z.std(dim=0) > 0).all()), message)
    off = noise.mean(0).abs().max().item()
    yield near("largest mean of (z - mean) / std", off, 0.0, within=5.5 / n**0.5)
    for k in range(2):
        where = (0, k, draw.integers(0, 2), draw.integers(0, 1))
        got, want = z[(slice(None), *where[1:])].std().item(), math.exp(logvar[where].item() / 2)
        yield near(f"standard deviation where logvar = {logvar[where]:.2f}", got / want, 1.0, within=0.07)
    yield near("largest std of (z - mean) / std", noise.std(0).max().item(), 1.0, within=0.07)
    yield near("smallest std of (z - mean) / std", noise.std(0).min().item(), 1.0, within=0.07)
    yield near("fourth moment, 3 for a Gaussian", noise.pow(4).mean().item(), 3.0, within=0.25)
    flat = noise.flatten(1)
    others = (flat.T @ flat / n - torch.eye(12, dtype=torch.float64)).abs().max().item()
    yield near("largest correlation of two elements' noise", others, 0.0, within=0.12)
    sharp = f(moments_of(mean, torch.full_like(mean, -100.0))).sample(draw.generator())
    yield close("logvar far below -30: z is the mean", sharp, mean, atol=1e-4)
    wide = f(moments_of(mean, torch.full_like(mean, 1e4))).sample(draw.generator())
    yield holds("logvar far above 20: z is finite", wide.isfinite().all(), "use self.logvar, which is clamped")


@diagonal_gaussian.promises(
    "dtype",
    "layout",
    "device",
    "gradients",
    "generator",
    "noise",
    samples="the noise is drawn for the whole batch at once",
)
def drawn_latents(f, draw):
    def call(moments, generator):
        return f(moments).sample(generator)

    return call, dict(moments=draw.normal(3, 4, 3, 2), generator=draw.generator())


diagonal_gaussian.edit(
    "the variance for the standard deviation",
    {"(self.logvar / 2).exp()": "self.logvar.exp()"},
    "The noise is multiplied by exp(logvar), the variance. Noise is scaled by its standard deviation, the root of it.",
)
diagonal_gaussian.edit(
    "logvar itself",
    {"(self.logvar / 2).exp()": "self.logvar"},
    "The noise is multiplied by logvar, a logarithm that may be negative. The standard deviation is exp(logvar / 2).",
)
diagonal_gaussian.edit(
    "one number for all elements",
    {"self.mean.shape, generator": "(len(self.mean), 1, 1, 1), generator"},
    "All elements of a sample share one noise. They are independent: draw as many numbers as the mean has.",
)
diagonal_gaussian.edit(
    "one noise for the whole batch",
    {"self.mean.shape, generator": "self.mean.shape[1:], generator"},
    "The noise is drawn once and shared by all samples of the batch. Each sample needs numbers of its own: draw as "
    "many as self.mean has, the axis of samples included.",
)
diagonal_gaussian.edit(
    "the generator not used",
    {"generator=generator, ": ""},
    "The generator is not used: the noise comes from PyTorch's own. Give generator=generator where you draw. "
    "(torch.randn_like takes none; torch.randn does, with a shape, dtype and device.)",
)
diagonal_gaussian.edit(
    "uniform noise",
    {"torch.randn(": "torch.rand("},
    "torch.rand is uniform in 0..1. Gaussian noise comes from torch.randn.",
)
diagonal_gaussian.edit(
    "no noise", {" + (self.logvar / 2).exp() * noise": " + 0 * noise"}, "This is the mean. Where is the noise?"
)
diagonal_gaussian.edit(
    "drawn where no gradient can follow",
    {
        "self.mean + (self.logvar / 2).exp() * noise": "torch.normal(self.mean.detach(), (self.logvar / 2).exp()"
        ".detach(), generator=generator)"
    },
    "The numbers have the right distribution, but no gradient leads back through a draw. Draw noise that depends on "
    "nothing, and shift and stretch it: then z is a function of mean and logvar.",
)
diagonal_gaussian.edit(
    "the gradient of the variance cut off",
    {"(self.logvar / 2).exp()": "(self.logvar / 2).exp().detach()"},
    "No gradient reaches logvar, so the encoder cannot learn how exact it has to be.",
)
