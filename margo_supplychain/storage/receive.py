"""Bytes on their way to a file, hashed as they pass.

Nothing has a name before its size and digest are right. One buffer serves the whole
stream, and no more than one byte beyond the expected size is ever asked for.

Example:
    >>> import io
    >>> from margo_supplychain.formats.oci import EMPTY
    >>> check_stream(EMPTY, io.BytesIO(b"{}"), subject="the empty config")
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

from margo_supplychain.errors import DigestMismatchError, LengthMismatchError
from margo_supplychain.storage import durable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor

BUFFER: Final = 1 << 20


class Begun(NamedTuple):
    """What was read before, of content that goes on: its hash, and how much it is."""

    hasher: Any
    size: int


def check_stream(
    what: Descriptor,
    data: BinaryIO,
    *,
    subject: str,
    write: Callable[[memoryview], None] | None = None,
    tick: Callable[[int], None] | None = None,
    begun: Begun | None = None,
) -> None:
    """Read unverified `data` to its end and compare it with `what`.

    Args:
        what: the size and digest to find.
        data: the bytes.
        subject: what they are called in errors.
        write: takes each piece before anything is known about the whole.
        tick: called with the size of each piece.
        begun: what comes before `data`.

    Raises:
        LengthMismatchError: it ends early or goes on.
        DigestMismatchError: other bytes of the same size.
    """
    hasher, seen = begun or Begun(hashlib.new(what.digest.algorithm), 0)
    buffer = memoryview(bytearray(min(BUFFER, what.size + 1 - seen)))
    read_into = getattr(data, "readinto", None) or _by_copy(data)
    # The one byte more tells a stream that ends from one that goes on.
    while count := read_into(buffer[: what.size + 1 - seen]):
        seen += count
        if seen > what.size:
            raise LengthMismatchError(
                f"{subject} is larger than the {what.size} bytes that are signed",
                subject=subject,
                expected=what.size,
                found=None,
            )
        piece = buffer[:count]
        hasher.update(piece)
        if write is not None:
            write(piece)
        if tick is not None:
            tick(count)
    if seen != what.size:
        raise LengthMismatchError(
            f"{subject} has {seen} bytes, expected {what.size}",
            subject=subject,
            expected=what.size,
            found=seen,
        )
    if hasher.hexdigest() != what.digest.hex:
        found = f"{what.digest.algorithm}:{hasher.hexdigest()}"
        raise DigestMismatchError(
            f"{subject} has digest {found}, expected {what.digest}",
            subject=subject,
            expected=str(what.digest),
            found=found,
        )


def read_exact(
    what: Descriptor,
    data: BinaryIO,
    *,
    subject: str,
    tick: Callable[[int], None] | None = None,
) -> bytes:
    """Return unverified `data` if it is exactly `what`; for small files.

    Raises:
        LengthMismatchError, DigestMismatchError: other bytes.
    """
    found = bytearray()
    check_stream(what, data, subject=subject, write=found.extend, tick=tick)
    return bytes(found)


def receive(
    path: Path,
    what: Descriptor,
    data: BinaryIO,
    *,
    subject: str,
    mode: int = 0o644,
    tick: Callable[[int], None] | None = None,
) -> None:
    """Write unverified `data` to `path` if it is exactly `what`.

    Whatever had the name is replaced: only what was hashed on its way keeps it.

    Raises:
        LengthMismatchError, DigestMismatchError: other bytes; nothing is left.
        StorageError: the file could not be written.
    """
    durable.make_directory(path.parent)
    with durable.storage_errors(path, "write"):
        with durable.temporary_file(path.parent, mode) as (temporary, descriptor):

            def write(piece: memoryview) -> None:
                durable.write_all(descriptor, piece)

            check_stream(what, data, subject=subject, write=write, tick=tick)
            durable.operations.sync_file(descriptor)
            durable.operations.replace(temporary, path)
        durable.operations.sync_directory(path.parent)


def _by_copy(data: BinaryIO) -> Callable[[Any], int]:
    def read_into(buffer: memoryview) -> int:
        piece = data.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    return read_into
