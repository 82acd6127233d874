"""Exercise 10.3: an image U-Net among layers along time."""

import torch

from minivdm.course.exercise import close, exercise, raises
from minivdm.models.unet import UNet

from .ch04_common import fresh


def picture_net(**changes):
    """A small U-Net for pictures of 4 x 4 pixels."""
    return UNet(**{"in_channels": 2, "channels": 8, "mults": (1, 4), "blocks": 1, "attention": (), **changes})


def clip_by_clip(net, x, t, cond=None, stills=None):
    """The output worked out for one clip after the other."""
    told = [None] * len(x) if cond is None else cond
    rows = [None] * len(x) if stills is None else stills.split(1)
    return torch.stack([one_clip(net, *each) for each in zip(x.transpose(1, 2), t, told, rows)]).transpose(1, 2)


def one_clip(net, x, t, cond, row):
    """The output for one clip (F, C, H, W), all at level t; the k-th Stage on the way up takes map -k."""
    image, frames = net.image, len(x)
    if cond is not None:
        cond = cond if cond.ndim == 3 else torch.stack([cond] * frames)  # (F, L, D)
    emb = image.embedding(x, torch.full((frames,), int(t)), cond)

    def through(layer, time, h):
        return layer(h) if time is None else time(layer(h, emb, cond), frames, row)

    kept = [image.stem(x)]
    for layer, time in zip(image.down, net.down):
        kept.append(through(layer, time, kept[-1]))
    h, k = through(image.middle, net.middle, kept[-1]), 0
    for layer, time in zip(image.up, net.up):
        k += time is not None
        h = through(layer, time, h if time is None else torch.cat([h, kept[-k]], dim=1))
    return image.head(image.norm(h))


@exercise("unet3d.UNet3D")
def unet3d(f, draw):
    like = dict(atol=2e-3, rtol=2e-3, dtype=torch.float32)
    net = fresh(f(picture_net(channels=32, mults=(1,)), attention=(0,)), draw)
    x, t, first = draw.normal(2, 2, 3, 4, 2), draw.integers(1, 900, 2), torch.tensor([True, False])
    for clips, name in ((x, "2 clips of 3 frames, one resolution"), (x[:, :, :1], "clips of one frame meet time, too")):
        yield close(name, net(clips, t), clip_by_clip(net, clips, t), **like)
    for stills in (~first, first, first | True):
        want = clip_by_clip(net, x, t, stills=stills)
        yield close(f"independent_frames = {stills.tolist()}", net(x, t, independent_frames=stills), want, **like)
    for name, other in {
        "a picture (C, H, W)": x[0, :, 0],
        "pictures (B, C, H, W)": x[:, :, 0],
    }.items():
        yield raises(f"{name} instead of clips", ValueError, lambda other=other: net(other, t))
    net = fresh(f(picture_net(context_dim=6, mults=(1, 2, 4), attention=(2,)), attention=()), draw)
    x, t, cond = draw.normal(3, 2, 2, 4, 8), draw.integers(1, 900, 3), draw.normal(3, 2, 6)
    yield close("three resolutions, each clip with a condition", net(x, t, cond), clip_by_clip(net, x, t, cond), **like)
    x, t, cond = x[:2], t[:2], draw.normal(2, 2, 3, 6)
    yield close("a condition for each frame", net(x, t, cond), clip_by_clip(net, x, t, cond), **like)


@unet3d.promises("samples", "dtype", "layout", "device", "gradients")
def ordinary(f, draw):
    net = fresh(f(picture_net(context_dim=6, attention=(1,)), attention=(1,)), draw)
    rows = dict(cond=draw.normal(3, 5, 2, 6), independent_frames=torch.tensor([False, True, False]))
    return net, dict(x=draw.normal(3, 2, 5, 4, 2), t=draw.integers(1, 900, 3), **rows)


