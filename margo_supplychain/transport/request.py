"""What is asked over HTTP, and who asks.

Knows neither urllib3 nor the network: a request is a value, a body is read while it is
sent, and a caller says what may be shown to whom.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, Protocol, Self

from margo_supplychain.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PIECE: Final = 1 << 18
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Caller(Protocol):
    """Speaks for the one who asks: credentials by origin."""

    def headers(self, url: str) -> Mapping[str, str]:
        """Return what may be shown to the origin of `url`; nothing for any other."""

    def challenged(self, url: str, status: int, headers: Mapping[str, str]) -> bool:
        """Say after a 401 whether `headers` has something new: ask once more."""


class _Anonymous:
    def headers(self, url: str) -> Mapping[str, str]:
        """Return nothing."""
        del url
        return NO_HEADERS

    def challenged(self, url: str, status: int, headers: Mapping[str, str]) -> bool:
        """Return False: there is nothing else to show."""
        del url, status, headers
        return False


ANONYMOUS: Final[Caller] = _Anonymous()


class Body:
    """What a request carries, read from `data` while it is sent.

    Args:
        data: read from where it stands now.
        size: how many bytes; they are announced, and all of them are sent.
        replayable: it can be read again from there; when left out, whether it seeks.
    """

    def __init__(
        self, data: BinaryIO, *, size: int, replayable: bool | None = None
    ) -> None:
        self._data = data
        self.size = size
        self.is_replayable = data.seekable() if replayable is None else replayable
        self._start = data.tell() if self.is_replayable else 0
        self._is_fresh = True
        self._is_begun = False
        # Of the attempt that was begun last. Another thread counts than looks at it.
        self.sent = 0

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return a body that is in memory."""
        return cls(io.BytesIO(data), size=len(data))

    def begin(self) -> None:
        """Stand at the first byte again.

        Raises:
            StorageError: `data` does not seek.
        """
        if not self._is_fresh:
            with self._reading():
                self._data.seek(self._start)
        self._is_fresh, self._is_begun = False, False
        self.sent = 0

    def note(self, count: int) -> None:
        """Take note that the socket took `count` bytes, of whatever it is sent."""
        # The request's head comes before the first piece.
        if self._is_begun:
            self.sent += count

    # Not called `read`: urllib3 would take the body for a file and cut it up itself.
    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes in pieces.

        Raises:
            StorageError: `data` can't be read, or ends early.
        """
        self._is_begun = True
        left = self.size
        while left:
            with self._reading():
                piece = self._data.read(min(left, _PIECE))
            if not piece:
                text = f"what is sent ends after {self.size - left} bytes"
                raise StorageError(f"{text}, expected {self.size}", path=self._name)
            left -= len(piece)
            yield piece

    @property
    def _name(self) -> str:
        return str(getattr(self._data, "name", ""))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        # An OSError would be taken for the connection's, and tried again.
        try:
            yield
        except OSError as why:
            text = f"can't read what is sent: {why.strerror or why}"
            raise StorageError(text, path=self._name) from why


class Request(NamedTuple):
    """One question; a header that the engine sets itself is replaced by this one."""

    method: str
    url: str
    headers: Mapping[str, str] = NO_HEADERS
    body: bytes | Body | None = None
