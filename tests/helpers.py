"""What several test files need: random weights, a count of tensor operations, and the notebooks as they are built."""

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


@functools.cache
def all_built():
    from minivdm.course.build import notebooks

    return notebooks(Path(__file__).resolve().parents[1])


def built(path):
    """A notebook of the course as its source gives it, whatever somebody has done in the file at `path`."""
    return copy.deepcopy(all_built()[path])
