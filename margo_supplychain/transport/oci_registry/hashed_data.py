"""What is sent, hashed while it leaves, and read again from where it broke off."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from margo_supplychain.errors import (
    DigestMismatchError,
    LengthMismatchError,
    StorageError,
    SupplyChainError,
)
from margo_supplychain.formats.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from margo_supplychain.formats.digests import Descriptor

_PIECE: Final = 1 << 18


class HashedData:
    """Data that is hashed while it is read, and can be read again from a position.

    Args:
        what: digest and size that are promised.
        data: read from where it stands now.
        name: of the data, in errors.
    """

    def __init__(self, what: Descriptor, data: BinaryIO, name: str) -> None:
        self._what = what
        self._data = data
        self._name = name
        self.can_rewind = data.seekable()
        self._base = data.tell() if self.can_rewind else 0
        self._hash = hashlib.new(what.digest.algorithm)
        self.position = 0
        self.furthest = 0
        self.failure: SupplyChainError | None = None  # of whoever gives the data
        # Where the chunk began: the hash can be continued from there.
        self._mark = 0, self._hash.copy()
        self._reader: _Chunk | None = None

    def chunk(self) -> BinaryIO:
        """Return a reader of what comes next; the one before is over."""
        self._mark = self.position, self._hash.copy()
        self._retire()
        self._reader = _Chunk(self)
        # typeshed's BinaryIO is nominal; a body only reads.
        return cast("BinaryIO", self._reader)

    def _retire(self) -> None:
        # A thread that is stuck in a request must not read on beside us.
        if self._reader is not None:
            self._reader.end()
            self._reader = None

    def take(self, size: int) -> bytes:
        """Read and hash; as many as there are.

        Raises:
            LengthMismatchError: there are none.
        """
        with self._reading():
            piece = self._data.read(size)
        if size and not piece:
            raise self._wrong_size(self.position)
        self._hash.update(piece)
        self.position += len(piece)
        self.furthest = max(self.furthest, self.position)
        return piece

    def rest(self) -> bytes:
        """Return everything that comes next, which is little."""
        pieces = []
        while self.position < self._what.size:
            pieces.append(self.take(self._what.size - self.position))
        return b"".join(pieces)

    def rewind(self, position: int) -> None:
        """Stand at `position`, which was read before."""
        self._retire()
        begin, state = self._mark
        if position < begin:
            begin, state = 0, hashlib.new(self._what.digest.algorithm)
        with self._reading():
            self._data.seek(self._base + begin)
        self.position, self._hash = begin, state.copy()
        while self.position < position:
            self.take(min(position - self.position, _PIECE))

    def check(self) -> Digest:
        """Return the digest of everything, if it is the promised one.

        Raises:
            LengthMismatchError, DigestMismatchError: it is not.
        """
        self._retire()
        with self._reading():
            is_more = bool(self._data.read(1))
            if self.can_rewind:
                self._data.seek(self._base + self.position)
        if is_more:
            raise self._wrong_size(None)
        found = Digest(self._what.digest.algorithm, self._hash.hexdigest())
        if found != self._what.digest:
            raise DigestMismatchError(
                f"{self._name} has the digest {found}, expected {self._what.digest}",
                subject=self._name,
                expected=str(self._what.digest),
                found=str(found),
                hint="nothing was stored: what is sent changed since it was described",
            )
        return found

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as why:
            raise StorageError(
                f"can't read what is sent: {why.strerror or why}",
                path=str(getattr(self._data, "name", "")),
            ) from why
        except SupplyChainError as why:
            # It may come from another registry: not to be taken for this one's.
            self.failure = why
            raise

    def _wrong_size(self, found: int | None) -> LengthMismatchError:
        has = "more bytes" if found is None else f"{found} bytes"
        return LengthMismatchError(
            f"{self._name} has {has}, expected {self._what.size}",
            subject=self._name,
            expected=self._what.size,
            found=found,
            hint="nothing was stored: what is sent changed since it was described",
        )


class _Chunk:
    """What the body of one request reads; another thread may be in it."""

    def __init__(self, data: HashedData) -> None:
        self._data: HashedData | None = data
        self._lock = threading.Lock()

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes; none when it is over."""
        with self._lock:
            return b"" if self._data is None else self._data.take(size)

    def end(self) -> None:
        """Give nothing more."""
        with self._lock:
            self._data = None
