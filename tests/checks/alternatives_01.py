"""Correct solutions, written as differently as people write them: loops, einsum, in-place work, other algebra."""

import math

import numpy as np
import torch
from einops import rearrange

from minivdm.diffusion.forward_process import q_posterior, q_sample, to_x0
from minivdm.diffusion.samplers import checked_levels, ddpm_step
from minivdm.diffusion.schedules import checked_betas
from tests.checks.collected import alternative


@alternative("pixels.to_model_range")
def with_doubles(images):
    return (images.to(torch.float64) * 2).div_(255).sub_(1).float()


@alternative("pixels.to_model_range")
def with_lerp(images):
    share = images / 255
    return torch.lerp(-torch.ones_like(share), torch.ones_like(share), share)


@alternative("schedules.linear_betas")
def with_a_loop(T, start=1e-4, end=0.02):
    values = [start + (end - start) * i / (T - 1) for i in range(T)]
    values = [1000 / T * v for v in values]
    if max(values) >= 1 or min(values) <= 0:
        raise ValueError("out of range")
    return torch.tensor(values, dtype=torch.float64)


@alternative("schedules.linear_betas")
def with_numpy(T, start=1e-4, end=0.02):
    betas = torch.from_numpy(np.linspace(start, end, T)) * (1000 / T)
    if not torch.all((betas > 0) & (betas < 1)):
        raise ValueError
    return betas


@alternative("schedules.NoiseSchedule")
class WithALoop:
    def __init__(self, betas):
        betas = checked_betas(betas)
        self.T = len(betas)
        self.beta, self.alpha_bar = torch.zeros(self.T + 1), torch.ones(self.T + 1)
        product = 1.0
        for level, beta in enumerate(betas.tolist(), start=1):
            product *= 1 - beta
            self.beta[level], self.alpha_bar[level] = beta, product


@alternative("schedules.NoiseSchedule")
class WithLogarithms:
    def __init__(self, betas):
        if (betas <= 0).any() or (betas >= 1).any():
            raise ValueError("no")
        padded = torch.nn.functional.pad(torch.as_tensor(betas, dtype=torch.float64), (1, 0))
        self.T = padded.numel() - 1
        self.beta = padded.float()
        self.alpha_bar = torch.log1p(-padded).cumsum(0).exp().to(torch.float32)


@alternative("forward_process.q_sample")
def sample_by_sample(x0, t, noise, schedule):
    rows = []
    for x, level, eps in zip(x0, t.tolist(), noise):
        keep = float(schedule.alpha_bar[level])
        rows.append(math.sqrt(keep) * x + math.sqrt(1 - keep) * eps)
    return torch.stack(rows)


@alternative("forward_process.q_sample")
def in_place_on_a_copy(x0, t, noise, schedule):
    keep = schedule.alpha_bar[t]
    keep = keep.view([len(t)] + [1] * (x0.dim() - 1))
    out = noise.clone().mul_((1 - keep).sqrt())
    return out.addcmul_(x0, torch.sqrt(keep))


@alternative("forward_process.q_sample")
def with_einsum(x0, t, noise, schedule):
    keep = schedule.alpha_bar.double()[t]
    out = torch.einsum("b,b...->b...", keep.sqrt(), x0.double()) + torch.einsum(
        "b,b...->b...", (1 - keep) ** 0.5, noise.double()
    )
    return out.to(x0.dtype)


@alternative("schedules.cosine_betas")
def cosine_loop(T, s=0.008, max_beta=0.999):
    def f(t):
        return math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2

    return torch.tensor([min(1 - f(t) / f(t - 1), max_beta) for t in range(1, T + 1)], dtype=torch.float64)


@alternative("schedules.cosine_betas")
def cosine_by_alpha_bar(T, s=0.008, max_beta=0.999):
    angle = (torch.linspace(0, 1, T + 1, dtype=torch.float64) + s) / (1 + s) * torch.pi
    alpha_bar = (1 + torch.cos(angle)) / 2
    alpha_bar = alpha_bar / alpha_bar[0]
    betas = (alpha_bar[:-1] - alpha_bar[1:]) / alpha_bar[:-1]
    return torch.minimum(betas, torch.full_like(betas, max_beta))


@alternative("forward_process.to_x0")
def by_signal_to_noise(x_t, t, eps, schedule):
    keep = schedule.alpha_bar[t].reshape(-1, *(1,) * (x_t.ndim - 1))
    return x_t * keep.rsqrt() - (1 / keep - 1).sqrt() * eps


@alternative("forward_process.to_x0")
def transposed(x_t, t, eps, schedule):
    keep = schedule.alpha_bar[t]
    flat_x, flat_eps = x_t.flatten(1).T, eps.flatten(1).T
    return ((flat_x - flat_eps * (1 - keep) ** 0.5) / keep**0.5).T.reshape(x_t.shape)


@alternative("forward_process.q_posterior")
def by_precisions(x0, x_t, t, s, schedule):
    shape = (-1,) + (1,) * (x0.ndim - 1)
    ab_t, ab_s = schedule.alpha_bar.double()[t].view(shape), schedule.alpha_bar.double()[s].view(shape)
    alpha = ab_t / ab_s
    variance = (1 - alpha) * (1 - ab_s) / (alpha * (1 - ab_s) + 1 - alpha)
    mean = x_t * alpha.sqrt() * (1 - ab_s) + x0 * ab_s.sqrt() * (1 - alpha)
    return (mean / (1 - ab_t)).to(x0), variance.to(x0)


