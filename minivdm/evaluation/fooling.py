"""Good scores for nothing: what a metric rewards is not always what was meant."""

import torch
from torch import Tensor


def same_moments(features: Tensor) -> Tensor:
    """Features whose Frechet distance to the given ones is 0, though none of them is one of these.

    Nor are they nearly the given ones. Call d the usual (median) distance of a given one to its
    nearest neighbour: at least half of the new ones are farther than d / 10 from every given one.

    Args:
        features: (N, D), N >= 3, scattered as features of clips are. It need not work for a regular
            pattern, such as evenly spaced ones.

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
