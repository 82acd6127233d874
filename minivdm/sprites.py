r"""Captioned clips without a download: one coloured shape on a dark, shaded ground that does one thing.

A sprite is drawn from its signed distance function d(p), which is negative inside and positive outside. A pixel of
width w is covered by about (Green, "Improved Alpha-Tested Magnification", SIGGRAPH courses 2007)

    coverage = clamp( 1/2 - d(p) / w, 0, 1 )

which antialiases the edge: a circle that moves by a third of a pixel changes the picture. A motion is a path of the
centre, the radius and the visibility over time. All of it is tensor arithmetic on one (B, F, H, W) grid, so thousands
of clips are drawn in one pass on whatever device the generator lives on.

One (shape, colour, motion) triple in ten never occurs in training. A model that draws it anyway has understood its
parts, rather than remembered the whole. Every *pair* of attributes does occur in training.
"""

import math

import torch

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


def circle(x, y):
    """Signed distance to a disc. Every shape below fits into the unit disc; x runs right, y down; any equal shapes."""
    return torch.hypot(x, y) - 0.88


def square(x, y):
    """Signed distance to an upright square."""
    dx, dy = x.abs() - 0.72, y.abs() - 0.72
    return torch.hypot(dx.clamp(min=0), dy.clamp(min=0)) + torch.maximum(dx, dy).clamp(max=0)


def triangle(x, y):
    """Signed distance (to the nearest side's line) of a triangle that points up: three half planes."""
    return torch.maximum(math.sqrt(0.75) * x.abs() - 0.5 * (y - 0.15), y - 0.15) - 0.55


def diamond(x, y):
    """Signed distance (to the nearest side's line) of a square on its tip."""
    return (x.abs() + y.abs() - 1.0) / math.sqrt(2)


def cross(x, y):
    """Signed distance (to the nearest side's line) of a plus sign."""
    long, short = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    return torch.maximum(long - 0.95, short - 0.30)


def ring(x, y):
    """Signed distance to a ring."""
    return (torch.hypot(x, y) - 0.70).abs() - 0.23


SHAPES = {f.__name__: f for f in (circle, square, triangle, diamond, cross, ring)}
ATTRIBUTES = {"shape": tuple(SHAPES), "colour": tuple(COLOURS), "motion": tuple(MOTIONS)}


def held_out(attributes):
    """Which (shape, colour, motion) triples are kept out of training: one in ten, by a fixed rule.

    Args:
        attributes: (..., 3) long, indices into the names of `ATTRIBUTES`.

    Returns:
        (...) bool.
    """
    shape, colour, motion = attributes.unbind(-1)
    return (shape + 3 * colour + 7 * motion) % 10 == 4


def all_triples(split="all"):
    """The (N, 3) long table of triples of a split: "train", "held_out" or "all" (anything else: ValueError)."""
    counts = [torch.arange(len(names)) for names in ATTRIBUTES.values()]
    triples = torch.cartesian_prod(*counts)  # (384, 3)
    keep = {"train": ~held_out(triples), "held_out": held_out(triples), "all": torch.ones(len(triples)).bool()}
    if split not in keep:
        raise ValueError(f'split must be "train", "held_out" or "all", got {split!r}')
    return triples[keep[split]]


def captions_of(shape, colour, motion):
    """All wordings of one triple of names, the plain one first, for instance "a red circle moving left".

    Returns:
        24 strings. Their words, over all triples, are the vocabulary.

    Raises:
        ValueError: if a name is unknown.
    """
    for kind, name in (("shape", shape), ("colour", colour), ("motion", motion)):
        if name not in ATTRIBUTES[kind]:
            raise ValueError(f"{name!r} is no {kind}; choose from {', '.join(ATTRIBUTES[kind])}")
    thing, a = f"{colour} {shape}", "an" if colour[0] in "aeiou" else "a"
    finite, doing = MOTIONS[motion][:3], MOTIONS[motion][3:]
    openings = (f"{a} {thing}", f"the {thing}", f"{a} {thing} that is", f"a video of {a} {thing}", f"the {thing} is")
    return [f"{o} {d}" for o in openings for d in doing] + [f"{o} {d}" for o in (*openings[:2], thing) for d in finite]


