"""From a piece's source in the package to a notebook's cell: whole for the solution, a task for the student.

The package's files are read as text, so a cell shows exactly what stands there, comments included. The student is given
a stub, or for an exercise of the kind "mend" the same code with a known mistake in it.
"""

import ast
from pathlib import Path

from .docstrings import with_changes, without_sections
from .sources import PACKAGE, modules

# What an exercise asks for, and how the title of its cell says so: to write a piece, to find what is wrong with one and
# mend it, to write what tells wrong ones from right ones, to reach a measured target, to derive a formula.
KINDS = {"write": "", "mend": "mend it", "find": "find it", "design": "design it", "derive": "derive it"}


class BuildError(Exception):
    """One line about a mistake in a chapter's source."""


def code_of(root, chapter, settings, solution, mistake=None):
    """The code of a piece cell.

    Args:
        root: the repository; its `minivdm/` is read, or the installed package where it has none.
        chapter: the source's name, for error messages.
        settings: the cell's `piece`; for an exercise also `exercise`, `points`, `minutes`; for a class `methods`, those
            to be written; and where they apply `kind`, one of `KINDS`; `mend`, the label of the mistake that the
            student is given, an edit of this exercise's check; `hide`, a list of sections of the docstring that the
            student does not get, such as "Equation".
        solution: whether to show the reference, or what the student is given.
        mistake: for an exercise of the kind "mend", what the student's code differs in; see `with_changes`.

    Raises:
        BuildError: an unknown piece, method, mistake or section; a class without `methods`, or a function with them.
    """
    name, where = settings["piece"], f"{chapter}.py ({settings['piece']})"
    lines, node = definition_of(root, name, where)
    if "exercise" not in settings:
        return text_of(lines, node)
    stubbed = [node]
    if isinstance(node, ast.ClassDef):
        inside = {part.name: part for part in node.body if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef))}
        methods = settings.get("methods") or []
        unknown = [method for method in methods if method not in inside]
        if unknown or not methods:
            problem = (
                f"has no method {unknown[0]}" if unknown else 'is a class: which methods=["..."] are to be written?'
            )
            raise BuildError(f"{where}: {node.name} {problem}")
        stubbed = [inside[method] for method in methods]
    elif "methods" in settings:
        raise BuildError(f"{where}: methods= is for classes, and {node.name} is a function")
    if not solution and settings.get("kind") != "mend":
        for function in sorted(stubbed, key=lambda part: part.lineno, reverse=True):  # upwards: numbers stay right
            lines = with_stub(lines, function, node, settings["exercise"])
        node = find(lines, node.name)
    text = text_of(lines, node)
    if not solution:
        try:
            text = with_changes(text, mistake or {})
            text = without_sections(text, settings.get("hide", []))
        except KeyError as error:
            raise BuildError(f"{where}: mend= or hide= names {error}, which is not in the text of {name}") from None
    return f'{title_of(settings)}\n@piece("{name}")\n{text}\n\n\ncheck({node.name})'


def title_of(settings):
    """ "# Exercise 1.3 · mend it · 2 points · about 10 min"."""
    points = "1 point" if settings["points"] == 1 else f"{settings['points']} points"
    number, kind = f"# Exercise {settings['exercise']}", KINDS[settings.get("kind", "write")]
    return " · ".join(filter(None, [number, kind, points, f"about {settings['minutes']} min"]))


def definition_of(root, name, where=""):
    """The lines of a piece's module, and the ast node of its function or class."""
    module, _, attribute = str(name).rpartition(".")
    package = Path(root) / "minivdm"
    path = modules(package if package.is_dir() else PACKAGE).get(module)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path else []
    node = find(lines, attribute)
    if node is None:
        raise BuildError(f"{where or name}: minivdm has no function or class {name}")
    return lines, node


def find(lines, name):
    """The top-level function or class of that name, else None."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return next(
        (node for node in ast.parse("".join(lines)).body if isinstance(node, kinds) and node.name == name), None
    )


def text_of(lines, node):
    """The definition's text, decorators included."""
    start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return "".join(lines[start - 1 : node.end_lineno]).rstrip("\n")


def with_stub(lines, function, owner, exercise):
    """The lines with the function's body, below its docstring, replaced by the exercise's `raise`."""
    first = function.body[0]
    indent = " " * (function.col_offset + 4)
    name = function.name if function is owner else f"{owner.name}.{function.name}"
    raising = f'{indent}raise NotImplementedError("Exercise {exercise}: {name}")\n'
    if ast.get_docstring(function) is not None:
        head = lines[: first.end_lineno]
    else:
        start = min([first.lineno, *(part.lineno for part in getattr(first, "decorator_list", []))])
        before = lines[start - 1].encode()[: first.col_offset].decode()  # ast counts bytes
        head = lines[: start - 1] + ([before.rstrip() + "\n"] if before.strip("@ ") else [])
        while not head[-1].strip() or head[-1].lstrip().startswith("#"):  # a comment on the body
            head.pop()
    return [*head, raising, *lines[function.end_lineno :]]
