"""Exercise 3.5: over to other data, through the noise that both share."""

import torch

from minivdm.course.exercise import close, equal, exercise

from .ch03_invert import Recorder, travelled
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


ddib.edit(
    "source and target swapped",
    {"(source, x0": "(target, x0", "(target, noise": "(source, noise"},
    "The models are the wrong way round: the data belongs to the source, so invert with `source`, and sample with "
    "`target`.",
)
ddib.edit(
    "back to the source",
    {"(target, noise": "(source, noise"},
    "The source's model is used both ways, so the data comes back as it was. Sample with `target`.",
)
ddib.edit(
    "fresh noise",
    {"target, noise": "target, noise.clone().normal_()"},
    "The target's model starts from fresh noise, so the result has nothing to do with x0. Start from what the "
    "inversion gives.",
)
ddib.edit(
    "the way down forgotten",
    {"ddim_sample(target, noise, schedule, levels, target_cond)": "noise"},
    "This returns the noise. The second half is missing: sample from it with `target`.",
)
ddib.edit(
    "conditions swapped",
    {"    noise =": "    source_cond, target_cond = target_cond, source_cond\n    noise ="},
    "The conditions are the wrong way round: source_cond belongs to the inversion, target_cond to the sampling.",
)
ddib.edit(
    "conditions forgotten",
    {", source_cond)": ")", ", target_cond)": ")"},
    "The conditions do not reach the models: hand source_cond on to ddim_invert and target_cond to ddim_sample.",
)
ddib.edit(
    "levels forgotten",
    {"schedule, levels,": "schedule, None,"},
    "All levels are walked, whatever `levels` says: hand it on to both.",
)
ddib.edit(
    "levels for one way only",
    {"noise, schedule, levels": "noise, schedule, None"},
    "`levels` is used on the way up only: hand the same list on to ddim_sample.",
)
