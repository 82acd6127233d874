"""How a check is written: a generator function that yields probes, and its misconceptions.

    @exercise("forward_process.q_sample")
    def q_sample(f, draw):
        x0 = draw.normal(4, 3, 8, 8)
        yield close("x_t for images", f(x0, ...), want)

    q_sample.edit("no square root", {"alpha_bar.sqrt()": "alpha_bar"}, "alpha_bar is a variance: which power ...?")

`f` is the learner's function or class; `draw` makes inputs that are new each time. Each probe compares one property
with what theory says, never with the reference's output. A misconception is a wrong implementation that people really
write, most of them an edit of the reference; a wrong answer that agrees with it on every probe gets its hint.
"""

import inspect

import torch

from .docstrings import with_changes, without_docstrings
from .method_transplant import transplant
from .originals import made_again, reference, resolve, run_in_module, source_of
from .probes import close, equal, holds, near, raises, reaches
from .shared_probes import PROMISES, promised

__all__ = ["close", "equal", "exercise", "holds", "near", "raises", "reaches"]

registry = {}  # piece name -> Exercise


class Exercise:
    """The check of one piece: a generator function of probes, and its misconceptions as (label, hint, wrong)."""

    def __init__(self, name, probes):
        self.name, self.own_probes = name, probes
        self.misconceptions = []
        self.ordinary, self.applied, self.excused, self.in_place = None, {}, {}, False

    def probes(self, f, draw):
        """All probes: the exercise's own, then, if all of these hold, the shared ones that it names."""
        fine = True
        for probe in self.own_probes(f, draw):
            fine = fine and probe.ok
            yield probe
        for name, options in self.applied.items() if fine else ():
            call, inputs = self.ordinary(f, draw)
            yield from PROMISES[name](call, inputs, draw, **options)

    def promises(self, *names, **others):
        """Register an ordinary call, and which of the shared probes are tried on it.

            @q_sample.promises("samples", "dtype", "layout", "device", "gradients")
            def ordinary(f, draw):
                return f, dict(x0=draw.normal(3, 2, 4, 5), ...)

        Args:
            names: promises of `shared_probes.PROMISES` that hold.
            others: one that does not, and why: `samples="the loss is a mean over the batch"`; or the inputs which a
                gradient must reach, if not all: `gradients=("x0", "noise")`.

        Raises:
            ValueError: if a promise is neither named nor excused, or is none.
        """
        self.applied = dict.fromkeys(names, {}) | {n: {"to": to} for n, to in others.items() if not isinstance(to, str)}
        self.excused = {name: why for name, why in others.items() if isinstance(why, str)}
        said, wanted = {*self.applied, *self.excused}, promised(reference(self.name))
        if said != wanted:
            raise ValueError(f"{self.name}: promises to name or to excuse are {sorted(wanted)}, got {sorted(said)}")

        def add(ordinary):
            self.ordinary = ordinary
            return ordinary

        return add

    def edit(self, label, changes, hint):
        """Add a mistake that differs from the reference in a few words.

            q_sample.edit("no square root", {"alpha_bar.sqrt()": "alpha_bar"}, "alpha_bar is a variance: ...")

        Args:
            label: a name for it, unique in this exercise.
            changes: dict from text in the reference, its docstrings apart, to what stands there instead.
            hint: what to tell whoever has made it.
        """
        self.misconceptions.append((label, hint, changes))

    def misconception(self, label, hint):
        """Add a mistake that is no edit: a function, or a class whose methods override the reference's."""

        def add(wrong):
            self.misconceptions.append((label, hint, wrong))
            return wrong

        return add

    def wrong(self, label):
        """The complete wrong implementation behind a misconception, ready to be checked.

        Raises:
            ValueError: if a text to be changed is not in the reference (any more).
        """
        found = {name: made for name, _, made in self.misconceptions}[label]
        if isinstance(found, dict):
            return edited(self.name, found)
        if not inspect.isclass(found):
            return found
        made = made_again(self.name)
        for key, value in transplant(found, made).items():
            setattr(made, key, value)
        return made


def edited(name, changes):
    """A piece's reference with some of its text exchanged; a ValueError if a text is not there."""
    try:
        source = with_changes(without_docstrings(source_of(name)), changes)
    except KeyError as error:
        missing = f"the reference of {name} holds no {error}: this mistake is no edit of it any more"
        raise ValueError(missing) from None
    module, attribute, _ = resolve(name)
    return run_in_module(source, module, f"<{name}, edited>")[attribute]


def exercise(name, in_place=False):
    """Register a generator function `(f, draw)` as the check of the piece `name`.

    `in_place` says that the piece is a function whose work it is to change its first argument.
    """

    def register(probes):
        registry[name] = made = Exercise(name, probes)
        made.in_place = in_place
        return made

    return register


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
