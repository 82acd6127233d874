"""The Triton programs behind `kernels`; import this only where Triton and a CUDA card are there.

Memory order is B H W C throughout: (n, p, c) lies at (n P + p) C + c, with P = H W places.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
import triton
import triton.language as tl
from torch import Tensor

CHANNELS, PLACES = 64, 32  # what one program of the norm holds at a time
FEW_ROWS, PARTS = 1024, 512  # rows that one program adds up at most; parts into which more are cut
QUERIES = 64  # that one program of the attention holds at a time
NUMBERS = 2048  # of a sum that one program makes
THREADS = 8  # that compile

noted: list | None = None  # what would be launched, while it is only noted


def launch(kernel, grid, *args, **sizes):
    """Run a kernel; or, in `compile_ahead`, note what it is to be compiled for."""
    if noted is None:
        kernel[grid](*args, **sizes)
    else:
        kinds = tuple(arg.dtype if isinstance(arg, Tensor) else arg for arg in args)
        noted.append((kernel, kinds, tuple(sizes.items())))


def compile_ahead(function: Callable) -> None:
    """Compile what `function` launches, all at the same time: a dry run, whose results are whatever lies in memory."""
    global noted
    if not hasattr(triton, "AsyncCompileMode"):  # before Triton 3.4
        return
    noted = []
    try:
        function()
        wanted = dict.fromkeys(noted)
    finally:
        noted = None
    with ThreadPoolExecutor(THREADS) as threads, triton.AsyncCompileMode(threads):
        for kernel, kinds, sizes in wanted:
            kernel.warmup(*kinds, grid=(1,), **dict(sizes))


def normalise(x, weight, bias, before, groups, eps, silu):
    """Group norm: (N, C, H, W) in channels_last -> the same, and mean and 1 / deviation of each group, (N, groups).

    `weight` and `bias` are (C,), or (N, C) of each sample; `before`, (C,) or None, is added to x first; and the result
    goes through a SiLU if `silu`.
    """
    n, channels, height, width = x.shape
    y = torch.empty_like(x)
    mean = torch.empty(n, groups, device=x.device)
    rstd = torch.empty_like(mean)
    grid, sizes = norm_grid(x, groups)
    launch(
        norm_kernel,
        grid,
        *(x, y, weight, bias, weight if before is None else before, mean, rstd),
        *(height * width, channels, groups, channels * (weight.ndim - 1), eps),
        SILU=silu,
        BEFORE=before is not None,
        **sizes,
    )
    return y, mean, rstd


def normalise_backward(x, grad, weight, bias, before, mean, rstd, silu):
    """The gradient by x, and those by weight, bias and `before` as they are in each sample, (N, 3, C)."""
    n, channels, height, width = x.shape
    dx = torch.empty_like(x)
    others = torch.empty(n, 3 if before is not None else 2, channels, device=x.device)
    groups = mean.shape[1]
    grid, sizes = norm_grid(x, groups)
    launch(
        norm_backward_kernel,
        grid,
        *(x, grad, dx, weight, bias, weight if before is None else before, mean, rstd, others),
        *(height * width, channels, groups, channels * (weight.ndim - 1)),
        SILU=silu,
        BEFORE=before is not None,
        **sizes,
    )
    return dx, others


def norm_grid(x, groups):
    """One program for each sample and each block of channels, which holds whole groups."""
    size = x.shape[1] // groups
    if size & (size - 1):
        raise ValueError(f"the channels of a group must be a power of two, got {size}")
    block = max(CHANNELS, size)
    return (len(x), triton.cdiv(x.shape[1], block)), dict(CB=block, PB=PLACES, GS=size, num_warps=4)


def column_sums(x, dtype):
    """The sum of each column of an (R, C) matrix in rows of memory, (C,): of its parts first, if there are many."""
    rows, columns = x.shape
    if rows > FEW_ROWS:
        some = triton.cdiv(rows, PARTS)
        parts = torch.empty(triton.cdiv(rows, some), columns, device=x.device)
        launch(column_sums_kernel, (len(parts), triton.cdiv(columns, 64)), x, parts, rows, columns, some, CB=64, PB=32)
        x = parts
    out = torch.empty(columns, device=x.device, dtype=dtype)
    launch(column_sums_kernel, (1, triton.cdiv(columns, 32)), x, out, len(x), columns, len(x), CB=32, PB=128)
    return out


def add(x, y, bias):
    """x + y + bias, with a number for each column: (R, C), (R, C) and (C,) -> (R, C)."""
    out = torch.empty_like(x)
    launch(
        add_kernel, (triton.cdiv(x.numel(), NUMBERS),), x, y, bias, out, x.numel(), x.shape[1], NB=NUMBERS, num_warps=4
    )
    return out


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
def per_channel(values, CB: tl.constexpr, GS: tl.constexpr):
    """One number a group -> one a channel."""
    return tl.reshape(tl.broadcast_to(values[:, None], [CB // GS, GS]), [CB])


@triton.jit(do_not_specialize=["G", "SN"])  # else it is compiled once more for each kind of number
def norm_kernel(
    x,
    y,
    weight,
    bias,
    before,
    mean,
    rstd,
    P,
    C,
    G,
    SN,
    eps,
    SILU: tl.constexpr,
    BEFORE: tl.constexpr,
    CB: tl.constexpr,
    PB: tl.constexpr,
    GS: tl.constexpr,
):
    """Sums over the places of one sample and block of channels, then the normalised values."""
    n, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    c = block * CB + tl.arange(0, CB)
    inside = c < C
    start = n * P * C
    shift = tl.zeros([CB], tl.float32)
    if BEFORE:
        shift = tl.load(before + c, mask=inside, other=0.0).to(tl.float32)
    first = tl.load(x + start + c, mask=inside, other=0.0).to(tl.float32)  # sums of differences from it cancel less
    s1 = tl.zeros([CB], tl.float32)
    s2 = tl.zeros([CB], tl.float32)
    for p0 in range(0, P, PB):
        p = p0 + tl.arange(0, PB)
        there = (p[:, None] < P) & inside[None, :]
        v = tl.load(x + start + p[:, None] * C + c[None, :], mask=there, other=0.0).to(tl.float32)
        v = tl.where(there, v - first[None, :], 0.0)
        s1 += tl.sum(v, 0)
        s2 += tl.sum(v * v, 0)
    own_mean = first + s1 / P + shift
    group_mean = tl.sum(tl.reshape(own_mean, [CB // GS, GS]), 1) / GS
    off = own_mean - per_channel(group_mean, CB, GS)
    squares = s2 - s1 * (s1 / P) + P * off * off  # about the group's mean
    group_rstd = 1.0 / tl.sqrt(tl.sum(tl.reshape(squares, [CB // GS, GS]), 1) / (GS * P) + eps)
    g = block * (CB // GS) + tl.arange(0, CB // GS)
    tl.store(mean + n * G + g, group_mean, mask=g < G)
    tl.store(rstd + n * G + g, group_rstd, mask=g < G)
    w = tl.load(weight + n * SN + c, mask=inside, other=0.0).to(tl.float32) * per_channel(group_rstd, CB, GS)
    b = tl.load(bias + n * SN + c, mask=inside, other=0.0).to(tl.float32)
    b += (shift - per_channel(group_mean, CB, GS)) * w
    for p0 in range(0, P, PB):
        p = p0 + tl.arange(0, PB)
        there = (p[:, None] < P) & inside[None, :]
        at = start + p[:, None] * C + c[None, :]
        z = tl.load(x + at, mask=there, other=0.0).to(tl.float32) * w[None, :] + b[None, :]
        if SILU:
            z = z * tl.sigmoid(z)
        tl.store(y + at, z.to(y.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=["G", "SN"])
def norm_backward_kernel(
    x,
    grad,
    dx,
    weight,
    bias,
    before,
    mean,
    rstd,
    others,
    P,
    C,
    G,
    SN,
    SILU: tl.constexpr,
    BEFORE: tl.constexpr,
    CB: tl.constexpr,
    PB: tl.constexpr,
    GS: tl.constexpr,
):
    """The sums over places that the gradient by x needs, then that gradient."""
    n, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    c = block * CB + tl.arange(0, CB)
    inside = c < C
    start = n * P * C
    m = tl.load(mean + n * G + c // GS, mask=inside, other=0.0)
    r = tl.load(rstd + n * G + c // GS, mask=inside, other=0.0)
    if BEFORE:
        m -= tl.load(before + c, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + n * SN + c, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(bias + n * SN + c, mask=inside, other=0.0).to(tl.float32)
    s0 = tl.zeros([CB], tl.float32)
    s1 = tl.zeros([CB], tl.float32)
    s2 = tl.zeros([CB], tl.float32)
    for p0 in range(0, P, PB):
        p = p0 + tl.arange(0, PB)
        there = (p[:, None] < P) & inside[None, :]
        v, g = norm_gradient(x, grad, start + p[:, None] * C + c[None, :], there, m, r, w, b, SILU)
        s0 += tl.sum(v, 0)
        s1 += tl.sum(g, 0)
        s2 += tl.sum(g * v, 0)
    to = others + n * (2 + BEFORE) * C + c
    tl.store(to, s2, mask=inside)
    tl.store(to + C, s1, mask=inside)
    m1 = per_channel(tl.sum(tl.reshape(w * s1, [CB // GS, GS]), 1) / (GS * P), CB, GS)
    m2 = per_channel(tl.sum(tl.reshape(w * s2, [CB // GS, GS]), 1) / (GS * P), CB, GS)
    if BEFORE:  # the gradient by x, added up over places
        tl.store(to + 2 * C, r * (w * s1 - P * m1 - m2 * s0), mask=inside)
    for p0 in range(0, P, PB):
        p = p0 + tl.arange(0, PB)
        there = (p[:, None] < P) & inside[None, :]
        at = start + p[:, None] * C + c[None, :]
        v, g = norm_gradient(x, grad, at, there, m, r, w, b, SILU)
        d = r[None, :] * (w[None, :] * g - m1[None, :] - v * m2[None, :])
        tl.store(dx + at, d.to(dx.dtype.element_ty), mask=there)


@triton.jit
def norm_gradient(x, grad, at, there, m, r, w, b, SILU: tl.constexpr):
    """What was normalised, and the gradient by what a SiLU, if any, was given; 0 where there is nothing."""
    v = (tl.load(x + at, mask=there, other=0.0).to(tl.float32) - m[None, :]) * r[None, :]
    v = tl.where(there, v, 0.0)
    g = tl.load(grad + at, mask=there, other=0.0).to(tl.float32)
    if SILU:
        z = v * w[None, :] + b[None, :]
        s = tl.sigmoid(z)
        g = g * s * (1.0 + z * (1.0 - s))
    return v, g


@triton.jit(do_not_specialize=["R", "some"])
def column_sums_kernel(x, parts, R, C, some, CB: tl.constexpr, PB: tl.constexpr):
    """The sums of `some` rows of an (R, C) matrix, for a block of columns."""
    part, c = tl.program_id(0).to(tl.int64), tl.program_id(1) * CB + tl.arange(0, CB)
    s = tl.zeros([CB], tl.float32)
    for r0 in range(0, some, PB):
        row = r0 + tl.arange(0, PB)
        r = part * some + row
        there = (row[:, None] < some) & (r[:, None] < R) & (c[None, :] < C)
        s += tl.sum(tl.load(x + r[:, None] * C + c[None, :], mask=there, other=0.0).to(tl.float32), 0)
    tl.store(parts + part * C + c, s.to(parts.dtype.element_ty), mask=c < C)


@triton.jit
def add_kernel(x, y, bias, out, N, C, NB: tl.constexpr):
    """x + y + bias for a stretch of numbers; a number's column is its place modulo C."""
    at = tl.program_id(0).to(tl.int64) * NB + tl.arange(0, NB)
    there = at < N
    total = tl.load(x + at, mask=there, other=0.0).to(tl.float32) + tl.load(y + at, mask=there, other=0.0).to(
        tl.float32
    )
    total += tl.load(bias + at % C, mask=there, other=0.0).to(tl.float32)
    tl.store(out + at, total.to(out.dtype.element_ty), mask=there)


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
