"""Exercises 2.1 to 2.4: the noise, the clean data, the velocity and the score."""

import torch

from minivdm.course.exercise import close, exercise

from .common import SHAPES, at, column, fresh_schedule


@exercise("predictions.to_score")
def to_score(f, draw):
    schedule, ab = fresh_schedule(draw)
    for name, shape in SHAPES.items():
        x0, eps = draw.normal(*shape), draw.normal(*shape)
        t = draw.integers(1, schedule.T, shape[0])
        keep = column(ab, t, x0)
        x_t = (keep.sqrt() * x0 + (1 - keep).sqrt() * eps).requires_grad_()  # data that is one point, x0
        log_p = (-((x_t - keep.sqrt() * x0) ** 2) / (2 * (1 - keep))).sum()
        want = torch.autograd.grad(log_p, x_t)[0]
        yield close(f"grad log p(x_t | x_0) for {name}", f(eps, t, schedule), want, dtype=torch.float32)


@to_score.misconception(
    "sign", "The sign is wrong: noise points away from the data, and the score points towards it. Put a minus in front."
)
def _(eps, t, schedule):
    return eps / (1 - at(schedule.alpha_bar, t, eps)).sqrt()


@to_score.misconception(
    "divided by the variance",
    "This is divided by the variance 1 - alpha_bar. That would be right for the whole noise in x_t, which is "
    "sqrt(1 - alpha_bar) eps; eps itself has variance 1, so one root remains.",
)
def _(eps, t, schedule):
    return -eps / (1 - at(schedule.alpha_bar, t, eps))


@to_score.misconception(
    "multiplied", "Divide by sqrt(1 - alpha_bar); here it is multiplied by it. The less noise, the steeper the density."
)
def _(eps, t, schedule):
    return -eps * (1 - at(schedule.alpha_bar, t, eps)).sqrt()


@to_score.misconception("not divided", "This is -eps. The score is that over the standard deviation of the noise.")
def _(eps, t, schedule):
    return -eps


@to_score.misconception(
    "the picture's factor",
    "This is divided by sqrt(alpha_bar), the factor of the picture. The noise has the factor sqrt(1 - alpha_bar).",
)
def _(eps, t, schedule):
    return -eps / at(schedule.alpha_bar, t, eps).sqrt()


@to_score.misconception(
    "a single step",
    "beta_t is the noise of one step. x_t has gathered the noise of all steps up to t, which is 1 - alpha_bar_t.",
)
def _(eps, t, schedule):
    return -eps / at(schedule.beta, t, eps).sqrt()


SHAPELESS = (
    "schedule.alpha_bar[t] has the shape (B,), and PyTorch lines it up with the *last* axis. "
    "per_sample(schedule.alpha_bar, t, {}) gives it the shape (B, 1, ..., 1)."
)


@to_score.misconception("no shape for broadcasting", SHAPELESS.format("eps"))
def _(eps, t, schedule):
    return -eps / (1 - schedule.alpha_bar[t]).sqrt()


@exercise("predictions.to_eps")
def to_eps(f, draw):
    schedule, ab = fresh_schedule(draw)
    for name, shape in SHAPES.items():
        x0, eps = draw.normal(*shape), draw.normal(*shape)
        t = draw.integers(1, schedule.T, shape[0])
        keep = column(ab, t, x0)
        x_t = (keep.sqrt() * x0 + (1 - keep).sqrt() * eps).float()
        yield close(f"the noise that is in {name}", f(x_t, t, x0, schedule), eps)


@to_eps.misconception("not divided", "This is the noise as it stands in x_t, shrunk: divide by sqrt(1 - alpha_bar).")
def _(x_t, t, x0, schedule):
    return x_t - at(schedule.alpha_bar, t, x_t).sqrt() * x0


@to_eps.misconception("x0 not shrunk", "In x_t the picture is multiplied by sqrt(alpha_bar). Take off *that*, not x0.")
def _(x_t, t, x0, schedule):
    return (x_t - x0) / (1 - at(schedule.alpha_bar, t, x_t)).sqrt()


@to_eps.misconception("no square roots", "Both factors are square roots, just as in q_sample: this function undoes it.")
def _(x_t, t, x0, schedule):
    ab = at(schedule.alpha_bar, t, x_t)
    return (x_t - ab * x0) / (1 - ab)


@to_eps.misconception(
    "divided by the variance", "The noise was multiplied by sqrt(1 - alpha_bar); here it is divided by 1 - alpha_bar."
)
def _(x_t, t, x0, schedule):
    ab = at(schedule.alpha_bar, t, x_t)
    return (x_t - ab.sqrt() * x0) / (1 - ab)


@to_eps.misconception(
    "to_x0 again",
    "This is to_x0 with other names: it solves q_sample for what sqrt(alpha_bar) multiplies. Here it is the other "
    "part that is wanted, the one with sqrt(1 - alpha_bar).",
)
def _(x_t, t, x0, schedule):
    ab = at(schedule.alpha_bar, t, x_t)
    return (x_t - (1 - ab).sqrt() * x0) / ab.sqrt()


@to_eps.misconception("sign", "The sign is wrong: x_t minus the picture is the noise, not the other way round.")
def _(x_t, t, x0, schedule):
    ab = at(schedule.alpha_bar, t, x_t)
    return (ab.sqrt() * x0 - x_t) / (1 - ab).sqrt()


@to_eps.misconception("no shape for broadcasting", SHAPELESS.format("x_t"))
def _(x_t, t, x0, schedule):
    ab = schedule.alpha_bar[t]
    return (x_t - ab.sqrt() * x0) / (1 - ab).sqrt()


