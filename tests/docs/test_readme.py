"""README.md is short where it must be: twelve lines of transcript, ten of Python."""

from __future__ import annotations

import re

from margo_supplychain.cli.options import EXIT_STATUSES
from tests.docs.pages import README, items


def blocks(language: str) -> list[str]:
    return [
        one.text
        for one in items(README)
        if one.kind == "block" and one.language == language
    ]


def test_the_transcript_has_twelve_lines_and_ends_in_the_refusal() -> None:
    (transcript,) = blocks("console")
    lines = transcript.splitlines()
    assert len(lines) == 12
    assert lines[-1] == "(exit status 3)"
    assert any(line.endswith("[rollback]") for line in lines[-4:])
    assert sum(line.startswith("$ ") for line in lines) == 3


def test_the_program_has_ten_lines() -> None:
    (program,) = blocks("python")
    _, _, body = program.partition("\n\n")
    assert len([line for line in body.splitlines() if line]) == 10


def test_it_opens_with_one_sentence() -> None:
    text = README.read_text("utf-8").split("\n\n")[1]
    assert text.endswith(".")
    assert len(re.findall(r"\.(\s|$)", text)) == 1


def test_the_exit_statuses_are_all_there() -> None:
    section = README.read_text("utf-8").partition("## Exit status")[2]
    rows = re.findall(r"^\| ([0-9]) \|", section, re.MULTILINE)
    assert [int(row) for row in rows] == sorted(EXIT_STATUSES)
