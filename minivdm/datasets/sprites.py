r"""Captioned clips without a download: one coloured shape on a dark, shaded ground that does one thing.

A motion is a path of the centre, the radius and the visibility over time. All of it is tensor arithmetic, so thousands
of clips are drawn in one pass on whatever device the generator lives on (see `shapes`).

One (shape, colour, motion) triple in ten never occurs in training. A model that draws it anyway has understood its
parts, rather than remembered the whole. Every *pair* of attributes does occur in training.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .shapes import COLOURS, SHAPES, paint

# Six wordings each: three finite ("a red circle moves left") and three participles ("a red circle moving left").
MOTIONS = {
    "left": ("moves left", "moves to the left", "goes left", "moving left", "moving to the left", "going left"),
    "right": ("moves right", "moves to the right", "goes right", "moving right", "moving to the right", "going right"),
    "up": ("moves up", "moves upwards", "goes up", "moving up", "moving upwards", "going up"),
    "down": ("moves down", "moves downwards", "goes down", "moving down", "moving downwards", "going down"),
    "growing": ("grows", "gets bigger", "becomes larger", "growing", "getting bigger", "becoming larger"),
    "shrinking": ("shrinks", "gets smaller", "becomes tiny", "shrinking", "getting smaller", "becoming tiny"),
    "bouncing": ("bounces", "bounces up and down", "hops", "bouncing", "bouncing up and down", "hopping"),
    "blinking": ("blinks", "blinks on and off", "flashes", "blinking", "blinking on and off", "flashing"),
}

ATTRIBUTES = {"shape": tuple(SHAPES), "colour": tuple(COLOURS), "motion": tuple(MOTIONS)}


def held_out(attributes: Tensor) -> Tensor:
    """Which triples, such as (shape, colour, motion), are kept out of training: one in ten, by a fixed rule.

    Args:
        attributes: (..., 3) long, indices into the names of three attributes.

    Returns:
        (...) bool.
    """
    first, second, third = attributes.unbind(-1)
    return (first + 3 * second + 7 * third) % 10 == 4


def all_triples(split: str = "all", attributes: dict[str, Sequence[str]] = ATTRIBUTES) -> Tensor:
    """The (N, 3) long table of triples of a split: "train", "held_out" or "all" (anything else: ValueError)."""
    triples = torch.cartesian_prod(*(torch.arange(len(names)) for names in attributes.values()))  # (N, 3)
    keep = {"train": ~held_out(triples), "held_out": held_out(triples), "all": torch.ones(len(triples)).bool()}
    if split not in keep:
        raise ValueError(f'split must be "train", "held_out" or "all", got {split!r}')
    return triples[keep[split]]


def names_of(triples: Tensor, attributes: dict[str, Sequence[str]] = ATTRIBUTES) -> list[list[str]]:
    """The three names behind each row of `triples`, (B, 3) long: a list of B lists."""
    return [[names[i] for names, i in zip(attributes.values(), row)] for row in triples.tolist()]


def captions_of(shape: str, colour: str, motion: str, attributes: dict[str, Sequence[str]] = ATTRIBUTES) -> list[str]:
    """All wordings of one triple of names, the plain one first, for instance "a red circle moving left".

    Args:
        shape, colour, motion: their names.
        attributes: the names that there are.

    Returns:
        24 strings. Their words, over all triples, are the vocabulary.

    Raises:
        ValueError: if a name is unknown.
    """
    for kind, name in (("shape", shape), ("colour", colour), ("motion", motion)):
        if name not in attributes[kind]:
            raise ValueError(f"{name!r} is no {kind}; choose from {', '.join(attributes[kind])}")
    thing, a = f"{colour} {shape}", "an" if colour[0] in "aeiou" else "a"
    finite, doing = MOTIONS[motion][:3], MOTIONS[motion][3:]
    openings = (f"{a} {thing}", f"the {thing}", f"{a} {thing} that is", f"a video of {a} {thing}", f"the {thing} is")
    return [f"{o} {d}" for o in openings for d in doing] + [f"{o} {d}" for o in (*openings[:2], thing) for d in finite]


class Sprites:
    """What clips and stills have in common: drawing pairs of data and attributes, and wording captions.

    A subclass has `attributes`, a dict of three kinds with their names, `captions_of(*names)` and
    `draw(attributes, generator)`; `shapes` and `colours` are what it draws with.
    """

    shapes, colours = SHAPES, COLOURS

    def sample(self, n: int, generator: torch.Generator, split: str = "train") -> tuple[Tensor, Tensor]:
        """Draw n samples with attributes from a split.

        Args:
            n: number of samples.
            generator: `torch.Generator`; the samples are drawn on its device.
            split: "train", "held_out" or "all".

        Returns:
            What `draw` returns, (n, 3, ...) float in [-1, 1], and attributes, (n, 3) long.
        """
        triples = all_triples(split, self.attributes).to(generator.device)  # (N, 3)
        pick = torch.randint(len(triples), (n,), generator=generator, device=generator.device)  # (n,)
        return self.draw(triples[pick], generator), triples[pick]

    def captions(self, attributes: Tensor, generator: torch.Generator | None = None) -> list[str]:
        """One caption per row of `attributes`, (B, 3) long: a random wording, or the plain one without a generator."""
        wordings = [self.captions_of(*names) for names in names_of(attributes, self.attributes)]
        if generator is None:
            return [texts[0] for texts in wordings]
        size = (len(wordings),)
        pick = torch.randint(len(wordings[0]), size, generator=generator, device=generator.device).tolist()
        return [texts[i] for texts, i in zip(wordings, pick)]

    def checked(self, attributes: Tensor, device: torch.device) -> Tensor:
        """`attributes` on a device, or a ValueError: they must be (B, 3) long, and each index must have a name."""
        counts = [len(names) for names in self.attributes.values()]
        if attributes.ndim != 2 or attributes.shape[1] != 3 or attributes.is_floating_point():
            raise ValueError(f"expected (B, 3) long attributes, got {attributes.dtype} of {tuple(attributes.shape)}")
        if bool((attributes < 0).any() or (attributes.cpu() >= torch.tensor(counts)).any()):
            raise ValueError(f"attributes count from 0 and stay below {counts}, got {attributes.tolist()}")
        return attributes.to(device)


class MovingSprites(Sprites):
    r"""A source of captioned clips, endless and repeatable.

    sprites = MovingSprites(frames=16, size=32)
    clips, attributes = sprites.sample(64, torch.Generator().manual_seed(0))
    captions = sprites.captions(attributes)
    """

    attributes = ATTRIBUTES
    captions_of = staticmethod(captions_of)

    def __init__(self, frames: int = 16, size: int = 32):
        """`frames` F >= 4 per clip and `size` H = W >= 16 pixels (ValueError below that: motions become ambiguous)."""
        if frames < 4 or size < 16:
            raise ValueError(f"sprites need at least 4 frames of 16 pixels, got frames={frames}, size={size}")
        self.frames, self.size = frames, size

    def draw(self, attributes: Tensor, generator: torch.Generator) -> Tensor:
        """Draw clips of given attributes; place, size, speed and ground are random.

        Args:
            attributes: (B, 3) long: shape, colour, motion.
            generator: `torch.Generator`; the clips are drawn on its device.

        Returns:
            (B, 3, F, H, W) float in [-1, 1].

        Raises:
            ValueError: if `attributes` is not (B, 3) or an index has no name.
        """
        shape, colour, motion = self.checked(attributes, generator.device).unbind(-1)
        paths = self.paths(motion, generator)
        return paint(shape, colour, *paths, self.size, generator, self.shapes, self.colours)

    def paths(self, motion: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Centre x, y, radius (in units of half the frame's width) and visibility over time, each (B, F)."""
        rand = torch.rand(6, len(motion), generator=generator, device=generator.device)  # (6, B)
        tau = torch.linspace(0, 1, self.frames, device=motion.device)  # (F,)
        left, right, up, down, grow, shrink, bounce, blink = ((motion == i)[:, None] for i in range(len(MOTIONS)))

        radius = (0.34 + 0.18 * rand[0])[:, None]  # (B, 1)
        change = (0.5 + 0.8 * tau) * grow + (1.3 - 0.8 * tau) * shrink  # (B, F)
        radius = radius * torch.where(grow | shrink, change, torch.ones_like(tau))  # (B, F)

        room = 1 - radius.amax(dim=1, keepdim=True)  # (B, 1) the centre may go from -room to room
        travel = room * (1.2 + 0.8 * rand[1])[:, None]  # (B, 1) of the way 2 * room
        sideways = (right.float() - left.float()) * travel  # (B, 1)
        downwards = (down.float() - up.float()) * travel  # (B, 1)
        hop = bounce * travel * (2 * math.pi * tau).sin().abs()  # (B, F) two hops from the floor

        slack = torch.where(left | right, room - travel / 2, room)  # (B, 1) where the path's middle may lie
        x = slack * (2 * rand[2] - 1)[:, None] + sideways * (tau - 0.5)  # (B, F)
        slack = torch.where(up | down | bounce, room - travel / 2, room)
        y = slack * (2 * rand[3] - 1)[:, None] + downwards * (tau - 0.5) + bounce * travel / 2 - hop  # (B, F)

        quarter = torch.arange(self.frames, device=motion.device) * 4 // self.frames  # (F,) on, off, on, off
        visible = torch.where(blink, 1.0 - quarter % 2, 1.0)  # (B, F)
        return x, y, radius, visible
