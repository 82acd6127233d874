"""Exercise 9.2: convolution through time."""

from itertools import product

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from minivdm.course.exercise import close, exercise, holds, raises


def box_by_box(x, weight, bias, stride, padding):
    """The definition, one output number at a time, in float64."""
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


CASES = [  # what, size of clip, kernel, has a bias, arguments, stride and padding in full
    ("no padding, stride 1", (4, 5, 6), (2, 3, 3), False, {}, (1, 1, 1), (0, 0, 0)),
    ("with a bias", (3, 4, 5), (3, 2, 3), True, {}, (1, 1, 1), (0, 0, 0)),
    ("padding = 1", (3, 4, 3), (3, 3, 3), True, {"padding": 1}, (1, 1, 1), (1, 1, 1)),
    ("padding = (2, 0, 1)", (3, 4, 5), (3, 2, 2), False, {"padding": (2, 0, 1)}, (1, 1, 1), (2, 0, 1)),
    ("stride = 2", (5, 6, 7), (3, 2, 1), False, {"stride": 2}, (2, 2, 2), (0, 0, 0)),
    (
        "stride = (1, 3, 2), padding = (1, 0, 1)",
        (3, 7, 5),
        (3, 3, 3),
        True,
        {"stride": (1, 3, 2), "padding": (1, 0, 1)},
        (1, 3, 2),
        (1, 0, 1),
    ),
    ("a kernel of one place", (2, 3, 4), (1, 1, 1), True, {}, (1, 1, 1), (0, 0, 0)),
]


@exercise("conv3d.conv3d")
def conv3d(f, draw):
    with Listening() as mode:
        for what, size, kernel, has_bias, given, stride, padding in CASES:
            channels, out = draw.integers(2, 3), draw.integers(4, 5)
            x, weight = draw.normal(2, channels, *size), draw.normal(out, channels, *kernel)
            bias = draw.normal(out) if has_bias else None
            want = box_by_box(x, weight, bias, stride, padding)
            yield close(what, f(x, weight, bias, **given), want, atol=1e-4, dtype=torch.float32)
    x, weight, bias = draw.normal(2, 3, 4, 3, 3), draw.normal(4, 3, 2, 2, 2), draw.normal(4)
    want = box_by_box(x, weight, bias, (1, 1, 1), (0, 0, 0))
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


