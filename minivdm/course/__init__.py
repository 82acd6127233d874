"""What turns the package into a course: pieces, checks, budgets, the notebooks' build and their grading.

A chapter begins with `start`, marks each exercise with `@piece`, asks `check` about it, and before an experiment asks
the learner to `predict`:

    from minivdm.course import budget, check, piece, predict, start

Each of these is imported when it is asked for, so that commands which need no PyTorch start at once. May import the
whole library but `commands`; of minivdm, only the program (`minivdm/__main__.py`) imports this folder.
"""

import importlib

MODULES = {
    "as_given": "mending",
    "budget": "budgets",
    "check": "checking",
    "in_words": "word_answers",
    "piece": "pieces",
    "predict": "guesses",
    "prefer": "preferences",
    "start": "chapter_start",
}
__all__ = list(MODULES)


def __getattr__(name):
    """One of the words of a chapter, from its module."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{MODULES[name]}"), name)
