"""Exercise 2.5: the variance-preserving SDE."""

import math

import torch

from minivdm.course.exercise import close, exercise

from .ch02_shared import per
from .common import SHAPES


@exercise("sde.VPSDE")
def vpsde(f, draw):
    for low, high in ((0.1, 20.0), (draw.uniform(1, low=0.2, high=2).item(), draw.uniform(1, low=3, high=12).item())):
        sde = f(low, high)

        def beta(t, low=low, high=high):
            return low + t.double() * (high - low)

        name = f"beta from {low:.3g} to {high:.3g}"
        t = torch.cat([draw.uniform(5, low=0.05, high=0.95), torch.tensor([0.0, 1.0])]).double()
        grid = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None] * t  # (1001, 7)
        want = torch.exp(-torch.trapezoid(beta(grid), grid, dim=0))
        yield close(f"alpha_bar by numerical integration, {name}", sde.alpha_bar(t), want, rtol=1e-4, atol=1e-8)
        yield close(f"diffusion, {name}", sde.diffusion(t), beta(t).sqrt())
        for kind, shape in SHAPES.items():
            x, t = draw.normal(*shape), draw.uniform(shape[0])
            want = -0.5 * per(beta(t), x.double()) * x
            yield close(f"drift for {kind}, {name}", sde.drift(x, t), want, dtype=torch.float32)


class _Right:
    """What the wrong classes below get right."""

    def alpha_bar(self, t):
        return torch.exp(-area(self, t))

    def drift(self, x, t):
        return -per(self.beta(t), x) * x / 2

    def diffusion(self, t):
        return self.beta(t).sqrt()


def wrong(label, hint):
    return vpsde.misconception(label, hint)


def area(sde, t):
    return sde.beta_min * t + (sde.beta_max - sde.beta_min) * t**2 / 2


@wrong(
    "no half in the integral",
    "This is exp(-beta(t) t), as if beta had been that large all the way. It grows on a "
    "line, so its integral from 0 to t has a half: beta_min t + (beta_max - beta_min) t^2 / 2.",
)
class _(_Right):
    def alpha_bar(self, t):
        return torch.exp(-self.beta(t) * t)


@wrong(
    "square root of alpha_bar",
    "This is sqrt(alpha_bar), the factor of the picture. alpha_bar is a share of *variance*: exp(-integral), without "
    "the half that stands in the drift.",
)
class _(_Right):
    def alpha_bar(self, t):
        return torch.exp(-area(self, t) / 2)


@wrong("noise instead of picture", "This is the share of noise, 1 - alpha_bar.")
class _(_Right):
    def alpha_bar(self, t):
        return 1 - torch.exp(-area(self, t))


@wrong("growing", "alpha_bar grows here. The exponent is minus the integral.")
class _(_Right):
    def alpha_bar(self, t):
        return torch.exp(area(self, t))


@wrong(
    "one step",
    "1 - beta(t) is what *one* step of length 1 would keep. Infinitely many small steps make an "
    "exponential: exp(-integral of beta).",
)
class _(_Right):
    def alpha_bar(self, t):
        return 1 - area(self, t)


@wrong("drift without minus", "The drift points away from zero. The picture must shrink: put a minus in front.")
class _(_Right):
    def drift(self, x, t):
        return per(self.beta(t), x) * x / 2


@wrong("drift without half", "The drift is twice too strong: sqrt(1 - beta dt) is about 1 - beta dt / 2.")
class _(_Right):
    def drift(self, x, t):
        return -per(self.beta(t), x) * x


@wrong("root in the drift", "The drift has beta(t) itself; its root belongs to the diffusion.")
class _(_Right):
    def drift(self, x, t):
        return -per(self.beta(t), x).sqrt() * x / 2


@wrong("drift without x", "The drift must be proportional to x: the further out, the stronger it pulls back.")
class _(_Right):
    def drift(self, x, t):
        return -per(self.beta(t), x).expand_as(x) / 2


@wrong(
    "no shape for broadcasting",
    "beta(t) has the shape (B,), and PyTorch lines it up with the *last* axis of x. "
    "expand_like(self.beta(t), x) gives it the shape (B, 1, ..., 1).",
)
class _(_Right):
    def drift(self, x, t):
        return -self.beta(t) * x / 2


@wrong("variance as diffusion", "This is beta(t), a variance per time. g multiplies the noise itself: take the root.")
class _(_Right):
    def diffusion(self, t):
        return self.beta(t)


@wrong(
    "the noise so far",
    "This is the standard deviation of all noise up to t. g(t) is the rate at which noise comes "
    "in *now*: sqrt(beta(t)).",
)
class _(_Right):
    def diffusion(self, t):
        return (1 - torch.exp(-area(self, t))).sqrt()


@wrong("half in the diffusion", "There is no half in g: g^2 = beta(t). The half belongs to the drift alone.")
class _(_Right):
    def diffusion(self, t):
        return self.beta(t).sqrt() / math.sqrt(2)
