"""Running a command: how it ends, what it prints, and who hears of signals."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.recording import run as module
from margo_supplychain.authoring.recording.run import Ran, Stream, run_command
from margo_supplychain.errors import CommandFailedError

if TYPE_CHECKING:
    from pathlib import Path


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_a_command_that_succeeds() -> None:
    assert run_command(python("pass"), keep_streams=False) == Ran(0)


def test_what_it_prints_is_passed_on_and_kept(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        ran = run_command(
            python("import sys; print('out'); print('err', file=sys.stderr)"),
            keep_streams=True,
            output=file.fileno(),
        )
    assert ran == Ran(0, Stream("out\n", 0), Stream("err\n", 0))
    together = (tmp_path / "out").read_text().replace("\n", "")
    assert together in {"outerr", "errout"}


def test_only_the_beginning_is_kept(tmp_path: Path) -> None:
    program = f"import sys; sys.stdout.write('x' * {module.MAX_STREAM + 10})"
    with (tmp_path / "out").open("wb") as file:
        ran = run_command(python(program), keep_streams=True, output=file.fileno())
    assert ran.stdout is not None
    assert (len(ran.stdout.text), ran.stdout.omitted) == (module.MAX_STREAM, 10)
    assert (tmp_path / "out").stat().st_size == module.MAX_STREAM + 10


def test_nobody_has_to_read_it(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ran = run_command(python("print('out')"), keep_streams=True, output=writer)
    finally:
        os.close(writer)
    assert ran.stdout == Stream("out\n", 0)


def test_without_a_standard_error_nothing_is_written_to_its_number(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "__stderr__", None)
    for keep in (False, True):
        run_command(python("print('out')"), keep_streams=keep)
    assert capfd.readouterr() == ("", "")


def test_what_should_not_be_shown_has_another_name() -> None:
    with pytest.raises(CommandFailedError, match=r"^a label ended with exit status 1$"):
        run_command(python("raise SystemExit(1)"), keep_streams=False, label="a label")


@pytest.mark.parametrize(
    ("program", "message", "status"),
    [
        ("raise SystemExit(7)", "ended with exit status 7", 7),
        ("import os; os.kill(os.getpid(), 15)", "was ended by SIGTERM", -15),
        ("import os; os.kill(os.getpid(), 40)", "was ended by signal 40", -40),
    ],
)
def test_a_command_that_fails(program: str, message: str, status: int) -> None:
    with pytest.raises(CommandFailedError, match=message) as why:
        run_command(python(program), keep_streams=False)
    assert why.value.facts() == {"status": status}
    assert why.value.exit_status == 1


@pytest.mark.parametrize("command", [["/nowhere/x"], ["a\0b"], ["/etc"]])
def test_a_command_that_does_not_start(command: list[str]) -> None:
    with pytest.raises(CommandFailedError, match="can't be started: ") as why:
        run_command(command, keep_streams=False)
    assert why.value.status is None


def test_what_it_leaves_behind_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    left = "import time; time.sleep(3)"
    program = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {left!r}])"
    )
    with pytest.raises(CommandFailedError, match="left a process behind that holds"):
        run_command(python(program), keep_streams=True)
    assert run_command(python(program), keep_streams=False) == Ran(0)


def test_open_descriptors_are_not_inherited(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    program = f"import os\ntry: os.fstat({reader})\nexcept OSError: raise SystemExit(0)"
    program += "\nraise SystemExit(1)"
    try:
        assert run_command(python(program), keep_streams=False).status == 0
    finally:
        os.close(reader)
        os.close(writer)


def interrupting(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let Ctrl-C come while the command is waited for, so many times."""
    import subprocess

    real = subprocess.Popen.wait
    left = [times]

    def wait(self: Any, timeout: float | None = None) -> int:
        if timeout is None and left[0]:
            left[0] -= 1
            raise KeyboardInterrupt
        return real(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)


def test_ctrl_c_waits_for_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    interrupting(monkeypatch, 1)
    program = f"open({str(tmp_path / 'ended')!r}, 'w')"
    with pytest.raises(KeyboardInterrupt):
        run_command(python(program), keep_streams=False)
    assert (tmp_path / "ended").exists()


def test_the_second_ctrl_c_kills_it(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupting(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        run_command(python("import time; time.sleep(60)"), keep_streams=False)


def test_signals_are_handed_on_and_end_the_recording(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    program = (
        "import os, signal, time\n"
        "def end(*_):\n"
        f"    open({str(heard)!r}, 'w').close()\n"
        "    raise SystemExit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "time.sleep(60)\n"
    )
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        run_command(python(program), keep_streams=False)
    assert heard.exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_while_it_is_started_is_handed_on(tmp_path: Path) -> None:
    asked = module._Asked()
    sent: list[int] = []

    class Process:
        def send_signal(self, number: int) -> None:
            sent.append(number)
            raise ProcessLookupError

    asked(signal.SIGHUP, None)
    assert sent == []
    asked.process = Process()  # type: ignore[assignment]  # all that is used of one
    assert sent == [signal.SIGHUP]
    assert asked.process is not None


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        program = "import os, signal, sys; os.kill(os.getppid(), signal.SIGHUP)"
        assert run_command(python(program), keep_streams=False) == Ran(0)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_a_thread_of_somebody_else() -> None:
    found: list[Ran] = []
    thread = threading.Thread(
        target=lambda: found.append(run_command(python("pass"), keep_streams=False))
    )
    thread.start()
    thread.join()
    assert found == [Ran(0)]
