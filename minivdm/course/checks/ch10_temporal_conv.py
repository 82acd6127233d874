"""Exercise 10.1: a convolution over time, place by place."""

import torch

from minivdm.course.exercise import close, exercise, holds
from minivdm.course.probes import describe

from .ch04_common import fresh
from .ch10_common import BACK, LAYOUT, on_clips


def by_frames(layer, x, frames, independent=()):
    """The layer's sum written out in float64, for each clip and frame, on the weights of this very layer."""
    weight, bias = layer.conv.weight.double()[..., 0], layer.conv.bias.double()[:, None, None]  # (C, C, 3)
    out = []
    for b, clip in enumerate(x.double().split(frames)):
        for f in range(frames):
            inside = [1] if b in independent else [k for k in range(3) if 0 <= f + k - 1 < frames]
            out.append(bias + sum(torch.einsum("oc,chw->ohw", weight[:, :, k], clip[f + k - 1]) for k in inside))
    return torch.stack(out)


@exercise("unet3d.TemporalConv")
def temporal_conv(f, draw):
    like = dict(atol=1e-4, rtol=1e-3, dtype=torch.float32)
    for clips, frames, name in (
        (2, 5, "2 clips of 5 frames"),
        (3, 2, "clips of 2 frames"),
        (2, 1, "clips of one frame"),
    ):
        x, layer = draw.normal(clips * frames, 6, 3, 2), fresh(f(6), draw)
        yield close(name, layer(x, frames), by_frames(layer, x, frames), **like)
    x = draw.normal(3 * 4, 6, 3, 2)
    yield close("a new layer returns x", f(6)(x, 4), x)
    for stills in ([0, 1, 2], [1], [0, 2], []):
        rows = torch.tensor([b in stills for b in range(3)])
        got, want = layer(x, 4, rows), by_frames(layer, x, 4, independent=stills)
        what = f"3 clips, independent_frames = {rows.tolist()}"
        usable = torch.is_tensor(got) and got.shape == x.shape
        yield holds(f"the shape, {what}", usable, f"expected {tuple(x.shape)}, got {describe(got)}", usable=False)
        where = rows.repeat_interleave(4)
        if stills:
            name = f"{what}: the rows of stills meet the kernel's middle and the bias alone"
            yield close(name, got[where], want[where], **like)
        yield close(f"{what}: the other rows are clips as ever", got[~where], want[~where], **like)
    short, want = torch.bfloat16, by_frames(layer, x, 4, independent=[1])
    got = layer.to(short)(x.to(short), 4, torch.tensor([False, True, False]))
    yield close("layer and x in bfloat16", got, want, 0.1, 0.05, short)


@temporal_conv.promises("samples", "dtype", "layout", "device", "gradients")
def ordinary(f, draw):
    return on_clips(fresh(f(6), draw), draw.normal(3, 4, 6, 5, 2), [False, True, False])


temporal_conv.edit(LAYOUT[0], {"(b f)": "(f b)"}, LAYOUT[1])
temporal_conv.edit(BACK[0], {"-> (b f)": "-> (f b)"}, BACK[1])
temporal_conv.edit(
    "reshaped without moving axes",
    {
        'rearrange(x, "(b f) c h w -> b c f (h w)", f=frames)': "x.reshape(-1, x.shape[1], frames, x[0, 0].numel())",
        'rearrange(out, "b c f (h w) -> (b f) c h w", h=x.shape[2])': "out.reshape(x.shape)",
    },
    "reshape alone only cuts the numbers up anew, and channels end up as frames. The axes must change places, "
    'too: "(b f) c h w -> b c f (h w)".',
)
temporal_conv.edit(
    "all clips in a row",
    {"(b f)": "f", "b c f": "1 c f", ", f=frames": ""},
    "All B F frames are taken as one long clip, so the end of one clip meets the beginning of the next.",
)
temporal_conv.edit(
    "ends repeated",
    {"self.conv(h)": "self.conv(torch.cat([h[:, :, :1], h, h[:, :, -1:]], dim=2))[:, :, 1:-1]"},
    "The first and last frames are repeated outside the clip. There, zeros stand.",
)
temporal_conv.edit(
    "the past alone",
    {"self.conv(h)": "self.conv(F.pad(h, (0, 0, 1, 0)))[:, :, :frames]"},
    "Each frame meets itself and two frames before. The kernel's middle belongs to the frame itself.",
)
temporal_conv.edit(
    "turned round in time",
    {"self.conv(h)": "F.conv2d(h, self.conv.weight.flip(2), self.conv.bias, padding=(1, 0))"},
    "The kernel is turned round in time: its entry 0 meets the frame before.",
)
temporal_conv.edit(
    "x added",
    {"return rearrange": "return x + rearrange"},
    "x is added. The Dirac kernel is the identity already: the result is the convolution alone.",
)
temporal_conv.edit(
    "stills ignored",
    {"independent_frames is not None": "False"},
    "`independent_frames` has no effect: unrelated pictures are mixed. They need the middle alone.",
)
temporal_conv.edit(
    "clips for stills",
    {"where(independent_frames": "where(~independent_frames"},
    "Where `independent_frames` is True, frames are still mixed, and elsewhere they are not.",
)
temporal_conv.edit(
    "stills without bias", {"1:2], self.conv.bias": "1:2]"}, "Stills get the middle of the kernel, but not the bias."
)
