"""Where the course lies on disk, and what the chapters' sources say about each exercise.

Numbers, points and minutes stand in the piece cells of `chapters/source/*.py` and nowhere else:

    # %% piece="forward_process.q_sample" exercise="1.3" points=2 minutes=10
"""

import json
import os
import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
SETTING = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\[[^\]]*\]|[^\s"\[\]]+)')


def modules(package=PACKAGE):
    """The modules that may hold pieces, by their last names, which no two share: "samplers" -> its file."""
    paths = sorted(Path(package).glob("*/[a-z]*.py"))
    return {path.stem: path for path in paths if path.parent.name not in ("course", "commands")}


def import_name(path):
    """A module's file as the name to import it by: "minivdm.diffusion.samplers"."""
    return f"minivdm.{path.parent.name}.{path.stem}"


def repository_root():
    """The nearest folder with `chapters/`, from the working directory upwards; else the one that holds the package."""
    here = Path.cwd()
    return next((folder for folder in [here, *here.parents] if (folder / "chapters").is_dir()), PACKAGE.parent)


def pieces_folder():
    """Where the learner's kept pieces lie: `MINIVDM_PIECES`, else `my_pieces/` in the repository root."""
    return Path(os.environ.get("MINIVDM_PIECES") or repository_root() / "my_pieces")


def source_files(root=None):
    """The chapters' sources, sorted: those of `root`, else of the repository root, else of the package's checkout."""
    roots = [Path(root)] if root else [repository_root(), PACKAGE.parent]
    found = ([*sorted((each / "chapters" / "source").glob("*.py"))] for each in roots)
    return next((files for files in found if files), [])


def cell_settings(line):
    """The `key=value` settings of a `# %%` line as a dict; a value that is no JSON stays text."""
    settings = {}
    for key, value in SETTING.findall(line):
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    return settings


def exercises(root=None):
    """Every exercise of the course, in order: piece name -> its cell's settings, with `chapter` added."""
    found = {}
    for path in source_files(root):
        for line in path.read_text(encoding="utf-8").splitlines():
            settings = cell_settings(line) if line.startswith("# %%") and "piece=" in line else {}
            if "exercise" in settings:
                found[settings["piece"]] = {**settings, "chapter": path.stem}
    return found
