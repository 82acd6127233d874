"""What the checks of chapter 04 share: layers with random weights, and normalisation written out in float64."""

import torch


def fresh(module, draw):
    """The module with new random weights everywhere: also where layers start at zero, which would hide mistakes."""
    with torch.no_grad():
        for parameter in module.parameters():
            values = draw.normal(*parameter.shape)
            wide = parameter.ndim > 1
            parameter.copy_(values / values[0].numel() ** 0.5 if wide else 0.5 + 0.5 * values)
    return module


def normed(x, layer):
    """GroupNorm in float64: each sample's groups of channels get mean 0 and variance 1, then scale and shift."""
    rows = x.double().reshape(len(x), layer.num_groups, -1)  # (B, groups, elements)
    rows = (rows - rows.mean(2, keepdim=True)) / (rows.var(2, correction=0, keepdim=True) + layer.eps).sqrt()
    return rows.reshape(x.shape) * column(layer.weight) + column(layer.bias)


def convolved(x, layer):
    """A convolution's layer applied in float64, whatever its kernel, stride and padding."""
    weight, bias = layer.weight.double(), layer.bias.double()
    return torch.nn.functional.conv2d(x.double(), weight, bias, layer.stride, layer.padding)


def column(values):
    """One number per channel, float64, shaped to broadcast against (B, C, H, W)."""
    return values.double().reshape(-1, 1, 1)


def silu(x):
    """x times its sigmoid."""
    return x / (1 + torch.exp(-x))
