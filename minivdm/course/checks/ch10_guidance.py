"""Exercise 10.5: later frames that take notice of the known ones."""

import copy
from itertools import pairwise

import torch

from minivdm.course.exercise import close, exercise, holds, raises
from minivdm.course.probes import describe

from .ch10_common import FRAMES, Smooth, by_differences
from .common import at, column, fresh_schedule


@exercise("extension.ReconstructionGuidance")
def guide(f, draw):
    schedule, ab = fresh_schedule(draw)
    model, like = Smooth(draw), dict(atol=2e-3, rtol=2e-3, dtype=torch.float32)
    model.mix.grad = draw.normal(*model.mix.shape)  # as if it were in training
    x, cond = draw.normal(3, 1, FRAMES, 2, 1), draw.integers(1, 19, 3, 2)
    t = torch.tensor([schedule.T, 1, draw.integers(2, 11)])
    noise_to_signal = column([((1 - a) / a) ** 0.5 for a in ab], t, x)
    for k, weight, told in ((2, 0.0, cond), (3, 0.8, cond), (1, 1.5, None)):
        known, name = draw.uniform(3, 1, k, 2, 1, low=-2, high=2), f"K = {k} of 4 frames known"
        want, plain = (by_differences(model, x, t, told, ab, known, each)[1] for each in (weight, 0.0))
        with torch.no_grad():
            got = f(model, schedule, known, weight)(x, t, told)
            without = f(model, schedule, known, 0.0)(x, t, told)
        usable = torch.is_tensor(got) and got.shape == x.shape
        yield holds(
            f"{name}: eps is like x", usable, f"expected a tensor {tuple(x.shape)}, got {describe(got)}", usable=False
        )
        yield close(f"{name}: eps of the known frames", got[:, :, :k], want[:, :, :k], **like)
        yield close(f"{name}, weight = 0: eps of the later frames", without[:, :, k:], plain[:, :, k:], **like)
        moved, right = (((two - one) * noise_to_signal)[:, :, k:] for one, two in ((got, without), (want, plain)))
        yield close(f"{name}, weight = {weight}: how far x0 of the later frames moves", moved, right, 5e-3, 5e-3)
        yield close(f"{name}, weight = {weight}", got, want, **like)
    kept = got.requires_grad
    yield holds("eps comes without a gradient", not kept, "it carries one: .detach() it")
    frozen, leaf = copy.deepcopy(model).requires_grad_(False), x.clone().requires_grad_()
    with torch.enable_grad():
        kept = f(model, schedule, known, 1.0)(x, t, cond).requires_grad
        yield holds("the same where gradients are on", not kept, "eps carries a gradient: .detach() it")
        yield close(
            "a frozen model, and an x that has a gradient", f(frozen, schedule, known, weight)(leaf, t), want, **like
        )
    yield holds("x is not written to", leaf.grad is None, "a backward pass has written into x.grad")
    known, z = draw.uniform(3, 1, 2, 2, 1, low=-1), x
    guided = f(model, schedule, known, 1.0)
    with torch.no_grad():
        for level, target in pairwise([schedule.T, 8, 5, 2, 0]):
            here, there = torch.full((3,), level), torch.full((3,), target)
            a, s = at(schedule.alpha_bar, here, z), at(schedule.alpha_bar, there, z)
            eps = guided(z, here, cond)
            z = s.sqrt() * (z - (1 - a).sqrt() * eps) / a.sqrt() + (1 - s).sqrt() * eps
    yield close("the first 2 frames at the end of a DDIM walk", z[:, :, :2], known, atol=1e-3)
    for name, other in {
        "all 4 frames": x,
        "5 frames of 4": torch.cat([x, known[:, :, :1]], 2),
        "frames of another size": known[..., :1, :],
        "frames of one clip for three": known[:1],
        "frames with 2 channels": torch.cat([known, known], 1),
    }.items():
        yield raises(f"known: {name}", ValueError, lambda other=other: f(model, schedule, other, 1.0)(x, t, cond))


@guide.promises("samples", "dtype", "layout", "device", gradients="eps comes without a gradient")
def ordinary(f, draw):
    model, levels = Smooth(draw), torch.tensor([12, 1, draw.integers(2, 11)])

    def guided(x, t, cond, known, schedule):
        return f(model, schedule, known, 1.5)(x, t, cond)

    known, inputs = draw.normal(3, 1, 2, 2, 1), dict(x=draw.normal(3, 1, FRAMES, 2, 1), t=levels)
    return guided, dict(**inputs, cond=draw.integers(1, 19, 3, 2), known=known, schedule=fresh_schedule(draw)[0])


guide.edit(
    "alpha_bar for alpha", {"x).sqrt()": "x)"}, "The factor is alpha_bar_t. Take its root: alpha_t = sqrt(alpha_bar_t)."
)
guide.edit(
    "known frames put into x",
    {"x = x.detach()": "x = torch.cat([self.known, x[:, :, k:]], dim=2)"},
    "The clean frames are put into x_t, where the model expects noisy ones. Leave x as it is; `known` goes into x0.",
)
guide.edit(
    "known frames not replaced",
    {"[self.known, later]": "[x0[:, :, :k], later]"},
    "The known frames of x0 are still the model's. Put `known` there.",
)
guide.edit(
    "x0 returned",
    {"to_eps(x.detach(), t, x0, self.schedule)": "x0"},
    "This returns the clean clip. A model returns eps: to_eps(x, t, x0, schedule).",
)
guide.edit(
    "the model's own eps",
    {"to_eps(x.detach(), t, x0, self.schedule)": "self.model(x, t, cond).detach()"},
    "This returns the model's eps as it was. Return the one that the new x0 implies.",
)
guide.edit(
    "cond forgotten", {"t, cond), self": "t), self"}, "The condition does not reach the model: self.model(x, t, cond)."
)
guide.edit(
    "gradients switched off",
    {"with torch.enable_grad()": "with torch.no_grad()"},
    "Samplers run under torch.no_grad. Switch gradients on: with torch.enable_grad(), and let x require one.",
)
