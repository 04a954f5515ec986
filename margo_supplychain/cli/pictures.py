r"""Pictures of what hangs together, as SVG for people and as DOT for Graphviz.

Boxes in ranks from top to bottom, arrows between them. Nothing is loaded and nothing is
asked: the same picture always gives the same bytes. Texts come from files of others:
they are cut, made visible and escaped, and what is too much to draw is counted.

Example:
    >>> made = Picture(
    ...     title="how pump is made",
    ...     description="build, then package",
    ...     boxes=[Box("build", ("build", "1 of 1")), Box("package", ("package",))],
    ...     arrows=[Arrow("build", "package", "MATCH *")],
    ... )
    >>> print(made.dot().decode().splitlines()[-2])
      "build" -> "package" [label="MATCH *"];
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from margo_supplychain.cli import picture_places
from margo_supplychain.cli.output import visible
from margo_supplychain.cli.picture_places import Point, Size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Kind = Literal["step", "release", "artifact", "signer", "failed"]

MAX_BOXES: Final = 300
MAX_ARROWS: Final = 1_000
MAX_LINES: Final = 12  # of a box
MAX_CELLS: Final = 72  # of a line
_MORE: Final = "…"

# Monospace: its advance is 0.6 em in every common face, so that boxes hold their text.
_FONT: Final = 12.0
_CELL: Final = 0.62 * _FONT
_LINE: Final = 17.0
_PAD: Final = Size(12.0, 9.0)
_LABEL: Final = 11.0
_FACES: Final = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


class _Look(NamedTuple):
    """How a kind of box is drawn: never told apart by colour alone."""

    fill: str
    stroke: str
    width: str
    dash: str
    corner: str


_LOOKS: Final[Mapping[Kind, _Look]] = {
    "step": _Look("#eef4ff", "#2b5797", "1.2", "", "4"),
    "release": _Look("#e9f7ec", "#1b6e3c", "2.4", "", "4"),
    "artifact": _Look("#f7f7f7", "#6b6b6b", "1", "", "12"),
    "signer": _Look("#fff8e1", "#8a6d00", "1", "2 2", "12"),
    "failed": _Look("#fdecea", "#b3261e", "2.4", "6 3", "4"),
}


class Box(NamedTuple):
    """One box.

    Args:
        key: what arrows name it by; once in a picture.
        lines: what it says; the first is its title.
        kind: how it looks.
    """

    key: str
    lines: tuple[str, ...]
    kind: Kind = "step"


class Arrow(NamedTuple):
    """One arrow from a box to a box.

    Args:
        tail, head: keys of boxes.
        label: what it says.
        kind: `failed` and `signer` are dashed.
    """

    tail: str
    head: str
    label: str = ""
    kind: Kind = "step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Boxes and arrows.

    Args:
        title: one line: what it shows.
        description: the same in words, for whoever does not see it.
        boxes: in the order in which they are drawn where nothing else decides.
        arrows: one that names no box is left out.
    """

    title: str
    description: str
    boxes: Sequence[Box]
    arrows: Sequence[Arrow]

    def dot(self) -> bytes:
        """Return it for Graphviz."""
        boxes, arrows = self._drawn()
        lines = [f"// {_text(self.title)}", "digraph {", "  rankdir=TB;"]
        lines.append(f'  node [shape=box, fontname="{_FACES.split(",")[1].strip()}"];')
        for box in boxes:
            look = _LOOKS[box.kind]
            style = "filled,dashed" if look.dash else "filled"
            label = "\\n".join(_dot(each) for each in box.lines)
            lines.append(
                f'  "{_dot(box.key)}" [label="{label}", style="{style}", '
                f'fillcolor="{look.fill}", color="{look.stroke}", '
                f"penwidth={look.width}];"
            )
        for arrow in arrows:
            said = [f'label="{_dot(arrow.label)}"'] if arrow.label else []
            if _LOOKS[arrow.kind].dash:
                said += ["style=dashed", f'color="{_LOOKS[arrow.kind].stroke}"']
            shown = f" [{', '.join(said)}]" if said else ""
            lines.append(f'  "{_dot(arrow.tail)}" -> "{_dot(arrow.head)}"{shown};')
        return "\n".join([*lines, "}\n"]).encode("utf-8")

    def svg(self) -> bytes:
        """Return it as a document of its own, readable without colour and aloud."""
        boxes, arrows = self._drawn()
        sizes = [_size(box) for box in boxes]
        index = {box.key: number for number, box in enumerate(boxes)}
        places = picture_places.place(
            sizes,
            [(index[one.tail], index[one.head]) for one in arrows],
            [_cells(one.label) * 0.62 * _LABEL for one in arrows],
        )
        width, height = places.size
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" '
            f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
            'aria-labelledby="title desc">'
        )
        lines = [
            '<?xml version="1.0" encoding="UTF-8"?>',
            head,
            f'<title id="title">{_xml(self.title)}</title>',
            f'<desc id="desc">{_xml(self.description)}</desc>',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            f'<g font-family="{_FACES}" font-size="{_FONT:g}" fill="#1a1a1a">',
        ]
        for arrow, path in zip(arrows, places.paths, strict=True):
            lines += _drawn_arrow(arrow, path)
        for box, size, corner in zip(boxes, sizes, places.corners, strict=True):
            lines += _drawn_box(box, size, corner)
        for arrow, at in zip(arrows, places.labels, strict=True):
            lines += _drawn_label(arrow, at)
        return "\n".join([*lines, "</g>", "</svg>\n"]).encode("utf-8")

    def _drawn(self) -> tuple[list[Box], list[Arrow]]:
        """Return what is drawn: bounded, and each arrow between boxes that are."""
        boxes = [_bounded(box) for box in self.boxes[:MAX_BOXES]]
        keys = {box.key for box in boxes}
        arrows = [
            arrow._replace(label=_text(arrow.label))
            for arrow in self.arrows
            if arrow.tail in keys and arrow.head in keys
        ]
        left = (len(self.boxes) - len(boxes), max(0, len(arrows) - MAX_ARROWS))
        if any(left):
            said = f"{left[0]} boxes and {left[1]} arrows are not drawn"
            boxes.append(Box("\n", (said,), "artifact"))  # no other key has a line end
        return boxes, arrows[:MAX_ARROWS]


