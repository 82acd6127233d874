"""Exercise 7.3: the loss of a few new pictures and of reminders."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, near, raises
from minivdm.course.probes import describe
from minivdm.diffusion.forward_process import q_sample
from minivdm.diffusion.predictions import prediction_loss, to_v

from .common import column, fresh_schedule, same_seed_same_result


@exercise("dreambooth.prior_preservation_loss")
def prior_preservation_loss(f, draw):
    schedule, ab = fresh_schedule(draw, T=10)

    def call(x0, prior, weight, generator=None, cond=None):
        """The loss; and each sample's squared error in v, from what the network was given. NaN if it was not called."""
        seen, guess = [], draw.normal(*x0.shape)

        def net(x_t, t, cond=None):
            seen.append((x_t.clone(), t.clone(), cond))
            return guess.clone() if x_t.shape == guess.shape else torch.zeros_like(x_t)

        loss = f(net, x0, schedule, cond, generator or draw.generator(), prior, weight)
        if not seen or seen[0][0].shape != x0.shape or seen[0][1].shape != x0.shape[:1]:
            return loss, seen, torch.full((len(x0),), torch.nan)
        x_t, t, _ = seen[0]
        keep = column(ab, t, x0)
        noise = (x_t - keep.sqrt() * x0) / (1 - keep).sqrt()
        v = keep.sqrt() * noise - (1 - keep).sqrt() * x0
        return loss, seen, (guess - v).square().flatten(1).mean(dim=1)

    x0, label = 2 * draw.normal(2048, 1, 3, 3), draw.integers(0, 9, 2048)
    source = draw.generator()
    start = source.get_state()
    loss, seen, errors = call(x0, 500, 1.0, source, label)
    message = f"expected one call with the whole batch, got {len(seen)}: two calls with a part each take longer"
    yield holds("calls of the network", len(seen) == 1, message, usable=False)
    if len(seen) != 1:
        return
    x_t, t, cond = seen[0]
    right = tuple(x_t.shape) == tuple(x0.shape) and tuple(t.shape) == (2048,) and t.dtype == torch.long
    message = f"expected all 2,048 samples and a long level for each, got {tuple(x_t.shape)} and {describe(t)}"
    yield holds("what the network is given", right, message, usable=False)
    if not right:
        return
    yield equal("smallest and largest level drawn (T = 10)", (t.min().item(), t.max().item()), (1, 10))
    keep = column(ab, t, x0)
    noise = (x_t - keep.sqrt() * x0) / (1 - keep).sqrt()
    yield near("mean of the noise in x_t", noise.mean().item(), 0.0, within=0.05)
    yield near("standard deviation of the noise in x_t", noise.std().item(), 1.0, within=0.05)
    at_once = torch.randn(x0.shape, generator=torch.Generator().set_state(start))
    late = (noise - at_once).abs().mean() > 0.1
    yield holds("the levels are drawn first, then the noise", late, "the generator's first numbers are in the noise")
    yield holds("cond reaches the network", cond is label, "pass `cond` on to the network")
    came = list(loss.shape) if torch.is_tensor(loss) else describe(loss)
    yield equal("shape of the loss, a tensor with one number", came, [], usable=False)
    like = dict(atol=1e-4, rtol=1e-4, dtype=torch.float32)
    yield close("1,548 new and 500 prior pictures, weight 1", loss, errors[:1548].mean() + errors[1548:].mean(), **like)
    for shape, prior, weight in (
        ((7, 3, 4, 4), 2, 1.0),
        ((7, 3, 4, 4), 5, 0.3),
        ((4, 3, 4, 4), 2, 2.5),  # as many samples as columns: weights of shape (B,) would broadcast
        ((2, 1, 3, 2), 1, 1.7),
        ((5, 2, 3, 4, 4), 3, 0.5),
        ((6, 3, 2, 2), 4, 0.0),
    ):
        loss, _, errors = call(3 * draw.normal(*shape), prior, weight)
        new, old = errors[: shape[0] - prior], errors[shape[0] - prior :]
        name = f"a batch {shape}, of which {prior} prior, weight {weight:g}"
        yield close(name, loss, new.mean() + weight * old.mean(), **like)
    for shape, weight in (((3, 2, 2, 2), 2.0), ((1, 3, 4, 4), 1.0)):
        loss, _, errors = call(draw.normal(*shape), 0, weight)
        yield close(f"{shape[0]} new pictures and no prior ones", loss, errors.mean(), **like)
    for batch, prior in ((4, 4), (1, 1), (3, 5), (3, -1)):
        name = f"prior = {prior} of {batch} samples"
        yield raises(name, ValueError, lambda n=batch, prior=prior: call(torch.zeros(n, 1, 2, 2), prior, 1.0)[0])

    def looks(x_t, t, cond=None):
        return x_t * t.reshape(-1, 1, 1, 1)

    x0 = draw.normal(6, 1, 2, 2)
    yield from same_seed_same_result("loss", lambda g: f(looks, x0, schedule, None, g, 2, 1.0), draw)
    parts = torch.ones(6, 1, 1, 1, requires_grad=True)
    f(lambda x_t, t, cond=None: parts * x_t, x0, schedule, None, draw.generator(), 2, 1.0).backward()
    learns = parts.grad is not None and bool(parts.grad.flatten().ne(0).all())
    yield holds("every sample teaches the network", learns, "no gradient comes from some samples: detached?")


