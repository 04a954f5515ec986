"""Every page is executed; the harness itself is tested on small texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import README, items, name_of, pages
from tests.docs.transcripts import agree, exchanges, execute, run

if TYPE_CHECKING:
    from pathlib import Path


def has_blocks(page: Path) -> bool:
    return any(
        one.kind == "block" and one.language in ("console", "python")
        for one in items(page)
    )


EXECUTED = [page for page in pages() if has_blocks(page)]


@pytest.mark.parametrize("page", EXECUTED, ids=name_of)
def test_a_page_does_what_it_shows(page: Path) -> None:
    differences = [str(one) for one in execute(page) if not one.agrees]
    assert not differences, "\n".join(differences)


def test_every_how_to_and_the_tutorial_show_commands() -> None:
    executed = {name_of(page) for page in EXECUTED}
    wanted = {
        name_of(page)
        for page in pages()
        if page.parent.name == "how-to" or page.name == "tutorial.md"
    }
    assert len(wanted) > 5
    assert wanted - executed == set()
    assert name_of(README) in executed


def test_skipped_blocks_say_why() -> None:
    for page in pages():
        for item in items(page):
            assert item.kind != "skip" or len(item.text) > 10, (page, item)


def test_commands_and_what_they_print() -> None:
    block = "$ a b \\\n    c\none\ntwo\n$ d\n"
    first, second = exchanges(block, 4)
    assert (first.command, first.shown, first.line) == ("a b c", ("one", "two"), 5)
    assert (second.command, second.shown, second.line) == ("d", (), 9)


def test_a_block_that_begins_with_output_is_refused() -> None:
    with pytest.raises(ValueError, match="line 8: a console block begins with"):
        exchanges("output\n$ command\n", 7)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ([], []),
        (["key id 4f1a09c2e77b"], ["key id 9c02ab18d4f0"]),
        (["a.4f1a09c2.link.dsse.json"], ["a.9c02ab18.link.dsse.json"]),
        (["until 2026-11-25"], ["until 2031-01-01"]),
        (["in 4 days"], ["in 3 days"]),
        (["good for 3 d 21 h"], ["good for 23 h"]),
        (["issued 3 h ago"], ["issued just now"]),
        (["a  41 kB  b"], ["a  5.2 MB   b"]),
        (["a", "…", "z"], ["a", "b", "c", "z"]),
        (["a", "…"], ["a"]),
    ],
)
def test_what_agrees(shown: list[str], printed: list[str]) -> None:
    assert agree(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ([], ["more"]),
        (["a"], []),
        (["a", "b"], ["a"]),
        (["verified"], ["rejected"]),
        (["root v1"], ["root v2"]),
        (["  indented"], ["indented"]),
        (["a", "…", "z"], ["a", "b"]),
        (["a", "…"], ["a", "b", "(exit status 3)"]),
        (["a", "…", "(exit status 4)"], ["a", "(exit status 3)"]),
        (["sha256:0efd1feea313"], ["sha256:0efd1feea31"]),
    ],
)
def test_what_does_not(shown: list[str], printed: list[str]) -> None:
    assert not agree(shown, printed)


def test_how_a_command_ended_is_a_line_of_its_own() -> None:
    assert run("exit 3") == ("(exit status 3)",)
    assert run("margo-supplychain key nonsense")[-1] == "(exit status 2)"
    assert run("echo a && echo b") == ("a", "b")
