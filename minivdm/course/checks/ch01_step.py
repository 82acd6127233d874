"""Exercise 1.7: one step down."""

import torch

from minivdm.course.exercise import close, exercise

from .common import SHAPES, bayes, fresh_schedule, given_noise


@exercise("samplers.ddpm_step")
def ddpm_step(f, draw):
    schedule, ab = fresh_schedule(draw)
    x_t, x0, noise = draw.normal(4, 2), draw.normal(4, 2), draw.normal(4, 2)
    t = draw.integers(6, schedule.T, 4)
    yield given_noise(f(x_t, x0, t, t - 2, noise, schedule), f(x_t, x0, t, t - 2, noise, schedule))
    for name, shape in SHAPES.items():
        x_t, x0, noise = draw.normal(*shape), draw.normal(*shape), draw.normal(*shape)
        t = draw.integers(6, schedule.T, shape[0])
        for s in (t - 1, draw.integers(1, 4, shape[0])):
            mean, variance = bayes(ab, x0, x_t, t, s)
            want = mean + variance.sqrt() * noise
            yield close(f"x_s for {name}", f(x_t, x0, t, s, noise, schedule), want, dtype=torch.float32)
    t = draw.integers(6, schedule.T, 4)
    x_t, x0, noise = draw.normal(4, 2), draw.normal(4, 2), draw.normal(4, 2)
    s = torch.tensor([0, 1, 2, 0])
    mean, variance = bayes(ab, x0, x_t, t, s.clamp(min=1))
    want = torch.where(s[:, None] == 0, x0, mean + variance.sqrt() * noise)
    got = f(x_t, x0, t, s, noise, schedule)
    yield close("a batch in which only some samples go to level 0", got, want, dtype=torch.float32)
    s = torch.zeros_like(t)
    got = f(x_t, x0, t, s, 1e12 * noise, schedule)
    yield close("the step to level 0 is x0, without noise", got, x0, atol=1e-6)


@ddpm_step.promises("samples", "dtype", "layout", "device", "gradients")
def mixed_steps(f, draw):
    schedule, _ = fresh_schedule(draw)
    x_t, x0, noise = draw.normal(4, 3, 2, 5), draw.normal(4, 3, 2, 5), draw.normal(4, 3, 2, 5)
    t, s = torch.tensor([1, 12, 7, 7]), torch.tensor([0, 3, 0, 6])
    return f, dict(x_t=x_t, x0=x0, t=t, s=s, noise=noise, schedule=schedule)


ddpm_step.edit(
    "noised again from x0",
    {"mean + variance.sqrt() * noise": "q_sample(x0, s, noise, schedule)"},
    "This forgets x_t and noises x0 afresh to level s. The step must stay close to where the sample is: "
    "draw from the posterior, whose mean uses x0 *and* x_t.",
)
ddpm_step.edit(
    "t and s swapped",
    {"t, s, schedule)": "s, t, schedule)"},
    "The levels are swapped: t is the level that x_t has now, s < t the one to go to. q_posterior takes t first.",
)
ddpm_step.edit(
    "always one level down",
    {"t, s, schedule)": "t, t - 1, schedule)"},
    "This goes to level t - 1, whatever s is. Hand s on to q_posterior.",
)
ddpm_step.edit(
    "noise switched off for the whole batch",
    {"return mean": "return x0 if (s == 0).any() else mean"},
    "One sample that goes to level 0 switches the noise off for all. "
    "No special case is needed: at s = 0 the variance is 0 by itself.",
)
