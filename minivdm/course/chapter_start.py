"""The beginning of a chapter: the learner's pieces into the package, and a watch on the cells to come."""

from . import kept_pieces, sources, syntax_errors
from .cells import running_shell
from .pieces import latest


def start(chapter, solution=False, keep=True):
    """Begin a chapter: let minivdm run the learner's kept pieces, and say how many there are.

    Args:
        chapter: the notebook's name, such as "01_ddpm".
        solution: run the pristine reference instead, and keep nothing.
        keep: whether a check that passes keeps the piece and installs it.
    """
    syntax_errors.register()
    watch_for_suspects()
    kept_pieces.uninstall_all()
    kept_pieces.settings["keep"] = keep and not solution
    if solution:
        print(f"{chapter}, the worked solution: minivdm runs the reference, and nothing is kept.")
        return
    mine, total = kept_pieces.install_kept(), sources.exercises()
    here = [name for name, settings in total.items() if settings["chapter"] == chapter]
    of_these = f", {sum(name in mine for name in here)} of {len(here)} in this chapter" if here else ""
    print(kept_pieces.how_many(mine) + of_these)


def watch_for_suspects():
    """Have IPython name pieces that do not pass after a cell that failed; a no-op elsewhere."""
    shell = running_shell()
    if shell is not None and note_suspects not in shell.events.callbacks["post_run_cell"]:
        shell.events.register("post_run_cell", note_suspects)


def note_suspects(outcome):
    """After a cell that raised: name the pieces whose latest check did not pass. IPython calls this after each cell."""
    if outcome.error_in_exec is None:
        return
    wrong = [each.label for each in latest.values() if getattr(each.result, "status", "") in ("wrong", "error")]
    if wrong:
        print(f"Before you look elsewhere: {', '.join(wrong)} did not pass the check, which may be the cause.")
