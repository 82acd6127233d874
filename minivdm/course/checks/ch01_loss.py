"""Exercise 1.9: the loss."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, near
from minivdm.course.probes import describe

from .common import column, fresh_schedule, same_seed_same_result


@exercise("forward_process.diffusion_loss")
def diffusion_loss(f, draw):
    schedule, ab = fresh_schedule(draw, T=10)
    x0, guess = 2 * draw.normal(4096, 1, 4, 4), draw.normal(4096, 1, 4, 4)
    label = draw.integers(0, 9, 4096)
    seen = []
    model = model_of(seen, guess)
    loss = f(model, x0, schedule, cond=label, generator=draw.generator())
    yield equal("calls of the model", len(seen), 1, usable=False)
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
    ratio = float(loss.detach()) / right.item()
    yield near("loss, divided by mean((model(x_t, t) - noise)^2)", ratio, 1.0, within=0.02)
    yield close("loss", loss, right, dtype=torch.float32)
    yield holds("cond reaches the model", cond is label, "pass `cond` on to the model")

    def looks(x_t, t, cond=None):
        return x_t * t.reshape(-1, 1, 1, 1)

    yield from same_seed_same_result("loss", lambda generator: f(looks, x0, schedule, generator=generator), draw)
    totals = []
    for _ in range(400):  # the sum of 8 levels varies as 8 independent ones do
        seen.clear()
        f(model_of(seen, guess[:8]), x0[:8], schedule, generator=draw.generator())
        totals.append(float(seen[0][1].sum()))
    spread = torch.tensor(totals).std().item() / (8 * 99 / 12) ** 0.5
    yield near("spread of the sum of 8 levels, as a share of that of independent ones", spread, 1.0, within=0.25)

    clip = draw.normal(64, 3, 2, 4, 4)
    videos = f(lambda x_t, t, cond=None: torch.zeros_like(x_t), clip, schedule, generator=draw.generator())
    yield near("loss of a model that always answers 0, on videos", float(videos.detach()), 1.0, within=0.1)
    scale = torch.ones((), requires_grad=True)
    loss = f(lambda x_t, t, cond=None: scale * x_t, x0, schedule, generator=draw.generator())
    yield holds("the loss can be differentiated", loss.requires_grad, "no gradient reaches the model: detached?")


def model_of(seen, guess):
    """A model that notes what it is asked, and always answers `guess`."""

    def model(x_t, t, cond):
        seen.append((x_t.clone(), t.clone() if torch.is_tensor(t) else t, cond))
        return guess.clone()

    return model


@diffusion_loss.promises(
    "dtype", "layout", "device", "gradients", "generator", samples="a mean over the batch", noise="one number"
)
def loss_of_a_line(f, draw):
    schedule, _ = fresh_schedule(draw)

    def model(x_t, t, cond=None):
        return x_t * (t / 7).reshape(-1, 1, 1, 1)

    return f, dict(model=model, x0=draw.normal(4, 3, 2, 5), schedule=schedule, generator=draw.generator())


diffusion_loss.edit(
    "the model sees clean data",
    {"model(x_t,": "model(x0,"},
    "The model is given x0 itself, in which there is no noise to find. Make x_t with q_sample and give it that.",
)
diffusion_loss.edit(
    "uniform noise",
    {"randn": "rand"},
    "The noise is uniform between 0 and 1 (torch.rand). It must be standard normal: torch.randn.",
)
diffusion_loss.edit(
    "x0 as the target",
    {"- noise": "- x0"},
    "The model's output is compared with x0. Here the model predicts the *noise* that was mixed in.",
)
diffusion_loss.edit(
    "noise drawn twice",
    {"- noise": "- torch.randn(x0.shape, **like)"},
    "The noise in x_t and the noise in the loss are two different draws, so the model can learn nothing: "
    "draw once and use it in both places.",
)
diffusion_loss.edit(
    "absolute error",
    {"square": "abs"},
    "This is the mean absolute error. The best guess under it is a median, not the mean that the theory needs: "
    "square the difference.",
)
diffusion_loss.edit(
    "levels without the generator",
    {"x0.shape[:1], **like": "x0.shape[:1], device=x0.device"},
    "The noise comes from `generator`, but the levels do not: give generator=generator to torch.randint, too.",
)
diffusion_loss.edit(
    "noise without the generator",
    {"dtype=x0.dtype, **like": "device=x0.device"},
    "The levels come from `generator`, but the noise does not: give generator=generator to torch.randn, too.",
)
