"""Captioned pictures without a download: one coloured shape at one place of a dark, shaded ground.

The pictures are `MovingSprites` that stand still, captioned by where they are instead of what they do:

    "a red circle at the top left"        (shape, colour, place) = ("circle", "red", "top left")

As for clips, one triple in ten never occurs in training, while every pair of attributes does.
"""

import torch
from torch import Tensor

from .shapes import COLOURS, SHAPES, paint
from .sprites import Sprites

# Centre (x, y) in units of half the picture's width, and three wordings.
PLACES = {
    "top left": ((-0.55, -0.55), ("at the top left", "in the top left corner", "in the upper left")),
    "top": ((0.0, -0.55), ("at the top", "at the upper edge", "near the top")),
    "top right": ((0.55, -0.55), ("at the top right", "in the top right corner", "in the upper right")),
    "left": ((-0.55, 0.0), ("at the left", "at the left edge", "on the left side")),
    "centre": ((0.0, 0.0), ("in the centre", "in the middle", "at the centre")),
    "right": ((0.55, 0.0), ("at the right", "at the right edge", "on the right side")),
    "bottom left": ((-0.55, 0.55), ("at the bottom left", "in the bottom left corner", "in the lower left")),
    "bottom": ((0.0, 0.55), ("at the bottom", "at the lower edge", "near the bottom")),
    "bottom right": ((0.55, 0.55), ("at the bottom right", "in the bottom right corner", "in the lower right")),
}
STILL_ATTRIBUTES = {"shape": tuple(SHAPES), "colour": tuple(COLOURS), "place": tuple(PLACES)}


def still_captions(shape: str, colour: str, place: str) -> list[str]:
    """All wordings of one triple of names, the plain one first, for instance "a red circle at the top left".

    Returns:
        15 strings. Their words, over all triples, are the vocabulary.

    Raises:
        ValueError: if a name is unknown.
    """
    for kind, name in (("shape", shape), ("colour", colour), ("place", place)):
        if name not in STILL_ATTRIBUTES[kind]:
            raise ValueError(f"{name!r} is no {kind}; choose from {', '.join(STILL_ATTRIBUTES[kind])}")
    a, thing = "an" if colour[0] in "aeiou" else "a", f"{colour} {shape}"
    openings = (f"{a} {thing}", f"the {thing} is", f"there is {a} {thing}", f"a picture of {a} {thing}", thing)
    return [f"{opening} {where}" for opening in openings for where in PLACES[place][1]]


class SpriteStills(Sprites):
    r"""A source of captioned pictures, endless and repeatable.

    stills = SpriteStills(size=32)
    images, attributes = stills.sample(64, torch.Generator().manual_seed(0))
    captions = stills.captions(attributes)
    """

    attributes = STILL_ATTRIBUTES
    captions_of = staticmethod(still_captions)

    def __init__(self, size: int = 32):
        """`size` H = W >= 16 pixels (ValueError below that: shapes become ambiguous)."""
        if size < 16:
            raise ValueError(f"stills need at least 16 pixels, got size={size}")
        self.size = size

    def draw(self, attributes: Tensor, generator: torch.Generator) -> Tensor:
        """Draw pictures of given attributes; size, the exact spot and the ground are random.

        Args:
            attributes: (B, 3) long: shape, colour, place.
            generator: `torch.Generator`; the pictures are drawn on its device.

        Returns:
            (B, 3, H, W) float in [-1, 1].

        Raises:
            ValueError: if `attributes` is not (B, 3) or an index has no name.
        """
        shape, colour, place = self.checked(attributes, generator.device).unbind(-1)
        x, y, radius = self.spots(place, generator)
        clip = paint(shape, colour, x, y, radius, torch.ones_like(x), self.size, generator)  # (B, 3, 1, H, W)
        return clip[:, :, 0]

    def spots(self, place: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Centre x, y and radius, each (B, 1), in units of half the picture's width, for places (B,) long."""
        centres = torch.tensor([centre for centre, _ in PLACES.values()], device=generator.device)  # (9, 2)
        rand = torch.rand(3, len(place), 1, generator=generator, device=generator.device)  # (3, B, 1)
        x, y = centres[place].T[:, :, None] + 0.2 * (rand[:2] - 0.5)  # (B, 1) each
        return x, y, 0.30 + 0.10 * rand[2]
