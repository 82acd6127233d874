"""Exercise 3.1: which levels to visit."""

from itertools import pairwise
from numbers import Integral

from minivdm.course.exercise import equal, exercise, holds, raises
from minivdm.course.probes import describe, shorten

from .samplers import taken


@exercise("samplers.sampling_levels")
def sampling_levels(f, draw):
    T = draw.integers(40, 200)
    uneven = draw.choice([n for n in range(6, T // 2) if T % n > 1])
    between = draw.choice([n for n in range(T // 2 + 1, T) if T % n])
    for top, n in [(60, 6), (T, uneven), (T, between), (T, T), (T, 2), (T, 1), (1, 1)]:
        yield taken(f"T = {top}, n = {n} is allowed", lambda top=top, n=n: f(top, n))
        yield from even_probes(f, top, n)
    for top, n in [(T, 0), (T, -3), (T, T + 1), (1, 0), (1, 2)]:
        yield raises(f"n = {n} for T = {top} must be refused", ValueError, lambda top=top, n=n: f(top, n))
    f(T, uneven).clear()
    yield equal("a list that its owner changes leaves the next one alone", len(f(T, uneven)), uneven + 1)
    for top, n in [(size, n) for size in (96, 200, 1000) for n in range(1, size + 1, 1 + size // 300)]:
        probes = list(even_probes(f, top, n))
        if not all(probe.ok for probe in probes):  # a quotient of floats that lies just below a whole number
            yield from probes
            return


def even_probes(f, T, n):
    """Probes of one list: n even steps from T to 0."""
    levels, name = f(T, n), f"T = {T}, n = {n}"
    yield holds(f"{name}: a list", isinstance(levels, list), f"expected a list, got {describe(levels)}", usable=False)
    if not isinstance(levels, list):
        return
    odd = next((level for level in levels if not isinstance(level, Integral)), None)
    message = f"expected ints, got {type(odd).__name__}, as in {shorten(levels)}"
    yield holds(f"{name}: whole numbers", odd is None, message, usable=False)
    if odd is not None or not levels:
        yield holds(f"{name}: it has levels", levels, "the list is empty", usable=False)
        return
    yield equal(f"{name}: first and last level", (levels[0], levels[-1]), (T, 0))
    gaps = [t - s for t, s in pairwise(levels)]
    yield equal(f"{name}: number of steps", len(gaps), n)
    if len(gaps) != n:
        return
    yield holds(f"{name}: the levels fall strictly", min(gaps) > 0, f"got {shorten(levels)}")
    message = f"steps from {min(gaps)} to {max(gaps)} levels; lengths may differ by 1 at most"
    yield holds(f"{name}: the steps are even", max(gaps) - min(gaps) <= 1, message)


sampling_levels.promises(
    **dict.fromkeys(("samples", "dtype", "layout", "device", "gradients"), "it answers a list of ints")
)


sampling_levels.edit(
    "a constant step of T // n",
    {"[T * i // n for i in range(n, -1, -1)]": "[*range(T, 0, -(T // n)), 0]"},
    "The steps are all T // n long, so where n does not divide T there are too many of them, or a short one is left at "
    "the end. Round each *level* T i / n, not the step.",
)
sampling_levels.edit(
    "starts below T",
    {"T * i // n": "T // n * i"},
    'The list does not start at T. This is the "leading" spacing of some libraries: the sampler is given pure noise, '
    "but told that it is at a lower level. For i = n the level is T.",
)
sampling_levels.edit(
    "n levels",
    {"T * i // n for i in range(n,": "T * i // max(n - 1, 1) for i in range(n - 1,"},
    "These are n levels, which make n - 1 steps. For n steps there must be n + 1 levels, both ends included.",
)
sampling_levels.edit(
    "a float as the step",
    {"T * i // n": "int(i * (T / n))"},
    "Right for most pairs. But T / n is rounded, and i times as much may lie a hair below a whole number, which int() "
    "takes one level too far down. Multiply first, and divide whole numbers: T * i // n.",
)
sampling_levels.edit(
    "0 forgotten",
    {"range(n, -1, -1)": "range(n, 0, -1)"},
    "The last level is missing: i must run down to 0, so `range` needs the end -1.",
)
sampling_levels.edit(
    "nothing refused",
    {"if not 1 <= n <= T": "if False"},
    "The lists are right, but n = 0 or n > T is not refused with a ValueError. There must be at least one step, and "
    "there are only T levels to step from: raise it unless 1 <= n <= T.",
)
sampling_levels.edit(
    "only n = 0 refused",
    {"1 <= n <= T": "1 <= n"},
    "More steps than levels are taken without complaint; then some levels come twice. Refuse n > T, too.",
)
