"""What the checks of chapter 02 share: an SDE and Gaussian data with everything about them in closed form."""

import math

import torch

from minivdm.course.exercise import close, equal

SHAPELESS = "{} has the shape (B,), and PyTorch lines it up with the *last* axis. {} gives it the shape (B, 1, ..., 1)."


class FreshSDE:
    """A variance-preserving SDE with a beta that cannot be known beforehand; independent of minivdm's."""

    def __init__(self, draw):
        self.beta_min, self.beta_max = draw.uniform(1, low=0.5, high=2).item(), draw.uniform(1, low=5, high=12).item()

    def beta(self, t):
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def alpha_bar(self, t):
        area = t * (self.beta(t) + self.beta_min) / 2  # of a trapezium
        return math.exp(-area) if isinstance(area, float) else torch.exp(-area)

    def drift(self, x, t):
        return -0.5 * self.beta(per(t, x)) * x

    def diffusion(self, t):
        return self.beta(t) ** 0.5


def per(t, x):
    """One number per sample, shaped to broadcast against x."""
    if not torch.is_tensor(t) or t.shape != x.shape[:1] or not t.is_floating_point():
        came = f"{t.dtype} of shape {tuple(t.shape)}" if torch.is_tensor(t) else repr(t)
        raise ValueError(f"expected a float tensor with one time per sample, shape ({len(x)},), got {came}")
    return t.to(x).reshape(-1, *[1] * (x.ndim - 1))


class GaussianData:
    """Data N(mean, std^2 I): its score, and the flow as the straight line it is."""

    def __init__(self, draw, sde):
        self.mean, self.std = draw.uniform(1, low=0.4, high=0.9).item(), draw.uniform(1, low=0.5, high=0.8).item()
        self.sde, self.seen = sde, []

    def variance(self, t):
        ab = self.sde.alpha_bar(t)
        return ab * self.std**2 + 1 - ab

    def score(self, x, t):
        """The score that the learner's code asks; notes what it was asked."""
        self.seen.append((x.detach().clone(), t.clone() if torch.is_tensor(t) else t))
        t = per(t, x)
        return -(x - self.sde.alpha_bar(t) ** 0.5 * self.mean) / self.variance(t)

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


def callback_probes(run, times):
    """Probes: `run(callback)` walks these times, and calls back after each step with the new time and the new x."""
    calls = []
    got = run(lambda *arguments: calls.append(arguments))
    yield equal("first argument of each callback(s, x)", [round(call[0], 5) for call in calls], times[1:])
    yield close("x in the last callback: the result", calls[-1][1], got)
