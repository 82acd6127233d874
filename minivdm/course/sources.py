"""Where the course lies on disk, and what the chapters' sources say about chapters and exercises.

A source begins with a header: the chapter's short title, its question, and what is built in it. Numbers, points and
minutes stand in its piece cells. Nothing of this is written anywhere else:

    # ---
    # title: DDPM
    # question: How can one draw by removing noise?
    # build: schedules, forward process, posterior, sampler, loss
    # ---

    # %% piece="forward_process.q_sample" exercise="1.3" points=2 minutes=10
"""

import functools
import json
import os
import re
from pathlib import Path

from ..files import PACKAGE, home_folder, shipped

SETTING = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\[[^\]]*\]|[^\s"\[\]]+)')


@functools.cache
def modules(package=PACKAGE):
    """The modules that may hold pieces, by their last names, which no two share: "samplers" -> its file."""
    paths = sorted(Path(package).glob("*/[a-z]*.py"))
    return {path.stem: path for path in paths if path.parent.name not in ("course", "commands")}


def import_name(path):
    """A module's file as the name to import it by: "minivdm.diffusion.samplers"."""
    return f"minivdm.{path.parent.name}.{path.stem}"


def pieces_folder():
    """Where the learner's kept pieces lie: `MINIVDM_PIECES`, else `my_pieces/` in `home_folder()`."""
    return Path(os.environ.get("MINIVDM_PIECES") or home_folder() / "my_pieces")


def source_files(root=None):
    """The chapters' sources, sorted: those of `root`, else of `home_folder()`, else those of the package."""
    roots = [Path(root)] if root else [home_folder(), shipped("chapters").parent]
    found = ([*sorted((each / "chapters" / "source").glob("*.py"))] for each in roots)
    return next((files for files in found if files), [])


def header(path):
    """The header of a chapter's source as a dict of texts; empty if it has none."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if lines[:1] != ["# ---"] or "# ---" not in lines[1:]:
        return {}
    pairs = (line.removeprefix("# ").partition(": ") for line in lines[1 : lines.index("# ---", 1)])
    return {key.strip(): value.strip() for key, _, value in pairs}


def cell_settings(line):
    """The `key=value` settings of a `# %%` line as a dict; a value that is no JSON stays text."""
    settings = {}
    for key, value in SETTING.findall(line):
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    return settings


def cells_with(key, root=None):
    """The settings of all cells that have this one, as (chapter, settings), in order."""
    for path in source_files(root):
        for line in path.read_text(encoding="utf-8").splitlines():
            settings = cell_settings(line) if line.startswith("# %%") and f"{key}=" in line else {}
            if key in settings:
                yield path.stem, settings


def exercises(root=None):
    """Every exercise of the course, in order: piece name -> its cell's settings, with `chapter` added."""
    found = cells_with("exercise", root)
    return {settings["piece"]: {**settings, "chapter": chapter} for chapter, settings in found if "piece" in settings}


def word_questions(root=None):
    """The questions that are answered in words: chapter -> their numbers, for chapters that have some."""
    found = {}
    for chapter, settings in cells_with("words", root):
        found.setdefault(chapter, []).append(settings["words"])
    return found
