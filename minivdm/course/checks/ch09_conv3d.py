"""Exercise 9.2: convolution through time."""

from itertools import product

import torch
from torch.overrides import TorchFunctionMode

from minivdm.course.exercise import close, exercise, holds, raises


def box_by_box(x, weight, bias, stride=1, padding=0):
    """The definition, one output number at a time, in float64."""
    stride, padding = ((v, v, v) if isinstance(v, int) else v for v in (stride, padding))
    (b, c, *size), (o, _, *kernel) = x.shape, weight.shape
    padded = torch.zeros(b, c, *(n + 2 * p for n, p in zip(size, padding)), dtype=torch.float64)
    padded[:, :, *(slice(p, p + n) for n, p in zip(size, padding))] = x.double()
    count = [(n - a) // s + 1 for n, a, s in zip(padded.shape[2:], kernel, stride)]
    y = torch.zeros(b, o, *count, dtype=torch.float64)
    for place in product(*map(range, count)):
        box = padded[:, :, *(slice(s * i, s * i + a) for i, a, s in zip(place, kernel, stride))]
        y[:, :, *place] = (box[:, None] * weight.double()).flatten(2).sum(2)
    return y if bias is None else y + bias.double().reshape(-1, 1, 1, 1)


class Listening(TorchFunctionMode):
    """Notes whether PyTorch's own 3-D convolution was asked."""

    asked = False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.asked |= getattr(function, "__name__", "") in ("conv3d", "convolution", "_convolution", "conv_transpose3d")
        return function(*args, **(kwargs or {}))


CASES = [  # size of the clip, kernel, has a bias, other arguments: one axis after the other, then all together
    ((4, 5, 6), (2, 3, 3), False, {}),
    ((3, 4, 5), (3, 2, 3), True, {}),
    *[((3, 4, 5), (2, 1, 3), False, {"padding": padding}) for padding in [(1, 0, 0), (0, 1, 0), (0, 0, 1)]],
    ((3, 4, 3), (3, 3, 3), True, {"padding": 1}),
    ((3, 4, 5), (3, 2, 2), False, {"padding": [2, 0, 1]}),
    ((2, 3, 4), (4, 5, 2), True, {"padding": (1, 1, 0)}),
    *[((5, 6, 7), (2, 3, 1), False, {"stride": stride}) for stride in [(2, 1, 1), (1, 2, 1), (1, 1, 2)]],
    ((5, 6, 7), (3, 2, 1), False, {"stride": 2}),
    ((3, 7, 5), (3, 3, 3), True, {"stride": [1, 3, 2], "padding": (1, 0, 1)}),
    ((2, 3, 4), (1, 1, 1), True, {}),
]


@exercise("conv3d.conv3d")
def conv3d(f, draw):
    with Listening() as mode:
        for size, kernel, has_bias, given in CASES:
            channels, out = draw.integers(2, 3), draw.integers(4, 5)
            x, weight = draw.normal(2, channels, *size), draw.normal(out, channels, *kernel)
            bias = draw.normal(out) if has_bias else None
            what = f"kernel {kernel}, {'with' if has_bias else 'without'} a bias"
            what += "".join(f", {name} = {value}" for name, value in given.items())
            want = box_by_box(x, weight, bias, **given)
            given = {name: value[:] if isinstance(value, list) else value for name, value in given.items()}
            yield close(what, f(x, weight, bias, **given), want, atol=1e-4, dtype=torch.float32)
    yield holds("the work is done here", not mode.asked, "it was handed to PyTorch's own 3-D convolution")
    x, weight, bias = draw.normal(2, 3, 4, 3, 3), draw.normal(4, 3, 2, 2, 2), draw.normal(4)
    y, short = f(*(each.to(torch.bfloat16) for each in (x, weight, bias))), torch.bfloat16
    yield close("in bfloat16", y, box_by_box(x, weight, bias), atol=0.2, rtol=0.05, dtype=short)
    x, weight = draw.normal(2, 3, 4, 5, 6), draw.normal(2, 3, 2, 2, 2)
    for what, clip, kernel in [
        ("3 channels, and kernels for 1", x, weight[:, :1]),
        ("1 channel, and kernels for 3", x[:, :1], weight),
        ("pictures (B, C, H, W)", x[:, :, 0], weight),
        ("a clip (C, F, H, W) without an axis of samples", draw.normal(3, 3, 5, 6), weight),
        ("kernels of pictures, (O, C, kh, kw)", x, weight[:, :, 0]),
        ("one kernel (C, kt, kh, kw)", x, draw.normal(3, 3, 2, 2)),
        ("a kernel of 5 frames on a clip of 4", x, draw.normal(2, 3, 5, 2, 2)),
        ("a kernel of 6 rows on a clip of 5", x, draw.normal(2, 3, 2, 6, 2)),
        ("a kernel of 7 columns on a clip of 6", x, draw.normal(2, 3, 2, 2, 7)),
    ]:
        yield raises(what, ValueError, lambda clip=clip, kernel=kernel: f(clip, kernel))
    kernel = draw.normal(2, 3, 3, 8, 3)
    yield raises("a kernel of 8 rows on a clip of 5, padded to 7", ValueError, lambda: f(x, kernel, padding=1))


@conv3d.promises("samples", "dtype", "layout", "device", "gradients")
def ordinary(f, draw):
    x, weight, bias = draw.normal(2, 3, 5, 6, 4), draw.normal(4, 3, 2, 3, 1), draw.normal(4)
    return f, dict(x=x, weight=weight, bias=bias, stride=(1, 2, 1), padding=(1, 0, 2))


conv3d.edit(
    "flipped",
    {"weight[:, :, *offset]": "weight.flip(2, 3, 4)[:, :, *offset]"},
    "The kernel is turned round, as mathematicians do it. Here entry 0 meets the first frame.",
)
conv3d.edit(
    "flipped in time",
    {"weight[:, :, *offset]": "weight.flip(2)[:, :, *offset]"},
    "The kernel is turned round in time. Its entry 0 meets the first frame of the box.",
)
conv3d.edit(
    "rows for columns",
    {"weight[:, :, *offset]": "weight.transpose(3, 4)[:, :, *offset]"},
    "The kernel's rows and columns are exchanged: a weight is (O, C, time, rows, columns).",
)
conv3d.edit(
    "not zeros",
    {"ph, pt, pt)": "ph, pt, pt), mode='replicate'"},
    "Around the clip its edge is repeated. There, zeros stand.",
)
conv3d.edit(
    "strided first",
    {"count =": "x, stride = x[:, :, :: stride[0], :: stride[1], :: stride[2]], (1, 1, 1)\n    count ="},
    "The stride thins out the clip, and the kernel sees what is left. It says how far the whole box moves.",
)
conv3d.edit(
    "pad order",
    {"(pw, pw, ph, ph, pt, pt)": "(pt, pt, ph, ph, pw, pw)"},
    "F.pad counts axes from the *last*: columns first, time last. Here time gets the columns' padding.",
)
conv3d.edit(
    "no padding",
    {"F.pad(x, (pw, pw, ph, ph, pt, pt))": "x"},
    "`padding` has no effect: put zeros around the clip first.",
)
conv3d.edit(
    "no stride",
    {"triple(stride)": "triple(1)"},
    "`stride` has no effect: from one output to the next, the box moves by so many places.",
)
conv3d.edit(
    "no one", {"// s + 1": "// s"}, "One place is missing on each axis: n places have room for (n - a) // s + 1 boxes."
)
conv3d.edit(
    "short slices",
    {"a + s * n": "a + n"},
    "With stride s, a slice from i to i + n holds only n / s places. It ends at i + s (n - 1) + 1.",
)
conv3d.edit(
    "unpadded size",
    {"x = F.pad(": "clip, x = x, F.pad(", "zip(x.shape": "zip(clip.shape"},
    "The number of places is computed from the clip as it came. Take the padded one.",
)
conv3d.edit(
    "bias axis",
    {"bias[:, None, None, None]": "bias"},
    "The bias, (O,), is lined up with the columns. Give it the shape (O, 1, 1, 1).",
)
