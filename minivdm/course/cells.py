"""A cell that Python cannot even parse should not stop the chapter.

Jupyter would stop at the first `SyntaxError`. So `start` registers a transformer: a cell with `@piece("...")` that does
not parse is replaced by one line that shows the error's card and defines the piece as not solved.
"""

import re
import warnings

PIECE = re.compile(r"""^\s*@(?:\w+\.)?piece\(\s*["']([\w.]+)["']\s*\)""", re.MULTILINE)
ALLOW_AWAIT = 0x2000  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT: notebooks may await at the top


def running_shell():
    """The running IPython, or None."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()


def register():
    """Watch the cells of the running IPython for broken pieces; a no-op elsewhere."""
    shell = running_shell()
    if shell is not None and replace_broken not in shell.input_transformers_post:
        shell.input_transformers_post.append(replace_broken)


def replace_broken(lines):
    """The cell's lines, or, if it holds a piece and does not parse, one that shows why."""
    text = "".join(lines)
    names = PIECE.findall(text)
    if not names:
        return lines
    error = syntax_error(text, lines)
    if error is None:
        return lines
    shorts = [name.rpartition(".")[2] for name in names]
    call = f'__import__("minivdm.course.broken", fromlist=["broken"]).broken({names!r}, {error!r})'
    return [f"{', '.join(shorts)}, = {call}\n"]


# IPython asks "is this cell complete?" while it is being typed: a half-typed piece must then stay as it is.
replace_broken.has_side_effects = True


def syntax_error(text, lines=None):
    """What is wrong with a cell's syntax: the line's number, the line and a caret. None if it is fine."""
    try:
        python = without_magics(lines) if lines else text
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(python, "cell", "exec", flags=ALLOW_AWAIT, dont_inherit=True)
    except SyntaxError as error:
        line = (error.text or "").rstrip("\n")
        caret = " " * max((error.offset or 1) - 1, 0) + "^"
        shown = f"\n{line}\n{caret}" if line.strip() else ""
        return f"{type(error).__name__}: {error.msg}, line {error.lineno} of the cell{shown}"
    except ValueError as error:  # such as a null byte
        return f"SyntaxError: {error}"
    return None


def without_magics(lines):
    """The cell as IPython will run it, its `%magics` turned into calls."""
    from IPython import get_ipython

    shell = get_ipython()
    return "".join(shell.input_transformer_manager.do_token_transforms(lines) if shell else lines)
