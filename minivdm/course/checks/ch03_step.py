"""Exercise 3.2: one step that keeps its noise."""

from types import SimpleNamespace

import torch

from minivdm.course.exercise import close, exercise, holds

from .common import SHAPES, at, bayes, column, fresh_schedule, given_noise


@exercise("samplers.ddim_step")
def ddim_step(f, draw):
    schedule, ab = fresh_schedule(draw)

    def inputs(shape):
        t = draw.integers(6, schedule.T, shape[0])
        return draw.normal(*shape), draw.normal(*shape), draw.normal(*shape), t, draw.integers(1, 4, shape[0])

    x0, eps, noise, t, s = inputs((4, 2))
    keep = column(ab, t, x0)
    x_t = (keep.sqrt() * x0 + (1 - keep).sqrt() * eps).float()
    yield given_noise(f(x_t, x0, t, s, noise, schedule, 0.7), f(x_t, x0, t, s, noise, schedule, 0.7))
    for name, shape in SHAPES.items():
        x0, eps, noise, t, s = inputs(shape)
        ab_t = column(ab, t, x0)
        x_t = (ab_t.sqrt() * x0 + (1 - ab_t).sqrt() * eps).float()  # so eps is the noise in x_t
        for below in (s, t - 1):
            ab_s = column(ab, below, x0)
            want = ab_s.sqrt() * x0 + (1 - ab_s).sqrt() * eps
            got = f(x_t, x0, t, below, noise, schedule)
            which = "one level" if below is not s else "several levels"
            yield close(f"eta = 0, {name}, {which} down", got, want, 1e-4, dtype=torch.float32)
            mean, variance = bayes(ab, x0, x_t, t, below)
            got = f(x_t, x0, t, below, noise, schedule, 1.0)
            want = mean + variance.sqrt() * noise
            yield close(f"eta = 1 is DDPM's step, {name}, {which} down", got, want, 1e-4, dtype=torch.float32)
            eta = draw.uniform(1, low=0.3, high=0.8).item()
            sigma = eta * variance.sqrt()
            want = ab_s.sqrt() * x0 + (1 - ab_s - sigma**2).sqrt() * eps + sigma * noise
            got = f(x_t, x0, t, below, noise, schedule, eta=eta)
            yield close(f"eta = {eta:.2f}, {name}, {which} down", got, want, 1e-4, dtype=torch.float32)
    x0, x_t, noise, t, _ = inputs((4, 2))
    for eta in (0.0, 0.5, 1.0):
        got = f(x_t, x0, t, torch.zeros_like(t), noise, schedule, eta)
        yield close(f"eta = {eta}: the step to level 0 is x0", got, x0, dtype=torch.float32)
    schedule = steep_schedule(draw)
    x0, x_t, noise = draw.normal(3, 4000, 1)
    t, s = draw.integers(501, 1000, 4000), draw.integers(1, 500, 4000)
    got = f(x_t, x0, t, s, noise, schedule, 1.0)
    lost = int((~got.isfinite()).sum()) if torch.is_tensor(got) else 4000
    yield holds("eta = 1, long jumps to low levels", not lost, f"{lost:,} of 4,000 values are NaN or infinite")


def steep_schedule(draw):
    """Levels 1..500 with hardly any noise, 501..1000 with hardly anything else: between them rounding shows."""
    noise = 10 ** draw.uniform(500, low=-5.5, high=-4).sort().values
    data = 10 ** draw.uniform(500, low=-5, high=-3).sort(descending=True).values
    alpha_bar = torch.cat([torch.ones(1), 1 - noise, data])
    beta = torch.cat([torch.zeros(1), 1 - alpha_bar[1:] / alpha_bar[:-1]])
    return SimpleNamespace(T=1000, beta=beta, alpha_bar=alpha_bar)


def wrong(label, hint):
    """Add a misconception, given as x_s from (x_t, x0, ab_t, ab_s, noise, eta, more); ab are looked up already."""

    def add(step):
        def made(x_t, x0, t, s, noise, schedule, eta=0.0):
            ab_t, ab_s = at(schedule.alpha_bar, t, x_t), at(schedule.alpha_bar, s, x_t)
            return step(x_t, x0, ab_t, ab_s, noise, eta, at(schedule.beta, t, x_t))

        ddim_step.misconception(label, hint)(made)

    return add


