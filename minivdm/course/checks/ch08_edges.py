"""Exercise 8.1: edges from scratch."""

import math

import torch

from minivdm.course.exercise import close, equal, exercise


def slopes(image):
    """Sobel's slopes of one picture (C, H, W) in float64, by loops: to the right and downwards."""
    channels, height, width = image.shape
    right, down = torch.zeros(2, channels, height, width, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            for di in (-1, 0, 1):
                for dj in (-1, 0, 1):
                    value = image[:, min(max(i + di, 0), height - 1), min(max(j + dj, 0), width - 1)].double()
                    right[:, i, j] += dj * (2 - abs(di)) * value / 8
                    down[:, i, j] += di * (2 - abs(dj)) * value / 8
    return right, down


def lines(image, threshold):
    """The edges of one picture, pixel by pixel; where two neighbours are equal, the second is none."""
    right, down = slopes(image)
    _, height, width = image.shape
    out, m, steepest = torch.zeros(1, height, width), {}, {}
    for i in range(height):
        for j in range(width):
            lengths = [math.hypot(a, b) for a, b in zip(right[:, i, j].tolist(), down[:, i, j].tolist())]
            m[i, j] = max(lengths)
            steepest[i, j] = lengths.index(m[i, j])
    for (i, j), here in m.items():
        c = steepest[i, j]
        di, dj = (0, 1) if abs(right[c, i, j]) >= abs(down[c, i, j]) else (1, 0)
        before, after = m.get((i - di, j - dj), 0.0), m.get((i + di, j + dj), 0.0)
        out[0, i, j] = float(here >= threshold and here > before and here >= after)
    return out


@exercise("hints.edges")
def edges(f, draw):
    flat = torch.full((1, 3, 6, 8), draw.uniform(1, low=-1, high=1).item())
    yield close("a picture of one colour has no edges", f(flat), torch.zeros(1, 1, 6, 8))
    left, top = draw.integers(3, 5), draw.integers(3, 5)
    box = -torch.ones(1, 3, 14, 15)
    box[:, :, top : top + 7, left : left + 8] = 1
    found = f(box)
    counts = [*found[0, 0, top + 2 : top + 5].sum(1).tolist(), *found[0, 0, :, left + 2 : left + 6].sum(0).tolist()]
    yield equal("a bright box has lines one pixel wide: edges in three rows and four columns", counts, [2.0] * 7)
    images = draw.uniform(2, 3, 7, 9, low=-1)
    for threshold in (0.15, 0.3):
        want = torch.stack([lines(image, threshold) for image in images])
        yield close(f"random colours, threshold = {threshold}", f(images, threshold), want)
    grey = draw.uniform(2, 1, 8, 6, low=-1)
    yield close("random greys", f(grey), torch.stack([lines(image, 0.1) for image in grey]))
    one = -torch.ones(1, 3, 8, 8)
    one[:, 2, :, 4:] = 1
    yield equal("a half that is blue: edges in each of four rows", f(one, 0.9)[0, 0, 2:6].sum(1).tolist(), [1.0] * 4)
    step = -torch.ones(1, 1, 8, 8)
    step[:, :, :, 4:] = 1  # its slope is 1, and exactly so in float32
    at = f(step, 1.0)[0, 0].sum(1).tolist()
    yield equal("a slope that is exactly the threshold counts: edges in each of eight rows", at, [1.0] * 8)


@edges.promises("samples", "dtype", "layout", "device", gradients="an edge is there or not, which has no slope")
def ordinary(f, draw):
    return f, dict(images=draw.uniform(3, 3, 6, 9, low=-1))


edges.edit(
    "no thinning",
    {"(m >= threshold) & (m > before) & (m >= after)": "m >= threshold"},
    "All steep pixels count, so the lines are wide. A pixel counts only where m is largest along the slope.",
)
edges.edit(
    "two lines for one",
    {"(m > before)": "(m >= before)"},
    "Where two neighbours are equally steep, both count, and the line is two pixels wide. Ask for > at one side.",
)
edges.edit(
    "a step has no edge",
    {"(m >= after)": "(m > after)"},
    "At a sharp step two neighbours are equally steep. With > on both sides neither counts: use >= at one of them.",
)
edges.edit(
    "along the edge instead of across",
    {".abs() >= down": ".abs() < down"},
    "Neighbours are compared *along* the edge. The slope points across it: where it is steeper to the right than "
    "downwards, the neighbours are left and right.",
)
edges.edit(
    "the mean of the channels",
    {
        "torch.hypot(right, down).max(dim=1, keepdim=True)": "(torch.hypot(right, down).mean(1, True), "
        "torch.zeros_like(right[:, :1]).long())"
    },
    "The slopes of the channels are averaged: a blue edge is in one of three, and gets too weak. Take the largest.",
)
edges.edit(
    "the picture in grey",
    {"sobel(images)": "sobel(images.mean(dim=1, keepdim=True))"},
    "The picture is made grey first, and a blue edge gets weak. Take the slope of each channel; at each pixel the "
    "steepest one counts alone.",
)
edges.edit(
    "mean length, mean slopes",
    {
        "torch.hypot(right, down).max(dim=1, keepdim=True)": "torch.hypot(right, down).mean(1, keepdim=True), None",
        "right.gather(1, channel).abs() >= down.gather(1, channel).abs()": "right.abs().mean(1, True) >= "
        "down.abs().mean(1, True)",
    },
    "The lengths of the channels are averaged, so an edge of one channel gets weak. At each pixel the channel with the "
    "steepest slope counts alone, with its own direction.",
)
edges.edit(
    "all channels' slopes as one long vector",
    {
        "torch.hypot(right, down).max(dim=1, keepdim=True)": "(right**2 + down**2).sum(1, keepdim=True).sqrt(), None",
        "right.gather(1, channel).abs() >= down.gather(1, channel).abs()": "(right**2).sum(1, True) >= "
        "(down**2).sum(1, True)",
    },
    "The channels are added up, so an edge of all three counts for more than one of one. At each pixel the channel "
    "with the steepest slope counts alone, with its own direction.",
)
edges.edit(
    "the direction from separate maxima",
    {
        "right.gather(1, channel).abs() >= down.gather(1, channel).abs()": "right.abs().amax(1, True) >= "
        "down.abs().amax(1, True)"
    },
    "The length is right. The direction mixes channels: it must be that of the channel which has this length (gather), "
    "not from the largest |right| and the largest |down| of all.",
)
edges.edit(
    "length and direction from separate maxima",
    {
        "torch.hypot(right, down).max(dim=1, keepdim=True)": "torch.hypot(right.abs().amax(1, True), "
        "down.abs().amax(1, True)), None",
        "right.gather(1, channel).abs() >= down.gather(1, channel).abs()": "right.abs().amax(1, True) >= "
        "down.abs().amax(1, True)",
    },
    "`right` and `down` are the largest of all channels, each for itself, and make a slope that no channel has. Find "
    "the channel with the longest slope first, and take both from it (gather).",
)
edges.edit(
    "larger than the threshold",
    {"m >= threshold": "m > threshold"},
    "The threshold is the *smallest* slope of an edge: a slope that equals it counts.",
)
edges.edit(
    "the squared length",
    {"torch.hypot(right, down)": "(right**2 + down**2)"},
    "m is the square of the slope's length here; the threshold is meant for the length.",
)
edges.edit(
    "sum of the absolute values",
    {"torch.hypot(right, down)": "(right.abs() + down.abs())"},
    "The length of the slope is sqrt(right^2 + down^2), not the sum of both: a slanted edge counts too much.",
)
edges.edit(
    "threshold ignored",
    {"(m >= threshold) &": "(m > 0.1) &"},
    "Right for the default, but the argument `threshold` is not used.",
)
edges.edit(
    "the border repeated",
    {"F.pad(m, (1, 1, 1, 1))": 'F.pad(m, (1, 1, 1, 1), mode="replicate")'},
    "Outside the picture m is 0. Here the border is repeated, so a pixel there is compared with itself.",
)
