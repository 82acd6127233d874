"""The field of buttons on which a path is drawn."""

import io

import pytest
import torch
from PIL import Image

from minivdm.evaluation import path_pad as module
from minivdm.evaluation.path_pad import CELLS, ENLARGED, cell_centre, path_clip, path_pad

widgets = pytest.importorskip("ipywidgets")


@pytest.fixture
def shown(monkeypatch):
    """The box that is displayed, and the paths that are asked for."""
    boxes, paths = [], []

    class Display:
        display = staticmethod(boxes.append)

    real = module.notebook_module
    monkeypatch.setattr(module, "notebook_module", lambda name: Display if name == "IPython.display" else real(name))
    path_pad(paths.append)
    field, ends, _ = boxes[0].children
    rows, hint = field.children
    return [row.children for row in rows.children], ends.children, hint, paths


def frames_of_gif(data):
    return Image.open(io.BytesIO(data)).n_frames


def test_cells_cover_the_frame():
    assert cell_centre(0, 0) == (1 / CELLS - 1, 1 / CELLS - 1)
    assert cell_centre(CELLS // 2, CELLS - 1) == pytest.approx((1 - 1 / CELLS, 0))


def test_clicks_are_a_path_in_their_order(shown):
    rows, (play, undo, clear), _, paths = shown
    rows[4][2].click(), rows[0][8].click()
    play.click()
    assert paths == [[cell_centre(4, 2), cell_centre(0, 8)]]
    assert (rows[4][2].description, rows[0][8].description) == ("1", "2") and rows[0][8].tooltip == "row 1, column 9"
    assert rows[4][2].button_style == "primary" and not rows[3][3].button_style
    clear.click()
    assert rows[4][2].description == rows[4][2].button_style == ""
    play.click()
    assert len(paths) == 1, "no points, no path"
    rows[1][1].click(), play.click()
    assert paths[1] == [cell_centre(1, 1)] and not play.disabled and play.description == "play"


def test_a_field_may_come_twice_and_the_last_click_can_be_undone(shown):
    rows, (play, undo, clear), _, paths = shown
    undo.click()  # nothing to undo is no error
    rows[4][2].click(), rows[0][8].click(), rows[4][2].click()
    assert rows[4][2].description == "1,3"
    undo.click(), play.click()
    assert rows[4][2].description == "1" and paths == [[cell_centre(4, 2), cell_centre(0, 8)]]


def test_the_hint_is_seen_beside_the_field(shown):
    rows, _, hint, _ = shown
    empty = hint.value
    assert frames_of_gif(empty) == 1
    rows[4][0].click(), rows[4][8].click()
    assert hint.value != empty and frames_of_gif(hint.value) == 16


def test_the_clip_of_a_path_has_a_dot_that_moves_along_it():
    clip = path_clip([(-0.5, 0.0), (0.5, 0.0)], 5)
    assert clip.shape == (3, 5, 32 * ENLARGED, 32 * ENLARGED)
    brightest = clip[0].amax(dim=1).argmax(dim=1) / (32 * ENLARGED) * 2 - 1  # (F,) x of the dot
    assert torch.allclose(brightest, torch.linspace(-0.5, 0.5, 5), atol=0.1)
    assert (path_clip([], 5) == -1).all()
