"""Streams that end where their signed size says, or fail.

A stream gives at most one byte beyond the size: enough for its reader to see that the
content is not the signed one, and no endless data. It checks no digest.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, cast

from margo_supplychain.errors import FetchError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable


class BoundedStream(io.RawIOBase):
    """Reads through `read_into` up to one byte beyond `left`.

    `readinto` gives what is there, so that its caller can look at the clock between
    pieces; `read` waits for as much as it was asked for, as a file's does.

    Args:
        read_into: fills a buffer from its beginning and returns how much; 0 at the end.
        left: bytes that should come.
        url: where they come from, for errors.
    """

    def __init__(
        self, read_into: Callable[[memoryview], int | None], *, left: int, url: str
    ) -> None:
        super().__init__()
        self._read_into = read_into
        self._left = left
        self._url = url

    def as_binary(self) -> BinaryIO:
        """Return itself, typed as what `Source` promises."""
        # typeshed's BinaryIO is nominal, and RawIOBase is not one.
        return cast("BinaryIO", self)

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Read `size` bytes, or to the end; fewer only at the end.

        Raises:
            TooLargeError, FetchError: as `readinto`.
        """
        if size is None or size < 0:
            return self.readall()
        buffer = bytearray(min(size, self._left + 2))
        filled = 0
        with memoryview(buffer) as view:
            while filled < len(view) and (count := self.readinto(view[filled:])):
                filled += count
        return bytes(buffer[:filled])

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # RawIOBase takes any buffer
        """Fill `buffer` with what comes next; 0 at the end.

        Raises:
            TooLargeError: more bytes come than should.
            FetchError: the source failed.
        """
        if self._left < 0:
            raise TooLargeError(
                f"{self._url} goes on after its signed size", url=self._url
            )
        try:
            count = self._read_into(memoryview(buffer)[: self._left + 1]) or 0
        except OSError as why:
            raise FetchError(
                f"can't read {self._url}: {why.strerror or why}", url=self._url
            ) from why
        self._left -= count
        return count


def read_at_most(
    stream: BinaryIO,
    limit: int,
    *,
    url: str,
    tick: Callable[[int], None] | None = None,
) -> bytes:
    """Read to the end.

    Args:
        tick: called with the size of each piece; may raise.

    Raises:
        TooLargeError: there are more than `limit` bytes.
    """
    pieces = []
    left = limit
    while piece := stream.read(min(left + 1, 1 << 16)):
        left -= len(piece)
        if left < 0:
            raise TooLargeError(
                f"{url} is larger than the limit of {limit} bytes", url=url
            )
        pieces.append(piece)
        if tick is not None:
            tick(len(piece))
    return b"".join(pieces)
