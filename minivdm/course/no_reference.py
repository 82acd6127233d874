"""A check asks for the learner's own code: minivdm's version of the same piece must not do the work.

While the learner's version is being looked at, the package's function of that name (or the methods of its class) raises
instead of answering, whichever way the code has come by it.
"""

import contextlib
import inspect

from . import sources
from .method_transplant import functions_in, vars_of
from .originals import reference, resolve


class ReferenceUsed(Exception):
    """The learner's version called minivdm's own instead of doing the work."""


def refuse_call(*args, **kwargs):
    from minivdm.course.no_reference import ReferenceUsed

    raise ReferenceUsed("this calls minivdm's own version of the piece: write one of your own")


def own_functions(piece):
    """The functions behind minivdm's present version of a piece and behind the reference."""
    wanted = sources.exercises().get(piece.name, {}).get("methods")
    found = []
    for made in (reference(piece.name), resolve(piece.name)[2]):
        if inspect.isclass(made):
            parts = [value for key, value in vars_of(made).items() if wanted is None or key in wanted]
            found += [function for part in parts for function in functions_in(part)]
        else:
            found.append(made)
    return {id(plain): plain for plain in map(inspect.unwrap, found) if hasattr(plain, "__code__")}.values()


def is_reference(piece):
    """Whether the learner's version *is* minivdm's, or a subclass that adds nothing to it."""
    if not piece.is_class:
        mine = getattr(inspect.unwrap(piece.target), "__code__", None)
        return any(mine is own.__code__ for own in own_functions(piece))  # a kept copy of the same text only equals it
    return resolve(piece.name)[2] in piece.target.__mro__ or reference(piece.name) in piece.target.__mro__


@contextlib.contextmanager
def no_reference(piece):
    """Have minivdm's own version raise `ReferenceUsed` for as long as the block runs."""
    # A function with a closure cannot take another's code; such a piece is left as it is.
    functions = [function for function in own_functions(piece) if not function.__code__.co_freevars]
    before = [function.__code__ for function in functions]
    try:
        for function in functions:
            function.__code__ = refuse_call.__code__
        yield
    finally:
        for function, code in zip(functions, before):
            function.__code__ = code