@prior_preservation_loss.promises(
    "dtype", "layout", "device", "gradients", "generator", samples="a mean over the batch", noise="one number"
)
def loss_of_a_line(f, draw):
    schedule, _ = fresh_schedule(draw)

    def net(x_t, t, cond=None):
        return x_t * (t / 7).reshape(-1, 1, 1, 1)

    x0 = draw.normal(5, 3, 2, 4)
    return f, dict(net=net, x0=x0, schedule=schedule, generator=draw.generator(), prior=2, weight=0.7)


def by_two_calls(net, x0, schedule, cond=None, generator=None, prior=0, weight=1.0):
    if not 0 <= prior < len(x0):
        raise ValueError("prior")
    parts = [slice(0, len(x0) - prior)] + [slice(len(x0) - prior, None)] * (prior > 0)
    losses = [
        prediction_loss(net, x0[part], schedule, None if cond is None else cond[part], generator) for part in parts
    ]
    return losses[0] + (weight * losses[1] if prior else 0)


def noise_first(net, x0, schedule, cond=None, generator=None, prior=0, weight=1.0):
    if not 0 <= prior < len(x0):
        raise ValueError("prior")
    eps = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
    t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator, device=x0.device)
    error = (net(q_sample(x0, t, eps, schedule), t, cond) - to_v(x0, t, eps, schedule)).square().flatten(1).mean(1)
    last = len(x0) - prior
    return error[:last].mean() + (weight * error[last:].mean() if prior else 0)


SPLIT = "new, old = error[: len(error) - prior], error[len(error) - prior :]"
TOTAL = "new.mean() + weight * old.mean() if prior else new.mean()"
prior_preservation_loss.edit(
    "one mean over all",
    {TOTAL: "error.mean()"},
    "One mean over the batch: then ten prior pictures count more than four new ones, and `weight` does nothing. Take a "
    "mean for each kind.",
)
prior_preservation_loss.edit(
    "weighted, then one mean",
    {TOTAL: "(new.sum() + weight * old.sum()) / len(error)"},
    "The prior pictures are weighted, but the sum is divided by the whole batch. Each kind has a mean of its own.",
)
prior_preservation_loss.edit(
    "the prior pictures first",
    {SPLIT: "old, new = error[:prior], error[prior:]"},
    "The first `prior` samples are taken for prior pictures. They are the *last* ones.",
)
NOTHING = (
    "Without prior pictures, prior = 0, a mean is taken of nothing, and that is NaN. Two ways lead there: `[:-prior]` "
    "is then `[:-0]`, which is nothing (and `[-0:]` is everything), so count from the front; or the mean of prior "
    "pictures that are not there: leave that term out."
)
prior_preservation_loss.edit("minus nothing", {SPLIT: "new, old = error[:-prior], error[-prior:]"}, NOTHING)
prior_preservation_loss.misconception(
    "one call for each kind",
    "The network is called for each kind of pictures by itself. Call it once, with the whole batch, which takes less "
    "time on any machine, and split the *errors*.",
)(by_two_calls)
prior_preservation_loss.misconception(
    "the noise before the levels",
    "The noise is drawn before the levels. With a generator the order matters: draw the levels of all samples first, "
    "as `prediction_loss` does, or the same seed gives other noise.",
)(noise_first)
prior_preservation_loss.edit(
    "cut into halves",
    {SPLIT: "new, old = error[: (len(error) + 1) // 2], error[(len(error) + 1) // 2 :]"},
    "The batch is cut into halves. Right only where both kinds are equally many: `prior` says how many.",
)
prior_preservation_loss.edit(
    "the new ones weighted",
    {TOTAL: "weight * new.mean() + old.mean() if prior else new.mean()"},
    "`weight` stands at the new pictures. It is how much the *prior* ones count.",
)
prior_preservation_loss.edit(
    "a mixture",
    {TOTAL: "(1 - weight) * new.mean() + weight * old.mean() if prior else new.mean()"},
    "The new pictures count 1 - weight, so at weight = 1 nothing new is learnt. They count fully.",
)
prior_preservation_loss.edit(
    "noise as the target",
    {"to_v(x0, t, eps, schedule)": "eps"},
    "The output is compared with the noise. This network predicts the velocity v: `to_v` gives it.",
)
prior_preservation_loss.edit(
    "the network sees clean data",
    {"net(q_sample(x0, t, eps, schedule),": "net(x0,"},
    "The network is given x0 itself, in which there is no noise to find. Make x_t with q_sample and give it that.",
)
prior_preservation_loss.edit(
    "one level for all",
    {"x0.shape[:1], **like)  # (B,)": "(1,), **like).expand(len(x0))"},
    "All samples are at one level. Each draws a level of its own: (B,).",
)
