"""Exercises 6.3 and 6.5: two sums in one loss, and the scale of latents."""

from types import SimpleNamespace

import torch

from minivdm.course.exercise import close, exercise, raises


def a_posterior(draw, *shape):
    """Something like a `DiagonalGaussian`, written out here: a mean, a logvar, and the KL by loops."""
    mean, logvar = draw.normal(*shape), draw.normal(*shape)
    return gaussian(mean, logvar)


def gaussian(mean, logvar):
    def kl():
        rows = (mean**2 + torch.exp(logvar) - logvar - 1).reshape(len(mean), -1)
        return 0.5 * rows.sum(1)

    return SimpleNamespace(mean=mean, logvar=logvar, kl=kl)


def by_loops(x, y, posterior, weight):
    """The loss picture by picture, number by number, in Python's floats."""
    total = 0.0
    for a, b, kl in zip(x.double(), y.double(), posterior.kl().tolist()):
        total += sum((p - q) ** 2 for p, q in zip(a.flatten().tolist(), b.flatten().tolist())) + weight * kl
    return torch.tensor(total / len(x))


@exercise("autoencoder.vae_loss")
def vae_loss(f, draw):
    like = dict(atol=1e-4, rtol=1e-4, dtype=torch.float32)
    for shape, latent in (((3, 1, 4, 2), (3, 2, 2, 1)), ((5, 3, 6, 4), (5, 1, 3, 2)), ((1, 3, 2, 2), (1, 4, 1, 1))):
        x, y, posterior = draw.normal(*shape), draw.normal(*shape), a_posterior(draw, *latent)
        weight = draw.uniform(1, low=0.2, high=3).item()
        name = f"pictures {shape}, latents {latent}, kl_weight = {weight:.2f}"
        yield close(name, f(x, y, posterior, weight), by_loops(x, y, posterior, weight), **like)
    x, y, posterior = draw.normal(3, 1, 4, 4), draw.normal(3, 1, 4, 4), a_posterior(draw, 3, 2, 2, 2)
    yield close("kl_weight = 0", f(x, y, posterior, 0.0), by_loops(x, y, posterior, 0.0), **like)
    yield close("a perfect decoder pays the rate alone", f(x, x, posterior, 0.5), 0.5 * posterior.kl().mean(), **like)
    twice = gaussian(posterior.mean.repeat(1, 1, 2, 2), posterior.logvar.repeat(1, 1, 2, 2))
    got = f(x.repeat(1, 1, 2, 2), y.repeat(1, 1, 2, 2), twice, 0.7)
    yield close("pictures and latents of twice the size: 4 times", got, 4 * by_loops(x, y, posterior, 0.7), **like)
    yield raises("shapes that differ", ValueError, lambda: f(x, y[:, :, :1], posterior, 1.0))
    yield raises("a batch of one decoded for many", ValueError, lambda: f(x, y[:1], posterior, 1.0))


@vae_loss.promises("dtype", "layout", "device", "gradients", samples="the loss is a mean over the batch")
def a_loss(f, draw):
    def call(images, decoded, mean, logvar):
        return f(images, decoded, gaussian(mean, logvar), 0.8)

    pictures, latents = (3, 2, 4, 2), (3, 2, 2, 1)
    return call, dict(
        images=draw.normal(*pictures),
        decoded=draw.normal(*pictures),
        mean=draw.normal(*latents),
        logvar=draw.normal(*latents),
    )


