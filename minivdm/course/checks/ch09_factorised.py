"""Exercise 9.3: a 3-D convolution in two halves."""

import torch
from torch import nn
from torch.nn import functional as F

from minivdm.course.exercise import equal, exercise, holds, raises

from .ch04_common import fresh
from .common import layer_probes


def in_loops(block, x):
    """The block's equations in float64, on its own weights: frames, then moments; and what `time` is given."""
    space, time = block.space.weight.double()[:, :, 0], block.time.weight.double()[:, :, :, 0, 0]
    d, t = space.shape[-1], time.shape[-1]
    bias = block.time.bias.double()[:, None, None, None]
    frames = [F.conv2d(frame.double(), space, padding=d // 2).clamp(min=0) for frame in x.unbind(2)]
    none = [torch.zeros_like(frames[0])] * (t // 2)
    seen = torch.stack([*none, *frames, *none], dim=2).unfold(2, t, 1)  # (B, M, F, H, W, t)
    return torch.einsum("omk,bmfhwk->bofhw", time, seen) + bias, {"time": torch.stack(frames, dim=2)}


def matched(a, b, d, t):
    """The largest M for which two halves have at most as many weights as one kernel, found by trying."""
    m = 1
    while a * (m + 1) * d * d + (m + 1) * b * t <= a * b * d * d * t:
        m += 1
    return m


def kernel_of(layer):
    """A convolution's kernel, and whether it has a bias, in words."""
    if not isinstance(layer, nn.Conv3d):
        return f"a {type(layer).__name__}"
    return f"kernel {tuple(layer.kernel_size)}, bias: {layer.bias is not None}"


SIZES = {  # d, t: channels in and out; the number of channels between is to be rounded down by more or less than 1/2
    (3, 3): [(20, 7), (12, 20), (9, 14), (16, 27)],
    (5, 3): [(3, 16), (9, 14), (16, 27), (5, 9)],
    (3, 5): [(3, 16), (8, 21), (24, 10), (17, 40)],
}


@exercise("conv3d.Conv2Plus1d")
def conv2plus1d(f, draw):
    for (d, t), channels in SIZES.items():
        for a, b in (channels[0], draw.choice(channels[1:])):
            block, m = f(a, b, d, t), matched(a, b, d, t)
            name = f"{a} -> {b} channels, d = {d}, t = {t}"
            there = hasattr(block, "space") and hasattr(block, "time")
            came = f"expected self.space and self.time, got {[part for part, _ in block.named_children()]}"
            yield holds("the names of the layers", there, came, usable=False)
            for half, size, bias in (("space", (1, d, d), False), ("time", (t, 1, 1), True)):
                want = f"kernel {size}, bias: {bias}"
                yield equal(f"self.{half}, {name}", kernel_of(getattr(block, half)), want, usable=False)
            ends = (block.space.in_channels, block.time.out_channels, block.time.in_channels)
            yield equal(f"in, out, and what time takes, {name}", ends, (a, b, block.space.out_channels), usable=False)
            weights = block.space.weight.numel() + block.time.weight.numel()
            what = f"M, {name}: one kernel has {a * b * d * d * t} weights, these halves {weights}"
            yield equal(what, block.space.out_channels, m)
            x, block = 20 * draw.normal(2, a, 6, 5, 7), fresh(block, draw)
            like = dict(atol=2e-3, dtype=torch.float32)
            yield from layer_probes(f"output, {name}", block, (x,), *in_loops(block, x), **like)
    inner = draw.integers(4, 9)
    block = f(6, 5, inner=inner)
    yield equal(f"inner = {inner}", (block.space.out_channels, block.time.in_channels), (inner, inner))
    for d, t in [(2, 3), (3, 4), (1, 3), (3, 1), (-3, 3), (4, 2), (6, 5)]:
        yield raises(f"d = {d}, t = {t}", ValueError, lambda d=d, t=t: f(4, 4, d, t))


@conv2plus1d.promises("samples", "dtype", "layout", "device", "gradients")
def ordinary(f, draw):
    return fresh(f(4, 5, 3, 5, inner=6), draw), dict(x=draw.normal(2, 4, 7, 3, 8))


conv2plus1d.edit(
    "swapped",
    {"(d**2 * in_channels + t * out_channels)": "(t * in_channels + d**2 * out_channels)"},
    "In the formula's denominator, d^2 goes with in_channels and t with out_channels. Yours are swapped.",
)
conv2plus1d.edit(
    "rounded",
    {"full // (d**2 * in_channels + t * out_channels)": "round(full / (d**2 * in_channels + t * out_channels))"},
    "M is rounded up, or to the nearest number. Round down, `//`, or there are more weights than in 3-D.",
)
conv2plus1d.edit("d once", {"d**2": "d"}, "A kernel of d x d has d^2 weights; in the formula d stands only once.")
conv2plus1d.edit(
    "out",
    {"inner = full // (d**2 * in_channels + t * out_channels)": "inner = out_channels"},
    "The channels in between are out_channels. M is larger: it spends the weights that a 3-D kernel has.",
)
conv2plus1d.edit(
    "time last",
    {"(1, d, d)": "(d, d, 1)", "(t, 1, 1)": "(1, 1, t)"},
    "The kernels have their time axis last. In PyTorch it comes first: (time, rows, columns).",
)
conv2plus1d.edit(
    "space bias",
    {", bias=False": ""},
    "`space` has a bias. It should have none: with one, there can be more parameters than in 3-D.",
)
conv2plus1d.edit(
    "no padding",
    {"padding=around": "padding=0", "(t // 2, 0, 0)": "0"},
    "Without padding, frames, rows and columns are lost: pad by half the kernel, d // 2 and t // 2.",
)
conv2plus1d.edit(
    "for 3",
    {"d // 2, d // 2": "1, 1", "t // 2": "1"},
    "A padding of 1 keeps the size with a kernel of 3 only. It takes d // 2 in space and t // 2 in time.",
)
conv2plus1d.edit("no inner", {"if inner is None": "if True"}, "`inner` has no effect. If a number is given, it is M.")
conv2plus1d.edit(
    "no refusal",
    {"if min(d, t) < 3 or d % 2 == 0 or t % 2 == 0": "if False"},
    "An even size or one below 3 goes through. Such a kernel has no middle, or nothing around it.",
)
