"""Exercise 3.4: from data to the noise that DDIM would draw it from."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, raises

from .common import at, fresh_schedule


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

    def keep(*arguments):
        calls.append([a.clone() if torch.is_tensor(a) else a for a in arguments])

    for walk in (list(range(T + 1)), [0, 2, 5, 9, T]):
        x0, model = draw.normal(3, 1, 4, 4), Recorder(e)
        given = {} if len(walk) > T else {"levels": walk[::-1], "cond": label, "callback": keep}
        got = f(model, x0, schedule, **given)
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


def walk_up(mistake, model, x0, schedule, levels, cond, callback):
    """An inversion with room for one mistake."""
    levels = list(range(schedule.T, -1, -1)) if levels is None else list(levels)
    if mistake != "unchecked" and (levels[-1] != 0 or any(t <= s for t, s in zip(levels[:-1], levels[1:]))):
        raise ValueError("levels")
    up, x = levels[::-1], x0
    up = {
        "downwards": levels,
        "from 1": up[1:],
        "all levels": list(range(schedule.T + 1)),
        "jump": [0, up[-1]],
        "stops early": up[:-1],
    }.get(mistake, up)
    for source, level in zip(up[:-1], up[1:]):
        s, t = torch.full((len(x),), source), torch.full((len(x),), level)
        eps = model(x, s if mistake == "asks at s" else t, None if mistake == "no cond" else cond)
        ab_s, ab_t = at(schedule.alpha_bar, s, x), at(schedule.alpha_bar, t, x)
        here = ab_t if mistake == "read at t" else ab_s
        guess = (x - (1 - here).sqrt() * eps) / here.sqrt()
        guess = x0 if mistake == "from the data" else guess.clamp(-1, 1) if mistake == "clip" else guess
        noise = torch.randn_like(x) if mistake == "random" else -eps if mistake == "minus" else eps
        new = ab_t.sqrt() * guess + (1 - ab_t).sqrt() * noise
        if mistake == "one step up":
            new = (ab_t / ab_s).sqrt() * x + (1 - ab_t / ab_s).sqrt() * eps
        x = x if mistake == "not assigned" else new
        if callback and mistake != "no callback":
            callback(*{"old level": (source, x, guess), "swapped": (level, guess, x)}.get(mistake, (level, x, guess)))
        if mistake == "returns early":
            return x
    return x


def wrong(mistake, label, hint):
    """Add a misconception: the inversion above with one mistake in it."""

    def inversion(model, x0, schedule, levels=None, cond=None, callback=None):
        return walk_up(mistake, model, x0, schedule, levels, cond, callback)

    ddim_invert.misconception(label, hint)(inversion)


wrong(
    "asks at s",
    "asked at the level it comes from",
    "The model is asked at level s, where x is now. The way down will ask it at t, so ask at the level that you go "
    "*to*. (At level 0 it was never trained.)",
)
wrong(
    "random",
    "random noise",
    "The way up uses fresh random noise: that is the forward process, and no way leads back from it. Use the model's "
    "estimate eps as the noise.",
)
wrong(
    "downwards",
    "the list walked downwards",
    "The walk goes down, from T to 0. `levels` is the list that ddim_sample takes: reverse it first.",
)
wrong(
    "from 1",
    "the first step forgotten",
    "The walk does not begin at level 0, so the data is taken for something noisy. The first pair of levels starts "
    "at 0.",
)
wrong(
    "stops early",
    "the last step forgotten",
    "The walk ends one pair too early. The last level to reach is the first one of the list.",
)
wrong(
    "read at t",
    "x_0 read off at the new level",
    "x_0 is worked out with alpha_bar_t. x is still at level s: to_x0(x, s, eps, schedule).",
)
wrong(
    "from the data",
    "always from the data itself",
    "Each level is made from the data itself: jumps that all start afresh. Go on from where the last step led; x_0 "
    "is worked out anew, from x and eps.",
)
wrong(
    "jump",
    "a single jump",
    "This is one jump from 0 to the top. The estimate of the noise is good for a small step only: walk all pairs of "
    "the list.",
)
wrong(
    "one step up",
    "the forward step",
    "This is the forward process's own step, with eps for the noise. It adds *independent* noise; here the noise is "
    "already in x and must grow. Go through x_0: to_x0 at level s, then q_sample to level t.",
)
wrong(
    "minus",
    "minus the noise",
    "The noise is put in with a minus sign. Upwards noise is added.",
)
wrong(
    "not assigned",
    "the step's result is lost",
    "The new x is computed but not assigned: x = q_sample(...).",
)
wrong(
    "all levels",
    "the list of levels ignored",
    "All levels are walked, whatever `levels` says.",
)
wrong(
    "no cond",
    "cond forgotten",
    "The model is not given the condition: call model(x, t, cond).",
)
wrong(
    "clip",
    "clamped",
    "The guess of x_0 is clamped to [-1, 1]. What is cut off here cannot be put back on the way down.",
)
wrong(
    "unchecked",
    "levels not checked",
    "A list of levels that rises, or does not end at 0, is walked without complaint. Call checked_levels(levels, "
    "schedule) first.",
)
wrong(
    "returns early",
    "return inside the loop",
    "Only one step is made: the `return` stands inside the loop.",
)
wrong(
    "no callback",
    "callback never called",
    "The callback is never called. After each step: callback(t, x, guess).",
)
wrong(
    "old level",
    "callback with the old level",
    "The callback gets the level *before* the step. It belongs to the new x, so the level is t.",
)
wrong(
    "swapped",
    "x and guess swapped in the callback",
    "The callback gets the guess where x belongs: callback(t, x, guess).",
)
