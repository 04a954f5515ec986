"""Reads from TLS that end although OpenSSL would not.

One call of OpenSSL reads records until one of them holds something for its caller. A
server that pours messages about the connection itself (new session tickets, key
updates) keeps it inside for as long as it likes, whatever the socket's time-out is, and
the caller's thread can't look at the clock. So a thread looks on, and shuts the socket
below a call that does not come back.

Cut is what was seen in several looks: a process that stands still as a whole, as on a
device that sleeps, has not waited.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Final

from margo_supplychain.transport.broken import BrokenError
from margo_supplychain.transport.line import shut

if TYPE_CHECKING:
    import socket
    from types import TracebackType

_LOOK: Final = 0.25  # seconds between two looks
_MOST_LOOKS: Final = 5  # at one call; an honest one is a record of 16 KiB
_LOOKS_TO_STAY: Final = 20  # without any call


class Watched:
    """A call on `wire` that is cut when it does not come back; one at a time.

    Raises:
        BrokenError: on leaving, when it was cut.
    """

    __slots__ = ("_wire",)

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire

    def __enter__(self) -> None:
        """The call begins."""
        _dog.watch(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        why: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The call has come back."""
        looks = _dog.forget(self)
        if looks >= _MOST_LOOKS and (why is None or isinstance(why, OSError)):
            text = "what came was TLS's own, and nothing of the answer"
            raise BrokenError(text, is_slow=True) from why

    def cut(self) -> None:
        """End the call from another thread."""
        shut(self._wire)


class _Dog:
    """The thread that looks on, while there are calls."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looks: dict[Watched, int] = {}
        self._is_awake = False

    def watch(self, call: Watched) -> None:
        with self._lock:
            self._looks[call] = 0
            if not self._is_awake:
                threading.Thread(
                    target=self._look_on, name="tls-watchdog", daemon=True
                ).start()
                self._is_awake = True

    def forget(self, call: Watched) -> int:
        """Return how often it was seen; after this its socket is not touched."""
        with self._lock:
            return self._looks.pop(call, 0)

    def _look_on(self) -> None:
        idle = 0
        while True:
            time.sleep(_LOOK)
            with self._lock:
                idle = 0 if self._looks else idle + 1
                if idle > _LOOKS_TO_STAY:
                    self._is_awake = False
                    return
                for call in self._looks:
                    self._looks[call] += 1
                    if self._looks[call] == _MOST_LOOKS:
                        call.cut()


_dog = _Dog()


def _begin_anew() -> None:
    """Threads don't come along into a forked process, and locks may be held there."""
    global _dog  # noqa: PLW0603 - whoever used it is not here
    _dog = _Dog()


os.register_at_fork(after_in_child=_begin_anew)
