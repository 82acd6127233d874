"""Probes that many exercises share: promises that most docstrings make, each tried on one ordinary call.

    @q_sample.promises("samples", "dtype", "layout", "device", "gradients")
    def ordinary(f, draw):
        return f, dict(x0=draw.normal(3, 2, 4, 5), ...)

`ordinary` returns what to call (the function, or a layer made with `f`) and the arguments by name; the first tensor
among them says how large the batch is. An exercise names each promise of `PROMISES`, or says in a keyword why it does
not apply.
"""

import copy
import inspect

import torch
from torch import nn

from .guard import InputChanged, tensors
from .other_device import OtherDevice, tensors_in
from .probes import alike, close, describe, holds, shorten


def samples(call, inputs, draw):
    """Each sample alone, a batch of one, gives what it gives in a batch of different ones."""
    batch = batch_size(inputs)
    whole = results(call, inputs)
    alone = []
    for i in range(batch):
        alone.append(results(call, {key: one_of(value, i, batch) for key, value in inputs.items()}))
    same_count = all(len(parts) == len(whole) for parts in alone)
    yield holds(
        "a batch of one gives as many tensors as a larger one", same_count, "their number differs", usable=False
    )
    for index, want in enumerate(whole):
        parts = [parts[index] for parts in alone]
        shapes = {tuple(part.shape) for part in parts}
        fits = want.ndim > 0 and shapes == {(1, *want.shape[1:])}
        message = f"in a batch of {batch} the shape is {tuple(want.shape)}, in one of 1 it is {shorten(shapes)}"
        yield holds("a batch of one has the shape (1, ...)", fits, message, usable=False)
        yield close("each sample alone gives what it gives in a batch", torch.cat(parts), want, 1e-4, 1e-3)


def dtype(call, inputs, draw):
    """Float64 inputs give a float64 result, and the same one."""
    drawn = any(map(is_generator, inputs.values()))  # other numbers come for float64
    for got, want in zip(results(*in_float64(call, inputs)), results(call, inputs)):
        kind = torch.float64 if want.is_floating_point() else want.dtype
        if drawn:
            yield holds("float64 in, float64 out", got.dtype == kind, f"expected {kind}, got {got.dtype}")
        else:
            yield close("float64 in, float64 out", got, want, 1e-4, 1e-3, dtype=kind)


def layout(call, inputs, draw):
    """How the inputs lie in memory changes nothing."""
    moved = {key: stored_otherwise(value) if torch.is_tensor(value) else value for key, value in inputs.items()}
    for got, want in zip(results(call, moved), results(call, inputs)):
        yield close("inputs that lie in memory in another order give the same", got, want, 1e-4, 1e-3)


def device(call, inputs, draw):
    """All tensors are made where the data is, so that the code runs on a GPU as well."""
    given = fresh_generators(inputs)
    marked = [tensor for value in (*given.values(), call) for tensor in all_tensors(value)]
    with OtherDevice() as mode:
        mode.mark(*marked, *filter(is_generator, given.values()))
        try:
            result = call(**given)
        except InputChanged:
            raise
        except Exception:  # what the pretended device cannot do proves nothing
            result = None
    met = mode.met + [
        f"{mode.here(tensor)} made the result on the CPU" for tensor in tensors_in(result) if mode.here(tensor)
    ]
    message = f"{met[0]}: a GPU refuses. Give `device=x.device` of the data there" if met else ""
    yield holds("tensors are made on the data's device", not met, message)


def gradients(call, inputs, draw, to=None):
    """A gradient reaches each input of floats and each weight, and is the slope."""
    call, inputs = in_float64(call, inputs)
    if isinstance(call, nn.Module):
        call.eval()  # without dropout
    names = [key for key, value in inputs.items() if torch.is_tensor(value) and value.is_floating_point()]
    leaves = {key: inputs[key].detach().clone().requires_grad_() for key in names if to is None or key in to}
    weights = {f"the weight {key}": value for key, value in weights_of(call, inputs)}
    frozen = [key for key, weight in weights.items() if not weight.requires_grad]
    yield holds("each weight can learn", not frozen, f"requires_grad is False: {', '.join(frozen)}")
    watched = {**leaves, **{key: weight for key, weight in weights.items() if weight.requires_grad}}
    out = [tensor for tensor in results(call, {**inputs, **leaves}) if tensor.is_floating_point()]
    generator = draw.generator()
    directions = [torch.randn(each.shape, generator=generator, dtype=each.dtype) for each in out]
    total = sum((one * way).sum() for one, way in zip(out, directions))
    if not total.requires_grad:
        yield holds(
            "the result has a gradient", False, "it has none: is there a `no_grad`, `detach`, `.data` or `.item()`?"
        )
        return
    found = torch.autograd.grad(total, list(watched.values()), allow_unused=True)
    lost = [key for key, slope in zip(watched, found) if slope is None or not slope.any()]
    message = (
        f"none reaches {', '.join(f'`{key}`' for key in lost)}: is there a `detach`, `no_grad`, `.data` or `.item()`?"
    )
    yield holds("a gradient reaches each input and each weight", not lost, message)
    if any(each.dtype != torch.float64 for each in out):  # too few digits for differences
        return

    def value(**changed):
        with torch.no_grad():
            moved = [each for each in results(call, {**inputs, **changed}) if each.is_floating_point()]
        return sum((one * way).sum() for one, way in zip(moved, directions))

    for key, slope in zip(leaves, found):
        step = torch.randn(leaves[key].shape, generator=generator, dtype=torch.float64)
        start = leaves[key].detach()
        want = (value(**{key: start + 1e-6 * step}) - value(**{key: start - 1e-6 * step})) / 2e-6
        got = (slope * step).sum() if slope is not None else torch.zeros(())
        yield close(f"the slope along {key}, by autograd and by differences", got.double(), want, 1e-4, 1e-3)


