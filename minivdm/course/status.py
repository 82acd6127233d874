"""`python -m minivdm.course status`: which exercises are yours, and which notebooks have been worked in."""

import sys

from minivdm.files import home_folder

from . import sources
from .own_cells import Unreadable, own_cells, read_cells


def status():
    """Print a table of all exercises (yours, open, or kept but broken), and below it what is so of the notebooks.

    Returns:
        The exit code: 0, or 2 if there are no exercises.
    """
    from .guess_cells import prediction_lines
    from .kept_pieces import how_many, load_kept
    from .word_answers import word_lines

    exercises = sources.exercises()
    if not exercises:
        print("error: no exercises in chapters/source", file=sys.stderr)
        return 2
    loaded = list(load_kept())
    kept = [name for name, _, problem in loaded if not problem]
    broken = {name: problem for name, _, problem in loaded if problem}
    width = max(map(len, exercises)) + 2
    chapter = None
    for name, settings in exercises.items():
        if settings["chapter"] != chapter:
            chapter = settings["chapter"]
            print(f"\n{chapter}\n{'':2}{'exercise':10}{'piece':{width}}{'points':>7}{'minutes':>9}  state")
        state = "yours" if name in kept else "broken" if name in broken else "open"
        row = f"{settings['points']:>7}{settings['minutes']:>9}  {state}"
        print(f"{'':2}{settings['exercise']:10}{name:{width}}{row}")
    mine = [settings for name, settings in exercises.items() if name in kept]
    points = sum(settings["points"] for settings in mine), sum(each["points"] for each in exercises.values())
    minutes = sum(each["minutes"] for name, each in exercises.items() if name not in kept)
    print(f"\n{how_many(kept)}: {points[0]} of {points[1]} points, {minutes} min to go")
    home = home_folder()
    for line in [*broken.values(), *prediction_lines(), *word_lines(home), *notebook_lines(home)]:
        print(line)
    return 0


def notebook_lines(home):
    """A line for each notebook in a course folder that has been worked in; in the repository also for authors, what is
    out of date.
    """
    lines, stale = [], []
    for path in sorted((home / "chapters").glob("*.ipynb")):
        try:
            own = own_cells(read_cells(path))
        except Unreadable as error:
            own = [str(error)]
        lines += [f"  chapters/{path.name}: {', '.join(own)}"] if own else []
    try:
        from .build import BuildError, differences

        stale = [str(note.name) for note in differences(home) if note.kind in ("stale", "behind")]
    except (ImportError, BuildError):  # not an author's machine, or not the repository
        pass
    lines = ["\nNotebooks that you have worked in:", *lines] if lines else []
    return lines + ([f"\nFor authors: out of date, see `build --check`: {', '.join(stale)}"] if stale else [])
