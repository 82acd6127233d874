"""Exercises 2.1 to 2.4: the noise, the clean data, the velocity and the score."""

import torch

from minivdm.course.exercise import close, exercise, holds

from .ch02_shared import CASES, SQUARE
from .common import column, fresh_schedule, wide_schedule


def noisy_data(draw):
    """For each shape its name, a schedule, levels, x_0, eps, and the angle that turns x_0 into x_t and eps into v."""
    for name, shape in CASES.items():
        schedule, ab = fresh_schedule(draw)  # another one of the same size
        x0, eps, T = draw.normal(*shape), draw.normal(*shape), schedule.T
        inner = draw.integers(2, T - 1, shape[0])
        t = inner if name == SQUARE else torch.cat([torch.tensor([1, T, T]), inner])[: shape[0]]
        yield name, schedule, t, x0, eps, column(ab, t, x0).sqrt().acos()


def all_levels(draw, lowest=0):
    """The same for all levels in one batch, of a schedule whose alpha_bar comes close to 1 and to 0."""
    schedule, ab = wide_schedule(draw)
    t = torch.arange(lowest, schedule.T + 1)
    x0, eps = draw.normal(len(t), 2, 3), draw.normal(len(t), 2, 3)
    return f"all levels {lowest}..T mixed in one batch", schedule, t, x0, eps, column(ab, t, x0).sqrt().acos()


def levels_and(draw, lowest, *names):
    """Arguments for an ordinary call: levels, a schedule, and drawn tensors under these names, the first one first."""
    schedule, _ = fresh_schedule(draw)
    first, *others = {name: draw.normal(4, 3, 2, 5) for name in names}.items()
    return {**dict([first]), "t": torch.tensor([lowest, 12, 5, 1]), **dict(others), "schedule": schedule}


@exercise("predictions.to_score")
def to_score(f, draw):
    for name, schedule, t, x0, eps, angle in (*noisy_data(draw), all_levels(draw, lowest=1)):
        x_t = (angle.cos() * x0 + angle.sin() * eps).requires_grad_()  # data that is one point, x0
        log_p = -((x_t - angle.cos() * x0) ** 2 / (2 * angle.sin() ** 2)).sum()
        want = torch.autograd.grad(log_p, x_t)[0]
        got = f(eps, t, schedule)
        yield close(f"grad log p(x_t | x_0) for {name}", got, want, rtol=2e-4, dtype=torch.float32)


@to_score.promises("samples", "dtype", "layout", "device", "gradients")
def ordinary_score(f, draw):
    return f, levels_and(draw, 2, "eps")


to_score.edit(
    "divided by the variance",
    {".sqrt()": ""},
    "This is divided by the variance 1 - alpha_bar. That would be right for the whole noise in x_t, which is "
    "sqrt(1 - alpha_bar) eps; eps itself has variance 1, so one root remains.",
)
to_score.edit(
    "a single step",
    {"1 - per_sample(schedule.alpha_bar": "per_sample(schedule.beta"},
    "beta_t is the noise of one step. x_t has gathered the noise of all steps up to t, which is 1 - alpha_bar_t.",
)
to_score.edit(
    "score of x_0",
    {"-eps": "-per_sample(schedule.alpha_bar, t, eps).sqrt() * eps"},
    "There is a factor sqrt(alpha_bar) too much: the gradient is taken by x_t itself, not by the shrunk picture in it.",
)


@exercise("predictions.to_eps")
def to_eps(f, draw):
    for name, schedule, t, x0, eps, angle in noisy_data(draw):
        x_t = (angle.cos() * x0 + angle.sin() * eps).float()
        yield close(f"the noise that is in {name}", f(x_t, t, x0, schedule), eps, atol=5e-5)
    name, schedule, t, x0, eps, angle = all_levels(draw)
    x_t = (angle.cos() * x0 + angle.sin() * eps).float()
    got = f(x_t, t, x0, schedule)
    yield close("the noise, all levels 0..T mixed in one batch: those from 1 on", got[1:], eps[1:], atol=1e-3)
    message = "level 0 has no noise to find: leave the division by 0 as it is, a number there would hide a mistake"
    yield holds("at level 0 infinity or NaN", not got[0].isfinite().any(), message)


@to_eps.promises("samples", "dtype", "layout", "device", "gradients")
def ordinary_eps(f, draw):
    return f, levels_and(draw, 2, "x_t", "x0")


