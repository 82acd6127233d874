"""Exercise 6.4: the cheapest code that loses no more than it may."""

import math

import torch

from minivdm.course.exercise import equal, exercise, holds, near, raises, reaches

DRAWS, PARTS = 4000, 6


def used(variances, price, kept, draw):
    """Squared errors (PARTS,) and the rate in nats of the code: its largest directions, told as well as they pay."""
    v = variances.double().sort(descending=True).values
    left = v.clamp(max=price / 2)
    left[kept:] = v[kept:]
    x = draw.normal(PARTS, DRAWS, len(v)).double() * v.sqrt()
    again = (1 - left / v) * x + (left * (1 - left / v)).sqrt() * draw.normal(*x.shape).double()
    return (x - again).square().sum(-1).mean(-1), (v / left).log().sum().item() / 2


def best_rate(variances, allowed):
    """The least rate, and how many directions it tells: the level by bisection."""
    v, low, high = variances.double(), 0.0, variances.max().item()
    for _ in range(200):
        level = (low + high) / 2
        low, high = (level, high) if v.clamp(max=level).sum() < allowed else (low, level)
    told = v[v > level * (1 + 1e-9)]
    return (told / level).log().sum().item() / 2, len(told)


def spread(draw, n):
    """Variances from 0.01 to 10 or so, in no order, so that some do not pay."""
    return draw.uniform(n, low=-4.5, high=2.3).exp()


@exercise("rate_distortion.design_code")
def design_code(f, draw):
    cases = [(spread(draw, 8), share) for share in (0.03, 0.3, 0.8)]
    cases += [(spread(draw, 40), 0.1), (torch.full((5,), 2.0), 0.25)]
    for v, share in cases:
        allowed = share * v.double().sum().item()
        made = f(v, allowed)
        pair = isinstance(made, (tuple, list)) and len(made) == 2
        yield holds("a price and a number of directions", pair, f"expected a pair, got {made!r}", usable=False)
        price, kept = float(made[0]), int(made[1])
        sound = 0 < price < math.inf and 1 <= kept <= len(v)
        message = f"got the price {price:.4g} and {kept} directions of {len(v)}"
        yield holds("a positive price, and directions that there are", sound, message, usable=False)
        if not sound:
            return
        errors, rate = used(v, price, kept, draw)
        best, told = best_rate(v, allowed)
        name = f"{len(v)} directions, {share:.0%} of the variance may be lost"
        yield reaches(f"{name}: squared error", errors, at_most=1.02 * allowed)
        yield near(f"{name}: the rate, in nats, is the least possible", rate, best, within=0.01 + 0.01 * best)
        yield equal(f"{name}: directions kept, those that say anything", kept, told)
        yield near(f"{name}: the price, at which one nat more would save as much", price * rate, price * best, 0.02)
    v = spread(draw, 6)
    for wrong in (0.0, -1.0, 1.001 * v.sum().item(), math.nan):
        yield raises(f"an error of {wrong:.3g} may be lost, of {v.sum():.3g}", ValueError, lambda e=wrong: f(v, e))


@design_code.promises(
    samples="one code for all directions",
    dtype="it returns Python's numbers",
    layout="there is one row of variances",
    device="it returns Python's numbers",
    gradients="a number of directions has none",
)
def a_design(f, draw):
    return f, dict(variances=spread(draw, 8), distortion=1.0)


design_code.edit(
    "the price is the level",
    {"2 * level": "level"},
    "The price is half of what it should be, so that too much is said. A direction stops paying where its error is "
    "half the price: D = kl_weight / 2.",
)
design_code.edit(
    "what is left out costs nothing",
    {"distortion - v[kept:].sum().item()": "distortion"},
    "The directions that nothing is said about lose all of their variance, and that counts: take it off what may be "
    "lost before the others share it.",
)
design_code.edit(
    "shared among all directions",
    {") / kept": ") / len(v)"},
    "What may be lost is divided by the number of *all* directions. Those left out have their share already.",
)
design_code.edit(
    "an equal share for each direction",
    {"return 2 * level, kept": "return 2 * distortion / len(v), len(v)"},
    "What may be lost is shared equally among all directions, and all are told. But a direction never loses more than "
    "its variance: where that is less than the share, telling it is a waste, and the rest belongs to the others.",
)
design_code.edit(
    "an equal share, and the small directions left out",
    {"return 2 * level, kept": "return 2 * distortion / len(v), max(1, int((v > distortion / len(v)).sum()))"},
    "The price comes from an equal share of the error for all directions. Those left out lose less than that, their "
    "variance alone: so the others may lose more, the price rises, and perhaps more directions are left out.",
)
design_code.edit(
    "one direction too few",
    {"return 2 * level, kept": "return 2 * level, max(kept - 1, 1)"},
    "One direction that pays is left out: all with a variance above kl_weight / 2 are worth telling.",
)
design_code.edit(
    "every direction kept",
    {"return 2 * level, kept": "return 2 * level, len(v)"},
    "All directions count as kept. Those with a variance below kl_weight / 2 say nothing: leave them out.",
)
design_code.edit(
    "the same number of nats for each",
    {"(distortion - v[kept:].sum().item()) / kept": "v[0].item() * distortion / v.sum().item()"},
    "Each direction keeps the same share of its variance. That spends nats on small directions; the cheapest code "
    "leaves the same *error* in each direction that pays.",
)
