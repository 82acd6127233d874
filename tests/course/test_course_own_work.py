"""What somebody has written in a notebook is never lost, and is told apart from a notebook that is out of date."""

import errno
import json
import os
import re
import sys

import pytest
from course_kit import build

import minivdm.course.build as building
from minivdm.course import copies, workspace
from minivdm.course.__main__ import main
from minivdm.course.own_cells import own_cells, read_cells

ANSWER = "    return by * x  # mine"


@pytest.fixture
def chapter(root):
    """The toy chapter's notebook, built."""
    assert build(root) == 0
    return root / "chapters" / "01_toy.ipynb"


def change(path, edit):
    """Let `edit` change a notebook's JSON, and write that as another program would."""
    notebook = json.loads(path.read_text())
    edit(notebook)
    path.write_text(json.dumps(notebook))
    return path.read_bytes()


def source_of(cell):
    return "".join(cell["source"])


def solve(notebook):
    cell = notebook["cells"][2]
    assert source_of(cell).count("raise NotImplementedError") == 1
    cell["source"] = re.sub(r"    raise NotImplementedError.*", ANSWER, source_of(cell))


def break_a_cell(notebook):
    notebook["cells"][2]["source"] = ["def scale(x, by=2:\n", "    return x"]


def add(notebook):
    new = {"cell_type": "markdown", "metadata": {}, "source": "my note"}
    notebook["cells"].insert(2, new)


def edit_text(notebook):
    notebook["cells"][0]["source"] = source_of(notebook["cells"][0]) + "\n\nI see."


def delete(notebook):
    del notebook["cells"][1]


def move(notebook):
    notebook["cells"][0], notebook["cells"][1] = notebook["cells"][1], notebook["cells"][0]


def to_markdown(notebook):
    notebook["cells"][5] = {"cell_type": "markdown", "metadata": {}, "source": source_of(notebook["cells"][5])}


WORK = {
    solve: "cell 3 (toy.scale)",
    break_a_cell: "cell 3 (toy.scale)",
    add: "cell 3 (my note)",
    edit_text: "cell 1 (# A chapter)",
    delete: "1 cell deleted",
    move: "cells in another order",
    to_markdown: "cell 6 (x = 1)",
}


@pytest.mark.parametrize(("work", "told"), WORK.items(), ids=[work.__name__ for work in WORK])
def test_a_cell_that_a_learner_has_changed_is_never_written_over(root, chapter, capsys, work, told):
    mine = change(chapter, work)
    capsys.readouterr()
    assert build(root, "--check") == 1
    out = capsys.readouterr().out
    assert out.startswith(f"chapters/01_toy.ipynb: worked in: {told}\n") and "out of date" not in out
    assert "a learner has nothing to do here" in out
    assert build(root) == 0 and chapter.read_bytes() == mine
    assert f"chapters/01_toy.ipynb: left as it is, worked in: {told}\n" in capsys.readouterr().out


def run_it(notebook):
    for count, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["2\n", "hours"]}]
            cell["execution_count"] = count


