"""Exercise 3.5: over to other data, through the noise that both share."""

import torch

from minivdm.course.exercise import close, equal, exercise

from .ch03_invert import Recorder, travelled, walk_up
from .common import fresh_schedule


@exercise("bridge.ddib")
def ddib(f, draw):
    schedule, ab = fresh_schedule(draw)
    T, labels = schedule.T, draw.integers(1, 9, 2, 3, 1).unbind(0)
    for walk in (list(range(T + 1)), [0, 3, 7, T]):
        x0, source = draw.normal(3, 1, 4, 4), Recorder(draw.normal(T + 1, 1, 4, 4))
        target = Recorder(draw.normal(T + 1, 1, 4, 4))
        given = {} if len(walk) > T else {"levels": walk[::-1], "source_cond": labels[0], "target_cond": labels[1]}
        got = f(x0, source, target, schedule, **given)
        yield equal("levels at which the source's model was asked", source.levels(), walk[1:])
        yield equal("levels at which the target's model was asked", target.levels(), walk[:0:-1])
        want = x0.double() + travelled(ab, source.e, walk) - travelled(ab, target.e, walk)
        yield close(f"{len(walk) - 1} steps up and down", got, want, 1e-4, dtype=torch.float32)
    for model, name in ((source, "source"), (target, "target")):
        known = {id(labels[0]): "source_cond", id(labels[1]): "target_cond", id(None): "None"}
        told = {known.get(id(cond), "something else") for _, _, cond in model.seen}
        yield equal(f"the condition that the {name}'s model was given", sorted(told), [f"{name}_cond"])


def wrong_bridge(mistake, label, hint):
    """Add a misconception of `ddib`: up with one model, down with the other, and one mistake."""

    def bridge(x0, source, target, schedule, levels=None, source_cond=None, target_cond=None):
        top = list(range(schedule.T, -1, -1)) if levels is None else list(levels)
        if mistake == "swapped":
            source, target = target, source
        if mistake == "source twice":
            target, target_cond = source, source_cond
        if mistake == "conditions swapped":
            source_cond, target_cond = target_cond, source_cond
        if mistake == "no conditions":
            source_cond = target_cond = None
        if mistake == "levels ignored":
            top = list(range(schedule.T, -1, -1))
        x = walk_up("", source, x0, schedule, top, source_cond, None)
        if mistake == "noise only":
            return x
        if mistake == "fresh noise":
            x = torch.randn_like(x)
        down = range(schedule.T, -1, -1) if mistake == "levels up only" else top
        for t, s in zip(down[:-1], down[1:]):
            ab_t, ab_s = schedule.alpha_bar[t], schedule.alpha_bar[s]
            eps = target(x, torch.full((len(x),), t), target_cond)
            x = ab_s.sqrt() * (x - (1 - ab_t).sqrt() * eps) / ab_t.sqrt() + (1 - ab_s).sqrt() * eps
        return x

    ddib.misconception(label, hint)(bridge)


wrong_bridge(
    "swapped",
    "source and target swapped",
    "The models are the wrong way round: the data belongs to the source, so invert with `source`, and sample with "
    "`target`.",
)
wrong_bridge(
    "source twice",
    "back to the source",
    "The source's model is used both ways, so the data comes back as it was. Sample with `target`.",
)
wrong_bridge(
    "fresh noise",
    "fresh noise",
    "The target's model starts from fresh noise, so the result has nothing to do with x0. Start from what the "
    "inversion gives.",
)
wrong_bridge(
    "noise only",
    "the way down forgotten",
    "This returns the noise. The second half is missing: sample from it with `target`.",
)
wrong_bridge(
    "conditions swapped",
    "conditions swapped",
    "The conditions are the wrong way round: source_cond belongs to the inversion, target_cond to the sampling.",
)
wrong_bridge(
    "no conditions",
    "conditions forgotten",
    "The conditions do not reach the models: hand source_cond on to ddim_invert and target_cond to ddim_sample.",
)
wrong_bridge(
    "levels ignored",
    "levels forgotten",
    "All levels are walked, whatever `levels` says: hand it on to both.",
)
wrong_bridge(
    "levels up only",
    "levels for one way only",
    "`levels` is used on the way up only: hand the same list on to ddim_sample.",
)
