"""Exercise 11.4: a first guess of hidden frames, and a mask."""

import math

import torch

from minivdm.course.exercise import close, equal, exercise, holds, raises


def by_frames(clip, skip):
    """The guess and the mask of one clip (C, F, H, W), frame by frame in float64: a walk from one known to the next."""
    out = torch.zeros(clip.shape[0] + 1, *clip.shape[1:], dtype=torch.float64)
    frames = clip.shape[1]
    known = list(range(0, frames, skip))
    for f in range(frames):
        earlier = max(k for k in known if k <= f)
        later = min((k for k in known if k > f), default=None)
        weight = 0.0 if later is None else (f - earlier) / (later - earlier)
        out[:-1, f] = (1 - weight) * clip[:, earlier].double()
        if weight:
            out[:-1, f] += weight * clip[:, later].double()
        out[-1, f] = float(f in known)
    return out


@exercise("degradation.guessed_frames")
def guessed_frames(f, draw):
    for frames in (9, 16, 2):
        skips = torch.tensor([2, 3, 4, 1, frames, frames - 1, frames + 5])
        clip = draw.normal(len(skips), 2, frames, 3, 4)
        got = f(clip, skips)
        shape = (len(skips), 3, frames, 3, 4)
        came = tuple(got.shape) if torch.is_tensor(got) else type(got).__name__
        yield equal(f"{frames} frames: the shape", came, shape, usable=False)
        if came != shape:
            return
        want = torch.stack([by_frames(*each) for each in zip(clip, skips.tolist())])
        yield close(f"{frames} frames: the mask", got[:, -1], want[:, -1], dtype=got.dtype)
        for i, skip in enumerate(skips.tolist()):
            known = got[i, :-1, ::skip]
            same = torch.equal(known, clip[i, :, ::skip])
            yield holds(f"{frames} frames, skip {skip}: known frames stay, bit for bit", same, "they have changed")
        yield close(f"{frames} frames, skips {skips.tolist()}: the guess", got[:, :-1], want[:, :-1], dtype=got.dtype)
    clip = draw.normal(2, 3, 8, 2, 2)
    spoilt = clip.clone()
    spoilt[0, :, 1::2] = math.nan
    spoilt[1, :, [1, 2, 4, 5, 7]] = math.inf
    skips = torch.tensor([2, 3])
    yield close("what is not known has no effect, even NaN and infinity", f(spoilt, skips), f(clip, skips))
    yield raises("one picture instead of a clip", ValueError, lambda: f(clip[:, :, 0], skips))
    yield raises("a skip too few", ValueError, lambda: f(clip, skips[:1]))


@guessed_frames.promises("samples", "dtype", "layout", "device", "gradients")
def ordinary(f, draw):
    return f, dict(clip=draw.normal(3, 2, 7, 3, 2), skip=torch.tensor([2, 3, 4]))


LERP = "torch.lerp(frames[rows, before], frames[rows, after], share)"
AFTER = "torch.where(before + skip < len(place), before + skip, before)"
guessed_frames.edit(
    "the frame before, all the way",
    {LERP: "frames[rows, before]"},
    "Each hidden frame is the known one before it. It lies between two: the next known one has a part in it.",
)
guessed_frames.edit(
    "half and half",
    {LERP: "torch.where(share == 0, frames[rows, before], (frames[rows, before] + frames[rows, after]) / 2)"},
    "Both neighbours count the same everywhere. The nearer one counts more, in proportion to the way.",
)
guessed_frames.edit(
    "weights exchanged",
    {LERP: "torch.lerp(frames[rows, before], frames[rows, after], (share > 0) * (1 - share))"},
    "The weights are exchanged: the known frame that is farther away counts more.",
)
guessed_frames.edit(
    "zeros as in the paper",
    {LERP: "torch.where(share == 0, frames[rows, before], torch.zeros_like(frames))"},
    "Hidden frames are 0. That is the paper's way; here a first guess stands in their place, the weighted mean.",
)
guessed_frames.edit(
    "towards the last frame",
    {AFTER: "torch.where(before + skip < len(place), before + skip, len(place) - 1)"},
    "Behind the last known frame, the guess goes towards the clip's last one, which is not known: it stays as it is.",
)
guessed_frames.edit(
    "back to the beginning",
    {AFTER: "(before + skip) % len(place)"},
    "Behind the last known frame, the next one is taken from the beginning of the clip. Nothing changes there.",
)
guessed_frames.edit(
    "one skip for all",
    {"skip[:, None]": "skip[:1, None].expand(len(clip), 1)"},
    "All clips get the skip of the first. Each has its own.",
)
guessed_frames.edit(
    "mask turned round",
    {"(share == 0)": "(share != 0)"},
    "The mask is turned round: 1 where a frame is known, 0 where it is guessed.",
)
guessed_frames.edit(
    "the mask in front",
    {"[guess, mask]": "[mask, guess]"},
    "The mask stands in front of the pictures; it is to stand behind them.",
)
