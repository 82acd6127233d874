"""A hint for a mistake that nobody foresaw: how does the result differ from what was expected?

A sign, a constant factor, a square, a swapped or reversed axis, the mean of the batch, the first sample's answer for
all, too much or too little of an input: each is looked for, simplest first, and named only if it explains every value.
"""

import math
import re
from functools import partial

import torch

from .factor_names import names_of
from .probes import number, tensors_alike
from .wrong_axes import constant, of_axes, of_shapes
from .wrong_factors import of_shares, where_wrong

FACTORS = {
    2: "2",
    0.5: "1/2",
    math.sqrt(2): "sqrt(2)",
    math.sqrt(0.5): "1/sqrt(2)",
    math.pi: "pi",
    1000: "1000",
    255: "255",
}
SHAPES = {  # of a function of each number
    "the square of what is expected: is there a root missing?": lambda x: x**2,
    "the root of what is expected: is there a root too much?": lambda x: x.clamp(min=0).sqrt(),
    "1 divided by what is expected": lambda x: 1 / x,
    "1 minus what is expected": lambda x: 1 - x,
    "the logarithm of what is expected": lambda x: x.clamp(min=0).log(),
    "the exponential of what is expected": lambda x: x.exp(),
    "the absolute value of what is expected": lambda x: x.abs(),
    "what is expected, rounded to whole numbers": lambda x: x.round(),
    "what is expected, rounded down": lambda x: x.floor(),
    "what is expected, with a SiLU after it": lambda x: x * x.sigmoid(),
    "what is expected, with a tanh after it": lambda x: x.tanh(),
}


def how_it_differs(got, want, given):
    """In one sentence, what was made of the expected result; "" if nothing simple explains it.

    Args:
        got: what the learner's code returned.
        want: what was expected.
        given: dict of the call's arguments.
    """
    if isinstance(want, (tuple, list)) and isinstance(got, (tuple, list)):
        return of_lists(got, want) or of_tuples(got, want, given)
    if not torch.is_tensor(want):
        return of_numbers(number(got), number(want))
    if not torch.is_tensor(got):
        return ""
    if got.shape != want.shape:
        return of_shapes(got, want)
    if got.is_complex() or not want.numel():
        return ""
    got, want = got.detach().cpu().double(), want.detach().cpu().double()
    if not got.isfinite().all() or not want.isfinite().all() or tensors_alike(got, want):
        return ""
    of_sums = partial(of_shares, names=names_of(given))
    given = {key: value.detach().cpu().double() for key, value in given.items() if usable(value, got.shape)}
    looks = (of_inputs, of_constants, of_axes, of_ranges, of_sums, of_samples, of_functions, of_parts)
    return next(filter(None, (look(got, want, given) for look in looks)), "")


def of_error(error, given):
    """What PyTorch's complaint about two sizes means where one of them is the number of samples; else ""."""
    sizes = re.search(r"tensor a \((\d+)\) must match the size of tensor b \((\d+)\) .* dimension (\d+)", str(error))
    *pair, axis = map(int, sizes.groups()) if sizes else (0,)
    data = next((value for value in given.values() if torch.is_tensor(value) and value.ndim), torch.ones(1))
    batch = len(data)
    if batch > 2 and 0 < axis < data.ndim and sorted(pair) == sorted((batch, data.shape[axis])):
        return (
            f"Something with one number for each of the {batch} samples met the data along another axis than theirs, "
            "axis 0: give it the shape (B, 1, ..., 1)."
        )
    return ""


def usable(value, shape):
    """Whether an argument is a tensor of the result's shape, or has a number for each sample."""
    return torch.is_tensor(value) and value.shape in (shape, shape[:1]) and not value.is_complex()


def of_numbers(got, want):
    """One number: its sign, or a simple multiple."""
    if got is None or want is None or not math.isfinite(got) or not want:
        return ""
    ratio = got / want
    if abs(ratio + 1) < 5e-3:
        return "The sign is wrong."
    for times in (ratio, 1 / ratio if ratio else 0):
        if 1.5 < times < 1e6 and abs(times - round(times)) < 5e-3 * times and abs(got - want) > 0.01:
            return (
                f"This is {round(times):,} times what is expected."
                if times == ratio
                else f"This is 1/{round(times):,} of what is expected."
            )
    return ""


def of_lists(got, want):
    """A list of numbers or words: in another order, or with one too many or too few."""
    got, want = list(got), list(want)
    if any(not isinstance(item, (int, float, str)) for item in got + want) or got == want:
        return ""
    if got == want[::-1]:
        return "The list is right, but backwards."
    for said, one, other in (("misses", want, got), ("has, besides what is expected,", got, want)):
        if one[:-1] == other and one:
            return f"The list {said} its last item, {one[-1]!r}."
        if one[1:] == other and one:
            return f"The list {said} its first item, {one[0]!r}."
    numbers = len(got) == len(want) and not any(isinstance(item, str) for item in got + want)
    if numbers and len({a - b for a, b in zip(got, want)}) == 1:
        return f"Every number in the list is {abs(got[0] - want[0]):g} too {'large' if got[0] > want[0] else 'small'}."
    if sorted(map(str, got)) == sorted(map(str, want)):
        return "The list has the right items in another order."
    return ""


def of_tuples(got, want, given):
    """A tuple: its members in another order, or one of them."""
    if len(got) != len(want) or not all(map(torch.is_tensor, (*got, *want))):
        return ""
    if len(got) == 2 and tensors_alike(got[0], want[1]) and tensors_alike(got[1], want[0]):
        return "The two results come in the wrong order."
    for index, (one, target) in enumerate(zip(got, want)):
        if not tensors_alike(one, target):
            said = how_it_differs(one, target, given)
            return said and f"Result {index + 1} of {len(want)}: {said}"
    return ""


