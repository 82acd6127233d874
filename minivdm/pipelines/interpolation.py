r"""Frame interpolation: what happens between the key frames.

The network of the key frames knows already how things move. It gets four more channels, which start at zero weight: the
frames that are known, in their places, and a mask (Singer et al., "Make-A-Video", ICLR 2023, section 3.3). It is told
how many frames apart the known ones are, and no embedding: they show it.
"""

import copy

import torch
from torch import Tensor

from ..datasets.degradation import masked_frames, spread_frames
from ..models.conditioning import widen_stem
from .stages import sample_stage, told
from .text2video import VideoModel

MASKED_CHANNELS = 4  # three of pictures and the mask


def interpolator(key_frames: VideoModel, frames: int = 16) -> VideoModel:
    """A `VideoModel` for the frames in between that starts as a copy of the model of key frames."""
    net = copy.deepcopy(key_frames.net)
    widen_stem(net.net.image, MASKED_CHANNELS)
    return VideoModel(net, key_frames.schedule, frames, key_frames.size)


def interpolate_frames(
    model: "VideoModel",
    known: Tensor,
    skip: int = 2,
    steps: int = 8,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The whole clip, from every `skip`-th frame of it.

    Args:
        model: as from `interpolator`, trained.
        known: (B, 3, K, H, W) in [-1, 1], the frames in the places 0, skip, 2 skip, ..
        skip: frames from one known frame to the next.
        steps: DDIM steps.
        generator: `torch.Generator` on their device.

    Returns:
        (B, 3, F, H, W) in [-1, 1]; the known frames come back as they are.

    Raises:
        ValueError: from `spread_frames`, if there are more or fewer known frames.
    """
    clip = spread_frames(known, skip, model.frames)
    skips = torch.full(known.shape[:1], skip, device=known.device)  # (B,)
    cond = told(known.new_zeros(len(known), model.net.embedding_dim), skips)
    noise = torch.randn(clip.shape, generator=generator, device=clip.device)
    made = sample_stage(model, noise, cond, steps, beside=masked_frames(clip, skips))
    made[:, :, ::skip] = known
    return made
