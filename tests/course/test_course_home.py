"""Where `my_pieces/` and `runs/` are: one folder, wherever below it a notebook, a kernel or a command starts."""

import os
import re
from pathlib import Path

import pytest
from course_kit import SOURCE
from jupyter_client.manager import KernelManager

from minivdm.__main__ import main
from minivdm.commands.sample import find_model
from minivdm.course import kept_pieces, sources
from minivdm.files import course_folder, home_folder, runs_folder

ROOT = Path(__file__).resolve().parents[2]
PIECE = "def to_model_range(images):\n    return images.float() * 2 - 1\n"


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A repository, a laid folder, and folders that are neither, one of them with chapters of another kind."""
    monkeypatch.delenv("MINIVDM_PIECES", raising=False)
    for name in ("repository/chapters/source", "laid/chapters", "laid/solutions", "elsewhere", "thesis/chapters"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "repository" / "chapters" / "source" / "01_toy.py").write_text(SOURCE)
    (tmp_path / "laid" / "chapters" / "my first notebook.ipynb").write_text("{}")
    (tmp_path / "thesis" / "chapters" / "one.tex").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("folder", "home", "runs"),
    [
        ("repository", "repository", "runs"),
        ("repository/chapters", "repository", "../runs"),
        ("repository/chapters/source", "repository", "../../runs"),
        ("laid", "laid", "runs"),
        ("laid/chapters", "laid", "../runs"),
        ("laid/solutions", "laid", "../runs"),
        ("elsewhere", ROOT, "runs"),
        ("thesis/chapters", ROOT, "runs"),
    ],
)
def test_the_home_folder(places, monkeypatch, folder, home, runs):
    monkeypatch.chdir(places / folder)
    assert home_folder() == places / home and sources.pieces_folder() == places / home / "my_pieces"
    assert runs_folder() == Path(runs) and course_folder() == (None if home == ROOT else places / home)


def test_an_installed_package_has_its_home_where_it_is_used(places, monkeypatch):
    monkeypatch.chdir(places / "elsewhere")
    monkeypatch.setattr("minivdm.files.shipped", lambda part: sources.PACKAGE / part)
    assert home_folder() == places / "elsewhere"


ASK = """
from minivdm.course import start
from minivdm.files import home_folder
start("01_ddpm")
print("home", home_folder() / "runs")
"""


def test_a_kernel_that_starts_in_the_home_folder_finds_pieces_and_runs(places):
    """As VS Code can be told to start it; Jupyter starts it in `chapters/`."""
    (places / "laid" / "my_pieces").mkdir()
    (places / "laid" / "my_pieces" / "pixels.to_model_range.py").write_text(PIECE)
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(places / "laid"), env=dict(os.environ))
    client = manager.blocking_client()
    client.start_channels()
    said = []
    try:
        client.wait_for_ready(timeout=60)
        listen = lambda message: said.append(message["content"].get("text", ""))  # noqa: E731
        client.execute_interactive(ASK, timeout=60, output_hook=listen)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert re.match(r"1 of \d+ pieces are yours", "".join(said)) and f"home {places / 'laid' / 'runs'}\n" in "".join(
        said
    )


def test_commands_agree_with_the_notebooks(places, monkeypatch, capsys):
    (places / "laid" / "my_pieces").mkdir()
    (places / "laid" / "my_pieces" / "pixels.to_model_range.py").write_text(PIECE)
    monkeypatch.chdir(places / "laid" / "chapters")
    small = ["--budget", "smoke", "--steps", "1", "--image-steps", "0", "--batch", "2"]
    assert main(["--mine", "train", "text2video", *small]) == 0
    assert f"pieces are yours, from {places / 'laid' / 'my_pieces'}\n" in capsys.readouterr().out
    assert kept_pieces.installed.keys() == {"pixels.to_model_range"}
    assert (places / "laid" / "runs" / "text2video" / "smoke" / "model.pt").exists()
    monkeypatch.chdir(places / "laid")
    assert find_model()[1] == "runs/text2video/smoke/model.pt, the newest of 1 in runs/text2video"
