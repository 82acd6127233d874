"""Calling a learner's code: whose fault is an exception, and were the inputs left alone?

A check calls the learner's function through a `Guard`. It remembers the exceptions that came out of the learner's code
(every other one is a fault of the check), compares arguments before and after each call, and keeps what came back: no
tensor or list may change, no network's mode, `requires_grad` or `.grad`, and no global setting of torch. For a class it
makes a subclass whose methods are guarded in the same way.
"""

import functools
import inspect

import torch

from .method_transplant import map_functions, vars_of


class InputChanged(Exception):
    """A call changed what was not its own; `path` names it, such as `x0`, `schedule.alpha_bar` or `model.weight`."""

    def __init__(self, path, explanation, what="its input "):
        super().__init__(f"changed {what}`{path}`{' in place' if what else ''}: {explanation}")
        self.path = path


class Guard:
    """Watches the calls of one learner's function or class.

    Attributes:
        error: the latest exception that came out of the guarded code, else None.
        changed: the latest `InputChanged`, else None.
        returned: what the latest outermost call returned.
        given: the arguments of that call by name.
    """

    def __init__(self):
        self.error, self.changed, self.returned = None, None, None
        self.given = {}
        self.depth = 0

    def wrap(self, target, methods=None, skip=0):
        """A guarded version of a class with `methods` as its own attributes, or of a function, see `function`."""
        if inspect.isclass(target):
            return self.subclass(target, methods or vars_of(target))
        return self.function(target, skip)

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
        """Call, note an exception, and raise `InputChanged` if an argument or a setting came out different."""
        # Inside the learner's own code, methods may well work in place on each other's tensors.
        arguments = arguments_of(function, skip, args, kwargs) if self.depth == 0 else {}
        before, settings = snapshot(arguments), global_settings() if self.depth == 0 else {}
        if self.depth == 0 and skip and args and isinstance(args[0], torch.nn.Module) and "_modules" in vars(args[0]):
            before.append(("self", args[0], modes_of(args[0]), other_modes))
        if self.depth == 0 and skip and args and function.__name__ in ("forward", "__call__"):
            before += snapshot({"self": args[0]})  # a layer that is called computes, and learns nothing
        self.given = arguments if self.depth == 0 else self.given
        self.depth += 1
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.depth -= 1
        self.compare(before, settings)
        if self.depth == 0:
            self.returned = result
        return self.generator(result) if inspect.isgenerator(result) else result

    def compare(self, before, settings):
        """Raise `InputChanged` for the first of a call's arguments, or of torch's settings, that is not as it was."""
        for path, value, copy, look in before:
            explanation = look(value, copy)
            if explanation:
                self.changed = InputChanged(path, explanation)
                raise self.changed
        now = global_settings() if settings else {}
        for name, was in settings.items():
            if now[name] != was:
                torch.set_grad_enabled(settings["torch.is_grad_enabled()"])
                torch.set_default_dtype(settings["torch.get_default_dtype()"])
                self.changed = InputChanged(name, f"it was {was} and is {now[name]} now, for all code that follows", "")
                raise self.changed

    def generator(self, generator):
        """The same generator; an exception inside it counts as the learner's, too."""
        try:
            result = yield from generator
        except Exception as error:
            self.error = error
            raise
        return result


def arguments_of(function, skip, args, kwargs):
    """The arguments of a call by name, without the first `skip`; none if they do not fit."""
    try:
        arguments = dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):  # the call itself will say what is wrong with it
        return {}
    return dict(list(arguments.items())[skip:])


def snapshot(arguments):
    """(path, value, copy, how to compare) for what a call must leave alone: tensors, lists, dicts, networks' state."""
    kept = []
    for name, value in arguments.items():
        for path, tensor in tensors(name, value):
            kept.append((path, tensor, tensor.detach().clone(), difference))
            kept.append((path, tensor, gradient_of(tensor), other_gradient))
        if isinstance(value, (list, dict)):
            kept.append((name, value, value.copy(), other_items))
        for path, module in modules(name, value):
            state = {key: was.clone() if torch.is_tensor(was) else was for key, was in state_of(module).items()}
            kept.append((path, module, state, other_state))
    return kept


def gradient_of(tensor):
    """What backward passes could leave behind in a tensor: `requires_grad`, and a copy of `.grad`."""
    grad = tensor.grad if tensor.is_leaf else None
    return tensor.requires_grad, None if grad is None else grad.clone()


def other_gradient(tensor, before):
    """What became of a tensor's `requires_grad` and `.grad`, in words; None if nothing."""
    (asked, grad), (now, grad_now) = before, gradient_of(tensor)
    if asked != now:
        return f"its requires_grad was {asked} and is {now} now"
    same = grad is grad_now if grad is None or grad_now is None else torch.equal(grad, grad_now)
    return None if same else f"its .grad was {shown(grad)} and is {shown(grad_now)} now"


def modules(name, value):
    """(path, module) for the networks in a value: itself, or what a plain object holds."""
    held = {f"{name}.{key}": item for key, item in getattr(value, "__dict__", {}).items() if not key.startswith("_")}
    for path, item in {name: value, **held}.items():
        if isinstance(item, torch.nn.Module):
            yield path, item


def modes_of(module):
    """Which layers of a network are in training mode."""
    return {key: each.training for key, each in module.named_modules()}


def other_modes(module, before):
    """What became of a network's mode, in words; None if nothing."""
    now = modes_of(module)
    other = [key for key, was in before.items() if now.get(key, was) != was]
    return f"it is in {'training' if now[other[0]] else 'evaluation'} mode now" if other else None


def state_of(module):
    """What a call could leave behind in a network: its modes, and each weight's value, `requires_grad` and `.grad`."""
    state = {}
    for path, part in module.named_modules():
        state[f"the mode of {path or 'the network'}"] = part.training
        for name, weight in part._parameters.items():
            if weight is not None:
                key = f"{path}.{name}".lstrip(".")
                state |= {f"{key}.requires_grad": weight.requires_grad, f"{key}.grad": weight.grad}
                state[key] = weight.detach()
    return state


def other_state(module, before):
    """What became of a network's state since it was copied, in words; None if nothing."""
    now = state_of(module)
    for key, was in before.items():
        both = torch.is_tensor(was) and torch.is_tensor(now.get(key))
        same = was.is_meta or torch.equal(was, now[key]) if both else was is now.get(key)
        if not same:
            return f"{key} was {shown(was)} and is {shown(now.get(key))} now"
    return None


def shown(value):
    """A setting for a message: tensors are too long."""
    return "a tensor" if torch.is_tensor(value) else repr(value)


def other_items(now, before):
    """What became of a list or dict, in words; None if it holds the same objects."""
    if isinstance(before, dict):
        same = list(now) == list(before) and all(now[key] is before[key] for key in before)
    else:
        same = len(now) == len(before) and all(one is two for one, two in zip(now, before))
    return None if same else f"it held {len(before)} items {repr(before)[:60]} and holds {repr(now)[:60]} now"


def global_settings():
    """Settings of torch that a function must not leave changed."""
    return {
        "torch.is_grad_enabled()": torch.is_grad_enabled(),
        "torch.get_default_dtype()": torch.get_default_dtype(),
        "torch.initial_seed()": torch.initial_seed(),
    }


def tensors(path, value, deep=True):
    """(path, tensor) for `value` and what it holds. Networks and their parameters are there to be changed."""
    if isinstance(value, torch.nn.Parameter) or isinstance(value, torch.nn.Module):
        return
    if torch.is_tensor(value):
        if not value.is_meta:  # which holds no values
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