def parts(x_t, x0, ab_t, ab_s, eta):
    """The noise in x_t, and sigma^2."""
    eps = (x_t - ab_t.sqrt() * x0) / (1 - ab_t).sqrt()
    return eps, eta**2 * (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)


@wrong("eta ignored", "eta has no effect: this is the step for eta = 0. sigma is proportional to eta.")
def _(x_t, x0, ab_t, ab_s, noise, eta, beta):
    eps, _ = parts(x_t, x0, ab_t, ab_s, eta)
    return ab_s.sqrt() * x0 + (1 - ab_s).sqrt() * eps


@wrong(
    "always DDPM",
    "This is DDPM's step whatever eta is. At eta = 0 no fresh noise may come in: sigma is proportional to eta.",
)
def _(x_t, x0, ab_t, ab_s, noise, eta, beta):
    eps, variance = parts(x_t, x0, ab_t, ab_s, 1.0)
    return ab_s.sqrt() * x0 + (1 - ab_s - variance).clamp(min=0).sqrt() * eps + variance.sqrt() * noise


@wrong(
    "fresh noise on top",
    "Fresh noise is added, but none of the old one is taken away: together they have more variance than level s should "
    "have. The old noise has the factor sqrt(1 - alpha_bar_s - sigma^2).",
)
def _(x_t, x0, ab_t, ab_s, noise, eta, beta):
    eps, variance = parts(x_t, x0, ab_t, ab_s, eta)
    return ab_s.sqrt() * x0 + (1 - ab_s).sqrt() * eps + variance.sqrt() * noise


@wrong(
    "eta not squared in the variance",
    "sigma is proportional to eta, so sigma^2 to eta *squared*.",
)
def _(x_t, x0, ab_t, ab_s, noise, eta, beta):
    eps, variance = parts(x_t, x0, ab_t, ab_s, eta**0.5)
    return ab_s.sqrt() * x0 + (1 - ab_s - variance).clamp(min=0).sqrt() * eps + variance.sqrt() * noise


@wrong(
    "sigma for sigma^2",
    "sigma itself is subtracted from 1 - alpha_bar_s. Variances add up, standard deviations do not: subtract sigma^2.",
)
def _(x_t, x0, ab_t, ab_s, noise, eta, beta):
    eps, variance = parts(x_t, x0, ab_t, ab_s, eta)
    sigma = variance.sqrt()
    return ab_s.sqrt() * x0 + (1 - ab_s - sigma).clamp(min=0).sqrt() * eps + sigma * noise


@wrong("variance for sigma", "The fresh noise is multiplied by sigma^2. Its factor is the standard deviation, sigma.")
def _(x_t, x0, ab_t, ab_s, noise, eta, beta):
    eps, variance = parts(x_t, x0, ab_t, ab_s, eta)
    return ab_s.sqrt() * x0 + (1 - ab_s - variance).clamp(min=0).sqrt() * eps + variance * noise


@wrong(
    "x_t taken for its noise",
    "x_t itself is added as if it were noise. x_t holds picture *and* noise: first read off the noise, "
    "eps = (x_t - sqrt(alpha_bar_t) x0) / sqrt(1 - alpha_bar_t).",
)
def _(x_t, x0, ab_t, ab_s, noise, eta, beta):
    variance = parts(x_t, x0, ab_t, ab_s, eta)[1]
    return ab_s.sqrt() * x0 + (1 - ab_s - variance).clamp(min=0).sqrt() * x_t + variance.sqrt() * noise


@wrong(
    "noise read off at level s",
    "The noise is read off x_t with alpha_bar_s. x_t is at level t: use alpha_bar_t there, and alpha_bar_s for the "
    "result.",
)
def _(x_t, x0, ab_t, ab_s, noise, eta, beta):
    variance = parts(x_t, x0, ab_t, ab_s, eta)[1]
    eps = (x_t - ab_s.sqrt() * x0) / (1 - ab_s).clamp(min=1e-12).sqrt()
    return ab_s.sqrt() * x0 + (1 - ab_s - variance).clamp(min=0).sqrt() * eps + variance.sqrt() * noise


