"""Exercise 5.8: null prompts with which a guided walk retraces an inversion."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, raises

from .ch05_common import Tiny, by_hand, walk
from .common import fresh_schedule


@exercise("guidance.null_text_inversion")
def null_text_inversion(f, draw):
    schedule, ab = fresh_schedule(draw)
    levels = [schedule.T, draw.integers(8, 9), draw.integers(3, 5), 0]
    model = Tiny(draw, schedule.T)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)

    def as_path(z, points):
        """A dict from level to point, in the order in which an inversion meets them."""
        rows = [z, *(point.reshape(z.shape).float() for point in points)]
        return dict(reversed(list(zip(levels, rows))))

    scale, cond = draw.uniform(1, low=3, high=5).item(), draw.normal(2, 2, 4)
    path = as_path(draw.normal(2, 1, 2, 2), [draw.normal(2, 4) for _ in levels[1:]])
    null = draw.normal(2, 2, 4)
    nulls = f(model, path, cond, null, schedule, scale=scale, inner_steps=5, lr=0.4)
    keys = sorted(nulls, reverse=True) if isinstance(nulls, dict) else nulls
    yield equal(f"the levels in the dict, for a path over {levels}", keys, levels[:-1], usable=False)
    want = by_hand(model, path, levels, ab, cond, null, scale, 5, 0.4)
    found = [
        close(f"the null after 5 steps of Adam, to leave level {t}", nulls[t], one, atol=2e-3, dtype=torch.float32)
        for t, one in zip(levels, want)
    ]
    yield from found
    if not all(probe.ok for probe in found):
        return  # the rest would only repeat it, slowly
    same = all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())
    yield holds("the gradients of the model's weights", same, "a backward pass has written into them")
    free = all(p.requires_grad for p in model.parameters())
    yield holds("the model can be trained afterwards", free, "requires_grad of its weights was switched off")

    tokens = draw.integers(1, 19, 1, 2).repeat(2, 1)
    null = model.table[tokens[0]].detach() + 0.5 * draw.normal(2, 4)
    z = draw.normal(2, 1, 2, 2)
    points = [point + 0.03 * draw.normal(2, 4) for point in walk(model, z, levels, ab, tokens, None, 1)]
    nulls = f(model, as_path(z, points), tokens, null, schedule, scale=scale, inner_steps=16, lr=0.25)
    yield equal("the nulls' shape, for one null (L, D)", [tuple(nulls[t].shape) for t in levels[:-1]], [(2, 2, 4)] * 3)
    first = {t: null.expand(2, 2, 4) for t in levels}
    plain, mended = (
        max((a - b).abs().max().item() for a, b in zip(walk(model, z, levels, ab, tokens, by, scale), points))
        for by in (first, nulls)
    )
    message = f"it ends up {mended:.3f} away from the path; with one null for all, {plain:.3f}"
    yield holds("guided sampling with the nulls retraces the path", mended < 0.3 * plain, message)

    guided = walk(model, z, levels, ab, tokens, first, scale)
    for off, name in ((0.0, "0"), (2e-5**0.5, "2e-5 at the third level")):
        points = [point + off * (i > 1) for i, point in enumerate(guided)]
        model.calls = 0
        f(model, as_path(z, points), tokens, null, schedule, scale=scale, inner_steps=16, lr=1e-6)
        message = f"the model was called {model.calls} times for {len(levels) - 1} levels of at most 16 steps"
        yield holds(f"the search ends early where the error is {name}", model.calls <= 6 * (len(levels) - 1), message)
    del path[0]
    yield raises("a path that does not end at level 0", ValueError, lambda: f(model, path, cond, null, schedule))


null_text_inversion.edit(
    "one tensor at every level",
    {"null.detach().clone().requires_grad_()": "null.requires_grad_()"},
    "All entries of the dict are one and the same tensor: Adam changes it in place, also after it was stored. Go on "
    "from a copy: null.detach().clone().",
)
null_text_inversion.edit(
    "from the start again",
    {"null, nulls =": "start, nulls =", "null.detach().clone()": "start.clone()"},
    "Each level's search begins with the first guess again. It begins with what the level before has found.",
)
null_text_inversion.edit(
    "nothing learnt",
    {"adam.step()": "pass"},
    "The nulls are all the first guess: is adam.step() called, and does null.grad get there?",
)
null_text_inversion.edit(
    "back on the path each time",
    {"landed.detach()": "path[target]"},
    "After each level z is put back on the path. A sampler cannot do that: go on from where the guided step with the "
    "null that was found has landed, so that later nulls make up for what is left.",
)
null_text_inversion.edit(
    "z before the last step of Adam",
    {"inner_steps + 1": "inner_steps", "j == inner_steps or ": ""},
    "z was worked out before Adam's last step, so it belongs to another null than the one that is stored. Take the "
    "step once more with the null that was found.",
)
null_text_inversion.edit(
    "the target a level too high",
    {"path[target]": "path[level]"},
    "z' is compared with path[t_i], where the step begins. It ends at t_(i+1): compare with path[t_(i+1)].",
)
null_text_inversion.edit(
    "asked at the level below",
    {"model(z, t, ": "model(z, s, "},
    "The model is asked at the level that the step goes to, as inversion does. Sampling asks at the level z has now, "
    "t_i.",
)
null_text_inversion.edit(
    "one Adam for all levels",
    {
        "null.detach().clone().requires_grad_()": "null.requires_grad_()",
        "Adam([null])": "Adam([null]) if i == 0 else adam",
        "landed.detach(), null.detach()": "landed.detach(), null.detach().clone()",
    },
    "One Adam serves all levels, and its averages of old gradients push the next null, too. Make a new one for each "
    "level.",
)
null_text_inversion.edit(
    "a constant rate",
    {" * (1 - j / inner_steps)": ""},
    "The rate stays lr within a level. In its step j = 0, 1, .. it is lr (1 - j / inner_steps).",
)
null_text_inversion.edit(
    "a backward pass into the model",
    {"(null.grad,) = torch.autograd.grad(error.sum(), null)": "adam.zero_grad(), error.sum().backward()"},
    "The nulls are right, but .backward() has left gradients in the model's weights, too, and the next training step "
    "would add them. torch.autograd.grad(error, null) asks for the null's alone.",
)
null_text_inversion.edit(
    "no early end",
    {" or error.max() < 1e-5 + 2e-5 * i": ""},
    "The search never ends early. Once the error is below 1e-5 + 2e-5 i, go to the next level.",
)
null_text_inversion.edit(
    "one limit for all",
    {" + 2e-5 * i": ""},
    "The limit stays 1e-5. It grows with the number i of the level: 1e-5 + 2e-5 i.",
)
null_text_inversion.edit(
    "levels upwards",
    {", reverse=True": ""},
    "A ValueError where none belongs. If it speaks of levels: sort the path downwards, sorted(path, reverse=True). If "
    "it expected a schedule: checked_levels takes the schedule itself, and looks up T in it. If it speaks of t: to_x0 "
    "and ddim_step take t and s as (B,) long tensors.",
)
