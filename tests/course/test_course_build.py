"""One source, two notebooks: what is built, that it is always the same, and what `--check` finds."""

import json
import re
import subprocess
import sys

import nbformat
import pytest
from course_kit import build

from minivdm.course.__main__ import main


def cells(root, folder="chapters"):
    return nbformat.read(root / folder / "01_toy.ipynb", as_version=4).cells


def change(root, old, new):
    path = root / "chapters" / "source" / "01_toy.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_what_is_built(root):
    assert build(root) == 0
    student, solution = cells(root), cells(root, "solutions")
    assert student[0].source == "# A chapter\nwith $x_t$ and `code`"
    assert student[1].metadata == {"tags": ["setup"]} and "%matplotlib inline" in student[1].source.splitlines()
    assert 'start("01_toy")' in student[1].source and 'start("01_toy", solution=True)' in solution[1].source
    head = "# Exercise 1.1 · 1 point · about 5 min\n"
    head += '@piece("toy.scale")\n@plain\ndef scale(x, by=2):\n    """Multiply x by a number."""\n'
    assert student[2].source == (head + '    raise NotImplementedError("Exercise 1.1: scale")\n\n\ncheck(scale)')
    assert solution[2].source == head + "    # how it is done\n    return x * by  # (B,)\n\n\ncheck(scale)"
    expected = {"piece": "toy.scale", "exercise": "1.1", "points": 1, "minutes": 5}
    assert student[2].metadata == solution[2].metadata == {"minivdm": expected}
    box = student[3].source
    assert box.count("raise NotImplementedError") == 2 and "2 * self.size" not in box and "# stays, too" in box
    assert 'raise NotImplementedError("Exercise 1.2: Box.__init__")' in box and r"\alpha" in box
    assert 'raise NotImplementedError("Exercise 1.2: Box.double")' in box
    assert student[4].source == solution[4].source == "def line(x): return x"
    assert len({cell["id"] for cell in student}) == len(student) == 7
    text = (root / "chapters" / "01_toy.ipynb").read_text()
    assert text.endswith("}\n") and not text.endswith("\n\n") and str(root) not in text


@pytest.mark.parametrize("name", ["bare", "line"])
def test_stub_without_docstring(root, name):
    change(root, 'piece="toy.line"', f'piece="toy.{name}" exercise="1.3" points=1 minutes=1')
    assert build(root) == 0
    want = "# Exercise 1.3 · 1 point · about 1 min\n"
    want += f'@piece("toy.{name}")\ndef {name}(x):\n    raise NotImplementedError("Exercise 1.3: {name}")\n\n\n'
    assert cells(root)[4].source == want + f"check({name})"


def test_building_is_deterministic(root, capsys):
    build(root)
    before = {path: path.read_bytes() for path in root.glob("*/*.ipynb")}
    for path in before:
        path.unlink()
    build(root)
    assert before == {path: path.read_bytes() for path in root.glob("*/*.ipynb")} and len(before) == 2
    capsys.readouterr()
    assert build(root) == 0 and capsys.readouterr().out == "all notebooks are up to date\n"


def run(root):
    """Give every code cell of the solution what running it would."""
    path = root / "solutions" / "01_toy.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.outputs = [nbformat.v4.new_output("stream", text=f"out {count}\n")]
        cell.execution_count = count
        cell.metadata["execution"] = {"iopub.status.busy": "2024-01-01T00:00:00Z"}
    notebook.metadata["language_info"] = {"name": "python", "version": "3.99"}
    nbformat.write(notebook, path)


def test_outputs_survive_where_the_source_did_not_change(root):
    build(root)
    run(root)
    assert build(root, "--check") == 0
    change(root, '# %% piece="toy.line"', '# %%\nprint("new")\n\n# %% piece="toy.line"')
    assert build(root, "--check") == 1
    assert build(root) == 0
    code = [cell for cell in cells(root, "solutions") if cell.cell_type == "code"]
    assert [cell.outputs[0].text if cell.outputs else None for cell in code] == [
        *("out 1\n", "out 2\n", "out 3\n"), None, *("out 4\n", "out 5\n", "out 6\n")
    ]  # fmt: skip
    assert [cell.execution_count for cell in code] == [1, 2, 3, None, 4, 5, 6]
    text = (root / "solutions" / "01_toy.ipynb").read_text()
    assert "iopub" not in text and "3.99" not in text
    assert all(not cell.get("outputs") for cell in cells(root))


