"""Printing: what JSON can hold, what a terminal shows, colour and width."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.cli.failures import Failure
from margo_supplychain.cli.invocation import Invocation
from margo_supplychain.cli.output import (
    Result,
    as_json,
    visible,
    write_failure,
    write_result,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.reports import Violation

if TYPE_CHECKING:
    from collections.abc import Callable

    Show = Callable[[Callable[[], object]], str]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    """Run something whose stdout and stderr are a terminal; return what it shows."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")

    def shown(act: Callable[[], object]) -> str:
        master, slave = pty.openpty()
        with os.fdopen(slave, "w") as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            monkeypatch.setattr(sys, "stderr", stream)
            act()
            monkeypatch.undo()
        text = b""
        with contextlib.suppress(OSError):  # Linux: the other side is closed
            while data := os.read(master, 65536):
                text += data
        os.close(master)
        return text.decode().replace("\r\n", "\n")

    return shown


def result(*lines: str) -> Result:
    return Result(data={}, lines=lines)


FAILURE = Failure(code="rollback", message="old", hint="wait", exit_status=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    name: str


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (7, 7),
        ("text", "text"),
        (1.5, "1.5"),
        (Path("a/b"), "a/b"),
        (Digest.of(b"{}"), str(Digest.of(b"{}"))),
        (datetime(2026, 11, 21, 12, 0, tzinfo=UTC), "2026-11-21T12:00:00Z"),
        ((1, [2, {"a": (3,)}]), [1, [2, {"a": [3]}]]),
        (frozenset({"b", "a"}), ["a", "b"]),
        (Named(name="x"), {"name": "x"}),
        (
            Violation(rule="r", text="t"),
            {"rule": "r", "text": "t", "inconclusive": False},
        ),
    ],
)
def test_everything_becomes_json(value: Any, expected: object) -> None:
    assert as_json(value) == expected


@given(st.text())
def test_visible_text_is_printable_and_plain_text_stays(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\tb", r"a\tb"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b31m", r"\x9b31m"),
        ("abc\u202ecba", r"abc\u202ecba"),
        ("line\u2028feed", r"line\u2028feed"),
        ("\udcff", r"\udcff"),
        ("Übermaß · 41 kB …", "Übermaß · 41 kB …"),
    ],
)
def test_control_characters_are_spelt_out(text: str, expected: str) -> None:
    assert visible(text) == expected


def test_colour_only_marks_a_word_that_is_there_anyway(show: Show) -> None:
    text = show(lambda: write_result(result("verified x", "  y"), form="text"))
    assert text == "\x1b[32mverified\x1b[0m x\n  y\n"


def test_failure_is_coloured_on_a_terminal(show: Show) -> None:
    text = show(lambda: write_failure(FAILURE, form="text"))
    assert text == "\x1b[31merror:\x1b[0m old [rollback]\n\x1b[1mhint:\x1b[0m wait\n"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_can_be_declined(
    show: Show, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    text = show(lambda: write_result(result("verified x"), form="text"))
    assert text == "verified x\n"


def test_json_has_no_colour_on_a_terminal(show: Show) -> None:
    text = show(lambda: write_failure(FAILURE, form="json"))
    assert text.startswith('{\n  "ok": false,\n')
    assert "\x1b" not in text


def test_long_lines_are_wrapped_between_words_on_a_terminal(show: Show) -> None:
    digest = "a" * 64
    lines = [
        "  fresh       timestamp v94, issued 3 h ago, good for 3 d 21 h and more",
        f"  package     {digest}",
        "next: margo-supplychain app add acme/pump-monitor --release-key ci.pub",
    ]
    text = show(lambda: write_result(result(*lines), form="text"))
    assert text == (
        "  fresh       timestamp v94, issued 3 h ago, good for 3 d 21\n"
        "      h and more\n"
        "  package\n"
        f"      {digest}\n"
        f"{lines[2]}\n"
    )


def test_lines_are_never_wrapped_for_programs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = "word " * 100
    write_result(result(line), form="text")
    assert capsys.readouterr().out == line + "\n"


@pytest.mark.parametrize("columns", ["0", "many", "10"])
def test_odd_widths_do_not_wrap(
    show: Show, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    line = "word " * 30
    text = show(lambda: write_result(result(line), form="text"))
    assert text == line + "\n"


def test_closed_streams_are_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    write_result(result("x"), form="text")
    write_result(result("x"), form="json")
    write_failure(FAILURE, form="text")
    invocation = Invocation(verbosity=1)
    invocation.detail("x")
    invocation.line("x")


def test_streams_that_refuse_are_no_reason_to_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Full())
    invocation = Invocation(verbosity=1)
    invocation.note("x")
    invocation.end_progress()
    write_failure(FAILURE, form="text")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    invocation.note("x")


def test_notes_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    for verbosity in (-1, 0, 1):
        invocation = Invocation(verbosity=verbosity)
        invocation.note(f"note {verbosity}")
        invocation.detail(f"detail {verbosity}")
    assert stream.getvalue() == "note: note 0\nnote: note 1\nnote: detail 1\n"
