"""From a piece's source in the package to a notebook's cell: whole for the solution, a stub for the student.

The package's files are read as text, so a cell shows exactly what stands there, comments included.
"""

import ast
from pathlib import Path

from .sources import PACKAGE, modules


class BuildError(Exception):
    """One line about a mistake in a chapter's source."""


def code_of(root, chapter, settings, solution):
    """The code of a piece cell.

    Args:
        root: the repository; its `minivdm/` is read, or the installed package where it has none.
        chapter: the source's name, for error messages.
        settings: the cell's `piece`, and for an exercise `exercise` and, for a class, `methods`.
        solution: whether to show the reference or the stub.

    Raises:
        BuildError: unknown piece or method; a class without `methods`, or a function with them.
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
    if not solution:
        for function in sorted(stubbed, key=lambda part: part.lineno, reverse=True):  # upwards: numbers stay right
            lines = with_stub(lines, function, node, settings["exercise"])
        node = find(lines, node.name)
    points = "1 point" if settings["points"] == 1 else f"{settings['points']} points"
    title = f"# Exercise {settings['exercise']} · {points} · about {settings['minutes']} min"
    return f'{title}\n@piece("{name}")\n{text_of(lines, node)}\n\n\ncheck({node.name})'


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
