"""The field of buttons on which a path is drawn."""

import pytest

from minivdm.evaluation import path_pad as module
from minivdm.evaluation.path_pad import CELLS, cell_centre, path_pad

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
    *rows, ends, _ = boxes[0].children
    return [row.children for row in rows], ends.children, paths


def test_cells_cover_the_frame():
    assert cell_centre(0, 0) == (1 / CELLS - 1, 1 / CELLS - 1)
    assert cell_centre(CELLS // 2, CELLS - 1) == pytest.approx((1 - 1 / CELLS, 0))


def test_clicks_are_a_path_in_their_order(shown):
    rows, (play, clear), paths = shown
    rows[4][2].click(), rows[0][8].click()
    play.click()
    assert paths == [[cell_centre(4, 2), cell_centre(0, 8)]]
    assert (rows[4][2].description, rows[0][8].description) == ("1", "2") and rows[0][8].tooltip == "row 1, column 9"
    clear.click()
    assert rows[4][2].description == ""
    play.click()
    assert len(paths) == 1, "no points, no path"
    rows[1][1].click(), play.click()
    assert paths[1] == [cell_centre(1, 1)]
