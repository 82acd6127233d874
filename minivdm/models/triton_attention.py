"""The Triton programs for attention, over frames and with few keys.

Memory order is that of `triton_kernels`.
"""

import torch
import triton
import triton.language as tl

from .triton_launch import launch

QUERIES = 64  # that one program of the attention with few keys holds at a time


def attend(qkv, position, heads):
    """Attention over frames: (B, F, P, 3C) and (F, 2C) -> (B, F, P, C)."""
    b, frames, places, channels = qkv.shape[0], qkv.shape[1], qkv.shape[2], qkv.shape[3] // 3
    out = torch.empty(b, frames, places, channels, device=qkv.device, dtype=qkv.dtype)
    sizes = attend_sizes(frames, channels, heads)
    launch(attend_kernel, (b * places, heads), qkv, position, out, frames, places, channels, **sizes)
    return out


def attend_backward(qkv, position, grad, heads):
    """The gradient by qkv, like qkv."""
    b, frames, places, channels = qkv.shape[0], qkv.shape[1], qkv.shape[2], qkv.shape[3] // 3
    dqkv = torch.empty_like(qkv)
    sizes = attend_sizes(frames, channels, heads)
    launch(attend_backward_kernel, (b * places, heads), qkv, position, grad, dqkv, frames, places, channels, **sizes)
    return dqkv


def attend_sizes(frames, channels, heads):
    """The size of a head, which must be a power of two from 16 on, and that of the block of frames."""
    size = channels // heads
    if size < 16 or size & (size - 1):
        raise ValueError(f"the channels of a head must be a power of two of at least 16, got {size}")
    return dict(scale=size**-0.5, D=size, FB=max(16, triton.next_power_of_2(frames)), num_warps=1)


def attention(q, k, v, heads):
    """Attention with few keys: (N, P, C), (N, L, C) and (N, L, C) -> (N, P, C). Each may be a slice of wider rows."""
    n, places, channels = q.shape
    out = torch.empty(n, places, channels, device=q.device, dtype=q.dtype)
    sizes = attention_sizes(places, k.shape[1], channels, heads)
    grid = (n, heads, triton.cdiv(places, QUERIES))
    launch(attention_kernel, grid, q, k, v, out, places, k.shape[1], q.stride(1), k.stride(1), channels, **sizes)
    return out


def attention_backward(q, k, v, grad, dq, dk, dv, heads):
    """Writes the gradients by q, k and v into dq, dk and dv, which lie in memory as these do."""
    n, places, channels = q.shape
    sizes = attention_sizes(places, k.shape[1], channels, heads)
    sizes_in_memory = places, k.shape[1], q.stride(1), k.stride(1), channels
    launch(attention_backward_kernel, (n, heads), q, k, v, grad, dq, dk, dv, *sizes_in_memory, **sizes)


def attention_sizes(places, keys, channels, heads):
    """The size of a head, and those of the blocks of queries and keys."""
    sizes = attend_sizes(keys, channels, heads)
    keys = sizes.pop("FB")
    return sizes | dict(QB=QUERIES, LB=keys, num_warps=8 if keys > 128 else 4)


@triton.jit
def scores(qkv, position, at, F, P, C, scale, D: tl.constexpr, FB: tl.constexpr):
    """Q, K, V and the softmax over frames, of one head at one place; `at` is where its Q of frame 0 lies."""
    f, d = tl.arange(0, FB)[:, None], tl.arange(0, D)[None, :]
    there = (f < F) & (d < D)
    of_frame = at + f * P * 3 * C + d
    h = tl.program_id(1) * D
    q = tl.load(qkv + of_frame, mask=there, other=0.0) + tl.load(position + f * 2 * C + h + d, mask=there, other=0.0)
    k = tl.load(qkv + of_frame + C, mask=there, other=0.0)
    k += tl.load(position + f * 2 * C + C + h + d, mask=there, other=0.0)
    v = tl.load(qkv + of_frame + 2 * C, mask=there, other=0.0)
    s = tl.dot(q, tl.trans(k)) * scale
    s = tl.where(tl.arange(0, FB)[None, :] < F, s, -float("inf"))
    s = tl.exp(s - tl.max(s, 1)[:, None])
    return q, k, v, s / tl.sum(s, 1)[:, None]


@triton.jit
def attend_kernel(qkv, position, out, F, P, C, scale, D: tl.constexpr, FB: tl.constexpr):
    """One head at one place: F x F weights, applied to V."""
    b, p = tl.program_id(0).to(tl.int64) // P, tl.program_id(0) % P
    h = tl.program_id(1) * D
    q, k, v, s = scores(qkv, position, (b * F * P + p) * 3 * C + h, F, P, C, scale, D, FB)
    f, d = tl.arange(0, FB)[:, None], tl.arange(0, D)[None, :]
    o = tl.dot(s.to(v.dtype), v)
    tl.store(out + (b * F * P + p) * C + h + f * P * C + d, o.to(out.dtype.element_ty), mask=f < F)