def as_jupyterlab_saves(notebook):
    run_it(notebook)
    notebook["metadata"]["language_info"] = {"name": "python", "version": "3.12.1", "file_extension": ".py"}
    notebook["metadata"]["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    for cell in notebook["cells"]:
        cell["metadata"] |= {"collapsed": True, "execution": {"iopub.status.busy": "2024-01-01T00:00:00Z"}}
    blank = {"cell_type": "code", "execution_count": None, "id": "0", "metadata": {}, "outputs": [], "source": []}
    notebook["cells"].append(blank)  # made by running the last cell with Shift-Enter


def as_vs_code_saves(notebook):
    run_it(notebook)
    for number, cell in enumerate(notebook["cells"]):
        cell["id"] = f"new{number}"
        cell["metadata"]["vscode"] = {"languageId": "python"}


def as_older_programs_save(notebook):
    notebook["nbformat_minor"] = 4
    for cell in notebook["cells"]:
        del cell["id"]
        cell["source"] = source_of(cell).replace("\n", "\r\n") + "\r\n"


@pytest.mark.parametrize("save", [run_it, as_jupyterlab_saves, as_vs_code_saves, as_older_programs_save])
def test_opening_running_and_saving_is_no_work_and_outputs_stay(root, chapter, capsys, save):
    change(chapter, save)
    capsys.readouterr()
    assert build(root, "--check") == 1
    out = capsys.readouterr().out
    assert "chapters/01_toy.ipynb: outputs or metadata differ" in out and "which is no harm" in out
    module = root / "minivdm" / "toys" / "toy.py"
    module.write_text(module.read_text().replace("by=2", "by=3"))
    capsys.readouterr()
    assert build(root, "--check") == 1 and "chapters/01_toy.ipynb: cell 3 (toy.scale) is" in capsys.readouterr().out
    assert build(root) == 0
    cells = json.loads(chapter.read_text())["cells"]
    assert "by=3" in source_of(cells[2]) and len(cells) == 7
    kept = [bool(cell["outputs"]) for cell in cells if cell["cell_type"] == "code"]
    assert kept == [save is not as_older_programs_save] * 1 + [False] + [save is not as_older_programs_save] * 4


def test_after_an_update_only_the_learners_cells_are_theirs(root, chapter, capsys):
    """The source has changed since the notebook was built: other cells are out of date, and nobody's."""
    mine = change(chapter, solve)
    source = root / "chapters" / "source" / "01_toy.py"
    source.write_text(source.read_text().replace("# # A chapter", "# # A better chapter").replace("x = 1", "x = 2"))
    capsys.readouterr()
    assert build(root, "--check") == 1
    out = capsys.readouterr().out
    assert "chapters/01_toy.ipynb: worked in: cell 3 (toy.scale); and its source has changed since\n" in out
    assert "solutions/01_toy.ipynb: cell 1 (# A better chapter) is stale" in out
    assert build(root) == 1, "it could not be brought up to date"
    assert chapter.read_bytes() == mine and "A better chapter" in (root / "solutions" / "01_toy.ipynb").read_text()


def test_a_worked_notebook_is_protected_too(root, chapter, capsys):
    worked = root / "solutions" / "01_toy.ipynb"
    mine = change(worked, add)
    assert build(root) == 0 and worked.read_bytes() == mine


def test_without_a_record_whatever_differs_counts_as_the_learners(root, chapter, capsys):
    """As in notebooks from before there was one, or after a tool has removed it."""
    change(chapter, lambda notebook: notebook["metadata"].pop("minivdm"))
    assert build(root) == 0 and "minivdm" in json.loads(chapter.read_text())["metadata"], "nothing differs"
    mine = change(chapter, lambda notebook: (notebook["metadata"].pop("minivdm"), solve(notebook)))
    assert build(root) == 1 and chapter.read_bytes() == mine
    assert "worked in: cell 3 (toy.scale)" in capsys.readouterr().out


def test_a_notebook_that_is_saved_while_it_is_built_is_left(root, chapter, capsys, monkeypatch):
    """As an editor does by itself; nothing is written then, and the next build sees what was saved."""
    source = root / "chapters" / "source" / "01_toy.py"
    source.write_text(source.read_text().replace("x = 1", "x = 2"))
    text_of, worked = building.text_of, (root / "solutions" / "01_toy.ipynb").read_bytes()
    mine = []

    def save_meanwhile(made):
        mine.append(change(chapter, solve)) if not mine else None
        return text_of(made)

    monkeypatch.setattr(building, "text_of", save_meanwhile)
    capsys.readouterr()
    assert build(root) == 2 and chapter.read_bytes() == mine[0]
    assert "chapters/01_toy.ipynb was saved while this ran; nothing is written" in capsys.readouterr().err
    assert (root / "solutions" / "01_toy.ipynb").read_bytes() == worked
    assert build(root) == 1 and chapter.read_bytes() == mine[0], "worked in, and behind its source"


def test_a_worked_in_checkout_lays_fresh_notebooks_elsewhere(root, chapter, tmp_path, monkeypatch):
    """Nobody gets somebody else's answers; what was run there keeps its outputs."""
    clean = {part: (root / part / "01_toy.ipynb").read_bytes() for part in ("chapters", "solutions")}
    change(chapter, solve)
    change(root / "solutions" / "01_toy.ipynb", lambda notebook: (run_it(notebook), add(notebook)))
    monkeypatch.setattr(workspace, "shipped", lambda part: root / part)
    laid = tmp_path / "elsewhere"
    workspace.lay(laid)
    assert (laid / "chapters" / "01_toy.ipynb").read_bytes() == clean["chapters"]
    worked = read_cells(laid / "solutions" / "01_toy.ipynb")
    assert not own_cells(worked, []) and len(worked["cells"]) == len(json.loads(clean["solutions"])["cells"])
    assert all(cell["outputs"] for cell in worked["cells"] if cell["cell_type"] == "code")
    assert workspace.lay(laid) == [f"{laid} is up to date"]
    monkeypatch.setitem(sys.modules, "minivdm.course.build", None)
    with pytest.raises(workspace.WorkspaceError, match="01_toy.ipynb has been worked in; to lay it without that"):
        workspace.lay(tmp_path / "third")


def test_force_keeps_a_copy_and_no_copy_replaces_another(root, chapter, capsys):
    clean, versions = chapter.read_bytes(), []
    for work in (solve, edit_text, edit_text):  # the last is the same again
        versions.append(change(chapter, work))
        assert build(root, "--force") == 0 and chapter.read_bytes() == clean
    copies = sorted(chapter.parent.glob("*.mine*.ipynb"))
    assert [path.name for path in copies] == ["01_toy.mine-2.ipynb", "01_toy.mine.ipynb"]
    assert [path.read_bytes() for path in copies] == [versions[1], versions[0]]
    assert "chapters/01_toy.ipynb: copied to 01_toy.mine.ipynb\n" in capsys.readouterr().out
    assert build(root, "--check") == 0, "copies are no concern of it"
    ran = change(chapter, run_it)
    assert build(root, "--force") == 0 and chapter.read_bytes() == clean
    assert (chapter.parent / "01_toy.mine-3.ipynb").read_bytes() == ran


def test_force_changes_nothing_where_there_is_no_room_for_the_copy(root, chapter, capsys, monkeypatch):
    mine = change(chapter, solve)

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert build(root, "--force") == 2
    error = capsys.readouterr().err
    assert "No space left" in error and error.count("\n") == 1
    assert chapter.read_bytes() == mine and sorted(chapter.parent.iterdir()) == [chapter, chapter.parent / "source"]


def test_a_copy_never_takes_a_name_that_somebody_else_takes_meanwhile(tmp_path):
    path = tmp_path / "my notebook.ipynb"
    path.write_bytes(b"mine")
    (tmp_path / "my notebook.mine.ipynb").write_bytes(b"other")
    (tmp_path / "my notebook.mine-2.ipynb").symlink_to(tmp_path / "nowhere")
    assert copies.keep_copy(path).name == "my notebook.mine-3.ipynb"
    with pytest.raises(FileExistsError):
        copies.write_new(tmp_path / "my notebook.mine.ipynb", b"mine")
    assert (tmp_path / "my notebook.mine.ipynb").read_bytes() == b"other"


CONFLICT = b'<<<<<<< HEAD\n   "my answer"\n=======\n   "x"\n>>>>>>> main\n'


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (CONFLICT, "is no notebook: it holds the marks of a merge conflict"),
        (b"{}", "is no notebook"),
        (b'{"cells": 3, "metadata": {}}', "is no notebook"),
        (b'{"cells": [{"cell_type": "code", "source": null, "metadata": {}}], "metadata": {}}', "is no notebook"),
        (b"\xff\xfe", "is no notebook"),
        (b"", "is no notebook"),
    ],
)
def test_a_file_that_is_no_notebook_is_named_and_left(root, chapter, capsys, content, told):
    chapter.write_bytes(content)
    capsys.readouterr()
    assert build(root, "--check") == 1 and f"chapters/01_toy.ipynb: {told}\n" in capsys.readouterr().out
    assert build(root) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: chapters/01_toy.ipynb {told}; mend it") and error.count("\n") == 1
    assert chapter.read_bytes() == content
    assert build(root, "--force") == 0 and (chapter.parent / "01_toy.mine.ipynb").read_bytes() == content
    assert build(root, "--check") == 0


