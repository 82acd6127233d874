"""The cells of a chapter's source, and what their settings may be."""

import jupytext

from .stubs import KINDS, BuildError

SETTINGS = ("piece", "exercise", "points", "minutes", "kind")  # what a notebook's cell says of itself
OTHERS = ("methods", "hide", "mend")  # what only building needs


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
        if "words" in metadata:
            require_new(f"in words {metadata['words']}", where, seen)
            if kind != "markdown" or not isinstance(metadata.get("minutes"), (int, float)):
                raise BuildError(f"{where}: a question to be answered in words is Markdown and needs minutes, a number")
            continue
        if "piece" not in metadata:
            lost = [key for key in (*SETTINGS[1:], *OTHERS) if key in metadata]
            if lost:
                raise BuildError(f"{where}: {lost[0]}= without piece=")
            continue
        name = metadata["piece"]
        where = f"{where} ({name})"
        if kind != "code" or text.strip():
            raise BuildError(f"{where}: a piece cell holds no code of its own; its code comes from the package")
        if "exercise" not in metadata:
            lost = [key for key in ("kind", "hide", "mend") if key in metadata]
            if lost:
                raise BuildError(f"{where}: {lost[0]}= is for exercises, and this piece is given")
            continue
        missing = [key for key in ("points", "minutes") if not isinstance(metadata.get(key), (int, float))]
        if missing:
            raise BuildError(f"{where}: an exercise needs {' and '.join(missing)}, as a number")
        kind = metadata.get("kind", "write")
        if kind not in KINDS:
            raise BuildError(f"{where}: kind= must be one of {', '.join(KINDS)}; got {kind}")
        if (kind == "mend") != ("mend" in metadata):
            raise BuildError(f'{where}: kind="mend" and mend="which mistake" go together')
        for key in (f"exercise {metadata['exercise']}", f"the exercise for {name}"):
            require_new(key, where, seen)


def require_new(key, where, seen):
    """Note in `seen` where something stands that the course has once; a `BuildError` if it is there already."""
    if key in seen:
        raise BuildError(f"{where}: {key} is in {seen[key]} already")
    seen[key] = where
