r"""Layers for CUDA cards that compute the same as the plain ones, written so that memory is read once.

PyTorch's group norm wants the memory order B C H W, while convolutions and the layers along time want B H W C: so each
norm would turn its input around, twice. And attention over a few frames at each of very many places is hardly any
arithmetic, but as a row of separate operations it writes its intermediate results to memory a dozen times. Each kernel
here reads its inputs in the order in which they lie, keeps what lies between on the chip, and writes the result. Sums
are taken in float32; matrices are multiplied in 16 bits where they come in 16 bits, else in TF32, Triton's default.

`use_fused_kernels(model)` puts them into a model. The numbers stay the same, up to rounding. Without CUDA or Triton it
does nothing: the plain layers are the definition, these are only faster.
"""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .kernel_functions import Add, Affine, Attend, Attention, Convolve, Normalise, rows_as_maps
from .layers import CrossAttention, ResBlock, SelfAttention, timestep_embedding
from .unet3d import TemporalAttention


def use_fused_kernels(model: nn.Module) -> nn.Module:
    """A model on a CUDA device with fused kernels in the place of plain layers; on other devices nothing changes.

    Each `nn.GroupNorm`, `nn.Conv2d`, `nn.Linear`, `ResBlock`, `SelfAttention`, `CrossAttention` and `TemporalAttention`
    is exchanged for one of this module, with the same parameters under the same names; copies of the model keep them.
    Of the course's own layers, only one whose `forward` says that there is a fused kernel for it is exchanged: another
    one, written by somebody else, stays.

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


def fused(layer: nn.Module) -> nn.Module:
    """The layer with a fused kernel that has the same parameters as this one, or, where there is none, this one."""
    if type(layer) is nn.GroupNorm and layer.affine and is_power_of_two(layer.num_channels // layer.num_groups):
        made = FusedGroupNorm(layer.num_groups, layer.num_channels, layer.eps, layer.affine)
    elif type(layer) is nn.Conv2d and is_plain(layer):
        sizes = layer.kernel_size, layer.stride, layer.padding, layer.dilation
        made = FusedConv2d(layer.in_channels, layer.out_channels, *sizes, device="meta")
    elif type(layer) is nn.Linear and layer.bias is not None:
        made = FusedLinear(layer.in_features, layer.out_features, device="meta")
    elif type(layer) is ResBlock and asks_for_it(layer) and has_fused_norms(layer):
        shape = layer.conv1.in_channels, layer.conv1.out_channels, layer.emb.in_features, layer.dropout.p
        made = FusedResBlock(*shape)
    elif type(layer) is SelfAttention and asks_for_it(layer) and has_fitting_heads(layer):
        channels = layer.qkv.in_channels
        made = FusedSelfAttention(channels, channels // layer.heads)
    elif type(layer) is CrossAttention and asks_for_it(layer) and has_fitting_heads(layer):
        channels = layer.q.in_channels
        made = FusedCrossAttention(channels, layer.kv.in_features, channels // layer.heads)
    elif type(layer) is TemporalAttention and asks_for_it(layer) and has_fitting_heads(layer):
        channels = layer.out.out_features
        made = FusedTemporalAttention(channels, channels // layer.heads)
    else:
        return layer
    for name, value in (*layer.named_parameters(recurse=False), *layer.named_children()):
        setattr(made, name, value)
    return made.train(layer.training)


def is_plain(conv: nn.Conv2d) -> bool:
    """Whether a convolution has a bias, and nothing that is rare."""
    return (
        conv.bias is not None
        and conv.groups == 1
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
    )


def asks_for_it(layer: nn.Module) -> bool:
    """Whether a layer's `forward` is the one that there is a fused kernel for."""
    return getattr(layer.forward, "has_fused_kernel", False)


def has_fused_norms(block: ResBlock) -> bool:
    """Whether both norms of a block were exchanged, and not for something else."""
    return isinstance(block.norm1, FusedGroupNorm) and isinstance(block.norm2, FusedGroupNorm)


