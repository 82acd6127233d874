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
    stride, start = draw.integers(2, 4), draw.integers(3, 7)
    want = counted(n, stride, start)
    yield close(f"{n} frames, step {stride}, start {start}", f(90, n, stride, start), want)
    step = eighths(draw, 1, 3)
    want = counted(n, step, 0)
    yield close(f"{n} frames, step {step}", f(90, n, step), want)
    step, start = eighths(draw, 1, 3), eighths(draw, 2, 6)
    want = counted(n, step, start)
    yield close(f"{n} frames, step {step}, start {start}", f(90, n, step, start), want)
    last = int(want[-1])
    yield close("a recording that is just long enough", f(last + 1, n, step, start), want)
    yield equal("a recording that lacks one frame", outcome(f, last, n, step, start), "ValueError")
    yield equal("a recording of 3 frames", outcome(f, 3, n, step, start), "ValueError")
    late = draw.integers(20_000, 30_000) + 0.9999
    yield close(f"start {late}, deep in a long recording", f(99_999, n, 2, late), counted(n, 2, late), rtol=0)
    fps, rate, late = draw.choice([(12.5, 7, 1000), (30, 7, 1000.5), (24, 11, 1000.5), (25, 9, 1000.5)])
    want = counted(10, fps / rate, late)
    yield close(f"10 frames, step {fps} / {rate}, start {late}", f(2000, 10, fps / rate, late), want, rtol=0)
    for what, wrong in {
        "step = 0.5, which would repeat frames": dict(step=0.5),
        "start = -1": dict(start=-1.0),
        "no frames": dict(frames=0),
    }.items():
        call = {"available": 90, "frames": n, **wrong}
        yield raises(what, ValueError, lambda call=call: f(**call))
    yield message(f, n, step)


def outcome(f, *arguments):
    """ "ValueError" if that is raised, else what comes back."""
    try:
        return f(*arguments)
    except ValueError:
        return "ValueError"


def message(f, n, step):
    """A probe: the error for too short a recording must say what was needed and what is there."""
    needed, text = int(counted(n, step, 0)[-1]) + 1, None
    try:
        f(needed - 1, n, step)
    except ValueError as error:
        text = str(error)
    told = text is None or {needed, needed - 1} <= {int(n) for n in re.findall(r"\d+", text)}
    return holds(
        "the message says how many frames are needed and how many there are",
        told,
        f"expected {needed} needed, {needed - 1} there; it says: {text}",
    )


def checked(available, frames, step, start, last):
    """The refusals, right."""
    if frames < 1 or step < 1 or start < 0 or last >= available:
        raise ValueError(f"needs {last + 1} frames, there are {available}")


def places(frames, step, start):
    """start + k step."""
    return start + torch.arange(frames, dtype=torch.float64) * step


def wrong(label, hint):
    """Add a misconception from a function that gives the indices; the refusals are right."""

    def add(indices):
        def made(available, frames, step=1.0, start=0.0):
            last = int(places(frames, step, start).floor()[-1]) if frames > 0 else 0
            checked(available, frames, step, start, last)
            return indices(available, frames, step, start)

        frame_indices.misconception(label, hint)(made)
        return indices

    return add


@wrong("rounded", "The places are rounded. At place 2.6 frame 2 is still on the screen: round down, with floor.")
def _(available, frames, step, start):
    return places(frames, step, start).round().long()


@wrong("whole steps", "The step is made whole first, and the clip drifts. Multiply by k, then round down.")
def _(available, frames, step, start):
    return places(frames, int(step), start).floor().long()


@wrong(
    "rounded twice",
    "start and k * step are rounded down separately, and two halves that make a whole are lost. Add first.",
)
def _(available, frames, step, start):
    return int(start) + places(frames, step, 0).floor().long()


@wrong("start ignored", "The clip always begins at frame 0: add start.")
def _(available, frames, step, start):
    return places(frames, step, 0).floor().long()


