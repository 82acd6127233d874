"""Good scores for nothing: what a metric rewards is not always what was meant."""

import torch
from torch import Tensor


def same_moments(features: Tensor) -> Tensor:
    """Features whose Frechet distance to the given ones is 0, though none of them is one of these.

    They are not nearly the given ones, either: the distance of one to the nearest given one is, in
    the median, more than a tenth of that between two neighbours among the given ones.

    Args:
        features: (N, D), N >= 3, not all equal.

    Returns:
        (N, D).
    """
    return 2 * features.mean(dim=0) - features


def worthless(metric: str, clips: Tensor, labels: Tensor) -> Tensor:
    """As many clips as were given, that score well by a metric and are of no use.

        "psnr"               one clip, N times. Its mean squared error to the given clips, averaged
                             over these, is as small as that of any clip can be
        "frame consistency"  1, for any embedding of frames; and no frame is one of the given ones
        "inception score"    at most one clip of each label, of the given ones; and by a classifier
                             that is sure of each label, no N clips would score higher

    Args:
        metric: one of these names.
        clips: (N, 3, F, H, W) good clips.
        labels: (N,) long: what a classifier finds in each, any numbers.

    Returns:
        (N, 3, F, H, W).

    Raises:
        ValueError: for another name.
    """
    if metric == "psnr":
        return clips.mean(dim=0, keepdim=True).expand_as(clips)
    if metric == "frame consistency":
        return torch.full_like(clips, clips.min() - 1)
    if metric == "inception score":
        firsts = torch.stack([clips[labels == label][0] for label in labels.unique()])
        return firsts[torch.arange(len(clips), device=clips.device) % len(firsts)]
    names = '"psnr", "frame consistency" or "inception score"'
    raise ValueError(f"expected {names}, got {metric!r}")
