"""A piece's text and the docstrings in it: leave them out, change only what is around them, or hide a section.

A section begins with a line that is one word and a colon, at the docstring's own indent, and goes on up to the next one
or to the closing quotes, which stand on a line of their own:

    Equation:
        x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps

    Args:
        x0: ...
"""

import ast
import re

SECTION = re.compile(r"^([A-Z]\w*):$")
QUOTES = ('"""', "'''")


def docstring_lines(text):
    """Where the docstrings stand, from top to bottom: half-open ranges of line numbers, from 0."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds) and ast.get_docstring(node)]
    return sorted((node.body[0].lineno - 1, node.body[0].end_lineno) for node in nodes)


def without_docstrings(text):
    """The text with an empty string in each docstring's place."""
    lines = text.splitlines(keepends=True)
    for first, last in reversed(docstring_lines(text)):
        lines[first:last] = [f'{indent_of(lines[first])}""\n']
    return "".join(lines)


def indent_of(line):
    """The blanks before a line's first letter."""
    return line[: len(line) - len(line.lstrip())]


def with_changes(text, changes):
    """The text with some of its code exchanged, docstrings left alone.

    Args:
        text: a definition.
        changes: dict from what stands in the code to what is to stand there.

    Raises:
        KeyError: the first text to be changed that the code does not hold.
    """
    lines, parts, at = text.splitlines(keepends=True), [], 0
    for first, last in docstring_lines(text):
        parts += ["".join(lines[at:first]), "".join(lines[first:last])]
        at = last
    parts.append("".join(lines[at:]))  # code and docstrings take turns
    for old, new in changes.items():
        if not any(old in code for code in parts[::2]):
            raise KeyError(old)
        parts[::2] = [code.replace(old, new) for code in parts[::2]]
    return "".join(parts)


def without_sections(text, names):
    """The text without the sections of these names, in any of its docstrings.

    Raises:
        KeyError: the first name of which there is no section.
    """
    lines, found = text.splitlines(keepends=True), set()
    for first, last in reversed(docstring_lines(text)):
        indent, kept, hidden = indent_of(lines[first]), [lines[first]], False
        for line in lines[first + 1 : last]:
            if line.strip() and len(indent_of(line)) <= len(indent):  # at the margin: a section begins, or text goes on
                begins = SECTION.match(line.strip())
                hidden = bool(begins) and begins[1] in names
                found |= {begins[1]} if hidden else set()
            kept += [] if hidden else [line]
        kept += [f'{indent}"""\n'] if hidden else []  # they stood behind its last words
        while len(kept) > 2 and kept[-1].strip() in QUOTES and not kept[-2].strip():  # before a section that is gone
            kept.pop(-2)
        lines[first:last] = kept
    missing = [name for name in names if name not in found]
    if missing:
        raise KeyError(missing[0])
    return "".join(lines)