def _bounded(box: Box) -> Box:
    lines = [_text(each) for each in box.lines[:MAX_LINES]]
    if len(box.lines) > MAX_LINES:
        lines[-1] = f"and {len(box.lines) - MAX_LINES + 1} more"
    return box._replace(lines=tuple(lines))


def _drawn_box(box: Box, size: Size, corner: Point) -> Iterator[str]:
    look = _LOOKS[box.kind]
    dash = f' stroke-dasharray="{look.dash}"' if look.dash else ""
    yield (
        f'<rect x="{corner.x:.1f}" y="{corner.y:.1f}" width="{size.width:.1f}" '
        f'height="{size.height:.1f}" rx="{look.corner}" fill="{look.fill}" '
        f'stroke="{look.stroke}" stroke-width="{look.width}"{dash}/>'
    )
    x = corner.x + size.width / 2
    y = corner.y + _PAD.height + _FONT
    for number, line in enumerate(box.lines):
        weight = "" if number else ' font-weight="bold"'
        yield (
            f'<text x="{x:.1f}" y="{y + number * _LINE:.1f}" text-anchor="middle"'
            f"{weight}>{_xml(line)}</text>"
        )


def _drawn_arrow(arrow: Arrow, path: Sequence[Point]) -> Iterator[str]:
    """Yield a smooth line with vertical ends, and its head."""
    look = _LOOKS[arrow.kind]
    dash = f' stroke-dasharray="{look.dash}"' if look.dash else ""
    first, *others = path
    d = [f"M{first.x:.1f} {first.y:.1f}"]
    last = first
    for point in others:
        middle = (last.y + point.y) / 2
        d.append(
            f"C{last.x:.1f} {middle:.1f} {point.x:.1f} {middle:.1f} "
            f"{point.x:.1f} {point.y:.1f}"
        )
        last = point
    yield (
        f'<path d="{" ".join(d)}" fill="none" stroke="{look.stroke}" '
        f'stroke-width="1.4"{dash}/>'
    )
    # An arrow of a cycle goes up.
    tip = 7.0 if last.y >= path[-2].y else -7.0
    yield (
        f'<path d="M{last.x:.1f} {last.y:.1f} l-4 {-tip:g} h8 z" fill="{look.stroke}"/>'
    )


def _drawn_label(arrow: Arrow, at: Point) -> Iterator[str]:
    if arrow.label:
        # Drawn over its own outline: lines may pass below it.
        yield (
            f'<text x="{at.x:.1f}" y="{at.y:.1f}" text-anchor="middle" '
            f'font-size="{_LABEL:g}" stroke="#ffffff" stroke-width="4" '
            f'paint-order="stroke" stroke-linejoin="round">{_xml(arrow.label)}</text>'
        )


def _size(box: Box) -> Size:
    cells = max((_cells(line) for line in box.lines), default=0)
    lines = max(1, len(box.lines))
    return Size(
        cells * _CELL + 2 * _PAD.width,
        (lines - 1) * _LINE + _FONT + 2 * _PAD.height,
    )


def _cells(text: str) -> int:
    """Return how wide a text is in cells of a monospaced face."""
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


def _text(text: str) -> str:
    """Return one visible line, cut to what a box holds."""
    shown = visible(text[: 4 * MAX_CELLS])
    return shown if len(shown) <= MAX_CELLS else shown[: MAX_CELLS - 1] + _MORE


def _xml(text: str) -> str:
    shown = visible(text)
    for plain, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        shown = shown.replace(plain, escaped)
    return shown.replace('"', "&quot;")


def _dot(text: str) -> str:
    # In a quoted string Graphviz knows \n, \N, \G and more: none comes from outside.
    return visible(text).replace("\\", "\\\\").replace('"', '\\"')
