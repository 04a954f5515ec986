"""Where boxes and arrows of a picture lie: ranks from top to bottom, few crossings.

Sugiyama's way in its simplest form: cycles are opened, each box lies below what leads
to it, long arrows go through places of their own in the ranks between, and each rank
is ordered by where its neighbours are. Deterministic; knows numbers alone.

Example:
    >>> found = place([Size(50, 20), Size(50, 20)], [(0, 1)], [0.0])
    >>> [corner.y for corner in found.corners]
    [16.0, 88.0]
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARGIN: Final = 16.0
_BESIDE: Final = 32.0  # between boxes of one rank
_BELOW: Final = 52.0  # between ranks whose arrows say nothing
_SLOT: Final = 16.0  # for each label between two ranks
_VIRTUAL: Final = 12.0  # width of an arrow that passes a rank
_LOOP: Final = 26.0  # how far an arrow to its own box goes out
_SWEEPS: Final = 4


class Size(NamedTuple):
    """A width and a height."""

    width: float
    height: float


class Point(NamedTuple):
    """A place in the picture; y grows downwards."""

    x: float
    y: float


class Places(NamedTuple):
    """Where everything lies.

    Args:
        size: of the whole picture.
        corners: of each box, the upper left.
        paths: of each arrow, two points or more, from tail to head.
        labels: of each arrow, the middle of its label's base line.
    """

    size: Size
    corners: list[Point]
    paths: list[list[Point]]
    labels: list[Point]


def place(
    boxes: Sequence[Size],
    arrows: Sequence[tuple[int, int]],
    labels: Sequence[float],
) -> Places:
    """Find places.

    Args:
        boxes: how large each is.
        arrows: from which box to which.
        labels: how wide the label of each is, 0 for none.
    """
    down = _down(len(boxes), arrows)
    ranks = _ranks(len(boxes), down)
    sizes = list(boxes)
    chains = _chains(down, ranks, sizes)
    rows = _rows(ranks, chains)
    tops, lines = _tops(rows, sizes, ranks, chains, labels)
    centres = _centres(rows, sizes)
    # Whoever passes a rank goes straight through it, beside the boxes.
    for one in range(len(boxes), len(sizes)):
        row = rows[ranks[one]]
        sizes[one] = Size(_VIRTUAL, max(sizes[each].height for each in row))
    paths = [_path(chain, sizes, ranks, tops, centres) for chain in chains]
    at = [
        _label_of(path, lines.get(number), labels[number])
        for number, path in enumerate(paths)
    ]
    corners = [
        Point(centres[one] - size.width / 2, tops[ranks[one]])
        for one, size in enumerate(boxes)
    ]
    for number, (turned, given) in enumerate(zip(down, arrows, strict=True)):
        if turned != given:
            paths[number].reverse()
    return _within(corners, boxes, paths, at, labels)


def _within(
    corners: list[Point],
    boxes: Sequence[Size],
    paths: list[list[Point]],
    at: list[Point],
    labels: Sequence[float],
) -> Places:
    """Return the places, all of them to the right until no label begins outside."""
    ends = [
        *(
            (one.x, one.x + size.width)
            for one, size in zip(corners, boxes, strict=True)
        ),
        *(
            (spot.x - wide / 2, spot.x + wide / 2)
            for spot, wide in zip(at, labels, strict=True)
        ),
        *((point.x, point.x) for path in paths for point in path),
    ]
    right = _MARGIN - min((left for left, _ in ends), default=_MARGIN)
    bottom = max(
        (one.y + size.height for one, size in zip(corners, boxes, strict=True)),
        default=0.0,
    )
    return Places(
        Size(
            max((end for _, end in ends), default=0.0) + right + _MARGIN,
            bottom + _MARGIN,
        ),
        [Point(one.x + right, one.y) for one in corners],
        [[Point(one.x + right, one.y) for one in path] for path in paths],
        [Point(one.x + right, one.y) for one in at],
    )


def _down(count: int, arrows: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the arrows with those turned round that would close a cycle."""
    below: list[list[int]] = [[] for _ in range(count)]
    for tail, head in arrows:
        if tail != head:
            below[tail].append(head)
    entered, left = [-1] * count, [-1] * count
    clock = 0
    for start in range(count):
        if entered[start] >= 0:
            continue
        stack = [(start, 0)]
        entered[start] = clock
        while stack:
            one, next_ = stack.pop()
            clock += 1
            if next_ < len(below[one]):
                stack.append((one, next_ + 1))
                other = below[one][next_]
                if entered[other] < 0:
                    entered[other] = clock
                    stack.append((other, 0))
            else:
                left[one] = clock
    found = []
    for tail, head in arrows:
        # It leads back to a box whose search had not ended: that closes a cycle.
        back = entered[head] <= entered[tail] and left[head] >= left[tail]
        found.append((head, tail) if back else (tail, head))
    return found


