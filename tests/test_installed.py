"""As people install it: a wheel in a new environment, and commands in another folder that know of no checkout."""

import os
import re
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted(path.stem for path in (ROOT / "chapters" / "source").glob("*.py"))


def run(command, folder, code=0, **environment):
    """Run a command in a folder with no variable that would lead to the checkout; what it printed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MINIVDM_"))}
    kept |= {"OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=kept, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the checkout without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    run(command, ROOT)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory):
    """The folder with `python` and `minivdm` of a new environment; packages from elsewhere are those of this one."""
    folder = tmp_path_factory.mktemp("new") / "environment"
    builder = venv.EnvBuilder(symlinks=os.name == "posix")
    builder.create(folder)
    there = builder.ensure_directories(folder)
    run(
        [sys.executable, "-m", "pip", "--python", there.env_exe, "install", "-q", "--no-deps", "--no-index", wheel],
        folder,
    )
    packages = run([there.env_exe, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip()
    # Only the folder's modules: the .pth files in it, one of which may lead to the checkout, are not read.
    lines = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    Path(packages, "from_elsewhere.pth").write_text("\n".join(sorted(lines)) + "\n")
    return Path(there.bin_path)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder of somebody's, and a JupyterLab in it that only says how it was called."""
    folder = tmp_path_factory.mktemp("work")
    stand_in = folder / "stand_in" / "jupyterlab"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").write_text("")
    (stand_in / "__main__.py").write_text("import sys\nprint('JupyterLab', *sys.argv[1:])\n")
    return folder


def test_what_the_wheel_carries(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    for name in CHAPTERS:
        assert f"minivdm/chapters/{name}.ipynb" in names and f"minivdm/solutions/{name}.ipynb" in names
        assert f"minivdm/chapters/source/{name}.py" in names
    data = {f"minivdm/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "data").rglob("*") if path.is_file()}
    assert data <= names and not [name for name in names if name.startswith(("tests/", "data/", "chapters/"))]
    assert not [name for name in names if re.search(r"my_pieces|/runs/|checkpoints/|__pycache__", name)]
    assert re.search(r"(?m)^Author: The minivdm authors$", metadata) and "Provides-Extra: course" in metadata


def test_help_is_quick(programs, work):
    began = time.perf_counter()
    text = run([programs / "minivdm", "--help"], work)
    assert time.perf_counter() - began < 5, "0.1 s on a quiet machine"
    assert text.startswith("usage: minivdm ") and "start" in text
    script = "import sys, minivdm.__main__ as m; m.main(['--help']); sys.exit('torch' in sys.modules)"
    run([programs / "python", "-P", "-c", script], work)


def test_nothing_comes_from_the_checkout(programs, work):
    script = "import sys, minivdm; print(minivdm.__file__, *sys.path, sep='\\n')"
    where, *path = run([programs / "python", "-c", script], work).splitlines()
    assert Path(where).is_relative_to(programs.parent) and str(ROOT) not in path


def test_sample(programs, work):
    text = run([programs / "minivdm", "sample", "a red circle moving left", "-o", "clip.gif", "--steps", "2"], work)
    assert "the one that comes with the course" in text
    assert (work / "clip.gif").read_bytes().startswith(b"GIF89a")


def test_start_twice_and_status(programs, work):
    command = [programs / "minivdm", "start", "course", "--no-browser", "--", "--port-retries=0"]
    text = run(command, work, PYTHONPATH=str(work / "stand_in"))
    folder = work / "course"
    assert f"{folder}: {1 + 2 * len(CHAPTERS)} files written\n" in text
    assert f"JupyterLab --ServerApp.root_dir={folder} " in text and "00_start_here.ipynb --no-browser --port-r" in text
    changed = folder / "chapters" / "01_ddpm.ipynb"
    changed.write_text(changed.read_text().replace("import math", "import math, cmath"))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    text = run(command, work, PYTHONPATH=str(work / "stand_in"))
    assert f"{folder} is up to date\nleft as you have them: chapters/01_ddpm.ipynb\nJupyterLab" in text
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    pieces = folder / "my_pieces"
    pieces.mkdir()
    (pieces / "pixels.to_model_range.py").write_text("def to_model_range(images): return images")
    text = run([programs / "python", "-m", "minivdm.course", "status"], folder)
    exercises = sum('exercise="' in line for path in ROOT.glob("chapters/source/*.py") for line in path.open())
    assert exercises >= 50 and f"\n1 of {exercises} pieces are yours" in text
