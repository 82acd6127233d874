"""A learner's source, made to stand alone.

From a function or class in a notebook to a file's text: its own source without `@piece`, and before it whatever it uses
of the notebook: imports, simple constants, helper functions and classes. Parts of minivdm become `from minivdm...`
lines. A notebook variable that is none of these cannot come along, and `NotKept` says so.
"""

import builtins
import importlib
import inspect
import math
import symtable
import sys
import types

from .definitions import NotKept, definition
from .originals import resolve
from .pieces import piece_of


def standalone(piece):
    """The text of a file that defines the learner's piece on its own.

    Raises:
        NotKept: if there is no source, or it uses a variable of the notebook that cannot be written down.
    """
    module = resolve(piece.name)[0]
    source, names = definition(piece.target)
    needs = Needs(module, home=names.get("__name__"), own={piece.name: piece.short})
    needs.collect(source, names, own=piece.target.__name__)
    if piece.target.__name__ != piece.short:
        raise NotKept(f"it is called {piece.target.__name__}, not {piece.short}")
    header = f"# The piece {piece.name}, kept when its check passed. Delete this file to go back to the reference."
    imports = "\n".join([*sorted(needs.imports), *needs.constants])
    return "\n\n\n".join(part for part in ("\n".join([header, imports]).strip(), *needs.helpers, source) if part) + "\n"


class Needs:
    """What a piece's source uses of the notebook, gathered name by name.

    Attributes:
        imports: set of import lines.
        constants: list of assignments.
        helpers: list of sources of functions and classes, each before its users.
    """

    def __init__(self, module, home, own):
        self.module, self.home, self.own = module, home, own
        self.imports, self.constants, self.helpers = set(), [], []
        self.done = set()

    def collect(self, source, names, own):
        """Gather what `source` uses; `names` is the notebook's namespace around it."""
        for name in sorted(global_names(source) - {own}):
            if name in names and name not in self.done and not self.at_home(name, names[name]):
                self.done.add(name)
                self.add(name, names[name])

    def at_home(self, name, value):
        """Whether the name means the same inside the piece's module, or everywhere."""
        found = vars(self.module).get(name, self)
        return found is value or (found is self and getattr(builtins, name, self) is value)

    def add(self, name, value):
        """Write down one name of the notebook."""
        piece = piece_of(value)
        module = getattr(value, "__module__", None)
        if piece:
            self.add_from(resolve(piece.name)[0].__name__, piece.short, name)
        elif isinstance(value, types.ModuleType):
            full = value.__name__
            self.imports.add(f"import {full}" if full == name else f"import {full} as {name}")
        elif is_constant(value):
            self.constants.append(f"{name} = {literal(value)}")
        elif isinstance(module, str) and module != self.home and module != "__main__" and self.importable(value):
            self.add_from(*self.importable(value), name)
        elif inspect.isclass(value) or inspect.isfunction(inspect.unwrap(value)):
            source, names = definition(value)
            if getattr(value, "__name__", name) != name:
                raise NotKept(f"it uses `{name}`, another name for `{value.__name__}`: use that name")
            self.collect(source, names, own=name)
            self.helpers.append(source)
        elif found_in_library(value):
            self.add_from(*found_in_library(value), name)
        else:
            raise NotKept(f"it uses the notebook's variable `{name}`: pass it in or move it inside")

    def importable(self, value):
        """(module, name) under which another process finds the value, else None."""
        module, name = value.__module__, getattr(value, "__qualname__", "")
        found = vars(sys.modules.get(module) or types).get(name)
        if module.startswith("minivdm.") and found is not None:  # also where the learner's runs in its place by now
            return module, name
        return (module, name) if found is value else found_in_library(value)

    def add_from(self, module, name, alias):
        self.imports.add(f"from {module} import {name}" + (f" as {alias}" if alias != name else ""))


def global_names(source):
    """The global names that a piece of source reads."""
    found = set()
    tables = [symtable.symtable(source, "piece", "exec")]
    for table in tables:
        tables.extend(table.get_children())
        top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (symbol.is_global() or top):
                found.add(symbol.get_name())
    return found


def is_constant(value):
    """Numbers, strings, None, and tuples, lists and dicts of them."""
    if type(value) in (tuple, list):
        return all(map(is_constant, value))
    if type(value) is dict:
        return all(is_constant(key) and is_constant(item) for key, item in value.items())
    return value is None or type(value) in (bool, int, float, complex, str, bytes)


def literal(value):
    """Source for a constant; unlike `repr`, also for infinity and NaN."""
    if type(value) is float and not math.isfinite(value):
        return f'float("{value}")'
    if type(value) in (tuple, list):
        items = ", ".join(map(literal, value)) + ("," if type(value) is tuple and len(value) == 1 else "")
        return f"({items})" if type(value) is tuple else f"[{items}]"
    if type(value) is dict:
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    return repr(value)


def found_in_library(value):
    """(module, name) of a public place that holds the value, for what does not know its own (torch's functions)."""
    root = str(getattr(value, "__module__", None) or type(value).__module__).split(".")[0]
    for module in (root, f"{root}.nn.functional", "math"):
        try:
            found = vars(importlib.import_module(module)) if module not in ("__main__", "builtins", "None") else {}
        except ImportError:
            continue
        for name in [getattr(value, "__name__", None), str(value).rpartition(".")[2]]:
            if name and found.get(name) is value:
                return module, name
    return None
