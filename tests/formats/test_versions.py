"""Versions: one spelling each, SemVer's order, bounded."""

from __future__ import annotations

import copy
import itertools

import pytest
import semver
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import FormatError
from margo_supplychain.formats.versions import Version

IDENTIFIERS = st.one_of(
    st.integers(0, 2**53 - 1).map(str),
    st.from_regex(r"[0-9]{0,3}[A-Za-z-][0-9A-Za-z-]{0,5}", fullmatch=True),
)
TEXTS = st.builds(
    lambda numbers, prerelease, build: (
        ".".join(map(str, numbers))
        + (f"-{'.'.join(prerelease)}" if prerelease else "")
        + (f"+{'.'.join(build)}" if build else "")
    ),
    st.tuples(*[st.integers(0, 2**53 - 1) | st.integers(0, 3)] * 3),
    st.lists(IDENTIFIERS, max_size=2),
    st.lists(st.from_regex(r"[0-9A-Za-z-]{1,6}", fullmatch=True), max_size=2),
).filter(lambda text: len(text) <= 100)


def test_parts() -> None:
    version = Version.parse("1.20.3-rc.1+linux.arm64")
    assert (version.major, version.minor, version.patch) == (1, 20, 3)
    assert version.numbers == (1, 20, 3)
    assert version.prerelease == ("rc", "1")
    assert version.build == "linux.arm64"
    assert version.tag == "1.20.3-rc.1_linux.arm64"
    assert str(version) == "1.20.3-rc.1+linux.arm64"
    assert repr(version) == "Version('1.20.3-rc.1+linux.arm64')"
    assert Version.parse("1.0.0").prerelease == ()
    assert Version.parse("1.0.0").build is None


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0",
        "1.0.0--",
        "1.0.0-0a",
        "1.0.0-0",
        "1.0.0+001",
        "1.0.0-x+-.-",
        "9007199254740991.9007199254740991.9007199254740991-9007199254740991",
        "1.0.0-" + "a" * 94,
    ],
)
def test_accepted(text: str) -> None:
    assert str(Version.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"version '' is not SemVer 2\.0: expected MAJOR\.MINOR\.PATCH"),
        ("1", "is not SemVer"),
        ("1.2", "is not SemVer"),
        ("1.2.3.4", "is not SemVer"),
        ("1.0", "expected MAJOR"),
        ("latest", "is not SemVer"),
        ("v", "is not SemVer"),
        ("v1.2.3", r"begins with 'v': expected '1\.2\.3' without it"),
        ("V1.2.3", "begins with 'V'"),
        ("1.\u0662.3", r"has '\\u0662' at column 3"),
        ("1.2\u0662.3", r"has '\\u0662' at column 4"),
        ("1.2.3-\u0662", r"has '\\u0662' at column 7"),
        ("1.2.3-1\u0662", r"has '\\u0662' at column 8"),
        ("1.2.3+\xe9", r"has '\\xe9' at column 7"),
        ("\uff11.2.3", r"has '\\uff11' at column 1"),
        ("1.2.3\n", r"has '\\n' at column 6"),
        ("1.2.3-rc\n", r"has '\\n' at column 9"),
        (" 1.2.3", "has ' ' at column 1"),
        ("1.2.3 ", "has ' ' at column 6"),
        ("1.2.3\0", r"has '\\x00' at column 6"),
        ("01.2.3", "is not SemVer"),
        ("1.02.3", "is not SemVer"),
        ("1.2.03", "is not SemVer"),
        ("1.2.3-01", "is not SemVer"),
        ("1.2.3-", "is not SemVer"),
        ("1.2.3+", "is not SemVer"),
        ("1.2.3-a..b", "is not SemVer"),
        ("1.2.3+a..b", "is not SemVer"),
        ("1.2.3+a+b", "is not SemVer"),
        ("1.2.3_a", "is not SemVer"),
        ("-1.2.3", "is not SemVer"),
        ("+1.2.3", "is not SemVer"),
        ("1.2.x", "is not SemVer"),
        ("9007199254740992.0.0", r"has a number above 2\^53-1"),
        ("0.9007199254740992.0", r"has a number above 2\^53-1"),
        ("0.0.9007199254740992", r"has a number above 2\^53-1"),
        ("1.0.0-rc.9007199254740992", r"has a number above 2\^53-1"),
        ("1.0.0-" + "a" * 95, "has 101 characters, above 100"),
        ("9" * 100_000 + ".0.0", "has 100004 characters, above 100"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        Version.parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("what", [b"1.2.3", 1.0, None])
def test_only_text(what: object) -> None:
    with pytest.raises(TypeError, match="a version is a str, not"):
        Version.parse(what)  # type: ignore[arg-type]  # the misuse under test


WORDS = ("0", "1", "10", "2", "rc", "a", "-", "1a", "A", "x-y")


@given(
    st.lists(st.sampled_from([0, 1, 2, 10, 99]), min_size=6, max_size=6),
    st.lists(st.sampled_from(WORDS), max_size=4),
    st.lists(st.sampled_from(WORDS), max_size=4),
)
def test_orders_as_python_semver_does(
    numbers: list[int], one: list[str], other: list[str]
) -> None:
    """python-semver is the oracle: it orders, and knows what is no version."""
    texts = [
        ".".join(map(str, part)) + (f"-{'.'.join(words)}" if words else "")
        for part, words in ((numbers[:3], one), (numbers[3:], other))
    ]
    ours = [Version.parse(text) for text in texts]
    theirs = [semver.Version.parse(text) for text in texts]
    assert (ours[0] < ours[1]) == (theirs[0] < theirs[1])
    assert (ours[0] <= ours[1]) == (theirs[0] <= theirs[1])
    assert ours[0].same_precedence(ours[1]) == (theirs[0].compare(theirs[1]) == 0)
    assert ours[0].prerelease == tuple(one)


@given(st.text(alphabet="0123456789.-+_avV \n\u0662", max_size=14))
def test_takes_what_python_semver_takes(text: str) -> None:
    try:
        parsed = semver.Version.parse(text)
    except ValueError:
        with pytest.raises(FormatError):
            Version.parse(text)
        return
    found = Version.parse(text)
    assert found.numbers == (parsed.major, parsed.minor, parsed.patch)
    assert found.build == parsed.build


def test_tags() -> None:
    assert Version.parse_tag("1.2.0_linux") == Version.parse("1.2.0+linux")
    assert Version.parse_tag("1.2.0-rc.1") == Version.parse("1.2.0-rc.1")
    with pytest.raises(FormatError, match=r"'1\.2\.0\+linux' has '\+'"):
        Version.parse_tag("1.2.0+linux")
    for text in ("1.2.0_a_b", "1.2.0_", "1_2.0"):
        with pytest.raises(FormatError, match="is not SemVer"):
            Version.parse_tag(text)


def test_order() -> None:
    """SemVer 2.0, item 11, and its neighbourhood."""
    ascending = [
        "0.0.0-0",
        "0.0.0",
        "0.9.0",
        "1.0.0-0",
        "1.0.0-2",
        "1.0.0-10",
        "1.0.0--",
        "1.0.0-10a",
        "1.0.0-RC",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "1.0.1-a",
        "1.9.0",
        "1.10.0",
        "2.0.0",
    ]
    for low, high in itertools.combinations(map(Version.parse, ascending), 2):
        assert low < high
        assert low <= high
        assert high > low
        assert high >= low
        assert not low > high
        assert not low >= high
        assert low != high
        assert not low.same_precedence(high)


def test_build_metadata_does_not_order_but_differs() -> None:
    a, b = Version.parse("1.0.0+a"), Version.parse("1.0.0+b")
    assert a != b
    assert len({a, b, Version.parse("1.0.0+a")}) == 2
    assert a.same_precedence(b)
    assert a <= b <= a
    assert not a < b
    assert not b < a


def test_is_a_value() -> None:
    version = Version.parse("1.0.0")
    with pytest.raises(AttributeError):
        version.text = "2.0.0"  # type: ignore[misc]  # the misuse under test
    assert copy.deepcopy(version) == version
    for compare in ("__eq__", "__lt__", "__le__", "__gt__", "__ge__"):
        assert getattr(version, compare)("1.0.0") is NotImplemented


@given(TEXTS)
def test_round_trip(text: str) -> None:
    version = Version.parse(text)
    assert str(version) == text
    assert Version.parse_tag(version.tag) == version


@given(TEXTS, TEXTS)
def test_one_of_three(left: str, right: str) -> None:
    a, b = Version.parse(left), Version.parse(right)
    assert [a < b, a.same_precedence(b), a > b].count(True) == 1
    assert (a == b) == (left == right)


@given(st.text(max_size=120) | st.text("0123456789.-+_abxv \n\u0662", max_size=20))
def test_refuses_only_by_format_error(text: str) -> None:
    try:
        version = Version.parse(text)
    except FormatError:
        return
    assert str(version) == text
    assert text.isascii()
