"""Exercises of the kind "mend it": a cell begins with a version that is broken, by a mistake that its check knows.

As long as nothing in it has been changed, it counts as not attempted, and the reference runs in its place; so the
chapter goes on. `as_given` is the broken version, to show what it does.
"""

import ast

from . import sources
from .checks import find
from .definitions import NotKept, definition
from .docstrings import with_changes, without_docstrings
from .originals import resolve, run_in_module, source_of


def as_given(name):
    """The broken version with which the cell of a "mend it" exercise begins.

    Args:
        name: the piece, such as "autoencoder.vae_loss".

    Returns:
        A function or class of its own; nothing in minivdm runs on it.

    Raises:
        ValueError: if no chapter has such an exercise for this piece.
    """
    module, attribute, _ = resolve(name)
    return run_in_module(given_text(name), module, f"<{name}, as given>")[attribute]


def given_text(name):
    """The text of the broken version; a ValueError if there is none."""
    settings = sources.exercises().get(name, {})
    if "mend" not in settings:
        raise ValueError(f"no chapter has an exercise in which {name} is to be mended")
    return with_changes(source_of(name), mistake(name, settings["mend"]))


def mistake(name, label):
    """What a known mistake of a piece changes in its text, as a dict; a ValueError if its check knows no such edit."""
    known = {each: made for each, _, made in getattr(find(name), "misconceptions", []) if isinstance(made, dict)}
    if label not in known:
        raise ValueError(f"mend= must name an edit in this exercise's check: one of {sorted(known)}; got {label!r}")
    return known[label]


def unchanged(target, name):
    """The functions (methods) of the learner's version that are broken and still as they were given, by name.

    Layout, comments and docstrings do not count as a change.
    """
    try:
        mine = parts_of(definition(target)[0])
    except NotKept:  # nobody can tell
        return []
    given, right = parts_of(given_text(name)), parts_of(source_of(name))
    return [key for key, code in mine.items() if code == given.get(key) != right.get(key)]


def parts_of(text):
    """What each function of a definition does, comparable: the function itself, or the methods of a class."""
    node = ast.parse(without_docstrings(text)).body[0]
    inside = node.body if isinstance(node, ast.ClassDef) else [node]
    found = {}
    for part in inside:
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found[part.name] = found.get(part.name, "") + ast.dump(part)  # a property has several of one name
    return found
