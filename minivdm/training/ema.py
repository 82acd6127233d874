"""The averaged weights to sample from."""

import copy

import torch
from torch import nn


class EMA:
    r"""Exponential moving average of a model's weights, for sampling.

    Ho et al., NeurIPS 2020, appendix B, where d = 0.9999 throughout; the warm-up is TensorFlow's.

        average <- d * average + (1 - d) * weights
        d = min( decay, (1 + n) / (10 + n) ),           n = 0, 1, 2, .. updates made before this one

    The early, smaller d lets the average forget the random start.

    Args:
        model: the network in training; `ema.model` is the averaged copy.
        decay: the final d, 0 or more and below 1.

    Raises:
        ValueError: if decay is another number, or weights have 16 bits: too few for an update.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie between 0 and 1 (1 excluded), got {decay}")
        if any(p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters()):
            raise ValueError("expected float32 weights, got 16 bits, which lose small updates")
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the present weights of `model`, which stay as they are; buffers are copied."""
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for average, weights in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(weights, 1 - d)
        for average, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)


EMA.update.has_fused_kernels = True  # `update_average` has a faster way to these numbers


@torch.no_grad()
def update_average(ema: EMA, model: nn.Module) -> None:
    """`ema.update(model)`; on a CUDA card with all weights in a few kernels, unless somebody else wrote the update."""
    weights = list(model.parameters())
    if not (weights[0].is_cuda and getattr(type(ema).update, "has_fused_kernels", False)):
        ema.update(model)
        return
    d = min(ema.decay, (1 + ema.updates) / (10 + ema.updates))
    ema.updates += 1
    torch._foreach_lerp_(list(ema.model.parameters()), weights, 1 - d)
    for average, buffer in zip(ema.model.buffers(), model.buffers(), strict=True):
        average.copy_(buffer)
