"""Grading a notebook in a process of its own."""

import json

import nbformat
import pytest
from course_kit import RIGHT, STUB, body

from minivdm.course import sources
from minivdm.course.__main__ import main

SOURCE = """# %% piece="forward_process.q_sample" exercise="1.3" points=2 minutes=10

# %% piece="forward_process.to_x0" exercise="1.4" points=1 minutes=10
"""
SETUP = """%matplotlib inline
!ls
import torch, nothing_of_that_name
from minivdm.course import check, piece, start
from minivdm.diffusion.schedules import per_sample
start("01_toy")
HALF = 1 / 2
raise RuntimeError("an experiment that must not run")"""
OTHER = """import torch

@piece("forward_process.to_x0")
def to_x0(x_t, t, eps, schedule):
    a = per_sample(schedule.alpha_bar, t, x_t)
    return (x_t - (1 - a) ** HALF * eps) / a ** HALF

check(to_x0)"""


@pytest.fixture
def grade(tmp_path, monkeypatch, capsys):
    """Grade a notebook made of these code cells; returns the exit code and the printed JSON."""
    (tmp_path / "chapters" / "source").mkdir(parents=True)
    (tmp_path / "chapters" / "source" / "01_toy.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIVDM_CHECK_SECONDS", "3")

    def run(*cells, name="alice.ipynb"):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (SETUP, *cells)])
        nbformat.write(notebook, tmp_path / name)
        code = main(["check", str(tmp_path / name), "--json"])
        grades = json.loads(capsys.readouterr().out)
        return code, {each["piece"]: each for each in grades["exercises"]}, grades

    return run


def test_all_right(grade, tmp_path):
    code, answers, grades = grade(RIGHT + "check(q_sample)", OTHER)
    assert {name: (each["status"], each["points"], each["exercise"]) for name, each in answers.items()} == {
        "forward_process.q_sample": ("passed", 2, "1.3"),
        "forward_process.to_x0": ("passed", 1, "1.4"),
    }
    assert (code, grades["points"], grades["possible"]) == (0, 3, 3)
    assert not sources.pieces_folder().exists() and not (tmp_path / "my_pieces").exists()


@pytest.mark.parametrize(
    ("cell", "status", "told"),
    [
        (STUB, "not attempted", ""),
        ("x = 1", "not attempted", 'no cell with @piece("forward_process.q_sample")'),
        (RIGHT.replace("return a", "return return a"), "error", "line 6 of the cell"),
        (body("return 1 / 0"), "error", "ZeroDivisionError"),
        (body("import os", "os._exit(3)"), "error", "it ended the process (exit code 3)"),
        (body("while True: pass"), "error", "does a loop never end?"),
        (body("print('noise', flush=True)", "return noise"), "wrong", "x_t"),
        ("def late(x=unknown): pass\n" + RIGHT.replace("schedule):", "schedule=unknown):"), "error", "'unknown'"),
        ("import os; os._exit(1)\n" + STUB, "error", "it ended the process (exit code 1)"),
        ("half = lambda x: x / 2\n" + RIGHT.replace("* noise", "* half(2 * noise)"), "passed", ""),
        ("if True:" + RIGHT.replace("\n", "\n    "), "passed", ""),
        (
            body("from minivdm.diffusion.forward_process import q_sample as r", "return r(x0, t, noise, schedule)"),
            "error",
            "your own",
        ),
        (body("print('{\"end\": true}', 'x', flush=True)", "return noise"), "wrong", "x_t"),
    ],
)
def test_one_bad_exercise_leaves_the_others(grade, cell, status, told):
    code, answers, grades = grade(cell, OTHER)
    points = 2 if status == "passed" else 0
    assert answers["forward_process.to_x0"]["status"] == "passed" and grades["points"] == 1 + points
    answer = answers["forward_process.q_sample"]
    assert code == (status != "passed")
    assert (answer["status"], answer["points"]) == (status, points) and told in answer["message"]


def test_a_wrong_piece_below_is_named(grade):
    using = (
        '@piece("forward_process.to_x0")\ndef to_x0(x_t, t, eps, schedule):\n    return q_sample(x_t, t, eps, schedule)'
    )
    answers = grade(body("return x0"), using)[1]
    told = "Exercise 1.3 (q_sample) does not pass yet and this one uses it: solve that one first."
    assert (
        answers["forward_process.to_x0"]["message"].endswith(told)
        and told not in answers["forward_process.q_sample"]["message"]
    )


def test_modules_beside_the_notebook_are_not_used(grade, tmp_path):
    (tmp_path / "minivdm").mkdir()
    (tmp_path / "minivdm" / "__init__.py").write_text("raise SystemExit(7)")
    (tmp_path / "queue.py").write_text("raise SystemExit(8)")
    assert grade(RIGHT, OTHER)[0] == 0


def test_a_chapter_can_be_named(grade, tmp_path, capsys):
    text = "\n".join(["# hello", 'start("00_other")'])
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text)]), tmp_path / "b.ipynb")
    assert main(["check", str(tmp_path / "b.ipynb"), "--chapter", "nowhere"]) == 2
    assert "no chapter 'nowhere'" in capsys.readouterr().err


def test_a_crash_while_defining(grade):
    code, answers, _ = grade("class Crash:\n    import os\n    os._exit(4)", RIGHT, OTHER)
    assert code == 0 and len(answers) == 2


def test_table(grade, tmp_path, capsys):
    grade(RIGHT)
    assert main(["check", str(tmp_path / "alice.ipynb")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["exercise", "piece", "status", "points"]
    assert (
        lines[1].split() == ["1.3", "forward_process.q_sample", "passed", "2/2"] and lines[-1] == "total: 2 of 3 points"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "No such file"),
        ("hello", "is no notebook"),
        ("[]", "is no notebook"),
        ("<<<<<<< HEAD\n{}\n=======\n", "is no notebook: it holds the marks of a merge conflict"),
        ('{"cells": []}', "no exercise"),
    ],
)
def test_bad_usage_is_one_line(tmp_path, capsys, text, told):
    path = tmp_path / "x.ipynb"
    if text is not None:
        path.write_text(text)
    assert main(["check", str(path)]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
