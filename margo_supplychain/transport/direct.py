"""Bodies that go straight from the socket into the reader's buffer.

The owner's own thread reads: there is no copy, no other thread, and so nobody who could
write into that buffer after it was hashed. The socket does not block; what is waited
for is `poll`, between two looks at the clock; `watchdog` ends what TLS would not.

Reads below urllib3 and http.client, and leaves both as if they had read themselves:
the connection of a body that was read to its end is used again.
"""

from __future__ import annotations

import io
import select
import socket
import ssl
import time
from contextlib import nullcontext
from math import ceil
from typing import TYPE_CHECKING, Final

from margo_supplychain.transport.broken import BrokenError, broken
from margo_supplychain.transport.line import SHORTEST_LOOK
from margo_supplychain.transport.watchdog import Watched
from margo_supplychain.transport.wire import Heard

if TYPE_CHECKING:
    from collections.abc import Callable

    from urllib3.response import BaseHTTPResponse

# In a row, before the clock is looked at.
_MOST_READS: Final = 64
_LONGEST_ROW: Final = 0.5
_WAIT: Final = (BlockingIOError, ssl.SSLWantReadError)


class Direct:
    """A body with a length; used by one owner.

    Args:
        response: urllib3's; nothing of its body was read.
        heard: http.client's below it.
        patience: seconds without a single byte.
    """

    @classmethod
    def of(cls, response: BaseHTTPResponse, *, patience: float) -> Direct | None:
        """Return None for a body that only urllib3 and http.client understand."""
        heard = getattr(response, "_original_response", None)
        if (
            not isinstance(heard, Heard)
            # Not a subclass: its bytes might pass through something else.
            or type(heard.wire) not in {socket.socket, ssl.SSLSocket}
            or heard.chunked
            or heard.length is None
            # They read contradictory headers differently.
            or heard.length != response.length_remaining
        ):
            return None
        return cls(response, heard, patience=patience)

    def __init__(
        self, response: BaseHTTPResponse, heard: Heard, *, patience: float
    ) -> None:
        self._response = response
        self._heard = heard
        self._wire: socket.socket = heard.wire
        self._left = response.length_remaining or 0
        self._patience = patience
        self._poll = select.poll()
        self._is_dry = False
        is_tls = isinstance(self._wire, ssl.SSLSocket)
        self._watched = Watched(self._wire) if is_tls else nullcontext()
        if not self._left:
            self._finish()

    def read_into(self, buffer: memoryview, look: Callable[[], float]) -> int:
        """Fill `buffer` with what is there; wait for one byte; 0 at the end.

        Raises:
            BrokenError: the connection ended before the body did.
        """
        if not self._left:
            return 0
        try:
            count = self._read(buffer[: self._left], look)
        except OSError as why:
            raise broken(why) from why
        if not count:
            raise BrokenError("the connection ended early")
        self._left -= count
        if not self._left:
            self._finish()
        return count

    def _read(self, buffer: memoryview, look: Callable[[], float]) -> int:
        self._wire.settimeout(0)
        filled = 0 if self._is_dry else self._read_buffered(buffer)
        ends = time.monotonic() + _LONGEST_ROW
        for _ in range(_MOST_READS):
            if filled == len(buffer) or (filled and time.monotonic() > ends):
                break
            try:
                with self._watched:
                    count = self._wire.recv_into(buffer[filled:])
            except _WAIT:
                if filled:
                    break
                self._wait(select.POLLIN, look)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT, look)
            else:
                if not count:
                    break
                filled += count
        return filled

    def _read_buffered(self, buffer: memoryview) -> int:
        # Some of the body may have come with the headers, into the file of http.client.
        most = min(len(buffer), io.DEFAULT_BUFFER_SIZE)
        try:
            with self._watched:
                data = self._heard.fp.read1(most) or b""
        except (*_WAIT, ssl.SSLWantWriteError):
            data = b""
        # read1 asks the socket only when nothing was left from before.
        self._is_dry = len(data) < most
        buffer[: len(data)] = data
        return len(data)

    def _wait(self, what: int, look: Callable[[], float]) -> None:
        self._poll.register(self._wire, what)
        ends = time.monotonic() + self._patience
        while True:
            pause = min(look(), ends - time.monotonic())
            if self._poll.poll(ceil(1000 * max(pause, SHORTEST_LOOK))):
                return
            if time.monotonic() >= ends:
                raise BrokenError("nothing came any more", is_slow=True)

    def _finish(self) -> None:
        self._wire.settimeout(self._patience)
        self._heard.close()
        self._response.length_remaining = 0
        self._response.release_conn()
