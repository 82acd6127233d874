"""The learner's predictions, kept beside the pieces in `my_pieces/predictions.json`: number -> what is known of it.

    "6.b": {"question": "How many percent …?", "answer": 40.0, "unit": "%", "when_shown": 60.0}

`when_shown` is the answer that stood when the measurement was shown for the first time, null if there was none then; it
is not there before. So an answer may be changed at any time, and the record stays honest.

Two notebooks may write at once: each reads the file again, changes its own entry, and puts the whole back under a lock.
What cannot be read is never written over without a copy.
"""

import json

from minivdm.files import locked, replacing

from . import sources
from .copies import keep_copy


def answers_file():
    """Where the answers lie."""
    return sources.pieces_folder() / "predictions.json"


def read():
    """The kept entries.

    Returns:
        (entries, problem): a dict from number to entry, with those that are in order, and one line about what is wrong
        with the file, or "".

    Raises:
        OSError: if the file is there and cannot be read at all.
    """
    path = answers_file()
    name = f"{path.parent.name}/{path.name}"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, ""
    except (ValueError, RecursionError):  # no JSON, no UTF-8, a million brackets
        return {}, f"{name} is broken, so its answers cannot be used"
    if not isinstance(found, dict):
        return {}, f"{name} is no file of answers"
    entries = {number: entry for number, entry in found.items() if is_entry(entry)}
    odd = [number for number in found if number not in entries]
    return entries, f"{name}: {odd[0][:20]!r} is no answer as this course writes them" if odd else ""


def is_entry(entry):
    """Whether this is what `keep` writes, so that nothing is lost if it is written over."""
    if not isinstance(entry, dict) or not {"question", "answer"} <= set(entry):
        return False
    answer = (str, int, float)
    kinds = {"question": (str,), "answer": answer, "unit": (str,), "when_shown": (*answer, type(None))}
    return all(type(value) in kinds.get(key, ()) for key, value in entry.items())


def keep(question, entry):
    """Put one entry into the file, beside all others.

    Args:
        question: its `Question`.
        entry: what is known of it. If the entry in the file answers the same question, its `when_shown` stays.

    Returns:
        (entry, note): the entry as it is kept, and one line about the copy of a file that was not in order, or "".

    Raises:
        OSError: if it cannot be kept; the file is as it was.
    """
    path, note = answers_file(), ""
    with locked(path.with_name(".predictions.lock"), path, wait=True):
        entries, problem = read()
        if problem:
            copy = keep_copy(path, mark=".before")
            note = f"{problem}; it is kept as {copy.name}"
        former = entries.get(question.number)
        if former and "when_shown" in former and question.fits(former):
            entry = {**entry, "when_shown": former["when_shown"]}
        if problem or former != entry:
            entries[question.number] = entry
            with replacing(path) as file:
                text = json.dumps(entries, indent=1, sort_keys=True, ensure_ascii=False)
                file.write(text.encode("utf-8", "backslashreplace") + b"\n")
    return entry, note


def kept_entries():
    """As `read`, but a file that cannot be read at all is what the line is about."""
    try:
        return read()
    except OSError as error:
        return {}, " ".join(str(error).split())


def kept_entry(number):
    """The entry of one number, or None; and a line about a file that is not in order or cannot be read, or ""."""
    entries, problem = kept_entries()
    return entries.get(number), problem
