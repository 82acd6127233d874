"""Exercise 3.1: which levels to visit."""

from itertools import pairwise
from numbers import Integral

from minivdm.course.exercise import equal, exercise, holds, raises
from minivdm.course.probes import shorten


@exercise("samplers.sampling_levels")
def sampling_levels(f, draw):
    T = draw.integers(40, 200)
    uneven = draw.choice([n for n in range(6, T // 2) if T % n > 1])
    between = draw.choice([n for n in range(T // 2 + 1, T) if T % n])
    for top, n in [(60, 6), (T, uneven), (T, between), (T, T), (T, 2), (T, 1)]:
        levels = f(top, n)
        name = f"T = {top}, n = {n}"
        whole = isinstance(levels, list) and all(isinstance(level, Integral) for level in levels)
        yield holds(f"{name}: a list of ints", whole, f"got {shorten(levels)}", usable=False)
        yield equal(f"{name}: first and last level", (levels[0], levels[-1]), (top, 0))
        gaps = [t - s for t, s in pairwise(levels)]
        yield equal(f"{name}: number of steps", len(gaps), n, usable=False)
        yield holds(f"{name}: the levels fall strictly", min(gaps) > 0, f"got {shorten(levels)}")
        message = f"steps from {min(gaps)} to {max(gaps)} levels; lengths may differ by 1 at most"
        yield holds(f"{name}: the steps are even", max(gaps) - min(gaps) <= 1, message)
    for n in (0, -3, T + 1):
        yield raises(f"n = {n} for T = {T}", ValueError, lambda n=n: f(T, n))


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
    "rising",
    {"range(n, -1, -1)": "range(n + 1)"},
    "The list rises. A sampler starts with noise: the first level is T, the last is 0.",
)
sampling_levels.edit(
    "not whole numbers",
    {"T * i // n": "T * i / n"},
    "The levels are not ints. There is no level 12.5 in the tables: divide with // to round down.",
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
