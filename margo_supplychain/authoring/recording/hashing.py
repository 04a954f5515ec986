r"""sha256 of many files, on every core: as a module, and as a program of its own.

Threads of one interpreter take turns for every small file, so further cores are used
by processes. Each runs this file alone (standard library, isolated mode), reads from
its standard input what to hash and answers with one record per file. A file is opened
without following a link, and counts only if it is the very file that was looked at
before: same device, inode, kind, size and times.

Example:
    >>> hash_file("margo.yaml", identity_of(os.lstat("margo.yaml")))  # doctest: +SKIP
    b"\x0e\xfd..."
"""

from __future__ import annotations

import os
import struct
import sys
from hashlib import sha256
from operator import attrgetter

# Not typing's own: to import it is half of what the program needs to start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Final

CHANGED: Final = b""
"""The answer for a file that is not what it was, or can't be read any more."""

_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PIECE: Final = 1 << 18  # bytes; what a core's cache holds
_HEAD: Final = struct.Struct("<HQQQQqq")  # length of the path, then its identity
_DIGEST: Final = 32  # bytes


Identity = tuple[int, int, int, int, int, int]
"""Device, inode, mode, size, and when content and file last changed (ns).

The last of them can't be set back by whoever writes to the file. A plain tuple: there
are as many as files, several times over.
"""

SIZE: Final = 3
CHANGED_AT: Final = 5
identity_of: Callable[[os.stat_result], Identity] = attrgetter(
    "st_dev", "st_ino", "st_mode", "st_size", "st_mtime_ns", "st_ctime_ns"
)
"""Return the identity of a file that was looked at."""


def hash_file(
    path: str | bytes, identity: Identity, *, base: int | None = None
) -> bytes:
    """Return the sha256 of a regular file, or CHANGED if it is not that file.

    It may still change while it is read: who asks looks at it once more afterwards.

    Args:
        path: from `base`, an open directory, or from the current one.
        identity: what was seen of it.
        base: an open directory.
    """
    try:
        descriptor = os.open(path, _FLAGS, dir_fd=base)
    except OSError:
        return CHANGED
    try:
        if identity_of(os.fstat(descriptor)) != identity:
            return CHANGED
        return _hash(descriptor, identity[SIZE])
    except OSError:
        return CHANGED
    finally:
        os.close(descriptor)


def _hash(descriptor: int, size: int) -> bytes:
    if size <= _PIECE:
        data = os.read(descriptor, size + 1)
        return sha256(data).digest() if len(data) == size else CHANGED
    found = sha256()
    buffer = bytearray(_PIECE)
    view = memoryview(buffer)
    rest = size
    # Never more than its size: a file that grows must not be read for ever.
    while rest and (count := os.readv(descriptor, [view[:rest]])):
        found.update(view[:count])
        rest -= count
    return CHANGED if rest or os.read(descriptor, 1) else found.digest()


def question(files: Iterable[tuple[bytes, Identity]]) -> bytes:
    """Return what a process is told to hash."""
    return b"".join(_HEAD.pack(len(path), *identity) + path for path, identity in files)


def answers(data: bytes) -> list[bytes]:
    """Return what a process answered: digests, or CHANGED, in the order asked.

    Raises:
        ValueError: it did not come to its end.
    """
    record = _DIGEST + 1
    if len(data) % record:
        raise ValueError("an answer is cut")
    return [
        data[at + 1 : at + record] if data[at] else CHANGED
        for at in range(0, len(data), record)
    ]


def _asked(data: bytes) -> Iterator[tuple[bytes, Identity]]:
    at = 0
    while at < len(data):
        length, *rest = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        device, inode, mode, size, modified, changed = rest
        yield (
            data[at : at + length],
            (device, inode, mode, size, modified, changed),
        )
        at += length


def main() -> int:
    """Answer one question: this is the process."""
    found = bytearray()
    for path, identity in _asked(sys.stdin.buffer.read()):
        digest = hash_file(path, identity)
        found += b"\1" + digest if digest else bytes(_DIGEST + 1)
    sys.stdout.buffer.write(found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