@alternative("forward_process.q_posterior")
def by_the_noise(x0, x_t, t, s, schedule):
    # x_s = sqrt(ab_s) x0 + what is left of the noise in x_t + fresh noise, as DDIM writes it
    shape = (-1,) + (1,) * (x0.ndim - 1)
    ab_t, ab_s = schedule.alpha_bar[t].view(shape), schedule.alpha_bar[s].view(shape)
    variance = (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)
    eps = (x_t - ab_t.sqrt() * x0) / (1 - ab_t).sqrt()
    return ab_s.sqrt() * x0 + (1 - ab_s - variance).clamp(min=0).sqrt() * eps, variance


@alternative("samplers.ddpm_step")
def step_with_addcmul(x_t, x0, t, s, noise, schedule):
    mean, variance = q_posterior(x0, x_t, t, s, schedule)
    return torch.addcmul(mean, torch.sqrt(variance), noise)


@alternative("samplers.ddpm_step")
def step_one_by_one(x_t, x0, t, s, noise, schedule):
    out = torch.empty_like(x_t)
    for i in range(len(x_t)):
        part = slice(i, i + 1)
        mean, variance = q_posterior(x0[part], x_t[part], t[part], s[part], schedule)
        out[part] = mean + noise[part] * variance**0.5
    return out


@alternative("samplers.ddpm_sample")
def sample_with_while(model, x, schedule, levels=None, cond=None, clip_x0=False, generator=None, callback=None):
    walk = list(levels) if levels is not None else list(reversed(range(schedule.T + 1)))
    if walk[-1] != 0 or walk != sorted(set(walk), reverse=True):
        raise ValueError("the levels must fall to 0")
    with torch.no_grad():
        while len(walk) > 1:
            t, s = (torch.ones(len(x), dtype=torch.long) * level for level in walk[:2])
            guess = to_x0(x, t, model(x, t, cond), schedule)
            if clip_x0:
                guess = torch.clamp(guess, -1.0, 1.0)
            x = ddpm_step(x, guess, t, s, torch.randn(x.shape, generator=generator, device=x.device), schedule)
            walk.pop(0)
            if callback is not None:
                callback(walk[0], x, guess)
    return x


@alternative("samplers.ddpm_sample")
@torch.no_grad()
def sample_with_own_algebra(model, x, schedule, levels=None, cond=None, clip_x0=False, generator=None, callback=None):
    levels = checked_levels(levels, schedule)
    for i in range(len(levels) - 1):
        t, s = levels[i], levels[i + 1]
        ab_t, ab_s = schedule.alpha_bar[t], schedule.alpha_bar[s]
        eps = model(x, torch.tensor([t] * len(x)), cond)
        x0 = (x - (1 - ab_t).sqrt() * eps) / ab_t.sqrt()
        if clip_x0:
            x0 = x0.clip(-1, 1)
        beta = 1 - ab_t / ab_s
        x = (ab_s.sqrt() * beta * x0 + (ab_t / ab_s).sqrt() * (1 - ab_s) * x) / (1 - ab_t)
        if s > 0:
            x = x + (beta * (1 - ab_s) / (1 - ab_t)).sqrt() * torch.empty_like(x).normal_(generator=generator)
        if callback:
            callback(s, x, x0)
    return x


@alternative("forward_process.diffusion_loss")
def loss_noise_first(model, x0, schedule, cond=None, generator=None):
    eps = torch.empty_like(x0).normal_(generator=generator)
    t = 1 + torch.randint(0, schedule.T, (x0.shape[0],), generator=generator, device=x0.device)
    return torch.nn.functional.mse_loss(model(q_sample(x0, t, eps, schedule), t, cond), eps)


@alternative("forward_process.diffusion_loss")
def loss_by_rows(model, x0, schedule, cond=None, generator=None):
    t = (torch.rand(len(x0), generator=generator, device=x0.device) * schedule.T).floor().long() + 1
    eps = torch.randn(x0.shape, generator=generator, device=x0.device)
    error = rearrange(model(q_sample(x0, t, eps, schedule), t, cond) - eps, "b ... -> b (...)")
    return (error * error).mean(dim=1).mean()


@alternative("forward_process.diffusion_loss")
def loss_in_place(model, x0, schedule, cond=None, generator=None):
    t = torch.empty(len(x0), dtype=torch.long, device=x0.device).random_(1, schedule.T + 1, generator=generator)
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    error = model(q_sample(x0, t, noise, schedule), t, cond)
    error = error.sub_(noise) if not error.requires_grad else error - noise
    return error.pow(2).mean()


@alternative("samplers.ddpm_sample")
@torch.no_grad()
def sample_into_one_tensor(model, x, schedule, levels=None, cond=None, clip_x0=False, generator=None, callback=None):
    levels = checked_levels(levels, schedule)
    x, t, s = x.clone(), torch.empty(len(x), dtype=torch.long), torch.empty(len(x), dtype=torch.long)
    for level, target in zip(levels, levels[1:]):
        t.fill_(level), s.fill_(target)
        guess = to_x0(x, t, model(x, t, cond), schedule)
        guess = guess.clamp_(-1, 1) if clip_x0 else guess
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        x.copy_(ddpm_step(x, guess, t, s, noise, schedule))
        if callback:
            callback(target, x, guess)
    return x
