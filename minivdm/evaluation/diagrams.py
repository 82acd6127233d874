r"""Diagrams of networks and pipelines: boxes on a grid, arrows between them, drawn as SVG.

    d = Diagram("The U-Net sees a noisy picture and its level of noise, and estimates the noise.")
    x = d.box("x_t\n(B, 1, 16, 16)", column=0, row=0, kind="data")
    unet = d.box("U-Net", column=1, row=0, kind="trained")
    d.arrow(x, unet)
    d.show()

The author says in which column and row a box stands; sizes follow from the texts, and a box, label or line in the way
of another is an error. In all texts x_t, ε_θ and x_{t-1} get a subscript.

A picture brings its own light ground and is sharp at any size. In a notebook it is an `<img>` with the alternative
text, for JupyterLab shows no other SVG in a notebook that came from elsewhere.
"""

import base64
import math
from collections.abc import Sequence
from numbers import Real

from .diagram_collisions import require_clear
from .diagram_layout import Arrow, Point, Shape, around, label_rectangle, place, title_rectangle
from .svg_parts import GROUND, INK, KINDS, QUIET, Text, arrow_line, escaped, number, outline
from .viz import notebook_module

BENDS = ("-", "|", "-|", "|-", "-|-", "|-|")
FORMS = ("box", "encoder", "decoder")
MARGIN = 16  # pixels around everything


