"""Exercise 3.4: from data to the noise that DDIM would draw it from."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, raises
from minivdm.course.probes import frozen

from .common import fresh_schedule


def travelled(ab, e, walk):
    """How x / sqrt(alpha_bar) moves on a rising walk, if the noise at level t is e[t] wherever x is (float64)."""
    sigma = [((1 - a) / a) ** 0.5 for a in ab]  # noise per unit of signal
    return sum((sigma[t] - sigma[s]) * e[t].double() for s, t in zip(walk[:-1], walk[1:]))


class Recorder:
    """A model that answers e[t] wherever x is, or shrinks x by `gain`, and remembers what it was asked."""

    def __init__(self, e, gain=0.0):
        self.e, self.gain, self.seen = e, gain, []

    def __call__(self, x, t, cond=None):
        self.seen.append((x.clone(), t, cond))
        t = t if torch.is_tensor(t) and t.ndim else torch.full((len(x),), int(t))
        return self.e[t.clamp(0, len(self.e) - 1)] + self.gain * x

    def levels(self):
        return [t.flatten()[0].item() if torch.is_tensor(t) else t for _, t, _ in self.seen]


@exercise("samplers.ddim_invert")
def ddim_invert(f, draw):
    schedule, ab = fresh_schedule(draw)
    T, label = schedule.T, torch.tensor([4, 1, 7])
    e, calls = draw.normal(T + 1, 1, 4, 4), []
    for walk in (list(range(T + 1)), [0, 2, 5, 9, T]):
        x0, model = draw.normal(3, 1, 4, 4), Recorder(e)
        given = {"levels": walk[::-1], "cond": label, "callback": lambda *told: calls.append(frozen(told))}
        got = f(model, x0, schedule, **(given if len(walk) <= T else {}))
        yield equal("levels at which the model was asked", model.levels(), walk[1:])
        ok = all(torch.is_tensor(t) and t.dtype == torch.long and tuple(t.shape) == (3,) for _, t, _ in model.seen)
        yield holds("t given to the model", ok, "expected a long tensor with one level per sample, shape (3,)")
        yield close("the first x that the model sees is the data", model.seen[0][0], x0)
        want = ab[T] ** 0.5 * (x0.double() + travelled(ab, e, walk))
        name = f"{len(walk) - 1} steps up, with an eps that does not depend on x"
        yield close(name, got, want, 1e-4, dtype=torch.float32)
    yield holds("cond reaches the model", all(c is label for _, _, c in model.seen), "pass `cond` on to the model")

    yield equal("first argument of each callback(t, x, guess)", [a[0] for a in calls], walk[1:])
    yield close("x in the first callback: what the model sees next", calls[0][1], model.seen[1][0])
    yield close("guess in the first callback: from x at level 0", calls[0][2], x0, atol=1e-4)

    gain, x0 = draw.uniform(1, low=0.2, high=0.4).item(), draw.uniform(3, 1, 4, 4, low=2, high=3)
    model, x = Recorder(torch.zeros_like(e), gain), x0.double()
    for s, t in zip(walk[:-1], walk[1:]):  # eps = gain * x, written with the two factors of x_t and of x_0
        guess = (x - (1 - ab[s]) ** 0.5 * gain * x) / ab[s] ** 0.5
        x = ab[t] ** 0.5 * guess + (1 - ab[t]) ** 0.5 * gain * x
    got = f(model, x0, schedule, levels=walk[::-1])
    yield close("an eps that grows with x", got, x, 1e-4, dtype=torch.float32)
    for bad in ([5, 3], [5, 8, 0]):
        yield raises(f"levels {bad}", ValueError, lambda bad=bad: f(model, x0, schedule, levels=bad))


ddim_invert.edit(
    "asked at the level it comes from",
    {"model(x, t, cond)": "model(x, s, cond)"},
    "The model is asked at level s, where x is now. The way down will ask it at t, so ask at the level that you go "
    "*to*. (At level 0 it was never trained.)",
)
ddim_invert.edit(
    "random noise",
    {"t, eps, schedule)": "t, torch.randn_like(x), schedule)"},
    "The way up uses fresh random noise: that is the forward process, and no way leads back from it. Use the model's "
    "estimate eps as the noise.",
)
ddim_invert.edit(
    "the list walked downwards",
    {"reversed(levels)": "levels"},
    "The walk goes down, from T to 0. `levels` is the list that ddim_sample takes: reverse it first.",
)
ddim_invert.edit(
    "x_0 read off at the new level",
    {"to_x0(x, s,": "to_x0(x, t,"},
    "x does not move: x_0 is worked out with alpha_bar_t, or the new x is not assigned. x is still at level s, so "
    "guess = to_x0(x, s, eps, schedule), then x = q_sample(...).",
)
ddim_invert.edit(
    "always from the data itself",
    {"to_x0(x, s, eps, schedule)": "x0"},
    "Each level is made from the data itself: jumps that all start afresh. Go on from where the last step led; x_0 "
    "is worked out anew, from x and eps.",
)
ddim_invert.edit(
    "the list of levels ignored",
    {"reversed(levels)": "reversed(all_levels(schedule))"},
    "All levels are walked, whatever `levels` says.",
)
ddim_invert.edit(
    "cond forgotten",
    {"model(x, t, cond)": "model(x, t)"},
    "The model is not given the condition: call model(x, t, cond).",
)
ddim_invert.edit(
    "clamped",
    {"eps, schedule)\n        x =": "eps, schedule).clamp(-1, 1)\n        x ="},
    "The guess of x_0 is clamped to [-1, 1]. What is cut off here cannot be put back on the way down.",
)
ddim_invert.edit(
    "levels not checked",
    {"checked_levels(levels, schedule)": "levels or all_levels(schedule)"},
    "A list of levels that rises, or does not end at 0, is walked without complaint. Call checked_levels(levels, "
    "schedule) first.",
)
ddim_invert.edit(
    "return inside the loop",
    {"    return x": "        return x"},
    "Only one step is made: the `return` stands inside the loop.",
)
ddim_invert.edit(
    "callback with the old level",
    {"callback(target,": "callback(level,"},
    "The callback gets the level *before* the step. It belongs to the new x, so the level is t.",
)
