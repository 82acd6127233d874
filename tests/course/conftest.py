"""A small course to test with, put back as it was after each test, and a cell-like way to run code."""

import itertools
import linecache
import textwrap

import pytest
from course_kit import SOURCE, TOY, q_sample_exercise, schedule_exercise

import minivdm.diffusion.forward_process
import minivdm.diffusion.samplers
import minivdm.diffusion.schedules  # noqa: F401
from minivdm.course import exercise as exercise_module
from minivdm.course import kept_pieces, pieces

numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def course(tmp_path, monkeypatch):
    """Exercises of this test alone, a folder of its own for kept pieces, and the pristine minivdm before and after."""
    known = {"forward_process.q_sample": q_sample_exercise(), "schedules.NoiseSchedule": schedule_exercise()}
    monkeypatch.setattr(exercise_module, "registry", known)
    monkeypatch.setenv("MINIVDM_PIECES", str(tmp_path / "my_pieces"))
    monkeypatch.delenv("MINIVDM_STRICT", raising=False)
    monkeypatch.setitem(kept_pieces.settings, "keep", True)
    kept_pieces.uninstall_all()
    pieces.latest.clear()
    yield known
    kept_pieces.uninstall_all()


@pytest.fixture
def cell():
    """Run source as a notebook cell would: its text can be found again, and all cells share a namespace."""
    space = {"__name__": "__main__"}
    prelude = """
        import torch
        from minivdm.course import check, piece
        from minivdm.diffusion.schedules import per_sample
    """

    def run(source):
        source = textwrap.dedent(source)
        filename = f"/tmp/ipykernel_1/{next(numbers)}.py"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        exec(compile(source, filename, "exec"), space)
        return space

    run(prelude)
    return run


@pytest.fixture
def root(tmp_path):
    """A repository with one module and one chapter."""
    (tmp_path / "minivdm" / "toys").mkdir(parents=True)
    (tmp_path / "minivdm" / "toys" / "toy.py").write_text(TOY)
    (tmp_path / "chapters" / "source").mkdir(parents=True)
    (tmp_path / "chapters" / "source" / "01_toy.py").write_text(SOURCE)
    return tmp_path