class MovingSprites:
    r"""A source of captioned clips, endless and repeatable.

        sprites = MovingSprites(frames=16, size=32)
        clips, attributes = sprites.sample(64, torch.Generator().manual_seed(0))
        captions = sprites.captions(attributes)
    """

    def __init__(self, frames=16, size=32):
        """`frames` F >= 4 per clip and `size` H = W >= 16 pixels (ValueError below that: motions become ambiguous)."""
        if frames < 4 or size < 16:
            raise ValueError(f"sprites need at least 4 frames of 16 pixels, got frames={frames}, size={size}")
        self.frames, self.size = frames, size

    def sample(self, n, generator, split="train"):
        """Draw n clips with attributes from a split.

        Args:
            n: number of clips.
            generator: `torch.Generator`; the clips are drawn on its device.
            split: "train", "held_out" or "all".

        Returns:
            clips, (n, 3, F, H, W) float in [-1, 1], and attributes, (n, 3) long: shape, colour, motion.
        """
        triples = all_triples(split).to(generator.device)  # (N, 3)
        pick = torch.randint(len(triples), (n,), generator=generator, device=generator.device)  # (n,)
        return self.draw(triples[pick], generator), triples[pick]

    def captions(self, attributes, generator=None):
        """One caption per row of `attributes`, (B, 3) long: a random wording, or the plain one without a generator."""
        names = [[kind[i] for kind, i in zip(ATTRIBUTES.values(), row)] for row in attributes.tolist()]
        wordings = [captions_of(*row) for row in names]
        if generator is None:
            return [texts[0] for texts in wordings]
        pick = torch.randint(len(wordings[0]), (len(names),), generator=generator, device=generator.device).tolist()
        return [texts[i] for texts, i in zip(wordings, pick)]

    def draw(self, attributes, generator):
        r"""Draw clips of given attributes; place, size, speed and ground are random.

            clip = ground + coverage * visible * (colour - ground)

        Args:
            attributes: (B, 3) long: shape, colour, motion.
            generator: `torch.Generator`; the clips are drawn on its device.

        Returns:
            (B, 3, F, H, W) float in [-1, 1].

        Raises:
            ValueError: if `attributes` is not (B, 3) or an index has no name.
        """
        counts = [len(names) for names in ATTRIBUTES.values()]
        if attributes.ndim != 2 or attributes.shape[1] != 3 or attributes.is_floating_point():
            raise ValueError(f"expected (B, 3) long attributes, got {attributes.dtype} of {tuple(attributes.shape)}")
        if bool((attributes < 0).any() or (attributes.cpu() >= torch.tensor(counts)).any()):
            raise ValueError(f"attributes count from 0 and stay below {counts}, got {attributes.tolist()}")
        attributes = attributes.to(generator.device)
        shape, colour, motion = attributes.unbind(-1)
        x, y, radius, visible = self.paths(motion, generator)  # each (B, F)
        grid = (torch.arange(self.size, device=generator.device) + 0.5) / self.size * 2 - 1  # (W,) pixel centres
        radius = radius[:, :, None, None]  # (B, F, 1, 1)
        u = (grid - x[:, :, None, None]) / radius  # (B, F, 1, W) in units of the sprite's radius
        v = (grid[:, None] - y[:, :, None, None]) / radius  # (B, F, H, 1)
        distance = u.new_zeros(()).expand(*u.shape[:2], self.size, self.size)  # (B, F, H, W)
        for index, signed_distance in enumerate(SHAPES.values()):
            chosen = (shape == index)[:, None, None, None]  # (B, 1, 1, 1)
            distance = torch.where(chosen, signed_distance(*torch.broadcast_tensors(u, v)), distance)
        coverage = (0.5 - distance * radius * self.size / 2).clamp(0, 1) * visible[:, :, None, None]  # (B, F, H, W)
        paint = torch.tensor(list(COLOURS.values()), device=grid.device)[colour]  # (B, 3)
        ground = self.ground(len(attributes), grid, generator)[:, :, None]  # (B, 3, 1, H, W)
        clip = ground + coverage[:, None] * (paint[:, :, None, None, None] - ground)  # (B, 3, F, H, W)
        return clip * 2 - 1

    def paths(self, motion, generator):
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

    def ground(self, n, grid, generator):
        """Dark grounds, (n, 3, H, W) in [0, 1]: a grey between 0.05 and 0.35 that slopes, with a hint of a tint."""
        rand = torch.rand(6, n, generator=generator, device=generator.device)  # (6, n)
        angle = (2 * math.pi * rand[0])[:, None, None]  # (n, 1, 1)
        slope = (angle.cos() * grid + angle.sin() * grid[:, None]) / math.sqrt(2)  # (n, H, W) in [-1, 1]
        grey = (0.14 + 0.10 * rand[1])[:, None, None] + (0.07 * rand[2])[:, None, None] * slope  # (n, H, W)
        tint = 0.04 * (rand[3:].T - 0.5)  # (n, 3)
        return grey[:, None] + tint[:, :, None, None]  # (n, 3, H, W)
