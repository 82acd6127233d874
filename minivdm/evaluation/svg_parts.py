"""What diagrams are made of, as SVG: texts with subscripts, outlines of boxes, and arrows.

A diagram must look alike everywhere: nothing here needs a style sheet, an id, or a font by name.
"""

import html
import re
import unicodedata

INK, QUIET, GROUND = "#1f2933", "#52606d", "#ffffff"
# How the kinds of boxes look: ground, border, the border's width, letters. None needs its colour to be told apart:
# data has round ends, what is trained a thick border, what is locked a lock, a loss white letters on dark ground.
KINDS = {
    "data": ("#ffffff", QUIET, 1.5, INK),
    "layer": ("#edf1f5", QUIET, 1.5, INK),
    "trained": ("#fdecd8", "#a84300", 3, INK),
    "locked": ("#dfebf8", "#1f5f99", 1.5, INK),
    "loss": (INK, INK, 1.5, "#ffffff"),
}
FRAME = ("#f7f9fb", "#7b8794", 1, QUIET)  # around a group
SLANT = 14  # pixels by which a trapezoid's short side is shorter than its long one, above and below
HEAD = 9  # pixels, the length of an arrow's head
LINE = 17  # pixels from one line of text to the next
SIZES = {"name": 13, "note": 12, "shape": 11.5}  # pixels; a shape is a line in parentheses
FONTS = {"name": ' font-weight="bold"', "note": "", "shape": ' font-family="monospace"'}
# Widths in ems, at least those of DejaVu Sans Bold, which is the widest of the fonts that browsers take by themselves.
WIDTHS = {
    **dict.fromkeys(" ijlIJ,.·'|/\\", 0.38),
    **dict.fromkeys("ftr()[]!:;-`_–‖₀₁₂₃₄₅₆₇₈₉⁰¹²³", 0.5),
    **dict.fromkeys('cszεζ?*"∂', 0.6),
    **dict.fromkeys("ABCEFKLPRSTVXYZΔΛφψσπ", 0.8),
    **dict.fromkeys("DGHNOQUΘΦΨΩω&#+<=>^~≤≥≈≠±×→←↑↓↔−⊕⊗∈wℒ", 0.92),
    **dict.fromkeys("mMW@%…—", 1.1),
}
# One letter or sign, and what stands below it: x_t, x_{t-1}, ε_θ. A name such as q_sample stays as it is.
SUBSCRIPT = re.compile(r"(?<![^\W\d])([^\s_][\u0300-\u036f]?)_(\{[^{}]*\}|[\w∅∞*+−-](?!\w))")
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def escaped(text: str) -> str:
    r"""A text for XML and HTML: with entities, and what neither may hold as its number, such as \x1b."""
    return html.escape(NOT_XML.sub(lambda found: ascii(found[0])[1:-1], text))


def number(value: float) -> str:
    """A length or place in pixels, to a tenth."""
    return f"{round(value, 1) + 0.0:g}"


def pieces(line: str) -> list[tuple[str, bool]]:
    """A line of text as its parts, and whether each is a subscript."""
    parts, end = [], 0
    for found in SUBSCRIPT.finditer(line):
        parts += [(line[end : found.end(1)], False), (found[2].strip("{}"), True)]
        end = found.end()
    return [part for part in [*parts, (line[end:], False)] if part[0]]


def width_of(line: str, style: str) -> float:
    """Pixels that a line takes in the widest of the usual fonts."""
    ems = 0.0
    for part, below in pieces(NOT_XML.sub(lambda found: ascii(found[0])[1:-1], line)):
        for c in part:
            usual = 0.61 if style == "shape" else WIDTHS.get(c, 0.73)
            wide = unicodedata.east_asian_width(c) in "WF"
            ems += (0.75 if below else 1) * (0 if unicodedata.combining(c) else 1.3 if wide else usual)
    return ems * SIZES[style]


