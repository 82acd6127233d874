"""From prompts to clips: tokens, noise, guided DDIM steps."""

import torch

from .guidance import ClassifierFreeGuidance
from .samplers import ddim_sample, sampling_levels
from .schedules import NoiseSchedule, cosine_betas
from .text import Tokenizer


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
