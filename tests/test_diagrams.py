"""Diagrams: what they say to those who see them and to those who do not, and that nothing covers anything."""

import base64
import math
import re
from itertools import combinations
from xml.etree import ElementTree

import pytest
from helpers import contrast, luminance
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from minivdm.evaluation import svg_parts
from minivdm.evaluation.diagrams import Diagram
from minivdm.evaluation.svg_parts import FRAME, GROUND, INK, KINDS, Text, outline, pieces, width_of

FORMS = ("box", "encoder", "decoder", "circle")


def unet():
    """A U-Net with two resolutions."""
    d = Diagram("A U-Net: two blocks down, attention, two blocks up; skips join maps of the same size.")
    x = d.box("x_t\n(B, 3, 32, 32)", 0, 0, "data")
    down = [d.box(f"block {i}\n(B, {c}, {s}, {s})", 0, i, "trained") for i, c, s in ((1, 64, 32), (2, 128, 16))]
    middle = d.box("attention\n(B, 128, 16, 16)", 1, 3, "trained")
    up = [d.box(f"block {5 - i}\n(B, {c}, {s}, {s})", 2, i, "trained") for i, c, s in ((1, 64, 32), (2, 128, 16))]
    eps = d.box("ε_θ(x_t, t)\n(B, 3, 32, 32)", 2, 0, "data")
    level, words = d.box("level t\n(B,)", 3, 1, "data"), d.box("text\n(B, 8, 64)", 1, 4, "data")
    d.arrow(level, d.group([*down, middle, *up], "every block sees t", along=0.5))
    d.arrow(x, down[0])
    d.arrow(down[0], down[1], "half size")
    d.arrow(down[1], middle, bend="|-")
    d.arrow(middle, up[1], bend="-|")
    d.arrow(up[1], up[0], "double size", other_side=True)
    d.arrow(up[0], eps)
    for i in (0, 1):
        d.arrow(down[i], up[i], "skip: concatenate")
    d.arrow(words, middle, "keys, values", along=0.25)
    return d


def control():
    """A locked network, and a trainable copy of its encoder between zero convolutions."""
    d = Diagram(
        "ControlNet: what a trainable copy of the locked encoder sees of a hint is added to the locked maps.",
        gap=(36, 36),
    )
    x, hint = d.box("x_t\n(B, 3, 32, 32)", 0, 0, "data"), d.box("hint c\n(B, 1, 32, 32)", 0, 3, "data")
    encoder = d.box("encoder\n(B, 64, 16, 16)", 1, 0, "locked", "encoder")
    decoder = d.box("decoder\n(B, 64, 16, 16)", 3, 0, "locked", "decoder")
    copy = d.box("copy\n(B, 64, 16, 16)", 1, 1, "trained", "encoder")
    before, after = d.box("zero conv", 0, 2, "trained"), d.box("zero conv", 2, 1, "trained")
    eps = d.box("ε_θ(x_t, t, c)\n(B, 3, 32, 32)", 4, 0, "data")
    first, second = d.circle("+", 0, 1), d.circle("+", 2, 0)
    ways = [(x, encoder), (encoder, second), (second, decoder), (decoder, eps), (hint, before), (before, first)]
    for start, end in [*ways, (x, first), (first, copy), (copy, after), (after, second)]:
        d.arrow(start, end)
    d.arrow(encoder, copy, "copied once", dashed=True)
    return d


def drawn(diagram, tag):
    """The elements of that kind in a diagram's SVG."""
    return [each for each in ElementTree.fromstring(diagram.svg()).iter() if each.tag.partition("}")[2] == tag]


@pytest.mark.parametrize("draw", [unet, control])
def test_it_says_what_it_shows_and_travels_light(draw):
    diagram = draw()
    bundle = diagram._repr_mimebundle_()
    svg = bundle["image/svg+xml"]
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img" and bundle["text/plain"] == diagram.alt == drawn(diagram, "title")[0].text
    (described,) = drawn(diagram, "desc")
    assert ("copied once" if draw is control else "block 1 to block 2 (half size)") in described.text
    source = re.fullmatch(r'<img alt="(.*)" style=".*" src="data:image/svg\+xml;base64,(.*)">', bundle["text/html"])
    assert source[1] == diagram.alt and base64.b64decode(source[2]).decode() == svg
    assert len(svg) < 8000 and float(root.get("width")) < 850


