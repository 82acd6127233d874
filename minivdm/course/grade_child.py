"""The process in which a notebook is graded: `grade` starts it, sends a task, and reads one JSON line for each event.

Of the cells without a piece only imports, definitions and simple constants are run: training, plots and downloads are
not the grader's business. Nothing is kept, and none of the learner's kept pieces are installed.
"""

import ast
import json
import linecache
import os
import sys

from . import pieces, syntax_errors
from .cells import PIECE, syntax_error
from .checking import examine, note_failing_dependency
from .sandbox import captured, time_limit

CONSTANT = (ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.UnaryOp, ast.BinOp, ast.operator, ast.unaryop, ast.Load)
DEFINITION = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def main():
    """Grade what the task on stdin asks for."""
    task = json.load(sys.stdin)
    # The learner's code may print and even close stdout: the events go through a copy that it does not know.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def say(**event):
        print(json.dumps(event), file=events, flush=True)

    space = {"__name__": "__main__"}
    for number, source in enumerate(task["cells"], 1):
        if number in task["skipped"]:
            continue
        names = [name for name in PIECE.findall(source) if name in task["exercises"]]
        say(at=names[0] if names else number)
        crashed = [name for name in names if name in task["crashed"]]
        problem = "crashed" if crashed else run_cell(number, source, space)
        for name in names:
            short = name.rpartition(".")[2]
            if problem:
                space[short] = syntax_errors.unsolved(name, problem)
            if name in task["answered"]:
                continue
            say(at=name)
            if name not in pieces.latest:  # the cell ran, but did not define it
                syntax_errors.unsolved(name, "the cell does not define it")
            result = examine(pieces.latest[name])
            if result.status in ("wrong", "error"):
                note_failing_dependency(result, pieces.latest[name])
            message = "\n".join([result.message, *result.notes])
            answer = {"status": result.status, "message": message, "hint": result.hint}
            say(piece=name, **answer, seconds=round(result.seconds, 3))
    say(end=True)


def run_cell(number, source, space):
    """Run a cell's definitions in `space`.

    Returns:
        What went wrong, in words, or None; a cell without a piece never goes wrong, but may define less.
    """
    source = without_magics(source)
    is_piece = bool(PIECE.search(source))
    problem = syntax_error(source)
    if problem:
        return problem
    filename = f"<cell {number}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    for statement in ast.parse(source).body:
        if not (is_piece and not asks_check(statement) or wanted(statement)):
            continue
        try:
            with captured(), time_limit(float(os.environ.get("MINIVDM_CHECK_SECONDS", 60))):
                exec(compile(ast.Module([statement], []), filename, "exec"), space)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            if is_piece and isinstance(statement, DEFINITION[2:]):
                problem = f"line {statement.lineno}: {type(error).__name__}: {error}"
    return problem


def asks_check(statement):
    """Whether a statement is `check(...)`, which the grader does itself."""
    call = statement.value if isinstance(statement, (ast.Expr, ast.Assign)) else None
    return isinstance(call, ast.Call) and getattr(call.func, "id", getattr(call.func, "attr", None)) == "check"


def wanted(statement):
    """Whether a statement only imports, defines, or names a simple constant, a lambda or another name for something."""
    if isinstance(statement, DEFINITION):
        return True
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or statement.value is None:
        return False
    if isinstance(statement.value, (ast.Lambda, ast.Name, ast.Attribute)):
        return True
    return all(isinstance(node, CONSTANT) for node in ast.walk(statement.value))


def without_magics(source):
    """The source; if it does not parse as it is, with each line of `%magic`, `!command` or `?help` blanked out."""
    try:
        ast.parse(source)
        return source
    except (SyntaxError, ValueError):
        lines = source.splitlines(keepends=True)
        marks = ("%", "!", "?")
        blank = [line[: len(line) - len(line.lstrip())] + "pass\n" for line in lines]
        return "".join(b if line.lstrip().startswith(marks) else line for line, b in zip(lines, blank))


if __name__ == "__main__":
    main()
