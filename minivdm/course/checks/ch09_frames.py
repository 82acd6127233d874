"""Exercise 9.1: which frames of a recording make a clip."""

import re
from fractions import Fraction

import torch

from minivdm.course.exercise import close, equal, exercise, holds, raises


def counted(frames, step, start):
    """The indices in exact arithmetic."""
    return torch.tensor([int(Fraction(start) + k * Fraction(step)) for k in range(frames)])


def eighths(draw, low, high):
    """A random number whose eighths are whole, but not its halves: sums are exact even in float32."""
    return draw.integers(low, high) + draw.choice([1, 3, 5, 7]) / 8


@exercise("video_folder.frame_indices")
def frame_indices(f, draw):
    n = draw.integers(6, 12)
    yield close(f"{n} frames in a row", f(50, n), torch.arange(n))
    for given in (
        (draw.integers(2, 4), draw.integers(3, 7)),
        (eighths(draw, 1, 3),),
        (eighths(draw, 1, 3), eighths(draw, 2, 6)),
    ):
        want = counted(n, *given, *[0] * (2 - len(given)))
        name = ", ".join(f"{word} {value}" for word, value in zip(("step", "start"), given))
        yield close(f"{n} frames, {name}", f(90, n, *given), want)
    last = int(want[-1])
    yield close("a recording that is just long enough", f(last + 1, n, *given), want)
    for available, what in ((last, "that lacks one frame"), (3, "of 3 frames")):
        yield equal(f"a recording {what}", outcome(f, available, n, *given)[0], "ValueError")
    late = draw.integers(20_000, 30_000) + 0.9999
    yield close(f"start {late}, deep in a long recording", f(99_999, n, 2, late), counted(n, 2, late), rtol=0)
    fps, rate, late = draw.choice([(12.5, 7, 1000), (30, 7, 1000.5), (24, 11, 1000.5), (25, 9, 1000.5)])
    want = counted(10, fps / rate, late)
    yield close(f"10 frames, step {fps} / {rate}, start {late}", f(2000, 10, fps / rate, late), want, rtol=0)
    for wrong in ({"step": 0.5}, {"start": -1.0}, {"frames": 0}):
        call = {"available": 90, "frames": n, **wrong}
        yield raises(f"{wrong} is refused", ValueError, lambda call=call: f(**call))
    step = given[0]
    needed = int(counted(n, step, 0)[-1]) + 1
    text = outcome(f, needed - 1, n, step)[1]
    told = text is None or {needed, needed - 1} <= {int(number) for number in re.findall(r"\d+", text)}
    what = "the message says how many frames are needed and how many there are"
    yield holds(what, told, f"expected {needed} needed, {needed - 1} there; it says: {text}")


def outcome(f, *arguments):
    """("ValueError", its message) if that is raised, else (what comes back, None)."""
    try:
        return f(*arguments), None
    except ValueError as error:
        return "ValueError", str(error)


frame_indices.edit(
    "rounded",
    {"floor()": "round()"},
    "The places are rounded. At place 2.6 frame 2 is still on the screen: round down, with floor.",
)
frame_indices.edit(
    "whole steps",
    {"k * step": "k * int(step)"},
    "The step is made whole first, and the clip drifts. Multiply by k, then round down.",
)
frame_indices.edit("start ignored", {"start + k": "k"}, "The clip always begins at frame 0: add start.")
frame_indices.edit(
    "spread over the recording",
    {"start + k * step": "torch.linspace(start, available - 1, frames)"},
    "The frames are spread over the whole recording, so the speed depends on its length. Keep to the step.",
)
frame_indices.edit(
    "float32",
    {", dtype=torch.float64": ""},
    "In float32 only seven digits are kept, and late in a recording that is too few. Compute in float64.",
)
frame_indices.edit(
    "steps until an end",
    {"start + k * step": "torch.arange(start, start + frames * step, step, dtype=torch.float64)"},
    "Steps up to an end that is computed: by rounding, there is sometimes one too many. Count k = 0 .. frames - 1.",
)
frame_indices.edit(
    "last frame repeated",
    {"needed > available": "False", "return indices": "return indices.clamp(max=available - 1)"},
    "Where the recording ends, its last frame is repeated. Then a network learns that motion stops at the end of "
    "clips. Refuse: raise a ValueError.",
)
frame_indices.edit(
    "off by one at the end",
    {"needed > available": "needed > available + 1"},
    "A recording that lacks one frame is accepted. With n frames the last one has the index n - 1.",
)
frame_indices.edit(
    "a step too strict",
    {"indices[-1].item()": "int(start + frames * step)"},
    "A recording that is just long enough is refused. After the last frame no further step is needed.",
)
frame_indices.edit(
    "small steps allowed",
    {"step >= 1": "step > 0"},
    "A step below 1 gives some frames twice, and a clip that stutters. Refuse it, too.",
)
frame_indices.edit(
    "an error without numbers",
    {"{needed} frames, the recording has {available}": "more"},
    "The refusal is right, but its message does not help. Say how many frames are needed, which is the last index + 1, "
    "and how many there are.",
)
