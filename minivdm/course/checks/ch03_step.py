"""Exercise 3.2: one step that keeps its noise."""

import torch

from minivdm.course.exercise import close, exercise, holds

from .common import SHAPES, bayes, column, fresh_schedule, given_noise, tables


@exercise("samplers.ddim_step")
def ddim_step(f, draw):
    (schedule, ab), (x_t, x0, noise) = fresh_schedule(draw), draw.normal(3, 6, 2)
    T = schedule.T
    high, low = torch.tensor([T, 7, 9, T, 8, 5]), torch.tensor([1, 3, 1, 4, 2, 2])
    given = (x_t, x0, high, low, noise, schedule, 0.7)
    yield given_noise(f(*given), f(*given))
    between = draw.uniform(1, low=0.3, high=0.8).item()
    for given in ({"eta": 0.0}, {"eta": 1.0}, {"eta": between}, {}):
        eta = given.get("eta", 0.0)
        name = f"eta = {eta:.2f}" if given else "without eta, which means 0"
        for kind, shape in SHAPES.items():
            schedule, ab = fresh_schedule(draw)
            t = high[: shape[0]]
            for which, s in {"several levels": low[: shape[0]], "one level": t - 1}.items():
                x_t, x0, noise = (draw.normal(*shape) for _ in range(3))
                want = stepped(ab, x_t, x0, t, s, noise, bayes(ab, x0, x_t, t, s)[1], eta)
                got = f(x_t, x0, t, s, noise, schedule, **given)
                yield close(f"{name}, {kind}, {which} down", got, want, 1e-4, dtype=torch.float32)
        x_t, x0, noise = draw.normal(3, 6, 2)
        s = torch.tensor([0, 3, 0, 1, 2, 0])
        variance = bayes(ab, x0, x_t, high, s.clamp(min=1))[1] * (s > 0)[:, None]
        want = stepped(ab, x_t, x0, high, s, noise, variance, eta)
        got = f(x_t, x0, high, s, noise, schedule, **given)
        yield close(f"{name}, only some samples go to level 0", got, want, 1e-4, dtype=torch.float32)
        got = f(x_t, x0, high, torch.zeros_like(s), 100 * noise, schedule, **given)
        yield close(f"{name}: the step to level 0 is x0", got, x0, dtype=torch.float32)
    schedule = end_schedule(draw)
    t, s = torch.tensor([2, 3, 4, 5, 6, 7, 7]), torch.tensor([1, 2, 3, 4, 5, 6, 1])
    x0, eps, noise = draw.normal(3, 7, 30)
    ab, ab_t = schedule.alpha_bar.tolist(), column(schedule.alpha_bar.tolist(), t, x0)
    x_t = (ab_t.sqrt() * x0 + (1 - ab_t).sqrt() * eps).float()
    want = stepped(ab, x_t, x0, t, s, noise, torch.zeros(()), 0.0)
    got = f(x_t, x0, t, s, noise, schedule)
    yield close("levels with hardly any noise, or hardly anything else", got, want, 2e-5, dtype=torch.float32)
    x0, x_t, noise = draw.normal(3, 4000, 1)
    t, s = draw.integers(501, 1000, 4000), draw.integers(1, 500, 4000)
    got = f(x_t, x0, t, s, noise, steep_schedule(draw), 1.0)
    lost = int((~got.isfinite()).sum()) if torch.is_tensor(got) else 4000
    yield holds("eta = 1, long jumps to low levels", not lost, f"{lost:,} of 4,000 values are NaN or infinite")


def stepped(ab, x_t, x0, t, s, noise, variance, eta):
    """x_s for a `variance` of DDPM's fresh noise, of which the share eta**2 comes in (float64)."""
    ab_t, ab_s = column(ab, t, x0), column(ab, s, x0)
    eps = (x_t - ab_t.sqrt() * x0) / (1 - ab_t).sqrt()
    return ab_s.sqrt() * x0 + (1 - ab_s - eta**2 * variance).clamp(min=0).sqrt() * eps + eta * variance.sqrt() * noise


@ddim_step.promises("samples", "dtype", "layout", "device", "gradients")
def mixed_steps(f, draw):
    schedule, _ = fresh_schedule(draw)
    x_t, x0, noise = draw.normal(4, 3, 2, 5), draw.normal(4, 3, 2, 5), draw.normal(4, 3, 2, 5)
    t, s = torch.tensor([1, schedule.T, 7, 7]), torch.tensor([0, 3, 0, 6])
    return f, dict(x_t=x_t, x0=x0, t=t, s=s, noise=noise, schedule=schedule, eta=0.6)


def end_schedule(draw):
    """Levels close together at both ends, where a small number added to a divisor shows."""
    little, much = (10 ** draw.uniform(3, low=-5, high=-4).sort().values for _ in range(2))
    alpha_bar = torch.cat([torch.ones(1), 1 - little, torch.tensor([0.5]), much.flip(0)])
    return tables(torch.cat([torch.zeros(1), 1 - alpha_bar[1:] / alpha_bar[:-1]]), alpha_bar)


