"""A path drawn by hand: a field of buttons in a notebook, clicked one after the other, and beside it the hint."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ..datasets.gif_files import gif_bytes
from ..datasets.hints import dots, paths
from .viz import notebook_module

CELLS = 9  # in a row and in a column
PIXELS, ENLARGED = 32, 9  # the hint's height and width, and how many times as large it is shown
TRAIL = 0.35  # how bright the rest of the path is, beside the dot of a frame
EMPTY = "click some of the fields first: they are the path, in their order"


def cell_centre(row: int, column: int) -> tuple[float, float]:
    """The point (x, y) in the middle of a cell, from -1 to 1; x runs right, y down."""
    return (2 * column + 1) / CELLS - 1, (2 * row + 1) / CELLS - 1


def path_clip(points: Sequence[Sequence[float]], frames: int) -> Tensor:
    """The hints of a path as a clip (3, F, H, W) in [-1, 1], the whole path dim; one black frame if it is empty."""
    path = paths(points or [(9.0, 9.0)], frames if points else 2)  # none: a place that no dot is seen from
    each = dots(path[:, None], PIXELS)  # (F, 1, H, W)
    seen = each.maximum(TRAIL * each.amax(dim=0)).transpose(0, 1)[:, : None if points else 1]  # (1, F, H, W)
    return 2 * seen.repeat_interleave(ENLARGED, 2).repeat_interleave(ENLARGED, 3).expand(3, -1, -1, -1) - 1


def path_pad(show: Callable[[list[tuple[float, float]]], None], frames: int = 16) -> None:
    """Show a field of buttons; what is clicked, in its order, is a path. Works with the keyboard, too.

    Beside the field the hint is seen, a dot for each frame. Without ipywidgets or a running kernel, call `show`
    yourself, with a list of points.

    Args:
        show: called as `show(points)` with the path so far when "play" is clicked; what it shows appears below.
        frames: how many the clip has.
    """
    widgets, ipython = notebook_module("ipywidgets"), notebook_module("IPython.display")
    clicked, screen = [], widgets.Output()
    side = f"{PIXELS * ENLARGED}px"
    own_size = dict(width=side, height=side, margin="0 0 0 12px", flex="none", align_self="flex-start")
    hint = widgets.Image(format="gif", layout=own_size)
    small = widgets.Layout(width=f"{PIXELS * ENLARGED // CELLS - 2}px", height="30px", padding="0", margin="1px")
    centres = {}  # of each button

    def path() -> list[tuple[float, float]]:
        return [centres[button] for button in clicked]

    def refresh() -> None:
        for button in centres:
            turns = [str(i) for i, other in enumerate(clicked, 1) if other is button]
            button.description, button.button_style = ",".join(turns), "primary" if turns else ""
        hint.value = gif_bytes(path_clip(path(), frames))

    def click(button: object) -> None:
        clicked.append(button)
        refresh()

    def undo(_: object) -> None:
        del clicked[-1:]
        refresh()

    def clear(_: object) -> None:
        clicked.clear()
        refresh()

    def play(button: object) -> None:
        button.disabled, button.description = True, "one moment"
        screen.clear_output(wait=True)
        with screen:
            try:
                show(path()) if clicked else print(EMPTY)
            except ValueError as error:
                print(error)
        button.disabled, button.description = False, "play"

    rows = []
    for row in range(CELLS):
        cells = []
        for column in range(CELLS):
            button = widgets.Button(tooltip=f"row {row + 1}, column {column + 1}", layout=small)
            centres[button] = cell_centre(row, column)
            button.on_click(click)
            cells.append(button)
        rows.append(widgets.HBox(cells))
    ends = {"play": play, "undo": undo, "clear": clear}
    buttons = [widgets.Button(description=text, layout=widgets.Layout(width="auto")) for text in ends]
    for button, action in zip(buttons, ends.values()):
        button.on_click(action)
    refresh()
    field = widgets.HBox([widgets.VBox(rows), hint])
    ipython.display(widgets.VBox([field, widgets.HBox(buttons), screen]))