to_eps.edit(
    "not divided", {"/ (1 - alpha_bar).sqrt()": ""}, "The noise is shrunk, as in x_t: divide by sqrt(1 - alpha_bar)."
)
to_eps.edit(
    "to_x0 again",
    {"alpha_bar.sqrt() * x0) / (1 - alpha_bar)": "(1 - alpha_bar).sqrt() * x0) / alpha_bar"},
    "This is to_x0 with other names: it solves q_sample for what sqrt(alpha_bar) multiplies. Here it is the other "
    "part that is wanted, the one with sqrt(1 - alpha_bar).",
)
to_eps.edit(
    "parentheses missing",
    {"(x_t - alpha_bar.sqrt() * x0) /": "x_t - alpha_bar.sqrt() * x0 /"},
    "Only x0 is divided, because a division binds more tightly than a minus. Put parentheses around the difference.",
)


@exercise("predictions.to_v")
def to_v(f, draw):
    for name, schedule, t, x0, eps, angle in noisy_data(draw):
        want = angle.cos() * eps - angle.sin() * x0  # the derivative of cos(angle) x0 + sin(angle) eps
        yield close(f"v for {name}", f(x0, t, eps, schedule), want, dtype=torch.float32)
    yield close("at level 0 v is the noise", f(x0, 0 * t, eps, schedule), eps)
    name, schedule, t, x0, eps, angle = all_levels(draw)
    want = (angle.cos() * eps - angle.sin() * x0).float()
    yield close(f"v for {name}", f(x0, t, eps, schedule), want, atol=2e-3)


@to_v.promises("samples", "dtype", "layout", "device", "gradients")
def ordinary_v(f, draw):
    return f, levels_and(draw, 0, "x0", "eps")


V = "alpha_bar.sqrt() * eps - (1 - alpha_bar).sqrt() * x0"
to_v.edit(
    "sign",
    {V: "(1 - alpha_bar).sqrt() * x0 - alpha_bar.sqrt() * eps"},
    "v has the opposite sign: it points from the picture towards the noise, so eps has the plus.",
)
to_v.edit(
    "factors swapped",
    {V: "(1 - alpha_bar).sqrt() * eps - alpha_bar.sqrt() * x0"},
    "The two factors are swapped. In v each of them stands at the *other* place than in x_t: sqrt(alpha_bar) with eps.",
)
to_v.edit(
    "no factors",
    {V: "eps - x0"},
    "This is the velocity along a straight line (flow matching). Here the path is an arc: each part has its factor.",
)
to_v.edit(
    "x_t", {V: "alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps"}, "This is x_t. v is x_t turned by a right angle."
)


@exercise("predictions.from_v")
def from_v(f, draw):
    for name, schedule, t, x0, eps, angle in noisy_data(draw):
        x_t = (angle.cos() * x0 + angle.sin() * eps).float()
        v = (angle.cos() * eps - angle.sin() * x0).float()
        yield close(f"what x_t and v are made of, for {name}", f(x_t, t, v, schedule), (x0, eps), names=("x0", "eps"))
    got = f(x_t, 0 * t, v, schedule)
    yield close("level 0: x_t is clean, and v is the noise", got, (x_t, v), names=("x0", "eps"))
    name, schedule, t, x0, eps, angle = all_levels(draw)
    x_t, v = (angle.cos() * x0 + angle.sin() * eps).float(), (angle.cos() * eps - angle.sin() * x0).float()
    got = f(x_t, t, v, schedule)
    yield close(f"what x_t and v are made of, {name}", got, (x0, eps), atol=2e-3, names=("x0", "eps"))


@from_v.promises("samples", "dtype", "layout", "device", "gradients")
def ordinary_back(f, draw):
    return f, levels_and(draw, 0, "x_t", "v")


X0, EPS = "keep * x_t - noise * v", "keep * v + noise * x_t"
from_v.edit(
    "turned the wrong way",
    {"- noise * v": "+ noise * v", "+ noise * x_t": "- noise * x_t"},
    "Both signs are wrong: this turns on, away from the data. Turn *back*: then x0 has the minus, and eps the plus.",
)
from_v.edit(
    "x_t overwritten",
    {EPS: f"keep * v + noise * ({X0})"},
    "x0 is right, but eps is made of x0 and v: was x_t overwritten before it was used again?",
)
from_v.edit(
    "v taken for eps",
    {X0: "(x_t - noise * v) / keep", EPS: "v"},
    "This treats v as if it were the noise (to_x0). v is another mixture, of eps *and* x0.",
)
from_v.edit(
    "eps by a division",
    {EPS: f"(x_t - keep * ({X0})) / noise"},
    "x0 is right, but eps is found by dividing by sqrt(1 - alpha_bar), which is 0 at level 0: NaN. Turning back "
    "needs no division: eps = sqrt(alpha_bar) v + sqrt(1 - alpha_bar) x_t.",
)
