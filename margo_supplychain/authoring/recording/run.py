"""Running a step's command: what it was, how it ended, and nothing that nobody asked.

The command gets this process's terminal, directory and environment. What it prints on
either stream goes to one descriptor, by default this process's standard error: standard
output carries the result of who records. Signals that would end this process are handed
to the command, which is waited for; afterwards nothing is recorded.

Example:
    >>> run_command(["make"], keep_streams=False)  # doctest: +SKIP
    Ran(status=0, stdout=None, stderr=None)
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple, final

from margo_supplychain.authoring.recording.problems import shown
from margo_supplychain.errors import CommandFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType
    from typing import IO

MAX_STREAM: Final = 1 << 20  # bytes of each stream that are kept
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)
_PATIENCE: Final = 5.0  # seconds for what the command left behind to let go of a stream
_PIECE: Final = 1 << 16


class Stream(NamedTuple):
    """What a command printed on one stream.

    Args:
        text: the beginning, as text; bytes that are no UTF-8 are written as escapes.
        omitted: how many bytes came after it.
    """

    text: str
    omitted: int


class Ran(NamedTuple):
    """How a command ended.

    Args:
        status: its exit status, 0.
        stdout, stderr: what it printed, if that was asked for.
    """

    status: int
    stdout: Stream | None = None
    stderr: Stream | None = None


def run_command(
    command: Sequence[str],
    *,
    keep_streams: bool,
    label: str | None = None,
    output: int | None = None,
) -> Ran:
    """Run a command to its end, which has to be a success.

    Args:
        command: program and arguments; no shell reads them.
        keep_streams: also return what it prints.
        label: what errors call it, if the command itself should not be shown.
        output: an open descriptor, in place of standard error; both streams go there.

    Raises:
        CommandFailedError: it can't be started, ends with another status than 0 or by
            a signal, or leaves a process behind that holds its streams.
        KeyboardInterrupt: it was interrupted, or somebody asked this process to end.
    """
    name = shown(shlex.join(command) if label is None else label)
    if output is None:
        # Where the process was started without one, 2 is the number of any file.
        output = subprocess.DEVNULL if sys.__stderr__ is None else 2
    pipe = subprocess.PIPE if keep_streams else output
    with _forwarded() as asked:
        try:
            # Descriptors that hold a passphrase are not inherited.
            process = subprocess.Popen(  # noqa: S603 - running it is the purpose
                list(command), stdout=pipe, stderr=pipe
            )
        except (OSError, ValueError) as why:
            reason = why.strerror if isinstance(why, OSError) else None
            raise CommandFailedError(
                f"{name} can't be started: {reason or why}", status=None
            ) from why
        asked.process = process
        copies = [
            _Copy(stream, output)
            for stream in (process.stdout, process.stderr)
            if stream is not None
        ]
        status = _wait(process)
    if asked.number is not None:
        raise KeyboardInterrupt
    kept = [one.end(name) for one in copies]
    if status != 0:
        raise CommandFailedError(f"{name} {_ended(status)}", status=status)
    return Ran(status, *kept) if kept else Ran(status)


def _ended(status: int) -> str:
    if status > 0:
        return f"ended with exit status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process; Ctrl-C, which it got as well, is answered when it ended."""
    interrupted = False
    while True:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            if interrupted:
                process.kill()
            interrupted = True
            continue
        if interrupted:
            raise KeyboardInterrupt
        return status


@final
class _Asked:
    """Whether this process was asked to end, and which process hears of it."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, number: int, _: FrameType | None) -> None:
        self.number = number
        self._hand_on()

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        return self._process

    @process.setter
    def process(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        # It may have come while the process was started.
        self._hand_on()

    def _hand_on(self) -> None:
        if self._process is not None and self.number is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(self.number)


@contextmanager
def _forwarded() -> Iterator[_Asked]:
    """Hand on signals that would end this process, as long as the command runs."""
    asked = _Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread hears signals
        return
    before = {one: signal.getsignal(one) for one in _SIGNALS}
    # Who started this process with a signal ignored (nohup) wants it so.
    heard = [one for one, what in before.items() if what == signal.SIG_DFL]
    try:
        for one in heard:
            signal.signal(one, asked)
        yield asked
    finally:
        for one in heard:
            signal.signal(one, before[one])


@final
class _Copy:
    """A thread that passes a stream on and keeps its beginning."""

    def __init__(self, stream: IO[bytes], output: int) -> None:
        self._stream = stream
        self._output = output
        self._kept = bytearray()
        self._omitted = 0
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def end(self, name: str) -> Stream:
        """Return what was printed, once the stream has ended."""
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            raise CommandFailedError(
                f"{name} ended and left a process behind that holds its output",
                status=None,
                hint="let the command wait for what it starts, or record no streams",
            )
        text = bytes(self._kept).decode("utf-8", "backslashreplace")
        return Stream(text, self._omitted)

    def _copy(self) -> None:
        with self._stream, suppress(OSError, ValueError):
            while piece := os.read(self._stream.fileno(), _PIECE):
                self._keep(piece)
                with suppress(OSError):  # nobody reads it: the command goes on
                    _write(self._output, piece)

    def _keep(self, piece: bytes) -> None:
        room = MAX_STREAM - len(self._kept)
        self._kept += piece[:room]
        self._omitted += len(piece[room:])


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
