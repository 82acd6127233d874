"""One source, two notebooks: `python -m minivdm.course build [--check]`.

`chapters/source/NN_name.py` holds the prose and the experiments; the code of each piece comes from the package. The
solution shows it as it is; in the student's notebook the body gives way to `raise NotImplementedError("Exercise ...")`.
What is built depends on these files alone, so a second build changes no byte. Outputs in `solutions/` stay with every
cell whose source is the same as before. README.md gets its table of chapters and its list of folders (see `tables`).
"""

import contextlib
import hashlib
import json
import re
from pathlib import Path

import jupytext
import nbformat

from minivdm.files import replacing

from .outputs import tidy
from .stubs import BuildError, code_of
from .tables import CHAPTERS, chapter_table, filled

START = re.compile(r"""\bstart\((["'][\w.-]+["'])\)""")
SETTINGS = ("piece", "exercise", "points", "minutes")
NOTEBOOK = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def build(root, check=False):
    """Write all notebooks below `root`, and what is generated in its README.md; or with `check` only compare.

    Returns:
        A list of lines: what was written, or with `check` what is out of date (empty: nothing).

    Raises:
        BuildError: one line about a mistake in a source; nothing has been written then.
    """
    root = Path(root)
    paths = sorted((root / "chapters" / "source").glob("*.py"))
    if not paths:
        raise BuildError(f"no sources in {root / 'chapters' / 'source'}")
    wanted, seen = {}, {}
    for path in paths:
        cells = read_source(path)
        validate(path, cells, seen)
        wanted[root / "chapters" / f"{path.stem}.ipynb"] = text_of(make(root, path.stem, cells, solution=False))
        target = root / "solutions" / f"{path.stem}.ipynb"
        worked = make(root, path.stem, cells, solution=True)
        wanted[target] = text_of(with_outputs(worked, read_notebook(target) if check else former(target)))
    readme = root / "README.md"
    if readme.exists():
        wanted[readme] = filled(readme.read_text(encoding="utf-8"), root)
    found = [path for folder in ("chapters", "solutions") for path in sorted((root / folder).glob("*.ipynb"))]
    orphans = [f"{path.relative_to(root)}: has no source" for path in found if path not in wanted]
    if check:
        return [line for path, text in wanted.items() for line in compare(path, text, root)] + orphans
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    write_all({path: wanted[path] for path in changed})
    return [f"wrote {path.relative_to(root)}" for path in changed] + orphans


def read_source(path):
    """The cells of a source as (type, text, metadata)."""
    notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    cells = []
    for cell in notebook.cells:
        # Keys such as lines_to_next_cell only serve jupytext's way back to the text file.
        metadata = {key: value for key, value in cell.metadata.items() if not key.startswith("lines_to_")}
        header = cell.cell_type == "raw" and cell.source.startswith("---")
        if not header:
            cells.append((cell.cell_type, cell.source, metadata))
    return cells


def validate(path, cells, seen):
    """Raise a `BuildError` for a mistake in a source's piece cells; `seen` collects exercises over all chapters."""
    for number, (kind, text, metadata) in enumerate(cells, 1):
        where = f"{path.name}, cell {number}"
        if "piece" not in metadata:
            lost = [key for key in SETTINGS[1:] if key in metadata]
            if lost:
                raise BuildError(f"{where}: {lost[0]}= without piece=")
            continue
        name = metadata["piece"]
        where = f"{where} ({name})"
        if kind != "code" or text.strip():
            raise BuildError(f"{where}: a piece cell holds no code of its own; its code comes from the package")
        if "exercise" not in metadata:
            continue
        missing = [key for key in ("points", "minutes") if not isinstance(metadata.get(key), (int, float))]
        if missing:
            raise BuildError(f"{where}: an exercise needs {' and '.join(missing)}, as a number")
        for key in (f"exercise {metadata['exercise']}", f"the exercise for {name}"):
            if key in seen:
                raise BuildError(f"{where}: {key} is in {seen[key]} already")
            seen[key] = where


