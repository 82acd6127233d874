"""A learner's prediction in a plot."""

import textwrap

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from minivdm.evaluation.viz import LITERAL, drawable

# A purple beside blue and orange data: told from both by its darkness, so also by those who see few colours, and by its
# dashes. White around it keeps it legible over data.
COLOUR, HALO = "#6a1b9a", [withStroke(linewidth=3, foreground="white")]
COLUMNS = 32  # of a line of text


def draw(axes, axis, value, words):
    """Draw an answer: a number as a line across the plot with its name on it; what has no place there as a note.

    Args:
        axes: the plot; None for the current one.
        axis: "x" or "y", where the number is.
        value: the number, or None for a choice.
        words: the answer in words.
    """
    axes = plt.gca() if axes is None else axes
    text = textwrap.fill(f"your prediction: {' '.join(words.split())}", COLUMNS)
    if value is None or not draw_line(axes, axis, value, text):
        add_to_legend(axes, literal(text))


def draw_line(axes, axis, value, text):
    """Draw a number as a line; False if it lies outside of the plot, whose limits somebody has set."""
    upright = axis == "x"
    if value <= 0 and (axes.get_xscale() if upright else axes.get_yscale()) == "log":
        return False
    line = {"color": COLOUR, "linestyle": (0, (5, 2)), "linewidth": 1.8, "path_effects": HALO}
    (axes.axvline if upright else axes.axhline)(value, label="_your prediction", **line)
    low, high = sorted(axes.get_xlim() if upright else axes.get_ylim())
    name = {"color": COLOUR, "fontsize": 9, "path_effects": HALO, "annotation_clip": True, **LITERAL}
    if upright:
        place = {"xy": (value, 0.99), "xycoords": axes.get_xaxis_transform(), "xytext": (4, 0), "va": "top"}
    else:
        place = {
            "xy": (0.99, value),
            "xycoords": axes.get_yaxis_transform(),
            "xytext": (0, 2),
            "ha": "right",
            "va": "bottom",
        }
    axes.annotate(drawable(text), textcoords="offset points", **place, **name)
    return low <= value <= high


def add_to_legend(axes, label):
    """Put a note into the legend of a plot; the one that is there is made once more."""
    note = axes.add_line(Line2D([], [], color=COLOUR, linestyle="", marker="D", label=label))
    former = axes.get_legend()
    if former is None:
        legend = axes.legend()
    else:
        texts = [text.get_text() for text in former.get_texts()]
        legend = axes.legend([*former.legend_handles, note], [*texts, label], title=former.get_title().get_text())
    legend.set_frame_on(True)  # legible over data
    legend.get_frame().set(alpha=0.85, edgecolor="none")


def literal(text):
    """A text as a label that is no formula, with signs that the fonts have; a later `axes.legend` keeps it so."""
    return drawable(text).replace("$", r"\$")
