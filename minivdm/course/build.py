"""One source, two notebooks: `python -m minivdm.course build [--check | --force]`.

`chapters/source/NN_name.py` holds the prose and the experiments; the code of each piece comes from the package. The
solution shows it as it is; in the student's notebook the body gives way to `raise NotImplementedError("Exercise ...")`.
What is built depends on these files alone, so a second build changes no byte. README.md gets its table of chapters and
its list of folders (see `tables`).

What else a notebook holds is not lost. Outputs stay with every cell whose source is the same as before. A notebook in
which somebody has changed a cell since it was built (see `own_cells`) is left as it is; with `--force` it is copied,
then written anew.
"""

import contextlib
import hashlib
import re
from pathlib import Path

import nbformat
from nbformat.v4.rwbase import rejoin_lines

from minivdm.files import replacing

from .chapter_cells import OTHERS, SETTINGS, read_source, validate
from .copies import keep_copy
from .differences import Note, has_run, is_stray, notebook_difference, readme_difference
from .guess_cells import validate_predictions
from .outputs import tidy
from .own_cells import Unreadable, own_cells, read_cells, record, recorded
from .stubs import BuildError, code_of
from .tables import CHAPTERS, chapter_table, filled
from .word_questions import question_cells

START = re.compile(r"""\bstart\((["'][\w.-]+["'])\)""")
NOTEBOOK = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def build(root, force=False):
    """Write all notebooks below `root`, and what is generated in its README.md.

    Args:
        root: the repository.
        force: write anew also what has been worked in, run, or cannot be read; a copy is kept as NAME.mine.ipynb.

    Returns:
        A list of `Note`s: what was written, and what was left.

    Raises:
        BuildError: one line about a mistake in a source, or a notebook that cannot be read, or that somebody has saved
            in the meantime; nothing has been written.
    """
    root, texts, copied, notes, stamps = Path(root), {}, [], [], {}
    made = notebooks(root)
    for path, notebook in made.items():
        stamps[path] = stamp(path)
        found = former(path, root, force)
        today, given = record(notebook.cells), path.parent.name == "chapters"
        mine = own_cells(found, today) if found else []
        if mine and not force:
            kind = "yours" if recorded(found) == today else "behind"
            notes.append(Note(kind, path.relative_to(root), f"left as it is, worked in: {', '.join(mine)}"))
            continue
        if force and path.exists() and (not found or mine or given and has_run(found)):
            copied.append(path)
        texts[path] = text_of(with_outputs(notebook, None if force and given else found))
    readme = root / "README.md"
    texts |= {readme: filled(readme.read_text(encoding="utf-8"), root)} if readme.exists() else {}
    changed = [path for path, text in texts.items() if path in copied or not holds(path, text)]
    for path in copied:
        notes.append(Note("copied", path.relative_to(root), f"copied to {keep_copy(path).name}"))
    for path in changed:
        if path in stamps and stamp(path) != stamps[path]:  # an editor saves by itself
            raise BuildError(f"{path.relative_to(root)} was saved while this ran; nothing is written, build again")
    write_all({path: texts[path] for path in changed})
    return [*notes, *(Note("wrote", path.relative_to(root), "written") for path in changed), *strays(root, made)]


def differences(root):
    """How the files below `root` differ from what their sources give, as a list of `Note`s; empty if they do not.

    Raises:
        BuildError: one line about a mistake in a source.
    """
    root = Path(root)
    made = notebooks(root)
    found = [notebook_difference(path, root, notebook, text_of(notebook)) for path, notebook in made.items()]
    readme = root / "README.md"
    found += (
        [readme_difference(readme, root, filled(readme.read_text(encoding="utf-8"), root))] if readme.exists() else []
    )
    return [note for note in found if note] + strays(root, made)


def notebooks(root):
    """All notebooks as the sources give them, without outputs: path -> notebook."""
    paths = sorted((root / "chapters" / "source").glob("*.py"))
    if not paths:
        raise BuildError(f"no sources in {root / 'chapters' / 'source'}: notebooks are built in the repository")
    made, seen = {}, {}
    for path in paths:
        cells = read_source(path)
        validate(path, cells, seen)
        validate_predictions(path, cells, seen)
        for folder in ("chapters", "solutions"):
            made[root / folder / f"{path.stem}.ipynb"] = make(root, path.stem, cells, folder == "solutions")
    return made


