"""Would this code run on a GPU? A pretended device on the CPU tells, without one.

Inputs are marked as lying on the other device. While the code runs, what comes of a marked tensor is marked, too, and a
tensor that a function such as `torch.arange` makes without `device=` is known to lie on the CPU. Where the two meet in
one operation, a GPU would refuse. Values are computed as always, so code may look at them.
"""

import torch
from torch.overrides import TorchFunctionMode, resolve_name

OTHER = torch.device("meta")  # what `x.device` answers for a marked tensor; nothing is ever stored there
MAKERS = {
    getattr(torch, name)
    for name in "arange as_tensor empty eye from_numpy full hann_window linspace logspace ones rand randint randn "
    "randperm range scalar_tensor tensor tril_indices triu_indices zeros".split()
}
LOOK_UP = {torch.Tensor.__getitem__}
COPIES = {torch.Tensor.__setitem__, torch.Tensor.copy_}
MIXED_IS_FINE = LOOK_UP | COPIES | {torch.Tensor.to, torch.Tensor.type_as}  # an index or a value may come from the CPU


class OtherDevice(TorchFunctionMode):
    """Follows marked tensors; `met` lists what a GPU would refuse, in words.

    with OtherDevice() as mode:
        mode.mark(x, t)
        y = f(x, t)
    mode.met, mode.here(y)
    """

    def __init__(self):
        super().__init__()
        self.met, self.generators = [], []
        self.there, self.made = {}, {}  # id -> tensor (held, so that no id comes twice); id -> (tensor, its maker)

    def mark(self, *values):
        """Say that these tensors and generators are on the other device."""
        self.generators += [value for value in values if isinstance(value, torch.Generator)]
        self.there.update((id(value), value) for value in values if torch.is_tensor(value))

    def here(self, tensor):
        """The name of the function that made a tensor on the CPU, or None."""
        return self.made[id(tensor)][1] if id(tensor) in self.made else None

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        given = list(tensors_in((args, kwargs)))
        self.mark(*(each for each in given if id(inner(each)) in self.there))
        there = any(id(tensor) in self.there for tensor in given)
        if there and getattr(function, "__self__", None) is torch.Tensor.device:
            return OTHER
        asked = any(is_other(argument) for argument in (*args, *kwargs.values()))
        args = tuple("cpu" if is_other(argument) else argument for argument in args)
        kwargs = {key: "cpu" if is_other(argument) else argument for key, argument in kwargs.items()}
        makers = [self.here(tensor) for tensor in given if self.here(tensor) and tensor.ndim]
        # An index may come from the CPU, but not the other way round.
        if makers and there and (function not in MIXED_IS_FINE or function in LOOK_UP and self.here(args[0])):
            self.met.append(
                f"{makers[0]} made a tensor on the CPU, and {called(function)} brings it together with the data"
            )
        if kwargs.get("generator") in self.generators and not asked and not there:
            self.met.append(f"{called(function)} draws on the CPU with the generator of the data's device")
        result = function(*args, **kwargs)
        if function in COPIES:  # whatever came in, this stays where it was
            return result
        to_cpu = function is torch.Tensor.cpu or function is torch.Tensor.to and not asked and names_cpu(args, kwargs)
        if to_cpu:
            result = result.view(result.shape)  # a new tensor, also where the old one would have come back
        for tensor in tensors_in(result):
            if (there or asked) and not to_cpu:
                self.made.pop(id(tensor), None)
                self.mark(tensor)
            elif to_cpu or function in MAKERS or given and all(self.here(each) for each in given):
                maker = self.here(given[0]) if given and not to_cpu and self.here(given[0]) else called(function)
                self.there.pop(id(tensor), None)
                self.made[id(tensor)] = tensor, maker
        return result


def inner(tensor):
    """What `torch.func` has wrapped, such as the argument inside of `torch.func.grad`; else the tensor itself."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def is_other(argument):
    """Whether an argument names the pretended device."""
    return not torch.is_tensor(argument) and isinstance(argument, (torch.device, str)) and str(argument) == str(OTHER)


def names_cpu(args, kwargs):
    """Whether the arguments of `Tensor.to` name the CPU."""
    return any(str(arg) == "cpu" for arg in (*args[1:], *kwargs.values()) if not torch.is_tensor(arg))


def called(function):
    """A function's name for a message: "torch.arange"."""
    return (resolve_name(function) or getattr(function, "__name__", str(function))).replace("torch._C._nn.", "F.")


def tensors_in(value, depth=3):
    """The tensors in a value, also inside tuples, lists and dicts."""
    if torch.is_tensor(value):
        yield value
    elif depth and isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item, depth - 1)
    elif depth and isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item, depth - 1)
