"""What several test files need: random weights, a count of operations, contrasts, and the notebooks as built."""

import copy
import functools
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def with_random_weights(module, seed=0):
    """The module with all parameters drawn at random: layers that start at zero would hide mistakes."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.15 * torch.randn_like(parameter))
    return module


class CountOperations(TorchDispatchMode):
    """Counts tensor operations while it is active: `with CountOperations() as count: ...; count.calls`."""

    calls = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += 1
        return function(*args, **(kwargs or {}))


def luminance(colour):
    """The relative luminance of a colour such as "#1e7e34" (WCAG 2.2)."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear))


def contrast(one, other):
    """The contrast of two colours, from 1 (the same) to 21 (black and white)."""
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


@functools.cache
def all_built():
    from minivdm.course.build import notebooks

    return notebooks(Path(__file__).resolve().parents[1])


def built(path):
    """A notebook of the course as its source gives it, whatever somebody has done in the file at `path`."""
    return copy.deepcopy(all_built()[path])
