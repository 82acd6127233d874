"""Exercise 1.6: what x_t and x_0 together say about the level below."""

import torch

from minivdm.course.exercise import close, exercise

from .common import SHAPES, bayes, column, fresh_schedule, wide_schedule


@exercise("forward_process.q_posterior")
def q_posterior(f, draw):
    schedule, ab = fresh_schedule(draw)

    def agrees(what, x0, x_t, t, s):
        got, want = f(x0, x_t, t, s, schedule), bayes(ab, x0, x_t, t, s)
        return close(what, got, want, names=("mean", "variance"), dtype=torch.float32)

    for name, shape in SHAPES.items():
        t = draw.integers(2, schedule.T, shape[0])
        yield agrees(f"s = t - 1, {name}", draw.normal(*shape), draw.normal(*shape), t, t - 1)
    x0, x_t = draw.normal(4, 3, 8, 8), draw.normal(4, 3, 8, 8)
    t = draw.integers(8, schedule.T, 4)
    yield agrees("levels skipped, s < t - 1", x0, x_t, t, draw.integers(1, 6, 4))
    mean, variance = f(x0, x_t, t, torch.zeros_like(t), schedule)
    yield close("s = 0: the mean is x0", mean, x0)
    yield close("s = 0: the variance is 0", variance, torch.zeros(4, 1, 1, 1), atol=0)
    schedule, ab = wide_schedule(draw)
    t, s = steps(schedule.T, draw)
    x0 = draw.normal(len(t), 2, 3)
    x_t = x0.sign() * draw.normal(len(t), 2, 3).abs()  # else the two parts of the mean cancel, and their digits
    got = f(x0, x_t, t, s, schedule)
    mean, variance = bayes(ab, x0, x_t, t, s.clamp(min=1))
    clean = column((s == 0).tolist(), torch.arange(len(t)), x0) == 1
    want = torch.where(clean, x0.double(), mean).float(), torch.where(clean, 0, variance).float()
    name = "steps of all kinds in one batch, to level 0 and from level T too"
    yield close(name, got, want, 1e-5, 2e-3, names=("mean", "variance"))
    mean = f(x0, x_t, torch.ones_like(t), torch.zeros_like(t), schedule)[0]
    yield close("from a level with hardly any noise to level 0: the mean is x0", mean, x0, 1e-5, 1e-5)


def steps(T, draw):
    """Levels t and s < t: from the lowest, to the highest, one down, many down, in one batch."""
    t = torch.cat([torch.tensor([1, 2, 2, T, T, T]), draw.integers(3, T, 8)])
    s = torch.cat([torch.tensor([0, 0, 1, 0, 1, T - 1]), t[6:] - 1])
    s[10:] = (s[10:] * draw.uniform(4)).long()
    return t, s


@q_posterior.promises("samples", "dtype", "layout", "device", "gradients")
def mixed_steps(f, draw):
    schedule, _ = fresh_schedule(draw)
    x0, x_t = draw.normal(4, 3, 2, 5), draw.normal(4, 3, 2, 5)

    def moments(**given):
        mean, variance = f(**given)
        return mean, variance.to(mean)

    return moments, dict(x0=x0, x_t=x_t, t=torch.tensor([1, 12, 7, 7]), s=torch.tensor([0, 3, 0, 6]), schedule=schedule)


q_posterior.edit(
    "variance beta",
    {"beta * (1 - ab_s) / (1 - ab_t)": "beta"},
    "The mean is right, but the variance is beta, that of the step up. Knowing x_0 makes x_s less uncertain: "
    "the factor (1 - alpha_bar_s) / (1 - alpha_bar_t) is missing.",
)
q_posterior.edit(
    "beta of a single step",
    {"ab_t / ab_s": "1 - per_sample(schedule.beta, t, x_t)"},
    "Right for s = t - 1 only. When levels are skipped, the step from s to t is not the step that schedule.beta[t] "
    "describes: alpha = alpha_bar_t / alpha_bar_s.",
)
q_posterior.edit(
    "always one level down",
    {"alpha_bar, s,": "alpha_bar, t - 1,"},
    "Right for s = t - 1 only: the argument s is not used. Look up alpha_bar at s, not at t - 1.",
)
q_posterior.edit(
    "no square roots in the mean",
    {".sqrt()": ""},
    "The factors of the mean are sqrt(alpha_bar_s) and sqrt(alpha); the roots are missing.",
)
q_posterior.edit(
    "alpha_bar instead of alpha",
    {"ab_t / ab_s": "ab_t"},
    "alpha here is the share kept on the step from s to t alone, alpha_bar_t / alpha_bar_s, not alpha_bar_t.",
)
q_posterior.edit(
    "ratio upside down",
    {"ab_t / ab_s": "ab_s / ab_t"},
    "alpha is larger than 1 here: the ratio is the wrong way up. alpha = alpha_bar_t / alpha_bar_s.",
)
q_posterior.edit(
    "parentheses missing",
    {"(ab_s.sqrt()": "ab_s.sqrt()", "* x_t) /": "* x_t /"},
    "Only the second summand of the mean is divided by 1 - alpha_bar_t. Put parentheses around the sum.",
)
