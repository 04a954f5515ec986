"""The answer to one request: its headers, and its body as it comes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from urllib3 import exceptions

from margo_supplychain.transport.broken import BrokenError, broken
from margo_supplychain.transport.direct import Direct
from margo_supplychain.transport.quiet import quiet
from margo_supplychain.transport.wire import Heard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from urllib3.response import BaseHTTPResponse

    from margo_supplychain.transport.line import Line

_PIECE: Final = 1 << 18
_SMALL: Final = 1 << 16
_TO_DISCARD: Final = 1.0


class Response:
    """One answer; used by one owner.

    `tells_its_end` says whether a body that was cut differs from a whole one.

    Args:
        response: nothing of its body was read.
        url: what was asked for.
        line: that asked.
        patience: seconds without a single byte.
    """

    def __init__(
        self, response: BaseHTTPResponse, url: str, *, line: Line, patience: float
    ) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.url = url
        self._response = response
        self._line: Line | None = line
        heard = getattr(response, "_original_response", None)
        self.tells_its_end = isinstance(heard, Heard) and heard.tells_its_end
        self._kept: memoryview | None = None
        self._direct = Direct.of(response, patience=patience)
        if self._direct is not None:
            self._release_line()

    def read_into(self, buffer: memoryview, *, look: Callable[[], float]) -> int:
        """Fill `buffer` with what is there; wait for one byte; 0 at the end.

        Args:
            buffer: longer than nothing.
            look: see `Line.call`.

        Raises:
            BrokenError: the connection ended before the answer did.
        """
        if self._kept is not None:
            count = min(len(buffer), len(self._kept))
            buffer[:count], self._kept = self._kept[:count], self._kept[count:]
            return count
        if self._direct is not None:
            return self._direct.read_into(buffer, look)
        return self._read_on_line(buffer, look)

    def keep(self, *, look: Callable[[], float]) -> None:
        """Read a small body into memory, so that its connection is free.

        Raises:
            BrokenError: as `read_into`.
        """
        buffer = memoryview(bytearray(_SMALL))
        filled = 0
        while filled < _SMALL and (count := self.read_into(buffer[filled:], look=look)):
            filled += count
        self._kept = buffer[:filled]
        self.close()

    def discard(self) -> None:
        """Read what is left if that is soon done, so that the connection can be used.

        Else it ends.
        """
        ends = time.monotonic() + _TO_DISCARD

        def look() -> float:
            left = ends - time.monotonic()
            if left <= 0:
                raise BrokenError("more was to come", is_slow=True)
            return left

        try:
            if self._kept is None:
                self.keep(look=look)
        except BrokenError:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Give the connection back, or end it when bytes are left in it."""
        is_stuck = self._release_line()
        if not is_stuck:
            # An answer that was read to its end has already been given back.
            self._response.close()

    def _release_line(self) -> bool:
        line, self._line = self._line, None
        if line is None:
            return False
        line.end()
        return line.is_stuck

    def _read_on_line(self, buffer: memoryview, look: Callable[[], float]) -> int:
        """Read what only urllib3 understands: chunks, no length, TLS inside of TLS."""
        line = self._line
        if line is None:
            raise RuntimeError("read after the end")
        most = min(len(buffer), _PIECE)

        def take() -> bytes:
            try:
                with quiet():
                    return self._response.read1(most, decode_content=False) or b""
            except (exceptions.HTTPError, OSError) as why:
                raise broken(why) from why

        # Into memory of its own: a line that is stuck may still write there later.
        data = line.call(take, look=look)
        if len(data) > len(buffer):
            raise BrokenError("more came than there was room for", is_final=True)
        buffer[: len(data)] = data
        return len(data)