vae_loss.edit(
    "a mean beside a sum",
    {".flatten(1).sum(dim=1)": ".flatten(1).mean(dim=1)"},
    "The squared error is *averaged* over a picture's numbers, the KL is summed: the rate is thousands of times dearer "
    "than kl_weight says, and dearer still for larger pictures. Sum both.",
)
vae_loss.edit(
    "the KL averaged",
    {"posterior.kl()": "posterior.kl() / posterior.mean[0].numel()"},
    "The KL is averaged over the latent's numbers, the error is summed over the picture's. Sum both: then kl_weight "
    "is what one nat may cost, whatever the sizes.",
)
vae_loss.edit(
    "both averaged",
    {
        ".flatten(1).sum(dim=1)": ".flatten(1).mean(dim=1)",
        "posterior.kl()": "posterior.kl() / posterior.mean[0].numel()",
    },
    "Both are averaged, over different numbers of elements: pictures have more than latents. Sum both.",
)
vae_loss.edit(
    "the sum over the batch",
    {").mean()": ").sum()"},
    "The batch is added up. Take the mean over the B pictures, or the learning rate depends on the batch's size.",
)
vae_loss.edit(
    "the error summed over the batch",
    {".flatten(1).sum(dim=1)": ".sum()"},
    "The squared error is added up over the whole batch, and the KL is not. Each picture has an error of its own: sum "
    "over the picture, and take the mean over the B pictures.",
)
vae_loss.edit(
    "the KL summed over the batch",
    {"posterior.kl()": "posterior.kl().sum()"},
    "The KL is added up over the whole batch, and the error is not: a nat then costs B times what kl_weight says. Take "
    "the mean over the B pictures.",
)
vae_loss.edit("absolute error", {".square()": ".abs()"}, "The error is not squared: |x - x'|^2 is a sum of squares.")
vae_loss.edit(
    "the weight on the error",
    {"distortion + kl_weight * posterior.kl()": "kl_weight * distortion + posterior.kl()"},
    "kl_weight multiplies the error. It is the price of a nat: it multiplies the KL.",
)
vae_loss.edit(
    "no weight", {"kl_weight * ": ""}, "kl_weight has no effect. It is the price of a nat: it multiplies the KL."
)
vae_loss.edit(
    "half the error",
    {"distortion + ": "distortion / 2 + "},
    "The squared error is halved, so a nat costs twice what kl_weight says.",
)
vae_loss.edit(
    "the length of the error",
    {".flatten(1).sum(dim=1)": ".flatten(1).sum(dim=1).sqrt()"},
    "This is |x - x'|, with a root. The loss has its square.",
)


@exercise("autoencoder.latent_scale")
def latent_scale(f, draw):
    like = dict(atol=1e-6, rtol=4e-3, dtype=torch.float32)
    for factor in (0.05, 1.0, draw.uniform(1, low=5, high=20).item()):
        z = factor * (draw.normal(40, 3, 4, 2) + 1.5 * draw.normal(1, 3, 1, 1)) + factor
        rows = z.double().flatten()
        want = ((rows - rows.mean()) ** 2).mean() ** -0.5
        yield close(f"latents about {factor:.2g} wide", f(z), want, **like)
        name = f"latents about {factor:.2g} wide, times the scale: standard deviation"
        yield close(name, (f(z) * z).std(correction=0), torch.ones(()), atol=4e-3, dtype=torch.float32)
    yield raises("latents that all agree", ValueError, lambda: f(torch.full((4, 2, 3, 3), 0.25)))
    broken = draw.normal(4, 2, 3, 3)
    broken[1, 0, 2, 2] = torch.nan
    yield raises("NaN among them", ValueError, lambda: f(broken))
    broken[1, 0, 2, 2] = torch.inf
    yield raises("infinity among them", ValueError, lambda: f(broken))


@latent_scale.promises(
    "dtype",
    "layout",
    "device",
    samples="one number for all latents together",
    gradients="it is measured once, and not trained",
)
def many_latents(f, draw):
    return f, dict(latents=3 * draw.normal(30, 2, 4, 3))


latent_scale.edit(
    "the standard deviation itself",
    {"return 1 / std": "return std"},
    "Latents are *multiplied* by the scale, so those that are too wide need a small one. This one is large for them: "
    "they become wider still.",
)
latent_scale.edit(
    "one over the variance",
    {"return 1 / std": "return 1 / std.square()"},
    "This divides by the variance. Numbers get the standard deviation 1 by being divided by their standard deviation.",
)
latent_scale.edit(
    "the mean not taken off",
    {"latents.std(correction=0)": "latents.square().mean().sqrt()"},
    "This is one over the root mean square, in which the mean of the latents counts. Take the standard deviation.",
)
latent_scale.edit(
    "the largest to 1",
    {"latents.std(correction=0)": "latents.abs().max()"},
    "The largest latent becomes 1. Noise has the *standard deviation* 1, and so should latents.",
)
latent_scale.edit(
    "each picture by itself",
    {"latents.std(correction=0)": "latents.flatten(1).std(dim=1, correction=0).mean()"},
    "The standard deviation is taken in each latent alone, and averaged. So what differs from picture to picture does "
    "not count. Take it over all numbers together.",
)
latent_scale.edit(
    "each channel by itself",
    {"latents.std(correction=0)": "latents.std(dim=(0, 2, 3), correction=0).mean()"},
    "Each channel is measured by itself, around its own mean, and then averaged. Take one standard deviation over all "
    "numbers together.",
)
