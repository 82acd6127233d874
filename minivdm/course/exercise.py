"""How a check is written: a generator function that yields probes, and its misconceptions.

    @exercise("diffusion.q_sample")
    def q_sample(f, draw):
        x0 = draw.normal(4, 3, 8, 8)
        yield close("x_t for images", f(x0, ...), want)

    @q_sample.misconception("no square root", "alpha_bar is a variance: which power of it scales the data?")
    def _(x0, t, noise, schedule): ...

`f` is the learner's function or class; `draw` makes inputs that are new each time. Each probe compares one property
with what theory says, never with the reference's output. A misconception is a wrong implementation that people really
write; a wrong answer that agrees with it on every probe gets its hint.
"""

import importlib
import inspect
import pkgutil

import torch

from .classes import copy_class, vars_of
from .pieces import reference
from .probes import close, equal, holds, near, raises

__all__ = ["close", "equal", "exercise", "holds", "near", "raises"]

registry = {}  # piece name -> Exercise


class Exercise:
    """The check of one piece: a generator function of probes, and its misconceptions as (label, hint, wrong)."""

    def __init__(self, name, probes):
        self.name, self.probes = name, probes
        self.misconceptions = []

    def misconception(self, label, hint):
        """Add a wrong implementation: a function, or a class whose methods override the reference's."""

        def add(wrong):
            self.misconceptions.append((label, hint, wrong))
            return wrong

        return add

    def wrong(self, label):
        """The complete wrong implementation behind a misconception, ready to be checked."""
        found = {name: made for name, _, made in self.misconceptions}[label]
        if not inspect.isclass(found):
            return found
        made = reference(self.name)
        for cls in reversed(found.__mro__[:-1]):  # misconceptions may share a base class; the last is `object`
            made = copy_class(made, vars_of(cls), cls)
        return made


def exercise(name):
    """Register a generator function `(f, draw)` as the check of the piece `name`."""

    def register(probes):
        registry[name] = made = Exercise(name, probes)
        return made

    return register


def find(name):
    """The exercise for a piece, or None; imports the chapters' checks until it is found."""
    from . import checks

    for module in sorted(pkgutil.iter_modules(checks.__path__), key=lambda module: module.name):
        if name in registry:
            break
        importlib.import_module(f"{checks.__name__}.{module.name}")
    return registry.get(name)


class Draw:
    """Fresh random inputs for one run of a check; the same seed draws the same ones."""

    def __init__(self, seed):
        self.source = torch.Generator().manual_seed(seed)

    def normal(self, *shape):
        """Standard normal float32 tensor."""
        return torch.randn(shape, generator=self.source)

    def uniform(self, *shape, low=0, high=1):
        """Float32 tensor, uniform between low and high."""
        return low + (high - low) * torch.rand(shape, generator=self.source)

    def integers(self, low, high, *shape):
        """Long tensor in low..high, both included; without a shape, an int."""
        drawn = torch.randint(low, high + 1, shape, generator=self.source)
        return drawn if shape else int(drawn)

    def generator(self):
        """A new `torch.Generator` with a seed of its own."""
        return torch.Generator().manual_seed(self.integers(0, 2**31 - 1))

    def choice(self, items):
        """One of the items."""
        return items[self.integers(0, len(items) - 1)]
