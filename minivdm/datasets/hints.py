r"""Hints: drawings that say where, computed from pictures or drawn by hand.

A hint is a picture in [0, 1], (B, 1, H, W), or one for each frame of a clip, (B, 1, F, H, W): edges, a mask, or dots at
points. (The pictures themselves lie in [-1, 1].) All of it is tensor arithmetic for whole batches, on their device.
"""

import math
from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from .shapes import pixel_centres

SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))  # across the columns: bright to the right is positive
LEAST_CONTRAST = 0.3  # of a sprite's brightest channel against the ground's, in units of the whole range


def sobel(images: Tensor) -> tuple[Tensor, Tensor]:
    r"""The slope of each channel, to the right and downwards (Sobel and Feldman, 1968).

    The border's pixels are repeated outwards, so a picture of one colour has no slope anywhere.

    Args:
        images: (B, C, H, W).

    Returns:
        Two tensors like `images`, in units of brightness per pixel.
    """
    kernel = torch.tensor(SOBEL, dtype=images.dtype, device=images.device) / 8
    rows = images.flatten(0, 1)[:, None]  # (B C, 1, H, W)
    padded = F.pad(rows, (1, 1, 1, 1), mode="replicate")
    slopes = F.conv2d(padded, torch.stack([kernel, kernel.T])[:, None])  # (B C, 2, H, W)
    right, down = slopes.unflatten(0, images.shape[:2]).unbind(2)
    return right, down


def edges(images: Tensor, threshold: float = 0.1) -> Tensor:
    r"""Where a picture changes: lines one pixel wide.

    After Canny, "A Computational Approach to Edge Detection", IEEE PAMI 1986, without its blur and
    its second threshold.

    At each pixel the channel with the steepest slope counts alone: m is the length of its slope
    (right, down), and the direction is that of *its* slope.

    Equation:
        m = the largest length of the slope (right, down) among the channels of a pixel
        a pixel is an edge where m is at least the threshold, and no smaller than at its two
        neighbours along the slope of the channel that has m: left and right where
        |right| >= |down|, above and below elsewhere. Where two neighbours are equal, the one to
        the left or above counts: m must be *larger* than at the pixel to the left, or above.

    Pixels outside the picture count as m = 0.

    Args:
        images: (B, C, H, W) in [-1, 1].
        threshold: the smallest slope of an edge, in brightness per pixel.

    Returns:
        (B, 1, H, W), 1 on edges and 0 elsewhere, in the dtype of `images`.
    """
    right, down = sobel(images)
    m, channel = torch.hypot(right, down).max(dim=1, keepdim=True)  # (B, 1, H, W)
    across = right.gather(1, channel).abs() >= down.gather(1, channel).abs()
    around = F.pad(m, (1, 1, 1, 1))
    before = torch.where(across, around[:, :, 1:-1, :-2], around[:, :, :-2, 1:-1])
    after = torch.where(across, around[:, :, 1:-1, 2:], around[:, :, 2:, 1:-1])
    return ((m >= threshold) & (m > before) & (m >= after)).to(images.dtype)


