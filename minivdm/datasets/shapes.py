r"""Drawing coloured shapes with tensor arithmetic, thousands of frames at once, on whatever device the numbers live on.

A shape is drawn from its signed distance function d(p), which is negative inside and positive outside. A pixel of
width w is covered by about (Green, "Improved Alpha-Tested Magnification", SIGGRAPH courses 2007)

    coverage = clamp( 1/2 - d(p) / w, 0, 1 )

which antialiases the edge: a circle that moves by a third of a pixel changes the picture.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

COLOURS = {
    "red": (0.92, 0.13, 0.15),
    "orange": (1.00, 0.55, 0.08),
    "yellow": (0.98, 0.92, 0.20),
    "green": (0.13, 0.75, 0.25),
    "cyan": (0.20, 0.88, 0.92),
    "blue": (0.16, 0.35, 0.97),
    "purple": (0.68, 0.22, 0.90),
    "white": (0.97, 0.97, 0.97),
}


def circle(x: Tensor, y: Tensor) -> Tensor:
    """Signed distance to a disc. Every shape below fits into the unit disc; x runs right, y down; any equal shapes."""
    return torch.hypot(x, y) - 0.88


def square(x: Tensor, y: Tensor) -> Tensor:
    """Signed distance to an upright square."""
    dx, dy = x.abs() - 0.72, y.abs() - 0.72
    return torch.hypot(dx.clamp(min=0), dy.clamp(min=0)) + torch.maximum(dx, dy).clamp(max=0)


def triangle(x: Tensor, y: Tensor) -> Tensor:
    """Signed distance (to the nearest side's line) of a triangle that points up: three half planes."""
    return torch.maximum(math.sqrt(0.75) * x.abs() - 0.5 * (y - 0.15), y - 0.15) - 0.55


def diamond(x: Tensor, y: Tensor) -> Tensor:
    """Signed distance (to the nearest side's line) of a square on its tip."""
    return (x.abs() + y.abs() - 1.0) / math.sqrt(2)


def cross(x: Tensor, y: Tensor) -> Tensor:
    """Signed distance (to the nearest side's line) of a plus sign."""
    long, short = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    return torch.maximum(long - 0.95, short - 0.30)


def ring(x: Tensor, y: Tensor) -> Tensor:
    """Signed distance to a ring."""
    return (torch.hypot(x, y) - 0.70).abs() - 0.23


SHAPES = {f.__name__: f for f in (circle, square, triangle, diamond, cross, ring)}


def pixel_centres(size: int, device: torch.device) -> Tensor:
    """Where the pixels of a row are, (W,): from -1 to 1, in units of half the frame's width."""
    return (torch.arange(size, device=device) + 0.5) / size * 2 - 1


def coverage(
    shape: Tensor, x: Tensor, y: Tensor, radius: Tensor, size: int, shapes: dict[str, Callable] = SHAPES
) -> Tensor:
    """How much of each pixel a shape covers: its exact mask, with soft edges; arguments as for `paint`.

    Returns:
        (B, F, H, W) float, from 0 (ground) to 1 (sprite).
    """
    grid = pixel_centres(size, x.device)  # (W,)
    radius = radius[:, :, None, None]  # (B, F, 1, 1)
    u = (grid - x[:, :, None, None]) / radius  # (B, F, 1, W) in units of the sprite's radius
    v = (grid[:, None] - y[:, :, None, None]) / radius  # (B, F, H, 1)
    distance = u.new_zeros(()).expand(*u.shape[:2], size, size)  # (B, F, H, W)
    for index, signed_distance in enumerate(shapes.values()):
        chosen = (shape == index)[:, None, None, None]  # (B, 1, 1, 1)
        distance = torch.where(chosen, signed_distance(*torch.broadcast_tensors(u, v)), distance)
    return (0.5 - distance * radius * size / 2).clamp(0, 1)


def paint(
    shape: Tensor,
    colour: Tensor,
    x: Tensor,
    y: Tensor,
    radius: Tensor,
    visible: Tensor,
    size: int,
    generator: torch.Generator,
    shapes: dict[str, Callable] = SHAPES,
    colours: dict[str, tuple[float, float, float]] = COLOURS,
) -> Tensor:
    r"""Sprites on random grounds, all pixels of all frames in one pass.

        clip = ground + coverage * visible * (colour - ground)

    Args:
        shape, colour: (B,) long, places in `shapes` and `colours`.
        x, y, radius: (B, F), centre and radius in units of half the frame's width; x runs right, y down.
        visible: (B, F), 0..1.
        size: H = W in pixels.
        generator: `torch.Generator` on their device, for the grounds.
        shapes: signed distance functions of (x, y), by name.
        colours: red, green and blue in [0, 1], by name.

    Returns:
        (B, 3, F, H, W) float in [-1, 1].
    """
    covered = coverage(shape, x, y, radius, size, shapes) * visible[:, :, None, None]  # (B, F, H, W)
    paints = torch.tensor(list(colours.values()), device=x.device)[colour]  # (B, 3)
    back = ground(len(shape), pixel_centres(size, x.device), generator)[:, :, None]  # (B, 3, 1, H, W)
    clip = back + covered[:, None] * (paints[:, :, None, None, None] - back)  # (B, 3, F, H, W)
    return clip * 2 - 1


def ground(n: int, grid: Tensor, generator: torch.Generator) -> Tensor:
    """Dark grounds, (n, 3, H, W) in [0, 1]: a grey between 0.05 and 0.35 that slopes, with a hint of a tint."""
    rand = torch.rand(6, n, generator=generator, device=generator.device)  # (6, n)
    angle = (2 * math.pi * rand[0])[:, None, None]  # (n, 1, 1)
    slope = (angle.cos() * grid + angle.sin() * grid[:, None]) / math.sqrt(2)  # (n, H, W) in [-1, 1]
    grey = (0.14 + 0.10 * rand[1])[:, None, None] + (0.07 * rand[2])[:, None, None] * slope  # (n, H, W)
    tint = 0.04 * (rand[3:].T - 0.5)  # (n, 3)
    return grey[:, None] + tint[:, :, None, None]  # (n, 3, H, W)