def steep_schedule(draw):
    """Levels 1..500 with hardly any noise, 501..1000 with hardly anything else: between them rounding shows."""
    noise = 10 ** draw.uniform(500, low=-5.5, high=-4).sort().values
    data = 10 ** draw.uniform(500, low=-5, high=-3).sort(descending=True).values
    alpha_bar = torch.cat([torch.ones(1), 1 - noise, data])
    beta = torch.cat([torch.zeros(1), 1 - alpha_bar[1:] / alpha_bar[:-1]])
    return tables(beta, alpha_bar)


ddim_step.edit(
    "eta ignored", {"eta**2 *": "0 *"}, "eta has no effect: this is the step for eta = 0. sigma is proportional to eta."
)
ddim_step.edit(
    "always DDPM",
    {"eta**2 *": "1 *"},
    "This is DDPM's step whatever eta is. At eta = 0 no fresh noise may come in: sigma is proportional to eta.",
)
ddim_step.edit(
    "eta not squared in the variance", {"eta**2": "eta"}, "sigma is proportional to eta, so sigma^2 to eta *squared*."
)
ddim_step.edit(
    "fresh noise on top",
    {"(1 - ab_s - variance)": "(1 - ab_s)"},
    "Fresh noise is added, but none of the old one is taken away: together they have more variance than level s should "
    "have. The old noise has the factor sqrt(1 - alpha_bar_s - sigma^2).",
)
ddim_step.edit(
    "sigma for sigma^2",
    {"- variance)": "- variance.sqrt())"},
    "sigma itself is subtracted from 1 - alpha_bar_s. Variances add up, standard deviations do not: subtract sigma^2.",
)
ddim_step.edit(
    "x_t taken for its noise",
    {"kept * eps": "kept * x_t"},
    "x_t itself is added as if it were noise. x_t holds picture *and* noise: first read off the noise, "
    "eps = (x_t - sqrt(alpha_bar_t) x0) / sqrt(1 - alpha_bar_t).",
)
ddim_step.edit(
    "beta of a single step",
    {"(1 - ab_t / ab_s)": "per_sample(schedule.beta, t, x_t)"},
    "In sigma stands the beta of the one step from t - 1 to t. Levels may be skipped, so it must be 1 - alpha_bar_t / "
    "alpha_bar_s, the noise of the whole way from s to t.",
)
ddim_step.edit(
    "the larger sigma",
    {"* (1 - ab_s) / (1 - ab_t) *": "*"},
    "sigma^2 lacks the factor (1 - alpha_bar_s) / (1 - alpha_bar_t): this is the noise of the step *up*. It leaves "
    "noise on the last step.",
)
ddim_step.edit(
    "no square roots",
    {"ab_s.sqrt() * x0": "ab_s * x0", "(min=0).sqrt()": "(min=0)", "variance.sqrt()": "variance"},
    "alpha_bar is a share of variance: the factors of x0 and of the noise are square roots.",
)
ddim_step.edit(
    "no clamp",
    {"variance).clamp(min=0)": "variance.sqrt() ** 2)"},
    "Right but for rounding: at eta = 1, on a long jump to a low level, 1 - alpha_bar_s - sigma^2 can come out a hair "
    "below 0, and its root is NaN. Clamp it first: .clamp(min=0).",
)
ddim_step.edit(
    "x0 clamped in the sum alone",
    {"ab_s.sqrt() * x0": "ab_s.sqrt() * x0.clamp(-1, 1)"},
    "x0 is clamped to [-1, 1] in the sum, and not where the noise is read off. Take x0 as it comes, in both places.",
)
ddim_step.edit(
    "eta as a switch",
    {"eta**2 *": "(eta > 0) *"},
    "Any eta above 0 acts like 1. It is a share: sigma is eta times DDPM's.",
)
ddim_step.edit(
    "eta rounded down",
    {"eta**2 *": "int(eta) *"},
    "An eta between 0 and 1 acts like 0: keep it as it is, not a whole number.",
)
ddim_step.edit(
    "always one level down",
    {"alpha_bar, s,": "alpha_bar, t - 1,"},
    "The step ends at level t - 1, wherever s is. Look alpha_bar_s up at s.",
)
ddim_step.edit(
    "the fraction in sigma upside down",
    {"* (1 - ab_s) / (1 - ab_t) *": "* (1 - ab_t) / (1 - ab_s) *"},
    "The first fraction of sigma^2 stands upside down: it is (1 - alpha_bar_s) / (1 - alpha_bar_t), and 0 at s = 0.",
)
ddim_step.edit(
    "eps divided by a variance",
    {"/ (1 - ab_t).sqrt()": "/ (1 - ab_t)"},
    "The noise in x_t is divided by 1 - alpha_bar_t, its variance. Divide by the *root* to get eps.",
)
ddim_step.edit(
    "t and s swapped",
    {"    eps = (": "    ab_t, ab_s = ab_s, ab_t\n    eps = ("},
    "The levels are swapped: t is the level that x_t has now, s < t the one to go to.",
)