unet3d.edit(
    "t repeated as a whole",
    {"t.repeat_interleave(frames)": "t.repeat(frames)"},
    "t is repeated as 1 2 1 2, and frames get the level of other clips: it must be 1 1 2 2, repeat_interleave.",
)
unet3d.edit(
    "cond repeated as a whole",
    {"repeat_interleave(frames, dim=0)": "repeat(frames, 1, 1)"},
    "cond is repeated as 1 2 1 2, and frames get the prompt of other clips: it must be 1 1 2 2, repeat_interleave.",
)
unet3d.edit(
    "frames and clips mixed up",
    {"(b f)": "(f b)"},
    'The clips are laid out as "(f b)", but t, cond and time expect the frames of one clip in a row: "(b f)".',
)
unet3d.edit(
    "everything frame by frame",
    {
        "(b f)": "(f b)",
        "t.repeat_interleave(frames)": "t.repeat(frames)",
        "repeat_interleave(frames, dim=0)": "repeat(frames, 1, 1)",
        "cond.flatten(0, 1)": "cond.transpose(0, 1).flatten(0, 1)",
    },
    'All is laid out as "(f b)", but the temporal layers expect the frames of one clip in a row: "(b f)".',
)
unet3d.edit(
    "mixed up at the end", {'"(b f) c': '"(f b) c'}, 'At the end the batch is taken apart as "(f b)". It was "(b f)".'
)
unet3d.edit(
    "no time at all",
    {
        "time(layer(h, emb, cond), frames, independent_frames)": "layer(h, emb, cond)",
        "self.middle(image.middle(h, emb, cond), frames, independent_frames)": "image.middle(h, emb, cond)",
        "time(h, frames, independent_frames)": "h",
    },
    "The temporal layers are never called: each stage is followed by its own.",
)
unet3d.edit(
    "no time on the way down",
    {"time(layer(h, emb, cond), frames, independent_frames)": "layer(h, emb, cond)"},
    "On the way down no time follows the stages.",
)
unet3d.edit(
    "conditions of frames in another order",
    {"cond.flatten(0, 1)": "cond.transpose(0, 1).flatten(0, 1)"},
    'The conditions of frames, (B, F, L, D), are laid out as "(f b)". The frames of a clip are in a row: "(b f)".',
)
unet3d.edit(
    "time before the stage",
    {"time(layer(h, emb, cond), frames, independent_frames)": "layer(time(h, frames, independent_frames), emb, cond)"},
    "Time comes before a stage here. It follows it: time(layer(h, emb, cond), frames, independent_frames).",
)
unet3d.edit(
    "no time in the middle",
    {"self.middle(image.middle(h, emb, cond), frames, independent_frames)": "image.middle(h, emb, cond)"},
    "self.middle, the temporal layers after image.middle, are not called.",
)
unet3d.edit(
    "no time on the way up", {"time(h, frames, independent_frames)": "h"}, "On the way up no time follows the stages."
)
unet3d.edit(
    "stages without the condition",
    {", emb, cond)": ", emb)"},
    "The condition does not reach the image model's stages. They are all called as layer(h, emb, cond).",
)
unet3d.edit(
    "kept without time",
    {
        "time(layer(h, emb, cond), frames, independent_frames)": "layer(h, emb, cond)",
        "kept.append(h)": "kept.append(h)\n            h = h if time is None else time(h, frames, independent_frames)",
    },
    "What is kept for the way up is the stage's own output. Keep what the temporal layers made of it.",
)
unet3d.edit(
    "first in, first out",
    {"kept.pop()": "kept.pop(0)"},
    "The kept maps are used in the order in which they were made. The latest comes first: kept.pop().",
)
unet3d.edit(
    "kept map first", {"[h, kept.pop()]": "[kept.pop(), h]"}, "The two maps are swapped: h first, then the kept one."
)
unet3d.edit(
    "one frame's condition for all",
    {"cond.flatten(0, 1)": "cond[:, 0].repeat_interleave(frames, dim=0)"},
    "Where each frame has a condition, (B, F, L, D), only the first is used. Flatten B and F.",
)
