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
    enough = outcome(f, last + 1, n, *given)[0]
    yield equal("a recording that is just long enough", enough, want.tolist())
    for available, what in ((n, f"of {n} frames"), (last, "that lacks one frame"), (3, "of 3 frames")):
        yield equal(
            f"a recording {what}, of which {last + 1} are needed", outcome(f, available, n, *given)[0], "ValueError"
        )
    late = 2**24 + 1
    yield close(
        f"start {late}, too late for float32, which has no odd numbers there",
        f(10**8, n, 2, late),
        counted(n, 2, late),
        rtol=0,
    )
    for start, step, what in ((4 - 2**-22, 2, "start 4 - 2**-22"), (0, 3 - 2**-44, "step 3 - 2**-44")):
        got = f(90, n, step, start)
        yield close(f"{what}: just before the next frame, nothing is rounded up", got, counted(n, step, start))
    for fps, rate, late, n in [(30, 7, 1000.5, 10), (24, 11, 1000.5, 10), (12.5, 7, 1000, 60), (25, 11, 0, 60)]:
        want = counted(n, fps / rate, late)
        yield close(f"{n} frames, step {fps} / {rate}, start {late}", f(2000, n, fps / rate, late), want, rtol=0)
    yield close("one frame, all by keywords", f(available=5, frames=1, step=2.5, start=4.75), torch.tensor([4]))
    for wrong in [{"step": step} for step in (0.5, 0.99, 0, -1)] + [{"start": -1.0}, {"start": -0.25}, {"start": -60}]:
        yield raises(f"{wrong} is refused", ValueError, lambda wrong=wrong: f(90, 8, **wrong))
    for frames in (0, -1):
        yield raises(f"{frames} frames are refused", ValueError, lambda frames=frames: f(90, frames))
    step, n = 2.25, 8
    needed = int(counted(n, step, 0)[-1]) + 1
    text = outcome(f, needed - 1, n, step)[1]
    told = text is None or {needed, needed - 1} <= {int(number) for number in re.findall(r"\d+", text)}
    what = "the message says how many frames are needed and how many there are"
    yield holds(what, told, f"expected {needed} needed, {needed - 1} there; it says: {text}")


def outcome(f, *arguments):
    """What comes back, tensors as lists, and None; or the name of the exception and its message."""
    try:
        result = f(*arguments)
    except (ValueError, LookupError, AssertionError) as error:
        return type(error).__name__, str(error)
    return result.tolist() if torch.is_tensor(result) else result, None


frame_indices.promises(
    samples="there is no batch",
    dtype="answers whole numbers",
    layout="takes no tensors",
    device="takes no tensors",
    gradients="answers whole numbers",
)

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
frame_indices.edit(
    "start and steps rounded down each",
    {"(start + k * step).floor()": "int(start) + (k * step).floor()"},
    "start and k * step are rounded down one by one. Their fractions may add up to a frame: round down the sum.",
)
frame_indices.edit(
    "the step added again and again",
    {"(start + k * step)": "torch.tensor([start] + [step] * (frames - 1), dtype=torch.float64).cumsum(0)"},
    "The step is added again and again, and rounding errors pile up. Multiply: start + k * step.",
)
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
    "A recording that is just long enough is refused. The last index may be available - 1, and no step follows it.",
)
frame_indices.edit(
    "small steps allowed",
    {"step >= 1": "step > 0"},
    "A step below 1 gives some frames twice, and a clip that stutters. Refuse it, too.",
)
