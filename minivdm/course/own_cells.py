"""Which cells of a notebook are somebody's own work, and which stand as `build` wrote them.

`build` writes into a notebook's metadata a record: a hash of each cell's text, in order. A cell whose hash is not in it
has been written or changed since, by whoever works in the notebook. Text is all that counts: outputs, counts, ids and
metadata are changed by merely opening, running and saving a notebook, and a blank cell holds nothing.

Why a record, and nothing cleverer?
- Compared with what the sources give *today*, every cell that an update changed would look like the learner's.
- Compared with git's last commit, what an author has built since would; and a downloaded archive has no commits.
- A record in each cell would not show that one was deleted or moved, and ids are made anew by some editors.
The notebook's metadata goes wherever the notebook goes, and Jupyter and VS Code leave in it what they do not know.
"""

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

CONFLICT = re.compile(r"^(?:<{7}|={7}|>{7})(?: |$)", re.MULTILINE)


class Unreadable(ValueError):
    """Why a file is no notebook."""


def read_cells(path):
    """A notebook's JSON, in which each cell's source is one string; None if there is no file.

    Raises:
        Unreadable: if the file cannot be read, or is no notebook.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
        notebook = json.loads(text)
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"])
            cell["cell_type"], cell["metadata"] = str(cell["cell_type"]), dict(cell.get("metadata") or {})
        notebook["metadata"] = dict(notebook.get("metadata") or {})
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        half = isinstance(error, json.JSONDecodeError) and CONFLICT.search(text)
        raise Unreadable("is no notebook" + (": it holds the marks of a merge conflict" if half else "")) from None
    return notebook


def record(cells):
    """The hash of each cell's text, in order, blank cells left out; ends of lines may be of any kind."""
    lines = [[line.rstrip() for line in cell["source"].splitlines()] for cell in cells]
    texts = ["\n".join([cell["cell_type"], *each]).rstrip() for cell, each in zip(cells, lines) if any(each)]
    return [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12] for text in texts]


def recorded(notebook):
    """The record in a notebook's metadata; None if there is none."""
    own = notebook["metadata"].get("minivdm")
    built = own.get("built") if isinstance(own, dict) else None
    return [str(each) for each in built] if isinstance(built, list) else None


def own_cells(notebook, today=None):
    """What somebody has changed in a notebook since it was built, in words: "cell 3 (x = 5)", "1 cell deleted".

    Args:
        notebook: as `read_cells` gives it.
        today: the record of what `build` would write now. Cells that are so are nobody's, and where the notebook has
            no record of its own, from a version before there was one or since a tool removed it, all others count
            as somebody's.

    Returns:
        A list; empty if all cells, and their order, are as they were built.
    """
    found, built = record(notebook["cells"]), recorded(notebook)
    built = (today or found) if built is None else built
    if found in (built, today):
        return []
    known, own = Counter(built) | Counter(today or []), []
    for number, cell in enumerate(notebook["cells"], 1):
        for each in record([cell]):  # one, or none for a blank cell
            own += [] if known[each] else [f"cell {number} ({title(cell)})"]
            known[each] -= 1
    gone = len(built) - (len(found) - len(own)) - len(own)
    own += [f"{gone} cell{'s' if gone > 1 else ''} deleted"] if gone > 0 else []
    return own or ["cells in another order"]


def title(cell):
    """A few words by which to recognise a cell."""
    settings = cell["metadata"].get("minivdm")
    piece = settings.get("piece") if isinstance(settings, dict) else None
    first = next((line.strip() for line in cell["source"].splitlines() if line.strip()), "empty")
    return piece or (first if len(first) <= 50 else first[:49] + "…")
