"""Exercises 1.3, 1.5 and 1.6: jumping to a level, and what a noisy image says about the clean one."""

import torch

from minivdm.course.exercise import close, exercise

from .common import SHAPES, at, column, fresh_schedule, pair


@exercise("diffusion.q_sample")
def q_sample(f, draw):
    schedule, ab = fresh_schedule(draw)
    for name, shape in SHAPES.items():
        x0, noise = draw.normal(*shape), draw.normal(*shape)
        t = draw.integers(1, schedule.T, shape[0])
        keep = column(ab, t, x0)
        want = keep.sqrt() * x0 + (1 - keep).sqrt() * noise
        yield close(f"x_t for {name}", f(x0, t, noise, schedule), want, dtype=torch.float32)
    t = torch.zeros(shape[0], dtype=torch.long)
    yield close("level 0 gives the clean data back", f(x0, t, noise, schedule), x0)


@q_sample.misconception(
    "no square roots",
    "alpha_bar is a share of *variance*. The factors in front of x0 and the noise "
    "are standard deviations: take square roots of both.",
)
def _(x0, t, noise, schedule):
    ab = at(schedule.alpha_bar, t, x0)
    return ab * x0 + (1 - ab) * noise


@q_sample.misconception(
    "signal and noise swapped",
    "The two factors are swapped: at low levels this is nearly all noise. sqrt(alpha_bar) belongs to x0.",
)
def _(x0, t, noise, schedule):
    ab = at(schedule.alpha_bar, t, x0)
    return (1 - ab).sqrt() * x0 + ab.sqrt() * noise


@q_sample.misconception(
    "one minus the root",
    "The noise is multiplied by 1 - sqrt(alpha_bar). Subtract first, then "
    "take the root: the *squares* of the two factors add up to 1.",
)
def _(x0, t, noise, schedule):
    ab = at(schedule.alpha_bar, t, x0)
    return ab.sqrt() * x0 + (1 - ab.sqrt()) * noise


@q_sample.misconception(
    "level off by one",
    "This is the answer for level t - 1. The tables already start at level 0, so level t stands at index t.",
)
def _(x0, t, noise, schedule):
    ab = at(schedule.alpha_bar, t - 1, x0)
    return ab.sqrt() * x0 + (1 - ab).sqrt() * noise


@q_sample.misconception(
    "a single step",
    "beta_t is the noise of the one step from t - 1 to t. The jump from clean data "
    "to level t uses alpha_bar_t, which all steps up to t share.",
)
def _(x0, t, noise, schedule):
    beta = at(schedule.beta, t, x0)
    return (1 - beta).sqrt() * x0 + beta.sqrt() * noise


@q_sample.misconception(
    "one level for the batch",
    "All samples got the level of the first one. t holds a level per "
    "sample: look up all of them, and give the result the shape (B, 1, 1, 1).",
)
def _(x0, t, noise, schedule):
    ab = schedule.alpha_bar[t[0]]
    return ab.sqrt() * x0 + (1 - ab).sqrt() * noise


@exercise("diffusion.to_x0")
def to_x0(f, draw):
    schedule, ab = fresh_schedule(draw)
    for name, shape in SHAPES.items():
        x_t, eps = draw.normal(*shape), draw.normal(*shape)
        t = draw.integers(1, schedule.T, shape[0])
        keep = column(ab, t, x_t)
        want = (x_t - (1 - keep).sqrt() * eps) / keep.sqrt()
        yield close(f"x_0 for {name}", f(x_t, t, eps, schedule), want, dtype=torch.float32)
    t = torch.zeros(shape[0], dtype=torch.long)
    yield close("level 0 is clean already", f(x_t, t, eps, schedule), x_t)


@to_x0.misconception(
    "not divided", "The noise is taken off, but the signal is still shrunk by sqrt(alpha_bar): divide by it."
)
def _(x_t, t, eps, schedule):
    ab = at(schedule.alpha_bar, t, x_t)
    return x_t - (1 - ab).sqrt() * eps


@to_x0.misconception("no square roots", "Both factors are square roots, just as in q_sample: this function undoes it.")
def _(x_t, t, eps, schedule):
    ab = at(schedule.alpha_bar, t, x_t)
    return (x_t - (1 - ab) * eps) / ab


@to_x0.misconception(
    "divided by alpha_bar", "The signal was multiplied by sqrt(alpha_bar); here it is divided by alpha_bar."
)
def _(x_t, t, eps, schedule):
    ab = at(schedule.alpha_bar, t, x_t)
    return (x_t - (1 - ab).sqrt() * eps) / ab


@to_x0.misconception("noise added", "The sign of the noise is wrong: q_sample added it, so it must be subtracted.")
def _(x_t, t, eps, schedule):
    ab = at(schedule.alpha_bar, t, x_t)
    return (x_t + (1 - ab).sqrt() * eps) / ab.sqrt()


@to_x0.misconception(
    "the mean of one step",
    "This is DDPM's mean of one step down (with beta and alpha of that step). "
    "x_0 lies t steps down: use alpha_bar throughout.",
)
def _(x_t, t, eps, schedule):
    ab, beta = at(schedule.alpha_bar, t, x_t), at(schedule.beta, t, x_t)
    return (x_t - beta / (1 - ab).clamp(min=1e-12).sqrt() * eps) / (1 - beta).sqrt()


