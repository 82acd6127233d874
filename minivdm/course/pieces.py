"""Pieces: the learner's own version of a function or class of minivdm.

`@piece("forward_process.q_sample")` above a function in a notebook says which part of `minivdm` it stands for. As long
as its body still raises `NotImplementedError("Exercise 1.3: ...")`, a call runs the reference and says so once, so that
the chapter goes on. A body that is finished but wrong is *not* replaced: the learner sees their own result.
"""

import functools
import inspect
import re

from . import sources
from .mending import unchanged
from .method_transplant import functions_in, map_functions, transplant, vars_of
from .originals import made_again, reference

latest = {}  # piece name -> the learner's most recent Piece in this process
quiet = {"on": False}  # set while a check runs: what falls back then says so when the notebook itself calls it


def piece(name):
    """Mark the function or class below as the learner's version of `minivdm.<name>`.

    Args:
        name: "module.object" inside minivdm, such as "forward_process.q_sample".

    Returns:
        A decorator. A decorated function comes back in a wrapper with its name, signature and `__wrapped__`; a class
        comes back itself, with the methods that are not written yet taken from the reference.

    Raises:
        ValueError: if minivdm has no such piece, or it is a class and the cell defines a function (or the reverse).
    """
    known = reference(name)

    def decorate(target):
        if inspect.isclass(known) != inspect.isclass(target):
            kinds = ("a class", "a function") if inspect.isclass(known) else ("a function", "a class")
            raise ValueError(f"{name} is {kinds[0]} in minivdm, but the cell defines {kinds[1]}")
        latest[name] = made = Piece(name, target)
        return made.usable()

    return decorate


def piece_of(value):
    """The Piece behind a wrapper or class that `@piece` returned, else None."""
    return getattr(value, "__dict__", {}).get("__minivdm_piece__")


class Piece:
    """One learner's function or class: what they wrote, and what runs where it is not written yet.

    Attributes:
        name: "forward_process.q_sample".
        target: the function or class as the learner wrote it.
        written: for a class, the learner's own version of each method that may fall back, by name.
        open: names of the functions (methods) whose body is still only the exercise's `raise`, or which are to be
            mended and still as they were given.
        given: those of the second kind.
        syntax_error: text of the error that kept the cell from running, else None.
        rejected: whether the reference takes all calls, because a check found the learner's version unusable.
        result: what the latest check answered, None before the first.
    """

    def __init__(self, name, target, syntax_error=None):
        self.name, self.target, self.syntax_error = name, target, syntax_error
        self.short = name.rpartition(".")[2]
        self.is_class = inspect.isclass(target)
        self.written, parts = {}, {self.short: [target]}
        if self.is_class:
            inside = {key: functions_in(value) for key, value in vars(target).items() if key in vars(reference(name))}
            parts = {key: functions for key, functions in inside.items() if any(map(may_be_unfinished, functions))}
            self.written = {key: vars(target)[key] for key in parts}
        settings = sources.exercises().get(name, {})
        self.given = unchanged(target, name) if settings.get("kind") == "mend" and not syntax_error else []
        if self.is_class:
            self.written |= {key: vars(target)[key] for key in self.given}
        self.open = [key for key, functions in parts.items() if any(map(is_stub, functions))] + self.given
        messages = [unfinished_message(function) for functions in parts.values() for function in functions]
        self.number = settings.get("exercise") or number_in(messages)
        self.announced, self.rejected, self.result = False, False, None

    @property
    def label(self):
        """ "Exercise 1.3 (q_sample)", or the bare name where no chapter numbers it."""
        return f"Exercise {self.number} ({self.short})" if self.number else self.short

    def usable(self):
        """The object for the notebook: runs the learner's code where it is written, else the reference."""
        known = reference(self.name)
        if not self.is_class:
            made = self.with_fallback(self.target, known, bool(self.given))
        else:
            made = self.target
            instead = transplant(made_again(self.name), made, self.written) if self.written else {}
            for key, attribute in self.written.items():
                known_part, given = functions_in(instead[key])[0], key in self.given
                fallback = functools.partial(self.with_fallback, fallback=known_part, given=given)
                setattr(made, key, map_functions(attribute, fallback))
        made.__minivdm_piece__ = self
        return made

    def reject(self):
        """Let the reference take all calls: this version raises, never ends, or returns something of another kind."""
        self.rejected = True
        known = transplant(made_again(self.name), self.target) if self.is_class else {}
        for key, attribute in known.items():
            if functions_in(attribute) and key in vars(self.target):
                self.written.setdefault(key, vars(self.target)[key])
                fallback = functools.partial(self.with_fallback, fallback=functions_in(attribute)[0])
                setattr(self.target, key, map_functions(attribute, fallback))

    def accept(self):
        """Undo `reject`: a later check passed, for example because a missing helper is there now."""
        if self.rejected:
            self.rejected = False
            for key, attribute in self.written.items():
                setattr(self.target, key, attribute)
            self.usable()

    def with_fallback(self, function, fallback, given=False):
        """`function`, except that `fallback` takes the call where it is not written yet, or still as it was given."""
        stub = given or is_stub(function)

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            if not stub and not self.rejected:
                try:
                    return function(*args, **kwargs)
                except NotImplementedError as error:
                    if not is_unfinished(error, function):
                        raise
            self.tell()
            return fallback(*args, **kwargs)

        return wrapper

    def tell(self):
        """Say once that the reference runs instead."""
        if not self.announced and not quiet["on"]:
            self.announced = True
            still = "is not mended yet" if self.given else "is not solved yet"
            state = "cannot be used as it is" if self.rejected else still
            print(f"{self.label} {state}: the reference runs instead.")


def codes(function):
    """The code objects of a function below its decorators: its own and those of the functions inside it."""
    found = [getattr(inspect.unwrap(function), "__code__", None)]
    for code in found:
        found += [const for const in getattr(code, "co_consts", ()) if hasattr(const, "co_consts")]
    return [code for code in found if code]


def unfinished_message(function):
    """The text "Exercise ..." that the function may raise, else None."""
    raising = [code for code in codes(function) if "NotImplementedError" in code.co_names]
    texts = [const for code in raising for const in code.co_consts if isinstance(const, str)]
    return next((text for text in texts if text.startswith("Exercise ")), None)


def number_in(messages):
    """The exercise's number in messages such as "Exercise 1.3: ...", else None."""
    found = (re.match(r"Exercise ([\w.]*\w)", message or "") for message in messages)
    return next((match[1] for match in found if match), None)


def may_be_unfinished(function):
    """Whether the exercise's `raise` still stands anywhere in the function."""
    return unfinished_message(function) is not None


def is_stub(function):
    """Whether the exercise's `raise` is all that the function does."""
    code = (codes(function) or [None])[0]
    if code is None or code.co_names != ("NotImplementedError",) or not may_be_unfinished(function):
        return False
    stars = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return code.co_nlocals == code.co_argcount + code.co_kwonlyargcount + stars


def is_unfinished(error, function):
    """Whether `error` is the exercise's own `raise`, reached in this very function."""
    if not isinstance(error, NotImplementedError) or not str(error).startswith("Exercise "):
        return False
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    return trace.tb_frame.f_code in codes(function)


def own_methods(piece):
    """A class piece's attributes as the learner wrote them, without any fallback."""
    return {**vars_of(piece.target), **piece.written}