def masks(images: Tensor) -> Tensor:
    """Which pixels belong to the sprite, for sprites that are brighter than a dark ground of varying shade.

    The threshold is each picture's own: half-way between the ground (the median of the pixels' brightest channels) and
    the sprite (the mean of the brightest 2%). A picture with less contrast than `LEAST_CONTRAST` has no sprite.

    Args:
        images: (B, 3, H, W) in [-1, 1].

    Returns:
        (B, 1, H, W), 1 or 0, in the dtype of `images`.
    """
    bright = (images.amax(dim=1, keepdim=True) + 1) / 2  # (B, 1, H, W) in [0, 1]
    sorted_ = bright.flatten(1).sort(dim=1).values  # (B, H W)
    n = sorted_.shape[1]
    ground, sprite = sorted_[:, n // 2], sorted_[:, -max(n // 50, 1) :].mean(dim=1)  # (B,) each
    there = sprite - ground >= LEAST_CONTRAST
    middle = torch.where(there, (ground + sprite) / 2, torch.inf)
    return (bright > middle[:, None, None, None]).to(images.dtype)


def centres(masks: Tensor) -> Tensor:
    """The centre of mass of masks (..., 1, H, W): (..., 2), x and y from -1 to 1; NaN where a mask is empty."""
    grid = pixel_centres(masks.shape[-1], masks.device).to(masks.dtype)
    mass = masks.sum(dim=(-3, -2, -1))
    return (
        torch.stack([(masks.sum(dim=(-3, -2)) * grid).sum(-1), (masks.sum(dim=(-3, -1)) * grid).sum(-1)], -1)
        / (mass[..., None])
    )


def dots(points: Tensor, size: int, width: float = 1.5) -> Tensor:
    """Soft round dots at points: (..., K, 2), x and y from -1 to 1, become (..., 1, size, size) in [0, 1].

    A dot is exp(-d^2 / (2 width^2)) at a distance of d pixels from its point; of several the largest counts. A point
    that is NaN has no dot.
    """
    grid = pixel_centres(size, points.device).to(points.dtype)
    d = (grid - points[..., None]) * size / 2  # (..., K, 2, size) in pixels
    squared = d[..., 0, None, :] ** 2 + d[..., 1, :, None] ** 2  # (..., K, size, size)
    each = (-squared / (2 * width**2)).exp().nan_to_num(0)  # NaN: no point, no dot
    return each.amax(dim=-3)[..., None, :, :]


def box_points(masks: Tensor) -> Tensor:
    """The four corners of the box around each mask, and its centre of mass: (B, 5, 2), x and y from -1 to 1.

    Args:
        masks: (B, 1, H, W) with H = W, 0..1; what is above 1/2 is inside. An empty mask has NaN.
    """
    inside = masks[:, 0] > 0.5
    grid = pixel_centres(masks.shape[-1], masks.device).to(masks.dtype)
    columns, rows = inside.any(dim=1), inside.any(dim=2)  # (B, W), (B, H)
    ends = []
    for there in (columns, rows):
        ends.append(torch.where(there, grid, math.inf).amin(dim=1))
        ends.append(torch.where(there, grid, -math.inf).amax(dim=1))
    left, right, top, bottom = (torch.where(inside.any(dim=(1, 2)), end, math.nan) for end in ends)
    corners = [torch.stack([x, y], dim=-1) for x in (left, right) for y in (top, bottom)]
    return torch.stack([*corners, centres(inside[:, None].to(masks.dtype))], dim=1)


def key_points(masks: Tensor) -> Tensor:
    """The `box_points` of each mask as `dots`, like `masks`; an empty mask has none."""
    return dots(box_points(masks), masks.shape[-1])


def paths(points: Sequence[Sequence[float]], frames: int) -> Tensor:
    r"""Where something is that walks along a line drawn by hand, at an even speed.

    The line goes straight from each point to the next. Frame 0 is at its first point, the last
    frame at its last one, and between two neighbouring frames the same length of line is walked.

    Equation:
        s_i = length of the line from its start to point i,     S = the whole length
        frame f is at the place with s = S f / (F - 1): in the piece with s_i <= s <= s_(i+1), the
        share (s - s_i) / (s_(i+1) - s_i) of the way from point i to point i + 1

    Points that follow each other and are equal count as one. A line of no length is one place.

    Args:
        points: at least one pair (x, y), from -1 to 1; x runs right, y down.
        frames: F, at least 2.

    Returns:
        (F, 2) float32.

    Raises:
        ValueError: if there are no points, one is no pair of finite numbers, or F < 2.
    """
    corners = torch.as_tensor(points, dtype=torch.float64)
    if corners.ndim != 2 or corners.shape[1:] != (2,) or not corners.isfinite().all() or frames < 2:
        came = f"{tuple(corners.shape)} and {frames} frames"
        raise ValueError(f"expected finite points (N, 2) and 2 frames or more, got {came}")
    lengths = (corners[1:] - corners[:-1]).norm(dim=1)
    corners = corners[torch.cat([torch.tensor([True]), lengths > 0])]
    s = torch.cat([lengths.new_zeros(1), lengths[lengths > 0].cumsum(0)])  # (N,)
    if len(s) == 1:
        return corners.expand(frames, 2).float()
    walked = torch.linspace(0, 1, frames, dtype=torch.float64) * s[-1]  # (F,)
    i = (torch.searchsorted(s, walked) - 1).clamp(0, len(s) - 2)  # the piece of each frame
    share = ((walked - s[i]) / (s[i + 1] - s[i]))[:, None]
    return (corners[i] + share * (corners[i + 1] - corners[i])).float()


HINTS = {"edges": edges, "mask": masks, "points": lambda images: key_points(masks(images))}


def of_frames(hint: Callable, clips: Tensor) -> Tensor:
    """A hint for each frame: what `hint` makes of pictures (B F, C, H, W), for clips (B, C, F, H, W)."""
    each = hint(rearrange(clips, "b c f h w -> (b f) c h w"))
    return rearrange(each, "(b f) c h w -> b c f h w", b=len(clips))
