"""Exercise 8.7: a line drawn by hand, walked at an even speed."""

import math

import torch

from minivdm.course.exercise import close, exercise, holds, raises


def walk(points, frames):
    """Where each frame is, by walking along the line piece by piece, in float64."""
    pieces = [(a, b, math.dist(a, b)) for a, b in zip(points, points[1:])]
    whole, places = sum(length for *_, length in pieces), []
    for frame in range(frames):
        left, place = whole * frame / (frames - 1), points[0]
        for a, b, length in pieces:
            share = 0 if length == 0 else min(left / length, 1)
            place = [p + share * (q - p) for p, q in zip(a, b)]
            left -= share * length
            if left <= 1e-12:
                break
        places.append(place)
    return torch.tensor(places, dtype=torch.float64)


NOWHERE = (
    "some places are NaN or infinite. Between two equal points there is a piece of length 0: no share of it can be had "
    "by a division. Leave such points out first"
)


@exercise("hints.paths")
def paths(f, draw):
    like = dict(atol=1e-4, dtype=torch.float32)
    yield close(
        "from left to right in 5 frames",
        f([(-0.5, 0.25), (0.5, 0.25)], 5),
        walk([(-0.5, 0.25), (0.5, 0.25)], 5),
        **like,
    )
    for n in (3, 6):
        points, frames = draw.uniform(n, 2, low=-1).tolist(), draw.integers(5, 20)
        yield close(f"{n} points, {frames} frames", f(points, frames), walk(points, frames), **like)
    short = [(-1.0, 0.0), (-0.9, 0.0), (1.0, 0.0)]
    yield close("a short piece and a long one", f(short, 9), walk(short, 9), **like)
    twice = [(0.0, 0.0), (0.0, 0.0), (0.0, 0.5), (0.0, 0.5), (0.5, 0.5), (0.5, 0.5)]
    walked = f(twice, 7)
    lost = torch.is_tensor(walked) and not walked.isfinite().all()
    yield holds("points that follow each other and are equal: where one is, is a number", not lost, NOWHERE)
    yield close("points that follow each other and are equal", walked, walk(twice, 7), **like)
    back = [(0.0, 0.0), (0.6, 0.0), (0.0, 0.0)]
    yield close("there and back", f(back, 7), walk(back, 7), **like)
    spot = draw.uniform(1, 2, low=-1)
    yield close("one point: it stays there", f(spot.tolist(), 4), spot.double().expand(4, 2), **like)
    yield close(
        "two equal points: it stays there", f(spot.repeat(2, 1).tolist(), 3), spot.double().expand(3, 2), **like
    )
    yield close("two frames: the two ends", f(short, 2), walk(short, 2), **like)
    for name, points, frames in (
        ("no points", [], 4),
        ("a point that is not finite", [(0.0, math.nan)], 4),
        ("points of three numbers", [(0.0, 0.0, 1.0)], 4),
        ("one frame", short, 1),
    ):
        yield raises(name, ValueError, lambda points=points, frames=frames: f(points, frames))


ONE = "it takes one line, a list of points"


@paths.promises(samples=ONE, dtype="the result is float32", layout=ONE, device=ONE, gradients=ONE)
def ordinary(f, draw):
    return f, dict(points=draw.uniform(4, 2).tolist(), frames=6)


paths.edit(
    "each piece takes the same time",
    {"lengths[lengths > 0].cumsum(0)": "torch.ones_like(lengths[lengths > 0]).cumsum(0)"},
    "Each piece of the line takes as long as any other, so short ones are walked slowly. Measure s along the line.",
)
paths.edit(
    "the last point is never reached",
    {"torch.linspace(0, 1, frames, dtype=torch.float64)": "(torch.arange(frames, dtype=torch.float64) / frames)"},
    "The steps are 1 / F of the line, and the last frame stops short of its end. There are F - 1 steps.",
)
paths.edit(
    "corners only",
    {"corners[i] + share * (corners[i + 1] - corners[i])": "corners[i]"},
    "Each frame stands at the corner where its piece begins: go the right share of the way to the next one.",
)
paths.edit(
    "equal points not left out",
    {"lengths > 0])]": "lengths > -1])]", "lengths[lengths > 0]": "lengths"},
    "Between two equal points there is a piece of length 0, and a division by 0: leave such points out.",
)
paths.edit(
    "the wrong way along a piece",
    {"corners[i] + share * (corners[i + 1] - corners[i])": "corners[i + 1] + share * (corners[i] - corners[i + 1])"},
    "Each piece is walked backwards: share 0 is its first point.",
)
paths.edit(
    "x and y apart",
    {".norm(dim=1)": ".abs().sum(dim=1)"},
    "The length of a piece is |dx| + |dy| here; that is how far one walks along streets. Take the straight line.",
)