def _ranks(count: int, down: Sequence[tuple[int, int]]) -> list[int]:
    """Return the rank of each box: one below the lowest that leads to it.

    What nothing leads to stands right above the first that it leads to.
    """
    ranks = [0] * count
    waiting = [0] * count
    below: list[list[int]] = [[] for _ in range(count)]
    for tail, head in down:
        if tail != head:
            below[tail].append(head)
            waiting[head] += 1
    first = [one for one in range(count) if not waiting[one]]
    ready = list(first)
    for one in ready:  # grows as it goes
        for other in below[one]:
            ranks[other] = max(ranks[other], ranks[one] + 1)
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    for one in first:
        ranks[one] = min((ranks[other] - 1 for other in below[one]), default=0)
    return ranks


def _chains(
    down: Sequence[tuple[int, int]], ranks: list[int], sizes: list[Size]
) -> list[list[int]]:
    """Return what each arrow passes; adds a place for each rank between."""
    chains = []
    for tail, head in down:
        chain = [tail]
        for rank in range(ranks[tail] + 1, ranks[head]):
            chain.append(len(sizes))
            sizes.append(Size(_VIRTUAL, 0.0))
            ranks.append(rank)
        chains.append([*chain, head])
    return chains


def _rows(ranks: Sequence[int], chains: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the ranks' places from left to right, ordered by their neighbours."""
    rows: list[list[int]] = [[] for _ in range(max(ranks, default=-1) + 1)]
    for one, rank in enumerate(ranks):
        rows[rank].append(one)
    above: list[list[int]] = [[] for _ in ranks]
    below: list[list[int]] = [[] for _ in ranks]
    for chain in chains:
        for upper, lower in pairwise(chain):
            if upper != lower:
                above[lower].append(upper)
                below[upper].append(lower)
    position = [0.0] * len(ranks)
    for sweep in range(_SWEEPS):
        near = below if sweep % 2 else above
        for row in reversed(rows) if sweep % 2 else rows:
            middle = {
                one: sum(position[each] for each in near[one]) / len(near[one])
                for one in row
                if near[one]
            }
            row.sort(key=lambda one: middle.get(one, position[one]))
            for number, one in enumerate(row):
                position[one] = number - (len(row) - 1) / 2
    return rows


def _tops(
    rows: Sequence[Sequence[int]],
    sizes: Sequence[Size],
    ranks: Sequence[int],
    chains: Sequence[Sequence[int]],
    labels: Sequence[float],
) -> tuple[list[float], dict[int, float]]:
    """Return where each rank begins, and the base line of each label.

    Every label has a line of its own below the rank where its arrow's middle begins.
    """
    below: list[list[int]] = [[] for _ in rows]
    for number, chain in enumerate(chains):
        if labels[number] and chain[0] != chain[-1]:
            below[ranks[chain[(len(chain) - 2) // 2]]].append(number)
    tops, lines = [], {}
    top = _MARGIN
    for row, numbers in zip(rows, below, strict=True):
        tops.append(top)
        top += max(sizes[one].height for one in row)
        for slot, number in enumerate(numbers):
            lines[number] = top + _BELOW / 2 + slot * _SLOT
        top += _BELOW + max(0, len(numbers) - 1) * _SLOT
    return tops, lines


def _centres(rows: Sequence[Sequence[int]], sizes: Sequence[Size]) -> list[float]:
    """Return the middle of each place, every rank centred on the widest."""
    widths = [
        sum(sizes[one].width for one in row) + _BESIDE * (len(row) - 1) for row in rows
    ]
    widest = max(widths, default=0.0)
    centres = [0.0] * len(sizes)
    for row, width in zip(rows, widths, strict=True):
        x = _MARGIN + (widest - width) / 2
        for one in row:
            centres[one] = x + sizes[one].width / 2
            x += sizes[one].width + _BESIDE
    return centres


def _path(
    chain: Sequence[int],
    sizes: Sequence[Size],
    ranks: Sequence[int],
    tops: Sequence[float],
    centres: Sequence[float],
) -> list[Point]:
    """Return an arrow's points from top to bottom; one to its own box goes round."""
    first, last = chain[0], chain[-1]
    top, size = tops[ranks[first]], sizes[first]
    if first == last:
        x = centres[first] + size.width / 2
        return [
            Point(x, top + size.height * 0.25),
            Point(x + _LOOP, top + size.height * 0.5),
            Point(x, top + size.height * 0.75),
        ]
    points = [Point(centres[first], top + size.height)]
    for one in chain[1:-1]:
        points.append(Point(centres[one], tops[ranks[one]]))
        points.append(Point(centres[one], tops[ranks[one]] + sizes[one].height))
    return [*points, Point(centres[last], tops[ranks[last]])]


def _label_of(path: Sequence[Point], line: float | None, width: float) -> Point:
    """Return where an arrow's label is: on its line, where the arrow crosses it."""
    if line is None:
        return Point(path[1].x + width / 2, path[1].y)
    upper, lower = next(
        (one, other) for one, other in pairwise(path) if one.y <= line <= other.y
    )
    share = (line - upper.y) / (lower.y - upper.y)
    return Point(upper.x + (lower.x - upper.x) * share * share * (3 - 2 * share), line)
