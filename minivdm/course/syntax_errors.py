"""A cell that Python cannot even parse should not stop the chapter.

Jupyter would stop at the first `SyntaxError`. So `start` registers a transformer: a cell with `@piece("...")` that does
not parse is replaced by one line that shows the error's card and defines the piece as not solved.
"""

import functools
import inspect

from . import pieces
from .cells import PIECE, running_shell, syntax_error
from .checking import Result, finish
from .originals import made_again, reference


def register():
    """Watch the cells of the running IPython for broken pieces; a no-op elsewhere."""
    shell = running_shell()
    if shell is not None and replace_unparsable not in shell.input_transformers_post:
        shell.input_transformers_post.append(replace_unparsable)


def replace_unparsable(lines):
    """The cell's lines, or, if it holds a piece and does not parse, one that shows why."""
    text = "".join(lines)
    names = PIECE.findall(text)
    if not names:
        return lines
    error = syntax_error(text, lines)
    if error is None:
        return lines
    shorts = [name.rpartition(".")[2] for name in names]
    call = f'__import__("minivdm.course.syntax_errors", fromlist=["pieces"]).show_syntax_error({names!r}, {error!r})'
    return [f"{', '.join(shorts)}, = {call}\n"]


# IPython asks "is this cell complete?" while it is being typed: a half-typed piece must then stay as it is.
replace_unparsable.has_side_effects = True


def show_syntax_error(names, error):
    """Show the card of a syntax error, and return each piece of the cell as one that is not solved.

    Args:
        names: the pieces in the cell, such as ["forward_process.q_sample"].
        error: the syntax error, in words.
    """
    made = [unsolved(name, error) for name in names]
    for each in made:
        piece = pieces.piece_of(each)
        finish(Result("error", piece.name, piece.number, error))
    return made


def unsolved(name, error=None):
    """A piece that nobody has written: every call runs the reference."""
    known = reference(name)
    if inspect.isclass(known):
        made = target = made_again(name)
    else:
        target = known

        @functools.wraps(known)
        def made(*args, **kwargs):
            piece.tell()
            return known(*args, **kwargs)

    piece = pieces.latest[name] = pieces.Piece(name, target, syntax_error=error)
    made.__minivdm_piece__ = piece
    return made
