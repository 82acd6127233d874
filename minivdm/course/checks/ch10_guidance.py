"""Exercise 10.5: later frames that take notice of the known ones."""

from itertools import pairwise

import torch

from minivdm.course.exercise import close, exercise, holds, raises

from .ch10_common import FRAMES, Smooth, by_differences
from .common import at, fresh_schedule


@exercise("extension.ReconstructionGuidance")
def reconstruction_guidance(f, draw):
    schedule, ab = fresh_schedule(draw)
    model, like = Smooth(draw), dict(atol=2e-3, rtol=2e-3, dtype=torch.float32)
    x, t, cond = draw.normal(3, 1, FRAMES, 2, 1), draw.integers(2, 11, 3), draw.integers(1, 19, 3, 2)
    for k, weight in ((2, 0.0), (1, 1.5), (3, 0.8)):
        known = draw.uniform(3, 1, k, 2, 1, low=-1)
        want = by_differences(model, x, t, cond, ab, known, weight)[1]
        with torch.no_grad():
            got = f(model, schedule, known, weight)(x, t, cond)
        yield close(f"K = {k} of 4 frames known, weight = {weight}", got, want, **like)
    kept = torch.is_tensor(got) and got.requires_grad
    yield holds("eps comes without a gradient", not kept, "it carries one: .detach() it")
    guided = f(model, schedule, known, 1.0)
    with torch.enable_grad():
        kept = guided(x, t, cond).requires_grad
        yield holds("the same where gradients are on", not kept, "eps carries a gradient: .detach() it")
    untouched = model.mix.grad is None
    yield holds("the gradients of the model's weights", untouched, "a backward pass has written into them")
    known, z = draw.uniform(3, 1, 2, 2, 1, low=-1), x
    guided = f(model, schedule, known, 1.0)
    with torch.no_grad():
        for level, target in pairwise([schedule.T, 8, 5, 2, 0]):
            here, there = torch.full((3,), level), torch.full((3,), target)
            a, s = at(schedule.alpha_bar, here, z), at(schedule.alpha_bar, there, z)
            eps = guided(z, here, cond)
            z = s.sqrt() * (z - (1 - a).sqrt() * eps) / a.sqrt() + (1 - s).sqrt() * eps
    yield close("the first 2 frames at the end of a DDIM walk", z[:, :, :2], known, atol=1e-3)
    yield raises("all 4 frames known", ValueError, lambda: f(model, schedule, x, 1.0)(x, t, cond))
    other = x[:, :, :2, :1]
    yield raises("known frames of another size", ValueError, lambda: f(model, schedule, other, 1.0)(x, t, cond))


def guided_with(mistake, self, x, t, cond):
    """A guided call with room for one mistake."""
    known, k = self.known, self.known.shape[2]
    bad = known.shape != x[:, :, :k].shape or k >= x.shape[2]
    if bad and mistake != "not refused":
        raise ValueError
    k = min(k, x.shape[2])
    keep = at(self.schedule.alpha_bar, t, x)
    keep = keep[:1] if mistake == "first level" else keep
    x = torch.cat([known, x[:, :, k:]], dim=2) if mistake == "put into x" else x
    with torch.set_grad_enabled(mistake != "no grad"):
        x = x.detach().requires_grad_(mistake != "no grad")
        x0 = (x - (1 - keep).sqrt() * self.model(x, t, None if mistake == "no cond" else cond)) / keep.sqrt()
        part = x0[:, :, -k:] if mistake == "last" else x0[:, :, :k]
        error = (known - part).square()
        error = (x[:, :, :k] - part).square() if mistake == "noisy" else error
        error = error.flatten(1).mean(1) if mistake == "clip mean" else error
        error = error.mean() if mistake == "mean" else error.sum()
        if mistake == "batch mean":
            error = error / len(x)
        if mistake == "all frames":
            error = (torch.cat([known, x[:, :, k:]], 2) - x0).square().sum()
        if mistake == "norm":
            error = (known - part).flatten(1).norm(dim=1).sum()
        if mistake == "backward":
            error.backward()
            slope = x.grad
        else:
            (slope,) = torch.autograd.grad(error, x)
    scale = {"no alpha": torch.ones_like(keep), "alpha_bar": keep}.get(mistake, keep.sqrt())
    step = self.weight * scale / (1 if mistake == "no half" else 2) * slope
    new = x0 + step if mistake == "up" else x0 - step
    if mistake == "no guidance":
        new = x0
    later = new[:, :, k:]
    first = new[:, :, :k] if mistake == "not replaced" else known
    new = torch.cat([first, later], dim=2)
    if mistake == "at the end":
        new = torch.cat([later, known], dim=2)
    if mistake == "x0":
        return new.detach()
    if mistake == "old eps":
        return self.model(x.detach(), t, cond).detach()
    eps = (x - keep.sqrt() * new) / (1 - keep).sqrt()
    return eps if mistake == "attached" else eps.detach()


