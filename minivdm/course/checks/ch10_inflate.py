"""Exercise 10.4: a video model that starts as an image model."""

import copy

import torch

from minivdm.course.exercise import close, equal, exercise, holds

from .ch04_common import fresh
from .ch10_unet3d import picture_net


@exercise("unet3d.inflate")
def inflate(f, draw):
    image = fresh(picture_net(channels=32, mults=(1, 1)), draw).eval()
    for parameter in image.parameters():  # as if it were in training
        parameter.grad = draw.normal(*parameter.shape)
    before = [p.detach().clone() for p in image.parameters()]
    x, t = draw.normal(2, 2, 3, 4, 2), draw.integers(1, 900, 2)
    want = torch.stack([image(frame, t) for frame in x.unbind(2)], dim=2).detach()
    video = f(image)
    usable = all(hasattr(video, part) for part in ("image", "down", "middle", "up"))
    yield holds("a UNet3D comes back", usable, f"got a {type(video).__name__}", usable=False)
    made = f(image)
    owners = {id(p) for p in video.parameters()} & {id(p) for p in made.parameters()}
    yield holds("a second call makes a second model", not owners, "both have the same weights", usable=False)
    trainable = all(p.requires_grad and not p.is_inference() for p in video.parameters())
    message = "some weights have requires_grad = False, or were made in inference mode"
    yield holds("everything can be trained", trainable, message, usable=False)
    yield close("a new video model is the image model on each frame", video(x, t), want, atol=1e-4)
    for attention in (None, (1,), (0,), (0, 1), ()):
        made = f(copy.deepcopy(image)) if attention is None else f(copy.deepcopy(image), attention)
        stages = [*made.down, made.middle, *made.up]
        attends = [time.attention is not None for time in stages if time is not None]
        here = (1,) if attention is None else attention
        expected = [level in here for level in (0, 1)] + [True] + [level in here for level in (1, 1, 0, 0)]
        asked = "the default attention" if attention is None else f"attention = {attention}"
        yield equal(f"{asked}: which of down, middle, up attend along time", attends, expected)
    for training in (False, True):
        modes = {module.training for module in f(copy.deepcopy(image).train(training)).modules()}
        yield equal(f"`training` where the image model has {training}", modes, {training})
    double, meta = copy.deepcopy(image).double(), copy.deepcopy(image).to("meta")
    for name, other in (("in float64", double), ("on another device", meta)):
        try:
            kinds = {(p.dtype, p.device.type) for p in f(other).parameters()}
        except NotImplementedError as error:  # what holds no values cannot be moved
            kinds = f"it was moved: {error}"
        yield equal(f"an image model {name}", kinds, {(p.dtype, p.device.type) for p in other.parameters()})
    with torch.no_grad():
        for parameter in video.parameters():
            parameter.add_(1)
    same = all(torch.equal(p, q) for p, q in zip(before, image.parameters()))
    yield holds("training the video model leaves the image model as it is", same, "its weights have changed")


inflate.promises(
    samples="a model comes back",
    dtype="tried with an image model in float64",
    layout="takes no tensors",
    device="tried with an image model on the meta device",
    gradients="a model comes back: its weights are tried by themselves",
)

inflate.edit(
    "attention ignored", {"(image), attention)": "(image))"}, "`attention` has no effect: hand it on to UNet3D."
)
inflate.edit(
    "always in training mode", {".train(image.training)": ""}, "A new module is in training mode: copy image.training."
)
inflate.edit(
    "always in evaluation mode", {".train(image.training)": ".eval()"}, "The result is in evaluation mode in any case."
)