def test_check_names_what_is_wrong_and_writes_nothing(root, capsys):
    assert build(root, "--check") == 1 and not list(root.glob("*/*.ipynb"))
    assert "chapters/01_toy.ipynb: missing" in capsys.readouterr().out
    build(root)
    (root / "chapters" / "09_old.ipynb").write_text("{}")
    path = root / "chapters" / "01_toy.ipynb"
    path.write_text(path.read_text().replace("Multiply x by", "Divide x by"))
    edited = path.read_bytes()
    capsys.readouterr()
    assert build(root, "--check") == 1 and path.read_bytes() == edited
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "chapters/01_toy.ipynb: worked in: cell 3 (toy.scale)"
    assert lines[1] == "chapters/09_old.ipynb: has no source"
    assert lines[2].startswith("worked in: a learner has nothing to do here") and len(lines) == 4


def printing(text):
    notebook = json.loads(text)
    notebook["cells"][1]["outputs"] = [{"name": "stdout", "output_type": "stream", "text": ["hello"]}]
    return json.dumps(notebook)


def shortened(text):
    notebook = json.loads(text)
    return json.dumps({**notebook, "cells": notebook["cells"][:-1]})


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text[:50], "is no notebook"),
        (lambda text: text.rstrip("\n"), "outputs or metadata differ"),
        (printing, "outputs or metadata differ"),
        (shortened, "worked in: 1 cell deleted"),
    ],
)
def test_damaged_notebooks_are_found(root, capsys, damage, told):
    build(root)
    path = root / "chapters" / "01_toy.ipynb"
    path.write_text(damage(path.read_text()))
    capsys.readouterr()
    assert build(root, "--check") == 1 and told in capsys.readouterr().out


def test_a_change_in_the_package_makes_both_stale(root, capsys):
    build(root)
    module = root / "minivdm" / "toys" / "toy.py"
    module.write_text(module.read_text().replace("by=2", "by=3"))
    capsys.readouterr()
    assert build(root, "--check") == 1
    out = capsys.readouterr().out
    assert len(re.findall(r"cell 3 \(toy.scale\) is stale", out)) == 2 and "out of date: authors run" in out


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("toy.scale", "toy.scael", "minivdm has no function or class toy.scael"),
        ("toy.scale", "toys.scale", "minivdm has no function or class toys.scale"),
        ('exercise="1.2"', 'exercise="1.1"', "exercise 1.1 is in 01_toy.py, cell 3"),
        ("toy.line", 'toy.scale" exercise="1.3" points=1 minutes=1 x="', "the exercise for toy.scale is in"),
        ("points=1 ", "", "an exercise needs points, as a number"),
        (" points=1 minutes=5", "", "an exercise needs points and minutes, as a number"),
        ("points=1", 'points="one"', "an exercise needs points, as a number"),
        ('piece="toy.line"', 'piece="toy.line"\ny = 3', "a piece cell holds no code of its own"),
        ('"double"', '"triple"', "Box has no method triple"),
        ('methods=["__init__", "double"] ', "", "Box is a class: which methods"),
        ("toy.scale", 'toy.scale" methods=["x"] x="', "scale is a function"),
        ('piece="toy.scale" ', "", "exercise= without piece="),
    ],
)
def test_mistakes_in_a_source_are_one_line_and_write_nothing(root, capsys, old, new, told):
    build(root)
    before = {path: path.read_bytes() for path in root.glob("*/*.ipynb")}
    change(root, "# # A chapter", "# # Another")  # so that there is something to write
    change(root, old, new)
    capsys.readouterr()
    assert build(root) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: 01_toy.py") and told in error and error.count("\n") == 1
    assert before == {path: path.read_bytes() for path in root.glob("*/*.ipynb")}


def test_no_sources(tmp_path, capsys):
    assert build(tmp_path) == 2 and "no sources in" in capsys.readouterr().err


def test_bad_usage():
    for arguments in ([], ["nonsense"], ["check"]):
        assert main(arguments) == 2


def test_a_worked_notebook_that_cannot_be_read_is_not_overwritten(root, capsys):
    assert build(root) == 0
    path = root / "solutions" / "01_toy.ipynb"
    path.write_text("<<<<<<< HEAD\n" + path.read_text())
    before = path.read_text()
    capsys.readouterr()
    assert build(root) == 2
    assert "it holds the marks of a merge conflict; mend it" in capsys.readouterr().err and path.read_text() == before


