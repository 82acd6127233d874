"""`minivdm start`: the learner's folder gets the notebooks, and nothing of theirs is ever written over."""

import errno
import json
import os
import sys
from pathlib import Path

import pytest

import minivdm.files
from minivdm.__main__ import main, split
from minivdm.course import sources, workspace
from minivdm.files import home_folder

NOTEBOOK = "chapters/01_a.ipynb"
NEWER = "chapters/01_a.new.ipynb"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty working folder outside any checkout."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A small course that is installed: a function that puts another version in its place."""

    def install(text):
        for name in ("chapters/00_start.ipynb", NOTEBOOK, "solutions/01_a.ipynb"):
            path = tmp_path / "installed" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name} {text}")

    monkeypatch.setattr(workspace, "shipped", lambda part: tmp_path / "installed" / part)
    install("v1")
    return install


@pytest.fixture
def started(monkeypatch):
    """The commands that would have been run instead of JupyterLab, which is there."""
    commands = []
    monkeypatch.setattr(workspace, "run_program", lambda command: commands.append(command) or 0)
    monkeypatch.setattr(workspace.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(workspace, "has_browser", lambda: True)
    return commands


def files(folder):
    """Every file below a folder, with its text; the record aside."""
    found = {path.relative_to(folder).as_posix(): path for path in Path(folder).rglob("*") if path.is_file()}
    return {name: path.read_text() for name, path in found.items() if name != workspace.RECORD}


def fails(capsys, *arguments):
    """The one line on stderr of a command that must fail."""
    assert main(list(map(str, arguments))) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ")
    return error


def test_a_new_folder(course, started, capsys):
    assert main(["start"]) == 0
    folder = Path("minivdm-course").absolute()
    assert set(files(folder)) == {"README.md", "chapters/00_start.ipynb", NOTEBOOK, "solutions/01_a.ipynb"}
    assert files(folder)[NOTEBOOK] == f"{NOTEBOOK} v1"
    assert capsys.readouterr().out == f"{folder}: 4 files written\n"
    assert started[0][:4] == [sys.executable, "-P", "-m", "jupyterlab"]
    assert f"--ServerApp.root_dir={folder}" in started[0] and "--no-browser" not in started[0]
    address = "--LabApp.default_url=/lab/tree/chapters/00_start.ipynb"
    assert address + "?file-browser-path=/" in started[0]
    assert main(["start", "minivdm-course", "--no-browser", "--port", "8899", "--", "--ip=0.0.0.0"]) == 0
    assert capsys.readouterr().out == f"{folder} is up to date\n"
    assert started[1][4:] == started[0][4:5] + [address, "--no-browser", "--ServerApp.port=8899", "--ip=0.0.0.0"]


def test_without_a_name_the_folder_of_an_earlier_start_is_opened(course, started, monkeypatch):
    main(["start", "mine"])
    monkeypatch.chdir("mine/chapters")
    main(["start"])
    assert started[1] == started[0] and not Path("minivdm-course").exists()


def test_a_changed_notebook_is_left_and_an_untouched_one_follows_the_course(course, started, capsys):
    main(["start", "mine"])
    Path("mine", NOTEBOOK).write_text("my work")
    before = files("mine")
    capsys.readouterr()
    main(["start", "mine"])
    assert files("mine") == before, "nothing is newer, so nothing is put beside it"
    assert capsys.readouterr().out.splitlines()[1:] == [f"left as you have them: {NOTEBOOK}"]

    course("v2")
    main(["start", "mine"])
    assert files("mine") == {
        **before,
        "chapters/00_start.ipynb": "chapters/00_start.ipynb v2",
        "solutions/01_a.ipynb": "solutions/01_a.ipynb v2",
        NEWER: f"{NOTEBOOK} v2",
    }
    out = capsys.readouterr().out.splitlines()
    assert out[1] == f"left as you have them: {NOTEBOOK}" and out[2].endswith(f"beside yours: {NEWER}")


def test_a_new_version_is_offered_once_and_replaced_by_the_next(course, started, capsys):
    main(["start", "mine"])
    Path("mine", NOTEBOOK).write_text("my work")
    course("v2")
    main(["start", "mine"])
    Path("mine", NEWER).unlink()
    main(["start", "mine"])
    assert not Path("mine", NEWER).exists(), "the learner did not want it"
    for version in ("v3", "v4"):
        course(version)
        main(["start", "mine"])
        assert files("mine")[NEWER] == f"{NOTEBOOK} {version}"
    Path("mine", NEWER).write_text("my notes")
    course("v5")
    main(["start", "mine"])
    assert f"left as you have them: {NOTEBOOK}, {NEWER}\n" in capsys.readouterr().out
    assert files("mine")[NEWER] == "my notes" and files("mine")[NOTEBOOK] == "my work"
    os.replace(Path("mine", NEWER), Path("mine", NOTEBOOK))
    main(["start", "mine"])
    assert files("mine")[NEWER] == f"{NOTEBOOK} v5", "now there is room for it"


def test_who_takes_the_new_version_follows_the_course_again(course, started):
    main(["start", "mine"])
    Path("mine", NOTEBOOK).write_text("my work")
    course("v2")
    main(["start", "mine"])
    os.replace(Path("mine", NEWER), Path("mine", NOTEBOOK))
    course("v3")
    main(["start", "mine"])
    assert files("mine")[NOTEBOOK] == f"{NOTEBOOK} v3" and NEWER not in files("mine")


def test_a_deleted_notebook_comes_back(course, started):
    main(["start", "mine"])
    Path("mine", NOTEBOOK).unlink()
    main(["start", "mine"])
    assert files("mine")[NOTEBOOK] == f"{NOTEBOOK} v1"


@pytest.mark.parametrize("record", [None, "{", "[]", '{"laid": 3}'])
def test_files_that_were_there_before_are_the_learners(course, started, capsys, record):
    main(["start", "mine"])
    for name in ("README.md", NOTEBOOK):
        Path("mine", name).write_text("mine")
    path = Path("mine", workspace.RECORD)
    path.unlink() if record is None else path.write_text(record)
    course("v2")
    capsys.readouterr()
    main(["start", "mine"])
    found = files("mine")
    assert found["README.md"] == found[NOTEBOOK] == "mine" and NEWER not in found
    assert "left as you have them: README.md, chapters/00_start.ipynb," in capsys.readouterr().out
    assert "laid" in json.loads(path.read_text())


def test_a_checkout_is_opened_as_it_is(course, started, monkeypatch, capsys):
    Path("repository", "chapters", "source").mkdir(parents=True)
    Path("repository", "chapters", "00_start.ipynb").write_text("{}")
    root = Path("repository").absolute()
    main(["start", "repository"])
    monkeypatch.chdir("repository/chapters")
    main(["start"])
    assert set(files(root)) == {"chapters/00_start.ipynb"} and not (root / workspace.RECORD).exists()
    assert started[0] == started[1] and f"--ServerApp.root_dir={root}" in started[0]
    assert capsys.readouterr().out == f"opening {root}\n" * 2


def test_without_jupyterlab_the_files_are_laid_all_the_same(course, monkeypatch, capsys):
    monkeypatch.setattr(workspace.importlib.util, "find_spec", lambda name: None)
    assert fails(capsys, "start", "mine") == f"error: {workspace.NO_JUPYTER}\n"
    assert NOTEBOOK in files("mine")


def test_the_exit_code_is_jupyterlabs(course, started, monkeypatch):
    monkeypatch.setattr(workspace, "run_program", lambda command: 7)
    assert main(["start", "mine"]) == 7


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["file"], "file is a file; expected a folder"),
        (["file/below"], "cannot be written: Not a directory"),
        (["taken"], "taken/chapters is a file; expected a folder"),
        ([""], "expected a folder for the notebooks, got an empty name"),
        (["mine", "--port", "many"], "argument --port: invalid int value: 'many'"),
        (["mine", "--ip=0.0.0.0"], "unrecognized arguments: --ip=0.0.0.0"),
    ],
)
def test_where_it_cannot_be_laid(course, started, capsys, arguments, told):
    Path("file").write_text("")
    Path("taken").mkdir()
    Path("taken", "chapters").write_text("")
    assert told in fails(capsys, "start", *arguments)
    assert not started and set(files(".")) == {"file", "taken/chapters"}


