"""Exercise 10.3: an image U-Net among layers along time."""

import torch
from einops import rearrange

from minivdm.course.exercise import close, exercise, raises
from minivdm.models.unet import UNet

from .ch04_common import fresh


def picture_net(draw, **changes):
    """A small U-Net for pictures of 4 x 4 pixels, with random weights."""
    settings = {"in_channels": 2, "channels": 8, "mults": (1, 4), "blocks": 1, "attention": (), **changes}
    return fresh(UNet(**settings), draw)


def clip_by_clip(net, x, t, cond=None, independent_frames=None):
    """The output worked out for one clip after the other; the k-th Stage on the way up takes map -k."""
    each = [None] * len(x) if independent_frames is None else independent_frames.split(1)
    told = [None] * len(x) if cond is None else cond
    clips = [clip.movedim(1, 0) for clip in x]  # (F, C, H, W) each
    out = [one_clip(net, clip, level, c, row) for clip, level, c, row in zip(clips, t, told, each)]
    return torch.stack(out).transpose(1, 2)


def one_clip(net, x, t, cond, row):
    """The output for one clip (F, C, H, W), where all frames have the level t."""
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
    net = fresh(f(picture_net(draw, channels=32, mults=(1,)), attention=(0,)), draw)
    x, t = draw.normal(2, 2, 3, 2, 2), draw.integers(1, 900, 2)
    yield close("2 clips of 3 frames, one resolution", net(x, t), clip_by_clip(net, x, t), **like)
    independent_frames = torch.tensor([False, True])
    want = clip_by_clip(net, x, t, independent_frames=independent_frames)
    yield close(
        "2 clips, the second one made of stills", net(x, t, independent_frames=independent_frames), want, **like
    )
    yield raises("a picture instead of a clip", ValueError, lambda: net(x[:, :, 0], t))
    net = fresh(f(picture_net(draw, context_dim=6, attention=(1,)), attention=()), draw)
    x, t, cond = draw.normal(3, 2, 2, 2, 4), draw.integers(1, 900, 3), draw.normal(3, 2, 6)
    yield close("two resolutions, each clip with a condition", net(x, t, cond), clip_by_clip(net, x, t, cond), **like)
    x, t, cond = x[:2], t[:2], draw.normal(2, 2, 3, 6)
    yield close("a condition for each frame", net(x, t, cond), clip_by_clip(net, x, t, cond), **like)


def video_with(mistake, net, x, t, cond, independent_frames):
    """The forward pass with room for one mistake."""
    if x.ndim != 5 and mistake != "not refused":
        raise ValueError
    image, frames = net.image, x.shape[2]
    batch = "(f b)" if mistake in ("layout", "all turned") else "(b f)"
    x = rearrange(x, f"b c f h w -> {batch} c h w")
    if cond is not None:
        whole = cond.ndim == 3 and mistake in ("tiled", "cond tiled", "all turned")
        tiled = cond.repeat(frames, 1, 1) if whole else None
        if mistake == "one condition" and cond.ndim == 4:
            cond = cond[:, 0]
        each = cond.flatten(0, 1) if cond.ndim == 4 else cond.repeat_interleave(frames, dim=0)
        cond = each if tiled is None else tiled
    levels = t.repeat(frames) if mistake in ("tiled", "t tiled", "all turned") else t.repeat_interleave(frames)
    emb = image.embedding(x, levels, cond)
    independent_frames = None if mistake == "no stills" else independent_frames
    h = image.stem(x)
    kept = [h]
    cond = None if mistake == "no cond" else cond

    def after(time, h, side):
        absent = {
            "no time": ("down", "middle", "up"),
            "down only": ("middle", "up"),
            "no middle": ("middle",),
            "no up": ("up",),
        }
        return h if side in absent.get(mistake, ()) else time(h, frames, independent_frames)

    for layer, time in zip(image.down, net.down):
        if time is not None and mistake == "time first" and h.shape[1] == layer.block.conv2.out_channels:
            h = layer(time(h, frames, independent_frames), emb, cond)
        elif time is None:
            h = layer(h)
        else:
            before = layer(h, emb, cond)
            h = after(time, before, "down")
            if mistake == "kept before time":
                kept.append(before)
                continue
        kept.append(h)
    h = h if mistake == "no image middle" else image.middle(h, emb, cond)
    h = after(net.middle, h, "middle")
    for layer, time in zip(image.up, net.up):
        if time is None:
            h = layer(h)
            continue
        skip = kept[-1] if mistake == "no pop" else kept.pop(0 if mistake == "first" else -1)
        h = torch.cat([skip, h] if mistake == "skip first" else [h, skip], dim=1)
        h = after(time, layer(h, emb, cond), "up")
    out = image.head(h if mistake == "no norm" else image.norm(h))
    batch = "(f b)" if mistake in ("back", "layout", "all turned") else "(b f)"
    if mistake == "not put back":
        return out
    return rearrange(out, f"{batch} c h w -> b c f h w", f=frames)


