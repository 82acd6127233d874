"""Exercise 9.3: a 3-D convolution in two halves."""

import torch
from torch import nn
from torch.nn import functional as F

from minivdm.course.exercise import close, equal, exercise, holds, raises

from .ch04_common import fresh


def in_loops(block, x):
    """The block's equations in float64, on its own weights: frame by frame, then moment by moment."""
    space, time = block.space.weight.double()[:, :, 0], block.time.weight.double()[:, :, :, 0, 0]
    d, t = space.shape[-1], time.shape[-1]
    bias = block.time.bias.double()[:, None, None]
    frames = [F.conv2d(frame.double(), space, padding=d // 2).clamp(min=0) for frame in x.unbind(2)]
    out = []
    for now in range(len(frames)):
        near = [(k, now + k - t // 2) for k in range(t)]
        parts = [torch.einsum("om,bmhw->bohw", time[:, :, k], frames[i]) for k, i in near if 0 <= i < len(frames)]
        out.append(sum(parts) + bias)
    return torch.stack(out, dim=2)


def matched(a, b, d, t):
    """The largest M for which two halves have at most as many weights as one kernel, found by trying."""
    m = 1
    while a * (m + 1) * d * d + (m + 1) * b * t <= a * b * d * d * t:
        m += 1
    return m


def described(layer):
    """What a convolution is made of."""
    if not isinstance(layer, nn.Conv3d):
        return f"a {type(layer).__name__}"
    return f"{layer.in_channels} -> {layer.out_channels}, kernel {layer.kernel_size}, bias: {layer.bias is not None}"


SIZES = {  # d, t: channels in and out; the number of channels between is to be rounded down by more or less than 1/2
    (3, 3): [(12, 20), (9, 14), (20, 7), (16, 27)],
    (5, 3): [(3, 16), (9, 14), (16, 27), (5, 9)],
    (3, 5): [(3, 16), (8, 21), (24, 10), (17, 40)],
}


@exercise("conv3d.Conv2Plus1d")
def conv2plus1d(f, draw):
    for (d, t), channels in SIZES.items():
        a, b = draw.choice(channels)
        block, m = f(a, b, d, t), matched(a, b, d, t)
        name = f"{a} -> {b} channels, d = {d}, t = {t}"
        there = hasattr(block, "space") and hasattr(block, "time")
        came = f"expected self.space and self.time, got {[part for part, _ in block.named_children()]}"
        yield holds("the names of the layers", there, came, usable=False)
        want = f"{a} -> {m}, kernel {(1, d, d)}, bias: False"
        yield equal(f"space, {name}", described(block.space), want, usable=False)
        want = f"{m} -> {b}, kernel {(t, 1, 1)}, bias: True"
        yield equal(f"time, {name}", described(block.time), want, usable=False)
        x, block = draw.normal(2, a, 6, 5, 7), fresh(block, draw)
        yield close(f"output, {name}", block(x), in_loops(block, x), atol=1e-4, dtype=torch.float32)
    inner = draw.integers(4, 9)
    block = f(6, 5, inner=inner)
    yield equal(f"inner = {inner}", (block.space.out_channels, block.time.in_channels), (inner, inner))
    for d, t in [(2, 3), (3, 4), (1, 3), (3, 1)]:
        yield raises(f"d = {d}, t = {t}", ValueError, lambda d=d, t=t: f(4, 4, d, t))


class _Halves:
    """A block with room for one mistake."""

    mistake = ""

    def __init__(self, in_channels, out_channels, d=3, t=3, inner=None):
        nn.Module.__init__(self)
        a, b, mistake = in_channels, out_channels, self.mistake
        if (d < 3 or t < 3 or d % 2 == 0 or t % 2 == 0) and mistake != "no refusal":
            raise ValueError
        m = t * d**2 * a * b // (d**2 * a + t * b)
        m = {
            "swapped": t * d**2 * a * b // (t * a + d**2 * b),
            "rounded up": -(-t * d**2 * a * b // (d**2 * a + t * b)),
            "rounded": round(t * d**2 * a * b / (d**2 * a + t * b)),
            "no t": d**2 * a * b // (d**2 * a + t * b),
            "d once": t * d * a * b // (d * a + t * b),
            "out": b,
            "geometric": int((a * b) ** 0.5),
        }.get(mistake, m)
        m = m if inner is None or mistake == "no inner" else inner
        flat, long = (1, d, d), (t, 1, 1)
        flat, long = ((1, t, t), (d, 1, 1)) if mistake == "sizes swapped" else (flat, long)
        flat, long = ((d, d, 1), (1, 1, t)) if mistake == "time last" else (flat, long)
        pad = [tuple(n // 2 for n in kernel) for kernel in (flat, long)]
        pad = [pad[0], 0] if mistake == "no time padding" else [0, pad[1]] if mistake == "no space padding" else pad
        pad = {"padding 1": [1, (1, 0, 0)], "for 3": [(0, 1, 1), (1, 0, 0)], "no padding": [0, 0]}.get(mistake, pad)
        self.space = nn.Conv3d(a, m, flat, padding=pad[0], bias=mistake == "space bias")
        self.time = nn.Conv3d(m, b, long, padding=pad[1], bias=mistake != "no bias")

    def forward(self, x):
        h = self.space(x)
        h = h if self.mistake == "no relu" else F.silu(h) if self.mistake == "silu" else F.relu(h)
        h = self.time(h)
        return F.relu(h) if self.mistake == "relu last" else h + x.sum() * 0


def wrong(mistake, hint):
    """Add a misconception: the block with one mistake."""
    conv2plus1d.misconception(mistake, hint)(type("Wrong", (_Halves,), {"mistake": mistake}))


wrong("no relu", "Nothing stands between the halves, so together they are one linear map. Put a ReLU there.")
wrong("relu last", "A ReLU follows the second half, too. The block ends with `time`, as a convolution would.")
wrong("silu", "The activation between the halves is a SiLU; the paper, and this docstring, have a ReLU.")
wrong("swapped", "In the formula's denominator, d^2 goes with in_channels and t with out_channels. Yours are swapped.")
wrong("rounded up", "M is rounded up, and the block has more weights than the 3-D kernel. Round down: `//`.")
wrong("rounded", "M is rounded to the nearest number, and sometimes up. Round down: `//`.")
wrong("no t", "t is missing in the numerator of M: the 3-D kernel has t d^2 in_channels out_channels weights.")
wrong("time last", "The kernels have their time axis last. In PyTorch it comes first: (time, rows, columns).")
wrong("d once", "A kernel of d x d has d^2 weights; in the formula d stands only once.")
wrong("out", "The channels in between are out_channels. M is larger: it spends the weights that a 3-D kernel has.")
wrong("geometric", "This is the mean of the two channel counts in some sense, but not M, which also knows d and t.")
wrong("space bias", "`space` has a bias. It should have none: with one, there can be more parameters than in 3-D.")
wrong("no bias", "`time` has no bias, but a 3-D convolution has one, too. Leave it out of `space` only.")
wrong("sizes swapped", "d and t are swapped: `space` has the kernel 1 x d x d, and `time` t x 1 x 1.")
wrong("no time padding", "Frames are lost at both ends: pad time by t // 2.")
wrong("no space padding", "The frames shrink: pad rows and columns by d // 2.")
wrong("no padding", "Without padding, frames, rows and columns are lost: pad by half the kernel, d // 2 and t // 2.")
wrong("for 3", "A padding of 1 keeps the size with a kernel of 3 only. It takes d // 2 in space and t // 2 in time.")
wrong("padding 1", "padding=1 pads all three axes, also the one on which the kernel has size 1. Give three numbers.")
wrong("no inner", "`inner` has no effect. If a number is given, it is M.")
wrong("no refusal", "An even size or one below 3 goes through. Such a kernel has no middle, or nothing around it.")
