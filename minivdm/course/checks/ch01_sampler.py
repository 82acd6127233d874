"""Exercise 1.8: all the way down."""

import torch

from minivdm.course.exercise import exercise

from .common import fresh_schedule
from .sampler_mistakes import MISTAKES
from .samplers import LEVELS, SHAPE, Listener, refusals, sampler_probes, walk_probes


@exercise("samplers.ddpm_sample")
def ddpm_sample(f, draw):
    yield from sampler_probes(f, draw, share=1.0)
    for given in ({}, {"levels": list(LEVELS), "clip_x0": True}):
        yield from walk_probes(f, draw, batch=300, share=1.0, generator=draw.generator(), **given)
    schedule, _ = fresh_schedule(draw)
    yield from refusals(lambda bad: f(Listener(draw), draw.normal(2, *SHAPE), schedule, levels=bad))


@ddpm_sample.promises(
    "dtype",
    "device",
    "generator",
    "noise",
    samples="the noise is drawn for a batch as a whole",
    layout="which of the generator's numbers goes where is left open",
    gradients="sampling keeps no graph",
)
def a_walk(f, draw):
    x, cond = draw.normal(4, *SHAPE), torch.tensor([4, 1, 7, 2])
    schedule, _ = fresh_schedule(draw)
    given = dict(levels=list(LEVELS), cond=cond, generator=draw.generator())
    return f, dict(model=Listener(draw), x=x, schedule=schedule, **given)


for mistake in MISTAKES:
    ddpm_sample.edit(*mistake)
