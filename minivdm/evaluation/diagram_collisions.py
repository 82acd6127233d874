"""Whether anything in a diagram is in the way of something else: a careless author learns it from an error."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, product

from .diagram_layout import Arrow, Point, Rectangle, Shape, around, label_rectangle, title_rectangle
from .svg_parts import SLANT

CLEARANCE = 4  # pixels between a line and a box that it passes
Named = tuple[str, Rectangle]


def require_clear(shapes: list[Shape], arrows: list[Arrow]) -> None:
    """No box, label or title covers another one, or a line; lines may cross, but not run into each other.

    Raises:
        ValueError: if one does; it names the two.
    """
    for (one, here), (other, there) in meetings(shapes, arrows):
        if overlap(here, there):
            raise ValueError(f"{one} is in the way of {other}: move one to another column or row, or bend the arrow")


def meetings(shapes: list[Shape], arrows: list[Arrow]) -> Iterator[tuple[Named, Named]]:
    """All pairs of things that may not touch: what each is called, and its rectangle."""
    boxes = {s: f"the box {s.text.name!r}" for s in shapes if not s.members}
    groups = {s: f"the frame {s.text.name!r}" for s in shapes if s.members}
    texts = [(f"the label {a.label.name!r}", label_rectangle(a)) for a in arrows if a.label.lines]
    texts += [(f"the title {g.text.name!r}", title_rectangle(g)) for g in groups if g.text.lines]
    yield from combinations([*texts, *((name, box.rectangle()) for box, name in boxes.items())], 2)
    for group, frame in groups.items():
        for other, name in {**boxes, **groups}.items():
            if other not in group.inside() and group not in other.inside():
                yield (frame, group.rectangle()), (name, other.rectangle())
        left, top, right, bottom = group.rectangle()
        border = stretches([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)])
        yield from product([(frame, side) for side in border], texts)
    lines = [(arrow, [(arrow.name(), part) for part in stretches(arrow.points)]) for arrow in arrows]
    for arrow, parts in lines:
        yield from product(parts, texts)
        yield from product(parts, [(name, core(box, arrow)) for box, name in boxes.items()])
    for (one, parts), (other, others) in combinations(lines, 2):
        if one.start is not other.start and one.end is not other.end and not (one.is_vector() or other.is_vector()):
            yield from ((a, b) for a, b in product(parts, others) if is_flat(a[1]) == is_flat(b[1]))  # else they cross


def core(box: Shape, arrow: Arrow) -> Rectangle:
    """Where an arrow may not pass: around a box, or inside of one at whose border it begins or ends."""
    if box not in (arrow.start, arrow.end):
        return box.rectangle(CLEARANCE)
    return box.rectangle(-2, -SLANT if box.form in ("encoder", "decoder") else 0)


def is_flat(rectangle: Rectangle) -> bool:
    """Whether a rectangle is wider than high."""
    return rectangle[2] - rectangle[0] > rectangle[3] - rectangle[1]


def overlap(one: Rectangle, other: Rectangle) -> bool:
    """Whether two rectangles have a point in common."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def stretches(points: Sequence[Point]) -> list[Rectangle]:
    """A line as thin rectangles; a slanting stretch as many small ones."""
    found = []
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        n = 1 if x0 == x1 or y0 == y1 else 1 + int(math.dist((x0, y0), (x1, y1)) / 3)
        for i in range(n):
            ends = [(x0 + s * (x1 - x0), y0 + s * (y1 - y0)) for s in (i / n, (i + 1) / n)]
            found.append(around([(x - 0.7, y - 0.7, x + 0.7, y + 0.7) for x, y in ends]))
    return found
