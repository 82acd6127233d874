"""Answers in words: they stay in the notebook's cell, where a teacher reads them. No machine judges them."""

import ast

from . import sources
from .cells import calls
from .own_cells import Unreadable, read_cells


def in_words(number, text):
    """Take an answer in words, and say how long it is.

    Args:
        number: the question's, "6.9".
        text: the answer, as long or short as it needs to be.
    """
    if not isinstance(text, str):
        print(f"In words {number}: expected a text, got {type(text).__name__}")
    elif not text.strip():
        print(f"In words {number}: not answered yet. Write between the quotes.")
    else:
        count = len(text.split())
        said = "1 word" if count == 1 else f"{count} words"
        print(f"In words {number}: {said}. Now compare: solutions/ has an answer, and what a teacher looks for.")


def answers_in(notebook):
    """The answers in a notebook, as `read_cells` gives it: number -> text, stripped; the last cell of a number counts.

    What does not run is nobody's answer, and neither is a call whose number or text does not stand there as it is.
    """
    found = {}
    for cell in notebook["cells"]:
        try:
            asked = calls("in_words", cell["source"]) if cell["cell_type"] == "code" else []
        except ValueError:
            continue
        for call in asked:
            given = [each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            if len(given) == len(call.args) == 2:
                found[given[0]] = given[1].strip()
    return found


def word_lines(home):
    """For `status`: how many questions of each chapter are answered in words, in the notebooks of a course folder."""
    lines = []
    for chapter, numbers in sources.word_questions().items():
        try:
            notebook = read_cells(home / "chapters" / f"{chapter}.ipynb")
        except Unreadable:
            notebook = None
        answers = answers_in(notebook) if notebook else {}
        lines.append(f"  {chapter}: {sum(bool(answers.get(number)) for number in numbers)} of {len(numbers)} answered")
    return ["\nIn words:", *lines] if lines else []
