"""Questions that are answered in words: from one cell of a source to the cells of both notebooks.

    # %% [markdown] words="6.9" minutes=10
    # Why does …?
    #
    # **Answer**
    #
    # Because …
    #
    # **Rubric**
    #
    # - names …

The student gets the question, and a cell for the answer. The worked notebook has one good answer in that cell, and
below it what a teacher looks for. No machine grades it: a teacher reads it, and the learner compares.
"""

import re

PARTS = re.compile(
    r"(?P<question>.+?)\n\n\*\*Answer\*\*\n\n(?P<answer>.+?)\n\n\*\*Rubric\*\*\n\n(?P<rubric>.+)", re.DOTALL
)
FORM = "expected a question, then `**Answer**` and one good answer, then `**Rubric**` and a list"


def question_cells(text, settings, solution):
    """The cells that one such cell of a source becomes, as (type, text, metadata).

    Args:
        text: of the source's cell.
        settings: `words`, its number, and `minutes`.
        solution: whether they are for the worked notebook.

    Raises:
        ValueError: if the text has not the three parts, or the answer cannot stand in a cell.
    """
    parts = PARTS.fullmatch(text.strip())
    if not parts or not parts["rubric"].startswith("- "):
        raise ValueError(FORM)
    number, answer = settings["words"], parts["answer"]
    if '"""' in answer or answer.endswith("\\"):
        raise ValueError('an answer stands between r""" and """, so it can hold no """ and end with no backslash')
    title = f"### In words {number} · about {settings['minutes']} min"
    own = {"minivdm": {"words": number, "minutes": settings["minutes"]}}
    given = answer if solution else ""
    cells = [
        ("markdown", f"{title}\n\n{parts['question']}", {}),
        ("code", f'in_words("{number}", r"""\n{given}\n""")', own),
    ]
    return cells + ([("markdown", f"*What a teacher looks for:*\n\n{parts['rubric']}", {})] if solution else [])
