"""What turns the package into a course: pieces, checks, budgets, the notebooks' build and their grading.

A chapter begins with `start`, marks each exercise with `@piece`, and asks `check` about it:

    from minivdm.course import budget, check, piece, start

Nothing in `minivdm/*.py` imports this folder.
"""

from .budgets import budget
from .checking import check
from .pieces import piece
from .start import start

__all__ = ["budget", "check", "piece", "start"]
