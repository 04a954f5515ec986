"""Blocking calls that end when their owner has waited enough.

Time-outs of sockets count from byte to byte, and some calls (a name look-up,
http.client on headers, chunk sizes and trailers) read as often as the server likes. So
they are made in another thread, while the owner's thread looks at the clock and cuts
the connection when that says so. Knows nothing of HTTP.

A thread serves one line after the other: starting one costs more than a small request.

Example:
    >>> line = Line()
    >>> line.call(lambda: 1 + 1, look=lambda: 1.0)
    2
    >>> line.end()
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    Outcome = tuple[Any, BaseException | None]

Result = TypeVar("Result")

SHORTEST_LOOK: Final = 0.001
_TO_LEAVE: Final = 1.0  # seconds that a call may take to notice that it was cut
_TO_STAY: Final = 5.0  # seconds that a thread without a line waits for the next
_MOST_IDLE: Final = 8


class Line:
    """One attempt's thread and connection; used by one owner.

    `is_stuck` says that the thread did not leave although its connection was cut: what
    it was called for may still be in use.
    """

    def __init__(self) -> None:
        self.is_stuck = False
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._is_cut = False
        self._worker: _Worker | None = _hire()

    @property
    def is_cut(self) -> bool:
        """Whether nobody waits any more for what the current job does."""
        return self._is_cut

    def call(
        self,
        job: Callable[[], Result],
        *,
        look: Callable[[], float],
        drop: Callable[[Result], None] | None = None,
    ) -> Result:
        """Return what `job` returns, or raise what it raises.

        Args:
            job: made in the line's thread.
            look: called again and again meanwhile; returns for how many seconds not to
                call it. When it raises, the connection is cut and the line is of no
                use any more.
            drop: takes what `job` returned to a line that was cut.
        """
        if self._worker is None:
            raise RuntimeError("called after the end")
        # In a box: the thread keeps nothing alive that the owner has taken out.
        box: list[Outcome] = []
        done = threading.Event()

        def work() -> None:
            box.append(_outcome(job))
            with self._lock:
                if not self._is_cut:
                    done.set()
                    return
            _drop(box.pop(), drop)

        self._worker.jobs.put(work)
        is_done = False
        try:
            while not is_done:
                is_done = done.wait(max(look(), SHORTEST_LOOK))
        finally:
            if not is_done:
                self._cut()
                if done.is_set():
                    _drop(box.pop(), drop)
        result, error = box.pop()
        try:
            if error is not None:
                raise error
            return result  # type: ignore[no-any-return]  # the queue holds anything
        finally:
            # An error that its own traceback holds would keep sockets open.
            del error

    def hold(self, handle: socket.socket) -> None:
        """Take note of the socket that the current job uses, to cut it."""
        with self._lock:
            self._handle = handle
            if self._is_cut:
                shut(handle)

    def end(self) -> None:
        """Let the thread go; nothing is called after this."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.rest()

    def _cut(self) -> None:
        with self._lock:
            self._is_cut = True
            if self._handle is not None:
                shut(self._handle)
        worker, self._worker = self._worker, None
        if worker is not None:
            # Who still reads holds locks: closing its response now would hang.
            self.is_stuck = not worker.leave()


# --- threads -------------------------------------------------------------------------


class _Worker:
    """A thread that does one job after the other."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # A daemon: a look-up that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def rest(self) -> None:
        """Wait for the next line, or leave when enough others do."""
        with _idle_lock:
            if len(_idle) < _MOST_IDLE:
                _idle.append(self)
                # Its patience begins anew.
                self.jobs.put(_nothing)
                return
        self.jobs.put(None)

    def leave(self) -> bool:
        """Return whether the thread ended soon."""
        self.jobs.put(None)
        self._thread.join(_TO_LEAVE)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            try:
                job = self.jobs.get(timeout=_TO_STAY)
            except Empty:
                if self._is_spare():
                    return
                continue
            if job is None:
                return
            job()
            # What it used must not live on until the next one comes.
            del job

    def _is_spare(self) -> bool:
        with _idle_lock:
            if self not in _idle:
                return False
            _idle.remove(self)
            return True


_idle: list[_Worker] = []
_idle_lock = threading.Lock()


def _hire() -> _Worker:
    with _idle_lock:
        if _idle:
            return _idle.pop()
    return _Worker()


def _forget() -> None:
    """Threads don't come along into a forked process."""
    global _idle_lock  # noqa: PLW0603 - it may be held by a thread that is not here
    _idle_lock = threading.Lock()
    _idle.clear()


os.register_at_fork(after_in_child=_forget)


def _nothing() -> None:
    return


def _outcome(job: Callable[[], Any]) -> Outcome:
    try:
        return job(), None
    except BaseException as why:  # noqa: BLE001 - the owner raises it again
        return None, why


def _drop(outcome: Outcome, drop: Callable[[Any], None] | None) -> None:
    result, error = outcome
    if error is None and drop is not None:
        drop(result)


def shut(handle: socket.socket) -> None:
    """End what anybody does with a socket, whatever lies above it."""
    # Not `handle.shutdown`: that of TLS forgets its keys, and who still reads would be
    # given the bytes as they came.
    with suppress(OSError):
        socket.socket.shutdown(handle, socket.SHUT_RDWR)
