"""Exercise 9.2: convolution through time."""

from itertools import product

import torch
from torch.overrides import TorchFunctionMode

from minivdm.course.exercise import close, exercise, holds, raises


def box_by_box(x, weight, bias, stride=1, padding=0):
    """The definition, one output number at a time, in float64."""
    stride, padding = (v if isinstance(v, tuple) else (v, v, v) for v in (stride, padding))
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


CASES = [  # size of the clip, kernel, has a bias, other arguments
    ((4, 5, 6), (2, 3, 3), False, {}),
    ((3, 4, 5), (3, 2, 3), True, {}),
    ((3, 4, 3), (3, 3, 3), True, {"padding": 1}),
    ((3, 4, 5), (3, 2, 2), False, {"padding": (2, 0, 1)}),
    ((5, 6, 7), (3, 2, 1), False, {"stride": 2}),
    ((3, 7, 5), (3, 3, 3), True, {"stride": (1, 3, 2), "padding": (1, 0, 1)}),
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
            yield close(what, f(x, weight, bias, **given), want, atol=1e-4, dtype=torch.float32)
    x, weight, bias = draw.normal(2, 3, 4, 3, 3), draw.normal(4, 3, 2, 2, 2), draw.normal(4)
    want = box_by_box(x, weight, bias)
    for dtype, within in {torch.float64: 1e-6, torch.bfloat16: 0.2}.items():
        y = f(x.to(dtype), weight.to(dtype), bias.to(dtype))
        yield close(f"in {str(dtype).removeprefix('torch.')}", y, want, atol=within, rtol=0.05, dtype=dtype)
    yield holds("the work is done here", not mode.asked, "it was handed to PyTorch's own 3-D convolution")
    weight = draw.normal(2, 3, 2, 2, 2).requires_grad_()
    y = f(draw.normal(1, 3, 3, 3, 3), weight)
    yield holds("the result can be trained", torch.is_tensor(y) and y.requires_grad, "no gradient reaches the weights")
    x = draw.normal(1, 3, 4, 4, 4)
    for what, clip, kernel in [
        ("3 channels, and kernels for 1", x, draw.normal(2, 1, 2, 2, 2)),
        ("a picture instead of a clip", x[:, :, 0], draw.normal(2, 3, 2, 2, 2)),
        ("a kernel of 5 frames on a clip of 4", x, draw.normal(2, 3, 5, 2, 2)),
    ]:
        yield raises(what, ValueError, lambda clip=clip, kernel=kernel: f(clip, kernel))


conv3d.edit(
    "flipped",
    {"weight[:, :, *offset]": "weight.flip(2, 3, 4)[:, :, *offset]"},
    "The kernel is turned round, as mathematicians do it. Here entry 0 meets the first frame.",
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
conv3d.edit(
    "float32",
    {"y = 0": "y = torch.zeros(len(x), len(weight), *count)", "y = y +": "y +="},
    "The result is float32, whatever x is. Make new tensors with x.new_zeros, or in x's dtype.",
)
conv3d.edit(
    "no refusal",
    {"raise ValueError": "ValueError"},
    "Clips and kernels that do not fit go through, or fail obscurely. Raise a ValueError first.",
)
conv3d.edit(
    "PyTorch does the work",
    {"y = 0": "return F.conv3d(x, weight, bias, stride)"},
    "The result is right, but PyTorch's conv3d has made it. Write the sum yourself: over the places of the kernel.",
)