@triton.jit
def attend_backward_kernel(qkv, position, grad, dqkv, F, P, C, scale, D: tl.constexpr, FB: tl.constexpr):
    """One head at one place: the weights once more, then the gradients by Q, K and V."""
    b, p = tl.program_id(0).to(tl.int64) // P, tl.program_id(0) % P
    h = tl.program_id(1) * D
    at = (b * F * P + p) * 3 * C + h
    q, k, v, s = scores(qkv, position, at, F, P, C, scale, D, FB)
    f, d = tl.arange(0, FB)[:, None], tl.arange(0, D)[None, :]
    g = tl.load(grad + (b * F * P + p) * C + h + f * P * C + d, mask=(f < F) & (d < D), other=0.0)
    dv = tl.dot(tl.trans(s.to(g.dtype)), g)
    ds = tl.dot(g, tl.trans(v))
    ds = s * (ds - tl.sum(ds * s, 1)[:, None]) * scale
    dq = tl.dot(ds.to(k.dtype), k)
    dk = tl.dot(tl.trans(ds.to(q.dtype)), q)
    to = dqkv + at + f * P * 3 * C + d
    there = (f < F) & (d < D)
    tl.store(to, dq.to(dqkv.dtype.element_ty), mask=there)
    tl.store(to + C, dk.to(dqkv.dtype.element_ty), mask=there)
    tl.store(to + 2 * C, dv.to(dqkv.dtype.element_ty), mask=there)


@triton.jit
def softmax_over_keys(q, k, L, scale, LB: tl.constexpr):
    """The weights of a block of queries, over all keys."""
    s = tl.dot(q, tl.trans(k)) * scale
    s = tl.where(tl.arange(0, LB)[None, :] < L, s, -float("inf"))
    s = tl.exp(s - tl.max(s, 1)[:, None])
    return s / tl.sum(s, 1)[:, None]


@triton.jit
def attention_kernel(q, k, v, out, P, L, SQ, SK, C, scale, D: tl.constexpr, QB: tl.constexpr, LB: tl.constexpr):
    """One head of one sample, for a block of queries; rows of q lie SQ numbers apart, those of k and v SK."""
    n, d = tl.program_id(0).to(tl.int64), tl.program_id(1) * D + tl.arange(0, D)[None, :]
    place, key = tl.program_id(2) * QB + tl.arange(0, QB)[:, None], tl.arange(0, LB)[:, None]
    keys = tl.load(k + (n * L + key) * SK + d, mask=key < L, other=0.0)
    values = tl.load(v + (n * L + key) * SK + d, mask=key < L, other=0.0)
    asked = tl.load(q + (n * P + place) * SQ + d, mask=place < P, other=0.0)
    s = softmax_over_keys(asked, keys, L, scale, LB)
    o = tl.dot(s.to(values.dtype), values)
    tl.store(out + (n * P + place) * C + d, o.to(out.dtype.element_ty), mask=place < P)


@triton.jit
def attention_backward_kernel(
    q, k, v, grad, dq, dk, dv, P, L, SQ, SK, C, scale, D: tl.constexpr, QB: tl.constexpr, LB: tl.constexpr
):
    """One head of one sample: the weights once more, a block of queries after the other."""
    n, d = tl.program_id(0).to(tl.int64), tl.program_id(1) * D + tl.arange(0, D)[None, :]
    key = tl.arange(0, LB)[:, None]
    keys = tl.load(k + (n * L + key) * SK + d, mask=key < L, other=0.0)
    values = tl.load(v + (n * L + key) * SK + d, mask=key < L, other=0.0)
    by_keys = tl.zeros([LB, D], tl.float32)
    by_values = tl.zeros([LB, D], tl.float32)
    for p0 in range(0, P, QB):
        place = p0 + tl.arange(0, QB)[:, None]
        asked = tl.load(q + (n * P + place) * SQ + d, mask=place < P, other=0.0)
        g = tl.load(grad + (n * P + place) * C + d, mask=place < P, other=0.0)
        s = softmax_over_keys(asked, keys, L, scale, LB)
        by_values += tl.dot(tl.trans(s.to(g.dtype)), g)
        ds = tl.dot(g, tl.trans(values))
        ds = (s * (ds - tl.sum(ds * s, 1)[:, None]) * scale).to(keys.dtype)
        tl.store(dq + (n * P + place) * SQ + d, tl.dot(ds, keys).to(dq.dtype.element_ty), mask=place < P)
        by_keys += tl.dot(tl.trans(ds), asked)
    tl.store(dk + (n * L + key) * SK + d, by_keys.to(dk.dtype.element_ty), mask=key < L)
    tl.store(dv + (n * L + key) * SK + d, by_values.to(dv.dtype.element_ty), mask=key < L)
