"""Exercises 4.4 and 4.5: half the size, and twice the size."""

import torch

from minivdm.course.exercise import close, equal, exercise

from .ch04_common import column, convolved, fresh
from .common import layer_probes


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
    like = dict(atol=1e-4, dtype=torch.float32)
    yield from layer_probes("6 x 10 pixels", layer, [x], want, dict(conv=x.double()), **like)


@downsample.promises("samples", "dtype", "layout", "device", "gradients")
def halved(f, draw):
    return fresh(f(3), draw), dict(x=draw.normal(4, 3, 6, 2))


downsample.edit(
    "no padding", {", padding=1": ""}, "The edge gets lost, because there is no padding: nn.Conv2d(..., padding=1)."
)
downsample.edit(
    "off by one",
    {", padding=1": "", "self.conv(x)": "self.conv(F.pad(x, (0, 1, 0, 1)))"},
    "The windows are off by one: they are centred on (2i + 1, 2j + 1), as with zeros on the right and below alone. "
    "padding=1 in nn.Conv2d puts zeros on all sides, and with stride=2 the first window is centred on (0, 0).",
)
downsample.edit(
    "no stride", {"stride=2, ": ""}, "The size stays as it is: the convolution moves by one pixel. Give it stride=2."
)
downsample.edit(
    "a 2 x 2 kernel",
    {"3, stride=2, padding=1": "2, stride=2"},
    "The kernel is 2 x 2. A 3 x 3 kernel overlaps with its neighbours.",
)
downsample.edit(
    "no bias", {"padding=1": "padding=1, bias=False"}, "The convolution has no bias. Leave it on, which is the default."
)
downsample.edit(
    "channel by channel",
    {"padding=1": "padding=1, groups=channels"},
    "With groups=channels each channel is filtered alone. All outputs look at all input channels: leave groups out.",
)
downsample.edit(
    "average of four",
    {"stride=2, ": "", "self.conv(x)": "F.avg_pool2d(self.conv(x), 2)"},
    "Pixels are averaged after a convolution at full size. Here the convolution itself moves by two pixels: stride=2.",
)
downsample.edit(
    "another name",
    {"self.conv": "self.op"},
    "The layer must be called self.conv, so that saved weights find their place.",
)
downsample.edit(
    "super().__init__() missing",
    {"super().__init__()": "pass"},
    "A module must first set itself up: begin `__init__` with super().__init__().",
)


@exercise("layers.Upsample")
def upsample(f, draw):
    layer = fresh(f(6), draw)
    x = draw.normal(2, 6, 2, 3)
    large = torch.zeros(2, 6, 4, 6)
    for i in range(4):
        for j in range(6):
            large[:, :, i, j] = x[:, :, i // 2, j // 2]
    like = dict(atol=1e-4, dtype=torch.float32)
    yield from layer_probes("2 x 3 pixels", layer, [x], convolved(large, layer.conv), dict(conv=large.double()), **like)
    yield close("a single row", layer(x[:, :, :1]), convolved(large[:, :, :2], layer.conv), **like)
    yield close("a single column", layer(x[..., :1]), convolved(large[..., :2], layer.conv), **like)


@upsample.promises("samples", "dtype", "layout", "device", "gradients")
def doubled(f, draw):
    return fresh(f(3), draw), dict(x=draw.normal(4, 3, 3, 2))


DOUBLED = 'F.interpolate(x, scale_factor=2.0, mode="nearest")'
upsample.edit(
    "no convolution",
    {f"self.conv({DOUBLED})": DOUBLED},
    "The pixels are doubled, but not smoothed: apply self.conv to the result.",
)
upsample.edit("convolution only", {DOUBLED: "x"}, "The size stays as it is. Double it first, then apply self.conv.")
upsample.edit(
    "convolution first",
    {f"self.conv({DOUBLED})": DOUBLED.replace("x,", "self.conv(x),")},
    "Here the convolution comes first, at the small size, and the result has hard 2 x 2 squares. Double first.",
)
upsample.edit(
    "bilinear", {"nearest": "bilinear"}, "The pixels are blended (bilinear). They should be repeated: mode='nearest'."
)
upsample.edit(
    "tiles",
    {DOUBLED: "x.repeat(1, 1, 2, 2)"},
    "The picture is tiled: four small copies of it. Each *pixel* should become a square; see repeat_interleave.",
)
upsample.edit(
    "one axis",
    {"scale_factor=2.0": "scale_factor=(2.0, 1.0)"},
    "Only the rows are doubled. Height and width both double.",
)
