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


def wrong(label, hint):
    """Add a misconception that at least refuses bad n."""

    def add(levels):
        def refusing(T, n):
            if not 1 <= n <= T:
                raise ValueError("n")
            return levels(T, n)

        sampling_levels.misconception(label, hint)(refusing)
        return levels

    return add


wrong(
    "a constant step of T // n",
    "The steps are all T // n long, so where n does not divide T there are too many of them, or a short one is left at "
    "the end. Round each *level* T i / n, not the step.",
)(lambda T, n: [*range(T, 0, -(T // n)), 0])

wrong(
    "the rest in one step",
    "All steps are T // n long, and what is left over falls into the last one, which may be nearly twice as long. "
    "Round each *level* T i / n, not the step.",
)(lambda T, n: [T - i * (T // n) for i in range(n)] + [0])

wrong(
    "ends above 0",
    "Steps of T // n levels do not reach 0 where n does not divide T, so noise is left in the picture. Round each "
    "*level* T i / n, not the step.",
)(lambda T, n: [T - i * (T // n) for i in range(n + 1)])

wrong(
    "starts below T",
    'The list does not start at T. This is the "leading" spacing of some libraries: the sampler is given pure noise, '
    "but told that it is at a lower level. For i = n the level is T.",
)(lambda T, n: [T // n * i for i in range(n, -1, -1)])

wrong(
    "ends at 1",
    "The list ends at level 1, where noise is left. Level 0 is the clean picture: i runs down to 0.",
)(lambda T, n: [1 + (T - 1) * i // n for i in range(n, -1, -1)])

wrong(
    "n levels",
    "These are n levels, which make n - 1 steps. For n steps there must be n + 1 levels, both ends included.",
)(lambda T, n: [T * i // max(n - 1, 1) for i in range(n - 1, -1, -1)] if n > 1 else [T])

wrong("rising", "The list rises. A sampler starts with noise: the first level is T, the last is 0.")(
    lambda T, n: [T * i // n for i in range(n + 1)]
)

wrong(
    "not whole numbers",
    "The levels are not ints. There is no level 12.5 in the tables: divide with // to round down.",
)(lambda T, n: [T * i / n for i in range(n, -1, -1)])

wrong(
    "quadratic",
    "The steps grow with the level. That spacing exists (Song et al. use it for some data), but asked for is an even "
    "one, T i / n.",
)(lambda T, n: [max(T * i * i // n**2, i) for i in range(n, -1, -1)])

wrong(
    "0 forgotten",
    "The last level is missing: i must run down to 0, so `range` needs the end -1.",
)(lambda T, n: [T * i // n for i in range(n, 0, -1)])


@sampling_levels.misconception(
    "nothing refused",
    "The lists are right, but n = 0 or n > T is taken without complaint. There are only T levels to step from: raise a "
    "ValueError unless 1 <= n <= T.",
)
def _(T, n):
    return [T * i // max(n, 1) for i in range(n, -1, -1)]


@sampling_levels.misconception(
    "only n = 0 refused",
    "More steps than levels are taken without complaint; then some levels come twice. Refuse n > T, too.",
)
def _(T, n):
    if n < 1:
        raise ValueError("n")
    return [T * i // n for i in range(n, -1, -1)]


@sampling_levels.misconception(
    "only n > T refused",
    "n = 0 (or less) is not refused with a ValueError. There must be at least one step.",
)
def _(T, n):
    if n > T:
        raise ValueError("n")
    return [T * i // max(n, 1) for i in range(n, -1, -1)]
