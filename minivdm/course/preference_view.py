"""How a comparison looks: two players and three buttons, where widgets run; else a text that says how to answer."""

import base64
import html
import importlib

from minivdm.console import take_any_text
from minivdm.datasets.gif_files import gif_bytes

from .result_view import notebook_shell

SCALE = 5  # the browser enlarges the clips


def show(eyes):
    """Show a comparison where the learner is looking. Without a notebook this costs nothing."""
    widgets = module("ipywidgets") if notebook_shell() is not None and eyes.keeps else None
    if widgets is None:
        take_any_text()
        print(as_text(eyes))
        return
    from IPython.display import display

    box = buttons(eyes, widgets)
    display({**box._repr_mimebundle_(), "text/plain": as_text(eyes)}, raw=True)


def module(name):
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def status(eyes):
    """Where the learner stands, in a line."""
    done, all_ = len(eyes.answers), len(eyes.pairs)
    text = f"pair {done + 1} of {all_}" if done < all_ else f"all {all_} pairs answered: run the next cell"
    return f"{text} ({eyes.remark})" if eyes.remark else text


def as_text(eyes):
    """The comparison as plain text."""
    lines = [f"{eyes.name}: {eyes.question}", f"    {len(eyes.pairs)} pairs of clips, {len(eyes.answers)} answered"]
    if eyes.remark:
        lines.append(f"    {eyes.remark}")
    if eyes.keeps:
        first = f'prefer({eyes.name!r}, …, answers="lr…")'
        lines.append(f"    Answer in code: {first} takes a letter for each pair, l for left, r for right.")
    return "\n".join(lines)


def players(eyes):
    """The clips of the pair whose turn it is, as HTML; "" when all are answered."""
    i = len(eyes.answers)
    if i == len(eyes.pairs):
        return ""
    cells = []
    for side, clip in zip(("left", "right"), eyes.sides(i)):
        data = base64.b64encode(gif_bytes(clip, 8)).decode()
        style = "image-rendering: pixelated; margin: 4px;"
        width = SCALE * clip.shape[-1]
        cells.append(f'<img alt="{side} clip" width="{width}" style="{style}" src="data:image/gif;base64,{data}">')
    return "".join(cells)


def buttons(eyes, widgets):
    """Players, and buttons for left, right and back. Tab leads to them, the space bar presses; no mouse is needed."""
    question = widgets.HTML(f'<b class="mathjax_ignore tex2jax_ignore">{html.escape(eyes.question)}</b>')
    screen, line = widgets.HTML(players(eyes)), widgets.HTML(html.escape(status(eyes)))
    left, right, back = (widgets.Button(description=text) for text in ("left", "right", "back"))

    def refresh():
        screen.value, line.value = players(eyes), html.escape(status(eyes))
        left.disabled = right.disabled = len(eyes.answers) == len(eyes.pairs)
        back.disabled = not eyes.answers

    def take(answers):
        if len(answers) <= len(eyes.pairs):
            eyes.give(answers)
        refresh()

    left.on_click(lambda _: take(eyes.answers + "l"))
    right.on_click(lambda _: take(eyes.answers + "r"))
    back.on_click(lambda _: take(eyes.answers[:-1]))
    refresh()
    return widgets.VBox([question, screen, widgets.HBox([left, right, back]), line])
