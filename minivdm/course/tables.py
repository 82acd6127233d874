"""What `build` writes into README.md and chapter 00: the table of the chapters, and the folders of the package.

In README.md each stands between two comments, `<!-- chapters -->` and `<!-- end of chapters -->`; a cell of a chapter's
source has the first of them alone, and its notebooks the table.
"""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

from . import sources
from .stubs import BuildError

HEADER = ("title", "question", "build")
CHAPTERS = "<!-- chapters -->"


def chapter_table(root, folder=""):
    """The chapters of `chapters/source` as a Markdown table, one line each.

    Args:
        root: the repository.
        folder: where the notebooks lie, seen from the file with the table: "chapters/", or "" beside them.

    Raises:
        BuildError: if a source's header is missing, or does not say one of `HEADER`.
    """
    exercises = list(sources.exercises(root).values())
    lines = ["| chapter | question | you build | exercises | points |", "|---|---|---|---|---|"]
    for path in sources.source_files(root):
        says = sources.header(path)
        missing = [key for key in HEADER if not says.get(key)]
        if missing:
            raise BuildError(
                f"{path.name}: its header has no line `# {missing[0]}: ...`; see minivdm/course/sources.py"
            )
        points = [settings.get("points", 0) for settings in exercises if settings["chapter"] == path.stem]
        link = f"[{path.stem.partition('_')[0]} {says['title']}]({folder}{path.stem}.ipynb)"
        lines.append(f"| {link} | {says['question']} | {says['build']} | {len(points)} | {sum(points)} |")
    return "\n".join(lines)


def folder_list(root):
    """The folders of `minivdm/` with the first sentences of their docstrings, none before one that it imports."""
    package = Path(root) / "minivdm"
    folders = {path.parent.name: path for path in sorted(package.glob("*/__init__.py"))}
    importers = {name: set() for name in folders}
    for name in folders:
        text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((package / name).rglob("*.py")))
        for other in set(re.findall(r"(?m)^ *from (?:\.\.+|minivdm\.)(\w+)", text)) & set(folders) - {name}:
            importers[other].add(name)
    order, names = TopologicalSorter(importers), []  # from the top down: what nobody imports comes first
    order.prepare()
    while order.is_active():
        ready = sorted(order.get_ready())
        names = [*ready, *names]
        order.done(*ready)
    return "\n".join(f"- [`minivdm/{name}/`](minivdm/{name}): {first_sentence(folders[name])}" for name in names)


def first_sentence(path):
    """The first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0].replace("\n", " ")


def filled(text, root):
    """README.md's text with what belongs between its comments; a comment that is not there is left out.

    Raises:
        BuildError: if a comment has no end, or as `chapter_table` does.
    """
    for name, make in (("chapters", lambda: chapter_table(root, "chapters/")), ("folders", lambda: folder_list(root))):
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if start not in text:
            continue
        before, _, rest = text.partition(start)
        if end not in rest:
            raise BuildError(f"README.md: {start} without {end}")
        text = f"{before}{start}\n{make()}\n{end}{rest.partition(end)[2]}"
    return text
