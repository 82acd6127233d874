"""Exercise 9.4: a convolution of pictures becomes one of clips."""

import torch
from torch import nn

from minivdm.course.exercise import close, equal, exercise, holds, raises

SETTINGS = [  # in, out, kernel, other arguments
    (3, 4, 3, dict(padding=1)),
    (2, 5, (3, 2), dict(stride=2, padding=(1, 0), bias=False)),
    (4, 6, 3, dict(padding=2, dilation=2, groups=2)),
]


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
        video, mean = f(conv, frames), f(conv, frames, "mean")
        yield holds("an nn.Conv3d comes back", isinstance(video, nn.Conv3d), f"got {type(video)}", usable=False)
        yield equal("its kernel", tuple(video.kernel_size), (frames, *conv.kernel_size), usable=False)
        same = all(torch.equal(p, q) for p, q in zip(before, conv.parameters()))
        yield holds("the picture's layer stays as it is", same, "its weights have changed")
        yield close(f'"centre", kernel {kernel}, {asked}: each frame by itself', video(x), want, atol=1e-5)
        yield close(f'"mean", kernel {kernel}, {asked}: a clip that stands still', mean(still), want_still, atol=1e-5)
        weight = before[0][:, :, None].expand_as(mean.weight) / frames
        yield close('"mean": the weights', mean.weight, weight)
    yield from own_weights(f, draw)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    yield close("frames = 1", f(conv, 1)(x[:, :3]), frame_by_frame(conv, x[:, :3]), atol=1e-5)
    yield raises("frames = 4", ValueError, lambda: f(conv, 4))
    yield raises('how = "middle"', ValueError, lambda: f(conv, 3, "middle"))


def own_weights(f, draw):
    """What comes back must be trainable, and share nothing with what went in."""
    conv = nn.Conv2d(2, 3, 3, padding=1).double()
    video = f(conv, 3)
    yield equal("the dtype of a layer in float64", [p.dtype for p in video.parameters()], [torch.float64] * 2)
    trainable = all(p.requires_grad and p.is_leaf for p in video.parameters())
    yield holds("the new weights can be trained", trainable, "a weight has no gradient, or is no leaf")
    before, problem = conv.bias.detach().clone(), ""
    parameters = [*video.parameters(), *f(conv, 3, "mean").parameters()]
    try:
        for parameter in parameters:
            parameter.data.add_(1)
    except RuntimeError as error:
        problem = str(error)
    yield holds("an optimiser can change the new weights", not problem, problem)
    message = "changing the new bias changes the old one, too"
    yield holds("the two layers share no weights", torch.equal(before, conv.bias), message)


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
    "float32",
    {".to(conv.weight)": ""},
    "The new layer is float32, whatever the old one is. `.to(conv.weight)` takes over dtype and device.",
)
inflate_conv.edit(
    "shared",
    {"video.bias.copy_(conv.bias)": "video.bias = conv.bias"},
    "Both layers own the same bias: training one changes the other. Copy its values.",
)
inflate_conv.edit(
    "in place",
    {"conv.weight[:, :, None] / frames": "conv.weight.div_(frames)[:, :, None]"},
    "`conv` itself is changed, by an operation in place such as div_. Make new tensors of its weights.",
)
inflate_conv.edit(
    "even",
    {"require_inflatable(conv, frames, how)": "pass"},
    "An even number of frames goes through: such a kernel has no middle slice.",
)
