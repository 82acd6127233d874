"""Captions, labels and messages come from people: pictures and pages show them as they are, whatever they hold."""

import html
import io
import warnings
from html.parser import HTMLParser
from xml.etree import ElementTree

import IPython.display
import ipywidgets
import numpy as np
import pytest
import torch
from helpers import contrast
from matplotlib.text import Text

from minivdm.course.checking import Result
from minivdm.course.result_view import COLOURS, as_html, as_text, show
from minivdm.evaluation import viz
from minivdm.evaluation.diagrams import Diagram
from minivdm.evaluation.svg_parts import NOT_XML

TEXTS = [
    "$$",
    "$x",
    "it costs $5, not $10",
    r"$\frac{1}{0}$ \undefined_{",
    "100% _red_ ^ & # ~ {} [a](b)",
    "<script>alert(1)</script>",
    "</script><!-- </figcaption></div><b>",
    '" onerror="alert(1)" x=\'',
    "' onmouseover='alert(1)",
    "&amp; &lt; &#36;",
    "%s %(x)s {0} {x}",
    "a ü 漢字 \U0001f3b2",
    "two\nlines and\ta tab \x1b[31m",
    "",
]
IMAGES, CLIP = torch.zeros(4, 1, 8, 8), torch.zeros(3, 2, 8, 8)
PLACES = [
    lambda text, ax: viz.show_images(IMAGES, text, ax=ax),
    lambda text, ax: viz.show_images(IMAGES, "", labels=["a", text], ax=ax),
    lambda text, ax: viz.show_images(IMAGES, "", cols=2, labels=["a", text], ax=ax),
    lambda text, ax: viz.show_images(IMAGES, "", cols=2, rows=[text, "b"], ax=ax),
    lambda text, ax: viz.show_strip(CLIP, text, ax=ax),
]


