"""Exercise 1.9: the loss."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, near
from minivdm.course.probes import describe

from .common import at, column, fresh_schedule, right_device


@exercise("forward_process.diffusion_loss")
def diffusion_loss(f, draw):
    schedule, ab = fresh_schedule(draw, T=10)
    x0, guess = 2 * draw.normal(4096, 1, 4, 4), draw.normal(4096, 1, 4, 4)
    label = draw.integers(0, 9, 4096)
    seen = []

    def model(x_t, t, cond=None):
        seen.append((x_t.clone(), t.clone() if torch.is_tensor(t) else t, cond))
        return guess.clone()

    loss = f(model, x0, schedule, cond=label, generator=draw.generator())
    yield equal("calls of the model", len(seen), 1)
    x_t, t, cond = seen[0]
    ok = torch.is_tensor(t) and t.dtype == torch.long and tuple(t.shape) == (4096,)
    yield holds("t given to the model", ok, "expected a long tensor with one level per sample, shape (4096,)")
    yield holds("a level for each sample", len(t.unique()) > 1, f"all 4,096 samples got the level {t[0].item()}")
    yield equal("smallest and largest level drawn (T = 10)", (t.min().item(), t.max().item()), (1, 10))
    share = torch.bincount(t, minlength=11)[1:].double() / 4096
    yield near("share of the rarest level", share.min().item(), 0.1, within=0.035)
    yield equal("shape of the model's input", list(x_t.shape), list(x0.shape))
    keep = column(ab, t, x0)
    noise = (x_t - keep.sqrt() * x0) / (1 - keep).sqrt()
    yield near("mean of the noise in x_t", noise.mean().item(), 0.0, within=0.03)
    yield near("standard deviation of the noise in x_t", noise.std().item(), 1.0, within=0.03)
    came = list(loss.shape) if torch.is_tensor(loss) else describe(loss)
    yield equal("shape of the loss, a tensor with one number", came, [], usable=False)
    right = (guess - noise).square().mean()
    yield near(
        "loss, divided by mean((model(x_t, t) - noise)^2)", float(loss.detach()) / right.item(), 1.0, within=0.02
    )
    yield close("loss", loss, right, dtype=torch.float32)
    yield holds("cond reaches the model", cond is label, "pass `cond` on to the model")

    def looks(x_t, t, cond=None):
        return x_t * t.reshape(-1, 1, 1, 1)

    generator = draw.generator()
    state = generator.get_state()
    first = f(looks, x0, schedule, generator=generator)
    generator.set_state(state)
    again = f(looks, x0, schedule, generator=generator)
    message = "levels *and* noise must come from `generator`: give generator=generator to torch.randint and torch.randn"
    yield holds("the same generator state gives the same loss", torch.equal(first, again), message)

    drawn = []

    def notes(x_t, t, cond=None):
        drawn.append(t.clone())
        return x_t

    for _ in range(2):
        f(notes, x0, schedule, generator=draw.generator())
    message = "two calls with different generators drew the same levels: use torch.randint with the generator"
    yield holds("levels are drawn at random", not torch.equal(drawn[0], drawn[1]), message)

    clip = draw.normal(64, 3, 2, 4, 4)
    videos = f(lambda x_t, t, cond=None: torch.zeros_like(x_t), clip, schedule, generator=draw.generator())
    yield near("loss of a model that always answers 0, on videos", float(videos.detach()), 1.0, within=0.1)
    generator = draw.generator()
    yield right_device(lambda g=generator: f(notes, x0, schedule, generator=g))

    scale = torch.ones((), requires_grad=True)
    loss = f(lambda x_t, t, cond=None: scale * x_t, x0, schedule, generator=draw.generator())
    yield holds("the loss can be differentiated", loss.requires_grad, "no gradient reaches the model: detached?")


def loss_with(mistake, model, x0, schedule, cond, generator):
    """A loss with room for one mistake."""
    count, ends = len(x0), {"from 0": (0, schedule.T - 1), "not T": (1, schedule.T - 1), "0 to T": (0, schedule.T)}
    low, high = ends.get(mistake, (1, schedule.T))
    one, where = mistake == "one level", {} if mistake == "no device" else {"device": x0.device}
    source = None if mistake == "own t" else generator
    t = torch.randint(low, high + 1, (1,) if one else (count,), generator=source, **where)
    t = t.expand(count)
    noise = torch.randn(x0.shape, generator=generator, **where)
    noise = torch.rand(x0.shape, generator=generator, **where) if mistake == "rand" else noise
    ab = at(schedule.alpha_bar, t, x0)
    x_t = x0 if mistake == "clean input" else ab.sqrt() * x0 + (1 - ab).sqrt() * noise
    noise = torch.randn(x0.shape, generator=generator, **where) if mistake == "again" else noise
    error = model(x_t, t, None if mistake == "no cond" else cond) - (x0 if mistake == "x0" else noise)
    if mistake in ("number", "nothing"):
        return error.square().mean().item() if mistake == "number" else None
    if mistake == "per sample":
        return error.square().flatten(1).mean(dim=1)
    if mistake == "sum over elements":
        return error.square().flatten(1).sum(dim=1).mean()
    reduced = {"sum": error.square().sum(), "absolute": error.abs().mean(), "root": error.square().mean().sqrt()}
    return reduced.get(mistake, error.square().mean())


def wrong(mistake, label, hint):
    """Add a misconception: the loss above with one mistake in it."""

    def loss(model, x0, schedule, cond=None, generator=None):
        return loss_with(mistake, model, x0, schedule, cond, generator)

    diffusion_loss.misconception(label, hint)(loss)


wrong(
    "one level",
    "one level for the whole batch",
    "The whole batch shares one level. The estimate of the loss is then very "
    "noisy; draw a level for each sample, shape (B,).",
)
wrong(
    "from 0",
    "levels 0..T-1",
    "Levels run from 0 to T - 1 here. Level 0 has no noise to find, and level T, where sampling "
    "starts, is never trained: draw from 1..T.",
)
wrong(
    "not T",
    "level T never drawn",
    "The largest level drawn is T - 1: the upper end of torch.randint is exclusive. Sampling "
    "starts at T, where the model would never have been trained.",
)
wrong(
    "0 to T",
    "level 0 drawn, too",
    "Level 0 has no noise to find. The levels are 1..T: the lower end of torch.randint is inclusive.",
)
wrong(
    "clean input",
    "the model sees clean data",
    "The model is given x0 itself, in which there is no noise to find. Make x_t with q_sample and give it that.",
)
wrong(
    "rand",
    "uniform noise",
    "The noise is uniform between 0 and 1 (torch.rand). It must be standard normal: torch.randn.",
)
wrong(
    "per sample",
    "no mean over the batch",
    "The loss is still one number per sample. Take the mean over the batch, too.",
)
wrong(
    "sum over elements",
    "sum over the elements",
    "The squared errors of each picture are summed. Take the mean over all "
    "elements, so that the loss does not depend on the size of the picture.",
)
wrong(
    "sum",
    "sum instead of mean",
    "The squared errors are summed. Take the mean, so that the loss does not depend on the size of batch and image.",
)
wrong(
    "x0",
    "x0 as the target",
    "The model's output is compared with x0. Here the model predicts the *noise* that was mixed in.",
)
wrong(
    "again",
    "noise drawn twice",
    "The noise in x_t and the noise in the loss are two different draws, so the model can learn "
    "nothing: draw once and use it in both places.",
)
wrong(
    "absolute",
    "absolute error",
    "This is the mean absolute error. The best guess under it is a median, not the mean that "
    "the theory needs: square the difference.",
)
wrong(
    "root",
    "root of the mean",
    "This is the root of the mean squared error. Leave out the root: the gradients would be "
    "scaled by the size of the loss.",
)
wrong("no cond", "cond forgotten", "The model is not given the condition: call model(x_t, t, cond).")
wrong(
    "own t",
    "levels without the generator",
    "The noise comes from `generator`, but the levels do not: give generator=generator to torch.randint, too.",
)
wrong(
    "number",
    "a plain number",
    "This is a Python number, cut off from the network: no gradient can flow back. Leave out .item().",
)
wrong("nothing", "no return", "The function returns nothing: is a `return` missing?")
wrong(
    "no device",
    "drawn on the CPU",
    "This works on a CPU only: torch.randint and torch.randn draw there unless told otherwise. Give device=x0.device.",
)
