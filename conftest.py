"""How the one command `pytest` runs tests and notebooks.

Every notebook is executed, cell by cell. The worked ones in `solutions/` run strictly (a check that does not pass is an
error) at the budget that the machine allows; the students' in `chapters/` run at `smoke` with every exercise open.

What is executed is made from the sources, into a folder of its own. What somebody has done in the notebooks here, be it
half an answer or an endless loop, and what they have trained into `runs/`, is no business of a test. Whether the
notebooks here are in step with their sources: `tests/test_notebooks.py`, and `python -m minivdm.course build --check`.
"""

import functools
import os
import tempfile
from pathlib import Path

import pytest

from minivdm import share_cores

try:
    from nbval.plugin import IPyNbFile
except ImportError:  # tests of modules run without it; a run of everything fails, since it holds no notebook
    IPyNbFile = None

ROOT = Path(__file__).parent

# Nothing that a test keeps may end up among the learner's own pieces.
os.environ["MINIVDM_PIECES"] = tempfile.mkdtemp(prefix="minivdm-pieces-")
# Worker processes of pytest-xdist share the cores, unless somebody has said how many threads there should be.
given = os.environ.setdefault("MINIVDM_TEST_THREADS", os.environ.get("OMP_NUM_THREADS", ""))
workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
os.environ["OMP_NUM_THREADS"] = given or str(max(1, min(4, (os.cpu_count() or 1) // workers)))
share_cores()

import matplotlib  # noqa: E402
import torch  # noqa: E402  (both read the environment when they are imported)

matplotlib.use("Agg")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
SMALLEST = "smoke"
# Worker processes of pytest-xdist inherit the environment as it is set here, so the first process decides.
FULL = os.environ.setdefault(
    "MINIVDM_FULL_BUDGET", os.environ.get("MINIVDM_BUDGET") or ("gpu" if torch.cuda.is_available() else SMALLEST)
)
os.environ["MINIVDM_BUDGET"] = SMALLEST


@functools.cache
def fresh_notebooks():
    """All notebooks as their sources give them, in a folder that goes when the tests end."""
    from minivdm.course.build import notebooks, text_of

    folder = tempfile.TemporaryDirectory(prefix="minivdm-notebooks-")
    for path, made in notebooks(ROOT).items():
        target = Path(folder.name, path.relative_to(ROOT))
        target.parent.mkdir(exist_ok=True)
        target.write_text(text_of(made), encoding="utf-8")
    return folder


class CourseNotebook(IPyNbFile or pytest.File):
    """A notebook of the course: under its own name, nbval reads and runs the fresh one."""

    @property
    def fspath(self):
        return type(super().fspath)(Path(fresh_notebooks().name) / self.path.relative_to(ROOT))


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    """Of the two folders, collect the notebooks that have a source, and nobody's own."""
    found = yield
    folder = file_path.relative_to(ROOT).parts[0] if file_path.is_relative_to(ROOT) else None
    if file_path.suffix != ".ipynb" or folder not in ("chapters", "solutions") or IPyNbFile is None:
        return found
    ours = file_path == ROOT / folder / file_path.name and (ROOT / "chapters/source" / f"{file_path.stem}.py").exists()
    return [CourseNotebook.from_parent(parent, path=file_path)] if ours else []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Set what a notebook's kernel inherits; the kernel starts with its first cell."""
    worked = item.path.parent == ROOT / "solutions"
    os.environ["MINIVDM_BUDGET"] = FULL if worked else SMALLEST
    os.environ.pop("MINIVDM_STRICT", None)
    if worked:
        os.environ["MINIVDM_STRICT"] = "1"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """A cell that was skipped has shown nothing: count it as a failure."""
    report = (yield).get_result()
    if item.path.suffix == ".ipynb" and report.skipped:
        report.outcome, report.longrepr = "failed", f"{item.nodeid} was skipped: {report.longrepr}"


def pytest_collection_finish(session):
    """A run of everything must hold every notebook, twice: the student's and the worked one."""
    if session.config.args_source is not pytest.Config.ArgsSource.TESTPATHS or session.config.option.keyword:
        return
    names = sorted(path.stem for path in (ROOT / "chapters" / "source").glob("*.py"))
    wanted = {ROOT / folder / f"{name}.ipynb" for folder in ("chapters", "solutions") for name in names}
    found = {item.path for item in session.items if item.path.suffix == ".ipynb"}
    if not wanted or found != wanted:
        raise pytest.UsageError(f"expected the notebooks {sorted(wanted)}, collected {sorted(found)}")