def test_the_same_calls_give_the_same_bytes_and_two_fit_on_one_page():
    assert unet().svg() == unet().svg() != control().svg()
    early, late = Diagram("a column"), Diagram("a column")
    for each in (early, late):
        each.box("attend", 0, 0)
        each.box("attention", 0, 1)
        if each is early:
            each.svg()  # looking at it changes nothing
        each.box("a box with a very long name indeed", 0, 2)
    assert early.svg() == late.svg() == late.svg()
    assert not re.search(r"\bid=|url\(|<style|class=|href", unet().svg() + control().svg())


def test_only_generic_fonts_are_asked_for():
    assert set(re.findall(r'font-family="(.*?)"', unet().svg())) == {"sans-serif", "monospace"}


WORDS = [
    "residual block",
    "ε_θ(x, t)",
    "WWW mmm",
    "copied once",
    "(B, 128, 16, 16)",
    "√ᾱ x₀ + √(1 − ᾱ) ε",
    "Illicit, fill: 100%",
]


@pytest.mark.parametrize(
    "style, family, weight", [("name", "Sans", "bold"), ("note", "Sans", 400), ("shape", "Sans Mono", 400)]
)
@pytest.mark.parametrize("line", WORDS)
def test_a_text_has_room_in_the_widest_of_the_usual_fonts(line, style, family, weight):
    line = line.replace("_", "")
    font = FontProperties(family=f"DejaVu {family}", weight=weight)
    needs = TextPath((0, 0), line, size=svg_parts.SIZES[style], prop=font).get_extents().width
    assert needs <= width_of(line, style) <= 1.35 * needs + 4


def test_what_a_font_lacks_has_room_too():
    assert width_of("漢字", "name") > 2 * svg_parts.SIZES["name"] and width_of("x\u0302", "name") == width_of(
        "x", "name"
    )


@pytest.mark.parametrize("draw", [unet, control])
def test_boxes_contain_their_text(draw):
    diagram = draw()
    diagram.svg()
    for shape in diagram.shapes:
        if shape.form != "circle":
            slant = 2 * svg_parts.SLANT if shape.form != "box" else 0
            assert shape.size[0] >= shape.text.width + 20 + (12 if shape.kind == "locked" else 0)
            assert shape.size[1] >= shape.text.height + 10 + slant


def corners(path):
    return [tuple(map(float, pair)) for pair in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


def borders(diagram):
    """The outlines in an SVG, each as a function: how far a point is from it, in pixels."""

    def to_polygon(points):
        def far(x, y):
            sides = zip(points, [*points[1:], points[0]])
            return min(to_segment(x, y, *a, *b) for a, b in sides)

        return far

    found = []
    for each in drawn(diagram, "rect")[1:]:
        x, y, w, h = (float(each.get(name)) for name in ("x", "y", "width", "height"))
        found.append(to_polygon([(x, y), (x + w, y), (x + w, y + h), (x, y + h)]))
    for each in drawn(diagram, "circle"):
        cx, cy, r = (float(each.get(name)) for name in ("cx", "cy", "r"))
        found.append(lambda x, y, cx=cx, cy=cy, r=r: abs(math.hypot(x - cx, y - cy) - r))
    for each in drawn(diagram, "path"):
        if each.get("stroke-linejoin"):
            found.append(to_polygon(corners(each.get("d"))))
    return found


def to_segment(x, y, x0, y0, x1, y1):
    """The distance of a point from a stretch of a line."""
    along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2)
    along = min(max(along, 0), 1)
    return math.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0))


def ends(diagram):
    """Where the lines begin, and the tips of the heads."""
    paths = [each.get("d") for each in drawn(diagram, "path") if not each.get("stroke-linejoin")]
    return [corners(path)[0] for path in paths]