class Diagram:
    """A diagram, to which shapes and arrows are added one by one.

    Args:
        alt: the alternative text: one or two sentences that say what the diagram shows.
        gap: pixels between columns, and between rows; a label between two boxes may widen it.

    Raises:
        ValueError: if there is no alternative text.
    """

    def __init__(self, alt: str, gap: tuple[float, float] = (44, 36)) -> None:
        if not isinstance(alt, str) or not alt.strip():
            raise ValueError(f"expected an alternative text, for those who do not see the diagram, got {alt!r}")
        self.alt, self.gap = alt, gap
        self.shapes: list[Shape] = []
        self.arrows: list[Arrow] = []

    def box(
        self, text: str, column: float | tuple, row: float | tuple, kind: str = "layer", form: str = "box"
    ) -> Shape:
        """A box. The first line of its text is bold; a line in parentheses is a shape, and set in monospace.

        Args:
            text: its lines.
            column, row: its place. Halves are fine; (first, last) reaches from one to the other.
            kind: "data", "layer", "trained", "locked" or "loss".
            form: "box", or a trapezoid: "encoder" narrows towards the right, "decoder" widens.

        Raises:
            ValueError: if there is no such kind or form, or the place is no number.
        """
        for what, value, known in (("kind", kind, list(KINDS)), ("form", form, FORMS)):
            if value not in known:
                raise ValueError(f"expected a {what} among {', '.join(known)}, got {value!r}")
        return self._add(Shape(text, column, row, kind, form))

    def circle(self, sign: str, column: float, row: float) -> Shape:
        """A small circle with a sign in it, such as + or ×."""
        return self._add(Shape(sign, column, row, "layer", "circle"))

    def text(self, text: str, column: float, row: float) -> Shape:
        """Text without a box; arrows may begin or end at it."""
        return self._add(Shape(text, column, row, "text", "box"))

    def group(self, members: Sequence[Shape], title: str, along: float = 0.0) -> Shape:
        """A frame around boxes, or around other groups; arrows may begin or end at it.

        Args:
            members: what is in it.
            title: text in its upper part.
            along: where the title stands there, 0 at the left to 1 at the right.
        """
        if not members:
            raise ValueError("expected at least one box in a group, got none")
        spans = list(zip(*(self._ours(member).spans for member in members)))
        spans = [(min(first for first, _ in axis), max(last for _, last in axis)) for axis in spans]
        return self._add(Shape(title, *spans, "group", "box", members, along))

    def arrow(
        self,
        start: Shape | Point,
        end: Shape | Point,
        label: str = "",
        bend: str | None = None,
        via: float | None = None,
        dashed: bool = False,
        along: float = 0.5,
        other_side: bool = False,
        shift: float = 0.0,
    ) -> None:
        """An arrow between two shapes or points (column, row). Between two points it is a vector, at any angle.

        Args:
            start, end: what it joins.
            label: text above its longest stretch, or at the right of it.
            bend: its stretches, one sign each: "-", "|", "-|", "|-", "-|-" or "|-|". By default straight where the
                two face each other, else "-|-".
            via: where the middle one of three stretches lies: a column for "-|-", a row for "|-|". By default
                midway, or round the two on the left or above. A skip connection: `bend="|-|", via=-0.8`.
            dashed: for what is no flow of data: gradients, or "copied once".
            along: where on its stretch the label stands, 0 at the start to 1 at the end.
            other_side: the label goes below the line, or to its left.
            shift: pixels by which a straight arrow lies lower, or more to the right: room for one that comes back.

        Raises:
            ValueError: if an end is not of this diagram, or there is no such bend.
        """
        if bend is not None and bend not in BENDS:
            raise ValueError(f"expected a bend among {', '.join(BENDS)}, got {bend!r}")
        if via is not None and (bend is None or len(bend) != 3):
            raise ValueError(f"expected via with the bend -|- or |-|, got it with {bend!r}")
        ends = [self._point(each) if isinstance(each, tuple) else self._ours(each) for each in (start, end)]
        if start == end:
            raise ValueError(f"expected an arrow between two things, got one from {ends[0].text.name!r} to itself")
        self.arrows.append(Arrow(*ends, Text(label), bend, via, dashed, along, other_side, shift))

    def svg(self) -> str:
        """The diagram as SVG: the same calls give the same text.

        Raises:
            ValueError: if a box, label or line is in the way of another; it names the two.
        """
        place(self.shapes, self.arrows, self.gap)
        require_clear(self.shapes, self.arrows)
        groups = sorted((s for s in self.shapes if s.members), key=lambda s: -len(s.inside()))  # the outer ones first
        boxes = [shape for shape in self.shapes if not shape.members]
        drawn = []
        for group in groups:
            x, y, _, end = title_rectangle(group)
            drawn += [outline("group", "box", *group.centre, *group.size)]
            drawn += [group.text.svg(x, (y + end) / 2, QUIET, "start")]
        drawn += [arrow_line(each.points, each.dashed) for each in self.arrows]
        for box in boxes:
            drawn += [outline(box.kind, box.form, *box.centre, *box.size)] if box.kind != "text" else []
            drawn += [box.text.svg(*box.centre, KINDS.get(box.kind, KINDS["layer"])[3])]
        drawn += [each.label.svg(*each.label_at) for each in self.arrows]
        covered = [shape.rectangle(2) for shape in self.shapes]
        covered += [label_rectangle(each) for each in self.arrows if each.label.lines]
        covered += [(x, y, x, y) for each in self.arrows for x, y in each.points]
        left, top, right, bottom = around(covered or [(0, 0, 1, 1)])
        key = [kind for kind in ("trained", "locked") if any(box.kind == kind for box in boxes)]
        bottom += 44 if key else 0
        for kind, x in zip(key, (left + 2, left + 110)):  # below everything, at the left
            drawn += [outline(kind, "box", x + 18, bottom - 11, 36, 22)]
            drawn += [Text(kind).svg(x + 44, bottom - 11, INK, "start")]
            right = max(right, x + 92)
        x, y, width, height = map(
            number, (left - MARGIN, top - MARGIN, right - left + 2 * MARGIN, bottom - top + 2 * MARGIN)
        )
        size = f'width="{width}" height="{height}"'
        space = 'xmlns="http://www.w3.org/2000/svg" xml:space="preserve"'
        opening = [
            f'<svg {space} role="img" {size} viewBox="{x} {y} {width} {height}" '
            'font-family="sans-serif" text-anchor="middle">',
            f"<title>{escaped(self.alt)}</title>",
            f"<desc>{escaped(self.description())}</desc>",
            f'<rect x="{x}" y="{y}" {size} rx="6" fill="{GROUND}"/>',
        ]
        return "\n".join([*opening, *filter(None, drawn), "</svg>"])

    def description(self) -> str:
        """What leads where, in words: "x_t to U-Net (8 times); U-Net to ε_θ"."""
        return "; ".join(
            f"{each.start.text.name} to {each.end.text.name}" + (f" ({each.label.name})" if each.label.name else "")
            for each in self.arrows
            if "point" not in (each.start.kind, each.end.kind)
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """What Jupyter shows: an `<img>` in HTML, which it shows everywhere; SVG for documents; text for the rest."""
        svg = self.svg()
        data = base64.b64encode(svg.encode()).decode()
        style = "max-width: 100%; height: auto"
        image = f'<img alt="{escaped(self.alt)}" style="{style}" src="data:image/svg+xml;base64,{data}">'
        return {"text/html": image, "image/svg+xml": svg, "text/plain": self.alt}

    def show(self) -> None:
        """Show the diagram in a notebook."""
        notebook_module("IPython.display").display(self._repr_mimebundle_(), raw=True)

    def _add(self, shape: Shape) -> Shape:
        self.shapes.append(self._checked_place(shape))
        return shape

    def _checked_place(self, shape: Shape) -> Shape:
        for span in shape.spans:
            if not (len(span) == 2 and all(isinstance(value, Real) and math.isfinite(value) for value in span)):
                raise ValueError(f"expected a number or (first, last) for column and row, got {span!r}")
            if span[0] > span[1]:
                raise ValueError(f"expected (first, last) with the smaller number first, got {span!r}")
        return shape

    def _point(self, place: Point) -> Shape:
        if len(place) != 2:
            raise ValueError(f"expected a point (column, row), got {place!r}")
        shape = self._checked_place(Shape("", *place, "point", "box"))
        shape.text.name = "({:g}, {:g})".format(*place)
        return shape

    def _ours(self, shape: Shape) -> Shape:
        if shape not in self.shapes:
            name = f"{shape.text.name!r} of another one" if isinstance(shape, Shape) else repr(shape)
            raise ValueError(f"expected a box of this diagram, got {name}")
        return shape