def wrong(mistake, label, hint):
    """Add a misconception: the forward pass above with one mistake in it."""

    class Wrong:
        def forward(self, x, t, cond=None, independent_frames=None):
            return video_with(mistake, self, x, t, cond, independent_frames)

    unet3d.misconception(label, hint)(Wrong)


wrong(
    "tiled",
    "repeat instead of repeat_interleave",
    "t and cond are repeated as a whole, 1 2 1 2. The frames of a clip lie one after the other, so it must be 1 1 2 "
    "2: repeat_interleave.",
)
wrong(
    "t tiled",
    "t repeated as a whole",
    "t is repeated as 1 2 1 2, and frames get the level of other clips: it must be 1 1 2 2, repeat_interleave.",
)
wrong(
    "cond tiled",
    "cond repeated as a whole",
    "cond is repeated as 1 2 1 2, and frames get the prompt of other clips: it must be 1 1 2 2, repeat_interleave.",
)
wrong(
    "layout",
    "frames and clips mixed up",
    'The clips are laid out as "(f b)", but t, cond and the temporal layers expect the frames of a clip one '
    'after the other: "(b f)".',
)
wrong(
    "all turned",
    "everything frame first",
    'All is laid out as "(f b)", also t and cond. But the temporal layers take the batch apart as "(b f)".',
)
wrong("back", "mixed up at the end", 'At the end the batch is taken apart as "(f b)". It was put together as "(b f)".')
wrong(
    "not put back",
    "still a batch of frames",
    "The result is a batch of B F pictures: make clips (B, C, F, H, W) of it.",
)
wrong("no time", "no time at all", "The temporal layers are never called: each stage is followed by its own.")
wrong(
    "down only",
    "time on the way down only",
    "After the way down, time is forgotten: the middle and `up` have it, too.",
)
wrong("no up", "no time on the way up", "On the way up the stages are not followed by time.")
wrong(
    "no cond",
    "stages without the condition",
    "The condition does not reach the image model's stages. Down, in the middle and up they are called as "
    "layer(h, emb, cond).",
)
wrong("no middle", "no time in the middle", "self.middle, the temporal layers after image.middle, are not called.")
wrong("no image middle", "the image's middle left out", "image.middle is never called, only what follows it.")
wrong(
    "time first",
    "time before the stage",
    "On the way down the temporal layers come *before* their stage. They follow it.",
)
wrong(
    "kept before time",
    "kept without time",
    "What is kept for the way up is the stage's own output, and the way down does not go on from there. Keep, and "
    "go on with, what the temporal layers made of it.",
)
wrong(
    "first",
    "first in, first out",
    "The kept maps are used in the order in which they were made. The latest comes first: kept.pop().",
)
wrong("no pop", "the same map again and again", "kept[-1] stays in the list. kept.pop() takes it out.")
wrong("skip first", "kept map first", "The two maps are joined in the other order: h first, then the kept one.")
wrong("no norm", "norm left out", "image.norm is left out: the last lines are norm, then head.")
wrong(
    "no stills",
    "stills not handed on",
    "`independent_frames` does not reach the temporal layers: time(h, frames, independent_frames).",
)
wrong(
    "one condition",
    "one frame's condition for all",
    "Where each frame has a condition, (B, F, L, D), only the first is used. Flatten B and F.",
)
wrong(
    "not refused",
    "a picture not refused",
    "A picture (B, C, H, W) fails somewhere inside. Raise a ValueError that says what was expected.",
)
