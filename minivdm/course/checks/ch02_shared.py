"""What the checks of chapter 02 share: an SDE and Gaussian data with everything about them in closed form."""

import math

import torch

from minivdm.course.exercise import close, equal, holds, raises
from minivdm.course.probes import describe

from .common import SHAPES

SQUARE = "pictures (4, 3, 4, 4)"  # as high and wide as the batch is long: (B,) and (B, 1) go with them, wrongly
CASES = {SQUARE: (4, 3, 4, 4), **SHAPES, "one number a sample (5,)": (5,)}
EULER_AT_END = "(first if then == times[-1] else (first + second) / 2)"
OTHER_SDE = "The given `sde` is not used: this is right for the default betas alone."
WALKS = [  # (label, changes, hint): mistakes of those who walk a list of times
    (
        "equal steps",
        {"then - now": "(times[-1] - times[0]) / (len(times) - 1)"},
        "All steps are taken to be equally long. Each pair of times has a distance of its own, s - t.",
    ),
    (
        "last step missing",
        {"pairwise(": "pairwise((lambda walked: walked[:-1])(", ":\n        t,": "):\n        t,"},
        "The last step is missing: walk all pairs of neighbours, up to the last time.",
    ),
    (
        "return inside the loop",
        {"\n    return ": "\n        return "},
        "Only one step is made: the `return` stands inside the loop. Move it one level to the left.",
    ),
]


def fresh_sde(draw):
    """An SDE with a beta that cannot be known beforehand."""
    return SDE(draw.uniform(1, low=0.5, high=2).item(), draw.uniform(1, low=5, high=12).item())


class SDE:
    """A variance-preserving SDE, independent of minivdm's."""

    def __init__(self, beta_min=0.1, beta_max=20.0):
        self.beta_min, self.beta_max = beta_min, beta_max

    def beta(self, t):
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def alpha_bar(self, t):
        area = t * (self.beta(t) + self.beta_min) / 2  # of a trapezium
        return math.exp(-area) if isinstance(area, float) else torch.exp(-area)

    def alpha(self, t):
        return self.alpha_bar(t) ** 0.5

    def sigma(self, t):
        return (1 - self.alpha_bar(t)) ** 0.5

    def drift(self, x, t):
        return -0.5 * self.beta(per(t, x)) * x

    def diffusion(self, t):
        return self.beta(t) ** 0.5


def per(t, x):
    """One number per sample, shaped to broadcast against x."""
    if not torch.is_tensor(t) or t.shape != x.shape[:1] or not t.is_floating_point():
        came = f"{t.dtype} of shape {tuple(t.shape)}" if torch.is_tensor(t) else repr(t)
        raise ValueError(f"t must be a float tensor with one time per sample, shape ({len(x)},); got {came}")
    return t.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


class GaussianData:
    """Data N(mean, std^2 I): its score, and the flow as the straight line it is."""

    def __init__(self, draw, sde):
        self.mean, self.std = draw.uniform(1, low=0.4, high=0.9).item(), draw.uniform(1, low=0.5, high=0.8).item()
        self.sde, self.seen, self.gave = sde, [], []

    def variance(self, t):
        ab = self.sde.alpha_bar(t)
        return ab * self.std**2 + 1 - ab

    def score(self, x, t):
        """The score that the learner's code asks; notes what it was asked."""
        self.seen.append((x.detach().clone(), t.clone() if torch.is_tensor(t) else t))
        t = per(t, x)
        score = -(x - self.sde.alpha_bar(t) ** 0.5 * self.mean) / self.variance(t)
        self.gave.append((score, score.detach().clone()))
        return score

    def slope(self, t, share):
        """f - share g^2 score as a x + b: a and b, floats."""
        rate, v = self.sde.beta(t), self.variance(t)
        return -rate / 2 + share * rate / v, -share * rate * self.sde.alpha_bar(t) ** 0.5 * self.mean / v

    def heun(self, x, t, s):
        """Heun's step of the flow from t to s: the new x, and the mean slope's derivative by x, times the step."""
        (a, b), (c, d), h = self.slope(t, 0.5), self.slope(s, 0.5), s - t
        first = a * x + b
        return x + h / 2 * (first + c * (x + h * first) + d), h / 2 * (a + c)

    def times(self):
        """The times at which the score was asked, one float a call."""
        return [round(t.flatten()[0].item() if torch.is_tensor(t) else float(t), 5) for _, t in self.seen]


def walk(draw, steps, low=0.05):
    """Falling times from 1 to `low`, uneven and new each time; rounded, so that they can be compared."""
    inner = draw.uniform(steps - 1, low=low + 0.05, high=0.95).sort(descending=True).values.tolist()
    times = [1.0, *(round(t, 5) for t in inner), low]
    return times if all(a - b > 0.01 for a, b in zip(times, times[1:])) else walk(draw, steps, low)


def bad_times(call, others):
    """Probes: `call(times)` refuses times outside (0, 1], equal ones, and these others."""
    refused = {"a time of 0": [0.9, 0.0], "a time above 1": [1.2, 0.5], "two equal times": [0.9, 0.9, 0.5]}
    for name, times in {**others, **refused}.items():
        for bad in (times, times[::-1]) if name in refused else (times,):
            yield raises(f"{name}: {bad}", ValueError, lambda bad=bad: call(bad))


def callback_probes(run, times, wants):
    """Probes: `run(callback)` walks these times, the same way each time, and calls back after each step.

    Args:
        wants: a function that lists, after the walk with a callback, the x of each step that it should have been given.
    """
    calls, copies = [], []

    def callback(*arguments):
        calls.append(arguments)
        copies.append([each.clone() if torch.is_tensor(each) else each for each in arguments])
        return 1 + arguments[-1] if arguments else None

    without, got = run(None), run(callback)
    expected = wants()
    yield close("what a callback returns changes nothing", got, without)
    yield holds("the callback is called", calls, "it never is: after each step, callback(s, x)", usable=False)
    odd = [call for call in calls if len(call) != 2 or not isinstance(call[0], float) or not torch.is_tensor(call[1])]
    message = f"expected a float and a tensor, got {' and '.join(map(describe, odd[0]))}" if odd else ""
    yield holds("the arguments of each callback(s, x)", not odd, message, usable=False)
    if odd:
        return
    yield (
        right := equal("s in each callback(s, x): the time after the step", [round(s, 5) for s, _ in calls], times[1:])
    )
    if not right.ok:
        return
    for i, ((_, x), want) in enumerate(zip(copies, expected)):
        yield close(f"x in callback {i + 1} of {len(calls)}: where the step ends", x, want, 1e-4, 1e-3)
    same = all(torch.equal(call[1], copy[1]) for call, copy in zip(calls, copies))
    message = (
        "x was changed in place after callback(s, x) was given it, so a kept path shows the end alone: x = x + ..."
    )
    yield holds("each x that a callback was given stays as it was", same, message)
