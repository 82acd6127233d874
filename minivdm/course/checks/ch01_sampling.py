"""Exercises 1.7 and 1.8: the way back."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, near

from .common import SHAPES, at, column, fresh_schedule, mean_and_variance, pair


@exercise("samplers.ddpm_step")
def ddpm_step(f, draw):
    schedule, ab = fresh_schedule(draw)

    def moments(x_t, x0, t, s):
        ab_t, ab_s = column(ab, t, x0), column(ab, s, x0)
        alpha = ab_t / ab_s
        prior, evidence = 1 / (1 - ab_s), alpha / (1 - alpha)
        variance = 1 / (prior + evidence)
        return variance * (prior * ab_s.sqrt() * x0 + evidence * x_t / alpha.sqrt()), variance

    for name, shape in SHAPES.items():
        x_t, x0, noise = draw.normal(*shape), draw.normal(*shape), draw.normal(*shape)
        t = draw.integers(6, schedule.T, shape[0])
        for s in (t - 1, draw.integers(1, 4, shape[0])):
            mean, variance = moments(x_t, x0, t, s)
            yield close(
                f"x_s for {name}",
                f(x_t, x0, t, s, noise, schedule),
                mean + variance.sqrt() * noise,
                dtype=torch.float32,
            )
    s = torch.zeros_like(t)
    yield close("the step to level 0 is x0, without noise", f(x_t, x0, t, s, noise, schedule), x0)


@ddpm_step.misconception(
    "variance instead of its root",
    "The noise is multiplied by the variance. Its standard deviation must be the *root* of the variance.",
)
def _(x_t, x0, t, s, noise, schedule):
    mean, variance = mean_and_variance(x_t, x0, t, s, schedule)
    return mean + variance * noise


@ddpm_step.misconception(
    "no noise",
    "This is the mean alone. Without fresh noise all samples drift to an average; add sqrt(variance) * noise.",
)
def _(x_t, x0, t, s, noise, schedule):
    return mean_and_variance(x_t, x0, t, s, schedule)[0]


@ddpm_step.misconception(
    "noised again from x0",
    "This forgets x_t and noises x0 afresh to level s. The step must stay "
    "close to where the sample is: draw from the posterior, whose mean uses x0 *and* x_t.",
)
def _(x_t, x0, t, s, noise, schedule):
    ab_s = at(schedule.alpha_bar, s, x0)
    return ab_s.sqrt() * x0 + (1 - ab_s).sqrt() * noise


@ddpm_step.misconception(
    "x0 and x_t swapped", "q_posterior takes x0 first, then x_t; here they are the other way round."
)
def _(x_t, x0, t, s, noise, schedule):
    mean, variance = mean_and_variance(x0, x_t, t, s, schedule)
    return mean + variance.sqrt() * noise


@ddpm_step.misconception(
    "noise of the step up",
    "The noise has the variance beta of the step up from s to t. That "
    "leaves noise on the last step; use the posterior's own variance, the second result of "
    "q_posterior.",
)
def _(x_t, x0, t, s, noise, schedule):
    mean, _ = mean_and_variance(x_t, x0, t, s, schedule)
    return mean + (1 - pair(x0, x_t, t, s, schedule)[2]).sqrt() * noise


@exercise("samplers.ddpm_sample")
def ddpm_sample(f, draw):
    schedule, ab = fresh_schedule(draw)
    seen = []

    def knows(mean, std):
        """The perfect noise estimate when the data is N(mean, std^2)."""

        def model(x, t, cond=None):
            seen.append((t, cond))
            keep = at(schedule.alpha_bar, t.long(), x) if torch.is_tensor(t) and t.ndim else schedule.alpha_bar[int(t)]
            variance = keep * std**2 + 1 - keep
            return (1 - keep).sqrt() * (x - keep.sqrt() * mean) / variance

        return model

    point = draw.normal(3, 1, 4, 4)
    x = draw.normal(3, 1, 4, 4)
    result = f(knows(point, 0.0), x, schedule, generator=draw.generator())
    levels = [t.flatten()[0].item() if torch.is_tensor(t) else t for t, _ in seen]
    yield equal("levels at which the model was asked", levels, list(range(schedule.T, 0, -1)))
    ok = all(torch.is_tensor(t) and t.dtype == torch.long and tuple(t.shape) == (3,) for t, _ in seen)
    yield holds("t given to the model", ok, "expected a long tensor with one level per sample, shape (3,)")
    yield close("data that is one point is hit exactly", result, point, atol=1e-4)

    seen.clear()
    chosen = [schedule.T, 9, 5, 2, 0]
    label = torch.tensor([4, 1, 7])
    result = f(knows(point, 0.0), x, schedule, levels=chosen, cond=label, generator=draw.generator())
    levels = [t.flatten()[0].item() if torch.is_tensor(t) else t for t, _ in seen]
    yield equal(f"levels asked when walking {chosen}", levels, chosen[:-1])
    yield close("that walk, too, ends in the point", result, point, atol=1e-4)
    yield holds("cond reaches the model", all(cond is label for _, cond in seen), "pass `cond` on to the model")

    mean, std = draw.uniform(2, low=0.4, high=0.9).tolist()
    start = draw.normal(20_000, 1)
    got = f(knows(mean, std), start, schedule, generator=draw.generator())
    m, v = _chain(ab, mean, std)
    yield near(f"mean of samples, data N({mean:.2f}, {std:.2f}^2)", got.mean().item(), m, within=0.03)
    yield near("standard deviation of those samples", got.std().item(), v**0.5, within=0.03)

    far = draw.uniform(2, 1, 2, 2, low=2, high=3)
    got = f(knows(far, 0.0), draw.normal(2, 1, 2, 2), schedule, clip=True, generator=draw.generator())
    yield close("clip=True keeps the estimate of x0 in [-1, 1]", got, torch.ones(2, 1, 2, 2), atol=1e-4)

    calls, generator = [], draw.generator()
    state = generator.get_state()
    first = f(knows(0.0, 1.0), x, schedule, generator=generator, callback=lambda *a: calls.append(a))
    generator.set_state(state)
    yield close(
        "the same generator state gives the same sample", f(knows(0.0, 1.0), x, schedule, generator=generator), first
    )
    yield equal("first argument of each callback(s, x, x0)", [a[0] for a in calls], list(range(schedule.T - 1, -1, -1)))


def _chain(ab, mean, std):
    """Mean and variance at level 0 of the exact chain with the perfect denoiser for N(mean, std^2), from N(0, 1)."""
    m, v = 0.0, 1.0
    for t in range(len(ab) - 1, 0, -1):
        ab_t, ab_s, alpha = ab[t], ab[t - 1], ab[t] / ab[t - 1]
        gain = ab_t**0.5 * std**2 / (ab_t * std**2 + 1 - ab_t)  # E[x_0 | x_t] = mean + gain (x_t - sqrt(ab_t) mean)
        c0, ct = ab_s**0.5 * (1 - alpha) / (1 - ab_t), alpha**0.5 * (1 - ab_s) / (1 - ab_t)
        slope = c0 * gain + ct
        m = slope * m + c0 * (mean - gain * ab_t**0.5 * mean)
        v = slope**2 * v + (1 - alpha) * (1 - ab_s) / (1 - ab_t)
    return m, v


def _walk(
    model,
    x,
    schedule,
    levels=None,
    cond=None,
    clip=False,
    generator=None,
    callback=None,
    *,
    last=True,
    fresh=True,
    noisy=True,
    clip_x=False,
    shift=False,
):
    """A sampler with one switch per misconception."""
    levels = list(range(schedule.T, -1, -1)) if levels is None else list(levels)
    pairs = list(zip(levels[:-1], levels[1:]))
    noise = torch.randn(x.shape, generator=generator)
    for level, target in pairs if last else pairs[:-1]:
        t, s = torch.full((len(x),), level), torch.full((len(x),), target)
        ab = at(schedule.alpha_bar, t, x)
        eps = model(x, t - 1 if shift else t, cond)
        x0 = (x - (1 - ab).sqrt() * eps) / ab.sqrt()
        x0 = x0.clamp(-1, 1) if clip and not clip_x else x0
        mean, variance = mean_and_variance(x, x0, t, s, schedule)
        noise = torch.randn(x.shape, generator=generator) if fresh else noise
        x = mean + variance.sqrt() * noise * noisy
        x = x.clamp(-1, 1) if clip and clip_x and target else x
        if callback:
            callback(target, x, x0)
    return x


@ddpm_sample.misconception(
    "stops at level 1",
    "The walk ends at level 1, so noise is left in the result. The last pair "
    "of levels is (1, 0): walk the pairs up to and including it.",
)
def _(*args, **kwargs):
    return _walk(*args, **kwargs, last=False)


@ddpm_sample.misconception(
    "levels counted from 0",
    "The model is asked at levels T-1..0. Here levels are counted as in "
    "the paper: ask at t = T..1, the level that x has *before* the step.",
)
def _(*args, **kwargs):
    return _walk(*args, **kwargs, shift=True)


@ddpm_sample.misconception(
    "the same noise at every step",
    "The noise is drawn once, outside the loop, and its pushes add "
    "up in one direction. Draw fresh noise for each step.",
)
def _(*args, **kwargs):
    return _walk(*args, **kwargs, fresh=False)


@ddpm_sample.misconception(
    "no noise",
    "Only the mean is followed: the samples are not spread as the data is. Draw fresh "
    "noise for each step and hand it to ddpm_step.",
)
def _(*args, **kwargs):
    return _walk(*args, **kwargs, noisy=False)


@ddpm_sample.misconception(
    "x clipped instead of x0",
    "The noisy x is clamped. Noise may leave [-1, 1]; it is the estimate of the clean x0 that must not.",
)
def _(*args, **kwargs):
    return _walk(*args, **kwargs, clip_x=True)