def guides(mistake, label, hint):
    """Add a misconception: the call above with one mistake in it."""

    class Wrong:
        def __call__(self, x, t, cond=None):
            return guided_with(mistake, self, x, t, cond)

    reconstruction_guidance.misconception(label, hint)(Wrong)


guides("up", "uphill", "The gradient is added, and the error grows. The way down is *against* it: subtract.")
guides("no alpha", "alpha missing", "The factor alpha_t = sqrt(alpha_bar_t) is missing: weight alpha_t / 2.")
guides("alpha_bar", "alpha_bar for alpha", "The factor is alpha_bar_t. It is its root: alpha_t = sqrt(alpha_bar_t).")
guides("no half", "not halved", "The step is twice as long as it should be: weight alpha_t / 2.")
guides(
    "mean",
    "mean for the sum",
    "The error is a mean over elements. It is a sum, so that its size does not shrink with the batch.",
)
guides(
    "batch mean",
    "divided by the batch",
    "The error is divided by the batch, so a clip is guided less in company. Sum: each clip's gradient is its own.",
)
guides(
    "clip mean",
    "mean over a clip",
    "The error is a mean over each clip's known elements. || . ||^2 is their sum.",
)
guides(
    "noisy",
    "compared with the noisy frames",
    "The guess of the known frames is compared with those in x_t, which are noisy. Compare with `known`.",
)
guides(
    "put into x",
    "known frames put into x",
    "The clean frames are put into x_t, where the model expects noisy ones. Leave x as it is; `known` goes into x0.",
)
guides("first level", "one level for all", "The first clip's alpha_bar serves for all. Each has its own: per_sample.")
guides("norm", "norm not squared", "The error is the norm itself. Eq. 7 has its square, || . ||^2.")
guides(
    "all frames",
    "an error of all frames",
    "The error counts the unknown frames, too. Only the K known ones can be wrong.",
)
guides(
    "last",
    "the last frames compared",
    "The known frames are compared with the clip's last ones. They are its first.",
)
guides("at the end", "put at the end", "The known frames are put behind the others. They come first.")
guides(
    "no guidance",
    "no gradient",
    "The later frames take no notice: the gradient is not subtracted from them, or it is 0, since the error does not "
    "depend on x_t's later frames. That is the replacement method.",
)
guides("not replaced", "known frames not replaced", "The known frames of x0 are still the model's. Put `known` there.")
guides("x0", "x0 returned", "This returns the clean clip. A model returns eps: to_eps(x, t, x0, schedule).")
guides(
    "old eps",
    "the model's own eps",
    "This returns the model's eps as it was. Return the one that the new x0 implies.",
)
guides("no cond", "cond forgotten", "The condition does not reach the model: self.model(x, t, cond).")
guides(
    "no grad",
    "gradients switched off",
    "Samplers run under torch.no_grad. Switch gradients on: with torch.enable_grad(), and let x require one.",
)
guides("attached", "still attached", "eps carries a gradient, and memory grows from step to step: .detach() it.")
guides(
    "backward",
    "backward()",
    "error.backward() also writes into the gradients of the model's weights. torch.autograd.grad(error, x) asks for "
    "one alone.",
)
guides(
    "not refused",
    "nothing refused",
    "Known frames that do not fit, or that are all frames, are taken. Raise a ValueError.",
)
