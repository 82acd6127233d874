r"""The decoder: from the embedding of a picture to pictures, and then to the key frames of a clip.

First it learns what the world looks like, from pictures alone. Then layers along time are put in, which start as the
identity, and it learns how the world moves, from clips that nobody described: the embedding of one of their frames is
all that it is told (Singer et al., "Make-A-Video", ICLR 2023, sections 3.1 and 3.2). And how fast: the number of
frames of the recording from one key frame to the next.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from ..models.conditioning import Told
from ..models.layers import Downsample
from ..models.unet import UNet
from ..models.unet3d import inflate
from .stages import sample_stage, stage_schedule, told
from .text2video import VideoModel

STILL = 0  # the number of frames from one to the next, in a picture, where there is no next


def build_decoder(
    channels: int = 32,
    mults: Sequence[int] = (2, 3),
    patch: int = 2,
    embedding_dim: int = 64,
    size: int = 16,
    shift: float = 1.75,
) -> VideoModel:
    """An untrained decoder of pictures, a `VideoModel` of one frame; its net is a `Told` around a `UNet`.

    Args:
        channels, mults, patch: as for `UNet`; the network attends at the lowest resolution.
        embedding_dim: E, of the image embedding; the context's vectors have as many numbers.
        size: H = W of the pictures.
        shift: factor of `shifted_betas`.
    """
    unet = UNet(3, channels, mults, 1, (len(mults) - 1,), context_dim=embedding_dim, patch=patch)
    return VideoModel(Told(unet, embedding_dim), stage_schedule(shift), 1, size)


def animate(decoder: VideoModel, frames: int = 8) -> VideoModel:
    """A decoder of `frames` key frames that starts as a copy of one of pictures, applied to each frame."""
    net = copy.deepcopy(decoder.net)
    lowest = sum(isinstance(layer, Downsample) for layer in net.net.down)  # where the decoder attends, too
    net.net = inflate(net.net, (lowest,))
    return VideoModel(net, decoder.schedule, frames, decoder.size)


def sample_pictures_of(
    model: "VideoModel",
    embeddings: Tensor,
    steps: int = 20,
    guidance_scale: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A picture (B, 3, H, W) in [-1, 1] for each image embedding, (B, E), by a decoder from `build_decoder`."""
    size, cond = model.size, told(embeddings, STILL)
    noise = torch.randn(len(cond), 3, size, size, generator=generator, device=cond.device)
    return sample_stage(model, noise, cond, steps, guidance_scale, embeddings.shape[1])


def sample_key_frames(
    model: "VideoModel",
    embeddings: Tensor,
    skip: int = 2,
    steps: int = 20,
    guidance_scale: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Key frames for each image embedding.

    Args:
        model: as from `animate`, tuned on clips.
        embeddings: (B, E) unit vectors.
        skip: frames of the recording from one key frame to the next: the larger, the faster.
        steps: DDIM steps.
        guidance_scale: how closely to follow the embedding; 1 = off.
        generator: `torch.Generator` on the embeddings' device.

    Returns:
        (B, 3, F, H, W) in [-1, 1].
    """
    cond = told(embeddings, skip)
    shape = len(cond), 3, model.frames, model.size, model.size
    noise = torch.randn(shape, generator=generator, device=cond.device)
    return sample_stage(model, noise, cond, steps, guidance_scale, embeddings.shape[1])
