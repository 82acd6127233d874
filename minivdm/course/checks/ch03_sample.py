"""Exercise 3.3: all the way down, with or without fresh noise."""

import torch

from minivdm.course.exercise import exercise, raises
from minivdm.course.shared_probes import PROMISES

from .common import fresh_schedule
from .sampler_mistakes import MISTAKES
from .samplers import LEVELS, SHAPE, Listener, refusals, sampler_probes, taken, walk_probes


@exercise("samplers.ddim_sample")
def ddim_sample(f, draw):
    yield from sampler_probes(f, draw, share=0.0, eta=0.0)
    call, inputs = a_walk(f, draw)
    for promise in ("samples", "layout", "dtype"):
        yield from PROMISES[promise](call, {**inputs, "eta": 0.0, "generator": None}, draw)
    yield taken("eta = 1 is allowed", lambda: call(**{**inputs, "eta": 1.0}))
    for eta, given in (
        (1.0, {"levels": list(LEVELS), "clip_x0": True}),
        (draw.uniform(1, low=0.5, high=0.8).item(), {}),
    ):
        yield from walk_probes(f, draw, batch=300, share=eta, eta=eta, generator=draw.generator(), **given)
    for bad in (1.5, 1.01, -0.01):
        yield raises(f"eta = {bad} must be refused", ValueError, lambda bad=bad: call(**{**inputs, "eta": bad}))
    yield from refusals(lambda bad: call(**{**inputs, "levels": bad}))


@ddim_sample.promises(
    "dtype",
    "device",
    "generator",
    "noise",
    samples="the noise is drawn for a batch as a whole; tried at eta = 0",
    layout="which of the generator's numbers goes where is left open; tried at eta = 0",
    gradients="sampling keeps no graph",
)
def a_walk(f, draw):
    x, cond = draw.normal(4, *SHAPE), torch.tensor([4, 1, 7, 2])
    schedule, _ = fresh_schedule(draw)
    given = dict(levels=list(LEVELS), cond=cond, eta=0.6, generator=draw.generator())
    return f, dict(model=Listener(draw), x=x, schedule=schedule, **given)


for mistake in MISTAKES:
    ddim_sample.edit(*mistake)

ddim_sample.edit(
    "eta not passed on",
    {"schedule, eta)": "schedule)"},
    "eta has no effect: hand it on to the step, ddim_step(..., schedule, eta).",
)
ddim_sample.edit(
    "eta = 1 unless given",
    {"eta: float = 0.0": "eta: float = 1.0"},
    "Right where eta is given. Without it, eta must be 0; here it is 1.",
)
ddim_sample.edit(
    "the old step",
    {"if eta:": "if True:", "schedule, eta)": "schedule, 1.0)"},
    "Even at eta = 0 fresh noise comes in, as in ddpm_sample. Take the step with ddim_step, and hand eta on to it.",
)
ddim_sample.edit(
    "the model's noise after a clamp",
    {
        "x0 = to_x0(x, t, model(x, t, cond)": "eps = model(x, t, cond)\n        x0 = to_x0(x, t, eps",
        "x = ddim_step(x, x0, t, s, noise, schedule, eta)": "a, b = schedule.alpha_bar[[level, target]]\n"
        "        variance = eta**2 * (1 - b) / (1 - a) * (1 - a / b)\n"
        "        x = b.sqrt() * x0 + (1 - b - variance).clamp(min=0).sqrt() * eps + variance.sqrt() * noise",
    },
    "Right without a clamp. With clip_x0=True the step goes on with the model's estimate of the noise, which does not "
    "fit the clamped x0: read the noise off x and x0 again, as ddim_step does.",
)
