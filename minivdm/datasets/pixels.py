"""Between the pixels of files, bytes 0..255, and those of models, floats in [-1, 1]."""

import numpy as np
import torch
from torch import Tensor


def to_model_range(images: Tensor) -> Tensor:
    r"""Grey levels as the model sees them: bytes 0..255 become floats in [-1, 1].

        x = 2 * images / 255 - 1

    Args:
        images: tensor of any shape, uint8.

    Returns:
        float32 tensor of the same shape; 0 becomes -1, 255 becomes 1.

    Raises:
        ValueError: if these are no bytes: floats may lie in [0, 1] or [-1, 1] already.
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"expected bytes 0..255, got {images.dtype}")
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> np.ndarray:
    """Images or videos with values in [-1, 1] as bytes, channels last: (..., C, H, W) -> (..., H, W, 3) uint8 array.

    Values beyond become -1 or 1, as a sampler may go a little too far. A ValueError for whole numbers, which are bytes
    already or by mistake, and for NaN, which has no colour.
    """
    if not images.is_floating_point():
        raise ValueError(
            f"expected pictures as floats in [-1, 1], got {images.dtype}; to_model_range makes them of bytes"
        )
    images = images.detach().float().cpu()
    if images.isnan().any():
        raise ValueError("expected pictures with values in [-1, 1], got NaN among them")
    images = images.expand(*images.shape[:-3], 3, *images.shape[-2:]) if images.shape[-3] == 1 else images
    return ((images.clamp(-1, 1) + 1) * 127.5).round().byte().movedim(-3, -1).numpy()


def frames_of(video: Tensor) -> Tensor:
    """A clip (C, F, H, W) as F images, (F, C, H, W)."""
    if video.ndim != 4:
        raise ValueError(f"expected one clip of shape (C, F, H, W), got {tuple(video.shape)}")
    return video.movedim(1, 0)
