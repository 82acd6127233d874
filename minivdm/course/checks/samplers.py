"""What the checks of samplers share: a model that listens, what a walk makes of its answers."""

from itertools import pairwise

import torch

from minivdm.course.exercise import close, equal, holds, near, raises
from minivdm.course.probes import describe, frozen, plain, shorten

from .common import fresh_schedule

SHAPE = (3, 5, 2)  # of a sample: all axes differ
LEVELS = (12, 9, 5, 2, 0)  # a walk that skips some
RESULT = "the result: x of the last callback"
BAD_LEVELS = ([5, 3], [5, 8, 0], [0, 5, 12], [9, 5, 5, 0], [13, 5, 0])


class Listener:
    """A model that answers e[t] + slope t x + cond / 10, and remembers what it was asked: (x, t, (cond,))."""

    def __init__(self, draw, T=12, slope=0.03):
        self.e, self.slope, self.seen = draw.normal(T + 1, *SHAPE), slope, []

    def __call__(self, x, t, *cond, **named):
        told = (*cond, *named.values())
        self.seen.append((x.clone(), frozen(t), told))
        return self.answer(x, t, *told[:1])

    def answer(self, x, t, cond=None):
        t = torch.as_tensor(t).flatten()
        t = (t if len(t) == len(x) else t[:1]).reshape(-1, 1, 1, 1)
        eps = self.e[t.flatten().long().clamp(0, len(self.e) - 1)] + self.slope * t * x
        return eps + cond.reshape(-1, 1, 1, 1) / 10 if torch.is_tensor(cond) else eps

    def levels(self):
        """The level of each question."""
        return [t.flatten()[0].item() if torch.is_tensor(t) else t for _, t, _ in self.seen]


def without_noise(model, x, ab, walk, cond=None):
    """Where a walk without fresh noise and without clamps leads, up or down (float64)."""
    x = x.double()
    for here, there in pairwise(walk):
        eps = model.answer(x, max(here, there), cond)
        guess = (x - (1 - ab[here]) ** 0.5 * eps) / ab[here] ** 0.5
        x = ab[there] ** 0.5 * guess + (1 - ab[there]) ** 0.5 * eps
    return x


def like(got, start):
    """A probe: a tensor of the start's shape came back."""
    fits = torch.is_tensor(got) and got.shape == start.shape
    message = f"expected {tuple(start.shape)}, got {describe(got)}"
    return holds("the result is a tensor like the start", fits, message, usable=False)


def questions(model, walk, batch, cond, who="the model", name="cond"):
    """Probes of what a model was asked on a walk, up or down."""
    yield equal(f"levels at which {who} was asked", model.levels(), [max(pair) for pair in pairwise(walk)])
    odd = [t for _, t, _ in model.seen if not (torch.is_tensor(t) and t.dtype == torch.long and t.shape == (batch,))]
    message = (
        f"expected a long tensor with one level per sample, shape ({batch},), got {describe(odd[0])}" if odd else ""
    )
    yield holds(f"t given to {who}", not odd, message)
    mixed = [t.tolist() for _, t, _ in model.seen if not odd and (t != t[0]).any()]
    yield holds(f"t given to {who}: one level for all samples", not mixed, f"got {mixed[:1]}")
    told = [told for _, _, told in model.seen]
    message = "it was called as model(x, t), without the condition"
    yield holds(f"{who} is called as model(x, t, cond)", all(told), message)
    other = [each[0] for each in told if each and plain(each[0]) != plain(cond)]
    message = f"expected {shorten(plain(cond))}, got {shorten(plain(other[0]))}: pass `{name}` on" if other else ""
    yield holds(f"`{name}` reaches {who} as it is", not other, message)