class Page(HTMLParser):
    """What a browser makes of a piece of HTML: its text, its tags, and their attributes."""

    def __init__(self, source):
        super().__init__()
        self.text, self.tags, self.attributes, self.styles = "", [], [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.styles.append(
            dict(part.split(":", 1) for part in dict(attributes).get("style", "").split(";") if ":" in part)
        )

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def displayed(monkeypatch):
    """What is displayed in a notebook, one object after the other."""
    objects = []
    monkeypatch.setattr(IPython.display, "display", objects.append)
    return objects


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_figures_show_it(text):
    figure, axes = viz.plt.subplots(1, len(PLACES), figsize=(5, 1))
    with warnings.catch_warnings(action="error"):
        for draw, ax in zip(PLACES, axes):
            draw(text, ax)
        figure.canvas.draw()
    for ax in axes:
        shown = [each for each in ax.findobj(Text) if each.get_text() == viz.drawable(text)]
        assert shown and not any(each.get_parse_math() or each.get_usetex() for each in shown if text)
    viz.plt.close(figure)


def test_a_dollar_looks_as_one_that_matplotlib_was_told_to_take_literally():
    def pixels():
        viz.plt.gcf().canvas.draw()
        return np.asarray(viz.plt.gcf().canvas.buffer_rgba()).copy()

    viz.show_images(IMAGES, "it costs $5, not $10")
    ours, title = pixels(), viz.plt.gca().title
    title.set(text=r"it costs \$5, not \$10", parse_math=True)
    literal = pixels()
    title.set(text="it costs $5, not $10", parse_math=True)
    assert (ours == literal).all() and (ours != pixels()).any()
    viz.plt.close()


def test_what_the_fonts_lack_is_written_as_its_number():
    assert viz.drawable("a ü\n漢 \U0001f6d2\t") == "a ü\n\\u6f22 \\U0001f6d2\\t"
    assert viz.drawable(0.5) == "0.5"


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_players_show_it(displayed, text):
    viz.play([CLIP, CLIP], [text, "plain"])
    page = Page(displayed[0].data)
    assert page.text == text + "plain" and page.tags == 2 * ["figure", "img", "figcaption"]
    assert [value for name, value in page.attributes if name == "alt"] == [text, "plain"]
    assert {name for name, _ in page.attributes} == {"class", "style", "alt", "src", "width"}
    assert "mathjax_ignore" in dict(page.attributes)["class"]


def test_a_player_for_each_caption(displayed):
    viz.play(CLIP[None])
    assert Page(displayed[0].data).text == ""
    for captions, came in ((["a"], "1 captions"), ("ab", "one string"), ([], "0 captions")):
        with pytest.raises(ValueError, match=f"one for each of 2 clips, got {came}"):
            viz.play([CLIP, CLIP], captions)


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_sliders_show_it(displayed, text):
    viz.slider(lambda value: viz.plt.figure(figsize=(1, 1)), ["first", text], text)
    (box,) = displayed
    player, name, position, value = box.children[0].children
    assert html.unescape(name.value) == text and value.value == "first"
    position.value = 1
    assert html.unescape(value.value) == text
    assert Page(value.value).tags == Page(name.value).tags == []
    assert {type(each) for each in (name, value)} == {ipywidgets.HTML} and not position.description


@pytest.mark.parametrize("text", [text for text in TEXTS if text], ids=ascii)
def test_diagrams_show_it(text):
    diagram = Diagram(text)
    boxes = [diagram.box(text, 0, 0, kind="trained"), diagram.box("plain", 1, 0)]
    diagram.arrow(*boxes, text)
    diagram.group(boxes, text)
    bundle = diagram._repr_mimebundle_()
    page, drawing = Page(bundle["text/html"]), ElementTree.fromstring(bundle["image/svg+xml"])
    shown = NOT_XML.sub(lambda found: ascii(found[0])[1:-1], text)
    assert page.tags == ["img"] and {name for name, _ in page.attributes} == {"alt", "style", "src"}
    assert dict(page.attributes)["alt"] == shown == drawing[0].text and bundle["text/plain"] == text
    tags = {each.tag.partition("}")[2] for each in drawing.iter()}
    assert tags <= {"svg", "title", "desc", "rect", "path", "text", "tspan"}
    lines = ["".join(each.itertext()) for each in drawing if each.tag.endswith("}text")]
    for line in filter(None, shown.split("\n")):
        assert lines.count(line) == 3


@pytest.mark.parametrize("status", COLOURS)
@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_cards_show_it(status, text):
    result = Result(status, f"module.{text}", message=text, hint=text, notes=[text], printed=text)
    page = Page(as_html(result))
    assert page.text.count(text) >= 5 and set(page.tags) == {"div", "b"} | ({"pre"} if text else set())
    assert {name for name, _ in page.attributes} == {"class", "style"}
    assert "mathjax_ignore" in page.attributes[0][1]
    assert as_text(result).startswith(f"{text}: {status}")


def blend(colour, ground, opacity):
    """A colour that lets the ground through."""
    mixed = (opacity * int(colour[i : i + 2], 16) + (1 - opacity) * int(ground[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(c):02x}" for c in mixed)


@pytest.mark.parametrize("status", COLOURS)
def test_cards_can_be_read_in_light_and_in_dark_themes(status):
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast("#2e9e4f", "#ffffff") < 3.5
    page = Page(as_html(Result(status, "module.name", message="m", hint="h", notes=["n"], printed="p")))
    coloured = [style for style in page.styles if "color" in style]
    assert coloured, "the status"
    for style in coloured:
        assert contrast(style["color"].strip(), style[" background"].strip()) >= 4.5
    for style in page.styles:
        opacity = float(style.get(" opacity", 1))
        assert contrast(blend("#000000", "#ffffff", opacity), "#ffffff") >= 4.5
        assert contrast(blend("#e0e0e0", "#111111", opacity), "#111111") >= 4.5


def test_a_card_can_be_printed_in_any_terminal(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", terminal)
    show(Result("error", "module.name", message="naïve … 漢"))
    terminal.flush()
    assert terminal.buffer.getvalue().splitlines()[1] == rb"  na\xefve \u2026 \u6f22"
