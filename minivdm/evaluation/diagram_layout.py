"""Where the boxes, arrows and labels of a diagram stand, in pixels.

Columns and rows are as wide and high as what stands in them, and lie one gap apart. There is no search for a good
arrangement: the author gives it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .svg_parts import HEAD, SLANT, Text

Point = tuple[float, float]
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom
PADDING, FRAME = 12, 14  # pixels: beside a box's text; between the boxes of a group and its frame
SMALLEST, CIRCLE, EMPTY = 48, 26, 20  # pixels: of a box, of a circle, and of a column or row in which nothing stands


class Shape:
    """A box, a circle, a text, or the frame of a group; made by a `Diagram`, and handed to its arrows and groups."""

    def __init__(
        self,
        text: str,
        column: float | tuple,
        row: float | tuple,
        kind: str,
        form: str,
        members: Sequence = (),
        along: float = 0.0,
    ) -> None:
        self.text = Text(text, "note" if kind in ("text", "group") else "name")
        self.spans = [each if isinstance(each, tuple) else (each, each) for each in (column, row)]  # first and last
        self.kind, self.form, self.members, self.along = kind, form, list(members), along
        self.centre, self.size = [0.0, 0.0], self.natural_size()  # pixels

    def natural_size(self) -> list[float]:
        """Pixels that the text and its margin need."""
        if self.form == "circle":
            return [CIRCLE, CIRCLE]
        if self.kind in ("text", "point"):
            return [self.text.width, self.text.height]
        width = self.text.width + 2 * PADDING + (16 if self.kind == "locked" else 0)
        height = self.text.height + 18 + (2 * SLANT if self.form in ("encoder", "decoder") else 0)
        return [2 * math.ceil(max(width, SMALLEST) / 2), 2 * math.ceil(max(height, 36) / 2)]

    def is_drawn(self) -> bool:
        """Whether it has a border that may grow."""
        return self.kind not in ("text", "point") and self.form != "circle"

    def edge(self, axis: int, sign: int, level: float) -> float:
        """Where the border is along an axis (0 is x), on the far side (1) or the near one (-1), at a level across."""
        reach = self.size[axis] / 2
        if axis == 1 and self.form in ("encoder", "decoder"):
            share = 0.5 + (level - self.centre[0]) / self.size[0]
            reach -= SLANT * (share if self.form == "encoder" else 1 - share)
        return self.centre[axis] + sign * reach

    def rectangle(self, more: float = 0.0, above: float = 0.0) -> Rectangle:
        """The shape with so many pixels more at each side, and above and below."""
        (x, y), (w, h) = self.centre, self.size
        return x - w / 2 - more, y - h / 2 - more - above, x + w / 2 + more, y + h / 2 + more + above

    def inside(self) -> list["Shape"]:
        """The shape and all shapes in it."""
        return [self, *(shape for member in self.members for shape in member.inside())]


@dataclass(eq=False)
class Arrow:
    """An arrow between two shapes, and its label; `Diagram.arrow` says what the settings are."""

    start: Shape
    end: Shape
    label: Text
    bend: str | None
    via: float | None
    dashed: bool
    along: float
    other_side: bool
    shift: float
    points: Sequence[Point] = ()  # pixels
    label_at: Point = (0.0, 0.0)  # pixels, its centre

    def is_vector(self) -> bool:
        """Whether it goes straight from one point to another, at any angle."""
        return self.start.kind == self.end.kind == "point" and not self.bend

    def name(self) -> str:
        """What an error calls it."""
        return f"the arrow from {self.start.text.name!r} to {self.end.text.name!r}"

    def joins(self, axis: int, k: int) -> bool:
        """Whether it goes straight from column (axis 0) or row k to the next one, or back."""
        one, other = sorted((self.start.spans, self.end.spans), key=lambda spans: spans[axis])
        across = one[1 - axis], other[1 - axis]
        face = max(first for first, _ in across) <= min(last for _, last in across)
        return face and self.bend in (None, "-|"[axis]) and (one[axis][1], other[axis][0]) == (k, k + 1)


def place(shapes: list[Shape], arrows: list[Arrow], gap: Point) -> None:
    """Give each shape its centre, and each arrow its points and its label's place; spans and frames get their size."""
    boxes, groups = [s for s in shapes if not s.members], [s for s in shapes if s.members]
    for shape in boxes:
        shape.size = shape.natural_size()  # not what it was when less stood beside it
    points = [end for arrow in arrows for end in (arrow.start, arrow.end) if end.kind == "point"]
    grid = [Axis(axis, [*boxes, *points], groups, arrows, gap[axis]) for axis in (0, 1)]
    for shape in [*boxes, *points]:
        for axis, (first, last) in enumerate(shape.spans):
            shape.centre[axis] = round((grid[axis].at(first) + grid[axis].at(last)) / 2)
            wide = grid[axis].reach(first, last)
            if first != last or (axis == 0 and shape.is_drawn() and shape.size[0] > 0.6 * wide):
                shape.size[axis] = max(shape.size[axis], 2 * round(wide / 2))  # boxes below each other look alike
    for group in groups:
        left, top, right, bottom = around([member.rectangle(FRAME) for member in group.members])
        top, right = top - group.text.height, max(right, left + group.text.width + 2 * PADDING)
        group.centre, group.size = [(left + right) / 2, (top + bottom) / 2], [right - left, bottom - top]
    for arrow in arrows:
        arrow.points = way(arrow, grid)
        arrow.label_at = beside(arrow)


