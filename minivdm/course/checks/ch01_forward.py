"""Exercises 1.3 and 1.5: jumping to a level, and back if the noise is known."""

import torch

from minivdm.course.exercise import close, exercise

from .common import SHAPES, column, fresh_schedule, given_noise, wide_schedule


@exercise("forward_process.q_sample")
def q_sample(f, draw):
    schedule, ab = fresh_schedule(draw)
    x0, noise, t = draw.normal(4, 3, 8, 8), draw.normal(4, 3, 8, 8), draw.integers(1, schedule.T, 4)
    yield given_noise(f(x0, t, noise, schedule), f(x0, t, noise, schedule))
    for name, shape in SHAPES.items():
        schedule, ab = fresh_schedule(draw)
        x0, noise = draw.normal(*shape), draw.normal(*shape)
        t = draw.integers(1, schedule.T, shape[0])
        keep = column(ab, t, x0)
        want = keep.sqrt() * x0 + (1 - keep).sqrt() * noise
        yield close(f"x_t for {name}", f(x0, t, noise, schedule), want, dtype=torch.float32)
    schedule, ab = wide_schedule(draw)
    t = torch.arange(schedule.T + 1)
    x0, noise = draw.normal(len(t), 2, 3), draw.normal(len(t), 2, 3)
    keep = column(ab, t, x0)
    want = keep.sqrt() * x0 + (1 - keep).sqrt() * noise
    yield close("all levels from 0, which is clean, to T in one batch", f(x0, t, noise, schedule), want.float(), 2e-6)


@q_sample.promises("samples", "dtype", "layout", "device", "gradients")
def jump(f, draw):
    schedule, _ = fresh_schedule(draw)
    t = torch.tensor([0, 1, schedule.T, 5])
    return f, dict(x0=draw.normal(4, 3, 2, 5), t=t, noise=draw.normal(4, 3, 2, 5), schedule=schedule)


q_sample.edit(
    "no square roots",
    {".sqrt()": ""},
    "alpha_bar is a share of *variance*. The factors in front of x0 and the noise are standard deviations: "
    "take square roots of both.",
)
q_sample.edit(
    "level off by one",
    {"alpha_bar, t,": "alpha_bar, t - 1,"},
    "This is the answer for level t - 1. The tables already start at level 0, so level t stands at index t.",
)
q_sample.edit(
    "a single step",
    {"schedule.alpha_bar": "1 - schedule.beta"},
    "beta_t is the noise of the one step from t - 1 to t. The jump from clean data to level t uses alpha_bar_t, "
    "which all steps up to t share.",
)


@exercise("forward_process.to_x0")
def to_x0(f, draw):
    for name, shape in SHAPES.items():
        schedule, ab = fresh_schedule(draw, T=60)  # alpha_bar falls to about 0.001
        x_t, eps = draw.normal(*shape), draw.normal(*shape)
        t = draw.integers(1, schedule.T, shape[0])
        keep = column(ab, t, x_t)
        want = (x_t - (1 - keep).sqrt() * eps) / keep.sqrt()
        yield close(f"x_0 for {name}", f(x_t, t, eps, schedule), want, dtype=torch.float32)
    schedule, ab = wide_schedule(draw)
    t = torch.arange(schedule.T + 1)
    x_t, eps = draw.normal(len(t), 2, 3), draw.normal(len(t), 2, 3)
    keep = column(ab, t, x_t)
    want = (x_t - (1 - keep).sqrt() * eps) / keep.sqrt()
    got = f(x_t, t, eps, schedule)
    yield close("all levels from 0, which is clean, to T in one batch", got, want.float(), 2e-6, 1e-4)


@to_x0.promises("samples", "dtype", "layout", "device", "gradients")
def back(f, draw):
    schedule, _ = fresh_schedule(draw)
    t = torch.tensor([0, 1, schedule.T, 5])
    return f, dict(x_t=draw.normal(4, 3, 2, 5), t=t, eps=draw.normal(4, 3, 2, 5), schedule=schedule)


to_x0.edit(
    "not divided",
    {" / alpha_bar.sqrt()": ""},
    "The noise is taken off, but the signal is still shrunk by sqrt(alpha_bar): divide by it.",
)
to_x0.edit(
    "no square roots",
    {".sqrt()": ""},
    "Both factors are square roots, just as in q_sample: this function undoes it.",
)
to_x0.edit(
    "parentheses missing",
    {"(x_t - ": "x_t - ("},
    "Only the noise is divided by sqrt(alpha_bar), because a division binds more tightly than a minus. "
    "Put parentheses around the difference.",
)
