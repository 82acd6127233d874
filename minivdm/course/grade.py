"""Grading a notebook: `python -m minivdm.course check NOTEBOOK [--json]`.

A child process runs what defines the learner's pieces, and each piece's check (see `grade_child`). It tells what it is
about to do, so that a crash or an endless loop is counted against the right exercise; then another child does the rest.
"""

import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from . import sources
from .cells import PIECE
from .own_cells import Unreadable, read_cells

START = re.compile(r"""^\s*start\(\s*["']([\w.-]+)["']""", re.MULTILINE)
STARTUP_SECONDS, SPARE_SECONDS = 180, 20


class GradeError(Exception):
    """One line about why a notebook cannot be graded."""


def command(path, as_json, chapter=None):
    """Grade and print; exit code 0 if every exercise passed, 1 if not, 2 if the notebook cannot be graded."""
    try:
        grades = grade(path, chapter)
    except GradeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(grades, indent=1) if as_json else table(grades))
    return int(any(each["status"] != "passed" for each in grades["exercises"]))


def grade(path, chapter=None):
    """The grades of a notebook, as a dict with `points`, `possible` and one dict for each of its `exercises`.

    Args:
        path: the notebook.
        chapter: grade it as this chapter, such as "01_ddpm"; by default the notebook's own `start(...)` or name says.

    Raises:
        GradeError: if there is no such notebook, or it holds no exercise.
    """
    cells = code_cells(path)
    expected = exercises_of(path, cells, chapter)
    answers, skipped = {}, []
    while True:
        at, code = run_child(path, cells, expected, answers, skipped)
        if at is None:
            break
        ended = "it did not end" if code is None else f"it ended the process (exit code {code})"
        if isinstance(at, int):  # a cell without a piece: go on without it
            skipped.append(at)
        else:
            answers[at] = {"status": "error", "message": f"the check could not be finished: {ended}", "hint": ""}
    exercises = []
    for name, settings in expected.items():
        missing = {"status": "not attempted", "message": f'no cell with @piece("{name}")', "hint": ""}
        answer = answers.get(name, missing)
        possible = settings.get("points", 0)
        points = possible if answer["status"] == "passed" else 0
        exercises.append(
            {"exercise": settings.get("exercise"), "piece": name, **answer, "points": points, "possible": possible}
        )
    total = {key: sum(each[key] for each in exercises) for key in ("points", "possible")}
    return {"notebook": str(path), **total, "exercises": exercises}


def code_cells(path):
    """The code cells of a notebook as dicts with `source` and `metadata`."""
    try:
        notebook = read_cells(path)
    except Unreadable as error:
        raise GradeError(f"{path} {error}") from None
    if notebook is None:
        raise GradeError(f"{path}: No such file or directory")
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [{"source": cell["source"], "metadata": cell["metadata"]} for cell in cells]


def exercises_of(path, cells, chapter=None):
    """The exercises that the notebook should hold: those of its chapter, and any other that it has a cell for."""
    known = sources.exercises()
    if chapter and all(settings["chapter"] != chapter for settings in known.values()):
        raise GradeError(f"no chapter {chapter!r}; there are {sorted({s['chapter'] for s in known.values()})}")
    started = [name for cell in cells for name in START.findall(cell["source"])]
    chapter = chapter or (started or [Path(path).stem])[0]
    expected = {name: settings for name, settings in known.items() if settings["chapter"] == chapter}
    for cell in cells:
        settings = cell["metadata"].get("minivdm") or {}
        if "exercise" in settings:
            expected.setdefault(settings["piece"], known.get(settings["piece"], settings))
        for name in PIECE.findall(cell["source"]):
            if name in known or not known:
                expected.setdefault(name, known.get(name, {}))
    if not expected:
        raise GradeError(f"{path} holds no exercise")
    return expected


def run_child(path, cells, expected, answers, skipped):
    """Let one child fill in `answers`.

    Returns:
        (None, 0) if it came to the end; else what it was at (a piece, or a cell's number) and its exit code, or None
        for one that had to be stopped.
    """
    task = {"cells": [cell["source"] for cell in cells], "exercises": list(expected), "skipped": skipped}
    task |= {"answered": list(answers), "crashed": [name for name in answers if answers[name].get("seconds") is None]}
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "MINIVDM_PIECES": empty, "MINIVDM_STRICT": "0"}
        search = [str(sources.PACKAGE.parent), os.environ.get("PYTHONPATH")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, search))
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "minivdm.course.grade_child"],  # -P: no modules from the notebook's folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=Path(path).resolve().parent,
            text=True,
            encoding="utf-8",
        )
        try:
            return follow(child, task, answers)
        finally:
            child.kill()
            child.wait()
            child.stdout.close()


def follow(child, task, answers):
    """Send the task and listen, as `run_child` describes."""
    said = queue.Queue()

    def listen():
        for line in child.stdout:
            said.put(line)
        said.put(None)

    threading.Thread(target=listen, daemon=True).start()
    try:
        with child.stdin:
            json.dump(task, child.stdin)
    except BrokenPipeError:
        pass
    at, patience = None, STARTUP_SECONDS
    while True:
        try:
            line = said.get(timeout=patience)
        except queue.Empty:
            code = None
            break
        if line is None:
            code = child.wait()
            break
        try:
            message = json.loads(line)
        except ValueError:  # not from the grader: the learner's code has written here
            continue
        if "end" in message:
            return None, 0
        if "at" in message:
            at, patience = message["at"], float(os.environ.get("MINIVDM_CHECK_SECONDS", 60)) + SPARE_SECONDS
        else:
            answers[message.pop("piece")] = message
    if at is None:
        raise GradeError(f"Python could not be started for grading (exit code {code})")
    return at, code


def table(grades):
    """The grades as text: a line for each exercise, the first line of what went wrong, and the hint."""
    width = max(len(each["piece"]) for each in grades["exercises"]) + 2
    lines = [f"{'exercise':10}{'piece':{width}}{'status':15}points"]
    for each in grades["exercises"]:
        points = f"{each['points']}/{each['possible']}"
        lines.append(f"{each['exercise'] or '-':10}{each['piece']:{width}}{each['status']:15}{points}")
        details = [*each["message"].splitlines(), *([f"hint: {each['hint']}"] if each["hint"] else [])]
        lines += [f"{'':10}{line}" for line in details]
    return "\n".join([*lines, f"total: {grades['points']} of {grades['possible']} points"])
