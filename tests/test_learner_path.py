"""Through a chapter as a learner goes: solve one exercise in the notebook, and the real training runs on it."""

from pathlib import Path

import pytest
from helpers import built
from nbclient import NotebookClient

CHAPTER = Path(__file__).resolve().parents[1] / "chapters" / "01_ddpm.ipynb"
COUNTING = """@piece("forward_process.q_sample")
def q_sample(x0, t, noise, schedule):
    torch.calls_of_my_q_sample = getattr(torch, "calls_of_my_q_sample", 0) + 1
    keep = per_sample(schedule.alpha_bar, t, x0)
    return keep.sqrt() * x0 + (1 - keep).sqrt() * noise


check(q_sample)
"""


def text_of(cell):
    """All text that a cell's outputs show."""
    return "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in cell.outputs)


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIVDM_PIECES", str(tmp_path / "my_pieces"))
    monkeypatch.setenv("MINIVDM_BUDGET", "smoke")
    return built(CHAPTER)


def run(notebook, tmp_path):
    """Execute a notebook in a folder of its own, beside the pieces."""
    (tmp_path / "chapters" / "source").mkdir(parents=True, exist_ok=True)
    where = {"metadata": {"path": tmp_path / "chapters"}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()


def cell_with(notebook, text):
    return next(cell for cell in notebook.cells if cell.cell_type == "code" and text in cell.source)


def until(notebook, last):
    """The cells up to this one, which is the last that a test looks at."""
    return notebook.cells[: notebook.cells.index(last) + 1]


def test_training_calls_the_learners_q_sample(chapter, tmp_path):
    cell_with(chapter, '@piece("forward_process.q_sample")').source = COUNTING
    training = cell_with(chapter, " train(model")
    training.source = "before = torch.calls_of_my_q_sample\n" + training.source
    training.source += "\nprint('calls while training:', torch.calls_of_my_q_sample - before, 'steps:', b.steps)"
    chapter.cells = until(chapter, training)
    run(chapter, tmp_path)
    assert "1.3" in text_of(cell_with(chapter, "calls_of_my_q_sample = getattr"))
    assert "passed" in text_of(cell_with(chapter, "calls_of_my_q_sample = getattr"))
    assert "calls while training: 25 steps: 25" in text_of(training)
    assert (tmp_path / "my_pieces" / "forward_process.q_sample.py").exists()

    # In a new kernel the kept piece is installed again, though the notebook's own cell is unsolved.
    again = built(CHAPTER)
    training = cell_with(again, " train(model")
    training.source += "\nprint('calls in a new kernel:', torch.calls_of_my_q_sample)"
    again.cells = until(again, training)
    run(again, tmp_path)
    assert "pieces are yours" in text_of(cell_with(again, "start("))
    assert "calls in a new kernel: 25" in text_of(training)


def test_leaving_everything_unsolved_runs_to_the_end_and_says_so(chapter, tmp_path):
    run(chapter, tmp_path)
    shown = "".join(text_of(cell) for cell in chapter.cells if cell.cell_type == "code")
    assert shown.count("not attempted") == 9
    # Said once for each piece that the notebook itself calls; ddpm_step is called by ddpm_sample alone.
    assert shown.count("is not solved yet: the reference runs instead") == 8
    assert not list(tmp_path.glob("my_pieces/*"))


def test_a_syntax_error_in_one_exercise_stops_nothing(chapter, tmp_path):
    cell_with(
        chapter, '@piece("forward_process.to_x0")'
    ).source = '@piece("forward_process.to_x0")\ndef to_x0(x_t, t:\n    return'
    chapter.cells = until(chapter, cell_with(chapter, "gaussian_mmd(x"))
    run(chapter, tmp_path)
    card = text_of(cell_with(chapter, '@piece("forward_process.to_x0")'))
    assert "SyntaxError: '(' was never closed, line 2 of the cell" in card
