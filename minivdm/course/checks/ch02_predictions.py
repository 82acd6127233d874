"""Exercises 2.1 to 2.4: the noise, the clean data, the velocity and the score."""

import torch

from minivdm.course.exercise import close, exercise

from .ch02_shared import SHAPELESS
from .common import SHAPES, column, fresh_schedule

ROOTS = "The factors are square roots: their squares add up to 1, as the sine's and the cosine's do."


def noisy_data(draw):
    """For each shape its name, a schedule, levels, x_0, eps, and the angle that turns x_0 into x_t and eps into v."""
    schedule, ab = fresh_schedule(draw)
    for name, shape in SHAPES.items():
        x0, eps = draw.normal(*shape), draw.normal(*shape)
        t = draw.integers(1, schedule.T, shape[0])
        yield name, schedule, t, x0, eps, column(ab, t, x0).sqrt().acos()


@exercise("predictions.to_score")
def to_score(f, draw):
    for name, schedule, t, x0, eps, angle in noisy_data(draw):
        x_t = (angle.cos() * x0 + angle.sin() * eps).requires_grad_()  # data that is one point, x0
        log_p = -((x_t - angle.cos() * x0) ** 2 / (2 * angle.sin() ** 2)).sum()
        want = torch.autograd.grad(log_p, x_t)[0]
        yield close(f"grad log p(x_t | x_0) for {name}", f(eps, t, schedule), want, dtype=torch.float32)


to_score.edit(
    "sign", {"-eps": "eps"}, "The sign is wrong: noise points away from the data, the score towards it: put a minus."
)
to_score.edit(
    "divided by the variance",
    {".sqrt()": ""},
    "This is divided by the variance 1 - alpha_bar. That would be right for the whole noise in x_t, which is "
    "sqrt(1 - alpha_bar) eps; eps itself has variance 1, so one root remains.",
)
to_score.edit("multiplied", {"/": "*"}, "Divide by sqrt(1 - alpha_bar); the less noise, the steeper the density.")
to_score.edit(
    "not divided",
    {"/ (1 - per_sample(schedule.alpha_bar, t, eps)).sqrt()": ""},
    "This is -eps. The score is that over the standard deviation of the noise.",
)
to_score.edit(
    "the picture's factor",
    {"1 - per_sample": "per_sample"},
    "This is divided by sqrt(alpha_bar), the factor of the picture. The noise has the factor sqrt(1 - alpha_bar).",
)
to_score.edit(
    "a single step",
    {"1 - per_sample(schedule.alpha_bar": "per_sample(schedule.beta"},
    "beta_t is the noise of one step. x_t has gathered the noise of all steps up to t, which is 1 - alpha_bar_t.",
)
to_score.edit(
    "shape (B,)",
    {"per_sample(schedule.alpha_bar, t, eps)": "schedule.alpha_bar[t]"},
    SHAPELESS.format("schedule.alpha_bar[t]", "per_sample(schedule.alpha_bar, t, eps)"),
)


@exercise("predictions.to_eps")
def to_eps(f, draw):
    for name, schedule, t, x0, eps, angle in noisy_data(draw):
        x_t = (angle.cos() * x0 + angle.sin() * eps).float()
        yield close(f"the noise that is in {name}", f(x_t, t, x0, schedule), eps)


to_eps.edit(
    "not divided", {"/ (1 - alpha_bar).sqrt()": ""}, "The noise is shrunk, as in x_t: divide by sqrt(1 - alpha_bar)."
)
to_eps.edit(
    "x0 not shrunk", {"alpha_bar.sqrt() * x0": "x0"}, "x_t holds the picture times sqrt(alpha_bar): subtract *that*."
)
to_eps.edit(
    "no square roots", {".sqrt()": ""}, "Both factors are square roots, just as in q_sample: this function undoes it."
)
to_eps.edit(
    "to_x0 again",
    {"alpha_bar.sqrt() * x0) / (1 - alpha_bar)": "(1 - alpha_bar).sqrt() * x0) / alpha_bar"},
    "This is to_x0 with other names: it solves q_sample for what sqrt(alpha_bar) multiplies. Here it is the other "
    "part that is wanted, the one with sqrt(1 - alpha_bar).",
)
to_eps.edit(
    "sign",
    {"(x_t - alpha_bar.sqrt() * x0)": "(alpha_bar.sqrt() * x0 - x_t)"},
    "The sign is wrong: x_t minus the picture is the noise, not the other way round.",
)
to_eps.edit(
    "shape (B,)",
    {"per_sample(schedule.alpha_bar, t, x_t, x0)": "schedule.alpha_bar[t]"},
    SHAPELESS.format("schedule.alpha_bar[t]", "per_sample(schedule.alpha_bar, t, x_t)"),
)


@exercise("predictions.to_v")
def to_v(f, draw):
    for name, schedule, t, x0, eps, angle in noisy_data(draw):
        want = angle.cos() * eps - angle.sin() * x0  # the derivative of cos(angle) x0 + sin(angle) eps
        yield close(f"v for {name}", f(x0, t, eps, schedule), want, dtype=torch.float32)
    yield close("at level 0 v is the noise", f(x0, 0 * t, eps, schedule), eps)


V = "alpha_bar.sqrt() * eps - (1 - alpha_bar).sqrt() * x0"
to_v.edit(
    "sign",
    {V: "(1 - alpha_bar).sqrt() * x0 - alpha_bar.sqrt() * eps"},
    "v has the opposite sign: it points from the picture towards the noise, so eps has the plus.",
)
to_v.edit(
    "plus",
    {V: "alpha_bar.sqrt() * eps + (1 - alpha_bar).sqrt() * x0"},
    "The two parts are added. v is at a right angle to x_t, so one of them has a minus: x0.",
)
to_v.edit(
    "factors swapped",
    {V: "(1 - alpha_bar).sqrt() * eps - alpha_bar.sqrt() * x0"},
    "The two factors are swapped. In v each of them stands at the *other* place than in x_t: sqrt(alpha_bar) with eps.",
)
to_v.edit("no square roots", {".sqrt()": ""}, ROOTS)
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


X0, EPS = "keep * x_t - noise * v", "keep * v + noise * x_t"
from_v.edit("order", {f"{X0}, {EPS}": f"{EPS}, {X0}"}, "x0 and eps come in the wrong order: x0 first.")
from_v.edit(
    "sign of v", {"- noise * v": "+ noise * v"}, "In x0, v has the wrong sign: put in what x_t and v are made of."
)
from_v.edit(
    "sign of x_t",
    {"+ noise * x_t": "- noise * x_t"},
    "In eps, x_t has the wrong sign: put in what x_t and v are made of.",
)
from_v.edit(
    "turned the wrong way",
    {"- noise * v": "+ noise * v", "+ noise * x_t": "- noise * x_t"},
    "Both signs are wrong: this turns on, away from the data. Turn *back*: then x0 has the minus, and eps the plus.",
)
from_v.edit(
    "factors swapped", {"keep, noise =": "noise, keep ="}, "The factors are swapped: at low levels x0 is nearly x_t."
)
from_v.edit("no square roots", {".sqrt()": ""}, ROOTS)
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
