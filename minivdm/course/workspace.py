"""A folder to learn in: `minivdm start [DIR]` lays the notebooks into it and opens JupyterLab there.

Nothing that the learner wrote is ever replaced. The hidden file `.minivdm.json` remembers the hash of each file as it
was laid: a file that still has this hash follows the installed version, any other is the learner's. In a checkout
nothing is laid; it is opened as it is.
"""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import webbrowser
from pathlib import Path

from minivdm import __version__
from minivdm.files import replacing, shipped

from .own_cells import Unreadable, own_cells, read_cells

RECORD = ".minivdm.json"
NEW_FOLDER = "minivdm-course"
NO_JUPYTER = 'the notebooks need JupyterLab, which is not installed: pip install "minivdm[course]"'
README = """# minivdm: your course

- `chapters/`: the notebooks that you work in. Begin with `00_start_here.ipynb`.
- `solutions/`: the same notebooks, worked.
- `my_pieces/` (it comes with your first exercise): what has passed its check, and runs inside `minivdm` from then on.
- `runs/` (it comes with chapter 01): what your notebooks and commands have trained and drawn.

In a terminal in this folder:

    minivdm start                                             # open the notebooks again
    python -m minivdm.course status                           # all exercises, and which are yours
    minivdm --mine sample "a red circle moving left" -o clip.gif
    python -c "import minivdm; print(minivdm.__path__[0])"    # where the package's files are, to read them

To begin a notebook again, delete it and run `minivdm start`. After an update of minivdm, that command also brings the
files that you have not changed up to date. One that you have changed is left as it is, and if there is a newer one, it
is put beside yours as `NAME.new.ipynb`.
"""


class WorkspaceError(OSError):
    """One line about why the course cannot be laid into a folder."""


def start_jupyter(folder=None, browser=True, port=None, more=()):
    """Lay the course into a folder if need be, and run JupyterLab there until it is stopped.

    Args:
        folder: where to; by default the checkout or the laid folder that holds the working directory, else the folder
            `minivdm-course` in the working directory, which is made if need be.
        browser: whether a browser is opened.
        port: of the server; by default JupyterLab chooses.
        more: further options for JupyterLab.

    Returns:
        JupyterLab's exit code, or 2 if it is not installed.

    Raises:
        WorkspaceError: if the folder cannot be written; no file is left half-written.
    """
    if folder == "":
        raise WorkspaceError("expected a folder for the notebooks, got an empty name")
    folder = (default_folder() if folder is None else Path(folder)).absolute()
    print(*([f"opening {folder}"] if is_checkout(folder) else lay(folder)), sep="\n", flush=True)
    if importlib.util.find_spec("jupyterlab") is None:
        print(f"error: {NO_JUPYTER}", file=sys.stderr)
        return 2
    return run_program(jupyter_command(folder, browser, port, more))


def default_folder():
    """The nearest checkout or laid folder, from the working directory upwards; else one to be made in it."""
    here = Path.cwd()
    known = (each for each in (here, *here.parents) if is_checkout(each) or (each / RECORD).is_file())
    return next(known, here / NEW_FOLDER)


def is_checkout(folder):
    """Whether a folder is the course's repository."""
    return (folder / "chapters" / "source").is_dir()


def lay(folder):
    """Bring a folder up to date with the installed course.

    Returns:
        Lines that say what was written, and what was left because it is the learner's.

    Raises:
        WorkspaceError: if a file cannot be read or written; none is left half-written.
    """
    for each in (folder, folder / "chapters", folder / "solutions"):
        if each.exists() and not each.is_dir():
            raise WorkspaceError(f"{each} is a file; expected a folder")
    laid, written, kept, beside = read_record(folder), [], [], []
    for name, content in course_files().items():
        before, new = laid.get(name), digest(content)
        done = lay_file(folder / name, content, before)
        if done != "left":
            laid[name] = new
            written += [name] if done == "written" else []
            continue
        kept.append(name)
        if before not in (None, new) and name.endswith(".ipynb"):  # the learner began with an older version
            other = f"{name.removesuffix('.ipynb')}.new.ipynb"
            if lay_file(folder / other, content, laid.get(other)) != "left":
                laid[name] = laid[other] = new  # so it is offered once: who deletes it is not given it again
                beside.append(other)
            else:
                kept.append(other)
    record = json.dumps({"version": __version__, "laid": laid}, indent=1) + "\n"
    lay_file(folder / RECORD, record.encode(), ...)
    lines = [f"{folder}: {len(written)} files written" if written else f"{folder} is up to date"]
    lines += [f"left as you have them: {', '.join(kept)}"] if kept else []
    return lines + ([f"version {__version__}, beside yours: {', '.join(beside)}"] if beside else [])