def generator(call, inputs, draw):
    """What is drawn depends on the generator, on all of its state, and on nothing else."""
    first = results(call, inputs)
    torch.default_generator.manual_seed(draw.integers(0, 2**31 - 1))
    again = results(call, inputs)
    same = len(first) == len(again) and all(map(torch.equal, first, again))
    message = "two equal generators, two results: give `generator=generator` wherever something is drawn"
    yield holds("the same seed gives the same result", same, message)
    given = fresh_generators(inputs)
    earlier, later = list(tensors_in(call(**given))), list(tensors_in(call(**given)))
    differ = any(not torch.equal(one, two) for one, two in zip(earlier, later))
    message = (
        "the generator went on, and the same numbers came again: draw from it as it is, without a seed of your own"
    )
    yield holds("the same generator, used once more, gives another result", differ, message)
    without = {key: None if is_generator(value) else value for key, value in inputs.items()}
    torch.default_generator.manual_seed(draw.integers(0, 2**31 - 1))
    differ = any(not torch.equal(one, two) for one, two in zip(results(call, without), results(call, without)))
    yield holds("without a generator, each call draws anew", differ, "two calls drew the same numbers: a fixed seed?")


def noise(call, inputs, draw):
    """Each number of a sample gets noise of its own."""
    changed = results(call, inputs)
    for one, two in zip(changed, results(call, with_other_seeds(inputs, draw))):
        difference = (one - two).double()
        same = [axis for axis in range(difference.ndim) if one.shape[axis] > 1 and constant(difference, axis)]
        message = f"along axis {shorten(same)} all numbers get the same noise: draw as many as the data has, x.shape"
        yield holds("each number gets noise of its own", not same, message)


PROMISES = {each.__name__: each for each in (samples, dtype, layout, device, gradients, generator, noise)}
DRAWN = ("generator", "noise")  # for pieces that take a `generator`


def promised(target):
    """The promises that an exercise has to apply or to excuse, from the signature of its reference."""
    methods = (
        [part for part in vars(target).values() if inspect.isfunction(part)] if inspect.isclass(target) else [target]
    )
    draws = any("generator" in inspect.signature(method).parameters for method in methods)
    return {name for name in PROMISES if draws or name not in DRAWN}


def results(call, inputs):
    """The tensors that a call returns; generators among the arguments begin where they began."""
    result = call(**fresh_generators(inputs))
    if inspect.isgenerator(result):
        result = list(result)
    found = list(tensors_in(result))
    if not found:
        raise TypeError(f"expected a tensor, got {describe(result)}")
    return found


def fresh_generators(inputs):
    """The inputs with new generators of the same seeds."""
    return {key: remade(value, value.initial_seed()) if is_generator(value) else value for key, value in inputs.items()}


def with_other_seeds(inputs, draw):
    """The inputs with generators of other seeds."""
    return {key: draw.generator() if is_generator(value) else value for key, value in inputs.items()}


def is_generator(value):
    return isinstance(value, torch.Generator)


def remade(generator, seed):
    return torch.Generator(generator.device).manual_seed(seed)


def batch_size(inputs):
    """How many samples there are: the length of the first tensor (or else list) among the inputs."""
    first = next((value for value in inputs.values() if torch.is_tensor(value)), None)
    return len(first if first is not None else next(value for value in inputs.values() if isinstance(value, list)))


def one_of(value, i, batch):
    """Sample i as a batch of one; what has no axis of samples stays."""
    batched = isinstance(value, list) or torch.is_tensor(value) and value.ndim
    return value[i : i + 1] if batched and len(value) == batch else value


def in_float64(call, inputs):
    """What to call and its inputs, with floats of 64 bits."""

    def doubled(value):
        if isinstance(value, nn.Module):
            return copy.deepcopy(value).double()
        return value.double() if torch.is_tensor(value) and value.is_floating_point() else value

    return doubled(call), {key: doubled(value) for key, value in inputs.items()}


def stored_otherwise(tensor):
    """An equal tensor whose neighbours lie apart in memory."""
    if tensor.ndim < 2:
        return torch.stack([tensor, tensor], -1)[..., 0]
    return tensor.transpose(0, -1).contiguous().transpose(0, -1)


def weights_of(call, inputs):
    """(name, weight) of each module among what is called and its inputs."""
    for value in (call, *inputs.values()):
        if isinstance(value, nn.Module):
            yield from value.named_parameters()


def all_tensors(value):
    """All tensors in a value: also a module's, a schedule's, and those in lists."""
    if isinstance(value, nn.Module):
        return [*value.parameters(), *value.buffers()]
    return [tensor for _, tensor in tensors("", value)]


def constant(values, axis):
    """Whether nothing changes along an axis, up to rounding."""
    return alike(values, values.narrow(axis, 0, 1).expand_as(values).clone(), 1e-6, 1e-4)
