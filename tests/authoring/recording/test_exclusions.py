"""Patterns of what is left out."""

from __future__ import annotations

import pytest

from margo_supplychain.authoring.recording.exclusions import MAX_PATTERNS, Exclusions
from margo_supplychain.errors import FormatError


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.pyc", ["a.pyc", "x/y/a.pyc", ".pyc"], ["a.pyc.txt", "a.py"]),
        (".git", [".git", "x/.git"], ["x/.gitignore", ".git/x"]),
        ("build/", ["build", "x/build"], ["build/x"]),
        ("docs/*.md", ["docs/a.md"], ["docs/x/a.md", "x/docs/a.md", "docs"]),
        ("*/tmp", ["a/tmp", "b/tmp"], ["tmp", "a/b/tmp"]),
        ("[ab]?", ["ax", "x/by"], ["a", "cx", "axx"]),
        ("[!a]", ["b"], ["a", "ab"]),
        ("a.c", ["a.c"], ["abc"]),
    ],
)
def test_what_a_pattern_takes(pattern: str, yes: list[str], no: list[str]) -> None:
    exclusions = Exclusions([pattern])
    for path in yes:
        assert exclusions.take(path), path
    for path in no:
        assert not exclusions.take(path), path
    assert exclusions.counts() == {pattern: len(yes)}


def test_what_lies_below_is_taken_too() -> None:
    exclusions = Exclusions(["tmp", "a/b"])
    assert exclusions.take_below("x/tmp/y/z")
    assert exclusions.take_below("a/b/c")
    assert not exclusions.take_below("a/c/b")
    assert not Exclusions().take_below("a")
    assert not Exclusions()


@pytest.mark.parametrize(
    "pattern",
    ["", "/", "/abs", "a//b", "./a", "../a", "a/..", "a/**/b", "x\n", "x" * 501],
)
def test_patterns_that_never_mean_what_they_say(pattern: str) -> None:
    with pytest.raises(FormatError, match="is no pattern, expected a name"):
        Exclusions([pattern])


def test_too_many_patterns() -> None:
    most = [f"*.{number}" for number in range(MAX_PATTERNS)]
    assert len(Exclusions([*most, *most]).counts()) == MAX_PATTERNS
    with pytest.raises(FormatError, match="101 exclusions are given, expected up to"):
        Exclusions([*most, "more"])