class Axis:
    """The columns of a diagram (axis 0), or its rows (axis 1)."""

    def __init__(self, axis: int, shapes: list[Shape], groups: list[Shape], arrows: list[Arrow], gap: float) -> None:
        used = [each for shape in shapes for each in shape.spans[axis]]
        used += [a.via for a in arrows if a.via is not None and "-|".index(a.bend[0]) == axis]
        low, high = math.floor(min(used, default=0)), math.ceil(max(used, default=0)) + 1
        self.sizes, self.centres, end = {}, {}, 0.0
        for k in range(low, high + 1):
            self.sizes[k] = max((s.size[axis] for s in shapes if s.spans[axis] == (k, k)), default=0) or EMPTY
            self.centres[k] = end + self.sizes[k] / 2
            labels = [a.label for a in arrows if a.label.lines and a.joins(axis, k)]
            needs = [(label.width, label.height)[axis] + HEAD + 12 for label in labels]
            frames = FRAME * sum(math.floor(g.spans[axis][1]) == k for g in groups)  # that end here, and begin there
            frames += sum(FRAME + axis * g.text.height for g in groups if math.ceil(g.spans[axis][0]) == k + 1)
            end += self.sizes[k] + max([gap, *needs]) + frames

    def at(self, value: float) -> float:
        """The pixel of a column, also between two."""
        k = math.floor(value)
        return self.centres[k] + (value - k) * (self.centres[k + 1] - self.centres[k])

    def reach(self, first: float, last: float) -> float:
        """Pixels from the left end of the first column to the right end of the last; between columns there is none."""
        return self.at(last) - self.at(first) + (self.sizes.get(first, 0) + self.sizes.get(last, 0)) / 2


def way(arrow: Arrow, grid: list[Axis]) -> list[Point]:
    """The points of an arrow's line, from border to border."""
    a, b = arrow.start, arrow.end
    if arrow.is_vector():
        return [tuple(a.centre), tuple(b.centre)]
    bend = arrow.bend or straight_way(a, b) or "-|-"
    along = "-|".index(bend[0])
    across = 1 - along

    def point(first: float, second: float) -> Point:
        return (first, second) if along == 0 else (second, first)

    def from_to(shape: Shape, level: float, towards: float) -> Point:
        """The point of a shape's border at a level, in the direction of what is `towards`, along the first stretch."""
        return point(shape.edge(along, 1 if towards > shape.centre[along] else -1, level), level)

    if len(bend) == 1:
        level = min((a, b), key=lambda shape: shape.size[across]).centre[across] + arrow.shift
        return [from_to(a, level, b.centre[along]), from_to(b, level, a.centre[along])]
    if arrow.shift:
        raise ValueError(f"expected shift with a straight arrow, got it with one that bends, {arrow.name()}")
    start_level, end_level = a.centre[across], b.centre[across]
    if len(bend) == 2:
        turn = b.centre[along]
        border = b.edge(across, 1 if start_level > end_level else -1, turn)
        return [from_to(a, start_level, turn), point(turn, start_level), point(turn, border)]
    near, far = sorted((a, b), key=lambda shape: shape.centre[along])
    free = near.edge(along, 1, near.centre[across]), far.edge(along, -1, far.centre[across])
    middle = sum(free) / 2
    if free[0] > free[1]:  # side by side: round them, on the left or above
        middle = min(shape.edge(along, -1, shape.centre[across]) for shape in (a, b)) - 24
    if arrow.via is not None:
        middle = grid[along].at(arrow.via)
    corners = [point(middle, start_level), point(middle, end_level)]
    return [from_to(a, start_level, middle), *corners, from_to(b, end_level, middle)]


def straight_way(a: Shape, b: Shape) -> str | None:
    """ "-" or "|" if the smaller shape faces the larger one, else None."""
    for axis, bend in enumerate("|-"):
        small, large = sorted((a, b), key=lambda shape: shape.size[axis])
        if abs(small.centre[axis] - large.centre[axis]) <= max(large.size[axis] / 2 - 8, 0.5):
            return bend
    return None


def beside(arrow: Arrow) -> Point:
    """The centre of an arrow's label: beside its longest stretch, above it or at its right, or on the other side."""
    (x0, y0), (x1, y1) = max(zip(arrow.points, arrow.points[1:]), key=lambda ends: math.dist(*ends))
    length = math.dist((x0, y0), (x1, y1)) or 1.0
    normal = ((y1 - y0) / length, -(x1 - x0) / length)
    side = -1 if arrow.other_side else 1
    if normal[1] > 0.01 or (abs(normal[1]) <= 0.01 and normal[0] < 0):  # up, else right
        side = -side
    off = 5 + abs(normal[0]) * arrow.label.width / 2 + abs(normal[1]) * (arrow.label.height / 2 - 1)
    share = arrow.along
    return x0 + share * (x1 - x0) + side * off * normal[0], y0 + share * (y1 - y0) + side * off * normal[1]


def around(rectangles: list[Rectangle]) -> Rectangle:
    """The smallest rectangle that holds them all."""
    sides = list(zip(*rectangles))
    return min(sides[0]), min(sides[1]), max(sides[2]), max(sides[3])


def label_rectangle(arrow: Arrow) -> Rectangle:
    """Where an arrow's label stands."""
    (x, y), w, h = arrow.label_at, arrow.label.width, arrow.label.height
    return x - w / 2, y - h / 2 + 2, x + w / 2, y + h / 2 - 2


def title_rectangle(group: Shape) -> Rectangle:
    """Where a group's title stands: below the frame's upper line, `along` of the way from left to right."""
    left, top, right, _ = group.rectangle(-PADDING)
    left += group.along * (right - left - group.text.width)
    return left, top - PADDING + 7, left + group.text.width, top - PADDING + 7 + group.text.height
