r"""Super-resolution: the same clip with more pixels, by a network that sees it enlarged beside its noise.

In training the small clip is a real one, shrunk; in a cascade it is one that a network made, with mistakes that no
shrunk clip has. So noise is put over it, which hides them, and the network is told how much (Ho et al., "Cascaded
Diffusion Models", JMLR 2022, section 4.2; Saharia et al., "Imagen", NeurIPS 2022, section 2.3). Told something else
than what was done, it takes noise for detail, or detail for noise.

It estimates x_0, and of that only what is missing in the enlarged clip. So it starts as good as bicubic enlargement,
and noise, of which each pixel has its own, need not pass a network with fewer channels than pixels in a patch.

The last stage sees frame by frame. Each frame would get another detail from another noise, and the clip would tremble,
so all frames of a clip get the same noise (Singer et al., "Make-A-Video", ICLR 2023, section 3.2).
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor

from ..datasets.degradation import enlarge
from ..diffusion.forward_process import q_sample
from ..diffusion.schedules import NoiseSchedule
from ..models.conditioning import OnTop, Told, widen_stem
from ..models.unet import UNet
from ..models.unet3d import inflate
from .stages import sample_stage, stage_schedule
from .text2video import VideoModel

MAX_LEVEL = 250  # of the noise over a small clip in training; 16 bits hold it exactly
FACTOR = 2


def build_upscaler(
    frames: int = 16,
    size: int = 32,
    channels: int = 32,
    mults: Sequence[int] = (1, 2),
    patch: int = 2,
    context_dim: int = 64,
    shift: float = 1.0,
) -> VideoModel:
    """An untrained network that doubles height and width; it starts as bicubic enlargement.

    Args:
        frames: F, of clips that are seen whole, by layers along time; 1: frame by frame.
        size: H = W of what it makes.
        channels, mults, patch, context_dim: as for `UNet`; it attends at the lowest resolution.
        shift: factor of `shifted_betas`.
    """
    unet = widen_stem(UNet(3, channels, mults, 1, (len(mults) - 1,), context_dim=context_dim, patch=patch), 3)
    net = inflate(unet, (len(mults) - 1,)) if frames > 1 else unet
    return VideoModel(OnTop(Told(net)), stage_schedule(shift), frames, size, "x0")


def augmented(low: Tensor, level: Tensor, noise: Tensor, schedule: "NoiseSchedule") -> Tensor:
    r"""A small clip as a super-resolution network sees it: under noise, then enlarged.

    Ho et al., JMLR 2022, section 4.2.

    Equation:
        out = enlarge( sqrt(alpha_bar_s) low + sqrt(1 - alpha_bar_s) noise ),        s = level

    Args:
        low: (B, C, ...) small pictures or clips.
        level: (B,) long, 0 (nothing is changed) to `MAX_LEVEL`; the network is told the same.
        noise: like low, standard normal.
        schedule: a `NoiseSchedule`.

    Returns:
        (B, C, ...) with twice the height and width.
    """
    return enlarge(q_sample(low, level, noise, schedule), FACTOR)


def shared_noise(
    shape: "Sequence[int]",
    generator: torch.Generator | None = None,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Standard normal noise that is the same in all frames of a clip, and another in each clip.

    Singer et al., "Make-A-Video", ICLR 2023, section 3.2.

    Args:
        shape: (B, C, F, H, W).
        generator: `torch.Generator` on the device.
        device: where to draw.

    Returns:
        (B, C, F, H, W) float32; frame f is frame 0, for each f.
    """
    batch, channels, frames, height, width = shape
    noise = torch.randn(batch, channels, 1, height, width, generator=generator, device=device)
    return noise.expand(batch, channels, frames, height, width)


def upscale(
    model: "VideoModel",
    low: Tensor,
    level: int = 50,
    steps: int = 8,
    generator: torch.Generator | None = None,
    same_noise: bool = True,
    told_level: int | None = None,
) -> Tensor:
    """Clips with twice the height and width.

    Args:
        model: as from `build_upscaler`, trained.
        low: (B, 3, F, H / 2, W / 2) in [-1, 1].
        level: of the noise over them, 0..`MAX_LEVEL`.
        steps: DDIM steps.
        generator: `torch.Generator` on their device.
        same_noise: for a network that sees frame by frame: the same noise in all frames of a clip.
        told_level: what the network is told instead of the true level, to see what that does.

    Returns:
        (B, 3, F, H, W) in [-1, 1].

    Raises:
        ValueError: if the clips are of another size than the network was made for, or the level
            is another number.
    """
    if low.ndim != 5 or low.shape[-1] * FACTOR != model.size or low.shape[-2] != low.shape[-1]:
        side = model.size // FACTOR
        raise ValueError(f"expected clips (B, 3, F, {side}, {side}), got shape {tuple(low.shape)}")
    if not 0 <= level <= MAX_LEVEL:
        raise ValueError(f"the level of noise must lie in 0..{MAX_LEVEL}, got {level}")
    by_frame, frames = model.frames == 1, low.shape[2]
    draw = shared_noise if by_frame and same_noise else plain_noise
    over = draw(low.shape, generator, low.device)
    start = draw((*low.shape[:3], model.size, model.size), generator, low.device)
    if by_frame:
        parts = (low, over, start)
        low, over, start = (rearrange(part, "b c f h w -> (b f) c h w") for part in parts)
    levels = torch.full(low.shape[:1], level, device=low.device)  # (B,)
    beside = augmented(low, levels, over, model.schedule.to(low.device))
    said = levels if told_level is None else torch.full_like(levels, told_level)
    made = sample_stage(model, start, said.float()[:, None], steps, beside=beside)
    return rearrange(made, "(b f) c h w -> b c f h w", f=frames) if by_frame else made


def plain_noise(shape: Sequence[int], generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Standard normal noise, another in each frame."""
    return torch.randn(*shape, generator=generator, device=device)
