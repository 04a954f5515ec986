"""The first hour of a vendor and a device keeps its rules: verdict, facts, next step.

docs/tutorial.md shows it and `test_transcripts.py` executes it; here is what every
output of it must look like, whoever changes a line of it later.
"""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.docs.pages import DOCS, items
from tests.docs.transcripts import Exchange, exchanges

PAGE: Final = DOCS / "tutorial.md"
# In this order; a word is what the output begins with.
HOUR: Final = (
    ("key generate offline.key", "wrote"),
    ("key generate ci.key", "wrote"),
    ("repo init trust --profile small", "created"),
    ("app add acme/pump-monitor", "added"),
    ("release build pump-monitor", "built"),
    ("release publish dist", "published"),
    ("release build broken", "error:"),
    ("device init", "trusted"),
    ("device verify acme/pump-monitor --pin '^1.0'", "verified"),
    ("device fetch acme/pump-monitor --pin '^1.0'", "fetched"),
    ("device confirm acme/pump-monitor", "confirmed"),
    ("release publish dist-2 dist-3", "published"),
    ("device verify acme/pump-monitor --pin '^1.0'", "verified"),
    ("device verify acme/pump-monitor --pin '^1.0'", "rejected"),
    ("device verify acme/pump-monitor --pin '^3'", "rejected"),
)
SCREEN: Final = 24
FREE_OF_INDENT: Final = re.compile(
    r"(next|error|hint|devices trust it by|keep |\(exit status|published |wrote )"
)
WHOLE_DIGEST: Final = re.compile(r"\b[0-9a-f]{64}\b")


def hour() -> list[Exchange]:
    return [
        one
        for item in items(PAGE)
        if item.kind == "block" and item.language == "console"
        for one in exchanges(item.text, item.line)
    ]


def outputs() -> list[Exchange]:
    return [
        one
        for one in hour()
        if one.command.startswith("margo-supplychain") and "…" not in one.shown
    ]


def test_the_hour_has_these_steps_in_this_order() -> None:
    told = iter(outputs())
    for command, word in HOUR:
        wanted = f"margo-supplychain {command}"
        assert any(
            one.command.startswith(wanted) and one.shown[0].split()[0] == word
            for one in told
        ), f"{command} → {word}"


@pytest.mark.parametrize("one", outputs(), ids=lambda one: str(one.line))
def test_an_output_fits_a_screen(one: Exchange) -> None:
    assert 0 < len(one.shown) <= SCREEN


@pytest.mark.parametrize("one", outputs(), ids=lambda one: str(one.line))
def test_facts_stand_under_the_verdict_and_the_next_step_at_the_end(
    one: Exchange,
) -> None:
    for line in one.shown[1:]:
        assert line.startswith("  ") or FREE_OF_INDENT.match(line), line
    steps = [at for at, line in enumerate(one.shown) if line.startswith("next: ")]
    assert steps in ([], [len(one.shown) - 1])


@pytest.mark.parametrize("one", outputs(), ids=lambda one: str(one.line))
def test_people_see_short_digests(one: Exchange) -> None:
    for line in one.shown:
        # Whole ones only where they are to be copied or compared: roots, paths, and
        # the id that a key's holder reads aloud.
        allowed = re.search(r"root|blobs/|key id", line)
        assert not WHOLE_DIGEST.search(line) or allowed, line


def test_a_refusal_says_error_then_hint_then_how_it_ended() -> None:
    refused = [one for one in outputs() if one.shown[-1].startswith("(exit status")]
    assert len(refused) == 3
    for one in refused:
        words = [line.split()[0] for line in one.shown if not line.startswith("  ")]
        assert words[-2:] == ["hint:", "(exit"]
        assert "error:" in words
        errors = [line for line in one.shown if line.startswith("error: ")]
        assert all(re.search(r" \[[a-z-]+\]$", line) for line in errors)


def test_commands_that_are_told_next_are_commands() -> None:
    for one in outputs():
        for line in one.shown:
            if line.startswith("next: "):
                assert line.startswith(("next: margo-supplychain ", "next: install by"))