def of_inputs(got, want, given):
    """An argument that came back as it was."""
    for key, value in given.items():
        if value.shape != got.shape:
            continue
        if tensors_alike(got, value):
            return f"What comes back is `{key}`, unchanged."
        if tensors_alike(got, -value):
            return f"What comes back is `{key}` with a minus sign."
    return "The result is 0 everywhere." if not got.any() and want.any() else ""


def of_constants(got, want, given):
    """One factor or one shift for all numbers."""
    scale = (got * want).sum() / (want * want).sum().clamp(min=1e-300)
    if want.numel() > 1 and want.any() and tensors_alike(got, scale * want) and abs(scale) > 1e-6:
        return "Every number has the wrong sign." if abs(scale + 1) < 1e-3 else of_factor(scale.item(), want)
    shift = (got - want).mean()
    if want.numel() > 1 and tensors_alike(got, want + shift):
        return f"Every number is {abs(shift):.4g} too {'large' if shift > 0 else 'small'}."
    for axis in range(1, want.ndim):
        others = [other for other in range(want.ndim) if other != axis]
        shift = (got - want).mean(others, keepdim=True)
        if 1 < want.shape[axis] < want.numel() / 2 and tensors_alike(got, want + shift):
            return f"Along axis {axis}, each place is off by a number of its own, everywhere the same: is it a bias?"
    return ""


def of_factor(scale, want):
    """A common factor in words, with where it may come from."""
    known = {
        **FACTORS,
        **{size: f"{size} (the size of axis {axis})" for axis, size in enumerate(want.shape) if size > 1},
    }
    known[want.numel()] = f"{want.numel()} (the number of all values)"
    for value, name in known.items():
        for factor, said in ((value, name), (1 / value, f"1/{name}")):
            for sign in (1, -1):
                if abs(scale - sign * factor) < 1e-3 * factor:
                    return f"Every number is {'minus ' if sign < 0 else ''}{said} times what is expected."
    return f"Every number is {scale:.4g} times what is expected: a constant factor."


def of_samples(got, want, given):
    """One answer for the whole batch."""
    if not want.ndim or len(want) < 2 or constant(want, 0):
        return ""
    if constant(got, 0):
        same = "All samples get the answer" if want.ndim > 1 else "All numbers are the same, that"
        for i in range(len(want)):
            if tensors_alike(got[i], want[i]):
                which = {0: "the first one", len(want) - 1: "the last one"}.get(i, f"number {i}")
                return f"{same} of {which}. Each has arguments of its own."
        if tensors_alike(got[0], want.mean(0)):
            return "All samples get the mean of the batch. Each has an answer of its own."
        return f"{same} of none. Each has arguments of its own."
    if want.ndim < 2:
        return ""
    right = [i for i in range(len(want)) if tensors_alike(got[i], want[i])]
    if len(right) < len(want) <= 10 * len(right):  # a few of very many are right by chance
        wrong = [i for i in range(len(want)) if i not in right]
        return where_wrong(wrong, given) or (
            f"Right for some samples of the batch, wrong for others: {some(wrong)} of 0..{len(want) - 1} are wrong."
        )
    ratios = [(got[i] * want[i]).sum() / (want[i] * want[i]).sum().clamp(min=1e-300) for i in range(len(want))]
    if want[0].numel() > 1 and all(tensors_alike(got[i], ratio * want[i]) for i, ratio in enumerate(ratios)):
        shown = ", ".join(f"{ratio:.3g}" for ratio in ratios[:4])
        return f"Each sample is off by a factor of its own ({shown}, ...): look at what depends on its level or size."
    return ""


def of_functions(got, want, given):
    """The same function of every number."""
    for said, function in SHAPES.items():
        if tensors_alike(got, function(want)):
            return f"This is {said}."
    return ""


def of_ranges(got, want, given):
    """Cut off where what is expected goes on, or the other way round."""
    for one, other, said in ((got, want, "The result is cut off"), (want, got, "The result is not cut off")):
        low, high = one.min(), one.max()
        if other.min() < low - 1e-4 or other.max() > high + 1e-4:
            several = (~torch.isclose(one, other, 1e-3, 1e-4)).sum() > 1
            if several and tensors_alike(one, other.clamp(low, high)) and not constant(one.flatten(), 0):
                ends = [f"below {low:.4g}"] * bool(other.min() < low - 1e-4) + [f"above {high:.4g}"] * bool(
                    other.max() > high + 1e-4
                )
                return f"{said} {' and '.join(ends)}."
    return ""


def of_parts(got, want, given):
    """Wrong only at an edge, or in a part along one axis."""
    wrong = ~torch.isclose(got, want, atol=1e-4, rtol=1e-3)
    for axis in range(want.ndim):
        size = want.shape[axis]
        places = wrong.movedim(axis, 0).flatten(1).any(1) if want.ndim > 1 else wrong
        where = places.nonzero().flatten().tolist()
        if 0 < len(where) <= max(size // 2, 1) and size > 1:
            at = (
                "only the first"
                if where == [0]
                else "only the last"
                if where == [size - 1]
                else f"{some(where)} of 0..{size - 1}"
            )
            edges = "both ends" if where == [0, size - 1] and size > 2 else at
            verb = "is" if len(where) == 1 and "only" in edges else "are"
            return f"Along axis {axis}, {edges} {verb} wrong; the rest is right."
    return ""


def some(numbers, limit=6):
    """The first numbers of a list, in words."""
    return ", ".join(map(str, numbers[:limit])) + (", ..." if len(numbers) > limit else "")
