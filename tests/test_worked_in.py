"""`pytest` in a checkout in which somebody has worked: it tests the course, and runs nothing of theirs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from minivdm.course.build import build

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "# %%\nx = 1\n\n# %%\nopen('../runs', 'w').write('trained')\n\n# %%\nassert x == 1\n"


def test_notebooks_are_run_as_their_sources_give_them(tmp_path):
    """A repository with this one's conftest.py and one chapter, whose notebook has been worked in."""
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    (tmp_path / "chapters" / "source").mkdir(parents=True)
    (tmp_path / "chapters" / "source" / "01_toy.py").write_text(SOURCE)
    build(tmp_path)
    path = tmp_path / "chapters" / "01_toy.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"][0]["source"], notebook["cells"][1]["source"] = "while True: pass", "def f(:"
    del notebook["cells"][2]
    path.write_text(json.dumps(notebook))
    (tmp_path / "chapters" / "tried").mkdir()
    for copy in ("my own notebook.ipynb", "tried/01_toy.ipynb"):
        shutil.copy(path, path.parent / copy)
    (tmp_path / "chapters" / "01_toy.mine.ipynb").write_text("<<<<<<< HEAD")
    before = {each: each.stat().st_mtime_ns for each in tmp_path.rglob("*.ipynb")}

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "7 passed" in done.stdout, done.stdout + done.stderr
    assert {each: each.stat().st_mtime_ns for each in tmp_path.rglob("*.ipynb")} == before
    assert not (tmp_path / "runs").exists(), "what a notebook writes is no business of the checkout"