def conv_with(mistake, x, weight, bias, stride, padding):
    """A loop over the kernel's places with room for one mistake."""
    if mistake != "no refusal" and (x.ndim != 5 or x.shape[1] != weight.shape[1]):
        raise ValueError
    stride, padding = (v if isinstance(v, tuple) else (v,) * 3 for v in (stride, padding))
    stride = (1, 1, 1) if mistake == "no stride" else (1, *stride[1:]) if mistake == "no time stride" else stride
    stride = stride[::-1] if mistake == "stride order" else stride
    padding = {"no padding": (0, 0, 0), "no time padding": (0, *padding[1:]), "same": None}.get(mistake, padding)
    padding = padding or tuple(a // 2 for a in weight.shape[2:])
    padding = (padding[0], *padding[:0:-1]) if mistake == "rows and columns" else padding
    unpadded = x.shape[2:]
    ends = [(p, 0 if mistake == "one end" else p) for p in padding]
    ends = ends if mistake == "pad order" else ends[::-1]
    x = F.pad(x, sum(ends, ()), mode="replicate" if mistake == "replicate" else "constant")
    weight = weight.flip(2, 3, 4) if mistake == "flipped" else weight
    weight = weight.flip(2) if mistake == "backwards" else weight
    kernel = weight.shape[2:]
    one = 0 if mistake == "no one" else 1
    sizes = unpadded if mistake == "unpadded size" else x.shape[2:]
    count = [(n - a) // s + one for n, a, s in zip(sizes, kernel, stride)]
    if mistake != "no refusal" and min(count) < one:
        raise ValueError
    y = 0
    for i, j, k in product(*map(range, kernel)):
        lengths = [n if mistake == "short slices" else s * n for s, n in zip(stride, count)]
        box = [slice(a, a + length, s) for a, length, s in zip((i, j, k), lengths, stride)]
        part = weight[:, :, i, j, k]
        part = part.detach() if mistake == "detached" else part
        part = part[:, :1] if mistake == "one channel" else part
        seen = x[:, :1, *box] if mistake == "one channel" else x[:, :, *box]
        y = y + torch.einsum("oc,bcfhw->bofhw", part, seen)
        if bias is not None and mistake == "bias every time":
            y = y + bias.reshape(-1, 1, 1, 1)
    y = y / (kernel[0] * kernel[1] * kernel[2]) if mistake == "mean" else y
    y = y.float() if mistake == "float32" else y
    if bias is None or mistake in ("no bias", "bias every time"):
        return y
    return y + (bias if mistake == "bias axis" else bias.reshape(-1, 1, 1, 1))


def wrong(mistake, hint):
    """Add a misconception: the loop with one mistake in it."""

    def made(x, weight, bias=None, stride=1, padding=0):
        return conv_with(mistake, x, weight, bias, stride, padding)

    conv3d.misconception(mistake, hint)(made)


wrong("flipped", "The kernel is turned round, as mathematicians do it. Here entry 0 meets the first frame.")
wrong("backwards", "The kernel runs backwards in time: its entry 0 belongs to the earliest of the frames it sees.")
wrong("pad order", "F.pad counts axes from the *last*: columns first, time last. Here time gets the columns' padding.")
wrong("one end", "Zeros are put at one end of each axis only. They belong at both.")
wrong("no padding", "`padding` has no effect: put zeros around the clip first.")
wrong("no time padding", "Rows and columns are padded, but not time, so frames are lost at both ends of the clip.")
wrong("same", "The padding is half the kernel, whatever `padding` says. Take the numbers that are given.")
wrong("replicate", "Beyond the edge the clip is continued by its last frames and pixels. Padding is zeros.")
wrong("no stride", "`stride` has no effect: from one output to the next, the box moves by so many places.")
wrong("no time stride", "The stride works in rows and columns, but not in time. It has three numbers.")
wrong("no one", "One place is missing on each axis: n places have room for (n - a) // s + 1 boxes.")
wrong("no bias", "The bias is not added: one number per output channel.")
wrong("bias axis", "The bias, (O,), is lined up with the columns. Give it the shape (O, 1, 1, 1).")
wrong("bias every time", "The bias is added once for each place of the kernel. Add it once, at the end.")
wrong("stride order", "The three strides are in the wrong order: time first, then rows, then columns.")
wrong("rows and columns", "The padding of rows and that of columns are swapped. F.pad wants columns first, then rows.")
wrong("short slices", "With stride s, a slice from i to i + n holds only n / s places. It ends at i + s (n - 1) + 1.")
wrong("unpadded size", "The number of places is computed from the clip as it came. Take the padded one.")
wrong("float32", "The result is float32, whatever x is. Make new tensors with x.new_zeros, or in x's dtype.")
wrong("mean", "This is the mean over the box. A convolution is the weighted *sum*.")
wrong("one channel", "Only the first input channel is seen. The sum runs over all of them.")
wrong("detached", "No gradient reaches the weights, so nothing could be learnt. Leave out detach, .data and no_grad.")
wrong("no refusal", "Clips and kernels that do not fit go through, or fail obscurely. Raise a ValueError first.")


@conv3d.misconception(
    "PyTorch does the work",
    "The result is right, but PyTorch's conv3d has made it. Write the sum yourself: over the places of the kernel.",
)
def _(x, weight, bias=None, stride=1, padding=0):
    if x.ndim != 5 or x.shape[1] != weight.shape[1]:
        raise ValueError
    try:
        return F.conv3d(x, weight, bias, stride, padding)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
