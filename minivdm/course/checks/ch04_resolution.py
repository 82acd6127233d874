"""Exercises 4.4 and 4.5: half the size, and twice the size."""

import torch
from torch import nn
from torch.nn import functional as F

from minivdm.course.exercise import close, equal, exercise

from .ch04_common import column, convolved, fresh


@exercise("layers.Downsample")
def downsample(f, draw):
    layer = f(8)
    weights = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    yield equal("names and shapes of the weights", weights, {"conv.weight": (8, 8, 3, 3), "conv.bias": (8,)})
    x = draw.normal(2, 8, 6, 10)
    fresh(layer, draw)
    padded = torch.zeros(2, 8, 8, 12, dtype=torch.float64)
    padded[:, :, 1:-1, 1:-1] = x
    want = column(layer.conv.bias)
    for u in range(3):
        for v in range(3):
            part = padded[:, :, u : u + 6 : 2, v : v + 10 : 2]  # (2, 8, 3, 5)
            want = want + torch.einsum("oc,bchw->bohw", layer.conv.weight[:, :, u, v].double(), part)
    yield close("6 x 10 pixels", layer(x), want, atol=1e-4, dtype=torch.float32)


class _Conv:
    """A wrong Downsample in one line: its convolution."""

    def forward(self, x):
        return self.conv(x)


@downsample.misconception("no padding", "The edge gets lost, because there is no padding: nn.Conv2d(..., padding=1).")
class _(_Conv):
    def __init__(self, channels):
        nn.Module.__init__(self)
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)


@downsample.misconception(
    "off by one",
    "The windows are off by one: they are centred on (2i + 1, 2j + 1), as with zeros on the right and below alone. "
    "padding=1 in nn.Conv2d puts zeros on all sides, and with stride=2 the first window is centred on (0, 0).",
)
class _:
    def __init__(self, channels):
        nn.Module.__init__(self)
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


@downsample.misconception("no stride", "The size stays as it is: the convolution moves by one pixel. Give it stride=2.")
class _(_Conv):
    def __init__(self, channels):
        nn.Module.__init__(self)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)


@downsample.misconception("a 2 x 2 kernel", "The kernel is 2 x 2. A 3 x 3 kernel overlaps with its neighbours.")
class _(_Conv):
    def __init__(self, channels):
        nn.Module.__init__(self)
        self.conv = nn.Conv2d(channels, channels, 2, stride=2)


@downsample.misconception("a 4 x 4 kernel", "The kernel is 4 x 4, which some programs use. Here it is 3 x 3.")
class _(_Conv):
    def __init__(self, channels):
        nn.Module.__init__(self)
        self.conv = nn.Conv2d(channels, channels, 4, stride=2, padding=1)


@downsample.misconception("no bias", "The convolution has no bias. Leave it on, which is the default.")
class _(_Conv):
    def __init__(self, channels):
        nn.Module.__init__(self)
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False)


@downsample.misconception(
    "channel by channel",
    "With groups=channels each channel is filtered alone. All outputs look at all input channels: leave groups out.",
)
class _(_Conv):
    def __init__(self, channels):
        nn.Module.__init__(self)
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels)


@downsample.misconception(
    "average of four",
    "Pixels are averaged after a convolution at full size. Here the convolution itself moves by two pixels: stride=2.",
)
class _:
    def __init__(self, channels):
        nn.Module.__init__(self)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return F.avg_pool2d(self.conv(x), 2)


@downsample.misconception("another name", "The layer must be called self.conv, so that saved weights find their place.")
class _:
    def __init__(self, channels):
        nn.Module.__init__(self)
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x):
        return self.op(x)


@downsample.misconception(
    "super().__init__() missing",
    "A module must first set itself up: begin `__init__` with super().__init__().",
)
class _(_Conv):
    def __init__(self, channels):
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)


@exercise("layers.Upsample")
def upsample(f, draw):
    layer = fresh(f(6), draw)
    x = draw.normal(2, 6, 2, 3)
    large = torch.zeros(2, 6, 4, 6)
    for i in range(4):
        for j in range(6):
            large[:, :, i, j] = x[:, :, i // 2, j // 2]
    yield close("2 x 3 pixels", layer(x), convolved(large, layer.conv), atol=1e-4, dtype=torch.float32)


@upsample.misconception("no convolution", "The pixels are doubled, but not smoothed: apply self.conv to the result.")
class _:
    def forward(self, x):
        return F.interpolate(x, scale_factor=2.0)


@upsample.misconception("convolution only", "The size stays as it is. Double it first, then apply self.conv.")
class _:
    def forward(self, x):
        return self.conv(x)


@upsample.misconception(
    "convolution first",
    "Here the convolution comes first, at the small size, and the result has hard 2 x 2 squares. Double first.",
)
class _:
    def forward(self, x):
        return F.interpolate(self.conv(x), scale_factor=2.0)


@upsample.misconception("bilinear", "The pixels are blended (bilinear). They should be repeated: mode='nearest'.")
class _:
    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="bilinear"))


@upsample.misconception(
    "tiles",
    "The picture is tiled: four small copies of it. Each *pixel* should become a square; see repeat_interleave.",
)
class _:
    def forward(self, x):
        return self.conv(x.repeat(1, 1, 2, 2))


@upsample.misconception(
    "zeros between", "Only one pixel of four is filled, the others are zero. All four get the value."
)
class _:
    def forward(self, x):
        large = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
        large[:, :, ::2, ::2] = x
        return self.conv(large)


@upsample.misconception("one axis", "Only the rows are doubled. Height and width both double.")
class _:
    def forward(self, x):
        return self.conv(x.repeat_interleave(2, dim=2))