def walk_probes(f, draw, levels=None, T=12, batch=4, up=False, told=True, share=0.0, **given):
    """Probes of one call of a sampler, or with `up` of an inversion: each step, from what the model saw and answered.

    Args:
        levels: the falling list to walk; None stands for all, and is not given to `f`.
        told: whether to give a callback.
        share: how much of DDPM's noise comes in on the way.
        given: further arguments of `f`.
    """
    schedule, ab = fresh_schedule(draw, T)
    model, start, calls, asked = Listener(draw, T), draw.normal(batch, *SHAPE), [], []
    falling = list(levels or range(T, -1, -1))
    walk = falling[::-1] if up else falling

    torch.default_generator.manual_seed(draw.integers(0, 2**31 - 1))  # whatever has been drawn before

    def callback(*arguments):
        calls.append(frozen(arguments))
        asked.append(len(model.seen))

    given = given | ({"levels": levels} if levels else {}) | ({"callback": callback} if told else {})
    got = f(model, start, schedule, **given)
    cond, clip = given.get("cond"), given.get("clip_x0", False)
    yield (fits := like(got, start))
    signature = "callback(t, x, guess)" if up else "callback(s, x, x0)"
    shapes = {tuple(x.shape) for x, _, _ in model.seen} - {tuple(start.shape)}
    kinds = [tuple(type(each).__name__ for each in call) for call in calls]
    right = all(kind == ("int", "Tensor", "Tensor") for kind in kinds)
    called, wanted = [call[0] for call in calls if right], walk[1:] if told else []
    first = [
        holds(f"{signature}: an int and two tensors", right, f"got {kinds[:1]}"),
        holds(f"levels of the {signature}", called == wanted, f"expected calls at {wanted}, got {called}"),
        *questions(model, walk, batch, cond),
        holds("x given to the model has the start's shape", not shapes, f"expected {tuple(start.shape)}, got {shapes}"),
        equal("questions to the model before each callback", asked, list(range(1, len(walk))) if told else []),
    ]
    yield from first
    if not fits.ok or not all(probe.ok for probe in first):
        yield close("the result", got, start)  # what came tells one mistake from another
        return
    seen = [x for x, _, _ in model.seen]
    yield close("the first x that the model sees is what the sampler was given", seen[0], start)
    moved = not any(torch.equal(one, two) for one, two in pairwise(seen))
    message = "the model was given the same x twice: is each step's result assigned to x?"
    yield holds("x changes from step to step", moved, message)
    free = not clip or len(seen) == 1 or any(x.abs().max() > 1.2 for x in seen[1:])
    message = "the noisy x was clamped on the way; only the estimate of x0 must stay in [-1, 1]"
    yield holds("clip_x0=True leaves the noisy x alone", free, message)
    at = f" at eta = {given['eta']:.2f}" if "eta" in given else "" if up or share else " where eta is left out"
    steps, contents, fresh, beside = [], [], [], []
    for i, (here, there) in enumerate(pairwise(walk)):
        x, after = seen[i].double(), [*seen, got][i + 1]
        eps = model.answer(x, max(here, there), cond)
        guess = (x - (1 - ab[here]) ** 0.5 * eps) / ab[here] ** 0.5
        if clip:
            guess = guess.clamp(-1, 1)
            eps = (x - ab[here] ** 0.5 * guess) / (1 - ab[here]) ** 0.5
        atol = 1e-4 / min(ab[here], ab[there]) ** 0.5
        if told:
            name = f"{'guess' if up else 'x0'} in the callback at level {there}: the estimate"
            name += ", clamped to [-1, 1]" if clip else ", not clamped"
            contents.append(close(name, calls[i][2], guess, atol, dtype=torch.float32))
            name = f"x in the callback at level {there}: what the model sees next"
            last = i + 1 == len(seen)
            contents.append(close(name, calls[i][1], after) if not last else close(RESULT, after, calls[i][1]))
        sigma = 0 if up else share * ((1 - ab[there]) / (1 - ab[here]) * (1 - ab[here] / ab[there])) ** 0.5
        known = ab[there] ** 0.5 * guess + max(1 - ab[there] - sigma**2, 0) ** 0.5 * eps
        if sigma:
            fresh.append((after - known) / sigma)
            beside.append(eps)
        else:
            place = "the start" if here == walk[0] else f"level {here}"
            steps.append(close(f"the step from {place} to level {there}{at}", after, known, atol, dtype=torch.float32))
    yield from [*steps[-1:], *contents, *steps[:-1]]  # the last step of a sampler is its estimate itself
    if fresh and batch > 100:
        yield from noise_probes(torch.stack(fresh), torch.stack(beside), at)


def noise_probes(fresh, beside, at):
    """Probes of the fresh noise in each step, divided by its sigma, beside the noise that was in x: (steps, B, ...)."""
    flat, within = fresh.flatten(1), 5.5 / fresh[0].numel() ** 0.5
    still = [i + 1 for i, std in enumerate(flat.std(1)) if std < 1e-2]
    message = f"none does in steps {still} (the last step of all needs none): the samples are less spread than the data"
    yield holds(f"fresh noise comes in at each step{at}", not still, message)
    axes = ("steps", "samples", "channels", "rows", "columns")
    same = [f"all {name}" for axis, name in enumerate(axes) if fresh.shape[axis] > 1 and fresh.var(axis).max() < 1e-3]
    message = f"{' and '.join(same)} get the same noise: draw it anew in each step, as many numbers as x has"
    yield holds("each number gets noise of its own in each step", not same, message)
    zeros, ones = torch.zeros(len(flat)).double(), torch.ones(len(flat)).double()
    yield close(f"standard deviation of the fresh noise in each step, in units of sigma{at}", flat.std(1), ones, within)
    yield near(f"the same of all steps together{at}", fresh.std(), 1, 4 / fresh.numel() ** 0.5)
    yield close(f"mean of the fresh noise in each step, in units of sigma{at}", flat.mean(1), zeros, within)
    share = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(flat, beside.flatten(1))])
    yield close("correlation of the fresh noise with the noise that is in x, in each step", share, zeros, within)
    shared = (torch.corrcoef(flat) - torch.eye(len(flat))).abs().max().item() if len(flat) > 1 else 0
    yield near("largest correlation of two steps' fresh noise", shared, 0, within)
    normal = (fresh.abs() < 1).double().mean()
    yield near("share of the fresh noise between -1 and 1 sigma", normal, 0.6827, 2.6 / fresh.numel() ** 0.5)


def taken(what, call):
    """A probe: `call()` must not be refused."""
    try:
        call()
    except ValueError as error:
        return holds(what, False, f"it was refused: {error}", usable=False)
    return holds(what, True)


def refusals(call):
    """Probes: `call(levels)` must refuse lists of levels that cannot be walked."""
    for bad in BAD_LEVELS:
        yield raises(f"levels {bad} of 12 must be refused", ValueError, lambda bad=bad: call(list(bad)))


def sampler_probes(f, draw, share, **given):
    """Probes of any sampler: with and without condition, clamp, callback; few levels, all, one; a batch of one."""
    told = {"share": share, **given}
    label = torch.tensor([4, 1, 7, 2])
    yield from walk_probes(f, draw, list(LEVELS), cond=label, generator=draw.generator(), **told)
    yield from walk_probes(f, draw, list(LEVELS), clip_x0=True, **told)
    yield from walk_probes(f, draw, T=draw.integers(105, 115), share=share, told=False)
    yield from walk_probes(f, draw, (7, 3, 0), share=share, batch=2)
    yield from walk_probes(f, draw, T=1, share=share, batch=1, clip_x0=True)
