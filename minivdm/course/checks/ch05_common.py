"""What the check of exercise 5.8 measures by: a model whose every gradient is known, and the search written out."""

from itertools import pairwise

import torch

from .common import at


class Tiny(torch.nn.Module):
    """eps = a_t x + (w_1 c_1 + w_2 c_2): linear in the context, so every gradient is known in closed form."""

    def __init__(self, draw, T):
        super().__init__()
        self.table = torch.nn.Parameter(draw.normal(20, 4))
        self.w = torch.nn.Parameter(draw.uniform(2, low=0.5, high=1))
        self.a, self.asked = draw.uniform(T + 1, low=-0.3, high=0.3), []

    def read(self, cond):
        """What the context adds to the estimate, (B, 4)."""
        context = cond if cond.is_floating_point() else self.table[cond]
        return (self.w[:, None] * context).sum(dim=1)

    def forward(self, x, t, cond):
        self.asked.append(cond.detach().clone())
        return at(self.a, t, x) * x + self.read(cond).reshape(x.shape)


def factors(model, ab, t, s):
    """z' = p z + r * (what the contexts add): the DDIM step at eta = 0 with this model."""
    r = (1 - ab[s]) ** 0.5 - (ab[s] * (1 - ab[t]) / ab[t]) ** 0.5
    return (ab[s] / ab[t]) ** 0.5 + r * model.a[t].item(), r


@torch.no_grad()
def walk(model, z, levels, ab, cond, nulls, scale):
    """The guided walk's points below z, (B, 4) float64, a list; nulls is a dict from level, scale = 1 needs none."""
    z, points = z.double().flatten(1), []
    for t, s in pairwise(levels):
        p, r = factors(model, ab, t, s)
        told = scale * model.read(cond).double()
        told = told + (1 - scale) * model.read(nulls[t]).double() if scale != 1 else told
        z = p * z + r * told
        points.append(z)
    return points


def by_hand(model, path, levels, ab, cond, null, scale, inner_steps, lr):
    """The search with the gradient in closed form and Adam written out, float64; it never ends early."""
    z, nulls = path[levels[0]].double().flatten(1), []
    null, w = null.double(), model.w.detach().double()
    with torch.no_grad():
        told = scale * model.read(cond).double()
    for t, s in pairwise(levels):
        p, r = factors(model, ab, t, s)
        m = v = torch.zeros(())
        for n in range(1, inner_steps + 1):
            new = p * z + r * (told + (1 - scale) * (w[:, None] * null).sum(dim=1))
            slope = (new - path[s].flatten(1)) * 2 / new.shape[1] * r * (1 - scale)  # (B, 4)
            slope = slope[:, None] * w[:, None]  # (B, L, 4)
            m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
            unit = (m / (1 - 0.9**n)) / ((v / (1 - 0.999**n)).sqrt() + 1e-8)
            null = null - lr * (1 - (n - 1) / inner_steps) * unit
        z = p * z + r * (told + (1 - scale) * (w[:, None] * null).sum(dim=1))
        nulls.append(null)
    return nulls
