"""Looking at images and clips: contact sheets, film strips, players, and pictures behind a slider."""

import base64
import html
import importlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from torch import Tensor

from ..datasets.gif_files import gif_bytes
from ..datasets.pixels import frames_of, to_uint8

MISSING = 'players and sliders need a notebook\'s packages: pip install "minivdm[course]"'
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "figure.dpi": 100,
    "legend.frameon": False,
    "font.size": 10,
}
LITERAL = {"parse_math": False, "usetex": False}  # captions are people's: "$5" is no formula, and "100%" no comment
NO_FORMULAS = "mathjax_ignore tex2jax_ignore"  # the same for a browser: notebooks look for formulas in HTML, too


def sheet(images: Tensor, cols: int, gap: int = 1, row_gap: int = 1) -> np.ndarray:
    """A contact sheet of (B, C, H, W) images in rows of `cols`, with white gaps: (rows, columns, 3) uint8 array."""
    tiles = to_uint8(images)
    height, width = tiles.shape[1] + row_gap, tiles.shape[2] + gap
    rows = -(-len(tiles) // cols)
    page = np.full((rows * height - row_gap, cols * width - gap, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // cols * height, i % cols * width
        page[top : top + height - row_gap, left : left + width - gap] = tile
    return page


def show_images(
    images: Tensor,
    title: str = "",
    cols: int = 8,
    labels: Sequence[str] = (),
    width: float = 8.0,
    gap: int = 1,
    ax: Axes | None = None,
    rows: Sequence[str] = (),
) -> None:
    """Draw images (B, C, H, W) in [-1, 1] as a contact sheet, row by row.

    `labels` are texts for the images, from the first on; if there are only `cols` of them, they name the columns.
    `rows` are texts to the left of the rows. All text is drawn as it stands, see `drawable`.
    """
    name_columns = len(labels) == cols < len(images)
    height, step = images.shape[2], images.shape[3] + gap
    row_gap = -(-height // 3) if labels and not name_columns else gap
    page = sheet(images, cols, gap, row_gap)
    if ax is None:
        _, ax = plt.subplots(figsize=(width, width * page.shape[0] / page.shape[1] + 0.4))
    ax.imshow(page, interpolation="nearest")
    ax.set_title(drawable(title), **LITERAL)
    ax.axis("off")
    style = dict(textcoords="offset points", fontsize=9, annotation_clip=False, **LITERAL)
    for i, label in enumerate(labels):
        row = -(-len(images) // cols) - 1 if name_columns else i // cols
        below = (i % cols * step + (step - gap - 1) / 2, row * (height + row_gap) + height - 0.5)
        ax.annotate(drawable(label), below, xytext=(0, -2), ha="center", va="top", **style)
    for row, label in enumerate(rows):
        beside = (-0.5, row * (height + row_gap) + (height - 1) / 2)
        ax.annotate(drawable(label), beside, xytext=(-4, 0), ha="right", va="center", **style)


def drawable(text: object) -> str:
    r"""A text with the characters that the fonts in use lack written as their numbers, such as \u6f22.

    `plt.rcParams["font.family"]` says which fonts are in use; for Chinese, name one that has it, and DejaVu Sans.
    """
    names = plt.rcParams["font.family"]
    fonts = [font_manager.get_font(font_manager.findfont(font_manager.FontProperties(family=[name]))) for name in names]
    return "".join(
        c if c == "\n" or any(font.get_char_index(ord(c)) for font in fonts) else ascii(c)[1:-1] for c in str(text)
    )


def show_strip(video: Tensor, title: str = "", every: int = 1, ax: Axes | None = None) -> None:
    """A clip (C, F, H, W) as a film strip: every n-th frame, from left to right."""
    frames = frames_of(video)[::every]
    show_images(frames, title, cols=len(frames), labels=[f"{i * every}" for i in range(len(frames))], ax=ax)


def play(
    videos: Tensor | Sequence[Tensor], captions: Sequence[str] | None = None, fps: float = 8, scale: int = 4
) -> None:
    """Clips (B, C, F, H, W) as players side by side, with a caption below each; they move without a kernel, too."""
    ipython = notebook_module("IPython.display")
    texts = [""] * len(videos) if captions is None else list(captions)
    if isinstance(captions, str) or len(texts) != len(videos):
        came = "one string" if isinstance(captions, str) else f"{len(texts)} captions"
        raise ValueError(f"expected a list of captions, one for each of {len(videos)} clips, got {came}")
    cells = []
    for video, text in zip(videos, texts):
        data = base64.b64encode(gif_bytes(video, fps)).decode()  # the browser enlarges it: a notebook stays small
        text = html.escape(str(text))
        cells.append(
            f'<figure class="{NO_FORMULAS}" style="display:inline-block;margin:6px;text-align:center">'
            f'<img alt="{text}" src="data:image/gif;base64,{data}" width="{scale * video.shape[-1]}" '
            f'style="image-rendering:pixelated">'
            f"<figcaption>{text}</figcaption></figure>"
        )
    ipython.display(ipython.HTML("".join(cells)))


def save_figure(path: str | Path, ax: Axes | None = None) -> Path:
    """Write the figure of `ax` (default: the current one) to a PNG file and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    (ax.figure if ax else plt.gcf()).savefig(path, bbox_inches="tight")
    return path


def slider(draw: Callable, values: Sequence, label: str) -> None:
    """A slider over `values` with a play button: `draw(value)` makes the figure for one position.

    All pictures are made at once, so the slider answers at once. Show a static strip beside it for readers who have no
    running kernel.
    """
    widgets, ipython = notebook_module("ipywidgets"), notebook_module("IPython.display")
    pictures = [figure_png(draw, value) for value in values]
    own_size = dict(align_self="flex-start", max_width="100%")  # else it is stretched to the notebook's width
    image = widgets.Image(value=pictures[0], format="png", layout=own_size)
    position = widgets.IntSlider(min=0, max=len(values) - 1, readout=False)
    player = widgets.Play(min=0, max=len(values) - 1, interval=150)
    # Not in a `Label`, nor in the slider's `description`: in both, notebooks look for formulas.
    name, text = (widgets.HTML(html.escape(str(each))) for each in (label, values[0]))
    widgets.jslink((player, "value"), (position, "value"))

    def move(change: dict) -> None:
        image.value, text.value = pictures[change["new"]], html.escape(str(values[change["new"]]))

    position.observe(move, names="value")
    box = widgets.VBox([widgets.HBox([player, name, position, text]), image])
    ipython.display(box)


def notebook_module(name: str) -> ModuleType:
    """A module that notebooks need and the rest of the library does not.

    Raises:
        ImportError: if it is not installed; it says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(MISSING) from error


def figure_png(draw: Callable, value: object) -> bytes:
    """The figure that `draw(value)` makes, as PNG bytes; nothing is shown."""
    with plt.ioff():
        draw(value)
        file = io.BytesIO()
        plt.gcf().savefig(file, format="png", bbox_inches="tight")
        plt.close()
    return file.getvalue()
