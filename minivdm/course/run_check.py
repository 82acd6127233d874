"""Leading an implementation through a check, and comparing two ways through it: is this one of the known mistakes?"""

from dataclasses import dataclass

from .exercise import Draw
from .guard import Guard, InputChanged
from .how_it_differs import how_it_differs, of_error
from .originals import reference
from .sandbox import seed_everything

ENOUGH = 5  # failed probes tell one mistake from another: more of them would only repeat it, slowly


@dataclass
class Run:
    """One implementation's way through a check: its probes, what ended it early, and who was watching."""

    probes: list
    end: tuple | None  # ("raised", error), ("changed", path), ("unusable", error), ("stopped", why) or None
    guard: Guard

    @property
    def failed(self):
        """The first probe that failed, else None."""
        return next((probe for probe in self.probes if not probe.ok), None)

    def agrees(self, other):
        """Whether the other run had the same outcome at every probe."""
        return (
            len(self.probes) == len(other.probes)
            and self.outcome == other.outcome
            and all(mine.agree(theirs.got) for mine, theirs in zip(self.probes, other.probes))
        )

    def fails_like(self, other):
        """Whether the other run had the same outcomes up to the first failure, and gave the same wrong values there."""
        count = next((i for i, probe in enumerate(self.probes, 1) if not probe.ok), None)
        if count is None or len(other.probes) < count or other.probes[count - 1].ok or not self.failed.telling:
            return False
        return all(mine.agree(theirs.got) for mine, theirs in zip(self.probes[:count], other.probes))

    def follows(self, other):
        """Whether this run's latest probe came out as the other's did at that place."""
        at = len(self.probes) - 1
        return at < len(other.probes) and other.probes[at].agree(self.probes[at].got)

    @property
    def outcome(self):
        """What ended the run, comparable: exceptions count as equal when they say the same."""
        return self.end and (self.end[0], repr(self.end[1]) if isinstance(self.end[1], Exception) else self.end[1])


def run_probes(exercise, target, seed, methods=None, run=None, like=None):
    """Lead one implementation through a whole check, failures included; with `like`, while it follows that run."""
    run = run or Run([], None, Guard())
    seed_everything(seed + 2**31)  # no small seed that an answer may hold
    guarded = run.guard.wrap(target, methods, int(exercise.in_place))
    try:
        for probe in exercise.probes(guarded, Draw(seed)):
            probe.given = run.guard.given
            run.probes.append(probe)
            if like and not run.follows(like):
                run.end = ("stopped", "it went another way")
                return run
            if sum(not each.ok for each in run.probes) == ENOUGH:
                run.end = ("stopped", "enough has failed")
                return run
        run.end = run.guard.changed and ("changed", run.guard.changed.path)
    except InputChanged as error:
        run.end = ("changed", error.path)
    except Exception as error:
        run.end = ("raised" if error is run.guard.error else "unusable", error)
    except SystemExit as error:
        run.end = ("raised", RuntimeError(f"the code called exit({error.code!r})").with_traceback(error.__traceback__))
    return run


def general_hint(run):
    """How the first wrong values differ from the expected ones, in a sentence; "" if nothing simple explains them."""
    probe, (kind, error) = run.failed, run.end or (None, None)
    if not probe and kind == "raised":
        return of_error(error, run.guard.given)
    return how_it_differs(probe.got, probe.want, probe.given) if probe and probe.want is not None else ""


def works(exercise, seed):
    """Whether the reference gets through the check with these inputs: then the check is not at fault."""
    return run_probes(exercise, reference(exercise.name), seed).end is None


def matching_hint(exercise, run, seed):
    """The hint of the misconception whose outcomes are the learner's at every probe, or up to the first failure.

    The second case is a learner who made this mistake and another one besides, which shows later.
    """
    similar = ""
    for label, hint, _ in exercise.misconceptions:
        wrong = run_probes(exercise, exercise.wrong(label), seed, like=run)
        if run.agrees(wrong):
            return hint
        similar = similar or (hint if run.fails_like(wrong) else "")
    return similar
