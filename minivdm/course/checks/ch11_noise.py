"""Exercise 11.7: one noise for all frames of a clip."""

import torch

from minivdm.course.exercise import equal, exercise, holds, near


@exercise("super_resolution.shared_noise")
def shared_noise(f, draw):
    shape = 3, 2, 5, 4, 6
    noise = f(shape, draw.generator())
    came = tuple(noise.shape) if torch.is_tensor(noise) else type(noise).__name__
    yield equal("the shape", came, shape, usable=False)
    if came != shape:
        return
    same = all(torch.equal(noise[:, :, i], noise[:, :, 0]) for i in range(5))
    yield holds("all frames of a clip have the same noise", same, "two frames differ")
    yield holds(
        "each clip has a noise of its own", not torch.allclose(noise[0], noise[1]), "two clips have the same one"
    )
    channels = torch.allclose(noise[:, 0], noise[:, 1])
    yield holds("each channel has a noise of its own", not channels, "two channels have the same one")
    flat = noise[:, :, 0].flatten(2)
    yield holds("each pixel has a noise of its own", flat.std(dim=2).min() > 0.3, "the pixels of a frame are alike")
    many = f((4, 3, 2, 60, 50), draw.generator())[:, :, 0].double()
    yield near("the mean of 36,000 numbers", many.mean().item(), 0, within=0.03)
    yield near("their standard deviation", many.std().item(), 1, within=0.03)
    yield near("the share beyond 1.96", (many.abs() > 1.96).double().mean().item(), 0.05, within=0.01)
    yield equal("shape for one frame", tuple(f((1, 3, 1, 2, 2), draw.generator()).shape), (1, 3, 1, 2, 2))
    again = [f(shape, torch.Generator().manual_seed(5)) for _ in range(2)]
    yield holds("the same seed gives the same noise", torch.equal(*again), "two equal generators, two results")


SHAPE = "there is a shape, and no tensor comes in"


@shared_noise.promises(
    "generator",
    samples=SHAPE,
    dtype=SHAPE,
    layout=SHAPE,
    device=SHAPE,
    gradients=SHAPE,
    noise="it is the same in all frames",
)
def ordinary(f, draw):
    return f, dict(shape=(2, 3, 4, 5, 6), generator=draw.generator())


ONE = "torch.randn(batch, channels, 1, height, width, generator=generator, device=device)"
shared_noise.edit(
    "its own noise for each frame",
    {ONE: "torch.randn(batch, channels, frames, height, width, generator=generator, device=device)"},
    "Each frame has a noise of its own: draw one frame for each clip, and repeat it.",
)
shared_noise.edit(
    "the same in all clips",
    {ONE: "torch.randn(1, channels, 1, height, width, generator=generator, device=device)"},
    "All clips have the same noise, so they all get the same detail. Each clip has its own.",
)
shared_noise.edit(
    "a mean over frames",
    {ONE: "torch.randn(batch, channels, frames, height, width, generator=generator, device=device).mean(2, True)"},
    "The mean of F noises has a variance of 1/F only. Draw one.",
)
shared_noise.edit(
    "evenly distributed",
    {"torch.randn(": "torch.rand("},
    "These numbers are uniform in 0..1. The noise is standard normal.",
)
shared_noise.edit(
    "one channel",
    {ONE: "torch.randn(batch, 1, 1, height, width, generator=generator, device=device)"},
    "All channels have the same noise: it is grey. Each channel has its own.",
)
