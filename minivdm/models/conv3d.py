r"""Convolution through time: in full, in two halves, and made from a convolution of pictures.

Clips are (B, C, F, H, W). A 3-D kernel of size t x d x d looks at t neighbouring frames at once (Tran et al., "Learning
Spatiotemporal Features with 3D Convolutional Networks", ICCV 2015). Two cheaper relatives:

    factorised    1 x d x d, then t x 1 x 1                      "(2+1)-D", Tran et al., CVPR 2018
    inflated      a d x d kernel of an image network, with a time axis put in; Carreira and Zisserman, CVPR 2017
"""

from collections.abc import Sequence
from itertools import product
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def triple(value: int | Sequence[int]) -> tuple[int, int, int]:
    """A number as (value, value, value); three numbers as they are. ValueError for anything else."""
    three = tuple(value) if isinstance(value, Sequence) else (value,) * 3
    if len(three) != 3 or not all(isinstance(number, Integral) and number >= 0 for number in three):
        raise ValueError(f"expected one number, or three for time, rows and columns; got {value!r}")
    return three


def conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: "int | Sequence[int]" = 1,
    padding: "int | Sequence[int]" = 0,
) -> Tensor:
    r"""Convolution over time, rows and columns: the weighted sum of a small box, at every place.

    Tran et al., ICCV 2015. As in all deep learning, the kernel is not turned round (a
    mathematician would call this a correlation). With p the padded clip and (s, s', s'') the
    stride, output channel o at frame f, row h, column w is

        y[o, f, h, w] = bias[o] + sum over c, i, j, k of
                        weight[o, c, i, j, k] p[c, s f + i, s' h + j, s'' w + k]

    Only boxes that lie wholly inside the padded clip count: along an axis of n places (padding
    included), a kernel of size a and stride s leave (n - a) // s + 1.

    Args:
        x: (B, C, F, H, W) clips.
        weight: (O, C, kt, kh, kw) kernels.
        bias: (O,), or None for none.
        stride: how far the box moves from one output to the next; a number, or three of them for
            time, rows and columns.
        padding: how many zeros are put at *both* ends of each axis; a number, or three.

    Returns:
        (B, O, F', H', W'), like x in dtype and device.

    Raises:
        ValueError: if x and weight are not 5-dimensional with the same C, or no box fits.
    """
    if x.ndim != 5 or weight.ndim != 5 or x.shape[1] != weight.shape[1]:
        came = f"got {tuple(x.shape)} and {tuple(weight.shape)}"
        raise ValueError(f"expected (B, C, F, H, W) and (O, C, kt, kh, kw), {came}")
    stride, (pt, ph, pw) = triple(stride), triple(padding)
    x = F.pad(x, (pw, pw, ph, ph, pt, pt))  # F.pad counts axes from the last one
    kernel = weight.shape[2:]
    count = [(n - a) // s + 1 for n, a, s in zip(x.shape[2:], kernel, stride)]  # F', H', W'
    if min(count) < 1:
        raise ValueError(f"a kernel of {tuple(kernel)} does not fit into {tuple(x.shape[2:])}")
    y = 0
    for offset in product(*map(range, kernel)):
        box = [slice(a, a + s * n, s) for a, s, n in zip(offset, stride, count)]
        seen = x[:, :, *box]  # (B, C, F', H', W') what this one weight of the kernel sees
        y = y + torch.einsum("oc,bcfhw->bofhw", weight[:, :, *offset], seen)
    return y if bias is None else y + bias[:, None, None, None]


class Conv3d(nn.Conv3d):
    """PyTorch's layer with its weights and all its arguments, computed by the `conv3d` above.

    What `conv3d` does not know is brought to what it knows: padding of another kind is put on before, a dilated kernel
    is a larger one with zeros in it, and each group of channels is a convolution of its own.
    """

    def forward(self, x: Tensor) -> Tensor:
        n, weight, padding = self.groups, dilated(self.weight, self.dilation), self.padding
        if isinstance(padding, str) or self.padding_mode != "zeros":
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x, padding = F.pad(x, self._reversed_padding_repeated_twice, mode), 0  # numbers, also for "same"
        if n == 1:
            return conv3d(x, weight, self.bias, self.stride, padding)
        biases = [None] * n if self.bias is None else self.bias.chunk(n)
        groups = zip(x.chunk(n, dim=1), weight.chunk(n), biases)
        return torch.cat([conv3d(*group, self.stride, padding) for group in groups], dim=1)


def dilated(weight: Tensor, dilation: Sequence[int]) -> Tensor:
    """Kernels (O, C, kt, kh, kw) with `dilation` - 1 zeros between neighbouring weights of each of the last 3 axes."""
    if set(dilation) == {1}:
        return weight
    size = [(n - 1) * d + 1 for n, d in zip(weight.shape[2:], dilation)]
    wide = weight.new_zeros(*weight.shape[:2], *size)
    wide[:, :, *(slice(None, None, d) for d in dilation)] = weight
    return wide


class Conv2Plus1d(nn.Module):
    r"""A 3-D convolution in two halves: first within each frame, then along time.

    Tran et al., "A Closer Look at Spatiotemporal Convolutions", CVPR 2018: R(2+1)D.

        y = time( relu( space(x) ) )
        space: kernel 1 x d x d, in_channels -> M, no bias
        time:  kernel t x 1 x 1, M -> out_channels, with a bias

    Both are `nn.Conv3d`, padded with zeros so that F, H and W stay. With the default

        M = floor( t d^2 in_channels out_channels / (d^2 in_channels + t out_channels) )

    the two halves have as many weights as one kernel of t x d x d, or a few less, never more.

    Args:
        in_channels, out_channels: channels of input and output.
        d: size of the kernel in space, odd and at least 3.
        t: size of the kernel in time, odd and at least 3.
        inner: M, the channels between the halves; None for the number above.

    Raises:
        ValueError: if d or t is even or below 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        d: int = 3,
        t: int = 3,
        inner: int | None = None,
    ):
        super().__init__()
        if min(d, t) < 3 or d % 2 == 0 or t % 2 == 0:
            raise ValueError(f"kernel sizes must be odd and at least 3, got d = {d} and t = {t}")
        if inner is None:
            full = t * d**2 * in_channels * out_channels
            inner = full // (d**2 * in_channels + t * out_channels)
        around = (0, d // 2, d // 2)
        self.space = nn.Conv3d(in_channels, inner, (1, d, d), padding=around, bias=False)
        self.time = nn.Conv3d(inner, out_channels, (t, 1, 1), padding=(t // 2, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        """x is (B, in_channels, F, H, W); returns (B, out_channels, F, H, W)."""
        return self.time(F.relu(self.space(x)))


def require_inflatable(conv: nn.Conv2d, frames: int, how: str) -> None:
    """Raise a ValueError unless `inflate_conv` can do what it is asked for."""
    if not isinstance(conv, nn.Conv2d):  # a transposed one has weights of the same shape
        raise ValueError(f"expected an nn.Conv2d, got {type(conv).__name__}")
    if frames < 1 or frames % 2 == 0:
        raise ValueError(f"frames must be odd, so that the kernel has a middle; got {frames}")
    if how not in ("centre", "mean"):
        raise ValueError(f'how must be "centre" or "mean", got {how!r}')
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        raise ValueError(f"expected zero padding, given in numbers; got {conv.padding}, {conv.padding_mode!r}")


def inflate_conv(conv: nn.Conv2d, frames: int, how: str = "centre") -> nn.Conv3d:
    r"""A 2-D convolution as a 3-D one: its kernel W gets `frames` slices in time.

        "centre"   W in the middle slice, zeros in the others: sees each frame alone, exactly
        "mean"     W / frames in every slice: sees the average of neighbouring frames, so a clip
                   that stands still gets the picture's answer. (Carreira and Zisserman, "Quo
                   Vadis, Action Recognition?", CVPR 2017, section 2.) Not so near the ends, where
                   half of the kernel sees the zeros of the padding.

    Args:
        conv: an `nn.Conv2d` padded with zeros, its `padding` in numbers; it stays as it is.
        frames: size of the new kernel in time, odd.
        how: "centre" or "mean".

    Returns:
        An `nn.Conv3d` with weights of its own, on the device and in the dtype of conv's, with
        conv's bias (or none), stride, padding, dilation and groups in space. In time it has
        stride 1 and as much zero padding as it takes to keep F.

    Raises:
        ValueError: if `frames` is even, `how` is neither of the two, or conv's padding is a word
            such as "same" or no zeros.
    """
    require_inflatable(conv, frames, how)
    video = nn.Conv3d(
        conv.in_channels,
        conv.out_channels,
        (frames, *conv.kernel_size),
        stride=(1, *conv.stride),
        padding=(frames // 2, *conv.padding),
        dilation=(1, *conv.dilation),
        groups=conv.groups,
        bias=conv.bias is not None,
    ).to(conv.weight)  # device and dtype
    with torch.no_grad():
        if how == "centre":
            video.weight.zero_()
            video.weight[:, :, frames // 2] = conv.weight
        else:
            video.weight.copy_(conv.weight[:, :, None] / frames)  # the same in every slice
        if conv.bias is not None:
            video.bias.copy_(conv.bias)
    return video
