r"""Two numbers for what features do not see: grain in frames, and flicker between them.

Both are estimates of a standard deviation, in the units of the pixels. A second difference, 1 -2 1, is 0 wherever
something changes evenly, and noise is what is left (in space: Immerkaer, "Fast Noise Variance Estimation", Computer
Vision and Image Understanding, 1996). Its *median* over the places ignores edges and moving things, as long as they
cover less than half of a frame.
"""

from torch import Tensor

from .metrics import require_pictures

HALF_NORMAL = 0.6744897501960817  # the median of |z| for a standard normal z


def grain(clips: Tensor) -> float:
    """The standard deviation of the grain in frames.

    It is estimated from what second differences along rows *and* columns leave.

    Args:
        clips: (B, C, F, H, W) or pictures (B, C, H, W), any range, H and W >= 3.

    Returns:
        A float, the mean over frames and channels, in the units of the pixels; 0 for an even
        ground.

    Raises:
        ValueError: if these are no such clips or pictures, or one is not finite.
    """
    require_pictures(clips)
    if clips.ndim not in (4, 5) or min(clips.shape[-2:]) < 3:
        came = tuple(clips.shape)
        raise ValueError(f"expected clips or pictures of at least 3 x 3 pixels, got shape {came}")
    left = clips.double().diff(n=2, dim=-1).diff(n=2, dim=-2)  # its weights' squares add up to 36
    return (left.abs().flatten(-2).quantile(0.5, dim=-1).mean() / (HALF_NORMAL * 6)).item()


def flicker(clips: Tensor) -> float:
    """The standard deviation of the flicker of clips: what is left of second differences along time.

    Args:
        clips: (B, C, F, H, W), any range, F >= 3.

    Returns:
        A float, the mean over moments and channels, in the units of the pixels; 0 where most places stay as they are.

    Raises:
        ValueError: if these are no such clips, or one is not finite.
    """
    require_pictures(clips)
    if clips.ndim != 5 or clips.shape[2] < 3:
        raise ValueError(f"expected clips (B, C, F, H, W) of at least 3 frames, got shape {tuple(clips.shape)}")
    left = clips.double().diff(n=2, dim=2)  # the squares of its weights add up to 6
    return (left.abs().flatten(-2).quantile(0.5, dim=-1).mean() / (HALF_NORMAL * 6**0.5)).item()
