r"""How like is a picture to the one that it should be? Pictures in [0, 1], in float64.

The peak signal-to-noise ratio compares pixel by pixel, each by itself (`metrics.psnr`). The structural similarity (Wang
et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE Transactions on Image
Processing, 2004) compares what small windows look like: how bright, how much contrast, which pattern.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .metrics import require_unit_pictures

WINDOW, SIGMA = 11, 1.5  # pixels: the window of Wang et al., and the width of its Gaussian
C1, C2 = 0.01**2, 0.03**2  # so that nothing is divided by 0; for a largest value of 1


def psnr_per_picture(x: Tensor, y: Tensor) -> Tensor:
    """The peak signal-to-noise ratio of each picture, or of each frame of clips, by itself.

    Its mean is another number than `psnr` of all of them together, which pools the error: a mean of
    logarithms is no logarithm of a mean. It is never smaller in dB, and a single perfect frame
    makes it infinite.

    Args:
        x, y: pictures (B, C, H, W) or clips (B, C, F, H, W) of one shape, values in [0, 1].

    Returns:
        (B,) or (B, F) float64 in dB; infinite for equal pictures.

    Raises:
        ValueError: as for `psnr`, and for another number of axes.
    """
    x, y = pictures_of(x, y)
    axes = (1, 2, 3) if x.ndim == 4 else (1, 3, 4)
    return -10 * (x - y).square().mean(dim=axes).log10()


def ssim_of_moments(
    mu_x: Tensor,
    mu_y: Tensor,
    var_x: Tensor,
    var_y: Tensor,
    cov: Tensor,
) -> Tensor:
    r"""Structural similarity of two windows, from their means, variances and covariance.

    It is luminance * contrast * structure, with C3 = C2 / 2.

    Equation:
        luminance = (2 mu_x mu_y + C1) / (mu_x^2 + mu_y^2 + C1)
        contrast  = (2 sigma_x sigma_y + C2) / (sigma_x^2 + sigma_y^2 + C2)
        structure = (sigma_xy + C3) / (sigma_x sigma_y + C3)

        ssim = (2 mu_x mu_y + C1) (2 sigma_xy + C2)
               / ( (mu_x^2 + mu_y^2 + C1) (sigma_x^2 + sigma_y^2 + C2) )

    Args:
        mu_x, mu_y: means of the two windows, of any shape.
        var_x, var_y: their variances, of the same shape.
        cov: their covariance.

    Returns:
        A tensor of that shape: 1 for equal windows, and nowhere more. Its slope is finite also
        where a variance is 0.
    """
    luminance = (2 * mu_x * mu_y + C1) / (mu_x**2 + mu_y**2 + C1)
    rest = (2 * cov + C2) / (var_x + var_y + C2)
    return luminance * rest


def gaussian_window() -> Tensor:
    """The weights of one row of the window, (11,) float64; they add up to 1."""
    x = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-x.square() / (2 * SIGMA**2))
    return weights / weights.sum()


def window_mean(x: Tensor) -> Tensor:
    """The Gaussian mean around each place where a whole window fits.

    (N, 1, H, W) -> (N, 1, H - 10, W - 10).
    """
    weights = gaussian_window().to(x)
    return F.conv2d(F.conv2d(x, weights[None, None, None]), weights[None, None, :, None])


def ssim(x: Tensor, y: Tensor) -> float:
    r"""Mean structural similarity of pictures, or of the frames of clips; higher is better.

    Around each place, a window of 11 x 11 pixels, weighted by a Gaussian of width 1.5, gives means,
    variances and the covariance of x and y, and these the similarity (`ssim_of_moments`). It is
    averaged over all places whose window lies inside the picture, channels, frames and pictures.

    Equation:
        mu_x = sum_w g_w x_w
        var_x = sum_w g_w x_w^2 - mu_x^2
        cov = sum_w g_w x_w y_w - mu_x mu_y

    Args:
        x, y: pictures (B, C, H, W) or clips (B, C, F, H, W) of one shape, values in [0, 1], H and
            W >= 11. Estimates may lie a little beyond, as for `psnr`.

    Returns:
        A float, 1 for equal pictures. It may be negative. Symmetric: the same for (y, x).

    Raises:
        ValueError: as for `psnr`, for another number of axes, or for pictures smaller than a
            window.
    """
    x, y = pictures_of(x, y)
    if min(x.shape[-2:]) < WINDOW:
        came = f"{x.shape[-2]} x {x.shape[-1]}"
        raise ValueError(f"expected at least {WINDOW} x {WINDOW} pixels, got {came}")
    x, y = (each.reshape(-1, 1, *each.shape[-2:]) for each in (x, y))  # (B C F, 1, H, W)
    mu_x, mu_y = window_mean(x), window_mean(y)
    var_x, var_y = window_mean(x * x) - mu_x**2, window_mean(y * y) - mu_y**2
    cov = window_mean(x * y) - mu_x * mu_y
    return ssim_of_moments(mu_x, mu_y, var_x, var_y, cov).mean().item()


def pictures_of(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float64, or a ValueError unless they are pictures or clips in [0, 1] of one shape."""
    require_unit_pictures(x, y)
    if x.ndim not in (4, 5):
        raise ValueError(f"expected pictures (B, C, H, W) or clips (B, C, F, H, W), got shape {tuple(x.shape)}")
    return x.double(), y.double()
