"""Exercise 3.3: all the way down, with or without fresh noise."""

import torch

from minivdm.course.exercise import close, exercise, raises

from .common import fresh_schedule, listening_models
from .samplers import MISTAKES, gaussian_walk, noise_probes, walk_probes, walks


@exercise("samplers.ddim_sample")
def ddim_sample(f, draw):
    yield from walk_probes(f, draw)
    schedule, ab = fresh_schedule(draw)
    knows, _, _ = listening_models(schedule)
    for walk in walks():
        mean, std = draw.uniform(2, low=0.4, high=0.9).tolist()
        start = draw.normal(3, 1, 4, 4)
        got = f(knows(mean, std), start, schedule, levels=walk)
        slope, shift, _ = gaussian_walk(ab, walk, mean, std, 0.0)
        name = f"{len(walk) - 1} steps, eta = 0, data N({mean:.2f}, {std:.2f}^2): the start, scaled and shifted"
        yield close(name, got, slope * start.double() + shift, 1e-4, 1e-3, torch.float32)
    for eta in (1.0, draw.uniform(1, low=0.5, high=0.8).item()):
        yield from noise_probes(f, draw, eta, eta=eta)
    for bad in (1.5, -0.5):
        yield raises(f"eta = {bad}", ValueError, lambda bad=bad: f(knows(0.0, 1.0), start, schedule, eta=bad))


for mistake in MISTAKES:
    ddim_sample.edit(*mistake)

ddim_sample.edit(
    "eta not passed on",
    {"schedule, eta)": "schedule)"},
    "eta has no effect: hand it on to the step, ddim_step(..., schedule, eta).",
)
ddim_sample.edit(
    "the old step",
    {"if eta:": "if True:", "schedule, eta)": "schedule, 1.0)"},
    "Even at eta = 0 fresh noise comes in, as in ddpm_sample. Take the step with ddim_step, and hand eta on to it.",
)
ddim_sample.edit(
    "zeros for noise",
    {"if eta:": "if False:"},
    "With eta > 0, too, the step is given zeros for noise. Draw it, from `generator`.",
)
ddim_sample.edit(
    "eta not checked",
    {"not 0 <= eta <= 1": "False"},
    "An eta below 0 or above 1 is taken without complaint: raise a ValueError before the walk begins.",
)
