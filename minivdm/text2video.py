r"""From prompts to clips: tokens, noise, guided DDIM steps.

The shipped network answers in v, not in eps (Salimans and Ho, "Progressive Distillation", ICLR 2022, section 4):

    v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0        eps = sqrt(alpha_bar_t) v + sqrt(1 - alpha_bar_t) x_t

An error in eps is an error sqrt((1 - alpha_bar_t) / alpha_bar_t) times as large in x_0, and at high levels, where the
prompt decides what will be drawn, that is a large number. An error in v is never magnified.
"""

import torch
from torch import nn

from .diffusion import q_sample
from .guidance import ClassifierFreeGuidance
from .samplers import ddim_sample, sampling_levels
from .schedules import NoiseSchedule, cosine_betas, per_sample
from .text import Tokenizer


class EpsFromV(nn.Module):
    """A network that predicts v, seen as a model that predicts eps.

    Args:
        net: `net(x, t, cond)` returns an estimate of v, like x.
        schedule: the `NoiseSchedule` it was trained with.
    """

    def __init__(self, net, schedule):
        super().__init__()
        self.net, self.schedule = net, schedule

    def forward(self, x, t, cond=None):
        alpha_bar = per_sample(self.schedule.alpha_bar, t, x)  # (B, 1, ..., 1)
        return alpha_bar.sqrt() * self.net(x, t, cond) + (1 - alpha_bar).sqrt() * x


def v_loss(net, x0, schedule, cond=None, generator=None):
    r"""The loss in v: `diffusion_loss` with another target (Salimans and Ho, 2022, section 4 and appendix D).

        L = E_{t, eps}  mean( ( v - net(x_t, t, cond) )^2 )

    Arguments and result as in `diffusion.diffusion_loss`; `net` estimates v.
    """
    t = torch.randint(1, schedule.T + 1, x0.shape[:1], generator=generator, device=x0.device)  # (B,)
    eps = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
    x_t = q_sample(x0, t, eps, schedule)
    alpha_bar = per_sample(schedule.alpha_bar, t, x0)  # (B, 1, ..., 1)
    v = alpha_bar.sqrt() * eps - (1 - alpha_bar).sqrt() * x0
    return (net(x_t, t, cond) - v).square().mean()


def text_to_video(prompts, model, steps=20, guidance_scale=3.0, frames=16, size=32, generator=None, callback=None):
    """Sample one clip per prompt.

    Args:
        prompts: a string or a list of B strings, for instance "a red circle moving left".
        model: `model(x, t, cond)` that estimates eps, as from `load_pretrained` (cosine schedule, T = 1000).
        steps: DDIM steps; each is one call of the model on 2 B clips.
        guidance_scale: how closely to follow the prompt; 1 = off.
        frames, size: F and H = W of the clips, as the model was trained.
        generator: `torch.Generator` on the model's device; the same one in the same state gives the same clips.
        callback: called as `callback(s, x, x0)` after each step.

    Returns:
        (B, 3, F, H, W) float32 in [-1, 1] on the model's device.

    Raises:
        ValueError: if a word is outside the vocabulary.
    """
    device = next(model.parameters()).device
    tokens = Tokenizer().encode(prompts).to(device)  # (B, L)
    schedule = NoiseSchedule(cosine_betas(1000)).to(device)
    guided = ClassifierFreeGuidance(model, guidance_scale)
    x = torch.randn(len(tokens), 3, frames, size, size, generator=generator, device=device)
    levels = sampling_levels(schedule.T, steps)
    return ddim_sample(guided, x, schedule, levels, tokens, clip=True, generator=generator, callback=callback)
