"""From prompts to pictures: the parts of a text-to-image model put together, and how to sample from it."""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..datasets.captions import Tokenizer, vocabulary
from ..datasets.stills import SpriteStills
from ..diffusion.guidance import ClassifierFreeGuidance
from ..diffusion.predictions import EpsModel
from ..diffusion.samplers import ddim_sample, sampling_levels
from ..diffusion.schedules import NoiseSchedule, cosine_betas, shifted_betas
from ..models.text_encoder import TextEncoder
from ..models.unet import Conditioned, UNet
from ..training.recording import Recorded


@functools.cache
def still_tokenizer() -> Tokenizer:
    """The `Tokenizer` of the captions of `SpriteStills`."""
    return Tokenizer(words=vocabulary(SpriteStills))


def build_text2image(
    channels: int = 48,
    mults: Sequence[int] = (1, 2),
    blocks: int = 1,
    patch: int = 2,
    context_dim: int = 64,
    in_channels: int = 3,
    shift: float = 1.0,
) -> EpsModel:
    """An untrained text-to-image model for `SpriteStills`, cosine schedule with T = 1000: it estimates eps.

    Inside, a `UNet` predicts v (see `predictions`), and a `TextEncoder` turns tokens into its context; `.net` is both
    together, to be trained with `prediction_loss`. Arguments as for `UNet`; `context_dim` is D, as in `CLIP`, and
    `shift` is the factor of `shifted_betas`: 2 for pictures of 64 x 64 pixels.
    """
    tokenizer = still_tokenizer()
    attention = (len(mults) - 1,)
    unet = UNet(in_channels, channels, mults, blocks, attention, context_dim=context_dim, patch=patch)
    encoder = TextEncoder(len(tokenizer), tokenizer.length, context_dim)
    schedule = NoiseSchedule(shifted_betas(cosine_betas(1000), shift))
    return EpsModel(Conditioned(unet, encoder, tokenizer.length), "v", schedule)


def text_to_image(
    prompts: str | Sequence[str],
    model: EpsModel,
    steps: int = 20,
    guidance_scale: float = 3.0,
    size: int = 32,
    generator: torch.Generator | None = None,
    callback: Callable | None = None,
    batch_size: int = 32,
    tokenizer: Tokenizer | None = None,
    cuda_graph: bool = False,
) -> Tensor:
    """Sample one picture per prompt.

    Args:
        prompts: a string or a list of B strings, for instance "a red circle at the top left".
        model: `model(x, t, cond)` that estimates eps, as from `build_text2image`.
        steps: DDIM steps; each is one call of the model on 2 B pictures (see `batch_size`).
        guidance_scale: how closely to follow the prompt; 1 = off.
        size: H = W of the pictures, as the model was trained.
        generator: `torch.Generator` on the model's device; the same one in the same state gives the same pictures.
        callback: called as `callback(s, x, x0)` after each step of each part.
        batch_size: at most so many pictures go through the model together. All noise is drawn first, so a generator
            gives the same pictures for any number, up to rounding.
        tokenizer: what reads the prompts, by default that of the captions of `SpriteStills`.
        cuda_graph: as for `text_to_video`.

    Returns:
        (B, 3, H, W) float32 in [-1, 1] on the model's device.

    Raises:
        ValueError: if a word is outside the vocabulary, there is no prompt, or a number makes no sense.
    """
    tokens = (tokenizer or still_tokenizer()).encode(prompts)  # (B, L)
    shape = (3, size, size)
    return sample_tokens(tokens, shape, model, steps, guidance_scale, generator, callback, batch_size, cuda_graph)


def sample_tokens(
    tokens: Tensor,
    shape: Sequence[int],
    model: EpsModel,
    steps: int,
    guidance_scale: float,
    generator: torch.Generator | None = None,
    callback: Callable | None = None,
    batch_size: int = 32,
    cuda_graph: bool = False,
    clip_x0: bool = True,
) -> Tensor:
    """Guided DDIM sampling of pictures or clips, from noise on the model's device.

    Args:
        tokens: (B, L) long.
        shape: of one sample, such as (3, H, W) or (3, F, H, W).
        model: `model(x, t, cond)` that estimates eps on the levels of `model.schedule`.
        steps, guidance_scale, generator, callback, batch_size: as for `text_to_image`.
        cuda_graph: as for `text_to_video`.
        clip_x0: clamp each estimate of x_0 to [-1, 1], where pixels lie; latents know no such limits.

    Returns:
        (B, *shape) float32 on the model's device, in [-1, 1] with `clip_x0`.

    Raises:
        ValueError: if there are no tokens, a number makes no sense, or the model's weights are not float32.
    """
    if len(tokens) < 1 or batch_size < 1 or min(shape) < 1:
        came = f"got {len(tokens)} prompts, batch_size = {batch_size} and the shape {tuple(shape)}"
        raise ValueError(f"expected at least one prompt, one sample at a time and one pixel, {came}")
    dtype, device = next(model.parameters()).dtype, next(model.parameters()).device
    if dtype != torch.float32:
        raise ValueError(f"expected a model with float32 weights, as the noise has; got {dtype}: give model.float()")
    schedule = model.schedule.to(device)
    guided = ClassifierFreeGuidance(model, guidance_scale)
    recorded = {}  # for each number of samples, as what is recorded holds for one shape

    def model_for(part: Tensor) -> Callable:
        if not cuda_graph or device.type != "cuda":
            return guided
        return recorded.setdefault(len(part), Recorded(guided))

    levels = sampling_levels(schedule.T, steps)
    x = torch.randn(len(tokens), *shape, generator=generator, device=device)
    parts = zip(x.split(batch_size), tokens.to(device).split(batch_size))
    return torch.cat(
        [
            ddim_sample(model_for(part), part, schedule, levels, cond, clip_x0=clip_x0, callback=callback)
            for part, cond in parts
        ]
    )
