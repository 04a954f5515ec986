"""Pins: exact, with a digest, and npm's ranges; what they admit and why not."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import FormatError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.versions import Version

DIGEST = Digest.of(b"artifact")

# Range, admitted versions, refused versions: npm's semantics, a group per rule.
SEMANTICS = [
    # complete versions; build metadata of the range and of the version is ignored
    ("1.2.3", "1.2.3 1.2.3+any", "1.2.2 1.2.4 1.2.3-rc.1"),
    ("=1.2.3", "1.2.3", "1.2.4"),
    ("= 1.2.3", "1.2.3", "1.2.4"),
    ("1.2.3+a", "1.2.3 1.2.3+b", "1.2.4"),
    ("1.2.3-rc.1", "1.2.3-rc.1 1.2.3-rc.1+a", "1.2.3 1.2.3-rc.2"),
    # wildcards and partial versions
    ("*", "0.0.0 1.2.3", "1.2.3-rc.1 0.0.0-0"),
    ("x.X.*", "0.0.0 1.2.3", "1.2.3-rc.1"),
    ("1", "1.0.0 1.9.9", "0.9.9 2.0.0 1.0.0-rc.1 2.0.0-0"),
    ("1.x", "1.0.0 1.9.9", "2.0.0"),
    ("=1.x.x", "1.0.0 1.9.9", "2.0.0"),
    ("1.2", "1.2.0 1.2.9", "1.3.0 1.1.9 1.2.0-0 1.3.0-0"),
    ("1.2.*", "1.2.0 1.2.9", "1.3.0"),
    # comparators
    (">1.2.3", "1.2.4 2.0.0", "1.2.3 1.2.3+b 1.2.4-rc.1"),
    (">= 1.2.3", "1.2.3 1.2.3+b 9.0.0", "1.2.2 1.2.3-rc.1"),
    ("<1.2.3", "1.2.2 0.0.0", "1.2.3 1.2.3-rc.1 1.2.2-rc.1"),
    ("<=1.2.3", "1.2.3 0.0.0", "1.2.4 1.2.3-rc.1"),
    (">1", "2.0.0", "1.0.0 1.9.9 2.0.0-0"),
    (">1.2", "1.3.0", "1.2.9"),
    (">=1", "1.0.0 2.0.0", "0.9.9 1.0.0-rc.1"),
    ("<1", "0.9.9", "1.0.0 1.0.0-0"),
    ("<1.2", "1.1.9", "1.2.0 1.2.0-0"),
    ("<=1", "1.9.9 0.0.0", "2.0.0 2.0.0-0"),
    ("<=1.2.x", "1.2.9", "1.3.0"),
    (">=*", "0.0.0 1.2.3", "1.2.3-rc.1"),
    ("<=*", "0.0.0 1.2.3", "1.2.3-rc.1"),
    (">*", "", "0.0.0 1.2.3 0.0.0-0"),
    ("<x", "", "0.0.0 1.2.3 0.0.0-0"),
    ("<0", "", "0.0.0 0.0.0-0"),
    (">=1.2.0 <2", "1.2.0 1.9.9", "1.1.9 2.0.0"),
    (">= 1.2.0   < 2", "1.2.0 1.9.9", "2.0.0"),
    (">2 <1", "", "1.5.0 3.0.0"),
    ("* ^1", "1.0.0", "2.0.0"),
    # tilde
    ("~1", "1.0.0 1.9.9", "2.0.0"),
    ("~1.2", "1.2.0 1.2.9", "1.3.0"),
    ("~1.2.3", "1.2.3 1.2.9", "1.2.2 1.3.0 1.3.0-0"),
    ("~>1.2.3", "1.2.9", "1.3.0"),
    ("~> 1.2", "1.2.9", "1.3.0"),
    ("~1.2.3-rc.2", "1.2.3-rc.2 1.2.3-rc.3 1.2.3 1.2.4", "1.2.3-rc.1 1.2.4-rc.2"),
    ("~0.0.1", "0.0.1 0.0.9", "0.1.0"),
    ("~*", "0.0.0 3.0.0", "3.0.0-a"),
    # caret
    ("^1.2.3", "1.2.3 1.9.9", "1.2.2 2.0.0 2.0.0-0 1.3.0-rc.1"),
    ("^ 1.2", "1.2.0 1.9.9", "1.1.9 2.0.0"),
    ("^1", "1.0.0", "2.0.0"),
    ("^1.x", "1.9.0", "2.0.0"),
    ("^0", "0.0.0 0.9.9", "1.0.0"),
    ("^0.x.x", "0.0.0 0.9.9", "1.0.0"),
    ("^0.0", "0.0.0 0.0.9", "0.1.0"),
    ("^0.2", "0.2.0 0.2.9", "0.3.0 0.1.0"),
    ("^0.2.3", "0.2.3 0.2.9", "0.3.0 0.2.2"),
    ("^0.0.3", "0.0.3", "0.0.4 0.0.2"),
    ("^0.0.0", "0.0.0", "0.0.1"),
    ("^0.0.3-rc", "0.0.3-rc 0.0.3-rd 0.0.3", "0.0.4 0.0.4-rc"),
    ("^1.2.3-rc.2", "1.2.3-rc.2 1.2.3 1.9.0", "1.2.3-rc.1 1.3.0-rc.2"),
    ("^x", "0.0.0 3.0.0", "3.0.0-a"),
    # hyphens
    ("1.2.3 - 2.3.4", "1.2.3 2.3.4", "1.2.2 2.3.5"),
    ("1.2 - 2.3", "1.2.0 2.3.9", "1.1.9 2.4.0"),
    ("1.2.3 - 2", "2.9.9", "3.0.0 3.0.0-0"),
    ("* - 2.3.4", "0.0.0 2.3.4", "2.3.5"),
    ("1.2.3 - *", "1.2.3 99.0.0", "1.2.2"),
    ("1.2.3-rc.1 - 2.0.0-rc.1", "1.2.3-rc.2 2.0.0-rc.1 1.5.0", "2.0.0 1.5.0-rc"),
    # alternatives
    ("1.2.3 || 2.x", "1.2.3 2.5.0", "1.2.4 3.0.0"),
    ("1||3", "1.0.0 3.0.0", "2.0.0"),
    ("^1.0.0-rc.1 || ^2", "1.0.0-rc.2 2.1.0", "2.0.0-rc.1"),
    ("* || 1.0.0-rc.1", "0.0.0 2.0.0", "1.0.0-rc.1"),
    (">=0.0.0 || 1.0.0-rc.1", "0.0.0 2.0.0", "1.0.0-rc.1"),
    ("<0 || 1.0.0-rc.1", "1.0.0-rc.1", "1.0.0"),
    # numbers at the limit
    ("9007199254740991.x.x - *", "", "1.0.0"),
    (">=9007199254740991", "9007199254740991.0.0", "1.0.0"),
]

NOT_RANGES = [
    ("", "range '' is empty: expected '\\*' for every release", None),
    ("   ", "is empty", None),
    (" 1", "has white space around it", None),
    ("1.2.3\n", "has white space around it", None),
    ("1\xa0", "has white space around it", None),
    ("1 ||", "at column 5: nothing on one side of '\\|\\|'", "column 5"),
    ("|| 1", "at column 1: nothing on one side", "column 1"),
    ("1 || || 2", "at column 5: nothing on one side", "column 5"),
    ("1 || 2 | 3", "at column 8: '\\|' is no version", "column 8"),
    ("v1.2.3", "at column 1: 'v1\\.2\\.3' begins with 'v'", "column 1"),
    ("^1 || ~v2", "at column 8: 'v2' begins with 'v'", "column 8"),
    ("1.\u0662.3", "at column 1: '1\\.\\\\u0662\\.3' is no version", "column 1"),
    ("1\t2", "at column 1: '1\\\\t2' is no version", "column 1"),
    ("^1,2", "at column 2: '1,2' is no version", "column 2"),
    ("latest", "at column 1: 'latest' is no version", "column 1"),
    ("1.2.3.4", "at column 1: '1\\.2\\.3\\.4' is no version", "column 1"),
    ("01.2", "at column 1: '01\\.2' is no version", "column 1"),
    ("01.2.3", "at column 1: version '01\\.2\\.3' is not SemVer", "column 1"),
    (">=1.2.3-01", "at column 3: version '1\\.2\\.3-01' is not SemVer", "column 3"),
    ("1.2-rc", "is no version", "column 1"),
    ("1.2.x-rc", "is no version", "column 1"),
    ("1.2+a", "is no version", "column 1"),
    ("1.2.3*", "is no version", "column 1"),
    ("1.", "is no version", "column 1"),
    ("1.x.3", "at column 1: '1\\.x\\.3' has a number after a wildcard", "column 1"),
    ("^*.1", "at column 2: '\\*\\.1' has a number after a wildcard", "column 2"),
    ("1.2.3>2", "is no version", "column 1"),
    ("!1", "at column 1: '!1' is no version", "column 1"),
    ("^", "at column 1: no version after '\\^'", "column 1"),
    ("1 >", "at column 3: no version after '>'", "column 3"),
    ("> = 1", "at column 3: '=' after '>'", "column 3"),
    (">>1", "at column 2: '>1' is no version", "column 2"),
    ("~ ^1", "at column 3: '\\^' after '~'", "column 3"),
    ("1 -", "at column 3: '-' needs one version on each side", "column 3"),
    ("- 1", "at column 1: '-' needs one version on each side", "column 1"),
    ("1 - - ", "has white space around it", None),
    ("1 - 2 3", "at column 3: '-' needs one version", "column 3"),
    ("1 - >2", "at column 5: '>2' is no version", "column 5"),
    ("9007199254740992", "at column 1: 9007199254740992 is above 2\\^53-1", "column 1"),
    ("<9007199254740992.0.0", "a number above 2\\^53-1", "column 2"),
    ("^9007199254740991", "at column 2: 9007199254740992 is above", "column 2"),
    (">1.9007199254740991", "at column 2: 9007199254740992 is above", "column 2"),
    ("1.0.0-9007199254740992", "a number above 2\\^53-1", "column 1"),
    ("1.0.0-" + "a" * 95, "has 101 characters, above 100", "column 1"),
    ("1 " * 64 + "1", "has more than 64 parts", None),
    ("1||" * 64 + "1", "has more than 64 parts", None),
    (">=1 " * 65 + "1", "has 261 characters, above 256", None),
    ("1" * 100_000, "has 100000 characters, above 256", None),
]


def npm(text: str) -> Pin:
    return Pin.range(text, grammar="npm")


@pytest.mark.parametrize(("text", "inside", "outside"), SEMANTICS)
def test_range(text: str, inside: str, outside: str) -> None:
    pin = npm(text)
    for version in map(Version.parse, inside.split()):
        assert pin.admits(version), version
        assert pin.why_not(version) is None
    for version in map(Version.parse, outside.split()):
        assert not pin.admits(version), version
        assert pin.why_not(version)


@pytest.mark.parametrize(("text", "message", "where"), NOT_RANGES)
def test_not_a_range(text: str, message: str, where: str | None) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        npm(text)
    assert caught.value.where == where
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_as_many_parts_as_there_may_be() -> None:
    assert npm("1 " * 63 + "1").admits(Version.parse("1.5.0"))


def test_exact() -> None:
    pin = Pin.exact(Version.parse("1.2.3+a"))
    assert (str(pin), pin.text, pin.grammar, pin.digest) == (
        "1.2.3+a",
        "1.2.3+a",
        None,
        None,
    )
    assert pin.version == Version.parse("1.2.3+a")
    assert pin.admits(Version.parse("1.2.3+a"))
    assert not pin.admits(Version.parse("1.2.3+b"))
    assert not pin.admits(Version.parse("1.2.3"))
    assert pin.admits_artifact(DIGEST)
    assert pin.why_not(Version.parse("1.2.3+a")) is None
    assert pin.why_not(Version.parse("1.2.3")) == "other build metadata than the pin's"
    assert pin.why_not(Version.parse("1.2.4")) == "outside the pin"


def test_exact_with_digest() -> None:
    pin = Pin.exact(Version.parse("1.2.3"), DIGEST)
    assert pin.text == f"1.2.3@{DIGEST}"
    assert pin.digest == DIGEST
    assert pin.admits(Version.parse("1.2.3"))
    assert pin.admits_artifact(DIGEST)
    assert not pin.admits_artifact(Digest.of(b"other"))
    assert not pin.admits_artifact(Digest("sha512", "0" * 128))
    assert pin == Pin.parse_argument(pin.text)
    assert pin != Pin.exact(Version.parse("1.2.3"))


def test_reasons() -> None:
    """As the device's hour prints them."""
    pin = npm("^3")
    assert pin.why_not(Version.parse("2.0.0")) == "outside the pin"
    assert (
        pin.why_not(Version.parse("3.0.0-rc.1"))
        == "pre-release, and the pin names none of 3.0.0"
    )
    assert (
        pin.why_not(Version.parse("3.1.0-rc.1"))
        == "pre-release, and the pin names none of 3.1.0"
    )
    # 4.0.0 is out, so its pre-releases are out for the same reason.
    assert pin.why_not(Version.parse("4.0.0-rc.1")) == "outside the pin"
    # ^3 stands for <4.0.0-0, but nobody has named a pre-release of 4.0.0.
    assert (
        npm("^3 || ^4").why_not(Version.parse("4.0.0-rc.1"))
        == "pre-release, and the pin names none of 4.0.0"
    )
    # It is named, and below what is asked for.
    assert npm("^3.0.0-rc.2").why_not(Version.parse("3.0.0-rc.1")) == "outside the pin"