@exercise("diffusion.q_posterior")
def q_posterior(f, draw):
    schedule, ab = fresh_schedule(draw)

    def bayes(x0, x_t, t, s):
        """The product of two Gaussians in x_s: where x_0 sends it, and what x_t says about it."""
        ab_t, ab_s = column(ab, t, x0), column(ab, s, x0)
        alpha = ab_t / ab_s
        prior, evidence = 1 / (1 - ab_s), alpha / (1 - alpha)  # precisions
        variance = 1 / (prior + evidence)
        return variance * (prior * ab_s.sqrt() * x0 + evidence * x_t / alpha.sqrt()), variance

    names = ("mean", "variance")
    for name, shape in SHAPES.items():
        x0, x_t = draw.normal(*shape), draw.normal(*shape)
        t = draw.integers(2, schedule.T, shape[0])
        yield close(
            f"s = t - 1, {name}",
            f(x0, x_t, t, t - 1, schedule),
            bayes(x0, x_t, t, t - 1),
            names=names,
            dtype=torch.float32,
        )
    x0, x_t = draw.normal(4, 3, 8, 8), draw.normal(4, 3, 8, 8)
    t, s = draw.integers(8, schedule.T, 4), draw.integers(1, 6, 4)
    yield close(
        "levels skipped, s < t - 1", f(x0, x_t, t, s, schedule), bayes(x0, x_t, t, s), names=names, dtype=torch.float32
    )
    s = torch.zeros_like(t)
    yield close(
        "s = 0: the mean is x0, the variance 0", f(x0, x_t, t, s, schedule), (x0, torch.zeros(4, 1, 1, 1)), names=names
    )


@q_posterior.misconception(
    "mean's factors swapped",
    "The factors of x0 and x_t are swapped. Check with s = 0: there the mean must be x0, and x_t must not matter.",
)
def _(x0, x_t, t, s, schedule):
    ab_t, ab_s, alpha = pair(x0, x_t, t, s, schedule)
    mean = (ab_s.sqrt() * (1 - alpha) * x_t + alpha.sqrt() * (1 - ab_s) * x0) / (1 - ab_t)
    return mean, (1 - alpha) * (1 - ab_s) / (1 - ab_t)


@q_posterior.misconception(
    "variance beta",
    "The mean is right, but the variance is beta, that of the step up. Knowing "
    "x_0 makes x_s less uncertain: the factor (1 - alpha_bar_s) / (1 - alpha_bar_t) is missing.",
)
def _(x0, x_t, t, s, schedule):
    ab_t, ab_s, alpha = pair(x0, x_t, t, s, schedule)
    mean = (ab_s.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - ab_s) * x_t) / (1 - ab_t)
    return mean, 1 - alpha


@q_posterior.misconception(
    "standard deviation",
    "The second result is the standard deviation. The variance is asked for: leave out the square root.",
)
def _(x0, x_t, t, s, schedule):
    ab_t, ab_s, alpha = pair(x0, x_t, t, s, schedule)
    mean = (ab_s.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - ab_s) * x_t) / (1 - ab_t)
    return mean, ((1 - alpha) * (1 - ab_s) / (1 - ab_t)).sqrt()


@q_posterior.misconception(
    "beta of a single step",
    "Right for s = t - 1 only. When levels are skipped, the step from s "
    "to t is not the step that schedule.beta[t] describes: alpha = alpha_bar_t / alpha_bar_s.",
)
def _(x0, x_t, t, s, schedule):
    ab_t, ab_s, _ = pair(x0, x_t, t, s, schedule)
    alpha = 1 - at(schedule.beta, t, x0)
    mean = (ab_s.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - ab_s) * x_t) / (1 - ab_t)
    return mean, (1 - alpha) * (1 - ab_s) / (1 - ab_t)


@q_posterior.misconception(
    "no square roots in the mean",
    "The factors of the mean are sqrt(alpha_bar_s) and sqrt(alpha); the roots are missing.",
)
def _(x0, x_t, t, s, schedule):
    ab_t, ab_s, alpha = pair(x0, x_t, t, s, schedule)
    mean = (ab_s * (1 - alpha) * x0 + alpha * (1 - ab_s) * x_t) / (1 - ab_t)
    return mean, (1 - alpha) * (1 - ab_s) / (1 - ab_t)


@q_posterior.misconception(
    "alpha_bar instead of alpha",
    "alpha here is the share kept on the step from s to t alone, alpha_bar_t / alpha_bar_s, not alpha_bar_t.",
)
def _(x0, x_t, t, s, schedule):
    ab_t, ab_s, _ = pair(x0, x_t, t, s, schedule)
    mean = (ab_s.sqrt() * (1 - ab_t) * x0 + ab_t.sqrt() * (1 - ab_s) * x_t) / (1 - ab_t)
    return mean, (1 - ab_t) * (1 - ab_s) / (1 - ab_t)