def test_mine_is_for_other_commands(course, started, capsys):
    assert "--mine is for train, sample and evaluate" in fails(capsys, "--mine", "start", "mine")
    assert not Path("mine").exists()


def test_a_full_disk_leaves_no_half_written_file(course, started, capsys, monkeypatch):
    main(["start", "mine"])
    Path("mine", NOTEBOOK).write_text("my work")
    before, sync, calls = files("mine"), os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    course("v2")
    monkeypatch.setattr(os, "fsync", full)
    line = fails(capsys, "start", "mine")
    assert f"{NEWER} cannot be written: No space left on device" in line and len(started) == 1
    assert files("mine") == {**before, "chapters/00_start.ipynb": "chapters/00_start.ipynb v2"}


def test_a_folder_without_permission(course, started, capsys, monkeypatch):
    def refused(target):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), f"{target}.tmp")

    monkeypatch.setattr(minivdm.files, "new_temporary", refused)
    assert "mine/README.md cannot be written: Permission denied" in fails(capsys, "start", "mine")


def test_an_installation_without_notebooks(tmp_path, monkeypatch, started, capsys):
    monkeypatch.setattr(workspace, "shipped", lambda part: tmp_path / "nowhere" / part)
    assert "carries no notebooks" in fails(capsys, "start", "mine")
    assert not Path("mine").exists()


def test_pieces_and_exercises_in_a_laid_folder(started, monkeypatch):
    monkeypatch.delenv("MINIVDM_PIECES", raising=False)
    main(["start", "mine"])
    monkeypatch.chdir("mine/chapters")
    assert home_folder() == Path("..").resolve()
    assert sources.pieces_folder() == Path("..").resolve() / "my_pieces"
    assert {path.stem for path in sources.source_files()} == {path.stem for path in Path().glob("*.ipynb")}
    assert len(sources.exercises()) >= 50


def test_what_follows_two_dashes():
    assert split(["start", "a", "--", "--b"]) == (["start", "a"], ["--b"])
    assert split(["start", "a"]) == (["start", "a"], [])
    assert split(["--mine", "sample", "-o", "x.gif", "--", "start"]) == (
        ["--mine", "sample", "-o", "x.gif", "--", "start"],
        [],
    )
