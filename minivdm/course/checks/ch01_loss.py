"""Exercise 1.9: the loss."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, near

from .common import at, column, fresh_schedule


@exercise("diffusion.diffusion_loss")
def diffusion_loss(f, draw):
    schedule, ab = fresh_schedule(draw, T=10)
    x0, guess = 2 * draw.normal(4096, 1, 4, 4), draw.normal(4096, 1, 4, 4)
    label = draw.integers(0, 9, 4096)
    seen = []

    def model(x_t, t, cond=None):
        seen.append((x_t, t, cond))
        return guess

    loss = f(model, x0, schedule, cond=label, generator=draw.generator())
    yield equal("calls of the model", len(seen), 1)
    x_t, t, cond = seen[0]
    ok = torch.is_tensor(t) and t.dtype == torch.long and tuple(t.shape) == (4096,)
    yield holds("t given to the model", ok, "expected a long tensor with one level per sample, shape (4096,)")
    yield holds("a level for each sample", len(t.unique()) > 1, f"all 4,096 samples got the level {t[0].item()}")
    yield equal("smallest and largest level drawn (T = 10)", (t.min().item(), t.max().item()), (1, 10))
    share = torch.bincount(t, minlength=11)[1:].double() / 4096
    yield near("share of the rarest level", share.min().item(), 0.1, within=0.035)
    keep = column(ab, t, x0)
    noise = (x_t - keep.sqrt() * x0) / (1 - keep).sqrt()
    yield near("mean of the noise in x_t", noise.mean().item(), 0.0, within=0.03)
    yield near("standard deviation of the noise in x_t", noise.std().item(), 1.0, within=0.03)
    right = (guess - noise).square().mean()
    yield near("loss, divided by mean((model(x_t, t) - noise)^2)", float(loss) / right.item(), 1.0, within=0.02)
    yield close("loss", loss, right, dtype=torch.float32)
    yield holds("cond reaches the model", cond is label, "pass `cond` on to the model")

    generator = draw.generator()
    state = generator.get_state()
    first = f(model, x0, schedule, generator=generator)
    generator.set_state(state)
    yield close("the same generator state gives the same loss", f(model, x0, schedule, generator=generator), first)

    scale = torch.ones((), requires_grad=True)
    loss = f(lambda x_t, t, cond=None: scale * x_t, x0, schedule, generator=draw.generator())
    yield holds("the loss can be differentiated", loss.requires_grad, "no gradient reaches the model: detached?")


def _loss(
    model,
    x0,
    schedule,
    cond,
    generator,
    low=1,
    high=None,
    one=False,
    target="noise",
    again=False,
    power=2,
    reduce=torch.mean,
):
    """A loss with one switch per misconception."""
    high = schedule.T if high is None else high
    t = torch.randint(low, high + 1, (1,) if one else (len(x0),), generator=generator).expand(len(x0))
    noise = torch.randn(x0.shape, generator=generator)
    ab = at(schedule.alpha_bar, t, x0)
    x_t = ab.sqrt() * x0 + (1 - ab).sqrt() * noise
    noise = torch.randn(x0.shape, generator=generator) if again else noise
    wanted = {"noise": noise, "x0": x0}[target]
    return reduce((model(x_t, t, cond) - wanted).abs() ** power)


@diffusion_loss.misconception(
    "one level for the whole batch",
    "The whole batch shares one level. The estimate of the loss "
    "is then very noisy; draw a level for each sample, shape (B,).",
)
def _(model, x0, schedule, cond=None, generator=None):
    return _loss(model, x0, schedule, cond, generator, one=True)


@diffusion_loss.misconception(
    "levels 0..T-1",
    "Levels run from 0 to T - 1 here. Level 0 has no noise to find, and level "
    "T, where sampling starts, is never trained: draw from 1..T.",
)
def _(model, x0, schedule, cond=None, generator=None):
    return _loss(model, x0, schedule, cond, generator, low=0, high=schedule.T - 1)


@diffusion_loss.misconception(
    "level T never drawn",
    "The largest level drawn is T - 1: the upper end of torch.randint is "
    "exclusive. Sampling starts at T, where the model would never have been trained.",
)
def _(model, x0, schedule, cond=None, generator=None):
    return _loss(model, x0, schedule, cond, generator, high=schedule.T - 1)


@diffusion_loss.misconception(
    "x0 as the target", "The model's output is compared with x0. Here the model predicts the *noise* that was mixed in."
)
def _(model, x0, schedule, cond=None, generator=None):
    return _loss(model, x0, schedule, cond, generator, target="x0")


@diffusion_loss.misconception(
    "noise drawn twice",
    "The noise in x_t and the noise in the loss are two different draws, so "
    "the model can learn nothing: draw once and use it in both places.",
)
def _(model, x0, schedule, cond=None, generator=None):
    return _loss(model, x0, schedule, cond, generator, again=True)


@diffusion_loss.misconception(
    "sum instead of mean",
    "The squared errors are summed. Take the mean, so that the loss does not depend on the size of batch and image.",
)
def _(model, x0, schedule, cond=None, generator=None):
    return _loss(model, x0, schedule, cond, generator, reduce=torch.sum)


@diffusion_loss.misconception(
    "absolute error",
    "This is the mean absolute error. The best guess under it is a median, not "
    "the mean that the theory needs: square the difference.",
)
def _(model, x0, schedule, cond=None, generator=None):
    return _loss(model, x0, schedule, cond, generator, power=1)
