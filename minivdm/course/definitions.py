"""The source of a function or class that a learner wrote, found again from the object itself."""

import ast
import inspect
import linecache
import textwrap

from .method_transplant import functions_in


class NotKept(Exception):
    """Why a piece cannot be written to a file of its own; for one, that its source cannot be found."""


def definition(value):
    """The source of a function or class without its `@piece` line, and the names visible to it.

    Raises:
        NotKept: if there is none, as for a lambda or code that was built by `exec`.
    """
    is_class = inspect.isclass(value)
    parts = [part for attribute in vars(value).values() for part in functions_in(attribute)] if is_class else [value]
    parts = [part for part in map(inspect.unwrap, parts) if inspect.isfunction(part)]
    for part in parts:
        lines = linecache.getlines(part.__code__.co_filename)
        found = enclosing(lines, value.__name__, part.__code__.co_firstlineno, is_class)
        if found:
            names = dict(part.__globals__)
            for each in parts:
                names.update(inspect.getclosurevars(each).nonlocals)
            return without_piece(lines, found), names
    raise NotKept(f"the source of `{getattr(value, '__name__', value)}` could not be found")


def enclosing(lines, name, number, is_class):
    """The def or class of that name around line `number`, as an ast node, else None."""
    try:
        tree = ast.parse("".join(lines))
    except SyntaxError:
        return None
    kinds = ast.ClassDef if is_class else (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds) and node.name == name]
    nodes = [node for node in nodes if first_line(node) <= number <= node.end_lineno]
    return max(nodes, key=first_line, default=None)  # the innermost


def first_line(node):
    """The line of a definition's first decorator, or of the definition."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def without_piece(lines, node):
    """The definition's text at the left margin, without its `@piece(...)` line."""
    dropped = set()
    for decorator in node.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if ast.unparse(called).split(".")[-1] == "piece":
            dropped.update(range(decorator.lineno, decorator.end_lineno + 1))
    kept = [line for number, line in enumerate(lines, 1) if number not in dropped]
    start = first_line(node) - 1 - sum(number < first_line(node) for number in dropped)
    return textwrap.dedent("".join(kept[start : node.end_lineno - len(dropped)])).rstrip()