@pytest.mark.parametrize("bend", [None, "-", "|", "-|", "|-", "-|-", "|-|"])
@pytest.mark.parametrize("forms", list(combinations(FORMS, 2)), ids=" ".join)
def test_arrows_begin_and_end_at_borders(forms, bend):
    for column, row in ((1, 0), (0, 1), (1, 1), (-1, 1), (1, -1)):
        if (bend in ("-", "|") and (column, row) != ((1, 0) if bend == "-" else (0, 1))) or (
            bend in ("-|", "|-") and 0 in (column, row)
        ):
            continue
        d = Diagram("two boxes")
        one, two = (
            d.circle("+", *place) if form == "circle" else d.box("a box\nof two lines", *place, form=form)
            for form, place in zip(forms, ((0, 0), (column, row)))
        )
        d.arrow(one, two, bend=bend)
        start, tip = ends(d)
        first, second = borders(d) if forms[1] != "circle" else sorted(borders(d), key=lambda far: far(*start))
        near = sorted([min(first(*end), second(*end)) for end in (start, tip)])
        assert near[1] < 0.8, (column, row)
        assert math.dist(start, tip) > 20 and len({first(*end) < second(*end) for end in (start, tip)}) == 2


@pytest.mark.parametrize("form", ["encoder", "decoder"])
def test_arrows_end_at_a_slanting_border_where_it_is(form):
    d = Diagram("three boxes above a wide one")
    wide = d.box("wide", (0, 2), 1, form=form)
    for column in range(3):
        d.arrow(d.box(f"box {column}", column, 0), wide)
    tips, outline = ends(d)[1::2], borders(d)[-1]
    assert all(outline(*tip) < 0.8 for tip in tips)
    heights = [y for _, y in tips]
    assert (sorted(heights) == heights) == (form == "encoder") and len(set(heights)) == 3


def test_a_skip_connection_goes_where_it_is_told_to():
    d = Diagram("a skip connection above two boxes, and one below")
    a, b, c = (d.box(name, i, 0) for i, name in enumerate("abc"))
    d.arrow(a, c, "above", bend="|-|", via=-1)
    d.arrow(a, c, "below", bend="|-|", via=1, along=0.2, other_side=True)
    svg = d.svg()
    above, below = (corners(path)[2][1] for path in re.findall('d="(.*?)" fill="none"', svg))
    assert above < b.rectangle()[1] - 20 and below > b.rectangle()[3] + 20
    labels = {each.text: [float(each.get(name)) for name in "xy"] for each in drawn(d, "text")}
    left, middle = a.centre[0], b.centre[0]
    assert labels["above"][0] == middle and labels["above"][1] < above
    assert labels["below"][0] == pytest.approx(left + 0.4 * (middle - left), abs=0.1) and labels["below"][1] > below


def test_without_a_place_for_it_a_way_round_is_found():
    d = Diagram("from the first box to the last of a column, round the middle one")
    a, b, c = (d.box(name, 0, i) for i, name in enumerate("abc"))
    d.arrow(a, c, bend="-|-")
    d.svg()
    assert d.arrows[0].points[1][0] < b.rectangle()[0]


def test_boxes_below_each_other_are_alike():
    d = Diagram("two columns")
    a, b, circle = d.box("norms", 0, 0), d.box("attention", 0, 1), d.circle("+", 0, 2)
    small, wide = d.box("norm", 1, 0), d.box("a box with a very long name", 1, 1)
    d.svg()
    assert a.size[0] == b.size[0] > circle.size[0]
    assert small.size[0] < wide.size[0] / 2, "but not those that are much smaller"


def test_an_arrow_between_points_is_a_vector():
    d = Diagram("two vectors", gap=(80, 80))
    d.arrow((0, 0), (1, 0.5), "a")
    d.arrow((1, 0.5), (2, 0), "b")
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = ends(d)
    assert (x1 - x0, y1 - y0) == (100, 50) == (x3 - x2, y2 - y3) and (x1, y1) == (x2, y2)


def test_gaps_are_alike_and_widen_for_a_label():
    def gap(label):
        d = Diagram("two boxes")
        a, b = d.box("a", 0, 0), d.box("a much longer name", 1, 0)
        d.arrow(a, b, label)
        d.svg()
        return b.rectangle()[0] - a.rectangle()[2]

    assert gap("") == gap("x") == 44 and gap("(B, 128, 16, 16)") > Text("(B, 128, 16, 16)").width + 15


