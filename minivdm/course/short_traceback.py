"""A short traceback: only the learner's own lines, and the message."""

import linecache
import sysconfig
from pathlib import Path

from .sources import PACKAGE

LIBRARIES = tuple({sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")})


def learner_frames(error, start=None):
    """(filename, line number) of the frames that are neither the package's nor a library's, outermost first."""
    guard_file = str(Path(__file__).with_name("guard.py"))
    frames, inside, trace = [], False, error.__traceback__
    while trace:
        file = trace.tb_frame.f_code.co_filename
        inside = inside or file == guard_file  # what lies above the guard is the check and the notebook's machinery
        if inside and not file.startswith((str(PACKAGE), "<frozen", *LIBRARIES)):
            frames.append((file, trace.tb_lineno))
        trace = trace.tb_next
    return frames


def short_trace(error):
    """The learner's lines that led to the exception, and its type and message."""
    frames = learner_frames(error)
    if len(frames) > 6:
        skipped = len(frames) - 4
        frames = [*frames[:2], f"… {skipped:,} more calls", *frames[-2:]]
    lines = [frame if isinstance(frame, str) else shown(*frame) for frame in frames]
    message = str(error)
    return "\n".join([*lines, f"{type(error).__name__}: {message}" if message else type(error).__name__])


def shown(file, number):
    """ "line 3:  return x + y", with the file's name if it is one."""
    name = Path(file).name
    is_cell = "ipykernel" in file or not name.endswith(".py") or name[:-3].isdigit()
    place = f"line {number}" if is_cell else f"{name}, line {number}"
    return f"{place}:  {linecache.getline(file, number).strip()}"
