"""Exercise 10.6: a longer clip."""

import torch

from minivdm.course.exercise import close, equal, exercise, raises
from minivdm.course.probes import describe

from .ch10_common import FRAMES, Smooth, walk
from .common import fresh_schedule


def average(x, t, cond=None):
    """An estimate of eps, for clips of any length, in which every frame depends on all others."""
    return 0.3 * x + torch.tanh(x.mean(dim=(1, 2, 3, 4), keepdim=True) + 0.1 * t.to(x).reshape(-1, 1, 1, 1, 1))


@exercise("extension.extend")
def extend(f, draw):
    schedule, ab = fresh_schedule(draw, T=24)
    model, levels = Smooth(draw), [schedule.T, 8, 4, 0]
    cond = draw.integers(1, 19, 2, 2)
    for n, k, weight in ((5, 2, 1.0), (3, 3, 0.5), (4, 1, 0.0)):
        video, noise = draw.uniform(2, 1, n, 2, 1, low=-1), draw.normal(2, 1, FRAMES, 2, 1)
        name = f"{n} frames, {k} of them overlap with 4, weight = {weight}"
        got = f(video, model, noise, schedule, k, levels, cond, weight)
        new = walk(model, noise, levels, cond, ab, video[:, :, n - k :], weight)[:, :, k:]
        size = tuple(got.shape) if torch.is_tensor(got) else describe(got)
        yield equal(f"the shape, {name}", size, (2, 1, n + FRAMES - k, 2, 1), usable=torch.is_tensor(got))
        yield close(f"{name}: the video comes first, as it was", got[:, :, :n], video, atol=1e-3)
        want = torch.cat([video, new], dim=2)
        yield close(name, got, want, atol=5e-3, rtol=5e-3, dtype=torch.float32)
    asked = []

    def noting(x, t, cond=None):
        asked.append(int(t.flatten()[0]))
        return average(x, t)

    got = f(video, noting, noise, schedule, 2)
    yield equal("without `levels` the walk takes them all", [*dict.fromkeys(asked)], [*range(schedule.T, 0, -1)])
    new = walk(average, noise, range(schedule.T, -1, -1), None, ab, video[:, :, -2:], 10.0)[:, :, 2:]
    yield close("no cond, default weight and levels", got, torch.cat([video, new], 2), 2e-2, 2e-2, torch.float32)
    long = draw.normal(2, 1, 19, 2, 1)
    got = f(video=video, model=average, noise=long, schedule=schedule, overlap=2, levels=levels, weight=0.5)
    new = walk(average, long, levels, None, ab, video[:, :, -2:], 0.5)[:, :, 2:]
    yield close("a model of 19 frames, all by keywords", got, torch.cat([video, new], 2), 5e-3, 5e-3, torch.float32)
    for overlap in (0, -1, FRAMES, 5):
        yield raises(f"overlap = {overlap}", ValueError, lambda k=overlap: f(video, model, noise, schedule, k))
    short = video[:, :, :2]
    yield raises("overlap = 0, and 2 frames", ValueError, lambda: f(short, model, noise, schedule, 0))
    yield raises("overlap = 3, but 2 frames", ValueError, lambda: f(short, model, noise, schedule, 3))


@extend.promises("samples", "dtype", "layout", "device", gradients="samplers switch gradients off")
def ordinary(f, draw):
    def extended(video, noise, schedule):
        return f(video, average, noise, schedule, 2, [12, 7, 3, 0], weight=0.5)

    video = draw.uniform(3, 1, 5, 2, 4, low=-1)
    return extended, dict(video=video, noise=draw.normal(3, 1, 6, 2, 4), schedule=fresh_schedule(draw)[0])


extend.edit(
    "from the beginning",
    {"-overlap:": ":overlap"},
    "The new clip begins like the old one. It goes on from the *last* frames: [:, :, -overlap:].",
)
extend.edit(
    "frames twice", {"[:, :, overlap:]": ""}, "The overlap comes twice: the first new frames are the video's last ones."
)
extend.edit(
    "the wrong new frames",
    {"new[:, :, overlap:]": "new[:, :, :-overlap]"},
    "The first frames of the new clip are the known ones. Leave out those, not the last.",
)
extend.edit(
    "cond not handed on", {"levels, cond": "levels"}, "`cond` does not reach ddim_sample: the prompt has no effect."
)
extend.edit(
    "levels not handed on", {"levels, cond": "None, cond"}, "`levels` does not reach ddim_sample, which walks them all."
)
extend.edit(
    "weight not handed on", {"], weight)": "], 10.0)"}, "`weight` has no effect: hand it on to ReconstructionGuidance."
)
extend.edit("not clipped", {", clip_x0=True": ""}, "The estimates of x0 leave [-1, 1]: clip_x0=True.")
