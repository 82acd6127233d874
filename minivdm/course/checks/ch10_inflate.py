"""Exercise 10.4: a video model that starts as an image model."""

import copy

import torch

from minivdm.course.exercise import close, equal, exercise, holds

from .ch10_unet3d import picture_net


@exercise("unet3d.inflate")
def inflate(f, draw):
    image = picture_net(draw, channels=32, mults=(1, 1)).eval()
    before = [p.detach().clone() for p in image.parameters()]
    x, t = draw.normal(2, 2, 3, 2, 2), draw.integers(1, 900, 2)
    want = torch.stack([image(frame, t) for frame in x.unbind(2)], dim=2).detach()
    video = f(image)
    usable = all(hasattr(video, part) for part in ("image", "down", "middle", "up"))
    yield holds("a UNet3D comes back", usable, f"got a {type(video).__name__}", usable=False)
    yield close("a new video model is the image model on each frame", video(x, t), want, atol=1e-4)
    for attention in ((1,), (0,), (0, 1)):
        made = f(copy.deepcopy(image), attention)
        attends = [time.attention is not None for time in [*made.down, *made.up] if time is not None]
        expected = [level in attention for level in (0, 1, 1, 1, 0, 0)]
        yield equal(f"attention = {attention}: which stages attend along time", attends, expected)
    for training in (False, True):
        modes = {module.training for module in f(copy.deepcopy(image).train(training)).modules()}
        yield equal(f"`training` where the image model has {training}", modes, {training})
    trainable = all(p.requires_grad for p in video.parameters())
    yield holds("everything can be trained", trainable, "some weights have requires_grad = False")
    with torch.no_grad():
        for parameter in video.parameters():
            parameter.add_(1)
    same = all(torch.equal(p, q) for p, q in zip(before, image.parameters()))
    yield holds("training the video model leaves the image model as it is", same, "its weights have changed")


inflate.edit(
    "not copied",
    {"copy.deepcopy(image)": "image"},
    "Both models own the same weights: training one changes the other. Copy the image model, deeply.",
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
inflate.edit(
    "frozen",
    {"copy.deepcopy(image)": "copy.deepcopy(image).requires_grad_(False)"},
    "The image model's weights cannot be trained any more: leave requires_grad as it is.",
)
inflate.edit(
    "no video model",
    {"UNet3D(copy.deepcopy(image), attention)": "copy.deepcopy(image)"},
    "This is a copy of the image model itself. Put it into a UNet3D.",
)