@pytest.fixture
def here(root, monkeypatch):
    """The toy repository as the folder that is worked in."""
    monkeypatch.chdir(root / "chapters")
    monkeypatch.delenv("MINIVDM_PIECES")
    (root / "my_pieces").mkdir()
    source = root / "chapters" / "source" / "01_toy.py"
    source.write_text('# %% piece="layers.timestep_embedding" exercise="1.1" points=1 minutes=5\n'
                      '# %% piece="pixels.to_model_range" exercise="1.2" points=2 minutes=10\n')  # fmt: skip
    (root / "minivdm").rename(root / "elsewhere")  # the pieces are those of the package
    assert build(root) == 0
    return root


def test_status_counts_only_pieces_that_load(here, capsys):
    (here / "my_pieces" / "pixels.to_model_range.py").write_text("def to_model_range(images):\n    return images\n")
    (here / "my_pieces" / "layers.timestep_embedding.py").write_text("def timestep_embedding(")
    capsys.readouterr()
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"1\.1 +layers\.timestep_embedding +1 +5 +broken", out)
    assert re.search(r"1\.2 +pixels\.to_model_range +2 +10 +yours", out)
    assert "\n1 of 2 pieces are yours: 2 of 3 points, 5 min to go\n" in out
    (line,) = [line for line in out.splitlines() if "skipped" in line]
    assert line.startswith("skipped my_pieces/layers.timestep_embedding.py: SyntaxError: ")
    assert line.endswith("Mend or delete the file, or pass exercise 1.1 of 01_toy again")


def test_status_tells_learners_and_authors_apart(here, capsys):
    def status():
        capsys.readouterr()
        assert main(["status"]) == 0
        return capsys.readouterr().out

    chapter = here / "chapters" / "01_toy.ipynb"
    assert status().endswith("0 of 2 pieces are yours: 0 of 3 points, 15 min to go\n")
    change(chapter, run_it)
    assert status().endswith("15 min to go\n")
    change(chapter, lambda notebook: notebook["cells"][0].update(source="mine"))
    text = "\n\nNotebooks that you have worked in:\n  chapters/01_toy.ipynb: cell 1 (layers.timestep_embedding)\n"
    assert status().endswith(text)
    (here / "chapters" / "my own.ipynb").write_bytes(CONFLICT)
    assert "  chapters/my own.ipynb: is no notebook: it holds the marks of a merge conflict\n" in status()
    source = here / "chapters" / "source" / "01_toy.py"
    source.write_text(source.read_text() + "# %%\nx = 1\n")
    assert status().endswith(
        "\nFor authors: out of date, see `build --check`: chapters/01_toy.ipynb, solutions/01_toy.ipynb\n"
    )
