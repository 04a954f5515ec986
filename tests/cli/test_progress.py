"""Progress: bars where somebody looks on, lines in logs, nothing for short work."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.cli import progress as module
from margo_supplychain.cli.invocation import Invocation
from margo_supplychain.cli.output import is_terminal
from margo_supplychain.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable

    Show = Callable[[Callable[[], object]], str]

DIGEST = "sha256:" + "0efd1feea313" + "0" * 52


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Show:
    """Run something that nobody watches; return the lines that it leaves in a log."""
    monkeypatch.setattr(module, "INTERVAL", 0.0)

    def shown(act: Callable[[], object]) -> str:
        stream = io.StringIO()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", stream)
            act()
        return stream.getvalue()

    return shown


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Show:
    """Run something whose stderr is a terminal; return all that was drawn."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(module, "PATIENCE", 0.0)

    def shown(act: Callable[[], object]) -> str:
        master, slave = pty.openpty()
        with os.fdopen(slave, "w") as stream, monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", stream)
            act()
        text = b""
        with contextlib.suppress(OSError):  # Linux: the other side is closed
            while data := os.read(master, 65536):
                text += data
        os.close(master)
        return text.decode().replace("\r\n", "\n")

    return shown


def work(invocation: Invocation) -> None:
    with progress(invocation) as tell:
        tell(DIGEST, 500_000, 2_000_000)
        tell("a\x1b[2J[bold]", 7, 0)
        tell(DIGEST, 2_000_000, 2_000_000)


def test_lines_for_a_log(log: Show) -> None:
    assert log(lambda: work(Invocation())).splitlines() == [
        "0 parts done, 500 kB; sha256:0efd1feea313 25 % of 2.0 MB",
        "0 parts done, 500 kB; a\\x1b[2J[bold] 7 B",
        "1 part done, 2.0 MB; sha256:0efd1feea313 100 % of 2.0 MB",
    ]


def test_a_part_that_is_begun_anew(log: Show) -> None:
    def act() -> None:
        with progress(Invocation()) as tell:
            tell("part", 900, 1000)
            tell("part", 100, 1000)
            tell("part", 1000, 1000)

    assert [line.partition(";")[0] for line in log(act).splitlines()] == [
        "0 parts done, 900 B",
        "0 parts done, 100 B",
        "1 part done, 1.0 kB",
    ]


def test_short_work_says_nothing(log: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL", 60.0)
    assert not log(lambda: work(Invocation()))


def test_quiet(log: Show, terminal: Show) -> None:
    assert not log(lambda: work(Invocation(verbosity=-1)))
    assert not terminal(lambda: work(Invocation(verbosity=-1)))


def test_bars_on_a_terminal(terminal: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    bars = pytest.importorskip("margo_supplychain.cli.bars")
    monkeypatch.setattr(bars, "_REFRESHES", 1e9)
    text = terminal(lambda: work(Invocation()))
    assert "sha256:0efd1feea313" in text
    assert "25 % of 2.0 MB" in text
    assert "a\\x1b[2J[bold]" in text  # a name is text: no escape, no markup
    assert "\x1b[2J" not in text
    assert "1 part done, 2.0 MB" in text
    assert text.endswith(("\x1b[?25h", "\x1b[2K"))  # gone, and the cursor is back


def test_a_part_that_ends_before_anybody_saw_it(
    terminal: Show,
) -> None:
    def act() -> None:
        with progress(Invocation()) as tell:
            tell("small", 2, 2)

    assert "1 part done, 2 B" in terminal(act)


def test_short_work_shows_no_bars(
    terminal: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 60.0)
    assert not terminal(lambda: work(Invocation()))


def test_a_terminal_that_can_not_draw_gets_lines(
    terminal: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    text = terminal(lambda: work(Invocation()))
    assert text.startswith("0 parts done, 500 kB; sha256:0efd1feea313 25 % of 2.0 MB\n")
    assert "\x1b" not in text


def test_notes_take_the_bars_away(
    terminal: Show,
) -> None:
    invocation = Invocation()

    def act() -> None:
        with progress(invocation) as tell:
            tell("part", 1, 2)
            invocation.note("half way")
            tell("part", 2, 2)

    text = terminal(act)
    assert "note: half way\n" in text
    assert text.index("part") < text.index("note:") < text.index("1 part done")
    assert invocation.showing is None


def test_a_terminal_that_is_gone_ends_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Gone())
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    assert is_terminal(sys.stderr)
    work(Invocation())
    monkeypatch.setattr(sys, "stderr", None)
    work(Invocation())


def test_several_threads_tell(log: Show) -> None:
    def act() -> None:
        with progress(Invocation()) as tell:

            def count(name: str) -> None:
                for done in range(1, 101):
                    tell(name, done, 100)

            threads = [
                threading.Thread(target=count, args=(f"p{number}",))
                for number in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    lines = log(act).splitlines()
    assert len(lines) == 400
    assert lines[-1].startswith("4 parts done, 400 B; ")


def test_rich_is_loaded_for_a_terminal_alone() -> None:
    code = (
        "import sys\n"
        "import margo_supplychain.cli.progress as p\n"
        "from margo_supplychain.cli.invocation import Invocation\n"
        "p.INTERVAL = 0.0\n"
        "with p.progress(Invocation()) as tell: tell('part', 1, 2)\n"
        "assert 'rich' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=True,
    )
    assert done.stderr == b"0 parts done, 1 B; part 50 % of 2 B\n"