@wrong("step ignored", "These are frames in a row. From one to the next it is `step` frames of the recording.")
def _(available, frames, step, start):
    return places(frames, 1, start).floor().long()


@wrong(
    "spread over the recording",
    "The frames are spread over the whole recording, so the speed depends on its length. Keep to the step.",
)
def _(available, frames, step, start):
    return torch.linspace(start, available - 1, frames).floor().long()


@wrong("rounded up", "The places are rounded up. At place 2.6 frame 3 has not begun yet: round down, with floor.")
def _(available, frames, step, start):
    return places(frames, step, start).ceil().long()


@wrong("counted from 1", "The first frame is missing: k runs from 0 to frames - 1.")
def _(available, frames, step, start):
    return places(frames, step, start + step).floor().long()


@wrong("float32", "In float32 only seven digits are kept, and late in a recording that is too few. Compute in float64.")
def _(available, frames, step, start):
    return (start + step * torch.arange(frames)).floor().long()


@wrong(
    "steps until an end",
    "Steps up to an end that is computed: by rounding, there is sometimes one too many. Count k = 0 .. frames - 1.",
)
def _(available, frames, step, start):
    return torch.arange(start, start + frames * step, step, dtype=torch.float64).floor().long()


@wrong("another type", "The numbers are right, their type is not: indices are long (int64). End with .long().")
def _(available, frames, step, start):
    return places(frames, step, start).floor()


@frame_indices.misconception(
    "last frame repeated",
    "Where the recording ends, its last frame is repeated. Then a network learns that motion stops at the end of "
    "clips. Refuse: raise a ValueError.",
)
def _(available, frames, step=1.0, start=0.0):
    checked(available, frames, step, start, last=0)
    return places(frames, step, start).floor().long().clamp(max=available - 1)


@frame_indices.misconception(
    "from the beginning again",
    "Where the recording ends, it begins again: a jump that nobody filmed. Refuse: raise a ValueError.",
)
def _(available, frames, step=1.0, start=0.0):
    checked(available, frames, step, start, last=0)
    return places(frames, step, start).floor().long() % available


@frame_indices.misconception(
    "off by one at the end",
    "A recording that lacks one frame is accepted. With n frames the last one has the index n - 1.",
)
def _(available, frames, step=1.0, start=0.0):
    last = int(places(frames, step, start).floor()[-1]) if frames > 0 else 0
    checked(available, frames, step, start, last - 1)
    return places(frames, step, start).floor().long()


@frame_indices.misconception(
    "a step too strict",
    "A recording that is just long enough is refused. After the last frame no further step is needed.",
)
def _(available, frames, step=1.0, start=0.0):
    checked(available, frames, step, start, last=int(start + frames * step))
    return places(frames, step, start).floor().long()


@frame_indices.misconception(
    "small steps allowed",
    "A step below 1 gives some frames twice, and a clip that stutters. Refuse it, too.",
)
def _(available, frames, step=1.0, start=0.0):
    last = int(places(frames, step, start).floor()[-1]) if frames > 0 else 0
    checked(available, frames, max(step, 1), start, last)
    return places(frames, step, start).floor().long()


@frame_indices.misconception(
    "negative start allowed",
    "A negative start gives negative indices, and Python counts those from the end of the recording. Refuse it.",
)
def _(available, frames, step=1.0, start=0.0):
    last = int(places(frames, step, start).floor()[-1]) if frames > 0 else 0
    checked(available, frames, step, max(start, 0), last)
    return places(frames, step, start).floor().long()


@frame_indices.misconception(
    "an error without numbers",
    "The refusal is right, but its message does not help. Say how many frames are needed, which is the last index + 1, "
    "and how many there are.",
)
def _(available, frames, step=1.0, start=0.0):
    if frames < 1 or step < 1 or start < 0 or places(frames, step, start).floor()[-1] >= available:
        raise ValueError("too short")
    return places(frames, step, start).floor().long()
