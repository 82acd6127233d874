r"""How far apart are two sets of samples? Functions of features (N, D), never of networks, in float64.

The Frechet distance is too large on average, the more so the fewer samples: compare it at equal N only. The two maximum
mean discrepancies are unbiased.
"""

import math

import torch
from torch import Tensor


def frechet_distance(x: Tensor, y: Tensor) -> float:
    r"""Distance between Gaussians fitted to two sets of features: FID, and FVD for clips.

    Frechet, 1957; Heusel et al., NeurIPS 2017; Unterthiner et al., 2018.

    Equation:
        d = |mu_x - mu_y|^2 + tr( S_x + S_y - 2 (S_x S_y)^(1/2) ),   covariances S with N - 1

        The trace of the root is the sum of the roots of the eigenvalues of S_x S_y. With centred
        features A and B, S_x = A^T A / (N - 1), and it is the sum of the singular values of A B^T,
        over sqrt( (N - 1) (M - 1) ): no rounding error is ever magnified by a root.

    0 for equal sets, and the same for (y, x). It holds for N < D and for covariances without an
    inverse, too.

    Args:
        x, y: (N, D) and (M, D) features, N and M >= 2.

    Returns:
        A float >= 0, in squared units of the features.

    Raises:
        ValueError: if a set has fewer than two samples, the dimensions differ, or a feature is not
            finite, or so large that its square is not.
    """
    x, y = checked_features(x, y)
    scale = max(x.abs().max().item(), y.abs().max().item()) or 1.0  # so that no square overflows
    a, b = x / scale - (x / scale).mean(0), y / scale - (y / scale).mean(0)
    n, m = len(x) - 1, len(y) - 1
    # A = Q R with Q^T Q = 1, so R has the same covariance, and at most D rows.
    r_a, r_b = torch.linalg.qr(a, mode="r").R, torch.linalg.qr(b, mode="r").R
    trace = torch.linalg.svdvals(r_a @ r_b.T).sum() / (n * m) ** 0.5
    between = ((x / scale).mean(0) - (y / scale).mean(0)).square().sum()
    distance = between + a.square().sum() / n + b.square().sum() / m - 2 * trace
    return finite(max(distance.item(), 0.0) * scale * scale, "the squares of the features")


def polynomial_mmd(x: Tensor, y: Tensor) -> float:
    r"""Unbiased squared maximum mean discrepancy with a cubic kernel: KID, and KVD for clips.

    Binkowski et al., "Demystifying MMD GANs", ICLR 2018, section 4; Gretton et al., JMLR 2012,
    eq. 3.

    Equation:
        k(a, b) = (a . b / D + 1)^3
        MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

    Zero on average when both sets come from one distribution, for any number of samples.

    Args:
        x, y: (N, D) and (M, D) features, N and M >= 2.

    Returns:
        A float.

    Raises:
        ValueError: as for `frechet_distance`; here it is their sixth power that may be too large.
    """
    x, y = checked_features(x, y)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3  # (N, M)

    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    n, m = len(x), len(y)
    within_x = (xx.sum() - xx.trace()) / (n * (n - 1))  # without i = j
    within_y = (yy.sum() - yy.trace()) / (m * (m - 1))
    mmd = within_x + within_y - 2 * xy.mean()
    return finite(mmd.item(), "the sixth powers of the features")


def gaussian_mmd(x: Tensor, y: Tensor, bandwidth: float = 1.0) -> float:
    r"""Unbiased squared maximum mean discrepancy with a Gaussian kernel (Gretton et al., JMLR 2012, eq. 3).

        k(a, b) = exp( -|a - b|^2 / (2 bandwidth^2) )
        MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

    Zero on average when both sets come from one distribution; it can be negative, and is not clamped.

    Args:
        x, y: (N, D) and (M, D), N and M >= 2.
        bandwidth: width of the kernel, in the units of x.

    Returns:
        A float.

    Raises:
        ValueError: as for `frechet_distance`, and if the bandwidth is not positive.
    """
    x, y = checked_features(x, y)
    x, y = x - x.mean(0), y - x.mean(0)  # only differences count, and near 0 they lose no digits
    if not 0 < bandwidth < float("inf"):
        raise ValueError(f"the bandwidth must be a positive number, got {bandwidth}")

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-(torch.cdist(a, b) / bandwidth).square() / 2)

    def off_diagonal_mean(k: Tensor) -> Tensor:
        return (k.sum() - k.trace()) / (len(k) * (len(k) - 1))

    mmd = off_diagonal_mean(kernel(x, x)) + off_diagonal_mean(kernel(y, y)) - 2 * kernel(x, y).mean()
    return mmd.item()


OVERSHOOT = 0.5  # beyond that, pictures are in another range: [-1, 1], or 0..255


def psnr(x: Tensor, y: Tensor) -> float:
    """Peak signal-to-noise ratio of two pictures or sets of them, 10 log10( 1 / mean((x - y)^2) ).

    The error is *pooled*: one mean over all pixels, of all pictures. `psnr_per_picture` tells them apart.

    Args:
        x, y: tensors of one shape, values in [0, 1]; estimates may lie a little beyond, by up to `OVERSHOOT`.

    Returns:
        A float in dB; infinite for equal inputs.

    Raises:
        ValueError: if the shapes differ, or these are no such pictures: bytes, NaN, infinity, another range.
    """
    require_unit_pictures(x, y)
    return -10 * (x.double() - y.double()).square().mean().log10().item()


def require_unit_pictures(x: Tensor, y: Tensor) -> None:
    """Raise a ValueError unless both are pictures in [0, 1] of one shape; they may overshoot a little."""
    if x.shape != y.shape:
        raise ValueError(f"expected two tensors of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    for each in (x, y):
        require_pictures(each, "[0, 1]")
        if each.min() < -OVERSHOOT or each.max() > 1 + OVERSHOOT:
            raise ValueError(
                f"expected values in [0, 1], got {each.min():.3g}..{each.max():.3g}: (x + 1) / 2 maps [-1, 1]"
            )


def require_pictures(x: Tensor, values: str = "[-1, 1]", look: bool = True) -> None:
    """Raise a ValueError unless x holds floats, all of them finite; with `look` off, their values are not read.

    Args:
        values: what the message says about their range.
        look: on a GPU, looking waits for the device.
    """
    if not x.is_floating_point() or not x.numel():
        raise ValueError(f"expected pictures as floats in {values}, got {x.dtype} of shape {tuple(x.shape)}")
    if look and not x.isfinite().all():
        raise ValueError(f"expected pictures as floats in {values}, got NaN or infinity among them")


def checked_features(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets as float64, or a ValueError that says what is wrong."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not x.shape[1]:
        raise ValueError(f"expected features (N, D) and (M, D), got {tuple(x.shape)} and {tuple(y.shape)}")
    if len(x) < 2 or len(y) < 2:
        raise ValueError(f"need at least 2 samples in each set, got {len(x)} and {len(y)}")
    if x.is_complex() or y.is_complex():
        raise ValueError(f"features must be real numbers, got {x.dtype} and {y.dtype}")
    if not (torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise ValueError("features must be finite, got NaN or infinity")
    return x.double(), y.double()


def finite(value: float, what: str) -> float:
    """The value, or a ValueError if it is beyond float64."""
    if not math.isfinite(value):
        raise ValueError(f"{what} are too large for float64: divide the features by a number first")
    return value
