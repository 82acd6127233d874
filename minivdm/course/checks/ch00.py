"""Exercise of chapter 00."""

import torch

from minivdm.course.exercise import close, exercise


@exercise("pixels.to_model_range")
def to_model_range(f, draw):
    ends = torch.tensor([0, 255], dtype=torch.uint8)
    yield close("black (0) and white (255)", f(ends), torch.tensor([-1.0, 1.0]))
    images = draw.integers(40, 200, 4, 3, 8, 8).byte()  # neither 0 nor 255 in them
    want = torch.tensor([2 * v / 255 - 1 for v in images.flatten().tolist()]).reshape(images.shape)
    yield close("random images (4, 3, 8, 8)", f(images), want)


@to_model_range.promises("samples", "layout", "device", dtype="bytes in, float32 out", gradients="bytes have none")
def pictures(f, draw):
    return f, dict(images=draw.integers(0, 255, 4, 3, 2, 5).byte())


to_model_range.edit(
    "range [0, 1]",
    {"/ 127.5 - 1": "/ 255"},
    "The values run from 0 to 1. The model's range is [-1, 1], twice as wide: stretch by 2, then shift.",
)
to_model_range.edit(
    "divided by 128",
    {"127.5": "128"},
    "White comes out as 0.992, not 1. The largest byte is 255, so half the range is 127.5, not 128.",
)
to_model_range.edit(
    "byte arithmetic",
    {"images.float() / 127.5": "(2 * images).float() / 255"},
    "A uint8 holds 0..255 and wraps around: 2 * 200 is 144 there. Turn the bytes into floats before you calculate.",
)
to_model_range.edit(
    "standardised",
    {"images.float() / 127.5 - 1": "(images.float() - images.float().mean()) / images.float().std()"},
    "These images have mean 0 and standard deviation 1, whatever they show. "
    "The map must be the same for every image: 0 to -1 and 255 to 1.",
)
to_model_range.edit(
    "stretched by its own range",
    {"images.float() / 127.5": "2 * images.float() / images.max()"},
    "The darkest pixel of *these* images became -1, or the brightest 1. "
    "The map must be the same for every image: 0 to -1 and 255 to 1.",
)
to_model_range.edit(
    "upside down",
    {"images.float() / 127.5 - 1": "1 - images.float() / 127.5"},
    "Black comes out as 1 and white as -1: check the sign.",
)
