"""How a file on disk differs from what its source gives, and whose doing that is: an author's or a learner's.

An author has changed a source or the package, so a notebook is stale: `build` mends it. A learner has changed cells of
the notebook itself: that is what it is for, and `build` leaves it alone.
"""

import json
from typing import NamedTuple

from .own_cells import Unreadable, own_cells, read_cells, record, recorded, title

BUILD = "python -m minivdm.course build"
# What to do about a kind of `Note`. "yours": cells were changed in the notebook; "behind": its source has changed, too.
WORKED_IN = (
    f"worked in: a learner has nothing to do here, and `{BUILD}` leaves the notebook as it is. (An author's change "
    f"belongs in chapters/source or minivdm/; `{BUILD} --force` writes the notebook anew and keeps a copy of this one.)"
)
ADVICE = {
    "stale": f"out of date: authors run `{BUILD}` and commit what it writes",
    "yours": WORKED_IN,
    "behind": WORKED_IN,
    "run": f"outputs or metadata: whoever runs or saves a notebook leaves them, which is no harm. For a commit, "
    f"`{BUILD} --force` writes it clean; one with outputs is copied before",
    "unreadable": "no notebook: mend the file, or delete it and get it back from git",
    "stray": "without a source: authors delete it; a notebook of your own may stay",
}


class Note(NamedTuple):
    """One line about one file: which kind of thing it says, the file's name below the repository, and what is so."""

    kind: str
    name: str
    what: str

    def __str__(self):
        return f"{self.name}: {self.what}"


def notebook_difference(path, root, made, text):
    """A `Note` on how the notebook at `path` differs from `made`, whose file would hold `text`; None if it does not."""
    name = path.relative_to(root)
    try:
        found = read_cells(path)
    except Unreadable as error:
        return Note("unreadable", name, str(error))
    if found is None:
        return Note("stale", name, "missing")
    today, there = record(made.cells), record(found["cells"])
    mine = own_cells(found, today)
    if mine:
        behind = recorded(found) != today
        since = "; and its source has changed since" if behind else ""
        return Note("behind" if behind else "yours", name, f"worked in: {', '.join(mine)}{since}")
    if there != today:
        pairs = zip(there, today, made.cells)
        first = next((f"cell {n} ({title(cell)})" for n, (a, b, cell) in enumerate(pairs, 1) if a != b), "its end")
        return Note("stale", name, f"{first} is stale")
    if path.parent.name == "chapters":
        same = path.read_text(encoding="utf-8") == text
    else:  # running it adds outputs and machine data, and nothing else differs
        same = recorded(found) == today and list(map(core, found["cells"])) == list(map(core, made.cells))
    return None if same else Note("run", name, "outputs or metadata differ from the source's")


def has_run(notebook):
    """Whether a notebook holds outputs, or counts of executions."""
    return any(cell.get("outputs") or cell.get("execution_count") for cell in notebook["cells"])


def core(cell):
    """What a cell is besides its text, without what running it adds."""
    metadata = {key: value for key, value in cell["metadata"].items() if key != "execution"}
    return cell["cell_type"], cell.get("id"), json.dumps(metadata, sort_keys=True)


def readme_difference(path, root, text):
    """A `Note` if what is generated in README.md is out of date, else None."""
    same = path.read_text(encoding="utf-8") == text
    what = "its table of chapters or its list of folders is out of date"
    return None if same else Note("stale", path.relative_to(root), what)


def is_stray(path, made):
    """Whether a notebook has no source. NAME.mine.ipynb and NAME.new.ipynb are copies of one that has."""
    stems = {each.stem for each in made}
    return path not in made and path.name.split(".")[0] not in stems
