"""Exercise 10.6: a longer clip."""

import torch

from minivdm.course.exercise import close, exercise, raises

from .ch10_common import FRAMES, Smooth, walk
from .common import fresh_schedule


@exercise("extension.extend")
def extend(f, draw):
    schedule, ab = fresh_schedule(draw)
    model, levels = Smooth(draw), [schedule.T, 8, 4, 0]
    cond = draw.integers(1, 19, 2, 2)
    for n, k, weight in ((5, 2, 1.0), (3, 3, 0.5), (4, 1, 0.0)):
        video, noise = draw.uniform(2, 1, n, 2, 1, low=-1), draw.normal(2, 1, FRAMES, 2, 1)
        got = f(video, model, noise, schedule, k, levels, cond, weight)
        want = torch.cat([video, walk(model, noise, levels, cond, ab, video[:, :, n - k :], weight)[:, :, k:]], dim=2)
        name = f"{n} frames, {k} of them overlap with 4, weight = {weight}"
        yield close(name, got, want, atol=5e-3, rtol=5e-3, dtype=torch.float32)
    got = f(video, model, noise, schedule, 2)
    new = walk(model, noise, range(schedule.T, -1, -1), None, ab, video[:, :, -2:], 10.0)[:, :, 2:]
    yield close("no cond, default weight and levels", got, torch.cat([video, new], 2), 2e-2, 2e-2, torch.float32)
    for overlap in (0, FRAMES, 5):
        yield raises(f"overlap = {overlap}", ValueError, lambda k=overlap: f(video, model, noise, schedule, k))
    short = video[:, :, :2]
    yield raises("overlap = 0, and 2 frames", ValueError, lambda: f(short, model, noise, schedule, 0))
    yield raises("overlap = 3, but 2 frames", ValueError, lambda: f(short, model, noise, schedule, 3))


def extended(mistake, video, model, noise, schedule, overlap, levels=None, cond=None, weight=10.0):
    """An extension with room for one mistake."""
    from minivdm.diffusion.extension import ReconstructionGuidance
    from minivdm.diffusion.samplers import ddim_sample

    most = min(video.shape[2], noise.shape[2] - 1)
    least = 0 if mistake == "none" else 1
    if not least <= overlap <= most and mistake != "not refused":
        raise ValueError
    known = video[:, :, :overlap] if mistake == "beginning" else video[:, :, -overlap:]
    weight = 10.0 if mistake == "weight" else weight
    guided = ReconstructionGuidance(model, schedule, known, weight)
    levels = None if mistake == "levels" else levels
    cond = None if mistake == "cond" else cond
    new = ddim_sample(guided, noise, schedule, levels, cond, clip_x0=mistake != "not clipped")
    if mistake == "stutter":
        return torch.cat([video, new], dim=2)
    if mistake == "new only":
        return new[:, :, overlap:]
    if mistake == "turned":
        return torch.cat([new[:, :, overlap:], video], dim=2)
    if mistake == "wrong end":
        return torch.cat([video, new[:, :, : noise.shape[2] - overlap]], dim=2)
    first = overlap + {"one too late": 1, "one too early": -1}.get(mistake, 0)
    return torch.cat([video, new[:, :, first:]], dim=2)


def extends(mistake, label, hint):
    """Add a misconception: the extension above with one mistake in it."""

    def wrong(video, model, noise, schedule, overlap, levels=None, cond=None, weight=10.0):
        return extended(mistake, video, model, noise, schedule, overlap, levels, cond, weight)

    extend.misconception(label, hint)(wrong)


extends(
    "beginning",
    "from the beginning",
    "The new clip begins like the old one. It goes on from the *last* frames: [:, :, -overlap:].",
)
extends("stutter", "frames twice", "The overlap comes twice: the first `overlap` new frames are the video's last ones.")
extends("new only", "only the new frames", "Only the new frames come back. Put them behind the video.")
extends("turned", "in front", "The new frames are put in front of the video.")
extends(
    "wrong end",
    "the wrong new frames",
    "The first frames of the new clip are the known ones. Leave out those, not the last.",
)
extends("one too late", "a frame missing", "A new frame is missing at the seam: the first one has the index `overlap`.")
extends("one too early", "a frame twice", "The last frame comes twice: the first new one has the index `overlap`.")
extends("none", "an overlap of 0", "An overlap of 0 goes through, and [-0:] is the whole video. Refuse it.")
extends("cond", "cond not handed on", "The condition does not reach ddim_sample, so the prompt has no effect.")
extends("levels", "levels not handed on", "`levels` does not reach ddim_sample, which walks all of them.")
extends("weight", "weight not handed on", "`weight` has no effect: hand it on to ReconstructionGuidance.")
extends("not clipped", "not clipped", "The estimates of x0 leave [-1, 1]: clip_x0=True.")
extends("not refused", "nothing refused", "An overlap that does not fit is taken. Raise a ValueError.")