def course_files():
    """What is laid into a folder: each file's name in it, and its bytes.

    Notebooks that somebody has worked in where they are shipped from, as in a checkout, are made anew.
    """
    found = {"README.md": README.encode()}
    paths = [path for part in ("chapters", "solutions") for path in notebooks_in(shipped(part))]
    worked_in = [path for path in paths if is_worked_in(path)]
    fresh = made_anew(worked_in) if worked_in else {}
    found |= {f"{path.parent.name}/{path.name}": fresh.get(path) or path.read_bytes() for path in paths}
    if len(found) == 1:
        raise WorkspaceError(f"this installation of minivdm carries no notebooks: none in {shipped('chapters')}")
    return found


def is_worked_in(path):
    """Whether somebody has changed a cell of a notebook since it was built."""
    try:
        return bool(own_cells(read_cells(path)))
    except Unreadable:
        return False


def made_anew(paths):
    """The bytes of notebooks as their sources give them; outputs stay with the cells that are the same."""
    try:
        from .build import BuildError, notebooks, text_of, with_outputs
    except ModuleNotFoundError as error:
        advice = f'to lay it without that, building needs {error.name}: pip install "minivdm[test]"'
        raise WorkspaceError(f"{paths[0]} has been worked in; {advice}") from error
    try:
        made = notebooks(shipped("chapters").parent)
    except BuildError as error:
        raise WorkspaceError(str(error)) from error
    return {path: text_of(with_outputs(made[path], read_cells(path))).encode() for path in paths}


def notebooks_in(folder):
    """The course's notebooks in a folder, in order: those that have a source, where there are sources."""
    sources = {path.stem for path in (shipped("chapters") / "source").glob("*.py")}
    return [path for path in sorted(folder.glob("*.ipynb")) if path.stem in sources or not sources]


def lay_file(path, content, before):
    """Write a file unless the learner has changed it.

    Args:
        path: the file.
        content: its bytes.
        before: the hash of what was laid there last, None for nothing, or `...` to write in any case.

    Returns:
        "written", "the same" (nothing to do) or "left" (it is the learner's).
    """
    try:
        found = digest(path.read_bytes()) if path.exists() else None
        if found == digest(content):
            return "the same"
        if before is not ... and found not in (None, before):
            return "left"
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        raise WorkspaceError(f"{path} cannot be written: {error.strerror or error}") from error
    return "written"


def read_record(folder):
    """The hashes of the files that were laid into the folder; empty if there is no record that can be read."""
    try:
        laid = json.loads((folder / RECORD).read_text(encoding="utf-8"))["laid"]
        return {str(name): str(known) for name, known in laid.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def digest(content):
    """The SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()


def jupyter_command(folder, browser=True, port=None, more=()):
    """The command that opens JupyterLab with the folder as its root and the first chapter in front."""
    first = next(iter(notebooks_in(folder / "chapters")), None)
    url = f"/lab/tree/chapters/{first.name}" if first else "/lab"
    shown = []
    if first and browser and has_browser():
        # The root in the file browser, too. JupyterLab opens such an address, but prints it wrongly, its token behind a
        # second "?"; so it is told to print "/", which leads there. (Where no browser opens, the root is a click away.)
        url, shown = f"{url}?file-browser-path=/", ["--ServerApp.custom_display_url=/"]
    command = [sys.executable, "-P", "-m", "jupyterlab"]  # -P: no modules from the working directory
    command += [f"--ServerApp.root_dir={folder}", f"--LabApp.default_url={url}", *shown]
    command += [] if browser else ["--no-browser"]
    return command + ([] if port is None else [f"--ServerApp.port={port}"]) + list(more)


def has_browser():
    """Whether Python finds a browser to open."""
    try:
        return bool(webbrowser.get())
    except webbrowser.Error:
        return False


def run_program(command):
    """Run a program in this one's place, so that Ctrl-C reaches it alone; its exit code."""
    if os.name == "posix":
        os.execv(command[0], command)
    return subprocess.call(command)  # Windows would give the terminal back at once
