"""`check(q_sample)`: does the learner's piece have the properties it should?

The answer is *not attempted*, *passed*, *wrong* (the first property that fails, and a hint where the mistake is a known
one) or *error* (the learner's own traceback). It is shown as a card and never raised, except under `MINIVDM_STRICT=1`.
"""

import os
import secrets
import time
from dataclasses import dataclass, field

from . import kept_pieces, result_view
from .checks import find
from .dependencies import piece_dependencies
from .guard import Guard
from .method_transplant import functions_in
from .no_reference import is_reference, no_reference
from .originals import reference, signature_of
from .pieces import is_unfinished, own_methods, piece_of, quiet
from .probes import describe
from .run_check import Run, general_hint, matching_hint, run_probes, works
from .sandbox import TimeUp, captured, flush, random_state_kept, time_limit
from .short_traceback import learner_frames, short_trace, shown


class CheckFailed(AssertionError):
    """Under `MINIVDM_STRICT=1`: a check that did not pass."""


@dataclass
class Result:
    """The answer of a check; true if it passed.

    Attributes:
        status: "not attempted", "passed", "wrong" or "error".
        name: the piece, such as "forward_process.q_sample".
        exercise: its number, such as "1.3", or None.
        message: what went wrong, in words and numbers.
        hint: what is probably the cause, or "".
        notes: further lines.
        printed: what the learner's code printed, folded.
        seconds: how long it took.
        seed: draws the same inputs again.
        usable: False if what the code returns is not even the right kind of thing.
    """

    status: str
    name: str
    exercise: str | None = None
    message: str = ""
    hint: str = ""
    notes: list = field(default_factory=list)
    printed: str = ""
    seconds: float = 0.0
    seed: int | None = None
    usable: bool = True

    def __bool__(self):
        return self.status == "passed"

    @property
    def short(self):
        """The name without its module."""
        return self.name.rpartition(".")[2]

    def _ipython_display_(self):
        """Nothing: the card is on the screen already."""


def check(target, seed=None):
    """Check a piece, show the answer, and keep the piece if it passed.

    Args:
        target: what `@piece` decorated.
        seed: an int to draw the same inputs again; new ones each time otherwise.

    Returns:
        A `Result`, true if the piece passed.

    Raises:
        CheckFailed: only under `MINIVDM_STRICT=1`, for anything but "passed".
    """
    piece = piece_of(target)
    if piece is None:
        name = getattr(target, "__name__", type(target).__name__)
        message = "check() takes the function or class below an @piece(...) line, such as check(q_sample)."
        return finish(Result("error", name, message=message))
    began = time.perf_counter()
    result = examine(piece, seed)
    result.seconds = time.perf_counter() - began
    if result:
        piece.accept()
    if result and kept_pieces.settings["keep"]:
        result.notes.append(kept_pieces.keep_piece(piece))
    elif result.status in ("wrong", "error"):
        note_failing_dependency(result, piece)
        result.notes.append(what_runs(piece, result))
    return finish(result)


def finish(result):
    """Show the card; under `MINIVDM_STRICT=1` raise unless it says "passed"."""
    flush()
    result_view.show(result)
    if os.environ.get("MINIVDM_STRICT") == "1" and not result:
        raise CheckFailed(result_view.as_text(result))
    return result


