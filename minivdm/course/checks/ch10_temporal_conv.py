"""Exercise 10.1: a convolution over time, place by place."""

import torch
from einops import rearrange
from torch.nn import functional as F

from minivdm.course.exercise import close, exercise

from .ch04_common import fresh
from .ch10_common import BACK, LAYOUT, TURNED


def by_frames(layer, x, frames, independent_frames=None):
    """The layer's sum written out in float64, for each clip and frame, on the weights of this very layer."""
    weight, bias = layer.conv.weight.double()[..., 0], layer.conv.bias.double()[:, None, None]  # (C, C, 3)
    out = []
    for b, clip in enumerate(x.double().split(frames)):
        for f in range(frames):
            sees = (
                {1: f} if independent_frames is not None and independent_frames[b] else {k: f + k - 1 for k in range(3)}
            )
            parts = [torch.einsum("oc,chw->ohw", weight[:, :, k], clip[i]) for k, i in sees.items() if 0 <= i < frames]
            out.append(sum(parts) + bias)
    return torch.stack(out)


@exercise("unet3d.TemporalConv")
def temporal_conv(f, draw):
    like = dict(atol=1e-4, rtol=1e-3, dtype=torch.float32)
    x, layer = draw.normal(2 * 5, 6, 2, 3), fresh(f(6), draw)
    yield close("2 clips of 5 frames", layer(x, 5), by_frames(layer, x, 5), **like)
    ordered = x.contiguous(memory_format=torch.channels_last)
    yield close("the same in channels_last memory", layer(ordered, 5), by_frames(layer, x, 5), **like)
    x = draw.normal(3 * 4, 6, 2, 3)
    yield close("a new layer returns x", f(6)(x, 4), x)
    independent_frames = torch.tensor([False, True, False])
    want = by_frames(layer, x, 4, independent_frames)
    yield close("3 clips, the second one made of stills", layer(x, 4, independent_frames), want, **like)
    x = draw.normal(2, 6, 2, 3)
    yield close("clips of one frame", layer(x, 1), by_frames(layer, x, 1), **like)


def convolved_with(mistake, layer, x, frames, independent_frames):
    """The layer with room for one mistake."""
    height, width = x.shape[2:]
    if mistake == "reshaped":
        h = x.reshape(-1, x.shape[1], frames, height * width)
    elif mistake == "one clip":
        h = rearrange(x, "f c h w -> 1 c f (h w)")
    else:
        h = rearrange(x, f"{'(f b)' if mistake == 'layout' else '(b f)'} c h w -> b c f (h w)", f=frames)
    weight, bias = layer.conv.weight, layer.conv.bias
    if mistake == "places":
        out = layer.conv(h.transpose(2, 3)).transpose(2, 3)
    elif mistake == "circle":
        out = F.conv2d(torch.cat([h[:, :, -1:], h, h[:, :, :1]], dim=2), weight, bias)
    elif mistake == "ends repeated":
        out = F.conv2d(torch.cat([h[:, :, :1], h, h[:, :, -1:]], dim=2), weight, bias)
    else:
        out = layer.conv(h)
    if independent_frames is not None and mistake != "ignored":
        middle = {"summed": weight.sum(2, keepdim=True), "first": weight[:, :, :1]}.get(mistake, weight[:, :, 1:2])
        alone = F.conv2d(h, middle, None if mistake == "no bias" else bias)
        alone = {"unchanged": h, "zero": torch.zeros_like(h)}.get(mistake, alone)
        chosen = ~independent_frames if mistake == "inverted" else independent_frames
        chosen = chosen.any().expand(len(h)) if mistake == "any" else chosen
        out = torch.where(chosen[: len(h), None, None, None], alone, out)
    out = out + h if mistake == "added" else out
    if mistake == "reshaped":
        return out.reshape(x.shape)
    if mistake == "one clip":
        return rearrange(out, "1 c f (h w) -> f c h w", h=height)
    if mistake == "turned":
        return rearrange(out, "b c f (w h) -> (b f) c h w", h=height)
    back = "(f b)" if mistake in ("layout", "back") else "(b f)"
    return rearrange(out, f"b c f (h w) -> {back} c h w", h=height)


def wrong(mistake, label, hint):
    """Add a misconception: the layer above with one mistake in it."""

    class Wrong:
        def forward(self, x, frames, independent_frames=None):
            return convolved_with(mistake, self, x, frames, independent_frames)

    temporal_conv.misconception(label, hint)(Wrong)


wrong("layout", *LAYOUT)
wrong("back", *BACK)
wrong(
    "reshaped",
    "reshaped without moving axes",
    "reshape alone only cuts the numbers up anew, and channels end up as frames. The axes must change places, "
    'too: "(b f) c h w -> b c f (h w)".',
)
wrong(
    "one clip",
    "all clips in a row",
    "All B F frames are taken as one long clip, so the end of one clip meets the beginning of the next.",
)
wrong(
    "places",
    "over places",
    "The kernel slides along the places within a frame. In the map, rows are frames and columns are places: (B, C, "
    "F, H W).",
)
wrong(
    "circle",
    "the clip as a circle",
    "The last frame is taken as the neighbour of the first. Outside there are zeros.",
)
wrong("ends repeated", "ends repeated", "The first and last frames are repeated outside the clip. There, zeros stand.")
wrong("added", "x added", "x is added. The Dirac kernel is the identity already: the result is the convolution alone.")
wrong("turned", *TURNED)
wrong(
    "ignored",
    "stills ignored",
    "`independent_frames` has no effect: unrelated pictures are mixed. They need the middle alone.",
)
wrong(
    "inverted",
    "clips for stills",
    "Where `independent_frames` is True, frames are still mixed, and elsewhere they are not.",
)
wrong(
    "any",
    "all or none",
    "One row of unrelated pictures turns the whole batch into such. The mask has an entry for each clip: torch.where.",
)
wrong("unchanged", "stills not convolved", "Stills come back as they were. They, too, meet the middle of the kernel.")
wrong("zero", "stills set to zero", "Stills become zero. They meet the middle of the kernel.")
wrong("no bias", "stills without bias", "Stills get the middle of the kernel, but not the bias.")
wrong(
    "summed",
    "the kernel's sum for stills",
    "For stills the three slices of the kernel are added, as if each picture stood still. Take the middle slice alone.",
)
wrong("first", "the first slice for stills", "For stills the kernel's first slice is taken. The middle is [:, :, 1:2].")