def has_fitting_heads(layer: nn.Module) -> bool:
    """Whether the heads of an attention have a power of two channels, 16 or more, as matrix units need them."""
    return is_power_of_two(layer.norm.num_channels // layer.heads, least=16)


def is_power_of_two(n: int, least: int = 1) -> bool:
    """Whether n is `least` or more, and 1, 2, 4, 8 or the like."""
    return n >= least and not n & (n - 1)


def compile_ahead(function: Callable, model: nn.Module) -> None:
    """Compile the kernels that a function runs on a CUDA card, all at the same time: one by one it takes seconds.

    Args:
        function: what uses the fused layers of a model, if it has any. It is called once, and computes with whatever
            lies in memory: give it a copy of everything that it changes.
        model: the model.
    """
    if any(type(layer).__module__ == __name__ for layer in model.modules()):
        from . import triton_launch

        triton_launch.compile_ahead(function)


class FusedGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` for (N, C, H, W) in channels_last memory; the channels of a group must be a power of two."""

    def forward(self, x: Tensor) -> Tensor:
        return Normalise.apply(x, self.weight, self.bias, None, self.num_groups, self.eps, False)


class FusedConv2d(nn.Conv2d):
    """`nn.Conv2d` whose bias costs little: its gradient is one sum over the rows of memory.

    Where the convolution is 1 x 1, it is a product of matrices, which adds the bias on the way.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size == (1, 1) and self.stride == (1, 1) and self.padding == (0, 0):
            rows = Affine.apply(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias)  # (B, H, W, C)
            return rows.permute(0, 3, 1, 2)
        return Convolve.apply(x, self.weight, self.bias, self.stride, self.padding, self.dilation)


class FusedLinear(nn.Linear):
    """`nn.Linear` whose bias costs little."""

    def forward(self, x: Tensor) -> Tensor:
        return Affine.apply(x, self.weight, self.bias)


class FusedResBlock(ResBlock):
    """`ResBlock` in which norm, the level's scale and shift, and SiLU are one kernel; biases are added on the way."""

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        one, two = self.norm1, self.norm2
        h = Normalise.apply(x, one.weight, one.bias, None, one.num_groups, one.eps, True)
        h = F.conv2d(h, self.conv1.weight, padding=1)
        scale, shift = self.emb(F.silu(emb)).chunk(2, dim=1)  # 2 x (B, out)
        weight, bias = two.weight * (1 + scale), two.bias * (1 + scale) + shift
        h = Normalise.apply(h, weight, bias, self.conv1.bias, two.num_groups, two.eps, True)
        h = F.conv2d(self.dropout(h), self.conv2.weight, padding=1)
        if isinstance(self.skip, nn.Identity):
            return Add.apply(h, x, self.conv2.bias)
        return Add.apply(h, F.conv2d(x, self.skip.weight), self.conv2.bias + self.skip.bias)


MAX_KEYS = 256  # the kernel holds all of them at once


class FusedSelfAttention(SelfAttention):
    """`SelfAttention` without copies of its maps; up to `MAX_KEYS` places, its scores never leave the chip."""

    def forward(self, x: Tensor) -> Tensor:
        h = Affine.apply(places_in_rows(self.norm(x)), self.qkv.weight[:, :, 0, 0], self.qkv.bias)  # (B, HW, 3C)
        if h.shape[1] <= MAX_KEYS:
            h = Attention.apply(h, None, self.heads)
        else:
            q, k, v = rearrange(h, "b p (three n d) -> three b n p d", three=3, n=self.heads)
            h = rearrange(F.scaled_dot_product_attention(q, k, v), "b n p d -> b p (n d)")
        return add_projected(x, h, self.out.weight[:, :, 0, 0], self.out.bias)


class FusedCrossAttention(CrossAttention):
    """`CrossAttention` whose scores never leave the chip, for up to `MAX_KEYS` words."""

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        if context.shape[1] > MAX_KEYS:
            return super().forward(x, context)
        q = Affine.apply(places_in_rows(self.norm(x)), self.q.weight[:, :, 0, 0], self.q.bias)  # (B, HW, C)
        h = Attention.apply(q, self.kv(context), self.heads)
        return add_projected(x, h, self.out.weight[:, :, 0, 0], self.out.bias)


MAX_FRAMES = 64  # the kernel holds all F x F scores at once, and for 128 frames takes over a minute to compile


class FusedTemporalAttention(TemporalAttention):
    """`TemporalAttention` whose scores never leave the chip, for clips of up to `MAX_FRAMES` frames."""

    def forward(self, x: Tensor, frames: int, independent_frames: Tensor | None = None) -> Tensor:
        if independent_frames is not None or frames > MAX_FRAMES:
            return super().forward(x, frames, independent_frames)
        n, channels, height, width = x.shape
        h = self.norm(x).permute(0, 2, 3, 1).reshape(n // frames, frames, height * width, channels)
        p = timestep_embedding(torch.arange(frames, device=x.device), channels)  # (F, C)
        position = F.linear(p.to(h.dtype), self.qkv.weight[: 2 * channels])  # (F, 2C)
        qkv = Affine.apply(h, self.qkv.weight, self.qkv.bias)
        h = Attend.apply(qkv, position, self.heads)  # (B, F, HW, C)
        return add_projected(x, h, self.out.weight, self.out.bias)


def add_projected(x: Tensor, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x, (N, C, H, W), plus a linear map of rows of places, (.., H W, C): how every attention ends."""
    return Add.apply(rows_as_maps(F.linear(rows, weight), x), x, bias)


def places_in_rows(x: Tensor) -> Tensor:
    """(N, C, H, W) as (N, H W, C): a view, where it lies in channels_last memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)
