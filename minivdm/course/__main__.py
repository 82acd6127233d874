"""The course's commands: `python -m minivdm.course build | status | check NOTEBOOK`."""

import argparse
import sys

from minivdm import share_cores
from minivdm.console import run_program
from minivdm.files import home_folder

from .differences import ADVICE


def main(arguments=None):
    """Run one command; the exit code is 0 (fine), 1 (notebooks differ, not all passed) or one of `minivdm.console`."""
    share_cores()
    return run_program(lambda: run(arguments))


def run(arguments):
    """Do what the command line says; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m minivdm.course", description=__doc__.split("`")[0].strip(" :"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    building = commands.add_parser(
        "build", help="write the notebooks and README's tables from chapters/source and minivdm/"
    )
    how = building.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file differs from its source")
    how.add_argument(
        "--force",
        action="store_true",
        help="write anew what has been worked in, too; a copy is kept beside it, as NAME.mine.ipynb",
    )
    building.add_argument("--root", default=None, help="the repository (default: found from here)")
    commands.add_parser("status", help="which exercises are yours, and which notebooks have been worked in")
    grading = commands.add_parser("check", help="grade a notebook")
    grading.add_argument("notebook", help="a chapter's notebook (.ipynb)")
    grading.add_argument("--chapter", help="grade it as this chapter, whatever the file is called")
    grading.add_argument("--json", action="store_true", help="print the grades as JSON")
    options = parser.parse_args(arguments)
    if options.command == "build":
        return build(options.root or home_folder(), options.check, options.force)
    if options.command == "status":
        from .status import status

        return status()
    from .grade import command

    return command(options.notebook, options.json, options.chapter)


def build(root, check, force):
    """Build, or compare; print what happened. Exit code 1: something is not, or is not yet, as its source gives it."""
    try:
        from .build import BuildError, differences
        from .build import build as build_all
    except ModuleNotFoundError as error:  # jupytext and nbformat are for authors
        print(f'error: building needs {error.name}: pip install "minivdm[test]"', file=sys.stderr)
        return 2
    try:
        notes = differences(root) if check else build_all(root, force)
    except (BuildError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(map(str, notes)) or "all notebooks are up to date")
    kinds = {note.kind for note in notes}
    for advice in dict.fromkeys(ADVICE[kind] for kind in ADVICE if kind in kinds):
        print(advice)
    return int(bool(notes) if check else "behind" in kinds)


if __name__ == "__main__":
    sys.exit(main())
