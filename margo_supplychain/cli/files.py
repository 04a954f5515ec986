"""Files that the command line names.

Example:
    >>> read_named(Path("offline.pub"), limit=16_384, what="a key")
    Traceback (most recent call last):
    margo_supplychain.errors.FormatError: offline.pub: no such file, expected a key
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.errors import FormatError
from margo_supplychain.storage.durable import open_regular, storage_errors

if TYPE_CHECKING:
    from pathlib import Path


def read_named(path: Path, *, limit: int, what: str) -> bytes:
    """Read a file that somebody named, of at most `limit` bytes.

    Args:
        path: the file.
        limit: more is not read.
        what: what it should be, such as `a key`.

    Raises:
        FormatError: there is none, or it is larger.
        StorageError: not a regular file, or not readable.
    """
    try:
        with (
            storage_errors(path, "read", missing_passes=True),
            open_regular(path) as stream,
        ):
            data = stream.read(limit + 1)
    except FileNotFoundError as why:
        raise FormatError(
            f"{path}: no such file, expected {what}",
            where=str(path),
            hint="name a file that is there",
        ) from why
    if len(data) > limit:
        raise FormatError(
            f"{path} has more than {limit} bytes, expected {what}", where=str(path)
        )
    return data
