"""Probes: one property of the learner's code each, compared with what an independent oracle says.

Every probe also knows when another implementation had the same outcome, up to its tolerance. That is how a wrong answer
is recognised as a known misconception.
"""

import inspect
import re
from dataclasses import dataclass, field

import numpy
import torch

from .guard import InputChanged


@dataclass
class Probe:
    """One property of the learner's code: what was looked at, whether it held, what to say, and what came."""

    what: str
    ok: bool
    message: str
    got: object
    agree: object = field(repr=False, default=None)  # agree(other got) -> bool: the same outcome, within tolerance
    usable: bool = True  # False: not even the right kind of thing, so nothing that needs it can go on
    want: object = None  # what was expected, where values were compared
    given: dict = field(repr=False, default_factory=dict)  # the arguments of the latest call

    @property
    def telling(self):
        """Whether a wrong outcome is one among many, so that two answers hardly agree in it by chance."""
        return self.want is not None and (self.usable or torch.is_tensor(self.got))  # wrong shapes tell, too


def close(what, got, want, atol=1e-5, rtol=1e-4, dtype=None, names=None):
    """A tensor (or a tuple of them) must equal `want` up to rounding.

    Args:
        what: the property, in words.
        got: what the learner's code returned.
        want: tensor from an independent oracle, often float64; or a tuple of tensors; or a number.
        atol, rtol: an element may be off by atol + rtol * |want|.
        dtype: the dtype to expect, if not that of `want`.
        names: what the members of a tuple are called.
    """

    def agree(other):
        return alike(got, other, atol, rtol)

    got = frozen(got)
    if isinstance(want, (tuple, list)):
        problem = tuple_problem(got, want, atol, rtol, dtype, names)
    else:
        problem = tensor_problem(got, want, atol, rtol, dtype)
    return Probe(what, problem is None, problem or "", got, agree, usable=same_kind(got, want), want=want)


def near(what, got, want, within):
    """A number, usually a statistic of samples, must lie within `within` of `want`."""
    value = number(got)
    ok = value is not None and abs(value - want) <= within  # NaN fails
    came = f"{value:.4g}" if value is not None else describe(got)

    def agree(other):
        other = number(other)
        same = value is not None and other is not None
        return abs(value - other) <= within or value != value and other != other if same else value is other

    message = f"expected {want:.4g} (within {within:.2g}), got {came}"
    return Probe(what, ok, message, frozen(got), agree, usable=value is not None, want=want)


def reaches(what, values, at_least=None, at_most=None):
    """The mean of some measurements must not miss a target by more than two standard errors.

    Args:
        what: what was measured, with its unit.
        values: three or more independent measurements: other draws, other seeds.
        at_least, at_most: the target, one of the two.
    """
    values = torch.as_tensor(values, dtype=torch.float64)
    mean, error = values.mean().item(), (values.std() / len(values) ** 0.5).item()
    missing = mean - at_most if at_least is None else at_least - mean
    goal = f"at most {at_most:.4g}" if at_least is None else f"at least {at_least:.4g}"
    message = f"wanted {goal}, measured {mean:.4g} ± {error:.2g} (mean of {len(values)}, standard error)"

    def agree(other):
        return number(other) is not None and abs(number(other) - mean) <= 2 * error or other != other and mean != mean

    return Probe(what, missing <= 2 * error, message, mean, agree)  # NaN fails


def equal(what, got, want, usable=True):
    """Numbers, lists, tuples, strings: exactly the same. A tensor counts as its list; `usable` as in `holds`."""
    got, want = plain(got), plain(want)
    ok = bool(got == want)
    message = f"expected {shorten(want)}\ngot      {shorten(got)}"
    return Probe(what, ok, message, got, lambda other: bool(plain(other) == got), usable=ok or usable, want=want)


def holds(what, ok, message="", usable=True):
    """A condition that the check has worked out itself; `usable=False` if nothing can go on where it fails."""
    ok = bool(ok)
    outcome = "" if ok else re.sub(r"[\d.,]+", "#", message)  # failures told in the same words are alike
    return Probe(what, ok, message, (ok, outcome), lambda other: other == (ok, outcome), usable=ok or usable)


def raises(what, kind, call):
    """`call()` must raise an exception of this kind (or one of a tuple of kinds)."""
    name = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
    try:
        result = call()
    except InputChanged:
        raise
    except Exception as error:
        outcome, message = type(error), f"expected a {name}, got {type(error).__name__}: {error}"
        ok = isinstance(error, kind)
        if isinstance(error, NotImplementedError) and str(error).startswith("Exercise "):
            raise  # not written yet, which is no answer
    else:
        outcome, ok, message = None, False, f"expected a {name}, but it returned {describe(result)}"
    return Probe(what, ok, message, outcome, lambda other: other is outcome)


def tuple_problem(got, want, atol, rtol, dtype, names):
    """What is wrong with a tuple of tensors, in words; None if nothing."""
    called = f" ({', '.join(names)})" if names else ""
    if not isinstance(got, (tuple, list)) or len(got) != len(want):
        return f"expected a tuple of {len(want)}{called}, got {describe(got)}"
    for index, (one, target) in enumerate(zip(got, want)):
        problem = tensor_problem(one, target, atol, rtol, dtype)
        if problem:
            return f"{names[index] if names else f'member {index}'}:\n{problem}"
    return None


