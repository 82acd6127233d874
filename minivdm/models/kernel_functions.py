"""What the fused layers of `kernels` compute, with its gradients: the Triton programs as functions of tensors.

Maps are (N, C, H, W) in channels_last memory; each function copies what comes in another order.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F


def rows_as_maps(rows: Tensor, like: Tensor) -> Tensor:
    """Rows of places, (.., H W, C), as maps (N, C, H, W) of a shape like this one."""
    n, channels, height, width = like.shape
    return rows.reshape(n, height, width, channels).permute(0, 3, 1, 2)


def in_rows(x: Tensor) -> Tensor:
    """(N, C, H, W) as a matrix (N H W, C), without a copy where it lies in channels_last memory."""
    return x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).flatten(0, 2)


class Normalise(torch.autograd.Function):
    """Group norm of (N, C, H, W), in `groups` groups of consecutive channels.

    `weight` and `bias` are (C,) or, of each sample, (N, C); `before`, (C,) or None, is added to x first; the result
    goes through a SiLU if `silu`.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        before: Tensor | None,
        groups: int,
        eps: float,
        silu: bool,
    ) -> Tensor:
        from . import triton_kernels

        x, weight, bias = x.contiguous(memory_format=torch.channels_last), weight.contiguous(), bias.contiguous()
        y, mean, rstd = triton_kernels.normalise(x, weight, bias, before, groups, eps, silu)
        ctx.save_for_backward(x, weight, bias, before, mean, rstd)
        ctx.silu = silu
        return y

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        from . import triton_kernels

        x, weight, bias, before, mean, rstd = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        dx, others = triton_kernels.normalise_backward(x, grad, weight, bias, before, mean, rstd, ctx.silu)
        summed = triton_kernels.column_sums(others.flatten(1), weight.dtype).view(others.shape[1:])
        of_weight, of_bias = others[:, :2].to(weight.dtype).unbind(1) if weight.ndim == 2 else summed[:2]
        return dx, of_weight, of_bias, None if before is None else summed[2], None, None, None


class Convolve(torch.autograd.Function):
    """A convolution with a bias, of (N, C, H, W) in channels_last memory."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.sizes = stride, padding, dilation
        return F.conv2d(x, weight, bias, *ctx.sizes)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        from . import triton_kernels

        x, weight = ctx.saved_tensors
        needed = [*ctx.needs_input_grad[:2], False]
        grad = grad.contiguous(memory_format=torch.channels_last)
        dx, of_weight, _ = torch.ops.aten.convolution_backward(
            grad, x, weight, None, *ctx.sizes, False, (0, 0), 1, needed
        )
        return dx, of_weight, triton_kernels.column_sums(in_rows(grad), weight.dtype), None, None, None


class Affine(torch.autograd.Function):
    """`F.linear` of (..., C) with a weight (D, C) and a bias (D,)."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        from . import triton_kernels

        x, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1]).contiguous()
        dx = (rows @ weight).view_as(x) if ctx.needs_input_grad[0] else None
        of_weight = rows.T @ x.reshape(-1, x.shape[-1])
        return dx, of_weight, triton_kernels.column_sums(rows, weight.dtype)


class Add(torch.autograd.Function):
    """x + y + bias, for two (N, C, H, W) in channels_last memory, and (C,)."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
        from . import triton_kernels

        ctx.dtype = bias.dtype
        return rows_as_maps(triton_kernels.add(in_rows(x), in_rows(y), bias), x)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        from . import triton_kernels

        return grad, grad, triton_kernels.column_sums(in_rows(grad), ctx.dtype)


class Attention(torch.autograd.Function):
    """Attention of `heads` heads one after another: q (N, P, C), and kv (N, L, 2C) with K and V, to (N, P, C).

    Without kv, q is (N, P, 3C) and holds all three.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, q: Tensor, kv: Tensor | None, heads: int) -> Tensor:
        from . import triton_attention

        q, kv = q.contiguous(), kv if kv is None else kv.contiguous()
        ctx.save_for_backward(q, kv)
        ctx.heads = heads
        return triton_attention.attention(*queries_keys_values(q, kv), heads)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        from . import triton_attention

        q, kv = ctx.saved_tensors
        dq, dkv = torch.empty_like(q), kv if kv is None else torch.empty_like(kv)
        parts, theirs = queries_keys_values(q, kv), queries_keys_values(dq, dkv)
        triton_attention.attention_backward(*parts, grad.contiguous(), *theirs, ctx.heads)
        return dq, dkv, None


def queries_keys_values(q: Tensor, kv: Tensor | None) -> tuple[Tensor, ...]:
    """Q, K and V as views of what `Attention` is given."""
    return q.chunk(3, dim=-1) if kv is None else (q, *kv.chunk(2, dim=-1))


class Attend(torch.autograd.Function):
    """Attention over F frames at each of P places.

    `qkv` is (B, F, P, 3C): Q, K and V, each `heads` heads after one another; `position` (F, 2C) is added to Q and K.
    Returns (B, F, P, C).
    """

    @staticmethod
    def forward(ctx: FunctionCtx, qkv: Tensor, position: Tensor, heads: int) -> Tensor:
        from . import triton_attention

        qkv, position = qkv.contiguous(), position.contiguous()
        ctx.save_for_backward(qkv, position)
        ctx.heads = heads
        return triton_attention.attend(qkv, position, heads)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        from . import triton_attention

        qkv, position = ctx.saved_tensors
        dqkv = triton_attention.attend_backward(qkv, position, grad.contiguous(), ctx.heads)
        of_position = dqkv[..., : position.shape[1]].sum(dim=(0, 2), dtype=torch.float32)  # (F, 2C)
        return dqkv, of_position.to(position.dtype), None
