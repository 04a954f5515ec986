r"""sha256 of many files, on every core: as a module, and as a program of its own.

Threads of one interpreter take turns for every small file, so further cores are used
by processes. Each runs this file alone (standard library, isolated mode) in the
directory that names start from, reads all names from its standard input, and takes
batches of them out of a pipe until it is empty, as whoever started it does: who is
slow takes fewer. A file is opened without following a link, and only ever read up to
the size that it had when it was opened.

Example:
    >>> digest, identity = hash_file("margo.yaml")  # doctest: +SKIP
"""

from __future__ import annotations

import os
import stat
import struct
import sys
from hashlib import sha256
from operator import attrgetter

# Not typing's own: to import it is half of what the program needs to start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Final

Identity = tuple[int, int, int, int, int, int]
"""Device, inode, mode, size, and when content and file last changed (ns).

What makes a file the same file with the same content, without reading it. The last of
them can't be set back by whoever writes to the file. A plain tuple: there are as many
as files, several times over.
"""
Hashed = tuple[bytes, Identity]
"""The digest of a file, and what the file was when it was opened."""

SIZE: Final = 3
CHANGED_AT: Final = 5
identity_of: Callable[[os.stat_result], Identity] = attrgetter(
    "st_dev", "st_ino", "st_mode", "st_size", "st_mtime_ns", "st_ctime_ns"
)
"""Return the identity of a file that was looked at."""

_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
MAX_BATCHES: Final = 1000  # their numbers fit into the smallest pipe, a page
_PIECE: Final = 1 << 18  # bytes; what a core's cache holds
_NUMBER: Final = struct.Struct("<I")
_ANSWER: Final = struct.Struct("<I32sQQQQqq")  # number of the file, digest, identity


def hash_file(path: str | bytes, *, base: int | None = None) -> Hashed | None:
    """Return the sha256 of a regular file; None if there is none that can be read.

    It may change while it is read: who asks compares its identity afterwards.

    Args:
        path: from `base`, or from the current directory.
        base: an open directory.
    """
    try:
        descriptor = os.open(path, _FLAGS, dir_fd=base)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return None
        digest = _hash(descriptor, found.st_size)
        return None if digest is None else (digest, identity_of(found))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _hash(descriptor: int, size: int) -> bytes | None:
    if size <= _PIECE:
        data = os.read(descriptor, size + 1)
        return sha256(data).digest() if len(data) == size else None
    found = sha256()
    buffer = bytearray(_PIECE)
    view = memoryview(buffer)
    rest = size
    # Never more than its size: a file that grows must not be read for ever.
    while rest and (count := os.readv(descriptor, [view[:rest]])):
        found.update(view[:count])
        rest -= count
    return None if rest or os.read(descriptor, 1) else found.digest()


# --- sharing the work ----------------------------------------------------------------


def fill(pipe: int, count: int, batch: int) -> None:
    """Put the number of each batch's first file into a pipe.

    Raises:
        ValueError: there are more than `MAX_BATCHES`: to write them might never end.
    """
    numbers = range(0, count, batch)
    if len(numbers) > MAX_BATCHES:
        raise ValueError(f"{len(numbers)} batches, expected up to {MAX_BATCHES}")
    os.write(pipe, b"".join(map(_NUMBER.pack, numbers)))


def take(pipe: int, count: int, batch: int) -> Iterator[int]:
    """Yield the numbers of files that nobody else takes, until none is left."""
    # One number is read at a time: a pipe hands no reader half of one.
    while number := os.read(pipe, _NUMBER.size):
        (first,) = _NUMBER.unpack(number)
        yield from range(first, min(first + batch, count))


def answers(data: bytes) -> Iterable[tuple[int, Hashed]]:
    """Yield the files that a process has hashed, by their numbers.

    Raises:
        struct.error: it did not come to its end.
    """
    for number, digest, *rest in _ANSWER.iter_unpack(data):
        device, inode, mode, size, modified, changed = rest
        yield number, (digest, (device, inode, mode, size, modified, changed))


def main(arguments: list[str]) -> int:
    """Take part in the work: this is the process."""
    pipe, batch = map(int, arguments)
    names = sys.stdin.buffer.read().split(b"\0")
    found = bytearray()
    for number in take(pipe, len(names), batch):
        hashed = hash_file(names[number])
        if hashed is not None:
            digest, identity = hashed
            found += _ANSWER.pack(number, digest, *identity)
    sys.stdout.buffer.write(found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
