"""Exercise 3.3: all the way down, with or without fresh noise."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, near, raises

from .common import at, fresh_schedule, listening_models, right_device


@exercise("samplers.ddim_sample")
def ddim_sample(f, draw):
    schedule, ab = fresh_schedule(draw)
    knows, seen, levels_asked = listening_models(schedule)

    chosen, label = [schedule.T, 9, 5, 2, 0], torch.tensor([4, 1, 7])
    mean, std = draw.uniform(2, low=0.4, high=0.9).tolist()
    for walk in (list(range(schedule.T, -1, -1)), chosen):
        seen.clear()
        start = draw.normal(3, 1, 4, 4)
        given = {} if walk is not chosen else {"levels": walk, "cond": label}
        got = f(knows(mean, std), start, schedule, **given)
        yield equal("levels at which the model was asked", levels_asked(), walk[:-1])
        ok = all(torch.is_tensor(t) and t.dtype == torch.long and tuple(t.shape) == (3,) for _, t, _ in seen)
        yield holds("t given to the model", ok, "expected a long tensor with one level per sample, shape (3,)")
        yield close("the first x that the model sees is the start", seen[0][0], start)
        slope, shift, _ = chain(ab, walk, mean, std, 0.0)
        name = f"{len(walk) - 1} steps, eta = 0, data N({mean:.2f}, {std:.2f}^2)"
        yield close(
            f"{name}: the start, scaled and shifted", got, slope * start.double() + shift, 1e-4, 1e-3, torch.float32
        )
    yield holds("cond reaches the model", all(cond is label for _, _, cond in seen), "pass `cond` on to the model")

    for eta in (1.0, draw.uniform(1, low=0.5, high=0.8).item()):
        start = draw.normal(20_000, 1)
        got = f(knows(mean, std), start, schedule, levels=chosen, eta=eta, generator=draw.generator())
        slope, shift, spread = chain(ab, chosen, mean, std, eta)
        rest = got.double() - slope * start - shift  # what the fresh noise has added
        name = f"eta = {eta:.2f}: what fresh noise adds"
        yield near(f"{name}, mean", rest.mean().item(), 0.0, within=0.03)
        yield near(f"{name}, standard deviation", rest.std().item(), spread, within=0.03)

    far, calls, start = draw.uniform(64, 1, 4, 4, low=2, high=3), [], draw.normal(64, 1, 4, 4)

    def keep(*arguments):
        calls.append([a.clone() if torch.is_tensor(a) else a for a in arguments])

    seen.clear()
    got = f(knows(far, 0.0), start, schedule, clip_x0=True, callback=keep)
    yield close("clip_x0=True keeps the estimate of x0 in [-1, 1]", got, torch.ones(64, 1, 4, 4), atol=1e-4)
    free = min(x.abs().max().item() for x, _, _ in seen[: schedule.T // 2]) > 1.2
    message = "the noisy x was clamped on the way; only the estimate of x0 must stay in [-1, 1]"
    yield holds("clip_x0=True leaves the noisy x alone", free, message)
    yield equal("first argument of each callback(s, x, x0)", [a[0] for a in calls], list(range(schedule.T - 1, -1, -1)))
    yield close("x in the first callback: what the model sees next", calls[0][1], seen[1][0])
    yield close("x0 in the first callback: the guess", calls[0][2], torch.ones(64, 1, 4, 4), atol=1e-4)
    inside = f(knows(far, 0.0), start, schedule)
    yield close("without clip, data that is one point is hit exactly", inside, far, atol=1e-3)

    again = [f(knows(0.0, 1.0), start, schedule, eta=1.0, generator=torch.Generator().manual_seed(5)) for _ in range(2)]
    message = "fresh noise must come from `generator`"
    yield holds("the same generator state gives the same sample", torch.equal(*again), message)
    generator = draw.generator()
    yield right_device(lambda: f(knows(0.0, 1.0), start, schedule, eta=1.0, generator=generator))
    for bad in ([5, 3], [5, 8, 0]):
        yield raises(f"levels {bad}", ValueError, lambda bad=bad: f(knows(0.0, 1.0), start, schedule, levels=bad))
    for bad in (1.5, -0.5):
        yield raises(f"eta = {bad}", ValueError, lambda bad=bad: f(knows(0.0, 1.0), start, schedule, eta=bad))


def chain(ab, walk, mean, std, eta):
    """The exact walk with the perfect denoiser for N(mean, std^2): result = slope * start + shift + spread * normal."""
    slope, shift, spread = 1.0, 0.0, 0.0
    for t, s in zip(walk[:-1], walk[1:]):
        ab_t, ab_s = ab[t], ab[s]
        total = ab_t * std**2 + 1 - ab_t  # variance of x_t; eps-hat and x0-hat are the regressions on x_t
        variance = eta**2 * (1 - ab_s) * (1 - ab_t / ab_s) / (1 - ab_t)
        kept = max(1 - ab_s - variance, 0.0) ** 0.5
        a = ab_s**0.5 * ab_t**0.5 * std**2 / total + kept * (1 - ab_t) ** 0.5 / total
        b = ab_s**0.5 * mean - a * ab_t**0.5 * mean
        slope, shift, spread = a * slope, a * shift + b, (a**2 * spread**2 + variance) ** 0.5
    return slope, shift, spread


def wrong(mistake, label, hint):
    """Add a misconception: the sampler below with one mistake in it."""

    def sampler(model, x, schedule, levels=None, cond=None, eta=0.0, clip_x0=False, generator=None, callback=None):
        return walk_with(mistake, model, x, schedule, levels, cond, eta, clip_x0, generator, callback)

    ddim_sample.misconception(label, hint)(sampler)


def walk_with(mistake, model, x, schedule, levels, cond, eta, clip_x0, generator, callback):
    """A sampler with room for one mistake."""
    levels = list(range(schedule.T, -1, -1)) if levels is None else list(levels)
    pairs = list(zip(levels[:-1], levels[1:]))
    if mistake != "unchecked" and (levels[-1] != 0 or any(t <= s for t, s in pairs)):
        raise ValueError("levels")
    if mistake != "any eta" and not 0 <= eta <= 1:
        raise ValueError("eta")
    where = {} if mistake == "no device" else {"device": x.device}
    once = torch.randn(x.shape, generator=generator, **where)
    eta = {"no eta": 0.0, "DDPM": 1.0}.get(mistake, eta)
    if mistake == "all levels":
        pairs = [(t, t - 1) for t in range(schedule.T, 0, -1)]
    for level, target in pairs[:-1] if mistake == "stops early" else pairs:
        target = level - 1 if mistake == "always down by one" else target
        t, s = torch.full((len(x),), level), torch.full((len(x),), target)
        ab_t, ab_s = at(schedule.alpha_bar, t, x), at(schedule.alpha_bar, s, x)
        guess = model(x, s if mistake == "asks at s" else t, None if mistake == "no cond" else cond)
        x0 = guess if mistake == "eps as x0" else (x - (1 - ab_t).sqrt() * guess) / ab_t.sqrt()
        clips = clip_x0 and mistake not in ("clips x", "no clip") or mistake == "always clip"
        x0 = x0.clamp(-1, 1) if clips else x0
        noise = torch.randn(x.shape, generator=None if mistake == "own noise" else generator, **where)
        noise = {"one noise": once, "no noise": torch.zeros_like(x)}.get(mistake, noise)
        eps = (x - ab_t.sqrt() * x0) / (1 - ab_t).sqrt()
        variance = eta**2 * (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)
        new = ab_s.sqrt() * x0 + (1 - ab_s - variance).clamp(min=0).sqrt() * eps + variance.sqrt() * noise
        x = x if mistake == "not assigned" else new.clamp(-1, 1) if clip_x0 and mistake == "clips x" else new
        if callback and mistake != "no callback":
            callback(*{"swapped": (target, x0, x), "old level": (level, x, x0)}.get(mistake, (target, x, x0)))
        if mistake == "returns early":
            return x
    return x


wrong(
    "no eta",
    "eta not passed on",
    "eta has no effect: hand it on to ddim_step, ddim_step(..., schedule, eta).",
)
wrong(
    "DDPM",
    "the old step",
    "Even at eta = 0 fresh noise comes in, as in ddpm_sample. Take the step with ddim_step, and hand eta on to it.",
)
wrong(
    "no noise",
    "zeros for noise",
    "With eta > 0, too, the step is given zeros for noise. Draw it, from `generator`.",
)
wrong(
    "one noise",
    "the same noise at every step",
    "The noise is drawn once, outside the loop. Draw fresh noise for each step.",
)
wrong(
    "asks at s",
    "asked at the level below",
    "The model is asked at level s, where x is going. When it is asked, x is still at level t.",
)
wrong(
    "stops early",
    "stops one step early",
    "The walk ends one pair too early, with noise left. Walk all pairs, up to and including the one that ends at 0.",
)
wrong(
    "eps as x0",
    "the noise taken for the picture",
    "The model's answer is an estimate of the *noise*. Turn it into an estimate of x0 with to_x0 before the step.",
)
wrong(
    "not assigned",
    "the step's result is lost",
    "ddim_step returns the new x; it does not change the old one. Assign: x = ddim_step(...).",
)
wrong(
    "always down by one",
    "s = t - 1",
    "Each step goes to level t - 1, also where the list skips levels. s is the next entry of the list.",
)
wrong(
    "all levels",
    "the list of levels ignored",
    "All levels are walked, whatever `levels` says. Walk the pairs of the list: skipping levels is the point of this "
    "sampler.",
)
wrong(
    "no cond",
    "cond forgotten",
    "The model is not given the condition: call model(x, t, cond).",
)
wrong(
    "clips x",
    "x clipped instead of x0",
    "With clip_x0=True the noisy x is clamped. Noise may leave [-1, 1]; it is the estimate of x0 that must not.",
)
wrong(
    "no clip",
    "clip ignored",
    "The argument clip has no effect: if it is set, clamp the estimate of x0 to [-1, 1] before the step.",
)
wrong(
    "always clip",
    "clip always on",
    "The estimate of x0 is clamped even where clip is False.",
)
wrong(
    "own noise",
    "generator ignored",
    "The noise does not come from `generator`, so a sample with eta > 0 cannot be repeated.",
)
wrong(
    "unchecked",
    "levels not checked",
    "A list of levels that rises, or does not end at 0, is walked without complaint. Call checked_levels(levels, "
    "schedule) first.",
)
wrong(
    "any eta",
    "eta not checked",
    "An eta below 0 or above 1 is taken without complaint: raise a ValueError before the walk begins.",
)
wrong(
    "returns early",
    "return inside the loop",
    "Only one step is made: the `return` stands inside the loop.",
)
wrong(
    "no callback",
    "callback never called",
    "The callback is never called. After each step: callback(s, x, x0).",
)
wrong(
    "swapped",
    "x and x0 swapped in the callback",
    "The callback gets x0 where x belongs: callback(s, x, x0).",
)
wrong(
    "old level",
    "callback with the old level",
    "The callback gets the level *before* the step. It belongs to the new x, so the level is s.",
)
wrong(
    "no device",
    "noise drawn on the CPU",
    "This works on a CPU only: torch.randn draws on the CPU unless told otherwise. Give device=x.device.",
)
