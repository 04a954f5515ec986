"""Rules of in-toto's language, and patterns as `fnmatch` reads them."""

from __future__ import annotations

import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_toto.rulelib import unpack_rule

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.provenance.patterns import MAX_WILD, Pattern
from margo_supplychain.provenance.rules import ArtifactRule

WELL_FORMED = (
    "CREATE *",
    "delete a/b",
    "Modify x?",
    "ALLOW [a-c]*",
    "DISALLOW [!a]",
    "REQUIRE a[b]*",
    "MATCH * WITH PRODUCTS FROM build",
    "match * with materials from build",
    "MATCH * IN a/b WITH PRODUCTS FROM build",
    "MATCH * WITH PRODUCTS IN c FROM build",
    "MATCH * IN a/ WITH MATERIALS IN c/d/ FROM build",
)


@pytest.mark.parametrize("text", WELL_FORMED)
def test_rules_are_read_as_in_toto_reads_them(text: str) -> None:
    rule = ArtifactRule.parse(text.split())
    theirs = unpack_rule(text.split())  # type: ignore[no-untyped-call]  # in_toto has no annotations
    assert rule.kind == theirs["rule_type"].upper()
    assert rule.pattern == theirs["pattern"]
    if rule.kind == "MATCH":
        assert (rule.source_prefix, rule.side, rule.prefix, rule.step) == (
            theirs["source_prefix"].rstrip("/"),
            theirs["dest_type"],
            theirs["dest_prefix"].rstrip("/"),
            theirs["dest_name"],
        )
    assert ArtifactRule.parse(rule.to_list()) == rule


def test_the_text_of_a_rule() -> None:
    rule = ArtifactRule.parse(
        ["match", "a b*", "in", "x/", "WITH", "products", "IN", "y", "FROM", "build"]
    )
    assert rule.text == 'MATCH "a b*" IN x WITH PRODUCTS IN y FROM build'
    assert rule.partner("x/a b1") == "y/a b1"
    assert rule.select(["x/a b1", "x/c", "xa b1", "a b1"]) == ["x/a b1"]
    assert ArtifactRule.parse(["REQUIRE", "a*"]).select({"ab", "a*"}) == ["a*"]
    assert ArtifactRule.parse(["REQUIRE", "a*"]).select({"ab"}) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "is none of: CREATE"),
        (["CREATE"], "is none of"),
        (["CREATE", "a", "b"], "is none of"),
        (["INSPECT", "a"], "is none of"),
        (["MATCH", "*"], "is none of"),
        (["CREATE", 1], "not a list of strings"),
        ([None, "a"], "not a list of strings"),
        ("MATCH * FROM build WITH PRODUCTS", "is not MATCH"),
        ("MATCH * WITH BYPRODUCTS FROM build", "is not MATCH"),
        ("MATCH * AT a WITH PRODUCTS FROM build", "is not MATCH"),
        ("MATCH * WITH PRODUCTS AT a FROM build", "is not MATCH"),
        ("MATCH * IN a WITH PRODUCTS", "is not MATCH"),
        ("MATCH * IN a IN b WITH PRODUCTS FROM build", "is not MATCH"),
        ("MATCH * IN a WITH PRODUCTS AT b FROM build", "is not MATCH"),
        (["CREATE", ""], "0 characters"),
        (["CREATE", "a" * 513], "513 characters"),
        (["CREATE", "a\nb"], "not printable"),
        (["CREATE", "e\u0301"], "not printable in Unicode"),
        (["REQUIRE", "a\u202eb"], "not printable"),
        (["CREATE", "a\\b"], "has a backslash"),
        (["CREATE", "*a" * 33], "more than 32 stars"),
        (
            ["CREATE", "*" + "a" * 32 + "?*"],
            "more than 32 characters between two stars",
        ),
        (["CREATE", "*[a-b]" + "a" * 32 + "*"], "more than 32 characters between"),
        (["CREATE", "[^a]"], "has a set that"),
        (["CREATE", "[a"], "has a set that"),
        (["CREATE", "[]"], "has a set that"),
        (["CREATE", "[!]"], "has a set that"),
        (["CREATE", "[]a]"], "has a set that"),
        (["CREATE", "[-a]"], "has a set that"),
        (["CREATE", "[a-]"], "has a set that"),
        (["CREATE", "[b-a]"], "has a set that"),
        (["CREATE", "[!^a]"], "has a set that"),
        ("MATCH * IN / WITH PRODUCTS FROM build", "0 characters"),
        ("MATCH * IN /a WITH PRODUCTS FROM build", "has the directory"),
        ("MATCH * IN a//b WITH PRODUCTS FROM build", "has the directory"),
        ("MATCH * IN . WITH PRODUCTS FROM build", "has the directory"),
        ("MATCH * WITH PRODUCTS IN ../a FROM build", "has the directory"),
        (["MATCH", "*", "IN", "a\\b", "WITH", "PRODUCTS", "FROM", "b"], "directory"),
    ],
)
def test_rules_that_are_refused(words: list[object] | str, said: str) -> None:
    rule = words.split() if isinstance(words, str) else words
    with pytest.raises(MetadataFormatError, match=said):
        ArtifactRule.parse(rule)