HEADER = "# ---\n# title: Toys\n# question: What can one do with it?\n# build: scale: a toy, and a box\n# ---\n\n"
TABLE = """| chapter | question | you build | exercises | points |
|---|---|---|---|---|
| [01 Toys]({}01_toy.ipynb) | What can one do with it? | scale: a toy, and a box | 2 | 3 |
"""


@pytest.fixture
def with_readme(root):
    """The repository with a header in its source, a map in it, and a README that asks for both lists."""
    change(root, "# %% [markdown]", HEADER + "# %% [markdown]")
    change(root, "# with $x_t$", "# <!-- chapters -->\n#\n# with $x_t$")
    for name, text in (("toys", "Toys. And more."), ("games", "Games\nwith toys.\n\nImports `toys`.")):
        (root / "minivdm" / name).mkdir(exist_ok=True)
        (root / "minivdm" / name / "__init__.py").write_text(f'"""{text}"""\n')
    (root / "minivdm" / "games" / "ball.py").write_text("from ..toys.toy import scale\n")
    parts = [f"<!-- {part} -->\nold\n<!-- end of {part} -->\n" for part in ("folders", "chapters")]
    (root / "README.md").write_text("# Title\n\n" + "\nbetween\n".join(parts) + "end\n")
    return root


def test_tables_come_from_the_sources_and_docstrings(with_readme, capsys):
    root = with_readme
    assert build(root, "--check") == 1
    assert "README.md: its table of chapters or its list of folders is out of date" in capsys.readouterr().out
    assert build(root) == 0
    text = (root / "README.md").read_text()
    folders = "- [`minivdm/toys/`](minivdm/toys): Toys.\n- [`minivdm/games/`](minivdm/games): Games with toys.\n"
    assert text == (
        f"# Title\n\n<!-- folders -->\n{folders}<!-- end of folders -->\n\nbetween\n"
        f"<!-- chapters -->\n{TABLE.format('chapters/')}<!-- end of chapters -->\nend\n"
    )
    for folder in ("chapters", "solutions"):
        first = cells(root, folder)[0]
        assert first.cell_type == "markdown" and TABLE.format("") in first.source, "no cell shows the header"
    assert build(root, "--check") == 0


def test_a_new_chapter_is_in_the_tables_and_keeps_the_outputs(with_readme):
    root = with_readme
    build(root)
    run(root)
    (root / "chapters" / "source" / "02_new.py").write_text(HEADER.replace("Toys", "New") + "# %%\nx = 1\n")
    build(root)
    assert "| [02 New](chapters/02_new.ipynb) |" in (root / "README.md").read_text()
    solution = cells(root, "solutions")
    assert "| [02 New](02_new.ipynb) |" in solution[0].source
    assert all(cell.outputs for cell in solution if cell.cell_type == "code")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (HEADER, "", "01_toy.py: its header has no line `# title: ...`"),
        ("# question: What can one do with it?\n", "", "01_toy.py: its header has no line `# question: ...`"),
        ("# build: scale: a toy, and a box\n# ---", "# ---", "01_toy.py: its header has no line `# build: ...`"),
    ],
)
def test_a_header_says_it_all(with_readme, capsys, old, new, told):
    before = (with_readme / "README.md").read_text()
    change(with_readme, old, new)
    assert build(with_readme) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert (with_readme / "README.md").read_text() == before and not list(with_readme.glob("*/*.ipynb"))


def test_a_comment_in_the_readme_that_has_no_end(with_readme, capsys):
    path = with_readme / "README.md"
    path.write_text(path.read_text().replace("<!-- end of chapters -->", ""))
    assert build(with_readme) == 2
    assert capsys.readouterr().err == "error: README.md: <!-- chapters --> without <!-- end of chapters -->\n"


def test_without_jupytext_one_line_says_what_to_install(root, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jupytext", None)
    for module in ("build", "chapter_cells"):
        monkeypatch.delitem(sys.modules, f"minivdm.course.{module}", raising=False)
    assert build(root) == 2
    assert capsys.readouterr().err == 'error: building needs jupytext: pip install "minivdm[test]"\n'


def test_building_needs_no_pytorch():
    """It starts at once where nothing is to be mended: only the checks of such exercises need it."""
    code = "import sys, minivdm.course.build; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
