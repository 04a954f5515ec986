"""Pictures: the same bytes for the same picture, nothing of a stranger's that acts."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from margo_supplychain.cli import pictures
from margo_supplychain.cli.picture_places import Size, place
from margo_supplychain.cli.pictures import Arrow, Box, Picture

if TYPE_CHECKING:
    from collections.abc import Sequence

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '"]; a -> b <script>alert(1)</script> \\" & \x1b[31m \u202e ]]> \\N <!--'


def picture(boxes: Sequence[Box], arrows: Sequence[Arrow] = ()) -> Picture:
    return Picture(title="a title", description="in words", boxes=boxes, arrows=arrows)


def chain(length: int) -> Picture:
    boxes = [Box(f"b{one}", (f"box {one}",)) for one in range(length)]
    return picture(boxes, [Arrow(a.key, b.key) for a, b in pairwise(boxes)])


PIPELINE = picture(
    [
        Box("k", ("77d1e0aa93b4", "functionary"), "signer"),
        Box("build", ("build", "1 of 1 must sign")),
        Box("test", ("test",), "failed"),
        Box("package", ("package",), "release"),
        Box("out", ("release/manifest",), "artifact"),
    ],
    [
        Arrow("k", "build", kind="signer"),
        Arrow("build", "test", "* of its products"),
        Arrow("build", "package", "* of its materials"),
        Arrow("test", "package", "report/*"),
        Arrow("package", "out"),
        Arrow("package", "package", "itself"),
        Arrow("nobody", "package", "left out"),
    ],
)


def elements(data: bytes, name: str) -> list[ET.Element]:
    return list(ET.fromstring(data).iter(f"{SVG}{name}"))  # noqa: S314 - made here


def test_svg_is_readable_without_seeing_it() -> None:
    data = PIPELINE.svg()
    root = ET.fromstring(data)  # noqa: S314 - made here
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "title desc"
    assert (root[0].get("id"), root[0].text) == ("title", "a title")
    assert (root[1].get("id"), root[1].text) == ("desc", "in words")
    texts = [one.text for one in elements(data, "text")]
    assert texts[:2] == ["77d1e0aa93b4", "functionary"]
    assert "report/*" in texts
    assert "left out" not in texts
    # Five boxes and the ground; each arrow is a line with a head.
    assert len(elements(data, "rect")) == 6
    assert len(elements(data, "path")) == 12


def test_boxes_hold_their_text_and_lie_apart() -> None:
    data = PIPELINE.svg()
    root = ET.fromstring(data)  # noqa: S314 - made here
    width, height = (float(root.get(one, "")) for one in ("width", "height"))
    rects = [
        tuple(float(one.get(name, "")) for name in ("x", "y", "width", "height"))
        for one in elements(data, "rect")[1:]
    ]
    for x, y, wide, high in rects:
        assert x >= 0
        assert y >= 0
        assert x + wide <= width
        assert y + high <= height
    for one, other in combinations(rects, 2):
        assert (
            one[0] + one[2] <= other[0]
            or other[0] + other[2] <= one[0]
            or one[1] + one[3] <= other[1]
            or other[1] + other[3] <= one[1]
        )


def test_the_same_picture_gives_the_same_bytes() -> None:
    again = picture(list(PIPELINE.boxes), list(PIPELINE.arrows))
    assert (again.svg(), again.dot()) == (PIPELINE.svg(), PIPELINE.dot())


def test_dot() -> None:
    lines = PIPELINE.dot().decode().splitlines()
    assert lines[:3] == ["// a title", "digraph {", "  rankdir=TB;"]
    assert lines[-1] == "}"
    assert '  "build" -> "test" [label="* of its products"];' in lines
    assert '  "k" -> "build" [style=dashed, color="#8a6d00"];' in lines
    assert '  "package" -> "out";' in lines
    assert any(
        one.startswith('  "test" [label="test", style="filled,d') for one in lines
    )


def test_a_strangers_words_do_nothing() -> None:
    made = Picture(
        title=HOSTILE,
        description=HOSTILE,
        boxes=[Box(HOSTILE, (HOSTILE,)), Box("b", (HOSTILE,))],
        arrows=[Arrow(HOSTILE, "b", HOSTILE)],
    )
    data = made.svg()
    root = ET.fromstring(data)  # noqa: S314 - made here
    names = {one.tag.removeprefix(SVG) for one in root.iter()}
    assert names == {"svg", "title", "desc", "rect", "g", "path", "text"}
    assert root[0].text is not None
    assert root[0].text.startswith('"]; a -> b <script>alert(1)</script>')
    for text in (data, made.dot()):
        assert "\x1b" not in text.decode()
        assert "\u202e" not in text.decode()
    # Every quote of a stranger's is escaped, and so is every backslash before one.
    for line in made.dot().decode().splitlines()[1:]:
        assert re.fullmatch(r'(?:[^"\\]|"(?:[^"\\]|\\.)*")*', line), line


def test_what_is_too_much_is_counted() -> None:
    much = chain(pictures.MAX_BOXES + 5)
    assert b"5 boxes and 0 arrows are not drawn" in much.svg()
    lines = tuple(f"line {one}" for one in range(40))
    data = picture([Box("a", lines)]).svg()
    assert b"line 10<" in data
    assert b"line 11<" not in data
    assert b"and 29 more" in data
    many = [Arrow("a", "b", "x")] * (pictures.MAX_ARROWS + 1)
    data = picture([Box("a", ("a",)), Box("b", ("b",))], many).dot()
    assert b"0 boxes and 1 arrows are not drawn" in data
    long = picture([Box("a", ("x" * 1_000_000,))]).svg()
    assert len(long) < 3_000
    assert "…".encode() in long


def test_wide_characters_have_room() -> None:
    narrow, wide = (picture([Box("a", (text * 20,))]).svg() for text in "a試")
    found = [float(elements(one, "rect")[1].get("width", "")) for one in (narrow, wide)]
    assert found[1] > 1.8 * found[0]


def test_an_empty_picture() -> None:
    data = picture([]).svg()
    assert len(elements(data, "rect")) == 1
    assert picture([]).dot().endswith(b"}\n")


def test_each_box_lies_below_what_leads_to_it() -> None:
    found = place([Size(50, 20)] * 4, [(0, 1), (1, 2), (0, 2), (2, 3)], [0.0] * 4)
    assert [corner.y for corner in found.corners] == [16.0, 88.0, 160.0, 232.0]
    # The arrow from the first to the third passes the second on a way of its own.
    beside = found.paths[2]
    assert len(beside) == 4
    second = found.corners[1]
    assert not second.x <= beside[1].x <= second.x + 50


def test_who_signs_stands_above_what_is_signed() -> None:
    found = place([Size(50, 20)] * 4, [(0, 1), (1, 2), (3, 2)], [0.0] * 3)
    heights = [corner.y for corner in found.corners]
    assert heights == [16.0, 88.0, 160.0, 88.0]


def test_a_cycle_is_drawn_and_ends() -> None:
    found = place([Size(50, 20)] * 3, [(0, 1), (1, 2), (2, 0), (1, 1)], [0.0, 9, 9, 9])
    assert len({corner.y for corner in found.corners}) == 3
    up = found.paths[2]
    assert up[0].y > up[-1].y
    assert len(found.paths[3]) == 3


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(1, 12).flatmap(
        lambda count: st.tuples(
            st.just(count),
            st.lists(
                st.tuples(
                    st.integers(0, count - 1),
                    st.integers(0, count - 1),
                    st.text(max_size=12),
                ),
                max_size=24,
            ),
        )
    )
)
def test_any_graph_is_drawn(graph: tuple[int, list[tuple[int, int, str]]]) -> None:
    count, edges = graph
    made = picture(
        [Box(f"b{one}", (f"box {one}",)) for one in range(count)],
        [Arrow(f"b{tail}", f"b{head}", label) for tail, head, label in edges],
    )
    data = made.svg()
    root = ET.fromstring(data)  # noqa: S314 - made here
    assert len(elements(data, "rect")) == count + 1
    assert len(elements(data, "path")) == 2 * len(edges)
    width, height = (float(root.get(one, "")) for one in ("width", "height"))
    for one in root.iter(f"{SVG}text"):
        assert 0 <= float(one.get("x", "")) <= width
        assert 0 <= float(one.get("y", "")) <= height
    assert made.svg() == data


@pytest.mark.parametrize("kind", ["step", "release", "artifact", "signer", "failed"])
def test_each_kind_looks_its_own_way(kind: pictures.Kind) -> None:
    plain = picture([Box("a", ("a",))]).svg()
    made = picture([Box("a", ("a",), kind)]).svg()
    assert (plain == made) == (kind == "step")
