"""Which of the learner's own pieces lie below a piece, so that a mistake in one of them can fail the other's check.

A piece names what it calls, as globals of its code. From there the search goes on: through the notebook's helpers,
through minivdm, and through the learner's other pieces, in the notebook or kept in `my_pieces/`.
"""

import dis
import inspect

from . import kept_pieces, sources
from .method_transplant import content_of, functions_in
from .originals import reference, resolve
from .pieces import codes, piece_of


def piece_dependencies(piece):
    """The learner's pieces that run when this one does, in the order of the course.

    A cell that does not parse, or that a check has rejected, is none of them: the reference runs in its place.
    """
    found, seen, todo = {}, set(), [piece.target]
    for value in todo:
        for used in named_in(value):
            if id(used) in seen:
                continue
            seen.add(id(used))
            mine = piece_of(used) or kept_piece(used)
            absent = mine and (mine.syntax_error or mine.rejected)
            if mine and not absent and mine.name != piece.name:
                found.setdefault(mine.name, mine)
            todo += [] if absent else [used]
            todo += [reference(mine.name)] if absent or mine and mine.open else []
    order = list(sources.exercises())
    return sorted(found.values(), key=lambda each: order.index(each.name) if each.name in order else len(order))


def kept_piece(value):
    """The Piece behind a function or class of minivdm in whose place a kept file runs, else None."""
    name = next((name for name in kept_pieces.installed if resolve(name)[2] is value), None)
    return kept_pieces.kept(name) if name else None


def named_in(value):
    """The functions and classes of minivdm and of the notebook that a function's or class's code names."""
    is_class = inspect.isclass(value)
    found = list(value.__bases__) if is_class else []
    for attribute in vars(value).values() if is_class else [value]:
        for function in map(inspect.unwrap, functions_in(attribute)):
            found += [content_of(cell) for cell in function.__closure__ or ()]
            found += [global_of(function, name) for name in sorted(names_read(function))]
    return [each for each in found if is_ours(each)]


def names_read(function):
    """The names of the globals that a function's code reads, functions inside it included."""
    steps = (step for code in codes(function) for step in dis.get_instructions(code))
    return {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}


def global_of(function, name):
    """What a function would find under a global name, else None."""
    try:
        return function.__globals__[name]
    except (KeyError, AttributeError, ImportError):
        return None


def is_ours(value):
    """Whether a value is a function or class of the notebook or of minivdm, the course's machinery apart."""
    module = getattr(value, "__module__", None) or ""
    ours = module == "__main__" or module.startswith("minivdm.") and not module.startswith("minivdm.course")
    return ours and (inspect.isclass(value) or inspect.isfunction(value))
