"""Correct solutions, written as differently as people write them: loops, einsum, in-place work, other algebra."""

import torch

from minivdm.course.exercise import edited
from minivdm.diffusion.forward_process import to_x0
from minivdm.diffusion.samplers import ddpm_step
from tests.checks.collected import alternative

REWRITTEN = {  # piece -> edits of its reference that change nothing but the way it is written
    "pixels.to_model_range": [
        {"images.float() / 127.5 - 1": "(images.double() * 2).div_(255).sub_(1).float()"},
        {"images.float() / 127.5 - 1": "images.sub(127.5).mul(2 / 255)"},
    ],
    "schedules.linear_betas": [
        {"scale * start, scale * end,": "1, scale * end / (scale * start),", "64)": "64) * scale * start"},
        {
            "    return torch": "    step = scale * (end - start) / (T - 1)\n    return torch",
            "linspace(scale * start, scale * end, T,": "tensor([scale * start + step * i for i in range(T)],",
        },
    ],
    "schedules.NoiseSchedule": [
        {"torch.cumprod(1 - betas, dim=0)": "torch.log1p(-betas).cumsum(0).exp()"},
        {"torch.cumprod(1 - betas, dim=0)": "torch.stack([(1 - betas[: i + 1]).prod() for i in range(self.T)])"},
    ],
    "schedules.cosine_betas": [
        {"torch.cos(": "0.5 + 0.5 * torch.cos(", "math.pi / 2) ** 2": "math.pi)"},
        {"1 - f[1:] / f[:-1]": "-f.diff() / f[:-1]", "clamp(max=max_beta)": "minimum(f.new_tensor(max_beta))"},
    ],
    "forward_process.q_sample": [
        {"alpha_bar.sqrt() * x0": "torch.einsum('b,b...->b...', schedule.alpha_bar[t] ** 0.5, x0)"},
        {"(1 - alpha_bar).sqrt() * noise": "noise.clone().mul_((1 - alpha_bar) ** 0.5)"},
    ],
    "forward_process.to_x0": [
        {"(x_t - (1 - alpha_bar)": "x_t * alpha_bar.rsqrt() - (1 / alpha_bar - 1)", "eps) / alpha_bar.sqrt()": "eps"},
        {"(1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()": "eps * (1 - alpha_bar) ** 0.5).div_(alpha_bar**0.5)"},
    ],
    "forward_process.q_posterior": [
        {"(1 - ab_t)": "(alpha * (1 - ab_s) + beta)"},
    ],
    "samplers.ddpm_step": [
        {"mean + variance.sqrt() * noise": "torch.addcmul(mean, variance**0.5, noise)"},
        {"mean + variance.sqrt() * noise": "torch.stack([m + v**0.5 * e for m, v, e in zip(mean, variance, noise)])"},
    ],
    "samplers.ddpm_sample": [
        {
            "pairwise(levels)": "zip(levels, levels[1:])",
            "torch.full(x.shape[:1], level, device=x.device)": "torch.tensor([level] * len(x), device=x.device)",
            "ddpm_step(x, x0, t, s, noise, schedule)": "ddim_step(x, x0, t, s, noise, schedule, eta=1.0)",
        },
    ],
    "forward_process.diffusion_loss": [
        {"randint(1, schedule.T + 1, x0.shape[:1], **like)": "rand(len(x0), **like).mul(schedule.T).long() + 1"},
        {
            "return (checked_like(model(x_t, t, cond), x_t) - noise).square().mean()": (
                "return torch.nn.functional.mse_loss(model(x_t, t, cond), noise)"
            )
        },
    ],
}
for name, edits in REWRITTEN.items():
    for changes in edits:
        alternative(name)(edited(name, changes))


@alternative("forward_process.q_posterior")
def by_the_noise(x0, x_t, t, s, schedule):
    ab_t, ab_s = (schedule.alpha_bar.double()[i].view(-1, *[1] * (x0.ndim - 1)) for i in (t, s))
    variance = (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)
    eps = (x_t - ab_t.sqrt() * x0) / (1 - ab_t).sqrt()  # what is left of it goes into the mean, as DDIM writes it
    mean = ab_s.sqrt() * x0 + (1 - ab_s - variance).clamp(min=0).sqrt() * eps
    return mean.to(x0), variance.to(x0)


@alternative("samplers.ddpm_sample")
def sample_with_while(model, x, schedule, levels=None, cond=None, clip_x0=False, generator=None, callback=None):
    walk = list(levels) if levels is not None else list(reversed(range(schedule.T + 1)))
    if walk[-1] != 0 or walk != sorted(set(walk), reverse=True):
        raise ValueError("the levels must fall to 0")
    with torch.no_grad():
        while len(walk) > 1:
            t, s = (torch.ones(len(x), dtype=torch.long) * level for level in walk[:2])
            guess = to_x0(x, t, model(x, t, cond), schedule)
            guess = torch.clamp(guess, -1.0, 1.0) if clip_x0 else guess
            x = ddpm_step(x, guess, t, s, torch.randn(x.shape, generator=generator, device=x.device), schedule)
            walk.pop(0)
            if callback is not None:
                callback(walk[0], x, guess)
    return x
