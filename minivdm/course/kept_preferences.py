"""The learner's preferences, kept beside the pieces in `my_pieces/preferences.json`: name -> clips and answers.

    "13.eye": {"clips": "0f3a…", "answers": "lrrl"}

They count only for the same clips. A file that cannot be read is copied before it is written over.
"""

import json

from minivdm.files import locked, replacing

from . import sources
from .copies import keep_copy


def file():
    """Where they lie."""
    return sources.pieces_folder() / "preferences.json"


def read():
    """The entries as a dict, and a line about what is wrong with the file, or ""."""
    path = file()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError, RecursionError) as error:
        return {}, f"{path.parent.name}/{path.name} cannot be read ({type(error).__name__})"
    if not isinstance(found, dict) or not all(map(is_entry, found.values())):
        return {}, f"{path.parent.name}/{path.name} is no file of preferences"
    return found, ""


def is_entry(entry):
    """Whether this is what `keep` writes."""
    fits = isinstance(entry, dict) and set(entry) == {"clips", "answers"}
    return fits and all(isinstance(value, str) for value in entry.values()) and not set(entry["answers"]) - set("lr")


def kept(name, clips, pairs):
    """The kept answers for these clips, at most `pairs` of them, or ""; and a line about the file, or ""."""
    entries, problem = read()
    entry = entries.get(name)
    if entry is None or entry["answers"] == "":
        return "", problem
    if entry["clips"] != clips:
        return "", "your answers of before were about other clips"
    return entry["answers"][:pairs], problem


def keep(name, clips, answers):
    """Put the answers into the file, beside all others; returns a line about a copy that was made, or "".

    Raises:
        OSError: if they cannot be kept; the file is as it was.
    """
    path = file()
    with locked(path.with_name(".preferences.lock"), path, wait=True):
        entries, problem = read()
        note = f"{problem}; it is kept as {keep_copy(path, mark='.before').name}" if problem else ""
        entries[name] = {"clips": clips, "answers": answers}
        with replacing(path) as out:
            out.write(json.dumps(entries, indent=1, sort_keys=True).encode() + b"\n")
    return note
