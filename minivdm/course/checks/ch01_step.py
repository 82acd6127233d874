"""Exercise 1.7: one step down."""

import torch

from minivdm.course.exercise import close, exercise

from .common import SHAPES, at, bayes, fresh_schedule, given_noise, mean_and_variance, pair


@exercise("samplers.ddpm_step")
def ddpm_step(f, draw):
    schedule, ab = fresh_schedule(draw)
    x_t, x0, noise = draw.normal(4, 2), draw.normal(4, 2), draw.normal(4, 2)
    t = draw.integers(6, schedule.T, 4)
    yield given_noise(f(x_t, x0, t, t - 2, noise, schedule), f(x_t, x0, t, t - 2, noise, schedule))
    for name, shape in SHAPES.items():
        x_t, x0, noise = draw.normal(*shape), draw.normal(*shape), draw.normal(*shape)
        t = draw.integers(6, schedule.T, shape[0])
        for s in (t - 1, draw.integers(1, 4, shape[0])):
            mean, variance = bayes(ab, x0, x_t, t, s)
            yield close(
                f"x_s for {name}",
                f(x_t, x0, t, s, noise, schedule),
                mean + variance.sqrt() * noise,
                dtype=torch.float32,
            )
    t = draw.integers(6, schedule.T, 4)
    x_t, x0, noise = draw.normal(4, 2), draw.normal(4, 2), draw.normal(4, 2)
    s = torch.tensor([0, 1, 2, 0])
    mean, variance = bayes(ab, x0, x_t, t, s.clamp(min=1))
    want = torch.where(s[:, None] == 0, x0, mean + variance.sqrt() * noise)
    yield close(
        "a batch in which only some samples go to level 0", f(x_t, x0, t, s, noise, schedule), want, dtype=torch.float32
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


@ddpm_step.misconception(
    "t and s swapped",
    "The levels are swapped: t is the level that x_t has now, s < t the one to go to. q_posterior takes t first.",
)
def _(x_t, x0, t, s, noise, schedule):
    mean, variance = mean_and_variance(x_t, x0, s, t, schedule)
    return mean + variance.sqrt() * noise


@ddpm_step.misconception(
    "root of the noise",
    "The root is taken of variance * noise, and noise is negative half of the time: NaN. Take the root of the variance "
    "alone.",
)
def _(x_t, x0, t, s, noise, schedule):
    mean, variance = mean_and_variance(x_t, x0, t, s, schedule)
    return mean + (variance * noise).sqrt()


@ddpm_step.misconception(
    "always one level down",
    "This goes to level t - 1, whatever s is. Hand s on to q_posterior.",
)
def _(x_t, x0, t, s, noise, schedule):
    mean, variance = mean_and_variance(x_t, x0, t, t - 1, schedule)
    return mean + variance.sqrt() * noise


@ddpm_step.misconception(
    "noise switched off for the whole batch",
    "One sample that goes to level 0 switches the noise off for all. No special case is needed: at s = 0 the variance "
    "is 0 by itself.",
)
def _(x_t, x0, t, s, noise, schedule):
    mean, variance = mean_and_variance(x_t, x0, t, s, schedule)
    return x0 if (s == 0).any() else mean + variance.sqrt() * noise
