"""Between the pixels of files, bytes 0..255, and those of models, floats in [-1, 1]."""


def to_model_range(images):
    r"""Grey levels as the model sees them: bytes 0..255 become floats in [-1, 1].

        x = 2 * images / 255 - 1

    Args:
        images: tensor of any shape, uint8.

    Returns:
        float32 tensor of the same shape; 0 becomes -1, 255 becomes 1.
    """
    return images.float() / 127.5 - 1


def to_uint8(images):
    """Images or videos with values in [-1, 1] as bytes, channels last: (..., C, H, W) -> (..., H, W, 3) uint8 array."""
    images = images.detach().float().cpu()
    images = images.expand(*images.shape[:-3], 3, *images.shape[-2:]) if images.shape[-3] == 1 else images
    return ((images.clamp(-1, 1) + 1) * 127.5).round().byte().movedim(-3, -1).numpy()


def frames_of(video):
    """A clip (C, F, H, W) as F images, (F, C, H, W)."""
    if video.ndim != 4:
        raise ValueError(f"expected one clip of shape (C, F, H, W), got {tuple(video.shape)}")
    return video.movedim(1, 0)
