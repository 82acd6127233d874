r"""How far apart are two sets of samples? Functions of features (N, D), never of networks, in float64."""

import torch
from torch import Tensor


def frechet_distance(x: Tensor, y: Tensor) -> float:
    r"""Distance between Gaussians fitted to two sets of features (Frechet, 1957; FID: Heusel et al., NeurIPS 2017).

        d = |mu_x - mu_y|^2 + tr( S_x + S_y - 2 (S_x S_y)^(1/2) ),        covariances S with N - 1

    The trace of the root is the sum of the roots of the eigenvalues of S_x S_y.

    Args:
        x, y: (N, D) and (M, D) features, N and M >= 2.

    Returns:
        A float >= 0, in squared units of the features.

    Raises:
        ValueError: if a set has fewer than two samples, the dimensions differ, or a feature is not finite.
    """
    x, y = checked_features(x, y)
    s_x, s_y = torch.cov(x.T).reshape(x.shape[1], -1), torch.cov(y.T).reshape(y.shape[1], -1)  # (D, D)
    # S_x^(1/2) S_y S_x^(1/2) has the eigenvalues of S_x S_y and is symmetric, which keeps them real.
    values, vectors = torch.linalg.eigh(s_x)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T  # (D, D)
    trace = torch.linalg.eigvalsh(root @ s_y @ root).clamp(min=0).sqrt().sum()
    distance = (x.mean(0) - y.mean(0)).square().sum() + s_x.trace() + s_y.trace() - 2 * trace
    return max(distance.item(), 0.0)


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

    Args:
        x, y: tensors of one shape, values in [0, 1]; estimates may lie a little beyond, by up to `OVERSHOOT`.

    Returns:
        A float in dB; infinite for equal inputs.

    Raises:
        ValueError: if the shapes differ, or these are no such pictures: bytes, NaN, infinity, another range.
    """
    if x.shape != y.shape:
        raise ValueError(f"expected two tensors of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    require_pictures(x, "[0, 1]")
    require_pictures(y, "[0, 1]")
    for each in (x, y):
        if each.min() < -OVERSHOOT or each.max() > 1 + OVERSHOOT:
            raise ValueError(
                f"expected values in [0, 1], got {each.min():.3g}..{each.max():.3g}: (x + 1) / 2 maps [-1, 1]"
            )
    return -10 * (x.double() - y.double()).square().mean().log10().item()


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
