"""How a learner's piece gets into `minivdm`: kept as a file in `my_pieces/`, and put in the reference's place.

1. When a check passes, `standalone` writes the piece as a file of its own: its source, and before it what it uses of
   the notebook.
2. `load` runs that file as if it stood in the module it belongs to, in a copy of that module's namespace. So it finds
   the same helpers under the same names as the reference does.
3. `install` puts what it defines in the reference's place. A *function* is exchanged wherever it is held: in every
   module of minivdm that imported it, in the notebook, and in the copies of step 2. So a learner's `ddpm_sample` calls
   the learner's `ddpm_step`, whichever came first. A *class* stays the object that it is, so that subclasses,
   `isinstance` and earlier imports go on working; it is given the learner's methods.
4. `uninstall` puts everything back.
"""

import ast
import builtins
import inspect
import sys
from pathlib import Path

from minivdm.files import replacing

from . import sources
from .copies import keep_copy
from .method_transplant import transplant, vars_of
from .originals import namespaces, reference, resolve, run_in_module, signature_of
from .pieces import Piece
from .renamed import names_bound, new_piece_name, with_new_names
from .standalone import NotKept, global_names, standalone

installed = {}  # piece name -> the function that runs now; for a class, its former attributes
settings = {"keep": True}  # whether a passed check keeps the piece; `start` decides
ABSENT = object()


def load(name, text, filename):
    """Run a kept file's text and return the function or class it defines.

    Raises:
        ValueError: if it does not define the piece, or with another signature than the reference's, or uses a name that
            nothing defines, as a piece does that leant on a helper which minivdm no longer has.
        Exception: whatever the text raises.
    """
    module, attribute, _ = resolve(name)
    tree = with_new_names(ast.parse(text, filename), former_name(name, filename))
    defines = {getattr(node, "name", None) for node in tree.body}
    space = run_in_module(tree, module, filename)
    unknown = global_names(ast.unparse(tree)) - set(space) - set(vars(builtins)) - names_bound(tree)
    if unknown:
        raise ValueError(f"it uses {', '.join(sorted(unknown))}, which neither it nor minivdm defines")
    made = space[attribute] if attribute in defines else None
    known = reference(name)
    if not callable(made) or inspect.isclass(made) != inspect.isclass(known):
        raise ValueError(f"it defines no {'class' if inspect.isclass(known) else 'function'} {attribute}")
    require_signature(made, known)
    return made


def former_name(name, filename):
    """The piece's name when its file was written: what the file is called, if that is a name of this piece."""
    stem = Path(filename).stem
    return stem if new_piece_name(stem) == name else name


def require_signature(made, known):
    """Raise a ValueError unless every call that fits the reference fits the learner's version, too."""
    if inspect.isclass(known):
        for key, attribute in vars_of(known).items():
            mine = vars(made).get(key)
            if inspect.isfunction(attribute) and inspect.isfunction(mine):
                require_signature(mine, attribute)
        return
    mine, theirs = signature_of(made), signature_of(known)
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
    changes = transplant(made, current)
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
    for space in [vars(module) for module in modules] + list(namespaces.values()):
        for key, value in list(space.items()):
            if value is old:
                space[key] = new


def is_target(module_name):
    """Whether a module's names follow the learner's pieces."""
    return module_name in ("minivdm", "__main__") or (
        module_name.startswith("minivdm.") and not module_name.startswith("minivdm.course")
    )


def keep_piece(piece):
    """Write a passed piece to `my_pieces/` and let minivdm run on it; a former version goes to `my_pieces/earlier/`.

    Returns:
        One line about what happened, also where the piece cannot be kept.
    """
    path, earlier = sources.pieces_folder() / f"{piece.name}.py", ""
    try:
        content = standalone(piece).encode()
        made = load(piece.name, content.decode(), str(path))
        if path.exists() and path.read_bytes() != content:
            copy = keep_copy(path, mark="", folder=path.parent / "earlier")
            earlier = f" The version before it is in {path.parent.name}/earlier/{copy.name}."
        with replacing(path) as file:
            file.write(content)
    except NotKept as reason:
        return f"Passed; not kept, because {reason}."
    except Exception as error:
        return f"Passed, but it could not be kept: {type(error).__name__}: {error}"
    install(piece.name, made)
    return f"Kept in {path.parent.name}/{path.name}; minivdm runs your version from now on.{earlier}"


def kept_files():
    """The kept pieces, as a dict from piece name to path; of two names for one piece, today's counts."""
    paths = sorted(sources.pieces_folder().glob("[!.]*.py"))
    paths.sort(key=lambda path: new_piece_name(path.stem) == path.stem)
    return {new_piece_name(path.stem): path for path in paths}


def kept(name):
    """A kept file as a Piece of its own, beside the one that runs; None if it is gone or no longer works."""
    path = kept_files().get(name)
    try:
        return path and Piece(name, load(name, path.read_text(encoding="utf-8"), str(path)))
    except (Exception, SystemExit):  # whatever its text raises; `install_kept` says so
        return None


def load_kept():
    """Load the kept files, one after the other, without installing them.

    Yields:
        (name, made, None), or for a file that does not load (name, None, a line that says why and what to do).
    """
    for name, path in kept_files().items():
        try:
            found = name, load(name, path.read_text(encoding="utf-8"), str(path)), None
        except (Exception, SystemExit) as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())
            settings = sources.exercises().get(name)
            again = f", or pass exercise {settings['exercise']} of {settings['chapter']} again" if settings else ""
            found = name, None, f"skipped {path.parent.name}/{path.name}: {why}. Mend or delete the file{again}"
        yield found


def install_kept():
    """Install every kept piece; one that no longer works is skipped with a printed line, and its file stays.

    Returns:
        The names of the installed pieces.
    """
    done = []
    for name, made, problem in load_kept():
        if problem:
            print(problem)
            continue
        install(name, made)
        done.append(name)
    return done


def how_many(mine):
    """ "7 of 50 pieces are yours": how many of the course's exercises are among these names."""
    total = sources.exercises()
    count = f"{sum(name in total for name in mine)} of {len(total)}" if total else f"{len(mine)}"
    return f"{count} pieces are yours"