@pytest.mark.parametrize(
    ("text", "pin"),
    [
        ("1.2.3", Pin.exact(Version.parse("1.2.3"))),
        ("1.2.3-rc.1+a", Pin.exact(Version.parse("1.2.3-rc.1+a"))),
        (f"1.2.3@{DIGEST}", Pin.exact(Version.parse("1.2.3"), DIGEST)),
        ("=1.2.3", npm("=1.2.3")),
        ("^1.0", npm("^1.0")),
        ("1.2", npm("1.2")),
        ("*", npm("*")),
        ("1.2.3 || 1.2.5", npm("1.2.3 || 1.2.5")),
        ("1.2.3 - 2", npm("1.2.3 - 2")),
        ("1.2.3-rc || 2", npm("1.2.3-rc || 2")),
        ("1.2.3||2", npm("1.2.3||2")),
    ],
)
def test_argument(text: str, pin: Pin) -> None:
    assert Pin.parse_argument(text) == pin
    assert str(pin) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "range '' is empty"),
        ("v1.2.3", "begins with 'v'"),
        ("1.2.3\n", "white space"),
        ("1.\u0662.3", "is no version"),
        ("01.2.3", "is not SemVer"),
        ("1.2.3-", "is not SemVer"),
        ("9" * 300 + ".0.0", "characters, above 100"),
        ("1.9007199254740992.0", "above 2\\^53-1"),
        ("1.2.3@", "digest ':' is not sha256"),
        ("1.2.3@sha256:12", "is not sha256"),
        ("1.2.3@" + "a" * 10_000, "is not sha256"),
        (f"1.2.3@{DIGEST}\n", "is not sha256"),
        (f"1.2.3@{DIGEST}@{DIGEST}", "is not sha256"),
        (f"^1@{DIGEST}", "has a digest, which goes with a complete version"),
        (f"@{DIGEST}", "has a digest, which goes with a complete version"),
    ],
)
def test_not_an_argument(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Pin.parse_argument(text)


def test_is_a_value() -> None:
    pin = npm("^1")
    assert repr(pin) == "Pin.range('^1', grammar='npm')"
    assert repr(Pin.exact(Version.parse("1.0.0"))) == "Pin.exact('1.0.0')"
    assert (pin.grammar, pin.version, pin.digest) == ("npm", None, None)
    assert pin.admits_artifact(DIGEST)
    assert len({pin, npm("^1"), npm("^2")}) == 2
    # The range =1.0.0 says more than one version: with any build metadata.
    assert npm("1.0.0") != Pin.exact(Version.parse("1.0.0"))
    assert copy.deepcopy(pin).admits(Version.parse("1.5.0"))
    with pytest.raises(AttributeError):
        pin.text = "*"  # type: ignore[misc]  # the misuse under test
    # Made without its class methods it is checked as well.
    with pytest.raises(FormatError, match="is empty"):
        Pin(text="", grammar="npm")
    with pytest.raises(FormatError, match="is not SemVer"):
        Pin(text="", grammar=None)
    with pytest.raises(ValueError, match="range grammar 'cargo' is not 'npm'"):
        Pin.range("^1", grammar="cargo")  # type: ignore[arg-type]  # the misuse under test


ALIASES = ["v1.2.3", "1.\u0662.3", "1.2.3\n", "01.2.3", " 1.2.3", "1.2.3" + " " * 300]


@pytest.mark.parametrize("alias", ALIASES)
def test_no_alias_of_a_version_is_pinned_or_admitted(alias: str) -> None:
    with pytest.raises(FormatError):
        Pin.parse_argument(alias)
    with pytest.raises(FormatError):
        npm(alias)
    with pytest.raises(FormatError):
        npm("*").admits(Version.parse(alias))


@given(st.text(max_size=300) | st.text("0129.-+xv*<>=~^| @a\n", max_size=24))
def test_refuses_only_by_format_error(text: str) -> None:
    try:
        pin = Pin.parse_argument(text)
    except FormatError:
        return
    assert pin.text == text
    assert text.isascii()
    pin.admits(Version.parse("1.0.0"))


@given(
    st.tuples(*[st.integers(0, 3)] * 3), st.sampled_from(["^", "~", "<", ">=", "=", ""])
)
def test_no_final_range_admits_a_prerelease(
    numbers: tuple[int, int, int], sign: str
) -> None:
    pin = npm(sign + ".".join(map(str, numbers)))
    for major in range(4):
        for minor in range(4):
            assert not pin.admits(Version.parse(f"{major}.{minor}.0-rc.1"))
