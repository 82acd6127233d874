"""What the checks of samplers share: how every sampler walks, what its noise does to Gaussian data, common mistakes."""

import torch

from minivdm.course.exercise import close, equal, holds, near, raises

from .common import fresh_schedule, listening_models, right_device, same_seed_same_result


def walks():
    """All levels of a fresh schedule, and a list that skips some."""
    return list(range(12, -1, -1)), [12, 9, 5, 2, 0]


def walk_probes(f, draw):
    """Probes of `f(model, x, schedule, levels, cond, clip_x0, generator, callback)`, with fresh noise or without."""
    schedule, _ = fresh_schedule(draw)
    knows, seen, levels_asked = listening_models(schedule)
    every, few = walks()
    label = torch.tensor([4, 1, 7])
    for walk, given in ((every, {}), (few, {"levels": few, "cond": label})):
        seen.clear()
        point, x = draw.normal(3, 1, 4, 4), draw.normal(3, 1, 4, 4)
        result = f(knows(point, 0.0), x, schedule, generator=draw.generator(), **given)
        yield equal(f"levels at which the model was asked, walking {walk}", levels_asked(), walk[:-1])
        ok = all(torch.is_tensor(t) and t.dtype == torch.long and tuple(t.shape) == (3,) for _, t, _ in seen)
        yield holds("t given to the model", ok, "expected a long tensor with one level per sample, shape (3,)")
        yield close("the first x that the model sees is the start", seen[0][0], x)
        moved = not any(torch.equal(a[0], b[0]) for a, b in zip(seen[:-1], seen[1:]))
        message = "the model was given the same x twice: is each step's result assigned to x?"
        yield holds("x changes from step to step", moved, message)
        yield close("data that is one point is hit exactly", result, point, atol=1e-4)
    yield holds("cond reaches the model", all(cond is label for _, _, cond in seen), "pass `cond` on to the model")
    for bad in ([5, 3], [5, 8, 0]):
        yield raises(f"levels {bad}", ValueError, lambda bad=bad: f(knows(0.0, 1.0), x, schedule, levels=bad))

    seen.clear()
    far, start, calls = draw.uniform(64, 1, 4, 4, low=2, high=3), draw.normal(64, 1, 4, 4), []
    edge = torch.ones(64, 1, 4, 4)

    def keep(*arguments):
        calls.append([a.clone() if torch.is_tensor(a) else a for a in arguments])

    got = f(knows(far, 0.0), start, schedule, clip_x0=True, generator=draw.generator(), callback=keep)
    yield close("clip_x0=True keeps the estimate of x0 in [-1, 1]", got, edge, atol=1e-4)
    free = min(x.abs().max().item() for x, _, _ in seen[: schedule.T // 2]) > 1.2
    message = "the noisy x was clamped on the way; only the estimate of x0 must stay in [-1, 1]"
    yield holds("clip_x0=True leaves the noisy x alone", free, message)
    yield equal("first argument of each callback(s, x, x0)", [a[0] for a in calls], every[1:])
    yield close("x in the first callback: what the model sees next", calls[0][1], seen[1][0])
    yield close("x in the last callback: the result, at level 0", calls[-1][1], got)
    yield close("x0 in the first callback: the guess", calls[0][2], edge, atol=1e-4)
    inside = f(knows(far, 0.0), start, schedule, generator=draw.generator())
    yield close("without clip_x0 the estimate is left alone", inside, far, atol=1e-3)


def noise_probes(f, draw, share=1.0, **given):
    """Probes of fresh noise: that a walk adds this share of DDPM's, and that it comes from `generator`."""
    schedule, ab = fresh_schedule(draw)
    knows, _, _ = listening_models(schedule)
    mean, std = draw.uniform(2, low=0.4, high=0.9).tolist()
    for walk in walks():
        start = draw.normal(20_000, 1)
        got = f(knows(mean, std), start, schedule, levels=walk, generator=draw.generator(), **given)
        slope, shift, spread = gaussian_walk(ab, walk, mean, std, share)
        settings = "".join(f"{key} = {value:.2f}, " for key, value in given.items())
        name = f"{len(walk) - 1} steps, {settings}data N({mean:.2f}, {std:.2f}^2)"
        yield near(f"mean of samples, {name}", got.mean().item(), shift, within=0.03)
        total = (slope**2 + spread**2) ** 0.5
        yield near(f"standard deviation of samples, {name}", got.std().item(), total, within=0.03)
        added = got.double() - slope * start - shift
        yield near(f"standard deviation of what fresh noise adds, {name}", added.std().item(), spread, within=0.03)

    def sample(generator):
        return f(knows(0.0, 1.0), start, schedule, generator=generator, **given)

    yield from same_seed_same_result("sample", sample, draw)
    generator = draw.generator()
    yield right_device(lambda: sample(generator))


def gaussian_walk(ab, walk, mean, std, eta):
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


MISTAKES = [  # (label, changes, hint): edits of any sampler's loop
    (
        "stops early",
        {"pairwise(levels)": "pairwise(levels[:-1])"},
        "The walk ends one pair too early, with noise left in the result. "
        "Walk all pairs of levels, up to and including the one that ends at 0.",
    ),
    (
        "asked at the level below",
        {"model(x, t,": "model(x, s,"},
        "The model is asked one level too low. Levels are counted as in the paper, from T down to 1: "
        "ask at t, the level that x has *before* the step.",
    ),
    (
        "the noise taken for the picture",
        {"to_x0(x, t, model(x, t, cond), schedule)": "model(x, t, cond)"},
        "The model's answer is an estimate of the *noise*. Turn it into an estimate of x0 with to_x0 before the step.",
    ),
    (
        "s = t - 1",
        {"full_like(t, target)": "full_like(t, level - 1)"},
        "Each step goes to level t - 1, also where the list skips levels. "
        "Walk the *pairs* of neighbours in the list: s is the next entry.",
    ),
    (
        "return inside the loop",
        {"    return x": "        return x"},
        "Only one step is made: the `return` stands inside the loop. Move it one level to the left.",
    ),
    (
        "x clipped instead of x0",
        {
            "x0 = x0.clamp(-1, 1)": "pass",
            "if callback": "if clip_x0:\n            x = x.clamp(-1, 1)\n        if callback",
        },
        "With clip_x0=True the noisy x is clamped. Noise may leave [-1, 1]; the estimate of the clean x0 must not.",
    ),
    (
        "callback with the old level",
        {"callback(target": "callback(level"},
        "The callback gets the level t *before* the step. It belongs to the new x, so the level is s.",
    ),
    (
        "generator ignored",
        {"generator=generator": "generator=None"},
        "The noise does not come from `generator`, so a sample cannot be repeated. "
        "Give generator=generator where the noise is drawn.",
    ),
    (
        "levels not checked",
        {"checked_levels(levels, schedule)": "levels or all_levels(schedule)"},
        "The result is right for good lists of levels, but a list that rises or does not end at 0 is walked "
        "without complaint. Call checked_levels(levels, schedule) first.",
    ),
]
