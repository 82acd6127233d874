r"""Two kernels for CUDA cards that a video model spends most of its time in, written so that memory is read once.

PyTorch's group norm wants the memory order B C H W, while convolutions and the layers along time want B H W C: so each
norm would turn its input around, twice. And attention over a few frames at each of very many places is hardly any
arithmetic, but as a row of separate operations it writes its intermediate results to memory a dozen times. Each kernel
here reads its inputs in the order in which they lie, keeps what lies between on the chip, and writes the result. Sums
are taken in float32; matrices are multiplied in 16 bits where they come in 16 bits, else in TF32, Triton's default.

`use_fused_kernels(model)` puts them into a model. The numbers stay the same, up to rounding. Without CUDA or Triton it
does nothing: the plain layers are the definition, these are only faster.
"""

from importlib.util import find_spec

import torch
from torch import nn
from torch.nn import functional as F

from .layers import timestep_embedding
from .unet3d import TemporalAttention


def use_fused_kernels(model):
    """A model on a CUDA device with fused kernels in the place of plain layers; on other devices nothing changes.

    Each `nn.GroupNorm` becomes a `FusedGroupNorm`, each `TemporalAttention` a `FusedTemporalAttention`, with the same
    parameters under the same names; copies of the model keep them. Only a layer whose `forward` says that there is
    a fused kernel for it is exchanged: another one, written by somebody else, stays.

    Args:
        model: a network, changed in place.

    Returns:
        The model; what takes its place, if it is such a layer itself.
    """
    if next(model.parameters()).device.type != "cuda" or find_spec("triton") is None:
        return model
    for name, child in model.named_children():
        setattr(
            model,
            name,
            use_fused_kernels(child) if any(True for _ in child.parameters()) else child,
        )
    return fused(model)


def fused(layer):
    """The layer with a fused kernel that has the same parameters as this one, or, where there is none, this one."""
    if type(layer) is nn.GroupNorm:
        made = FusedGroupNorm(layer.num_groups, layer.num_channels, layer.eps, layer.affine)
        made.weight, made.bias = layer.weight, layer.bias
    elif type(layer) is TemporalAttention and getattr(layer.forward, "has_fused_kernel", False):
        channels = layer.out.out_features
        made = FusedTemporalAttention(channels, channels // layer.heads)
        made.norm, made.qkv, made.out = layer.norm, layer.qkv, layer.out
    else:
        return layer
    return made.train(layer.training)


class FusedGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` for (N, C, H, W) in channels_last memory; the channels of a group must be a power of two."""

    def forward(self, x):
        return Normalise.apply(x, self.weight, self.bias, self.num_groups, self.eps)


MAX_FRAMES = 64  # the kernel holds all F x F scores at once, and for 128 frames takes over a minute to compile


class FusedTemporalAttention(TemporalAttention):
    """`TemporalAttention` whose scores never leave the chip, for clips of up to `MAX_FRAMES` frames."""

    def forward(self, x, frames, independent_frames=None):
        if independent_frames is not None or frames > MAX_FRAMES:
            return super().forward(x, frames, independent_frames)
        n, channels, height, width = x.shape
        h = self.norm(x).permute(0, 2, 3, 1).reshape(n // frames, frames, height * width, channels)
        p = timestep_embedding(torch.arange(frames, device=x.device), channels)  # (F, C)
        position = F.linear(p.to(h.dtype), self.qkv.weight[: 2 * channels])  # (F, 2C)
        h = self.out(Attend.apply(self.qkv(h), position, self.heads))  # (B, F, HW, C)
        return x + h.reshape(n, height, width, channels).permute(0, 3, 1, 2)


class Normalise(torch.autograd.Function):
    """Group norm of (N, C, H, W), with `weight` and `bias` (C,), in `groups` groups of consecutive channels."""

    @staticmethod
    def forward(ctx, x, weight, bias, groups, eps):
        from . import triton_kernels

        x = x.contiguous(memory_format=torch.channels_last)
        y, mean, rstd = triton_kernels.normalise(x, weight, bias, groups, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        return y

    @staticmethod
    def backward(ctx, grad):
        from . import triton_kernels

        x, weight, mean, rstd = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        dx, of_weight, of_bias = triton_kernels.normalise_backward(x, grad, weight, mean, rstd)  # ..., (N, C), (N, C)
        return dx, of_weight.sum(0).to(weight.dtype), of_bias.sum(0).to(weight.dtype), None, None


class Attend(torch.autograd.Function):
    """Attention over F frames at each of P places.

    `qkv` is (B, F, P, 3C): Q, K and V, each `heads` heads after one another; `position` (F, 2C) is added to Q and K.
    Returns (B, F, P, C).
    """

    @staticmethod
    def forward(ctx, qkv, position, heads):
        from . import triton_kernels

        qkv, position = qkv.contiguous(), position.contiguous()
        ctx.save_for_backward(qkv, position)
        ctx.heads = heads
        return triton_kernels.attend(qkv, position, heads)

    @staticmethod
    def backward(ctx, grad):
        from . import triton_kernels

        qkv, position = ctx.saved_tensors
        dqkv = triton_kernels.attend_backward(qkv, position, grad.contiguous(), ctx.heads)
        of_position = dqkv[..., : position.shape[1]].sum(dim=(0, 2), dtype=torch.float32)  # (F, 2C)
        return dqkv, of_position.to(position.dtype), None