class Text:
    """Lines of text that stand below each other.

    Args:
        text: lines; one that is in parentheses is a shape, and set in monospace.
        first: the style of the first line: "name" (bold) or "note".
    """

    def __init__(self, text: str, first: str = "note") -> None:
        self.name = text.split("\n")[0]
        self.lines = [(line, "shape" if re.fullmatch(r"\(.*\)", line) else "note") for line in text.split("\n") if line]
        if self.lines and self.lines[0][1] == "note":
            self.lines[0] = (self.lines[0][0], first)
        self.width = max((width_of(*line) for line in self.lines), default=0)  # pixels
        self.height = LINE * len(self.lines)

    def svg(self, x: float, y: float, colour: str = INK, anchor: str = "middle") -> str:
        """The lines around the point (x, y), in pixels."""
        out = []
        for i, (line, style) in enumerate(self.lines):
            base = y + LINE * (i + 0.5) - self.height / 2 + 0.35 * SIZES[style]
            drop, runs = 0.25 * SIZES[style], []
            for k, (part, below) in enumerate(pieces(line)):
                if below:
                    small = f'dy="{number(drop)}" font-size="{number(0.75 * SIZES[style])}"'
                    runs.append(f"<tspan {small}>{escaped(part)}</tspan>")
                else:  # back up, after a subscript
                    runs.append(f'<tspan dy="{number(-drop)}">{escaped(part)}</tspan>' if k else escaped(part))
            look = f'font-size="{SIZES[style]}" fill="{colour}"{FONTS[style]}'
            anchored = "" if anchor == "middle" else f' text-anchor="{anchor}"'
            out.append(f'<text x="{number(x)}" y="{number(base)}" {look}{anchored}>{"".join(runs)}</text>')
        return "\n".join(out)


def outline(kind: str, form: str, x: float, y: float, width: float, height: float) -> str:
    """The border and ground of a box with its centre in (x, y); all in pixels."""
    ground, border, thick, _ = KINDS.get(kind, FRAME)
    look = f'fill="{ground}" stroke="{border}" stroke-width="{thick}"'
    left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if form == "circle":
        parts = [f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(width / 2)}" {look}/>']
    elif form in ("encoder", "decoder"):
        a, b = (0, SLANT) if form == "encoder" else (SLANT, 0)
        corners = [(left, top + a), (right, top + b), (right, bottom - b), (left, bottom - a)]
        parts = [f'<path d="{polygon(corners)}" stroke-linejoin="round" {look}/>']
    else:
        radius = {"data": height / 2 if height < 30 else 14, "group": 8}.get(kind, 3)
        place = f'x="{number(left)}" y="{number(top)}" width="{number(width)}" height="{number(height)}"'
        parts = [f'<rect {place} rx="{number(radius)}" {look}/>']
    if kind == "locked":
        x, y = right - 10.5, top + 11 + (SLANT if form == "encoder" else 0)
        bow = f"M{number(x - 2.5)} {number(y)}v-2.5a2.5 2.5 0 0 1 5 0v2.5"
        parts.append(f'<path d="{bow}" fill="none" stroke="{border}" stroke-width="1.5"/>')
        parts.append(f'<rect x="{number(x - 4)}" y="{number(y)}" width="8" height="6" rx="1" fill="{border}"/>')
    return "\n".join(parts)


def polygon(corners: list[tuple[float, float]]) -> str:
    """A closed path through these corners."""
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in corners) + "Z"


def moved(start: tuple[float, float], towards: tuple[float, float], by: float) -> tuple[float, float]:
    """The point `by` pixels from the start towards another point."""
    far = distance(start, towards) or 1.0
    return tuple(a + (b - a) * by / far for a, b in zip(start, towards))


def distance(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Pixels between two points."""
    return sum((a - b) ** 2 for a, b in zip(one, other)) ** 0.5


def arrow_line(points: list[tuple[float, float]], dashed: bool) -> str:
    """A line through the points, with round corners and a head at its end."""
    *_, before, tip = points
    line = [*points[:-1], moved(tip, before, HEAD - 1)]
    path = "M{} {}".format(*map(number, line[0]))
    for last, corner, following in zip(line, line[1:], line[2:]):
        radius = min(8, distance(last, corner) / 2, distance(corner, following) / 2)
        into, out = moved(corner, last, radius), moved(corner, following, radius)
        path += "L{} {}Q{} {} {} {}".format(*map(number, (*into, *corner, *out)))
    path += "L{} {}".format(*map(number, line[-1]))
    base = moved(tip, before, HEAD)
    across = ((base[1] - tip[1]) * 0.42, (tip[0] - base[0]) * 0.42)
    head = polygon([tip, *((base[0] + s * across[0], base[1] + s * across[1]) for s in (1, -1))])
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.5"{dashes}/>\n<path d="{head}" fill="{INK}"/>'
