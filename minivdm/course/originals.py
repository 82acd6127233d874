"""What minivdm itself has under a piece's name: the object that runs now, the reference, and its source."""

import ast
import difflib
import functools
import importlib
import inspect
import weakref

from . import sources
from .stubs import definition_of, text_of

pristine = {}  # piece name -> the reference, as it was before any learner's code was installed
namespaces = weakref.WeakValueDictionary()  # those that `run_in_module` made, as long as code runs in them


def resolve(name):
    """The module, the attribute and the object that run in minivdm now under a name such as "forward_process.q_sample".

    Raises:
        ValueError: for an unknown name; it lists the nearest known ones.
    """
    module_name, _, attribute = str(name).rpartition(".")
    path = sources.modules().get(module_name)
    module = importlib.import_module(sources.import_name(path)) if path else None
    found = vars(module).get(attribute) if module else None
    if not callable(found):
        near = difflib.get_close_matches(str(name), known_names(), n=3, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(map(repr, near))}?" if near else "names look like 'forward_process.q_sample'."
        )
        raise ValueError(f"minivdm has no piece {name!r}; {hint}")
    return module, attribute, found


def known_names():
    """All "module.name" of the package's functions and classes, read from its files without importing them."""
    names = []
    for stem, path in sources.modules().items():
        body = ast.parse(path.read_text(encoding="utf-8")).body
        names += [f"{stem}.{node.name}" for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    return names


def reference(name):
    """What minivdm had under this name before any learner's code: the function itself, or a class of the same source.

    What it calls inside minivdm is looked up when it runs, so those parts may be the learner's.
    """
    if name not in pristine:
        found = resolve(name)[2]
        pristine[name] = made_again(name) if inspect.isclass(found) else found
    return pristine[name]


def made_again(name):
    """A function or class of minivdm made once more from its source: equal, but another object."""
    module, attribute, _ = resolve(name)
    return run_in_module(source_of(name), module, f"<{name}>")[attribute]


@functools.cache
def source_of(name):
    """A piece's definition as it stands in the package."""
    return text_of(*definition_of(sources.PACKAGE.parent, name))


def signature_of(function):
    """A function's signature without type hints, as learners are shown it: "(T, s=0.008, max_beta=0.999)"."""
    hinted = inspect.signature(function)
    plain = [parameter.replace(annotation=parameter.empty) for parameter in hinted.parameters.values()]
    return hinted.replace(parameters=plain, return_annotation=hinted.empty)


class Namespace(dict):
    """A dict that can be found again in `namespaces`."""

    __hash__ = object.__hash__


def run_in_module(code, module, filename):
    """Run source, or a syntax tree, as if it stood in this module; returns the namespace with what it defines.

    The namespace is a copy of the module's, so nothing in the module changes. Where a learner's function takes the
    place of minivdm's, `kept_pieces` exchanges it in these copies, too.
    """
    space = Namespace(vars(module))
    exec(compile(code, filename, "exec"), space)
    namespaces[id(space)] = space
    return space
