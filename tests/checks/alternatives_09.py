"""Correct solutions of chapter 09, written as differently as people write them."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from tests.checks.collected import alternative


def three(value):
    """A number three times, or three numbers."""
    return [value] * 3 if isinstance(value, int) else list(value)


@alternative("video_folder.frame_indices")
def indices_by_loop(available, frames, step=1.0, start=0.0):
    if frames < 1 or step < 1 or start < 0:
        raise ValueError("frames and step must be at least 1, start at least 0")
    found = [math.floor(start + k * step) for k in range(frames)]
    if found[-1] > available - 1:
        raise ValueError(f"{found[-1] + 1} frames needed, {available} there")
    return torch.tensor(found)


@alternative("video_folder.frame_indices")
def indices_by_linspace(available, frames, step=1.0, start=0.0):
    if not (frames > 0 and step >= 1 and start >= 0):
        raise ValueError("no such clip")
    found = torch.linspace(start, start + (frames - 1) * step, frames, dtype=torch.float64).to(torch.int64)
    if (found >= available).any():
        raise ValueError(f"needs {int(found.max()) + 1}, has {available}")
    return found


def refused(x, weight):
    """What every version must refuse."""
    if x.dim() != 5 or weight.dim() != 5 or x.size(1) != weight.size(1):
        raise ValueError("shapes")


@alternative("conv3d.conv3d")
def all_boxes_at_once(x, weight, bias=None, stride=1, padding=0):
    refused(x, weight)
    pt, ph, pw = three(padding)
    x = nn.functional.pad(x, [pw, pw, ph, ph, pt, pt])
    for axis, (size, step) in enumerate(zip(weight.shape[2:], three(stride)), start=2):
        if x.shape[axis] < size:
            raise ValueError("no box fits")
        x = x.unfold(axis, size, step)
    y = torch.einsum("bcfhwijk,ocijk->bofhw", x, weight)
    return y if bias is None else y + bias.view(1, -1, 1, 1, 1)


@alternative("conv3d.conv3d")
def pictures_shifted_in_time(x, weight, bias=None, stride=1, padding=0):
    """A sum of 2-D convolutions, one for each slice of the kernel."""
    refused(x, weight)
    (st, *s), (pt, *p) = three(stride), three(padding)
    x = torch.cat([x.new_zeros(*x.shape[:2], pt, *x.shape[3:]), x, x.new_zeros(*x.shape[:2], pt, *x.shape[3:])], 2)
    out = []
    for f in range(0, x.shape[2] - weight.shape[2] + 1, st):
        try:
            out.append(sum(F.conv2d(x[:, :, f + i], weight[:, :, i], None, s, p) for i in range(weight.shape[2])))
        except RuntimeError as error:
            raise ValueError("no box fits") from error
    if not out:
        raise ValueError("too few frames")
    y = torch.stack(out, dim=2)
    return y if bias is None else y.add(bias[None, :, None, None, None])


@alternative("conv3d.conv3d")
def place_by_place(x, weight, bias=None, stride=1, padding=0):
    refused(x, weight)
    (st, sh, sw), (pt, ph, pw) = three(stride), three(padding)
    b, c, f, h, w = x.shape
    o, _, kt, kh, kw = weight.shape
    padded = x.new_zeros(b, c, f + 2 * pt, h + 2 * ph, w + 2 * pw)
    padded[:, :, pt : pt + f, ph : ph + h, pw : pw + w] = x
    n = [(size - k) // s + 1 for size, k, s in zip(padded.shape[2:], (kt, kh, kw), (st, sh, sw))]
    if min(n) <= 0:
        raise ValueError("too large")
    rows, flat = [], weight.reshape(o, -1)
    for i in range(n[0]):
        for j in range(n[1]):
            for k in range(n[2]):
                box = padded[:, :, i * st : i * st + kt, j * sh : j * sh + kh, k * sw : k * sw + kw]
                rows.append(box.reshape(b, -1) @ flat.T)
    y = torch.stack(rows, dim=2).reshape(b, o, *n)
    if bias is not None:
        y += bias[:, None, None, None]
    return y


@alternative("conv3d.Conv2Plus1d")
class WithSameAndSequence(nn.Module):
    def __init__(self, in_channels, out_channels, d=3, t=3, inner=None):
        super().__init__()
        for size in (d, t):
            if size not in range(3, 99, 2):
                raise ValueError("odd, at least 3")
        weights = in_channels * out_channels * t * d * d
        m = int(weights / (in_channels * d * d + out_channels * t)) if inner is None else inner
        self.space = nn.Conv3d(in_channels, m, kernel_size=(1, d, d), padding="same", bias=False)
        self.time = nn.Conv3d(m, out_channels, kernel_size=(t, 1, 1), padding="same")

    def forward(self, x):
        return self.time(self.space(x).clamp(min=0))


@alternative("conv3d.Conv2Plus1d")
class WithMaximum(nn.Module):
    def __init__(self, in_channels, out_channels, d=3, t=3, inner=None):
        nn.Module.__init__(self)
        if d % 2 != 1 or t % 2 != 1 or d == 1 or t == 1 or d < 0 or t < 0:
            raise ValueError(f"{d}, {t}")
        self.inner = inner or (t * d * d * in_channels * out_channels) // (d * d * in_channels + t * out_channels)
        half, moments = (d - 1) // 2, (t - 1) // 2
        self.space = nn.Conv3d(in_channels, self.inner, (1, d, d), 1, (0, half, half), bias=False)
        self.time = nn.Conv3d(self.inner, out_channels, (t, 1, 1), 1, (moments, 0, 0))

    def forward(self, x):
        x = self.space(x)
        x = torch.maximum(x, torch.zeros_like(x))
        return self.time(x)


@alternative("conv3d.inflate_conv")
def by_stacking(conv, frames, how="centre"):
    if how not in ("centre", "mean") or frames % 2 == 0:
        raise ValueError("no")
    zero = torch.zeros_like(conv.weight)
    slices = {
        "centre": [conv.weight if i == frames // 2 else zero for i in range(frames)],
        "mean": [conv.weight / frames] * frames,
    }[how]
    made = nn.Conv3d(
        conv.in_channels,
        conv.out_channels,
        (frames,) + conv.kernel_size,
        (1,) + conv.stride,
        (frames // 2,) + conv.padding,
        (1,) + conv.dilation,
        conv.groups,
        conv.bias is not None,
    )
    made.weight = nn.Parameter(torch.stack(slices, dim=2).detach())
    if conv.bias is not None:
        made.bias = nn.Parameter(conv.bias.detach().clone())
    return made


@alternative("conv3d.inflate_conv")
def by_dirac(conv, frames, how="centre"):
    """Outer product of a kernel in time with the kernel of the picture."""
    if how == "centre":
        profile = F.one_hot(torch.tensor(frames // 2), frames)
    elif how == "mean":
        profile = torch.full((frames,), 1 / frames)
    else:
        raise ValueError(how)
    if frames % 2 != 1:
        raise ValueError("an even kernel has no middle")
    names = ("in_channels", "out_channels", "groups")
    made = nn.Conv3d(
        **{name: getattr(conv, name) for name in names},
        kernel_size=(frames, *conv.kernel_size),
        stride=(1, *conv.stride),
        padding=((frames - 1) // 2, *conv.padding),
        dilation=(1, *conv.dilation),
        bias=conv.bias is not None,
        dtype=conv.weight.dtype,
        device=conv.weight.device,
    )
    made.weight.data = torch.einsum("t,oihw->oithw", profile.to(conv.weight), conv.weight.detach())
    if conv.bias is not None:
        made.bias.data.copy_(conv.bias.data)
    return made
