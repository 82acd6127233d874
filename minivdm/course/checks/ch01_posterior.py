"""Exercise 1.6: what x_t and x_0 together say about the level below."""

import torch

from minivdm.course.exercise import close, exercise

from .common import SHAPES, at, bayes, fresh_schedule, pair


@exercise("forward_process.q_posterior")
def q_posterior(f, draw):
    schedule, ab = fresh_schedule(draw)
    names = ("mean", "variance")
    for name, shape in SHAPES.items():
        x0, x_t = draw.normal(*shape), draw.normal(*shape)
        t = draw.integers(2, schedule.T, shape[0])
        yield close(
            f"s = t - 1, {name}",
            f(x0, x_t, t, t - 1, schedule),
            bayes(ab, x0, x_t, t, t - 1),
            names=names,
            dtype=torch.float32,
        )
    x0, x_t = draw.normal(4, 3, 8, 8), draw.normal(4, 3, 8, 8)
    t, s = draw.integers(8, schedule.T, 4), draw.integers(1, 6, 4)
    yield close(
        "levels skipped, s < t - 1",
        f(x0, x_t, t, s, schedule),
        bayes(ab, x0, x_t, t, s),
        names=names,
        dtype=torch.float32,
    )
    s = torch.zeros_like(t)
    mean, variance = f(x0, x_t, t, s, schedule)
    yield close("s = 0: the mean is x0", mean, x0)
    yield close("s = 0: the variance is 0", variance, torch.zeros(4, 1, 1, 1), atol=1e-8)


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


@q_posterior.misconception(
    "ratio upside down",
    "alpha is larger than 1 here: the ratio is the wrong way up. alpha = alpha_bar_t / alpha_bar_s.",
)
def _(x0, x_t, t, s, schedule):
    ab_t, ab_s, alpha = pair(x0, x_t, t, s, schedule)
    alpha = 1 / alpha
    mean = (ab_s.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - ab_s) * x_t) / (1 - ab_t)
    return mean, (1 - alpha) * (1 - ab_s) / (1 - ab_t)


@q_posterior.misconception(
    "always one level down",
    "Right for s = t - 1 only: the argument s is not used. Look up alpha_bar at s, not at t - 1.",
)
def _(x0, x_t, t, s, schedule):
    ab_t, ab_s, alpha = pair(x0, x_t, t, t - 1, schedule)
    mean = (ab_s.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - ab_s) * x_t) / (1 - ab_t)
    return mean, (1 - alpha) * (1 - ab_s) / (1 - ab_t)


@q_posterior.misconception(
    "alpha_bar_t in front of x0",
    "The factor of x0 has sqrt(alpha_bar_s), the level we go *to*; here it is sqrt(alpha_bar_t).",
)
def _(x0, x_t, t, s, schedule):
    ab_t, ab_s, alpha = pair(x0, x_t, t, s, schedule)
    mean = (ab_t.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - ab_s) * x_t) / (1 - ab_t)
    return mean, (1 - alpha) * (1 - ab_s) / (1 - ab_t)


@q_posterior.misconception(
    "no shape for broadcasting",
    "schedule.alpha_bar[t] has the shape (B,), and PyTorch lines it up with the *last* axis. per_sample gives it the "
    "shape (B, 1, 1, 1).",
)
def _(x0, x_t, t, s, schedule):
    ab_t, ab_s = schedule.alpha_bar[t], schedule.alpha_bar[s]
    alpha = ab_t / ab_s
    mean = (ab_s.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - ab_s) * x_t) / (1 - ab_t)
    return mean, (1 - alpha) * (1 - ab_s) / (1 - ab_t)


@q_posterior.misconception(
    "alpha without its root",
    "The factor of x_t has sqrt(alpha); here it is alpha.",
)
def _(x0, x_t, t, s, schedule):
    ab_t, ab_s, alpha = pair(x0, x_t, t, s, schedule)
    mean = (ab_s.sqrt() * (1 - alpha) * x0 + alpha * (1 - ab_s) * x_t) / (1 - ab_t)
    return mean, (1 - alpha) * (1 - ab_s) / (1 - ab_t)


@q_posterior.misconception(
    "parentheses missing",
    "Only the second summand of the mean is divided by 1 - alpha_bar_t. Put parentheses around the sum.",
)
def _(x0, x_t, t, s, schedule):
    ab_t, ab_s, alpha = pair(x0, x_t, t, s, schedule)
    mean = ab_s.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - ab_s) * x_t / (1 - ab_t)
    return mean, (1 - alpha) * (1 - ab_s) / (1 - ab_t)
