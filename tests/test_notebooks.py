"""The notebooks as files. (What is in them is executed by nbval, with the same command.)"""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "chapters" / "source").glob("*.py"))
NOTEBOOKS = [ROOT / folder / f"{path.stem}.ipynb" for folder in ("chapters", "solutions") for path in SOURCES]


def cells_of(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def test_every_source_has_two_notebooks_and_every_notebook_a_source():
    there = {path for folder in ("chapters", "solutions") for path in (ROOT / folder).glob("*.ipynb")}
    assert len(SOURCES) >= 2 and there == set(NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_cell_is_left_out_or_expected_to_fail(path):
    tags = {tag for cell in cells_of(path) for tag in cell["metadata"].get("tags", [])}
    assert not tags & {"raises-exception", "nbval-skip", "nbval-raises-exception", "skip-execution"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_notebook_travels_light(path):
    assert path.stat().st_size < 1_500_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_code_can_be_read_without_scrolling(path):
    lines = [line for c in cells_of(path) if c["cell_type"] == "code" for line in "".join(c["source"]).splitlines()]
    assert not [line for line in lines if len(line) > 100]


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.parent.name == "solutions"], ids=lambda path: path.stem)
def test_worked_notebooks_show_their_results(path):
    code = [cell for cell in cells_of(path) if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code), "run tests/benchmarks/notebooks.py"
    assert not any(output["output_type"] == "error" for cell in code for output in cell["outputs"])
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell["outputs"])


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.parent.name == "chapters"], ids=lambda path: path.stem)
def test_student_notebooks_give_nothing_away(path):
    for cell in cells_of(path):
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None
        if "exercise" in cell["metadata"].get("minivdm", {}):
            assert "raise NotImplementedError(" in "".join(cell["source"])
