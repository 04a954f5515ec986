"""Whether ranges share a version: against every version there is, near the bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.formats.npm_overlap import left_over, overlap
from margo_supplychain.formats.npm_ranges import admits, parse_range
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.versions import Version

TAILS = ("", "-0", "-0.0", "-0.a", "-1", "-a", "-a.0", "-a.0.0", "-a.b", "-b", "-b.0")
VERSIONS = [
    Version.parse(f"{major}.{minor}.{patch}{tail}")
    for major in range(3)
    for minor in range(3)
    for patch in range(4)
    for tail in TAILS
]


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("^1.2", "^1.2", "1.2.0"),
        ("^1.2", ">=1.9 <3", "1.9.0"),
        ("^1", "^2", None),
        ("<2", ">=2", None),
        ("<=2.0.0", ">=2.0.0", "2.0.0"),
        ("<=2.0.0", ">2.0.0", None),
        (">1.0.0", "<1.0.1", None),
        (">1.0.0", "<=1.0.1", "1.0.1"),
        ("*", "*", "0.0.0"),
        ("1.x || 3.x", "2.x || 3.1", "3.1.0"),
        # Pre-releases count where both name one of theirs.
        (">=1.0.0-a <1.0.0", "1.0.0-b", "1.0.0-b"),
        (">=1.0.0-a <1.0.0", "<1.0.0", None),
        (">1.0.0-a <1.0.0-b", "<=1.0.0-a.0", "1.0.0-a.0"),
        (">1.0.0-a <1.0.0-b", "<1.0.0-a.0", None),
        (">=1.0.0-a <1.0.0-b", ">0.9.0 <1.0.0-b", "1.0.0-a"),
        (">1.0.0 <1.0.1-b", "<=1.0.1-a", "1.0.1-0"),
        (">=1.0.0-a <1.0.0", ">=2.0.0-a", None),
        ("1.0.0+x", "1.0.0+y", "1.0.0"),
        # The bound that ^1 stands for names no pre-release.
        (">=1.0.0 <2.0.0-0", ">=2.0.0-0 <2.0.0", None),
    ],
)
def test_what_two_ranges_share(one: str, other: str, shared: str | None) -> None:
    found = overlap(parse_range(one), parse_range(other))
    assert (None if found is None else str(found)) == shared
    back = overlap(parse_range(other), parse_range(one))
    assert (back is None) == (shared is None)


def test_beyond_what_a_version_can_be() -> None:
    """Nobody could show that they share nothing: an overlap, to be safe."""
    highest = f"1.0.{(1 << 53) - 1}"
    assert overlap(parse_range(f">{highest}"), parse_range("<1")) is not None
    long = "1.0.0-" + "a" * 94
    assert overlap(parse_range(f">{long}"), parse_range("1.0.0-b")) is not None


versions = st.sampled_from(VERSIONS).map(str)
comparators = st.tuples(st.sampled_from(["", "<", "<=", ">", ">=", "^", "~"]), versions)
ranges = st.lists(
    st.lists(comparators, min_size=1, max_size=3).map(
        lambda parts: " ".join(sign + version for sign, version in parts)
    ),
    min_size=1,
    max_size=2,
).map(" || ".join)


@given(ranges, ranges)
def test_two_ranges_overlap_where_a_version_is_in_both(one: str, other: str) -> None:
    first, second = parse_range(one), parse_range(other)
    found = overlap(first, second)
    if found is not None:
        assert admits(first, found)
        assert admits(second, found)
    else:
        assert not any(
            admits(first, each) and admits(second, each) for each in VERSIONS
        )


def test_pins_overlap_as_ranges_do() -> None:
    one, other = Pin.range("^1", grammar="npm"), Pin.range("^2 || ^3", grammar="npm")
    assert one.overlaps(one)
    assert not one.overlaps(other)
    assert (one.alternatives, other.alternatives) == (1, 2)
    exact = Pin.exact(Version.parse("1.0.0"))
    for first, second in ((one, exact), (exact, one)):
        with pytest.raises(ValueError, match="an exact pin"):
            first.overlaps(second)


@pytest.mark.parametrize(
    ("one", "others", "left"),
    [
        (">=1.2.0", [">=2.0.0"], "1.2.0"),
        (">=1.2.0", [">=1.0.0"], None),
        ("^1", ["^1.0"], None),
        ("^1", ["^1.3"], "1.0.0"),
        (">=1.2.0", ["<=1.9.9", "^2"], "1.9.10"),
        (">=1.2.0", ["<2", "^2"], "3.0.0"),
        (">1.2.0 <=1.2.1", ["1.2.1"], None),
        ("*", [">0.0.0"], "0.0.0"),
        # Pre-releases alone are no versions that people miss.
        (">=1.0.0-a <1.0.0", [">=1.0.0"], None),
        (f"<={(1 << 53) - 1}.0.0", [f"<=1.0.{(1 << 53) - 1}"], f"{(1 << 53) - 1}.0.0"),
    ],
)
def test_what_others_leave_over(one: str, others: list[str], left: str | None) -> None:
    found = left_over(parse_range(one), [parse_range(each) for each in others])
    assert (None if found is None else str(found)) == left
