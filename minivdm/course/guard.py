"""Calling a learner's code: whose fault is an exception, and were the inputs left alone?

A check calls the learner's function through a `Guard`. It remembers the exceptions that came out of the learner's code
(every other one is a fault of the check), compares tensor arguments before and after each call, and keeps what came
back. For a class it makes a subclass whose methods are guarded in the same way.
"""

import functools
import inspect

import torch

from .method_transplant import map_functions, vars_of


class InputChanged(Exception):
    """A call changed one of its tensor arguments in place; `path` names it, such as `x0` or `schedule.alpha_bar`."""

    def __init__(self, path, explanation):
        super().__init__(f"changed its input `{path}` in place: {explanation}")
        self.path = path


class Guard:
    """Watches the calls of one learner's function or class.

    Attributes:
        error: the latest exception that came out of the guarded code, else None.
        changed: the latest `InputChanged`, else None.
        returned: what the latest outermost call returned.
    """

    def __init__(self):
        self.error, self.changed, self.returned = None, None, None
        self.depth = 0

    def wrap(self, target, methods=None):
        """A guarded version of a function, or of a class with `methods` as its own attributes."""
        return self.subclass(target, methods or vars_of(target)) if inspect.isclass(target) else self.function(target)

    def subclass(self, cls, methods):
        """A subclass of `cls` whose methods are guarded; `self` is not watched for changes."""

        def guard_attribute(attribute):
            skip = 0 if isinstance(attribute, staticmethod) else 1
            return map_functions(attribute, functools.partial(self.function, skip=skip))

        guarded = {key: guard_attribute(attribute) for key, attribute in methods.items()}
        guarded.pop("__minivdm_piece__", None)
        made = type(cls)(cls.__name__, (cls,), {**guarded, "__doc__": cls.__doc__, "__module__": cls.__module__})
        made.__qualname__ = cls.__qualname__
        return made

    def function(self, function, skip=0):
        """A guarded version of `function`; its first `skip` arguments may change."""

        @functools.wraps(function)
        def guarded(*args, **kwargs):
            return self.call(function, skip, args, kwargs)

        return guarded

    def call(self, function, skip, args, kwargs):
        """Call, note an exception, and raise `InputChanged` if a tensor argument came out different."""
        # Inside the learner's own code, methods may well work in place on each other's tensors.
        before = snapshot(function, skip, args, kwargs) if self.depth == 0 else []
        self.depth += 1
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.depth -= 1
        for path, tensor, copy in before:
            explanation = difference(tensor, copy)
            if explanation:
                self.changed = InputChanged(path, explanation)
                raise self.changed
        if self.depth == 0:
            self.returned = result
        return self.generator(result) if inspect.isgenerator(result) else result

    def generator(self, generator):
        """The same generator; an exception inside it counts as the learner's, too."""
        try:
            result = yield from generator
        except Exception as error:
            self.error = error
            raise
        return result


def snapshot(function, skip, args, kwargs):
    """(path, tensor, copy) for each tensor among the arguments, also inside lists, dicts and plain objects."""
    try:
        arguments = dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):  # the call itself will say what is wrong with it
        return []
    watched = list(arguments.items())[skip:]
    return [(path, tensor, tensor.detach().clone()) for name, value in watched for path, tensor in tensors(name, value)]


def tensors(path, value, deep=True):
    """(path, tensor) for `value` and what it holds. Networks and their parameters are there to be changed."""
    if isinstance(value, torch.nn.Parameter) or isinstance(value, torch.nn.Module):
        return
    if torch.is_tensor(value):
        yield path, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from tensors(f"{path}[{index}]", item, deep)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from tensors(f"{path}[{key!r}]", item, deep)
    elif deep and not inspect.isroutine(value) and not inspect.isclass(value):
        for key, item in getattr(value, "__dict__", {}).items():
            yield from tensors(f"{path}.{key}", item, deep=False)


def difference(tensor, copy):
    """What became of a tensor since it was copied, in words; None if nothing."""
    if tensor.shape != copy.shape:
        return f"its shape was {tuple(copy.shape)} and is {tuple(tensor.shape)} now"
    now = tensor.detach()
    same = (now == copy) | ((now != now) & (copy != copy))  # NaN equals NaN here
    if bool(same.all()):
        return None
    index = tuple(int(i) for i in torch.nonzero(~same)[0])
    where = f" at {list(index)}" if index else ""
    changed = f"{int((~same).sum()):,} of {same.numel():,} values"
    return f"{changed}; the first{where} was {copy[index].item():.4g} and is {now[index].item():.4g} now"
