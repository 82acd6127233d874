r"""Frame interpolation: what happens between the key frames.

A first guess needs no network: a frame between two known ones is their weighted mean. It shows the sprite twice, half
as bright. The network says what is missing in the guess, so it starts as good as the guess is. It is that of the key
frames, which knows how things move, with four more input channels of zero weight: the guess, with the known frames in
their places, and a mask (Singer et al., "Make-A-Video", ICLR 2023, section 3.3, with zeros in the place of the guess).
It is told how many frames apart the known ones are, and no embedding: they show it.
"""

import copy

import torch
from torch import Tensor

from ..datasets.degradation import guessed_frames, spread_frames
from ..models.conditioning import OnTop, widen_stem
from ..models.layers import zero_module
from .stages import sample_stage, told
from .text2video import VideoModel

GUESSED_CHANNELS = 4  # three of pictures and the mask


def interpolator(key_frames: VideoModel, frames: int = 16) -> VideoModel:
    """A `VideoModel` for the frames in between, made of that of the key frames; it starts as their weighted means."""
    net = copy.deepcopy(key_frames.net)
    widen_stem(net.net.image, GUESSED_CHANNELS)
    _, last, _ = net.net.image.head
    zero_module(last)
    return VideoModel(OnTop(net), key_frames.schedule, frames, key_frames.size, "x0")


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
    cond = told(known.new_zeros(len(known), model.net.net.embedding_dim), skips)
    noise = torch.randn(clip.shape, generator=generator, device=clip.device)
    made = sample_stage(model, noise, cond, steps, beside=guessed_frames(clip, skips))
    made[:, :, ::skip] = known
    return made
