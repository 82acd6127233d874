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
    for made in (video, f(conv, 3, "mean")):
        try:
            with torch.no_grad():
                for parameter in made.parameters():
                    parameter.add_(1)
        except RuntimeError as error:
            problem = str(error)
    yield holds("an optimiser can change the new weights", not problem, problem)
    message = "changing the new bias changes the old one, too"
    yield holds("the two layers share no weights", torch.equal(before, conv.bias), message)


def inflated(mistake, conv, frames, how):
    """Inflation with room for one mistake."""
    if frames % 2 == 0 and mistake != "even" or how not in ("centre", "mean"):
        raise ValueError
    around = {"no padding": 0, "padding 1": 1}.get(mistake, frames // 2)
    video = nn.Conv3d(
        conv.in_channels,
        conv.out_channels,
        (frames, *conv.kernel_size),
        stride=(
            conv.stride[0] if mistake == "time stride" else 1,
            *((1, 1) if mistake == "no stride" else conv.stride),
        ),
        padding=(around, *((0, 0) if mistake == "space padding" else conv.padding)),
        dilation=(
            conv.dilation[0] if mistake == "time dilation" else 1,
            *((1, 1) if mistake == "no dilation" else conv.dilation),
        ),
        groups=1 if mistake == "no groups" else conv.groups,
        bias=conv.bias is not None or mistake == "always a bias",
    )
    if mistake != "float32":
        video = video.to(conv.weight)
    how = {"always centre": "centre", "always mean": "mean"}.get(mistake, how)
    with torch.no_grad():
        if how == "centre":
            if mistake != "not cleared":
                video.weight.zero_()
            divided = frames if mistake == "centre divided" else 1
            video.weight[:, :, {"first": 0, "last": -1}.get(mistake, frames // 2)] = conv.weight / divided
        else:
            weight = conv.weight.div_(frames) if mistake == "in place" else conv.weight / frames
            weight = conv.weight if mistake == "not divided" else weight
            video.weight.copy_(weight[:, :, None])
            if mistake == "expanded":
                video.weight = nn.Parameter(weight[:, :, None].expand_as(video.weight))
        if conv.bias is not None and mistake != "no bias":
            video.bias.copy_(conv.bias / (frames if mistake == "bias divided" else 1))
    if mistake == "shared":
        video.bias = conv.bias
    if mistake == "frozen":
        video.requires_grad_(False)
    return video


def wrong(mistake, hint):
    """Add a misconception: inflation with one mistake in it."""
    inflate_conv.misconception(mistake, hint)(lambda conv, frames, how="centre": inflated(mistake, conv, frames, how))


wrong("not divided", 'For "mean", every slice holds the whole kernel: the answer is `frames` times too large.')
wrong("first", 'For "centre", the kernel is in the first slice, so each frame sees an earlier one. Take the middle.')
wrong("last", 'For "centre", the kernel is in the last slice, so each frame sees a later one. Take the middle.')
wrong("not cleared", "The other slices still hold the random numbers that nn.Conv3d starts with: set them to zero.")
wrong("always centre", '`how` has no effect: "mean" gives the same as "centre".')
wrong("always mean", '`how` has no effect: "centre" gives the same as "mean".')
wrong("no bias", "The bias still holds the random numbers that nn.Conv3d starts with: copy it.")
wrong("bias divided", "The bias is divided by `frames`. It is added once, not once per slice: copy it as it is.")
wrong("always a bias", "The new layer has a bias where the old one had none.")
wrong("no padding", "Without padding in time the clip gets shorter. It takes frames // 2 zeros at each end.")
wrong("padding 1", "padding = 1 in time fits a kernel of 3 frames only. It takes frames // 2.")
wrong("space padding", "The padding in rows and columns got lost: take conv.padding.")
wrong("time stride", "The stride in space is used in time, too, and frames are skipped. In time it is 1.")
wrong("no dilation", "The dilation got lost: the new kernel looks at neighbours, the old one further away.")
wrong("no groups", "The groups got lost: the old weights, (out, in / groups, ..), do not fit.")
wrong("float32", "The new layer is float32, whatever the old one is. `.to(conv.weight)` takes over dtype and device.")
wrong("shared", "Both layers own the same bias: training one changes the other. Copy its values.")
wrong("in place", "`conv` itself is changed, by an operation in place such as div_. Make new tensors of its weights.")
wrong("expanded", "`expand` makes a view: all slices are one piece of memory, which no optimiser can change. Copy it.")
wrong("centre divided", 'For "centre" the kernel is not divided: only one slice holds it.')
wrong("no stride", "The stride got lost: in rows and columns it is conv.stride.")
wrong("time dilation", "The dilation in space is used in time, too, so distant frames are seen. In time it is 1.")
wrong("frozen", "The new weights do not require gradients, so they cannot be trained.")
wrong("even", "An even number of frames goes through: such a kernel has no middle slice.")
