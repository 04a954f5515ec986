"""Blocking calls that end when their owner has waited enough.

Time-outs of sockets count from byte to byte, and some calls (a name look-up,
http.client on chunk sizes and trailers) read as often as the server likes. So each
attempt makes its calls in a thread of its own, while the owner's thread looks at the
clock and cuts the connection when that says so. Knows nothing of HTTP.

Example:
    >>> line = Line()
    >>> line.call(lambda: 1 + 1, look=lambda: 1.0)
    2
    >>> line.end()
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    Outcome = tuple[Any, BaseException | None]

Result = TypeVar("Result")

SHORTEST_LOOK: Final = 0.001
_TO_LEAVE: Final = 1.0  # seconds that a call may take to notice that it was cut


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
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # A daemon: a look-up that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=_work, args=(self._jobs,), daemon=True)
        self._thread.start()

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

        self._jobs.put(work)
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
                _shut(handle)

    def end(self) -> None:
        """Let the thread go."""
        self._jobs.put(None)

    def _cut(self) -> None:
        with self._lock:
            self._is_cut = True
            if self._handle is not None:
                _shut(self._handle)
        self.end()
        # Who still reads holds locks: closing its response now would hang.
        self._thread.join(_TO_LEAVE)
        self.is_stuck = self._thread.is_alive()


def _work(jobs: SimpleQueue[Callable[[], None] | None]) -> None:
    while (job := jobs.get()) is not None:
        job()


def _outcome(job: Callable[[], Any]) -> Outcome:
    try:
        return job(), None
    except BaseException as why:  # noqa: BLE001 - the owner raises it again
        return None, why


def _drop(outcome: Outcome, drop: Callable[[Any], None] | None) -> None:
    result, error = outcome
    if error is None and drop is not None:
        drop(result)


def _shut(handle: socket.socket) -> None:
    with suppress(OSError):
        handle.shutdown(socket.SHUT_RDWR)