def test_spans_and_frames_hold_what_they_are_around():
    d = Diagram("a tall box, and two in frames")
    small = [d.box(f"box {i}", 0, i) for i in range(3)]
    tall = d.box("tall", 1, (0, 2))
    inner = d.group(small[:2], "inner")
    outer = d.group([inner, small[2]], "outer")
    for each in small:
        d.arrow(each, tall)
    d.svg()
    assert (tall.rectangle()[1], tall.rectangle()[3]) == (small[0].rectangle()[1], small[2].rectangle()[3])
    for frame, member in ((inner, small[0]), (inner, small[1]), (outer, inner), (outer, small[2])):
        a, b = frame.rectangle(), member.rectangle()
        assert a[0] < b[0] and a[1] < b[1] and a[2] > b[2] and a[3] > b[3]
    assert [round(y) for _, y in ends(d)[::2]] == [each.centre[1] for each in small]


def overlapping(d):
    d.box("one", 0, 0), d.box("two", 0.2, 0)


def through_a_box(d):
    a, _, b = (d.box(name, i, 0) for i, name in enumerate(("one", "two", "three")))
    d.arrow(a, b)


def label_on_a_box(d):
    a, b, _ = d.box("one", 0, 0), d.box("two", 0, 1), d.box("three", 1, 0.5)
    d.arrow(a, b, "a label that is far too long")


def one_line_on_another(d):
    a, b, c = (d.box(name, 0, i) for i, name in enumerate(("one", "two", "three")))
    d.arrow(a, b, bend="-|-")
    d.arrow(b, c, bend="-|-")


def stranger_in_a_frame(d):
    d.group([d.box("one", 0, 0), d.box("two", 2, 0)], "frame")
    d.box("three", 1, 0)


def line_through_a_title(d):
    a, b = d.box("one", 0, 0), d.box("two", 0, 1)
    d.group([b], "a frame with a title")
    d.arrow(a, b)


def label_on_a_frame(d):
    a, b = d.box("one", 0, 0), d.box("two", 0, 1)
    d.group([a], "")
    d.arrow(a, b, "a label", along=0.4)


CARELESS = {
    label_on_a_frame: "the frame '' is in the way of the label 'a label'",
    overlapping: "the box 'one' is in the way of the box 'two'",
    through_a_box: "the arrow from 'one' to 'three' is in the way of the box 'two'",
    label_on_a_box: "the label 'a label that is far too long' is in the way of the box 'three'",
    one_line_on_another: "the arrow from 'one' to 'two' is in the way of the arrow from 'two' to 'three'",
    stranger_in_a_frame: "the frame 'frame' is in the way of the box 'three'",
    line_through_a_title: "the arrow from 'one' to 'two' is in the way of the title 'a frame with a title'",
}


@pytest.mark.parametrize("draw", CARELESS, ids=lambda draw: draw.__name__)
def test_nothing_covers_anything_unnoticed(draw):
    diagram = Diagram("careless")
    draw(diagram)
    with pytest.raises(ValueError, match=re.escape(CARELESS[draw])):
        diagram.svg()


def test_lines_may_cross_and_share_an_end():
    d = Diagram("lines that cross, and two that end in one place")
    a, b, c, e = d.box("a", 0, 1), d.box("b", 2, 1), d.box("c", 1, 0), d.box("e", 1, 2)
    d.arrow(a, b)
    d.arrow(c, e)
    d.arrow(c, b, bend="-|")
    d.arrow(e, b, bend="-|")
    assert len(drawn(d, "path")) == 8


def test_arrows_there_and_back():
    d = Diagram("there and back")
    a, b = d.box("x_0", 0, 0), d.box("x_1", 1, 0)
    d.arrow(a, b, "q", shift=-7)
    d.arrow(b, a, "p", shift=7, other_side=True)
    (_, there), _, (_, back), _ = ends(d)
    assert back - there == 14


def without_hues(svg):
    """An outline in which each colour is but dark or light."""
    return re.sub("#[0-9a-f]{6}", lambda found: "dark" if luminance(found[0]) < 0.3 else "light", svg)


def test_kinds_differ_without_their_colours():
    assert len({without_hues(outline(kind, "box", 0, 0, 90, 50)) for kind in KINDS}) == len(KINDS) == 5
    assert "a2.5" in outline("locked", "box", 0, 0, 90, 50)


