"""The README promises commands; they must be there and name things that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", README, re.S) for line in block.splitlines()]
SET_UP = "python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt && "


def test_the_two_commands_do_all_set_up():
    assert SET_UP + "jupyter lab chapters/00_start_here.ipynb" in COMMANDS
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


def test_every_chapter_is_in_the_table_with_measured_times():
    for path in (ROOT / "chapters" / "source").glob("*.py"):
        assert f"(chapters/{path.stem}.ipynb)" in README
        assert re.search(rf"^\| {path.stem} \|.*\d.*\|$", README, re.M), f"no measured times for {path.stem}"


def test_ci_runs_the_readme_command():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    pattern = re.search(r"grep -m 1 -E '(.*)' README.md", script).group(1)
    assert [line for line in README.splitlines() if re.search(pattern, line)] == [SET_UP + "pytest"]
