"""Chapter 09 written in other ways: a loop, convolutions of pictures, unfolded boxes, stacks, outer products."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from minivdm.course.exercise import edited
from tests.checks.collected import alternative


@alternative("video_folder.frame_indices")
def indices_by_loop(available, frames, step=1.0, start=0.0):
    if frames < 1 or step < 1 or start < 0:
        raise ValueError("frames and step must be at least 1, start at least 0")
    found = [math.floor(start + k * step) for k in range(frames)]
    if found[-1] > available - 1:
        raise ValueError(f"{found[-1] + 1} frames needed, {available} there")
    return torch.tensor(found)


@alternative("conv3d.conv3d")
def pictures_shifted_in_time(x, weight, bias=None, stride=1, padding=0):
    (st, *s), (pt, *p) = ([v] * 3 if isinstance(v, int) else list(v) for v in (stride, padding))
    frames = F.pad(x, (0, 0, 0, 0, pt, pt)).unbind(2)
    fits = all(a <= n + 2 * around for n, around, a in zip(x.shape[2:], (pt, *p), weight.shape[2:]))
    if x.dim() != 5 or weight.dim() != 5 or x.size(1) != weight.size(1) or not fits:
        raise ValueError("shapes")
    starts, slices = range(0, len(frames) - weight.size(2) + 1, st), list(enumerate(weight.unbind(2)))
    y = torch.stack([sum(F.conv2d(frames[f + i], one, None, s, p) for i, one in slices) for f in starts], dim=2)
    return y if bias is None else y.add(bias[None, :, None, None, None])


@alternative("conv3d.Conv2Plus1d")
class WithSameAndClamp(nn.Module):
    def __init__(self, in_channels, out_channels, d=3, t=3, inner=None):
        nn.Module.__init__(self)
        if any(size not in range(3, 99, 2) for size in (d, t)):
            raise ValueError("odd, at least 3")
        weights = in_channels * out_channels * t * d * d
        self.inner = inner or int(weights / (in_channels * d * d + out_channels * t))
        self.space = nn.Conv3d(in_channels, self.inner, kernel_size=(1, d, d), padding="same", bias=False)
        self.time = nn.Conv3d(self.inner, out_channels, kernel_size=(t, 1, 1), padding="same")

    def forward(self, x):
        return self.time(self.space(x).clamp(min=0))


LINE = "torch.linspace(start, start + (frames - 1) * step, frames, dtype=torch.float64)"
UNFOLD = "x.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1]).unfold(4, kernel[2], stride[2])"
BOXES = f'torch.einsum("ocijk,bcfhwijk->bofhw", weight, {UNFOLD})'
MIDDLE = "video.weight.zero_()\n            video.weight[:, :, frames // 2] = conv.weight"
STACK = "torch.stack([conv.weight * (i == frames // 2) for i in range(frames)], dim=2)"
OUTER = 'torch.einsum("t,oihw->oithw", torch.eye(frames)[frames // 2].to(conv.weight), conv.weight)'
for name, changes in [
    ("video_folder.frame_indices", {"(start + k * step)": LINE}),
    ("conv3d.conv3d", {"y = 0": f"y = {BOXES}", "product(*map(range, kernel))": "()"}),
    ("conv3d.Conv2Plus1d", {"F.relu(self.space(x))": "torch.maximum(self.space(x), torch.zeros(()))"}),
    ("conv3d.inflate_conv", {MIDDLE: f"video.weight = nn.Parameter({STACK})"}),
    ("conv3d.inflate_conv", {MIDDLE: f"video.weight.data = {OUTER}", "bias.copy_(": "bias.data.copy_("}),
]:
    alternative(name)(edited(name, changes))
