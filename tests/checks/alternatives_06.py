"""Chapter 06 written in other ways: loops, distributions of the library, bisection, other layers' helpers."""

import math

import torch

from minivdm.course.exercise import edited
from minivdm.diffusion.forward_process import q_sample
from minivdm.diffusion.guidance import ClassifierFreeGuidance
from minivdm.diffusion.samplers import ddim_sample, sampling_levels
from minivdm.pipelines.latent import strength_levels, tokens_for
from tests.checks.collected import alternative, with_method


@alternative("autoencoder.gaussian_kl")
def kl_by_the_library(mean, logvar):
    from torch.distributions import Normal, kl_divergence

    given = Normal(mean, torch.exp(0.5 * logvar))
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return kl_divergence(given, prior).reshape(len(mean), -1).sum(-1)


@with_method("autoencoder.DiagonalGaussian", "sample")
def sample_number_by_number(self, generator=None):
    noise = torch.empty(self.mean.shape, dtype=self.mean.dtype, device=self.mean.device)
    return torch.addcmul(self.mean, noise.normal_(generator=generator), torch.exp(self.logvar).sqrt())


@alternative("autoencoder.vae_loss")
def loss_by_einsum(images, decoded, posterior, kl_weight):
    if images.shape != decoded.shape:
        raise ValueError("two shapes")
    off = (decoded - images).reshape(len(images), -1)
    return torch.einsum("bi,bi->b", off, off).mean() + kl_weight * posterior.kl().mean()


@alternative("autoencoder.latent_scale")
def scale_by_moments(latents):
    variance = latents.square().mean() - latents.mean().square()
    if not variance.isfinite() or latents.max() == latents.min():
        raise ValueError("no scale")
    return variance.rsqrt()


@alternative("rate_distortion.design_code")
def design_by_bisection(variances, distortion):
    v = [float(each) for each in variances]
    if not 0 < distortion < sum(v):
        raise ValueError("no such error")
    low, high = 0.0, max(v)
    for _ in range(100):
        middle = (low + high) / 2
        if sum(min(middle, each) for each in v) < distortion:
            low = middle
        else:
            high = middle
    return 2 * high, sum(each > high * (1 + 1e-9) for each in v)


@alternative("latent.strength_levels")
def levels_by_rounding(T, n, strength):
    if not 0 < strength <= 1 or not 1 <= n <= T:
        raise ValueError("out of range")
    start = int(strength * T + 0.5) or 1
    steps = 1
    while steps * T < n * start:
        steps += 1
    if start == T:
        return [T * i // n for i in reversed(range(n + 1))]
    return [math.ceil(start * i / steps) for i in reversed(range(steps + 1))]


@alternative("latent.strength_levels")
def levels_by_a_quotient(T, n, strength):
    if not 0 < strength <= 1:
        raise ValueError("no strength")
    sampling_levels(T, n)
    start = max(round(T * strength), 1)
    return sampling_levels(start, math.ceil(start * n / T))


@alternative("latent.image_to_image")
@torch.no_grad()
def image_by_hand(images, prompts, model, strength=0.6, steps=20, guidance_scale=3.0, generator=None):
    tokens = tokens_for(images, prompts)
    levels = strength_levels(model.denoiser.schedule.T, steps, strength)
    z = model.autoencoder.to_latents(images)
    at = torch.full((len(z), 1, 1, 1), levels[0])
    alpha, sigma = model.denoiser.schedule.alpha(at), model.denoiser.schedule.sigma(at)
    z = alpha * z + sigma * torch.empty(z.shape).normal_(generator=generator)
    model_and_null = ClassifierFreeGuidance(model.denoiser, guidance_scale)
    z = ddim_sample(model_and_null, z, model.denoiser.schedule, levels, tokens)
    return model.autoencoder.to_images(z).clamp(min=-1, max=1)


@alternative("latent.image_to_image")
@torch.no_grad()
def image_with_the_scale(images, prompts, model, strength=0.6, steps=20, guidance_scale=3.0, generator=None):
    tokens, autoencoder, schedule = tokens_for(images, prompts), model.autoencoder, model.denoiser.schedule
    levels = strength_levels(schedule.T, steps, strength)
    z = autoencoder.scale * autoencoder.encode(images).mean
    t = torch.full((len(z),), levels[0], dtype=torch.long)
    noise = torch.randn(z.shape, generator=generator, dtype=z.dtype)
    guided = ClassifierFreeGuidance(model.denoiser, guidance_scale)
    z = ddim_sample(guided, q_sample(z, t, noise, schedule), schedule, levels=levels, cond=tokens)
    return torch.clamp(autoencoder.decode(z / autoencoder.scale), -1.0, 1.0)


for name, changes in [
    ("autoencoder.gaussian_kl", {"- 1 - logvar": "- torch.log(torch.e * logvar.exp())"}),
    ("autoencoder.DiagonalGaussian", {"(self.logvar / 2).exp()": "self.logvar.exp() ** 0.5"}),
    ("autoencoder.vae_loss", {".square().flatten(1).sum(dim=1)": ".pow(2).sum(dim=(1, 2, 3))"}),
    ("autoencoder.latent_scale", {"latents.std(correction=0)": "latents.std()"}),
    ("rate_distortion.design_code", {"v[kept:].sum().item()": "(v.sum() - v[:kept].sum()).item()"}),
    ("latent.strength_levels", {"-(-n * start // T)": "(n * start + T - 1) // T"}),
    ("latent.image_to_image", {"torch.full((len(z0),), levels[0]": "levels[0] * torch.ones(len(z0), dtype=torch.long"}),
]:
    alternative(name)(edited(name, changes))
