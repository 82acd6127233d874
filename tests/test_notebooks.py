"""The notebooks as files. (What is in them is executed by nbval, with the same command.)

What a student's notebook must be is asked of the one that its source gives: in `chapters/` people work. Of the file
there it is asked that it is not out of date. What the worked ones show, and how large they are, is asked of what was
committed: who runs one, or clears it, has done no harm.
"""

import json
import subprocess
from pathlib import Path

import pytest
from helpers import all_built, built

from minivdm.course.build import differences
from minivdm.course.guess_cells import predictions
from minivdm.course.sources import exercises, word_questions

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "chapters" / "source").glob("*.py"))
STUDENTS = [ROOT / "chapters" / f"{path.stem}.ipynb" for path in SOURCES]
WORKED = [ROOT / "solutions" / f"{path.stem}.ipynb" for path in SOURCES]


def name(path):
    return f"{path.parent.name}/{path.stem}"


def committed(path):
    """The bytes of a notebook in git's last commit; where there is no git, nobody knows what they were."""
    where = f"HEAD:./{path.relative_to(ROOT).as_posix()}"
    try:
        return subprocess.run(["git", "show", where], cwd=ROOT, capture_output=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip(f"no commit that holds {path.name}")


def test_every_source_has_two_notebooks():
    assert len(SOURCES) >= 2 and set(all_built()) == {*STUDENTS, *WORKED}
    assert all(path.exists() for path in [*STUDENTS, *WORKED])


def test_no_notebook_is_out_of_date():
    """Nobody has changed a cell of it, yet its source gives another. (Which are worked in: `build --check`, in CI.)"""
    late = [str(note) for note in differences(ROOT) if note.kind == "stale"]
    assert not late, "run python -m minivdm.course build"


@pytest.mark.parametrize("path", [*STUDENTS, *WORKED], ids=name)
def test_no_cell_is_left_out_or_expected_to_fail(path):
    tags = {tag for cell in built(path).cells for tag in cell["metadata"].get("tags", [])}
    assert not tags & {"raises-exception", "nbval-skip", "nbval-raises-exception", "skip-execution"}


@pytest.mark.parametrize("path", WORKED, ids=name)
def test_a_notebook_travels_light(path):
    assert len(committed(path)) < 1_500_000


@pytest.mark.parametrize("path", [*STUDENTS, *WORKED], ids=name)
def test_code_can_be_read_without_scrolling(path):
    lines = [line for c in built(path).cells if c.cell_type == "code" for line in c.source.splitlines()]
    assert not [line for line in lines if len(line) > 100]


@pytest.mark.parametrize("path", WORKED, ids=name)
def test_worked_notebooks_show_their_results(path):
    code = [cell for cell in json.loads(committed(path))["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code), "run tests/benchmarks/notebooks.py"
    assert not any(output["output_type"] == "error" for cell in code for output in cell["outputs"])
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell["outputs"])


@pytest.mark.parametrize("path", STUDENTS, ids=name)
def test_student_notebooks_give_nothing_away(path):
    for cell in built(path).cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None
        settings = cell.metadata.get("minivdm", {})
        if settings.get("kind") == "mend":
            assert cell.source not in {worked.source for worked in built(ROOT / "solutions" / path.name).cells}
        elif "exercise" in settings:
            assert "raise NotImplementedError(" in cell.source


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_chapter_asks_for_thought(path):
    """Those with predictions, as all new ones: three of them, a question in words, half of the points for thought."""
    asked = [number for number, (chapter, _) in predictions(ROOT).items() if chapter == path.stem]
    if not asked:
        return
    here = [each for each in exercises(ROOT).values() if each["chapter"] == path.stem]
    thought = [each for each in here if each.get("kind", "write") != "write" or each.get("hide")]
    assert len(asked) >= 3 and len(word_questions(ROOT)[path.stem]) == 1
    assert 2 * sum(each["points"] for each in thought) >= sum(each["points"] for each in here)
    assert any(each.get("kind") in ("mend", "find") for each in here)
