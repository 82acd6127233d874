"""What several test files need: a reference written anew, random weights, and a count of tensor operations."""

import importlib
import inspect

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from minivdm.course import sources
from minivdm.course.originals import reference


def rewritten(name):
    """A piece's reference from the same source, but not minivdm's own object."""
    module, _, attribute = name.rpartition(".")
    space = dict(vars(importlib.import_module(sources.import_name(sources.modules()[module]))))
    target = reference(name)
    source = inspect.getsource(space[attribute] if inspect.isclass(target) else inspect.unwrap(target))
    exec(compile(source, f"<{name}>", "exec"), space)
    return space[attribute]


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
