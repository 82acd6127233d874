"""Exercise 9.4: a convolution of pictures becomes one of clips."""

import torch
from torch import nn

from minivdm.course.exercise import close, equal, exercise, holds, raises

SETTINGS = [  # in, out, kernel, other arguments
    (3, 4, 3, dict(padding=1)),
    (2, 5, (3, 2), dict(stride=2, padding=(1, 0), bias=False)),
    (2, 3, (2, 3), dict(stride=(1, 3), padding=(0, 2), dilation=(3, 1))),
    (4, 6, 3, dict(padding=2, dilation=2, groups=2)),
]


def settings(layer, *in_time):
    """How a layer's kernel is moved; with numbers for time in front."""
    found = {name: getattr(layer, name) for name in ("stride", "padding", "dilation")}
    return {name: (*first, *value) for first, (name, value) in zip(in_time or [()] * 3, found.items())}


def frame_by_frame(conv, x):
    """The picture's layer on each frame of x, (B, C, F, H, W)."""
    return torch.stack([conv(frame) for frame in x.unbind(2)], dim=2).detach()


def share_seen(length, frames):
    """Which share of the kernel's slices sees a frame, and no zeros of the padding: one number per frame."""
    half = frames // 2
    seen = [sum(0 <= i + k < length for k in range(-half, half + 1)) for i in range(length)]
    return torch.tensor(seen)[:, None, None] / frames


