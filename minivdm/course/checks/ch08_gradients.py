"""Exercise 8.2: what a 1 x 1 convolution hands back."""

import torch

from minivdm.course.exercise import close, exercise


def numerically(x, weight, upstream):
    """The three gradients by autograd in float64, through the layer itself."""
    x, weight = x.double().requires_grad_(), weight.double()[:, :, None, None].requires_grad_()
    bias = torch.zeros(len(weight), dtype=torch.float64, requires_grad=True)
    y = torch.nn.functional.conv2d(x, weight, bias)
    by_weight, by_bias, by_x = torch.autograd.grad(y, (weight, bias, x), upstream.double())
    return by_weight[:, :, 0, 0], by_bias, by_x


PARTS = "dL/dW", "dL/db", "dL/dx"


@exercise("controlnet.zero_conv_gradients")
def zero_conv_gradients(f, draw):
    x, weight, upstream = draw.normal(3, 4, 2, 5), draw.normal(6, 4), draw.normal(3, 6, 2, 5)
    cases = {
        "one sample of one pixel": (x[:1, :, :1, :1], weight, upstream[:1, :, :1, :1]),
        "3 samples of 2 x 5 pixels": (x, weight, upstream),
        "a zero convolution": (x, torch.zeros_like(weight), upstream),
        "a zero convolution of which nothing comes in": (torch.zeros_like(x), torch.zeros_like(weight), upstream),
    }
    for name, case in cases.items():
        for part, got, want in zip(PARTS, f(*case), numerically(*case), strict=True):
            yield close(f"{name}: {part}", got, want.float(), 1e-4, 1e-4)


SUMS = "the gradients of weight and bias are sums over the batch"


@zero_conv_gradients.promises("dtype", "layout", "device", "gradients", samples=SUMS)
def ordinary(f, draw):
    return f, dict(x=draw.normal(3, 4, 2, 5), weight=draw.normal(6, 4), upstream=draw.normal(3, 6, 2, 5))


zero_conv_gradients.edit(
    "the mean instead of the sum",
    {"upstream, x)\n": "upstream, x) / x[:, 0].numel()\n"},
    "dL/dW is an average over samples and places here. W acts at each of them, and their effects add up: a sum.",
)
zero_conv_gradients.edit(
    "bias summed over the samples alone",
    {"upstream.sum(dim=(0, 2, 3))": "upstream.sum(dim=0).mean(dim=(1, 2))"},
    "The bias acts at every place of every sample: dL/db is the sum of g over samples *and* places.",
)
zero_conv_gradients.edit(
    "x in the place of g",
    {"upstream.sum(dim=(0, 2, 3))": "torch.ones_like(weight[:, 0]) * x.sum()"},
    "dL/db contains x here. y = W x + b grows with b by 1 whatever x is: only g remains.",
)
zero_conv_gradients.edit(
    "a zero weight stops all",
    {"upstream, x)\n": "upstream, x) * (weight != 0)\n"},
    "Where the weight is 0 you let its own gradient vanish. dL/dW does not contain W at all: that is why a zero "
    "convolution learns.",
)
zero_conv_gradients.edit(
    "the input's gradient without the weight",
    {'"dc,bdhw->bchw", weight, upstream': '"dc,bdhw->bchw", torch.ones_like(weight), upstream'},
    "dL/dx lacks W. x reaches y through W alone, so with W = 0 nothing goes back: what lies before a zero convolution "
    "has to wait.",
)
