"""The learner's pieces inside `minivdm`: kept in `my_pieces/`, and put in the reference's place.

A kept file is run with a namespace that looks up what it does not define in the module it belongs to, *when the code
runs*. So a learner's `ddpm_sample` calls the learner's `ddpm_step` as soon as that one is installed. A function is
replaced in every module that imported it; a class keeps its identity and gets the learner's methods.
"""

import ast
import builtins
import importlib
import inspect
import sys
import types

from minivdm.files import replacing

from . import sources
from .method_transplant import moved, vars_of
from .pieces import Piece, reference, resolve
from .renamed import new_piece_name, new_place, with_new_names
from .standalone import NotKept, standalone

installed = {}  # piece name -> the function that runs now; for a class, its former attributes
namespaces = []  # the namespaces that kept files run in
settings = {"keep": True}  # whether a passed check keeps the piece; `start` decides
ABSENT = object()


class LiveGlobals(dict):
    """The globals of a kept file: its own names, then its links into minivdm, then its module as that is *now*."""

    def __init__(self, module, links):
        super().__init__(__name__=module.__name__, __builtins__=LiveBuiltins(self))
        self.module, self.links = module, links

    def __missing__(self, name):
        if name in self.links:
            module, attribute = self.links[name]
            return getattr(importlib.import_module(module), attribute)
        return vars(self.module)[name]  # a KeyError sends Python on to the builtins


class LiveBuiltins(dict):
    """Python's builtins, then a kept file's names once more: class bodies bypass the `__missing__` of their globals."""

    def __init__(self, space):
        super().__init__(vars(builtins))
        self.space = space

    def __missing__(self, name):
        return self.space.__missing__(name)


def load(name, text, filename):
    """Run a kept file's text and return the function or class it defines.

    Raises:
        ValueError: if it does not define the piece, or with another signature than the reference's.
        Exception: whatever the text raises.
    """
    module, attribute, _ = resolve(name)
    tree = with_new_names(ast.parse(text, filename), name)
    links = {}
    for node in list(tree.body):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "minivdm":
            for alias in node.names:
                below, new_name = new_place(node.module.partition(".")[2], alias.name)
                links[alias.asname or alias.name] = (f"minivdm.{below}", new_name)
            tree.body.remove(node)
    space = LiveGlobals(module, links)
    # Modules never change, so they need no look-up.
    space.update({key: value for key, value in vars(module).items() if isinstance(value, types.ModuleType)})
    exec(compile(tree, filename, "exec"), space)
    made = dict.get(space, attribute)
    known = reference(name)
    if not callable(made) or inspect.isclass(made) != inspect.isclass(known):
        raise ValueError(f"it defines no {'class' if inspect.isclass(known) else 'function'} {attribute}")
    require_signature(made, known)
    namespaces.append(space)
    return made


def require_signature(made, known):
    """Raise a ValueError unless every call that fits the reference fits the learner's version, too."""
    if inspect.isclass(known):
        for key, attribute in vars_of(known).items():
            mine = vars(made).get(key)
            if inspect.isfunction(attribute) and inspect.isfunction(mine):
                require_signature(mine, attribute)
        return
    mine, theirs = inspect.signature(made), inspect.signature(known)
    plain = [p for p in theirs.parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD]
    named = [p.name for p in theirs.parameters.values() if p.kind == p.KEYWORD_ONLY]
    needed = [
        p.name
        for p in theirs.parameters.values()
        if p.default is p.empty and p.kind < p.VAR_POSITIONAL or p.default is p.empty and p.kind == p.KEYWORD_ONLY
    ]
    try:
        mine.bind(*plain, **dict.fromkeys(named))
        mine.bind(**dict.fromkeys([p.name for p in plain] + named))
        mine.bind(**dict.fromkeys(needed))
    except TypeError:
        raise ValueError(f"its signature {made.__name__}{mine} does not fit {known.__name__}{theirs}") from None


def install(name, made):
    """Let minivdm run `made` under this name from now on."""
    reference(name)  # remembers what was there
    module, attribute, current = resolve(name)
    if not inspect.isclass(current):
        replace(current, made)
        setattr(module, attribute, made)
        installed[name] = made
        return
    uninstall(name)
    # The class object stays, so that subclasses, `isinstance` and earlier imports all see the new methods.
    changes = {key: moved(value, made, current) for key, value in vars_of(made).items()}
    installed[name] = {key: vars(current).get(key, ABSENT) for key in changes}
    for key, value in changes.items():
        setattr(current, key, value)


def uninstall(name):
    """Put the reference back, exactly as it was."""
    if name not in installed:
        return
    module, attribute, current = resolve(name)
    before = installed.pop(name)
    if not inspect.isclass(current):
        replace(before, reference(name))
        setattr(module, attribute, reference(name))
        return
    for key, value in before.items():
        delattr(current, key) if value is ABSENT else setattr(current, key, value)


def uninstall_all():
    """Put the whole reference back."""
    for name in list(installed):
        uninstall(name)


def replace(old, new):
    """Exchange a function in every part of minivdm that holds it, and where the notebook imported it."""
    modules = [module for name, module in list(sys.modules.items()) if is_target(name) and module is not None]
    for space in [vars(module) for module in modules] + namespaces:
        for key, value in list(space.items()):
            if value is old:
                space[key] = new


def is_target(module_name):
    """Whether a module's names follow the learner's pieces."""
    return module_name in ("minivdm", "__main__") or (
        module_name.startswith("minivdm.") and not module_name.startswith("minivdm.course")
    )


def keep_piece(piece):
    """Write a passed piece to `my_pieces/` and let minivdm run on it.

    Returns:
        One line about what happened, also where the piece cannot be kept.
    """
    path = sources.pieces_folder() / f"{piece.name}.py"
    try:
        text = standalone(piece)
        made = load(piece.name, text, str(path))
        with replacing(path) as file:
            file.write(text.encode())
    except NotKept as reason:
        return f"Passed; not kept, because {reason}."
    except Exception as error:
        return f"Passed, but it could not be kept: {type(error).__name__}: {error}"
    install(piece.name, made)
    return f"Kept in {path.parent.name}/{path.name}; minivdm runs your version from now on."


def kept_files():
    """The kept pieces, as a dict from piece name to path."""
    return {new_piece_name(path.stem): path for path in sorted(sources.pieces_folder().glob("[!.]*.py"))}


def kept(name):
    """A kept file as a Piece of its own, beside the one that runs; None if it is gone or no longer works."""
    path = kept_files().get(name)
    try:
        return path and Piece(name, load(name, path.read_text(encoding="utf-8"), str(path)))
    except Exception:  # whatever its text raises; `install_kept` says so
        return None


def install_kept():
    """Install every kept piece; one that no longer works is skipped with a printed line, and its file stays.

    Returns:
        The names of the installed pieces.
    """
    done = []
    for name, path in kept_files().items():
        try:
            install(name, load(name, path.read_text(encoding="utf-8"), str(path)))
            done.append(name)
        except Exception as error:
            print(f"skipped {path.parent.name}/{path.name}: {type(error).__name__}: {error}")
    return done
