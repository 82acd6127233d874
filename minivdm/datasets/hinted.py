"""Drawn pictures and clips together with where their sprites are: the renderer knows it exactly.

Clips wander: the centre follows a smooth curve between four random points, whatever the caption says about motion. So
what steers them is the hint alone, and curves come up that no caption has a word for.
"""

import torch
from torch import Tensor

from .shapes import coverage, paint
from .sprites import ATTRIBUTES, all_triples
from .stills import STILL_ATTRIBUTES, SpriteStills


def hinted_stills(
    n: int, generator: torch.Generator, split: str = "train", size: int = 32
) -> tuple[Tensor, Tensor, Tensor]:
    """Stills with the exact masks of their sprites.

    Args:
        n: number of stills.
        generator: `torch.Generator`; all is drawn on its device.
        split: "train", "held_out" or "all".
        size: H = W.

    Returns:
        pictures (n, 3, H, W) in [-1, 1], masks (n, 1, H, W) in [0, 1] with soft edges, and attributes (n, 3) long.
    """
    attributes = random_triples(n, generator, split, STILL_ATTRIBUTES)
    shape, colour, place = attributes.unbind(1)
    x, y, radius = SpriteStills(size).spots(place, generator)  # (n, 1) each
    clips = paint(shape, colour, x, y, radius, torch.ones_like(x), size, generator)  # (n, 3, 1, H, W)
    return clips[:, :, 0], coverage(shape, x, y, radius, size), attributes


def wandering_clips(
    n: int, generator: torch.Generator, split: str = "train", frames: int = 16, size: int = 32
) -> tuple[Tensor, Tensor, Tensor]:
    """Clips of sprites that wander, and where their centres are.

    The curve is that of Bezier (1962) of third degree: p_0 (1 - s)^3 + 3 p_1 s (1 - s)^2 + 3 p_2 s^2 (1 - s) + p_3 s^3.

    Args:
        n, generator, split, size: as for `hinted_stills`.
        frames: F.

    Returns:
        clips (n, 3, F, H, W) in [-1, 1], centres (n, F, 2), x and y from -1 to 1, and attributes (n, 3) long, whose
        motion says nothing about the curve.
    """
    attributes = random_triples(n, generator, split, ATTRIBUTES)
    rand = torch.rand(n, 9, generator=generator, device=generator.device)  # (n, 9)
    radius = 0.34 + 0.18 * rand[:, :1]  # (n, 1), as in `MovingSprites`
    corners = (1 - radius[..., None]) * (2 * rand[:, 1:].view(n, 4, 2) - 1)  # (n, 4, 2)
    s = torch.linspace(0, 1, frames, device=generator.device)[:, None]  # (F, 1)
    weights = torch.cat([(1 - s) ** 3, 3 * s * (1 - s) ** 2, 3 * s**2 * (1 - s), s**3], dim=1)  # (F, 4)
    centres = torch.einsum("fk,nkc->nfc", weights, corners)  # (n, F, 2)
    x, y = centres.unbind(2)
    shape, colour, _ = attributes.unbind(1)
    clips = paint(shape, colour, x, y, radius.expand_as(x), torch.ones_like(x), size, generator)
    return clips, centres, attributes


def random_triples(n: int, generator: torch.Generator, split: str, attributes: dict) -> Tensor:
    """(n, 3) long, drawn from a split."""
    triples = all_triples(split, attributes).to(generator.device)  # (N, 3)
    return triples[torch.randint(len(triples), (n,), generator=generator, device=generator.device)]
