"""The Triton programs behind `kernels` (those of attention: `triton_attention`); import only where Triton and CUDA are.

Memory order is B H W C throughout: (n, p, c) lies at (n P + p) C + c, with P = H W places.
"""

import torch
import triton
import triton.language as tl

from .triton_launch import launch

CHANNELS, PLACES = 64, 32  # what one program of the norm holds at a time
FEW_ROWS, PARTS = 1024, 512  # rows that one program adds up at most; parts into which more are cut
NUMBERS = 2048  # of a sum that one program makes


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