@exercise("conv3d.inflate_conv")
def inflate_conv(f, draw):
    for channels, out, kernel, given in SETTINGS:
        conv = nn.Conv2d(channels, out, kernel, **given)
        x, frames = draw.normal(2, channels, 7, 6, 6), draw.choice([3, 5])
        asked = ", ".join(f"{name}={value}" for name, value in given.items())
        before = [p.detach().clone() for p in conv.parameters()]
        still = x[:, :, :1].expand_as(x)
        want, want_still = frame_by_frame(conv, x), frame_by_frame(conv, still)
        bias = 0 if conv.bias is None else conv.bias.detach()[:, None, None, None]
        want_still = bias + share_seen(7, frames) * (want_still - bias)
        video, mean = f(conv, frames, "centre"), f(conv, frames, "mean")
        yield holds("an nn.Conv3d comes back", isinstance(video, nn.Conv3d), f"got {type(video)}", usable=False)
        yield equal("its kernel", tuple(video.kernel_size), (frames, *conv.kernel_size), usable=False)
        yield equal(f"does it have a bias? {asked}", video.bias is not None, conv.bias is not None)
        centre = close(f'"centre", kernel {kernel}, {asked}: each frame by itself', video(x), want, atol=1e-5)
        if not centre.ok:
            right = settings(conv, [1], [frames // 2], [1])
            yield equal(f"kernel {video.kernel_size}, {asked}: time, rows, columns", settings(video), right)
            alone = torch.zeros_like(video.weight).index_copy(2, torch.tensor([frames // 2]), before[0][:, :, None])
            yield close('"centre": the weights, zeros before and after the middle slice', video.weight, alone)
        yield centre
        yield close(f'"mean", kernel {kernel}, {asked}: a clip that stands still', mean(still), want_still, atol=1e-5)
        weight = before[0][:, :, None].expand_as(mean.weight) / frames
        yield close('"mean": the weights', mean.weight, weight)
    yield from own_weights(f, draw)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    x = draw.normal(2, 3, 7, 6, 6)
    middle = f(conv, 3).weight[:, :, 1]
    yield close('"centre" is the default: the middle slice', middle, conv.weight.detach())
    yield close("frames = 1", f(conv, 1)(x), frame_by_frame(conv, x), atol=1e-5)
    for frames in (4, 2, 0):
        yield raises(f"frames = {frames}", ValueError, lambda frames=frames: f(conv, frames))
    for how in ("middle", "center", None):
        yield raises(f"how = {how!r}", ValueError, lambda how=how: f(conv, 3, how))
    for padding in (dict(padding="same"), dict(padding="valid"), dict(padding=1, padding_mode="circular")):
        other = nn.Conv2d(3, 4, 3, **padding)
        yield raises(f"a layer with {padding}", ValueError, lambda other=other: f(other, 3))


def own_weights(f, draw):
    """What comes back must be trainable, and share nothing with what went in; on another device, it is there."""
    conv = nn.Conv2d(2, 3, 3, padding=1).double()
    video = f(conv, 3)
    yield equal("the dtype of a layer in float64", [p.dtype for p in video.parameters()], [torch.float64] * 2)
    before, problem = [p.detach().clone() for p in conv.parameters()], ""
    made = [video, f(conv, 3, "mean"), f(conv, 1), f(conv, 1, "mean")]
    parameters = [parameter for each in made for parameter in each.parameters()]
    trainable = all(p.requires_grad and p.is_leaf for p in parameters)
    yield holds("the new weights can be trained", trainable, "a weight has no gradient, or is no leaf")
    try:
        for parameter in parameters:
            parameter.data.add_(1)
    except RuntimeError as error:
        problem = str(error)
    yield holds("an optimiser can change the new weights", not problem, problem)
    message = "changing the new weights changes the old ones, too"
    same = all(torch.equal(p, q) for p, q in zip(before, conv.parameters()))
    yield holds("the two layers share no weights", same, message)
    try:
        there = all(p.is_meta for how in ("centre", "mean") for p in f(conv.to("meta"), 3, how).parameters())
    except NotImplementedError:  # weights of another device were copied here
        there = False
    yield holds(
        "on another device, the new layer is where conv is", there, "it is on the CPU: give conv.weight's device"
    )


@inflate_conv.promises(
    "samples",
    "dtype",
    "layout",
    device="nn.Module.to cannot be followed: tried on the meta device instead",
    gradients="a new layer comes back: its weights are tried by themselves",
)
def ordinary(f, draw):
    def inflated(x, weight):
        conv = nn.Conv2d(4, 6, (3, 2), padding=(1, 2), groups=2, bias=False)
        conv.weight = nn.Parameter(weight)
        return f(conv, 5, "mean")(x)

    return inflated, dict(x=draw.normal(3, 4, 7, 5, 8), weight=draw.normal(6, 2, 3, 2))


inflate_conv.edit(
    "not divided",
    {" / frames)": ")"},
    'For "mean", every slice holds the whole kernel: the answer is `frames` times too large.',
)
inflate_conv.edit(
    "not cleared",
    {"video.weight.zero_()": "pass"},
    "The other slices still hold the random numbers that nn.Conv3d starts with: set them to zero.",
)
inflate_conv.edit(
    "no bias",
    {"video.bias.copy_(conv.bias)": "pass"},
    "The bias still holds the random numbers that nn.Conv3d starts with: copy it.",
)
inflate_conv.edit(
    "bias divided",
    {"copy_(conv.bias)": "copy_(conv.bias / frames)"},
    "The bias is divided by `frames`. It is added once, not once per slice: copy it as it is.",
)
inflate_conv.edit(
    "no padding",
    {"padding=(frames // 2,": "padding=(0,"},
    "Without padding in time the clip gets shorter. It takes frames // 2 zeros at each end.",
)
inflate_conv.edit(
    "padding 1",
    {"padding=(frames // 2,": "padding=(1,"},
    "padding = 1 in time fits a kernel of 3 frames only. It takes frames // 2.",
)
inflate_conv.edit(
    "time stride",
    {"(1, *conv.stride)": "(conv.stride[0], *conv.stride)"},
    "The stride in space is used in time, too, and frames are skipped. In time it is 1.",
)
inflate_conv.edit(
    "unequal on rows and columns",
    {"(1, *conv.stride)": "(1, conv.stride[0], conv.stride[0])"},
    "conv.stride is (rows, columns), and the two may differ: hand on both.",
)
inflate_conv.edit(
    "groups forgotten",
    {"groups=conv.groups,": ""},
    "conv's groups are not handed on: with them, a kernel sees in_channels / groups channels.",
)
