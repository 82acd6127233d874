"""Exercise 5.8: null prompts with which a guided walk retraces an inversion."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, raises
from minivdm.course.probes import describe

from .ch05_common import Tiny, by_hand, walk
from .common import fresh_schedule


@exercise("guidance.null_text_inversion")
def null_text_inversion(f, draw):
    schedule, ab = fresh_schedule(draw)
    levels = [schedule.T, draw.integers(8, 9), draw.integers(3, 5), 0]
    model = Tiny(draw, schedule.T)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)

    def as_path(z, points, order=(3, 2, 1, 0)):
        """A dict from level to point, as a rule in the order in which an inversion meets them."""
        rows = [z, *(point.reshape(z.shape).float() for point in points)]
        return {levels[i]: rows[i] for i in order}

    def found(name, nulls, want):
        """Probes of the nulls that a call returned."""
        keys = sorted(nulls, reverse=True) if isinstance(nulls, dict) else describe(nulls)
        yield equal(f"{name}: the levels in the dict, for a path over {levels}", keys, levels[:-1], usable=False)
        if keys == levels[:-1]:
            for t, one in zip(levels, want):
                yield close(f"{name}: the null to leave level {t}", nulls[t], one, atol=1e-4, dtype=torch.float32)

    scale, cond = draw.uniform(1, low=3, high=5).item(), 0.3 * draw.normal(2, 2, 4)
    path = as_path(0.5 * draw.normal(2, 1, 2, 2), [draw.normal(2, 4) for _ in levels[1:]])
    null = 0.3 * draw.normal(2, 2, 4)
    want = by_hand(model, path, levels, ab, cond, null, scale, 3, 0.1)
    got = f(model, path, cond, null, schedule, scale=scale, inner_steps=3, lr=0.1)
    yield from (probes := [*found("3 steps of Adam", got, want)])
    if not all(probe.ok for probe in probes):
        return  # the rest would only repeat it, slowly
    asked = sum(given is cond or torch.equal(given, cond) for given in model.asked)
    message = f"the model was asked {asked} times for 3 levels: once for each, before the search, is enough"
    yield holds("eps_c", asked <= 6, message)

    path = as_path(path[levels[0]], [path[t] for t in levels[1:]], order=(1, 3, 0, 2))
    try:
        got = f(model, path, cond, null, schedule, scale=scale, inner_steps=3, lr=0.1)
    except ValueError as error:
        yield holds("the path's levels may come in any order", False, f"a ValueError came, {error}")
    else:
        yield from found(f"a path in the order {[*path]}", got, want)
    tokens = draw.integers(1, 19, 2, 2)
    for given, shape in ((null[0], "(L, D)"), (null[:1], "(1, L, D)")):
        want = by_hand(model, path, levels, ab, tokens, null[:1].expand_as(null), 7.5, 10, 0.05)
        yield from found(f"tokens, a null {shape}, by default", f(model, path, tokens, given, schedule), want)
    none = f(model, path, tokens, null, schedule, inner_steps=0)
    yield from found("inner_steps = 0", none, [null] * 3)

    first = {t: null for t in levels}
    guided = walk(model, path[levels[0]], levels, ab, tokens, first, scale)
    for i, errors, why in (
        (0, (1e-6, 1e-6), "all far below 1e-5"),
        (0, (0.7e-5, 0.7e-5), "all below 1e-5"),
        (1, (2.5e-5, 2.5e-5), "all below 3e-5"),
        (2, (4.3e-5, 4.3e-5), "all below 5e-5"),
        (0, (1.5e-5, 1.5e-5), "all above 1e-5"),
        (2, (6e-5, 6e-5), "all above 5e-5"),
        (0, (0.3e-5, 4e-5), "one below 1e-5, the other not"),
        (1, (9e-5, 0.5e-5), "one below 3e-5, the other not"),
        (0, (0.3e-5, 1.5e-5), "their mean below 1e-5, but not all"),
    ):
        points = [point.clone() for point in guided]
        points[i] += torch.tensor(errors).double().sqrt()[:, None]
        nulls = f(model, as_path(path[levels[0]], points), tokens, null, schedule, scale, inner_steps=2, lr=1e-5)
        moved = [round(2e5 * (one - two).abs().max().item()) for one, two in zip(nulls[levels[i]], null)]
        came = " and ".join({0: "none", 2: "one", 3: "two"}.get(count, "others") for count in moved)
        want = "none and none" if why.startswith("all") and "below" in why else "two and two"
        name = f"level i = {i}, the errors of the samples {errors[0]:g} and {errors[1]:g}, {why}"
        yield holds(name, came == want, f"of inner_steps = 2 the samples took {came}, expected {want}")
    del path[0]
    yield raises("a path that does not end at level 0", ValueError, lambda: f(model, path, cond, null, schedule))


@null_text_inversion.promises(
    "samples", "dtype", "layout", "device", gradients="the nulls are found by a search of their own"
)
def three_levels(f, draw):
    schedule, _ = fresh_schedule(draw)

    def call(model, cond, null, start, half, end):
        path = {0: end, 12: start, 5: half}
        nulls = f(model, path, cond, null, schedule, scale=3.0, inner_steps=3, lr=0.02)
        return [nulls[12], nulls[5]]

    points = [draw.normal(3, 1, 2, 2) for _ in range(3)]
    null = draw.normal(3, 2, 4)
    return call, dict(
        model=Tiny(draw, 12), cond=draw.normal(3, 2, 4), null=null, start=points[0], half=points[1], end=points[2]
    )


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
    "x0 clamped",
    {"to_x0(z, t, eps, schedule)": "to_x0(z, t, eps, schedule).clamp(-1, 1)"},
    "The estimate of x0 is clamped. The inversion did no such thing, so the step must not, either.",
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
    "ends for some samples",
    {"error.max()": "error.min()"},
    "The search ends as soon as the error of *one* sample is small. It goes on until all are: .max().",
)
null_text_inversion.edit(
    "the error looked at after the step",
    {
        "j == inner_steps or error.max() < 1e-5 + 2e-5 * i": "j == inner_steps or small",
        "adam.step()": "adam.step()\n            small = error.max() < 1e-5 + 2e-5 * i",
        "adam = torch": "small = False\n        adam = torch",
    },
    "The error is looked at after a step of Adam. Look at it before each step: where it is small already, the null "
    "stays as it is.",
)
null_text_inversion.edit(
    "finished samples stand still",
    {"error.sum(), null)": "(error * (error > 1e-5 + 2e-5 * i)).sum(), null)"},
    "Samples whose error is small stand still while others go on. The search is one for the whole batch.",
)
null_text_inversion.edit(
    "the rate falls too early",
    {"1 - j / inner_steps": "1 - (j + 1) / inner_steps"},
    "The rate falls one step too early: in the first step, j = 0, it is lr.",
)
null_text_inversion.edit(
    "a batch of nulls only",
    {
        "null.expand(len(z), *null.shape[-2:])": "(null if null.ndim > 2 else null.expand(len(z), -1, -1))",
    },
    "A null (1, L, D) stays one for the whole batch. Each sample needs its own: expand it to (B, L, D).",
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