def make(root, chapter, cells, solution):
    """The notebook of one chapter, without outputs."""
    notebook = nbformat.v4.new_notebook(metadata=NOTEBOOK)
    notebook.nbformat_minor = 5
    used = {}
    for kind, text, metadata in cells:
        key = f"{chapter}|{kind}|{metadata.get('piece') or text}"
        if "piece" in metadata:
            text = code_of(root, chapter, metadata, solution)
            kept = {name: metadata[name] for name in SETTINGS if name in metadata}
            others = {name: value for name, value in metadata.items() if name not in (*SETTINGS, "methods")}
            metadata = {"minivdm": kept, **others}
        elif kind == "markdown" and CHAPTERS in text:
            text = text.replace(CHAPTERS, chapter_table(root))
        elif kind == "code" and solution:
            text = START.sub(r"start(\1, solution=True)", text)
        cell = getattr(nbformat.v4, f"new_{kind}_cell")(text, metadata=metadata)
        cell["id"] = stable_id(key, used)
        notebook.cells.append(cell)
    return notebook


def stable_id(key, used):
    """An id that follows from the cell's content; equal cells are counted."""
    used[key] = used.get(key, 0) + 1
    return hashlib.sha256(f"{key}|{used[key]}".encode()).hexdigest()[:12]


def text_of(notebook):
    """The notebook's file: sorted keys, one trailing newline."""
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT).rstrip("\n") + "\n"


def former(path):
    """The worked notebook that is there now, whose outputs are to be kept; None if there is none.

    Raises:
        BuildError: if it cannot be read. Building over it would lose its outputs.
    """
    found = read_notebook(path)
    if found is None and path.exists():
        raise BuildError(f"{path.name} in solutions/ is no notebook, so its outputs would be lost: mend or delete it")
    return found


def read_notebook(path):
    """The notebook there, or None if there is none that can be read."""
    try:
        return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    except (OSError, ValueError, AttributeError, KeyError):
        return None


def with_outputs(notebook, before):
    """The notebook with the earlier one's outputs in every code cell whose source did not change."""
    left = {}
    for cell in before.cells if before else []:
        if cell.cell_type == "code":
            left.setdefault(cell.source, []).append(cell)
    for cell in notebook.cells:
        same = left.get(cell.source) if cell.cell_type == "code" else None
        if same:
            old = same.pop(0)
            cell.outputs, cell.execution_count = tidy(old.outputs), old.execution_count
    return notebook


def compare(path, text, root):
    """Lines that say how the file on disk differs from what the sources give; none if it does not."""
    name = path.relative_to(root)
    if not path.exists():
        return [f"{name}: missing"]
    on_disk = path.read_text(encoding="utf-8")
    if on_disk == text:
        return []
    if path.suffix == ".md":
        return [f"{name}: its table of chapters or its list of folders is out of date"]
    found, wanted = read_notebook(path), nbformat.reads(text, as_version=4)
    if found is None:
        return [f"{name}: is no notebook"]
    for number, (mine, theirs) in enumerate(zip(found.cells, wanted.cells), 1):
        if core(mine) != core(theirs):
            return [f"{name}: cell {number} ({title(theirs)}) is stale or was edited by hand"]
    if len(found.cells) != len(wanted.cells):
        return [f"{name}: has {len(found.cells)} cells, its source {len(wanted.cells)}: stale or edited by hand"]
    if path.parent.name == "solutions":  # running it adds outputs and machine data, and nothing else differs
        return []
    return [f"{name}: outputs or metadata differ from the source's"]


def core(cell):
    """What a cell is, without what running it adds."""
    metadata = {key: value for key, value in cell.metadata.items() if key != "execution"}
    return cell.cell_type, cell.get("id"), cell.source, json.dumps(metadata, sort_keys=True)


def title(cell):
    """A few words by which to recognise a cell."""
    piece = cell.metadata.get("minivdm", {}).get("piece")
    first = next((line.strip() for line in cell.source.splitlines() if line.strip()), "empty")
    return piece or (first if len(first) <= 50 else first[:49] + "…")


def write_all(texts):
    """Write all files to temporary names, then rename them all: an error leaves every notebook as it was."""
    with contextlib.ExitStack() as stack:
        for path, text in texts.items():
            stack.enter_context(replacing(path)).write(text.encode())
