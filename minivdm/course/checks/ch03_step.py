"""Exercise 3.2: one step that keeps its noise."""

import torch

from minivdm.course.exercise import close, exercise, holds

from .common import SHAPES, bayes, column, fresh_schedule, given_noise, tables


@exercise("samplers.ddim_step")
def ddim_step(f, draw):
    schedule, ab = fresh_schedule(draw)

    def inputs(shape):
        t = draw.integers(6, schedule.T, shape[0])
        return draw.normal(*shape), draw.normal(*shape), draw.normal(*shape), t, draw.integers(1, 4, shape[0])

    x0, x_t, noise, t, s = inputs((4, 2))
    yield given_noise(f(x_t, x0, t, s, noise, schedule, 0.7), f(x_t, x0, t, s, noise, schedule, 0.7))
    for name, shape in SHAPES.items():
        x0, eps, noise, t, s = inputs(shape)
        ab_t = column(ab, t, x0)
        x_t = (ab_t.sqrt() * x0 + (1 - ab_t).sqrt() * eps).float()  # so eps is the noise in x_t
        between = draw.uniform(1, low=0.3, high=0.8).item()
        for which, below in {"several levels": s, "one level": t - 1}.items():
            ab_s, variance = column(ab, below, x0), bayes(ab, x0, x_t, t, below)[1]
            for given in ({}, {"eta": 1.0}, {"eta": between}):
                eta = given.get("eta", 0.0)
                sigma = eta * variance.sqrt()
                want = ab_s.sqrt() * x0 + (1 - ab_s - sigma**2).sqrt() * eps + sigma * noise
                got = f(x_t, x0, t, below, noise, schedule, **given)
                yield close(f"eta = {eta:.2f}, {name}, {which} down", got, want, 1e-4, dtype=torch.float32)
    x0, x_t, noise, t, _ = inputs((4, 2))
    for eta in (0.0, 0.5, 1.0):
        got = f(x_t, x0, t, torch.zeros_like(t), noise, schedule, eta)
        yield close(f"eta = {eta}: the step to level 0 is x0", got, x0, dtype=torch.float32)
    x0, x_t, noise = draw.normal(3, 4000, 1)
    t, s = draw.integers(501, 1000, 4000), draw.integers(1, 500, 4000)
    got = f(x_t, x0, t, s, noise, steep_schedule(draw), 1.0)
    lost = int((~got.isfinite()).sum()) if torch.is_tensor(got) else 4000
    yield holds("eta = 1, long jumps to low levels", not lost, f"{lost:,} of 4,000 values are NaN or infinite")


@ddim_step.promises("samples", "dtype", "layout", "device", "gradients")
def mixed_steps(f, draw):
    schedule, _ = fresh_schedule(draw)
    x_t, x0, noise = draw.normal(4, 3, 2, 5), draw.normal(4, 3, 2, 5), draw.normal(4, 3, 2, 5)
    t, s = torch.tensor([1, schedule.T, 7, 7]), torch.tensor([0, 3, 0, 6])
    return f, dict(x_t=x_t, x0=x0, t=t, s=s, noise=noise, schedule=schedule, eta=0.6)


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
    "no shape for broadcasting",
    {"ab_t = per_sample(schedule.alpha_bar, t, x_t)": "ab_t = schedule.alpha_bar[t]"},
    "schedule.alpha_bar[t] has the shape (B,), and PyTorch lines it up with the *last* axis. "
    "per_sample(schedule.alpha_bar, t, x_t) gives it the shape (B, 1, ..., 1).",
)
ddim_step.edit(
    "t and s swapped",
    {"    eps = (": "    ab_t, ab_s = ab_s, ab_t\n    eps = ("},
    "The levels are swapped: t is the level that x_t has now, s < t the one to go to.",
)
