r"""Diffusion in the latents of an autoencoder: from prompts to pictures, and from pictures to other pictures.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022.

    prompt --> tokens --> guided DDIM from noise, on latents (B, C, H / f, W / f) --> / scale --> decoder --> pictures
    picture --> encoder --> x scale --> noise of some level --> the rest of the same walk --> ... --> another picture
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..diffusion.forward_process import q_sample
from ..diffusion.guidance import ClassifierFreeGuidance
from ..diffusion.predictions import EpsModel
from ..diffusion.samplers import ddim_sample, sampling_levels
from ..models.autoencoder import Autoencoder
from .text2image import build_text2image, sample_tokens, still_tokenizer


class LatentModel(nn.Module):
    """An autoencoder and a denoiser of its latents, which are of use only together; so they share a file.

    Args:
        autoencoder: an `Autoencoder` whose scale is measured.
        denoiser: `model(z, t, cond)` that estimates eps in latents of unit variance, as from `build_text2image`.
        size: H = W of the pictures.

    Attributes:
        shape: (C, H / f, W / f) of one latent.
    """

    def __init__(self, autoencoder: Autoencoder, denoiser: EpsModel, size: int):
        super().__init__()
        if size % autoencoder.shrink:
            raise ValueError(f"size must be a multiple of {autoencoder.shrink}, got {size}")
        self.autoencoder, self.denoiser, self.size = autoencoder, denoiser, size
        self.shape = (autoencoder.latent_channels, size // autoencoder.shrink, size // autoencoder.shrink)


def build_latent(autoencoder: Mapping[str, object], denoiser: Mapping[str, object], size: int = 64) -> LatentModel:
    """An untrained `LatentModel`: arguments of `Autoencoder`, of `build_text2image`, and H = W of the pictures."""
    pixels_to_latents = Autoencoder(**autoencoder)
    channels = pixels_to_latents.latent_channels
    return LatentModel(pixels_to_latents, build_text2image(**{"patch": 1, "in_channels": channels, **denoiser}), size)


@torch.no_grad()
def to_pictures(autoencoder: Autoencoder, latents: Tensor, batch_size: int = 32) -> Tensor:
    """The pictures (B, 3, H, W) in [-1, 1] of latents of unit variance, at most `batch_size` at a time."""
    return torch.cat([autoencoder.to_images(part) for part in latents.split(batch_size)]).clamp(-1, 1)


def latent_text_to_image(
    prompts: str | Sequence[str],
    model: LatentModel,
    steps: int = 20,
    guidance_scale: float = 3.0,
    generator: torch.Generator | None = None,
    callback: Callable | None = None,
    batch_size: int = 32,
) -> Tensor:
    """Sample one picture per prompt: `text_to_image` in latents, and the decoder once at the end.

    Args:
        prompts: a string or a list of B strings.
        model: a `LatentModel`.
        steps, guidance_scale, generator, callback, batch_size: as for `text_to_image`; a callback sees latents.

    Returns:
        (B, 3, H, W) float32 in [-1, 1] on the model's device.

    Raises:
        ValueError: as for `text_to_image`.
    """
    tokens = still_tokenizer().encode(prompts)  # (B, L)
    latents = sample_tokens(
        tokens, model.shape, model.denoiser, steps, guidance_scale, generator, callback, batch_size, clip_x0=False
    )
    return to_pictures(model.autoencoder, latents, batch_size)


def strength_levels(T: int, n: int, strength: float) -> list[int]:
    r"""The levels of a walk that begins part of the way up: the share `strength` of it.

    It begins at the level nearest to strength T, at least at 1, and ends at 0. It has as few steps
    as possible while they span no more than T / n levels on average, as those of the whole walk
    do; and they are as even as whole numbers allow.

    Equation:
        t = max(1, round(strength T)),      sampling_levels(t, ceil(n t / T))

    Args:
        T: number of noisy levels.
        n: steps of the whole walk, 1..T.
        strength: above 0, at most 1; at 1 this is `sampling_levels(T, n)`.

    Returns:
        List of strictly falling ints that ends at 0.

    Raises:
        ValueError: if strength is not in (0, 1], or n not in 1..T.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength must lie above 0 and be at most 1, got {strength}")
    sampling_levels(T, n)  # refuses a number of steps that makes no sense
    start = max(1, round(strength * T))
    return sampling_levels(start, -(-n * start // T))


def tokens_for(images: Tensor, prompts: str | Sequence[str]) -> Tensor:
    """The tokens (B, L) of one prompt for each picture, on their device; a ValueError if these are not as many."""
    prompts = [prompts] * len(images) if isinstance(prompts, str) else list(prompts)
    if len(prompts) != len(images) or not prompts:
        raise ValueError(f"expected one prompt for each picture, got {len(prompts)} for {len(images)}")
    return still_tokenizer().encode(prompts).to(images.device)


@torch.no_grad()
def image_to_image(
    images: Tensor,
    prompts: "str | Sequence[str]",
    model: "LatentModel",
    strength: float = 0.6,
    steps: int = 20,
    guidance_scale: float = 3.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Change pictures towards prompts: noise up to a level, then the guided walk from there.

    Meng et al., "SDEdit", ICLR 2022, section 3, in latents of unit variance, which are not clamped.
    What the noise hides is drawn anew, as the prompt says; what still shows through it stays.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        prompts: a string, for all of them, or a list of B strings.
        model: a `LatentModel`.
        strength: how far up, above 0 and at most 1; see `strength_levels`. Towards 0 what comes
            back is the reconstruction.
        steps: DDIM steps of a whole walk.
        guidance_scale: how closely to follow the prompt; 1 = off.
        generator: `torch.Generator` on the model's device.

    Returns:
        A tensor like images, in [-1, 1].

    Raises:
        ValueError: if the prompts are not as many as the pictures, or a number makes no sense.
    """
    tokens = tokens_for(images, prompts)  # (B, L)
    schedule = model.denoiser.schedule.to(images.device)
    levels = strength_levels(schedule.T, steps, strength)
    z0 = model.autoencoder.to_latents(images)  # (B, C, H / f, W / f)
    noise = torch.randn(z0.shape, generator=generator, device=z0.device)
    z = q_sample(z0, torch.full((len(z0),), levels[0], device=z0.device), noise, schedule)
    guided = ClassifierFreeGuidance(model.denoiser, guidance_scale)
    return to_pictures(model.autoencoder, ddim_sample(guided, z, schedule, levels, tokens))