@wrong(
    "noised afresh",
    "x0 is noised with the fresh noise alone. Then nothing of x_t is kept; at eta = 0 the noise must come from x_t.",
)
def _(x_t, x0, ab_t, ab_s, noise, eta, beta):
    return ab_s.sqrt() * x0 + (1 - ab_s).sqrt() * noise


@wrong(
    "beta of a single step",
    "In sigma stands the beta of the one step from t - 1 to t. Levels may be skipped, so it must be 1 - alpha_bar_t / "
    "alpha_bar_s, the noise of the whole way from s to t.",
)
def _(x_t, x0, ab_t, ab_s, noise, eta, beta):
    eps, _ = parts(x_t, x0, ab_t, ab_s, eta)
    variance = eta**2 * (1 - ab_s) / (1 - ab_t) * beta
    return ab_s.sqrt() * x0 + (1 - ab_s - variance).clamp(min=0).sqrt() * eps + variance.sqrt() * noise


@wrong(
    "the larger sigma",
    "sigma^2 lacks the factor (1 - alpha_bar_s) / (1 - alpha_bar_t): this is the noise of the step *up*. It leaves "
    "noise on the last step.",
)
def _(x_t, x0, ab_t, ab_s, noise, eta, beta):
    eps, _ = parts(x_t, x0, ab_t, ab_s, eta)
    variance = eta**2 * (1 - ab_t / ab_s)
    return ab_s.sqrt() * x0 + (1 - ab_s - variance).clamp(min=0).sqrt() * eps + variance.sqrt() * noise


@wrong(
    "no square roots",
    "alpha_bar is a share of variance: the factors of x0 and of the noise are square roots.",
)
def _(x_t, x0, ab_t, ab_s, noise, eta, beta):
    eps, variance = parts(x_t, x0, ab_t, ab_s, eta)
    return ab_s * x0 + (1 - ab_s - variance) * eps + variance * noise


@wrong(
    "no clamp",
    "Right but for rounding: at eta = 1, on a long jump to a low level, 1 - alpha_bar_s - sigma^2 can come out a hair "
    "below 0, and its root is NaN. Clamp it first: .clamp(min=0).",
)
def _(x_t, x0, ab_t, ab_s, noise, eta, beta):
    eps, variance = parts(x_t, x0, ab_t, ab_s, eta)
    sigma = variance.sqrt()
    return ab_s.sqrt() * x0 + (1 - ab_s - sigma**2).sqrt() * eps + sigma * noise


@wrong(
    "minus the noise",
    "The noise that was in x_t comes back with a minus sign. The step keeps it: add it.",
)
def _(x_t, x0, ab_t, ab_s, noise, eta, beta):
    eps, variance = parts(x_t, x0, ab_t, ab_s, eta)
    return ab_s.sqrt() * x0 - (1 - ab_s - variance).clamp(min=0).sqrt() * eps + variance.sqrt() * noise


@ddim_step.misconception(
    "no shape for broadcasting",
    "schedule.alpha_bar[t] has the shape (B,), and PyTorch lines it up with the *last* axis. "
    "per_sample(schedule.alpha_bar, t, x_t) gives it the shape (B, 1, ..., 1).",
)
def _(x_t, x0, t, s, noise, schedule, eta=0.0):
    ab_t, ab_s = schedule.alpha_bar[t], schedule.alpha_bar[s]
    eps, variance = parts(x_t, x0, ab_t, ab_s, eta)
    return ab_s.sqrt() * x0 + (1 - ab_s - variance).clamp(min=0).sqrt() * eps + variance.sqrt() * noise


@ddim_step.misconception(
    "t and s swapped",
    "The levels are swapped: t is the level that x_t has now, s < t the one to go to.",
)
def _(x_t, x0, t, s, noise, schedule, eta=0.0):
    ab_s, ab_t = at(schedule.alpha_bar, t, x_t), at(schedule.alpha_bar, s, x_t)
    eps, variance = parts(x_t, x0, ab_t, ab_s, eta)
    return ab_s.sqrt() * x0 + (1 - ab_s - variance).sqrt() * eps + variance.sqrt() * noise