def tensor_problem(got, want, atol, rtol, dtype=None):
    """What is wrong with a tensor, in words; None if nothing. Type, shape, dtype, device, NaN, then the values."""
    if not torch.is_tensor(want):  # a number was asked for: a float and a 0-d tensor are both fine
        if number(got) is None:
            return f"expected a number near {want:.6g}, got {describe(got)}"
        got, want = torch.as_tensor(got), torch.tensor(want, dtype=torch.float64)
        dtype = got.dtype
    if not torch.is_tensor(got):
        return f"expected a torch.Tensor {tuple(want.shape)}, got {describe(got)}"
    dtype = dtype or want.dtype
    sides = f"expected {kind_of(want, dtype)}{value_range(want)}\ngot      {kind_of(got, got.dtype)}{value_range(got)}"
    if got.shape != want.shape:
        return f"wrong shape\n{sides}"
    if got.dtype != dtype:
        return f"wrong dtype\n{sides}"
    if got.device.type != want.device.type:
        return f"wrong device: expected {want.device}, got {got.device}"
    got, want = got.detach().cpu().double(), want.detach().cpu().double()
    lost = ~got.isfinite() & want.isfinite()
    if lost.any():
        kind = "NaN" if got[lost].isnan().any() else "infinite"
        return f"{int(lost.sum()):,} of {lost.numel():,} values are {kind}, the first at {first(lost)}\n{sides}"
    off = ~torch.isclose(got, want, rtol=rtol, atol=atol, equal_nan=True)
    if not off.any():
        return None
    error = torch.where(off, (got - want).abs().nan_to_num(torch.inf), -torch.ones(()).double())
    index = numpy.unravel_index(int(error.argmax()), error.shape)  # torch's imports SymPy first, half a second
    where = f" at {[int(i) for i in index]}" if index else ""
    values = f"expected {want[index].item():.6g}, got {got[index].item():.6g}"
    return (
        f"{sides}\nlargest error {error.max():.4g}{where}: {values} ({int(off.sum()):,} of {off.numel():,} values off)"
    )


def first(mask):
    """Index of the first True, as a list."""
    return [int(i) for i in torch.nonzero(mask)[0]]


def kind_of(tensor, dtype):
    """ "float32 (4, 3, 8, 8)"."""
    return f"{str(dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def value_range(tensor):
    """ ", values -1.2 .. 3.4" over the finite ones."""
    values = tensor.detach().double()
    values = values[values.isfinite()]
    return f", values {values.min():.4g} .. {values.max():.4g}" if values.numel() else ""


def describe(value):
    """What came instead of what was expected, in words."""
    if value is None:
        return "None: is a `return` missing?"
    if inspect.isgenerator(value):
        return "a generator: is there a `yield` in place of a `return`, or a comprehension in ( )?"
    if torch.is_tensor(value):
        return f"a tensor, {kind_of(value, value.dtype)}"
    if type(value).__module__ == "numpy":
        return f"a NumPy {type(value).__name__} (keep to torch functions)"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    text = shorten(value)
    return text if text.startswith(type(value).__name__) else f"{type(value).__name__} {text}"


def shorten(value, limit=300):
    """repr, cut where it gets long."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text):,} characters)"


def number(value):
    """`value` as a float if it is one number (also a tensor of one element), else None."""
    if torch.is_tensor(value):
        return value.item() if value.numel() == 1 and not value.is_complex() else None
    try:
        return float(value) if not isinstance(value, str) else None
    except (TypeError, ValueError):
        return None


def frozen(value):
    """A copy that later in-place work cannot reach."""
    if torch.is_tensor(value):
        return value.detach().clone()
    return type(value)(map(frozen, value)) if type(value) in (tuple, list) else value


def plain(value):
    """Tensors as lists of numbers, also inside lists and tuples."""
    if torch.is_tensor(value) or type(value).__module__ == "numpy":
        return value.tolist()
    return type(value)(map(plain, value)) if type(value) in (tuple, list) else value


def same_kind(got, want):
    """Whether what came is a tensor of the right shape (or a tuple of such), so that code can go on with it."""
    if isinstance(want, (tuple, list)):
        same = isinstance(got, (tuple, list)) and len(got) == len(want)
        return same and all(same_kind(one, target) for one, target in zip(got, want))
    return torch.is_tensor(got) and got.shape == want.shape if torch.is_tensor(want) else number(got) is not None


def alike(a, b, atol, rtol):
    """Whether two wrong answers are the same one, up to the probe's tolerance, whatever their dtype."""
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(alike(one, other, atol, rtol) for one, other in zip(a, b))
    if torch.is_tensor(a) and torch.is_tensor(b):
        return a.device == b.device and tensors_alike(a, b, atol, rtol)
    if type(a) is not type(b):
        return False
    if number(a) is not None:
        return abs(number(a) - number(b)) <= atol + rtol * abs(number(b))
    return type(a).__module__ == "numpy" or bool(a == b)


def tensors_alike(a, b, atol=1e-4, rtol=1e-3):
    """Whether two tensors have one shape and, up to the tolerance, the same values."""
    return a.shape == b.shape and bool(
        torch.isclose(a.detach().double(), b.detach().double(), atol=atol, rtol=rtol, equal_nan=True).all()
    )