@pytest.mark.parametrize("pattern", ["?" * 33 + "*", "*" + "?" * 33, "*a" + "b" * 99])
def test_long_parts_that_are_looked_at_once(pattern: str) -> None:
    assert ArtifactRule.parse(["CREATE", pattern]).pattern == pattern


def test_a_pattern_is_named_by_what_it_holds_not_by_its_rule() -> None:
    """REQUIRE takes a name: what would be a bad pattern may be a file."""
    assert ArtifactRule.parse(["REQUIRE", "[^a"]).pattern == "[^a"


NAMES = st.text(alphabet="ab/.-[]!^\n", max_size=8)
ITEMS = st.sampled_from(["a", "b", "a-b", "!", ".", "[", "/", "+-."])
SETS = st.builds(
    lambda sign, first, rest: f"[{sign}{first}{''.join(rest)}]",
    st.sampled_from(["", "!"]),
    ITEMS.filter(lambda one: one != "!"),
    st.lists(ITEMS.filter(lambda one: one != "!"), max_size=2),
)
PATTERNS = st.lists(
    st.one_of(st.sampled_from(["a", "b", "/", "*", "?", ".", "-"]), SETS), max_size=7
).map("".join)


@given(PATTERNS, st.lists(NAMES, max_size=12))
def test_patterns_match_as_fnmatch_does(pattern: str, names: list[str]) -> None:
    expected = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    assert sorted(set(Pattern.of(pattern).select(names))) == sorted(set(expected))


SHAPES = (
    "a*",
    "*",
    "a",
    "?",
    "*a",
    "a*b",
    "a*a*b",
    "a*b*",
    "[ab]*",
    "*[ab]",
    "**",
    "a**b",
)


@pytest.mark.parametrize("pattern", SHAPES)
def test_patterns_of_each_shape(pattern: str) -> None:
    names = {"a", "b", "ab", "a/b", "ba", "A", "aab/b"}
    expected = {name for name in names if fnmatch.fnmatchcase(name, pattern)}
    assert set(Pattern.of(pattern).select(names)) == expected


A = "a" * 4096


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*a" * 31 + "*c", A),
        ("*" * 32 + "b?", A),
        # Text that begins nearly everywhere, and is nowhere.
        ("*" + "a" * 509 + "b*", A),
        ("*" + "a" * 255 + "b" + "a" * 254 + "*", A),
        ("*" + "ab" * 254 + "*", "ab" * 253 + "a" + "ab" * 253 + "a" * 3000),
        # With sets, at most 32 characters at each place.
        ("*" + "a" * 30 + "[b-c]" + "a*", A),
        ("*[a-b]*[a-b]*[a-b]*[a-b]*c", A),
        ("*?*?*?*?*?*?*?*?*?*?b", A),
    ],
)
def test_no_pattern_is_a_bomb(pattern: str, name: str) -> None:
    """Stars that could share a name in every way take no more time for it, nor does
    text that nearly matches everywhere: a thousand names of that length are 4 MB."""
    found = Pattern.of(pattern)
    names = [name] * 1000
    begun = time.process_time()
    assert found.select(names) == []
    took = time.process_time() - begun
    assert took < 1.5
    assert took < found.cost(names) * 100e-9


def test_what_matching_costs_is_told_beforehand() -> None:
    names = ["a" * 100] * 10
    costs = [
        Pattern.of(one).cost(names)
        for one in ("a", "*", "a*", "a*b", "*b*", "*b?*", "*" + "?" * MAX_WILD + "*")
    ]
    assert costs == sorted(costs)
    assert costs[0] == 1
    assert costs[-1] > 100 * 10 * MAX_WILD
    rule = ArtifactRule.parse(
        ["MATCH", "*b*", "IN", "c", "WITH", "PRODUCTS", "FROM", "d"]
    )
    assert rule.cost(names) > Pattern.of("*b*").cost(names)
    assert ArtifactRule.parse(["REQUIRE", "a"]).cost(names) == 1