@exercise("predictions.to_v")
def to_v(f, draw):
    schedule, ab = fresh_schedule(draw)
    for name, shape in SHAPES.items():
        x0, eps = draw.normal(*shape), draw.normal(*shape)
        t = draw.integers(1, schedule.T, shape[0])
        angle = column(ab, t, x0).sqrt().acos()
        want = angle.cos() * eps - angle.sin() * x0  # the derivative of cos(angle) x0 + sin(angle) eps
        yield close(f"v for {name}", f(x0, t, eps, schedule), want, dtype=torch.float32)
    t = torch.zeros(shape[0], dtype=torch.long)
    yield close("at level 0 v is the noise", f(x0, t, eps, schedule), eps)


def _v(label, hint, formula):
    """A misconception about v from a formula of (alpha_bar, x0, eps)."""

    def wrong(x0, t, eps, schedule):
        return formula(at(schedule.alpha_bar, t, x0), x0, eps)

    to_v.misconception(label, hint)(wrong)


_v(
    "sign",
    "v has the opposite sign: it points from the picture towards the noise, so eps has the plus.",
    lambda ab, x0, eps: (1 - ab).sqrt() * x0 - ab.sqrt() * eps,
)
_v(
    "plus",
    "The two parts are added. v is at a right angle to x_t, so one of them has a minus: x0.",
    lambda ab, x0, eps: ab.sqrt() * eps + (1 - ab).sqrt() * x0,
)
_v(
    "factors swapped",
    "The two factors are swapped. In v each of them stands at the *other* place than in x_t: sqrt(alpha_bar) with eps.",
    lambda ab, x0, eps: (1 - ab).sqrt() * eps - ab.sqrt() * x0,
)
_v(
    "no square roots",
    "The factors are square roots: their squares add up to 1, as the sine's and the cosine's do.",
    lambda ab, x0, eps: ab * eps - (1 - ab) * x0,
)
_v(
    "no factors",
    "This is eps - x0, the velocity along a straight line (flow matching). Here the path is an arc: each "
    "part has its factor.",
    lambda ab, x0, eps: eps - x0,
)
_v(
    "x_t",
    "This is x_t itself. v is x_t turned by a right angle.",
    lambda ab, x0, eps: ab.sqrt() * x0 + (1 - ab).sqrt() * eps,
)


@to_v.misconception(
    "level off by one", "This is v at level t - 1. The tables start at level 0, so level t stands at index t."
)
def _(x0, t, eps, schedule):
    ab = at(schedule.alpha_bar, (t - 1).clamp(min=0), x0)
    return ab.sqrt() * eps - (1 - ab).sqrt() * x0


@exercise("predictions.from_v")
def from_v(f, draw):
    schedule, ab = fresh_schedule(draw)
    for name, shape in SHAPES.items():
        x0, eps = draw.normal(*shape), draw.normal(*shape)
        t = draw.integers(1, schedule.T, shape[0])
        angle = column(ab, t, x0).sqrt().acos()
        x_t = (angle.cos() * x0 + angle.sin() * eps).float()
        v = (angle.cos() * eps - angle.sin() * x0).float()
        yield close(f"what x_t and v are made of, for {name}", f(x_t, t, v, schedule), (x0, eps), names=("x0", "eps"))
    t = torch.zeros(shape[0], dtype=torch.long)
    yield close("level 0: x_t is clean, and v is the noise", f(x_t, t, v, schedule), (x_t, v), names=("x0", "eps"))


def _from(label, hint, formula):
    """A misconception about `from_v` from a formula of (sqrt(alpha_bar), sqrt(1 - alpha_bar), x_t, v)."""

    def wrong(x_t, t, v, schedule):
        ab = at(schedule.alpha_bar, t, x_t)
        return formula(ab.sqrt(), (1 - ab).sqrt(), x_t, v)

    from_v.misconception(label, hint)(wrong)


_from("order", "x0 and eps come in the wrong order: x0 first.", lambda a, b, x, v: (a * v + b * x, a * x - b * v))
_from(
    "sign in x0",
    "x0 has the wrong sign in front of v: put x_t and v into the equations and see what is left.",
    lambda a, b, x, v: (a * x + b * v, a * v + b * x),
)
_from(
    "sign in eps",
    "eps has the wrong sign in front of x_t: put x_t and v into the equations and see what is left.",
    lambda a, b, x, v: (a * x - b * v, a * v - b * x),
)
_from(
    "turned the wrong way",
    "Both signs are wrong: this turns on by the angle, away from the data. Turn *back*: then x0 "
    "has the minus, and eps the plus.",
    lambda a, b, x, v: (a * x + b * v, a * v - b * x),
)
_from(
    "factors swapped",
    "The two factors are swapped: at low levels x0 is nearly x_t, and eps nearly v.",
    lambda a, b, x, v: (b * x - a * v, b * v + a * x),
)
_from(
    "no square roots",
    "The factors are square roots: their squares add up to 1, as the sine's and the cosine's do.",
    lambda a, b, x, v: (a**2 * x - b**2 * v, a**2 * v + b**2 * x),
)
_from(
    "v taken for eps",
    "This treats v as if it were the noise (to_x0). v is another mixture, of eps *and* x0.",
    lambda a, b, x, v: ((x - b * v) / a, v),
)
_from(
    "eps by a division",
    "x0 is right, but eps is found by dividing by sqrt(1 - alpha_bar), which is 0 at level 0: NaN. Turning back "
    "needs no division: eps = sqrt(alpha_bar) v + sqrt(1 - alpha_bar) x_t.",
    lambda a, b, x, v: (a * x - b * v, (x - a * (a * x - b * v)) / b),
)
