r"""Things that no model of the course has seen: two shapes, one real handwritten digit, and a colour.

A *concept* is one new name of one kind, such as the shape "moon". It is drawn like all others, so that the same places
and the other colours or shapes go with it, and a caption tells it by its name: "a red moon at the top left". What
models are trained on stays as it is: new names come after the old ones, and the old data are drawn as before.

The digit is no drawing: its outline is where the ink of one of scikit-learn's digits, which were written by hand,
passes the middle grey.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .digits import digits
from .shapes import COLOURS, SHAPES
from .sprites import ATTRIBUTES, MovingSprites, captions_of
from .stills import STILL_ATTRIBUTES, SpriteStills, still_captions

DIGIT = 38  # which of the training digits is the concept: a 3
INK_SLOPE = 4.0  # a pixel of the digit is a quarter of the radius wide: so the ink's edge is about as steep


def moon(x: Tensor, y: Tensor) -> Tensor:
    """Signed distance (to the nearer circle) of a crescent, open to the right: a disc without another disc."""
    return torch.maximum(torch.hypot(x, y) - 0.90, 0.62 - torch.hypot(x - 0.42, y))


def arrow(x: Tensor, y: Tensor) -> Tensor:
    """Signed distance (to the nearest side's line) of an arrow that points to the right: a triangle and a bar."""
    head = torch.maximum((x + y.abs() - 0.95) * 0.707, -x)
    bar = torch.maximum(y.abs() - 0.28, (x + 0.40).abs() - 0.50)
    return torch.minimum(head, bar)


@functools.cache
def handwriting(which: int = DIGIT) -> Tensor:
    """One real digit, (8, 8) in [-1, 1], ink = 1; `which` counts the training digits."""
    return digits()[0][which, 0]


def digit(x: Tensor, y: Tensor) -> Tensor:
    """About the signed distance to the edge of the ink of `handwriting`; (B, F, H, W) each."""
    ink = handwriting().to(x)[None, None]  # (1, 1, 8, 8)
    places = torch.stack([x, y], dim=-1).reshape(1, -1, x.shape[-1], 2)  # (1, B F H, W, 2)
    values = F.grid_sample(ink, places, padding_mode="border", align_corners=False)  # (1, 1, B F H, W)
    outside = torch.maximum(x.abs(), y.abs()) - 1
    return torch.maximum(-values.reshape(x.shape) / INK_SLOPE, outside)


NEW_SHAPES = {f.__name__: f for f in (moon, arrow, digit)}
NEW_COLOURS = {"pink": (1.00, 0.55, 0.78)}
ALL_SHAPES, ALL_COLOURS = {**SHAPES, **NEW_SHAPES}, {**COLOURS, **NEW_COLOURS}


def with_new(attributes: dict[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The names of three kinds, with the new shapes and colours after the old ones."""
    return {**attributes, "shape": tuple(ALL_SHAPES), "colour": tuple(ALL_COLOURS)}


class ConceptStills(SpriteStills):
    """`SpriteStills`, and with the new names; the old ones have the same places and are drawn alike, bit for bit."""

    attributes = with_new(STILL_ATTRIBUTES)
    captions_of = staticmethod(functools.partial(still_captions, attributes=attributes))
    shapes, colours = ALL_SHAPES, ALL_COLOURS


class ConceptClips(MovingSprites):
    """`MovingSprites`, and with the new names; the old ones have the same places and are drawn alike, bit for bit."""

    attributes = with_new(ATTRIBUTES)
    captions_of = staticmethod(functools.partial(captions_of, attributes=attributes))
    shapes, colours = ALL_SHAPES, ALL_COLOURS


def triples_with(kind: str, name: str, attributes: dict[str, Sequence[str]], old: dict[str, Sequence[str]]) -> Tensor:
    """All triples in which one kind has a new name, and the other two old ones.

    Args:
        kind, name: such as "shape" and "moon".
        attributes: the names of three kinds, new ones included.
        old: those without the new ones.

    Returns:
        (N, 3) long.

    Raises:
        ValueError: if there is no such name.
    """
    if name not in attributes.get(kind, ()):
        raise ValueError(f"{name!r} is no {kind}; choose from {', '.join(attributes.get(kind, attributes))}")
    indices = [
        torch.tensor([names.index(name)]) if each == kind else torch.arange(len(old[each]))
        for each, names in attributes.items()
    ]
    return torch.cartesian_prod(*indices)
