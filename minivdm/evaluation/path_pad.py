"""A path drawn by hand: a field of buttons in a notebook, clicked one after the other."""

from collections.abc import Callable

from .viz import notebook_module

CELLS = 9  # in a row and in a column


def cell_centre(row: int, column: int) -> tuple[float, float]:
    """The point (x, y) in the middle of a cell, from -1 to 1; x runs right, y down."""
    return (2 * column + 1) / CELLS - 1, (2 * row + 1) / CELLS - 1


def path_pad(show: Callable[[list[tuple[float, float]]], None]) -> None:
    """Show a field of buttons; what is clicked, in its order, is a path. Works with the keyboard, too.

    Without ipywidgets or a running kernel, call `show` yourself, with a list of points.

    Args:
        show: called as `show(points)` with the path so far when "play" is clicked; what it shows appears below.
    """
    widgets, ipython = notebook_module("ipywidgets"), notebook_module("IPython.display")
    points, clicked, screen = [], [], widgets.Output()
    small = widgets.Layout(width="34px", height="30px", padding="0", margin="1px")
    buttons = {}

    def click(button: object) -> None:
        clicked.append(button)
        points.append(buttons[button])
        button.description = str(len(points))

    def clear(_: object) -> None:
        for button in clicked:
            button.description = ""
        clicked.clear()
        points.clear()

    def play(_: object) -> None:
        screen.clear_output(wait=True)
        with screen:
            if points:
                try:
                    show(list(points))
                except ValueError as error:
                    print(error)
            else:
                print("click some of the fields first: they are the path, in their order")

    rows = []
    for row in range(CELLS):
        cells = []
        for column in range(CELLS):
            place = f"row {row + 1}, column {column + 1}"
            button = widgets.Button(description="", tooltip=place, layout=small)
            buttons[button] = cell_centre(row, column)
            button.on_click(click)
            cells.append(button)
        rows.append(widgets.HBox(cells))
    ends = [widgets.Button(description=text) for text in ("play", "clear")]
    for button, action in zip(ends, (play, clear)):
        button.on_click(action)
    ipython.display(widgets.VBox([*rows, widgets.HBox(ends), screen]))
