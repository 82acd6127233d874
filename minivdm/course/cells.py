"""Reading a cell's text: which pieces it holds, and whether Python can parse it."""

import ast
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


def calls(name, text):
    """The calls of a function in a text of Python, in order; lines of magics may stand in it.

    Raises:
        ValueError: if it is no Python.
    """
    if f"{name}(" not in text:
        return []
    lines = ["pass" if line.lstrip().startswith(("%", "!")) else line for line in text.splitlines()]
    try:
        nodes = [node for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.Call)]
    except SyntaxError as error:
        raise ValueError(f"a text with {name}(...) is no Python: {error}") from None
    found = [node for node in nodes if isinstance(node.func, ast.Name) and node.func.id == name]
    return sorted(found, key=lambda node: node.lineno)
