r"""Two kernels for CUDA cards that a video model spends most of its time in, written so that memory is read once.

PyTorch's group norm wants the memory order B C H W, while convolutions and the layers along time want B H W C: so each
norm would turn its input around, twice. And attention over a few frames at each of very many places is hardly any
arithmetic, but as a row of separate operations it writes its intermediate results to memory a dozen times. Each kernel
here reads its inputs in the order in which they lie, keeps what lies between on the chip, and writes the result. Sums
are taken in float32; matrices are multiplied in 16 bits where they come in 16 bits, else in TF32, Triton's default.

`accelerate(model)` puts them into a model. The numbers stay the same, up to rounding. Without CUDA or Triton it does
nothing: the plain layers are the definition, these are only faster.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from .layers import timestep_embedding
from .unet3d import TemporalAttention


def accelerate(model):
    """Let a model on a CUDA device use the fused kernels; on other devices this does nothing.

    Norms and temporal attention layers become `FusedGroupNorm` and `FusedTemporalAttention`, in place and with the same
    weights; copies of the model keep them. A `TemporalAttention` with a forward that is not this package's stays.

    Returns:
        The model.
    """
    if next(model.parameters()).device.type != "cuda" or find_spec("triton") is None:
        return model
    own = Path(TemporalAttention.forward.__code__.co_filename).stem == "unet3d"
    for module in model.modules():
        if type(module) is nn.GroupNorm:
            module.__class__ = FusedGroupNorm
        elif type(module) is TemporalAttention and own:
            module.__class__ = FusedTemporalAttention
    return model


class FusedGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` for (N, C, H, W) in channels_last memory; the channels of a group must be a power of two."""

    def forward(self, x):
        return Normalise.apply(x, self.weight, self.bias, self.num_groups, self.eps)


MAX_FRAMES = 64  # frames; the kernel holds all F x F scores at once, and for 128 frames takes over a minute to compile


class FusedTemporalAttention(TemporalAttention):
    """`TemporalAttention` whose scores never leave the chip, for clips of up to `MAX_FRAMES` frames."""

    def forward(self, x, frames, independent_frames=None):
        if independent_frames is not None or frames > MAX_FRAMES:
            return super().forward(x, frames, independent_frames)
        n, channels, height, width = x.shape
        h = self.norm(x).permute(0, 2, 3, 1).reshape(n // frames, frames, height * width, channels)
        p = timestep_embedding(torch.arange(frames, device=x.device), channels).to(
            h.dtype
        )  # (F, C)
        position = F.linear(p, self.qkv.weight[: 2 * channels])  # (F, 2C), for Q and K
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
        dx, of_weight, of_bias = triton_kernels.normalise_backward(
            x, grad, weight, mean, rstd
        )  # ..., (N, C), (N, C)
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