def examine(piece, seed=None, hints=True):
    """The `Result` of a piece's check, without showing or keeping anything."""
    seed = secrets.randbelow(2**31) if seed is None else seed
    result = piece.result = Result("not attempted", piece.name, piece.number, seed=seed)
    if piece.syntax_error:
        result.status, result.message = "error", piece.syntax_error
        return result
    if piece.open:
        parts = f": {', '.join(piece.open)}" if piece.is_class else ""
        if piece.given:
            result.message = f"still as it was given, and that is broken{parts}"
        elif piece.is_class:
            result.message = f"still to write{parts}"
        return result
    seconds = float(os.environ.get("MINIVDM_CHECK_SECONDS", 60))
    run = Run([], None, Guard())
    exercise = find(piece.name)
    if exercise is None:
        result.status, result.message = "error", f"there is no check for {piece.name}"
        return result
    if is_reference(piece):
        result.status, result.message = "wrong", f"this is minivdm's own {piece.short}: write one of your own"
        return result
    with random_state_kept(), captured() as printed:
        quiet["on"] = True
        try:
            with time_limit(seconds):
                with no_reference(piece):
                    run_probes(exercise, piece.target, seed, own_methods(piece) if piece.is_class else None, run)
                result.printed = printed.text
                decide(result, run, piece, exercise, seed)
                if hints and result.status in ("wrong", "error"):
                    result.hint = matching_hint(exercise, run, seed) or general_hint(run)
        except KeyboardInterrupt as error:
            if result.status == "not attempted":  # else only the search for a hint was cut short
                interrupted(result, run, error, seconds)
            result.printed = result.printed or printed.text
        except Exception as error:
            result.status, result.message = "error", f"the check itself failed; please report\n{short_report(error)}"
        finally:
            quiet["on"] = False
    return result


def decide(result, run, piece, exercise, seed):
    """Fill a result in from the learner's run."""
    kind, what = run.end or (None, None)
    targets = own_methods(piece).values() if piece.is_class else [piece.target]
    if kind == "raised" and any(is_unfinished(what, part) for part in functions_of(targets)):
        result.message = f"the body still reaches its `raise NotImplementedError`: {what}"
    elif run.failed:
        result.status, result.message = "wrong", failure(run.failed)
        result.usable = run.failed.usable
    elif kind == "changed":
        result.status, result.message = "wrong", str(run.guard.changed)
    elif kind == "raised":
        result.status, result.message = "error", short_trace(what)
        if isinstance(what, TypeError) and not learner_frames(what) and not piece.is_class:
            result.message += f"\nits signature should be {piece.short}{signature_of(reference(piece.name))}"
    elif kind == "unusable" and works(exercise, seed):
        returned = describe(run.guard.returned)
        result.status, result.usable = "wrong", False
        result.message = f"the check cannot use what came back: {returned}\n{type(what).__name__}: {what}"
    elif kind == "unusable":
        raise what
    elif not run.probes:
        raise ValueError(f"the check of {piece.name} looks at nothing")
    else:
        result.status, result.message = "passed", ""


def failure(probe):
    """A failed probe in words; what takes several lines begins below its title."""
    return probe.what + (":\n" if "\n" in probe.message else ": ") + probe.message


def functions_of(attributes):
    """All functions inside class attributes, or the functions themselves."""
    return [function for attribute in attributes for function in functions_in(attribute) or [attribute]]


def what_runs(piece, result):
    """Decide whether the chapter can go on with a version that does not pass, and say so in a line."""
    kept = ""
    if piece.name in kept_pieces.installed:
        kept = " Inside minivdm your earlier version, which passed, goes on running."
    if result.status == "error" or not result.usable:
        piece.reject()
        return f"Until it passes, the reference runs in its place.{kept}"
    return f"Your version runs in this notebook as it is, so that you can see what it does.{kept}"


def interrupted(result, run, error, seconds):
    """Fill in the result of a check that was stopped, by the time limit or by hand."""
    if run.failed:
        result.status, result.message = "wrong", failure(run.failed)
        return
    frames = learner_frames(error)
    where = f"\n{shown(*frames[-1])}" if frames else ""
    late = isinstance(error, TimeUp)
    why = f"stopped after {seconds:g} s: does a loop never end?" if late else "interrupted"
    result.status, result.message = "error", f"{why}{where}"


def short_report(error):
    """Where a check itself failed."""
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    place = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}, line {trace.tb_lineno}"
    return f"{place}: {type(error).__name__}: {error}"


def note_failing_dependency(result, piece):
    """Where the first of the learner's pieces below this one does not pass, say so, and give no hint on this one."""
    for other in piece_dependencies(piece):
        known = other.result
        if known is None or known.status != "error":  # what never ends need not run out its time again
            known = examine(other, hints=False)
        if known.status in ("wrong", "error"):
            result.hint = ""
            result.notes.append(f"{other.label} does not pass yet and this one uses it: solve that one first.")
            return
