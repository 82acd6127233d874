"""From prompts to clips: tokens, noise, guided DDIM steps."""

from .text import Tokenizer
from .text2image import sample_tokens


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
    tokens = Tokenizer().encode(prompts)  # (B, L)
    return sample_tokens(tokens, (3, frames, size, size), model, steps, guidance_scale, generator, callback)
