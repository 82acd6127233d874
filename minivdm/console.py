"""How minivdm's programs talk and end: text for any terminal, one line for what went wrong, and an exit code.

0      done
2      it could not be done: one line on stderr says why
130    stopped by Ctrl-C, 143 by SIGTERM: one line, and nothing is left half-written
141    nobody reads stdout any more, as in `... | head`: not a word, as is usual
"""

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TextIO

NOBODY_READS = 141  # 128 + SIGPIPE, what a shell says of a program that has written to nobody


class Terminated(KeyboardInterrupt):
    """SIGTERM came, as from a batch system whose time is up."""

    exit_code = 128 + signal.SIGTERM


def run_program(work: Callable[[], int], advice: str = "") -> int:
    """Run `work`, which returns an exit code, and answer for whatever it may end with; returns the exit code.

    Args:
        work: the program. Its `SystemExit` (of argparse) is an exit code, too.
        advice: what to do if the memory is too small, to be put behind that message.

    Raises:
        Exception: what is neither bad input nor an accident of the machine is a bug, and keeps its traceback.
    """
    take_any_text()
    try:
        with sigterm_interrupts():
            code = work()
    except SystemExit as stop:
        code = stop.code
    except KeyboardInterrupt as stop:
        code = report(one_line(stop) or "stopped", getattr(stop, "exit_code", 128 + signal.SIGINT))
    except BrokenPipeError:
        code = NOBODY_READS
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        nameless = isinstance(error, OSError) and error.errno is not None and error.filename is None
        lost = flush(sys.stdout, "\n") if nameless else None  # files name themselves, stdout does not
        code = answer_for_stdout(lost) if lost else report(f"error: {one_line(error)}", 2)
    except (RuntimeError, MemoryError) as error:
        text = one_line(error).split(". ")[0] or "not enough memory"
        kind = type(error).__name__  # torch's own is not worth importing torch for; on a CPU it has none
        if kind not in ("OutOfMemoryError", "MemoryError") and "can't allocate memory" not in text:
            raise
        code = report(f"error: {text}{advice}", 2)
    lost = flush(sys.stdout)
    return answer_for_stdout(lost) if lost and not code else code


def answer_for_stdout(lost: OSError) -> int:
    """The exit code of a program whose output was lost."""
    return NOBODY_READS if isinstance(lost, BrokenPipeError) else report(f"error: stdout: {lost.strerror}", 2)


def take_any_text() -> None:
    r"""Let stdout and stderr take any text: what their encoding lacks is written as "\xfc"; closed ones drop all."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell, as in `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Within the block SIGTERM is a `KeyboardInterrupt`, `Terminated`, so that all is tidied up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends the program at once
        raise Terminated

    before = signal.getsignal(signal.SIGTERM)
    alone = threading.current_thread() is not threading.main_thread()  # only the main thread can hear signals
    if alone or before == signal.SIG_IGN:  # whoever has started it wants none of them heard
        yield
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def report(line: str, code: int) -> int:
    """Write a line to stderr and return the exit code; under torchrun, the line says which process it comes from."""
    several = "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"
    text = f"process {os.environ['RANK']}: {line}" if several else line
    flush(sys.stderr, f"{text}\n")  # in one piece: no other process can write between a line and its end
    return code


def flush(stream: TextIO, text: str = "") -> OSError | None:
    """Write what a stream holds back, and `text`; the error if that fails, after which the stream leads nowhere.

    Else Python would try again when it ends, and put words and an exit code of its own in the place of ours.
    """
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None


def one_line(error: BaseException) -> str:
    """The text of an exception without line breaks."""
    return " ".join(str(error).split())
