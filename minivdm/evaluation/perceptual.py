r"""How different two pictures look to something that has learnt to see, where PSNR compares pixel by pixel."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .attribute_classifier import AttributeClassifier


@torch.no_grad()
def perceptual_distance(judge: AttributeClassifier, x: Tensor, y: Tensor) -> Tensor:
    r"""How differently two sets of clips look to the convolutions of a trained network.

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018, eq. 1, without
    weights that were learnt from people. For each layer, at each place, f is the vector of its channels:

        d = mean over layers of  mean over places of  | f(x) / |f(x)| - f(y) / |f(y)| |^2

    Args:
        judge: an `AttributeClassifier`; its layers that read a frame are used.
        x, y: (B, 3, F, H, W) or (B, 3, H, W) in [-1, 1]; H and W from 16 on.

    Returns:
        (B,), from 0 on; no unit. Compare distances of one size of pictures alone.

    Raises:
        ValueError: if the shapes differ.
    """
    if x.shape != y.shape:
        raise ValueError(f"expected two sets of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    batch, distances = len(x), []
    if x.ndim == 5:
        x, y = (rearrange(each, "b c f h w -> (b f) c h w") for each in (x, y))
    for layer in judge.frame:
        if isinstance(layer, nn.AdaptiveMaxPool2d):
            break
        x, y = layer(x), layer(y)
        if isinstance(layer, nn.SiLU):
            difference = F.normalize(x, dim=1) - F.normalize(y, dim=1)  # (B F, C, H, W)
            distances.append(difference.square().sum(dim=1).mean(dim=(1, 2)))  # (B F,)
    return torch.stack(distances).mean(dim=0).reshape(batch, -1).mean(dim=1)
