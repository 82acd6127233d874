"""Is the sprite where the hint says? How far masks overlap, and how far their centres are apart."""

import torch
from torch import Tensor

from ..datasets.hints import box_points, centres


def iou(one: Tensor, other: Tensor) -> Tensor:
    r"""Intersection over union of masks (Jaccard, 1901).

        IoU = |A and B| / |A or B|            1: the same pixels;  0: none in common

    Args:
        one, other: (B, ...) masks, 0..1; what is above 1/2 is inside.

    Returns:
        (B,) float32; 1 where both masks are empty.

    Raises:
        ValueError: if their shapes differ, or a value is not finite.
    """
    if one.shape != other.shape or not (one.isfinite().all() and other.isfinite().all()):
        came = f"{tuple(one.shape)} and {tuple(other.shape)}"
        raise ValueError(f"expected finite masks of one shape, got {came}")
    a, b = (one > 0.5).flatten(1), (other > 0.5).flatten(1)
    both, either = (a & b).sum(dim=1), (a | b).sum(dim=1)
    return torch.where(either > 0, both / either.clamp(min=1), 1.0).float()


def centre_distance(masks: Tensor, points: Tensor) -> Tensor:
    """How far the centre of each mask is from a point, in pixels.

    Args:
        masks: (..., 1, H, W) with H = W.
        points: (..., 2), x and y from -1 to 1.

    Returns:
        (...) float; infinity where a mask is empty.
    """
    distance = (centres(masks) - points).norm(dim=-1) * masks.shape[-1] / 2
    return distance.nan_to_num(torch.inf)


def corner_distance(masks: Tensor, others: Tensor) -> Tensor:
    """How far the corners of the box around each mask are from those of another mask, in pixels: the mean of four.

    Args:
        masks, others: (B, 1, H, W) with H = W.

    Returns:
        (B,) float; infinity where a mask is empty.
    """
    distance = (box_points(masks) - box_points(others))[:, :4].norm(dim=-1).mean(dim=1) * masks.shape[-1] / 2
    return distance.nan_to_num(torch.inf)
