"""The README promises commands; they must be there and name things that exist."""

import re
import shlex
from pathlib import Path

from minivdm.__main__ import parser
from minivdm.course.tables import filled

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", README, re.S) for line in block.splitlines()]
CHAPTERS = [ROOT / "chapters" / f"{path.stem}.ipynb" for path in sorted((ROOT / "chapters" / "source").glob("*.py"))]
FOLDERS = sorted(path.parent for path in ROOT.glob("minivdm/*/__init__.py"))
SET_UP = "python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt && "


def test_the_two_commands_do_all_set_up():
    assert SET_UP + "minivdm start" in COMMANDS
    assert SET_UP + "pytest" in COMMANDS
    assert "jupyter execute solutions/01_ddpm.ipynb" in COMMANDS


def test_files_in_commands_and_links_exist():
    named = re.findall(r"(?:chapters|solutions|tests|data)/[\w/.-]+\.\w+", README)
    linked = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    missing = [path for path in named + linked if not (ROOT / path).exists()]
    assert named and linked and not missing


def test_course_commands_exist():
    from minivdm.course import __main__ as course

    used = {line.split()[3] for line in COMMANDS if line.startswith("python -m minivdm.course ")}
    source = Path(course.__file__).read_text(encoding="utf-8")
    assert used == {"status", "check", "build"}
    assert all(f'"{name}"' in source for name in used)


def test_the_programs_commands_are_understood():
    lines = [re.sub(r"^python -m minivdm |^minivdm ", "", line).partition(" #")[0] for line in COMMANDS]
    ours = [new for new, line in zip(lines, COMMANDS) if new != line.partition(" #")[0]]
    assert {"start", "sample", "train", "evaluate"} <= {shlex.split(line)[0] for line in ours}
    assert all(parser().parse_args(shlex.split(line)) for line in ours)


def test_tables_of_chapters_and_folders_are_those_of_the_sources():
    assert filled(README, ROOT) == README, "run python -m minivdm.course build"
    for part, items in (("chapters", CHAPTERS), ("folders", FOLDERS)):
        text = README.partition(f"<!-- {part} -->")[2].partition(f"<!-- end of {part} -->")[0]
        assert items and all(f"({path.relative_to(ROOT).as_posix()})" in text for path in items)
        assert len(text.strip().splitlines()) == len(items) + 2 * (part == "chapters")


def test_every_chapter_has_measured_times():
    for path in (ROOT / "chapters" / "source").glob("*.py"):
        assert re.search(rf"^\| {path.stem} \|.*\d.*\|$", README, re.M), f"no measured times for {path.stem}"


def test_ci_runs_the_readme_command():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    pattern = re.search(r"grep -m 1 -E '(.*)' README.md", script).group(1)
    assert [line for line in README.splitlines() if re.search(pattern, line)] == [SET_UP + "pytest"]
    assert script.endswith("\npython -m minivdm.course build --check\n"), "also of notebooks that look worked in"
