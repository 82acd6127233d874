"""For functions that differentiate inside: they work wherever they are called, in `inference_mode`, too.

`torch.enable_grad` undoes `no_grad`, but not `inference_mode`, where tensors are made that autograd never takes.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor


def outside_inference_mode(function: Callable) -> Callable:
    """A function that runs outside of inference mode, on arguments that autograd takes.

    Inside it, gradients are recorded or not as where it was called; in inference mode they are not. Tensors made in
    inference mode, also in a dict, come to it as copies, everything else as it is. (The weights of a model that was
    made in inference mode itself stay what they are: for them PyTorch raises an error.)
    """

    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        recorded = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(recorded):
            return function(*map(usable, args), **{name: usable(value) for name, value in kwargs.items()})

    return wrapper


def usable(value: object) -> object:
    """A copy of a tensor made in inference mode, or of a dict with such tensors; anything else as it is."""
    if isinstance(value, dict):
        return {key: usable(each) for key, each in value.items()}
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value
