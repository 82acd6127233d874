"""Exercise 1.8: all the way down."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, near, raises

from .common import at, fresh_schedule, listening_models, mean_and_variance, right_device


@exercise("samplers.ddpm_sample")
def ddpm_sample(f, draw):
    schedule, ab = fresh_schedule(draw)
    knows, seen, levels_asked = listening_models(schedule)

    point, x = draw.normal(3, 1, 4, 4), draw.normal(3, 1, 4, 4)
    result = f(knows(point, 0.0), x, schedule, generator=draw.generator())
    yield equal("levels at which the model was asked", levels_asked(), list(range(schedule.T, 0, -1)))
    ok = all(torch.is_tensor(t) and t.dtype == torch.long and tuple(t.shape) == (3,) for _, t, _ in seen)
    yield holds("t given to the model", ok, "expected a long tensor with one level per sample, shape (3,)")
    yield close("the first x that the model sees is the start", seen[0][0], x)
    moved = not any(torch.equal(a[0], b[0]) for a, b in zip(seen[:-1], seen[1:]))
    message = "the model was given the same x twice: is each step's result assigned to x?"
    yield holds("x changes from step to step", moved, message)
    yield close("data that is one point is hit exactly", result, point, atol=1e-4)

    seen.clear()
    chosen, label = [schedule.T, 9, 5, 2, 0], torch.tensor([4, 1, 7])
    result = f(knows(point, 0.0), x, schedule, levels=chosen, cond=label, generator=draw.generator())
    yield equal(f"levels asked when walking {chosen}", levels_asked(), chosen[:-1])
    yield holds("cond reaches the model", all(cond is label for _, _, cond in seen), "pass `cond` on to the model")
    yield close("that walk, too, ends in the point", result, point, atol=1e-4)

    mean, std = draw.uniform(2, low=0.4, high=0.9).tolist()
    for walk in (list(range(schedule.T, -1, -1)), chosen):
        got = f(knows(mean, std), draw.normal(20_000, 1), schedule, levels=walk, generator=draw.generator())
        m, v = chain(ab, walk, mean, std)
        name = f"{len(walk) - 1} steps, data N({mean:.2f}, {std:.2f}^2)"
        yield near(f"mean of samples, {name}", got.mean().item(), m, within=0.03)
        yield near(f"standard deviation of samples, {name}", got.std().item(), v**0.5, within=0.03)

    seen.clear()
    far, calls = draw.uniform(64, 1, 4, 4, low=2, high=3), []
    start = draw.normal(64, 1, 4, 4)

    def keep(*arguments):
        calls.append([a.clone() if torch.is_tensor(a) else a for a in arguments])

    got = f(knows(far, 0.0), start, schedule, clip_x0=True, generator=draw.generator(), callback=keep)
    yield close("clip_x0=True keeps the estimate of x0 in [-1, 1]", got, torch.ones(64, 1, 4, 4), atol=1e-4)
    free = min(x.abs().max().item() for x, _, _ in seen[: schedule.T // 2]) > 1.2
    message = "the noisy x was clamped on the way; only the estimate of x0 must stay in [-1, 1]"
    yield holds("clip_x0=True leaves the noisy x alone", free, message)
    yield equal("first argument of each callback(s, x, x0)", [a[0] for a in calls], list(range(schedule.T - 1, -1, -1)))
    yield close("x in the first callback: what the model sees next", calls[0][1], seen[1][0])
    yield close("x in the last callback: the result, at level 0", calls[-1][1], got)
    yield close("x0 in the first callback: the guess", calls[0][2], torch.ones(64, 1, 4, 4), atol=1e-4)
    inside = f(knows(far, 0.0), start, schedule, generator=draw.generator())
    yield close("without clip the estimate is left alone", inside, far, atol=1e-3)

    generator = draw.generator()
    state = generator.get_state()
    first = f(knows(0.0, 1.0), x, schedule, generator=generator)
    generator.set_state(state)
    again = f(knows(0.0, 1.0), x, schedule, generator=generator)
    message = "the noise must come from `generator`: torch.randn(x.shape, generator=generator, device=x.device)"
    yield holds("the same generator state gives the same sample", torch.equal(first, again), message)
    generator = draw.generator()
    yield right_device(lambda g=generator: f(knows(0.0, 1.0), x, schedule, generator=g))
    for bad in ([5, 3], [5, 8, 0]):
        yield raises(f"levels {bad}", ValueError, lambda bad=bad: f(knows(0.0, 1.0), x, schedule, levels=bad))


def chain(ab, walk, mean, std):
    """Mean and variance at level 0 of the exact walk with the perfect denoiser for N(mean, std^2), from N(0, 1)."""
    m, v = 0.0, 1.0
    for t, s in zip(walk[:-1], walk[1:]):
        ab_t, ab_s, alpha = ab[t], ab[s], ab[t] / ab[s]
        gain = ab_t**0.5 * std**2 / (ab_t * std**2 + 1 - ab_t)  # E[x_0 | x_t] = mean + gain (x_t - sqrt(ab_t) mean)
        c0, ct = ab_s**0.5 * (1 - alpha) / (1 - ab_t), alpha**0.5 * (1 - ab_s) / (1 - ab_t)
        slope = c0 * gain + ct
        m = slope * m + c0 * (mean - gain * ab_t**0.5 * mean)
        v = slope**2 * v + (1 - alpha) * (1 - ab_s) / (1 - ab_t)
    return m, v


def wrong(mistake, label, hint):
    """Add a misconception: the sampler below with one mistake in it."""

    def sampler(model, x, schedule, levels=None, cond=None, clip_x0=False, generator=None, callback=None):
        return walk_with(mistake, model, x, schedule, levels, cond, clip_x0, generator, callback)

    ddpm_sample.misconception(label, hint)(sampler)


def walk_with(mistake, model, x, schedule, levels, cond, clip_x0, generator, callback):
    """A sampler with room for one mistake."""
    levels = list(range(schedule.T, -1, -1)) if levels is None else list(levels)
    pairs = list(zip(levels[:-1], levels[1:]))
    if mistake != "unchecked" and (levels[-1] != 0 or any(t <= s for t, s in pairs)):
        raise ValueError("levels")
    where = {} if mistake == "no device" else {"device": x.device}
    once = torch.randn(x.shape, generator=generator, **where)
    x = once if mistake == "own start" else x
    if mistake == "rising":
        pairs = [(t, s) for s, t in reversed(pairs)]
    if mistake == "all levels":
        pairs = [(t, t - 1) for t in range(schedule.T, 0, -1)]
    for level, target in pairs[:-1] if mistake == "stops early" else pairs:
        target = level - 1 if mistake == "always down by one" else target
        t, s = torch.full((len(x),), level), torch.full((len(x),), target)
        ab = at(schedule.alpha_bar, t, x)
        asked = {"shifted": t - 1, "int": level}.get(mistake, t)
        eps = model(x, asked, None if mistake == "no cond" else cond)
        x0 = eps if mistake == "eps as x0" else (x - (1 - ab).sqrt() * eps) / ab.sqrt()
        clips = clip_x0 and mistake not in ("clips x", "no clip") or mistake == "always clip"
        x0 = x0.clamp(-1, 1) if clips else x0
        if callback and mistake == "early callback":
            callback(target, x, x0)
        noise = torch.randn(x.shape, generator=None if mistake == "own noise" else generator, **where)
        noise = {"one noise": once, "no noise": torch.zeros_like(x)}.get(mistake, noise)
        mean, variance = mean_and_variance(x, x0, t, s, schedule)
        new = mean + variance.sqrt() * noise
        x = x if mistake == "not assigned" else new.clamp(-1, 1) if clip_x0 and mistake == "clips x" else new
        if callback and mistake not in ("early callback", "no callback"):
            callback(*{"swapped": (target, x0, x), "old level": (level, x, x0)}.get(mistake, (target, x, x0)))
        if mistake == "returns early":
            return x
    return x


wrong(
    "stops early",
    "stops at level 1",
    "The walk ends one pair too early. The last pair of levels is (1, 0): walk all pairs, up to and including "
    "it, or noise is left in the result.",
)
wrong(
    "shifted",
    "levels counted from 0",
    "The model is asked at levels T-1..0. Here levels are counted as in the paper: ask at t = T..1, the level "
    "that x has *before* the step.",
)
wrong(
    "one noise",
    "the same noise at every step",
    "The noise is drawn once, outside the loop, and its pushes add up in one direction. Draw fresh noise for "
    "each step.",
)
wrong(
    "no noise",
    "no noise",
    "Only the mean is followed, so the samples are not spread as the data is. Draw fresh noise for each step "
    "and hand it to ddpm_step.",
)
wrong(
    "eps as x0",
    "the noise taken for the picture",
    "The model's answer is an estimate of the *noise*. Turn it into an estimate of x0 with to_x0 before the step.",
)
wrong(
    "not assigned",
    "the step's result is lost",
    "ddpm_step returns the new x; it does not change the old one. Assign: x = ddpm_step(...).",
)
wrong(
    "always down by one",
    "s = t - 1",
    "Each step goes to level t - 1, also where the list skips levels. Walk the *pairs* of neighbours in the "
    "list: s is the next entry.",
)
wrong(
    "no cond",
    "cond forgotten",
    "The model is not given the condition: call model(x, t, cond).",
)
wrong(
    "clips x",
    "x clipped instead of x0",
    "With clip_x0=True the noisy x is clamped. Noise may leave [-1, 1]; the estimate of the clean x0 must not.",
)
wrong(
    "no clip",
    "clip ignored",
    "The argument clip has no effect: if it is set, clamp the estimate of x0 to [-1, 1] before the step.",
)
wrong(
    "early callback",
    "callback before the step",
    "The callback gets the x from *before* the step. Call it after the step, with the level that was reached: "
    "callback(s, x, x0).",
)
wrong(
    "own noise",
    "generator ignored",
    "The noise does not come from `generator`, so a sample cannot be repeated: torch.randn(x.shape, "
    "generator=generator, device=x.device).",
)
wrong(
    "unchecked",
    "levels not checked",
    "The result is right for good lists of levels, but a list that rises or does not end at 0 is walked "
    "without complaint. Call checked_levels(levels, schedule) first.",
)
wrong(
    "returns early",
    "return inside the loop",
    "Only one step is made: the `return` stands inside the loop. Move it one level to the left.",
)
wrong(
    "rising",
    "levels upside down",
    "The walk goes up instead of down. The list of checked_levels falls already: walk it as it is.",
)
wrong(
    "all levels",
    "the list of levels ignored",
    "All levels are walked, whatever `levels` says. Walk the pairs of the list.",
)
wrong(
    "int",
    "an int for the level",
    "The model is given one int. It expects a level for each sample: a (B,) tensor, torch.full(x.shape[:1], "
    "level, device=x.device).",
)
wrong(
    "own start",
    "the start ignored",
    "The walk starts from noise of its own. Start from the argument x.",
)
wrong(
    "always clip",
    "clip always on",
    "The estimate of x0 is clamped even where clip is False. Points and latents may leave [-1, 1].",
)
wrong(
    "no callback",
    "callback never called",
    "The callback is never called. After each step: callback(s, x, x0), if there is one.",
)
wrong(
    "swapped",
    "x and x0 swapped in the callback",
    "The callback gets x0 where x belongs: callback(s, x, x0).",
)
wrong(
    "old level",
    "callback with the old level",
    "The callback gets the level t *before* the step. It belongs to the new x, so the level is s.",
)
wrong(
    "no device",
    "noise drawn on the CPU",
    "This works on a CPU only: torch.randn draws on the CPU unless told otherwise. Give device=x.device.",
)
