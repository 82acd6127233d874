"""What runs in place of a cell that does not parse."""

import functools
import inspect

from . import pieces
from .checking import Result, finish
from .classes import copy_class


def broken(names, error):
    """Show the card of a syntax error, and return each piece of the cell as one that is not solved.

    Args:
        names: the pieces in the cell, such as ["diffusion.q_sample"].
        error: the syntax error, in words.
    """
    made = [unsolved(name, error) for name in names]
    for each in made:
        piece = pieces.piece_of(each)
        finish(Result("error", piece.name, piece.number, error))
    return made


def unsolved(name, error=None):
    """A piece that nobody has written: every call runs the reference."""
    known = pieces.reference(name)
    if inspect.isclass(known):
        made = target = copy_class(known)
    else:
        target = known

        @functools.wraps(known)
        def made(*args, **kwargs):
            piece.tell()
            return known(*args, **kwargs)

    piece = pieces.latest[name] = pieces.Piece(name, target, syntax_error=error)
    made.__minivdm_piece__ = piece
    return made