def test_everything_can_be_read_on_its_ground():
    for kind, (ground, border, _, letters) in KINDS.items():
        assert contrast(letters, ground) >= 4.5, kind
        assert contrast(border, GROUND) >= 3 and contrast(border, FRAME[0]) >= 3
        assert border == ground or contrast(border, ground) >= 3
    assert contrast(INK, GROUND) > contrast(INK, FRAME[0]) > contrast(FRAME[3], FRAME[0]) >= 4.5
    assert contrast(FRAME[1], GROUND) >= 3 and contrast(FRAME[1], FRAME[0]) >= 3


def test_a_key_names_what_is_trained_and_locked():
    def words(diagram):
        return ["".join(each.itertext()) for each in drawn(diagram, "text")]

    assert words(control())[-2:] == ["trained", "locked"] and words(unet())[-1] == "trained"
    d = Diagram("data alone")
    d.box("x", 0, 0, "data")
    assert words(d) == ["x"]


def test_one_letter_gets_a_subscript_and_names_stay():
    assert pieces("x_t") == [("x", False), ("t", True)]
    assert pieces("q(x_t | x_{t-1})")[:4] == [("q(x", False), ("t", True), (" | x", False), ("t-1", True)]
    assert pieces("ε_∅, x̂_0") == [("ε", False), ("∅", True), (", x̂", False), ("0", True)]
    for name in ("q_sample", "to_q", "x_", "_t", "a __t", "x_te"):
        assert pieces(name) == [(name, False)]
    assert Text("x\n(B, x_t)").lines == [("x", "note"), ("(B, x_t)", "shape")]


def test_text_after_a_subscript_stands_on_the_line_again():
    (text,) = drawn_text = ElementTree.fromstring(f"<svg>{Text('x_t + y').svg(0, 0)}</svg>")
    below, after = text
    assert len(drawn_text) == 1 and (text.text, below.text, after.text) == ("x", "t", " + y")
    assert float(below.get("dy")) == -float(after.get("dy")) > 0


def test_mistakes_get_one_clear_line():
    d, other = Diagram("one"), Diagram("other")
    a, b, foreign = d.box("a", 0, 0), d.box("b", 1, 0), other.box("theirs", 0, 0)
    for call, message in (
        (lambda: Diagram("  "), "expected an alternative text"),
        (lambda: Diagram(None), "expected an alternative text"),
        (
            lambda: d.box("c", 0, 0, kind="frozen"),
            "expected a kind among data, layer, trained, locked, loss, got 'frozen'",
        ),
        (lambda: d.box("c", 0, 0, form="circle"), "expected a form among box, encoder, decoder, got 'circle'"),
        (lambda: d.box("c", float("nan"), 0), "expected a number"),
        (lambda: d.box("c", "0", 0), "expected a number"),
        (lambda: d.box("c", (0, 1, 2), 0), "expected a number or (first, last)"),
        (lambda: d.box("c", (2, 1), 0), "the smaller number first, got (2, 1)"),
        (lambda: d.arrow(a, foreign), "expected a box of this diagram, got 'theirs' of another one"),
        (lambda: d.arrow("a", b), "expected a box of this diagram, got 'a'"),
        (lambda: d.arrow(a, (1, 2, 3)), "expected a point (column, row), got (1, 2, 3)"),
        (lambda: d.arrow(a, a), "from 'a' to itself"),
        (lambda: d.arrow(a, b, bend="over"), "expected a bend among -, |, -|, |-, -|-, |-|, got 'over'"),
        (lambda: d.arrow(a, b, via=1), "expected via with the bend"),
        (lambda: d.group([], "none"), "expected at least one box"),
        (lambda: d.group([foreign], "theirs"), "'theirs' of another one"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            call()
    assert len(d.shapes) == 2 and not d.arrows, "what was refused leaves nothing behind"
    d.arrow(a, b, bend="|-|", shift=5)
    with pytest.raises(ValueError, match="expected shift with a straight arrow"):
        d.svg()


def test_an_empty_diagram_is_empty():
    assert len(drawn(Diagram("nothing yet"), "rect")) == 1
