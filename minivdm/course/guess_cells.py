"""The predictions that the chapters' sources ask for: what `build` demands of them, and how many are answered."""

import ast
import contextlib
import inspect

from . import sources
from .cells import calls
from .guess_question import Question
from .guesses import predict
from .kept_guesses import kept_entries
from .stubs import BuildError


def validate_predictions(path, cells, seen):
    """Raise a `BuildError` for a mistake in a source's predictions.

    Args:
        path: the source.
        cells: its cells as (type, text, metadata).
        seen: collects the numbers over all chapters.
    """
    for place, (kind, text, _) in enumerate(cells, 1):
        where = f"{path.name}, cell {place}"
        try:
            asked = [(number_of(call), question_of(call)) for call in calls("predict", text)] if kind == "code" else []
        except ValueError as error:
            raise BuildError(f"{where}: {error}") from None
        for number, _ in asked:
            if number.partition(".")[0] != str(int(path.name.partition("_")[0])):
                raise BuildError(f"{where}: prediction {number} is none of chapter {path.stem}")
            key = f"prediction {number}"
            if key in seen:
                raise BuildError(f"{where}: {key} is in {seen[key]} already")
            seen[key] = where


def arguments(call):
    """The arguments of a call of `predict`, as nodes by their names; a ValueError if it has others."""
    try:
        return inspect.signature(predict).bind(*call.args, **{each.arg: each.value for each in call.keywords}).arguments
    except TypeError as error:
        raise ValueError(f"predict: {error}") from None


def number_of(call):
    """The number, which must stand there as it is: so it can be counted."""
    node = arguments(call)["number"]
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        raise ValueError(f"expected predict's number as a text, such as '6.a', got {ast.unparse(node)}")
    return node.value


def question_of(call):
    """The `Question`, or None if a part of it is known only when the notebook runs.

    Raises:
        ValueError: if it makes no sense.
    """
    given = arguments(call)
    given.pop("answer", None)
    try:
        parts = {name: ast.literal_eval(node) for name, node in given.items()}
    except ValueError:
        return None
    return Question(text=parts.pop("question"), **parts)


def predictions(root=None):
    """Every prediction of the course, in order: its number -> (chapter, `Question` or None). Sources that `build` would
    refuse have none.
    """
    found = {}
    for path in sources.source_files(root):
        with contextlib.suppress(ValueError):
            for call in calls("predict", path.read_text(encoding="utf-8")):
                found[number_of(call)] = path.stem, question_of(call)
    return found


def prediction_lines(root=None):
    """For `status`: how many predictions of each chapter are answered, and what is wrong with their file."""
    counts, (entries, problem) = {}, kept_entries()
    for number, (chapter, question) in predictions(root).items():
        entry = entries.get(number)
        answered = entry is not None and (question is None or question.fits(entry))
        counts.setdefault(chapter, []).append(answered)
    lines = [f"  {chapter}: {sum(each)} of {len(each)} answered" for chapter, each in counts.items()]
    return ["\nPredictions:", *lines, *([f"  {problem}"] if problem else [])] if lines else []