def make(root, chapter, cells, solution):
    """The notebook of one chapter, without outputs."""
    notebook = nbformat.v4.new_notebook(metadata=dict(NOTEBOOK))
    notebook.nbformat_minor = 5
    used = {}
    for kind, text, metadata in with_questions(cells, chapter, solution):
        own = metadata.get("piece") or metadata.get("minivdm", {}).get("words")  # the same in both notebooks
        key = f"{chapter}|{kind}|{own or text}"
        if "piece" in metadata:
            text = code_of(root, chapter, metadata, solution, mistake_in(chapter, metadata))
            kept = {name: metadata[name] for name in SETTINGS if name in metadata}
            others = {name: value for name, value in metadata.items() if name not in (*SETTINGS, *OTHERS)}
            metadata = {"minivdm": kept, **others}
        elif kind == "markdown" and CHAPTERS in text:
            text = text.replace(CHAPTERS, chapter_table(root))
        elif kind == "code" and solution:
            text = START.sub(r"start(\1, solution=True)", text)
        cell = getattr(nbformat.v4, f"new_{kind}_cell")(text, metadata=metadata)
        cell["id"] = stable_id(key, used)
        notebook.cells.append(cell)
    notebook.metadata["minivdm"] = {"built": record(notebook.cells)}
    return notebook


def with_questions(cells, chapter, solution):
    """The cells, each question that is answered in words with the cells that it becomes."""
    made = []
    for kind, text, metadata in cells:
        try:
            made += question_cells(text, metadata, solution) if "words" in metadata else [(kind, text, metadata)]
        except ValueError as error:
            raise BuildError(f"{chapter}.py (in words {metadata['words']}): {error}") from None
    return made


def mistake_in(chapter, metadata):
    """What is to be mended in a piece cell, as `code_of` takes it; None if nothing is."""
    if "mend" not in metadata:
        return None
    from .mending import mistake  # the checks need PyTorch, and nothing else here does

    try:
        return mistake(metadata["piece"], metadata["mend"])
    except ValueError as error:
        raise BuildError(f"{chapter}.py ({metadata['piece']}): {error}") from None


def stable_id(key, used):
    """An id that follows from the cell's content; equal cells are counted."""
    used[key] = used.get(key, 0) + 1
    return hashlib.sha256(f"{key}|{used[key]}".encode()).hexdigest()[:12]


def text_of(notebook):
    """The notebook's file: sorted keys, one trailing newline."""
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT).rstrip("\n") + "\n"


def former(path, root, force):
    """The notebook that is there now; None if there is none, or with `force` if it cannot be read.

    Raises:
        BuildError: if it cannot be read. What it holds would be lost.
    """
    try:
        return read_cells(path)
    except Unreadable as error:
        if force:
            return None
        advice = "mend it, or delete it, or let build --force keep a copy"
        raise BuildError(f"{path.relative_to(root)} {error}; {advice}") from None


def with_outputs(notebook, before):
    """The notebook with the earlier one's outputs in every code cell whose source did not change."""
    left = {}
    for cell in rejoin_lines(nbformat.from_dict(before)).cells if before else []:
        if cell.cell_type == "code":
            left.setdefault(cell.source, []).append(cell)
    for cell in notebook.cells:
        same = left.get(cell.source) if cell.cell_type == "code" else None
        if same:
            old = same.pop(0)
            cell.outputs, cell.execution_count = tidy(old.get("outputs", [])), old.get("execution_count")
    return notebook


def strays(root, made):
    """A `Note` for each notebook that belongs to no source, copies aside."""
    found = [path for folder in ("chapters", "solutions") for path in sorted((root / folder).glob("*.ipynb"))]
    return [Note("stray", path.relative_to(root), "has no source") for path in found if is_stray(path, made)]


def holds(path, text):
    """Whether a file holds this text, whatever its ends of lines."""
    try:
        return path.read_text(encoding="utf-8") == text
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def stamp(path):
    """What changes whenever a file is saved; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def write_all(texts):
    """Write all files to temporary names, then rename them all: an error leaves every notebook as it was."""
    with contextlib.ExitStack() as stack:
        for path, text in texts.items():
            stack.enter_context(replacing(path)).write(text.encode())
