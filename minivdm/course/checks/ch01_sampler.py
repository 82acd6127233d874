"""Exercise 1.8: all the way down."""

from minivdm.course.exercise import exercise

from .samplers import MISTAKES, noise_probes, walk_probes


@exercise("samplers.ddpm_sample")
def ddpm_sample(f, draw):
    yield from walk_probes(f, draw)
    yield from noise_probes(f, draw)


for mistake in MISTAKES:
    ddpm_sample.edit(*mistake)

ddpm_sample.edit(
    "the same noise at every step",
    {
        "    for level": "    once = torch.randn(x.shape, generator=generator)\n    for level",
        "s, noise, schedule)": "s, once, schedule)",
    },
    "The noise is drawn once, outside the loop, and its pushes add up in one direction. "
    "Draw fresh noise for each step.",
)
ddpm_sample.edit(
    "no noise",
    {"s, noise, schedule)": "s, 0 * noise, schedule)"},
    "Only the mean is followed, so the samples are not spread as the data is. "
    "Draw fresh noise for each step and hand it to ddpm_step.",
)
ddpm_sample.edit(
    "callback before the step",
    {"x = ddpm_step(": "before, x = x, ddpm_step(", "callback(target, x,": "callback(target, before,"},
    "The callback gets the x from *before* the step. Call it after the step, with the level that was reached: "
    "callback(s, x, x0).",
)
