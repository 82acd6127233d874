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
        decay: the final d, below 1.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the present weights of `model`, which stay as they are; buffers are copied."""
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for average, weights in zip(self.model.parameters(), model.parameters()):
            average.lerp_(weights, 1 - d)
        for average, buffer in zip(self.model.buffers(), model.buffers()):
            average.copy_(buffer)
