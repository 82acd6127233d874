"""The course's commands: `python -m minivdm.course build | status | check NOTEBOOK`."""

import argparse
import sys

from minivdm import share_cores
from minivdm.console import run_program

from . import sources


def main(arguments=None):
    """Run one command; the exit code is 0 (fine), 1 (out of date, or not all passed), or as `minivdm.console` lists."""
    share_cores()
    return run_program(lambda: run(arguments))


def run(arguments):
    """Do what the command line says; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m minivdm.course", description=__doc__.split("`")[0].strip(" :"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    building = commands.add_parser(
        "build", help="write the notebooks and README's tables from chapters/source and minivdm/"
    )
    building.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    building.add_argument("--root", default=None, help="the repository (default: found from here)")
    commands.add_parser("status", help="which exercises are yours")
    grading = commands.add_parser("check", help="grade a notebook")
    grading.add_argument("notebook", help="a chapter's notebook (.ipynb)")
    grading.add_argument("--chapter", help="grade it as this chapter, whatever the file is called")
    grading.add_argument("--json", action="store_true", help="print the grades as JSON")
    options = parser.parse_args(arguments)
    if options.command == "build":
        return build(options.root or sources.repository_root(), options.check)
    if options.command == "status":
        return status()
    from .grade import command

    return command(options.notebook, options.json, options.chapter)


def build(root, check):
    """Build, or compare; print what happened."""
    try:
        from .build import BuildError
        from .build import build as build_all
    except ModuleNotFoundError as error:  # jupytext and nbformat are for authors
        print(f'error: building needs {error.name}: pip install "minivdm[test]"', file=sys.stderr)
        return 2
    try:
        lines = build_all(root, check)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines) or "all notebooks are up to date")
    if check and lines:
        print("run `python -m minivdm.course build` and commit what it writes")
    return int(check and bool(lines))


def status():
    """Print a table of all exercises: yours or open."""
    from .kept_pieces import kept_files

    kept, exercises = kept_files(), sources.exercises()
    if not exercises:
        print("error: no exercises in chapters/source", file=sys.stderr)
        return 2
    width = max(map(len, exercises)) + 2
    chapter = None
    for name, settings in exercises.items():
        if settings["chapter"] != chapter:
            chapter = settings["chapter"]
            print(f"\n{chapter}\n{'':2}{'exercise':10}{'piece':{width}}{'points':>7}{'minutes':>9}  state")
        state = "yours" if name in kept else "open"
        row = f"{settings['points']:>7}{settings['minutes']:>9}  {state}"
        print(f"{'':2}{settings['exercise']:10}{name:{width}}{row}")
    mine = [settings for name, settings in exercises.items() if name in kept]
    points = sum(settings["points"] for settings in mine), sum(each["points"] for each in exercises.values())
    minutes = sum(each["minutes"] for name, each in exercises.items() if name not in kept)
    print(f"\n{len(mine)} of {len(exercises)} pieces are yours: {points[0]} of {points[1]} points, {minutes} min to go")
    return 0


if __name__ == "__main__":
    sys.exit(main())
