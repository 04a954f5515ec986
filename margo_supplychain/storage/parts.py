"""Large content that comes in several runs: what broke off is gone on with.

A part lies apart from content, under the digest that it is to become, and is none: its
bytes are hashed again before the rest follows, and it gets the content's name only when
the whole is right. Each source goes on with a part of its own, which begins as a copy
of the largest that another one left: no source changes, or ends, what others gave. A
whole that turns out wrong is thrown away, and begun anew once by the source itself.
The caller holds the directory's lock.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Final

from margo_supplychain.errors import StorageError, VerificationError
from margo_supplychain.storage import durable
from margo_supplychain.storage.receive import BUFFER, Begun, check_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractContextManager
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor, Digest

WORTH_KEEPING: Final = BUFFER  # bytes; less is fetched again as fast
MOST_PARTS: Final = 4  # of one digest: so many sources at a time leave something


def part_path(directory: Path, digest: Digest, source: str) -> Path:
    """Return where a directory of parts keeps what a source gave of a digest."""
    name = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return directory / f"{_beginning(digest)}{name}"


def receive_part(
    path: Path,
    parts: Path,
    what: Descriptor,
    open_at: Callable[[int], AbstractContextManager[BinaryIO]],
    *,
    source: str,
    subject: str,
    mode: int = 0o644,
    look: Callable[[int], None] | None = None,
    tick: Callable[[int], None] | None = None,
) -> None:
    """Write unverified bytes to `path` if they are exactly `what`, by and by.

    When reading ends early, whatever raised, the part stays for the next call.

    Args:
        path: of the content.
        parts: directory of what is not the whole yet, on the same file system.
        what: size and digest that it must have.
        open_at: opens the unverified bytes from a byte on.
        source: what their source is called; only its own part is written.
        subject: what it is called in messages.
        mode: of the file.
        look: called with the size of each piece of an earlier run that is hashed.
        tick: called with the size of each piece that comes.

    Raises:
        LengthMismatchError, DigestMismatchError: other bytes; nothing of this source
            is left.
        StorageError: the file could not be written; nothing of this source is left.
    """
    durable.make_directory(path.parent)
    durable.make_directory(parts, mode=0o700)
    _require_own(parts)
    part = part_path(parts, what.digest, source)
    with durable.storage_errors(path, "write"):
        if not os.path.lexists(part):
            _begin_with_others(part, what, mode, look)
    while True:
        with durable.storage_errors(path, "write"):
            descriptor, size = _opened(part, what, mode)
        try:
            with durable.storage_errors(path, "write"):
                begun = _hashed(descriptor, size, what, look)

            def write(piece: memoryview, to: int = descriptor) -> None:
                with durable.storage_errors(path, "write"):
                    durable.write_all(to, piece)

            with open_at(size) if size < what.size else io.BytesIO() as data:
                check_stream(
                    what, data, subject=subject, write=write, tick=tick, begun=begun
                )
            with durable.storage_errors(path, "write"):
                durable.operations.sync_file(descriptor)
                durable.operations.replace(part, path)
                durable.operations.sync_directory(path.parent)
                for other in _parts_of(parts, what.digest):
                    durable.operations.unlink(other)
        except VerificationError:
            _remove(part)
            if not size:
                raise
        except StorageError:
            _remove(part)
            raise
        except BaseException:
            if os.fstat(descriptor).st_size < WORTH_KEEPING:
                _remove(part)
            raise
        else:
            return
        finally:
            os.close(descriptor)


def remove_parts(directory: Path, *, but: Collection[Digest] = ()) -> None:
    """Remove the parts that nobody goes on with, and their directory with the last.

    Args:
        directory: where parts lie, if there are any; locked by the caller.
        but: digests of the parts to keep.

    Raises:
        StorageError: the directory can't be listed or written.
    """
    if not os.path.lexists(directory):
        return
    _require_own(directory)
    digests = tuple(map(_beginning, but))
    with durable.storage_errors(directory, "clean"):
        found = set(os.listdir(directory))
        kept = {name for name in found if name.startswith(digests)}
        for name in sorted(found - kept):
            durable.operations.unlink(directory / name)
        if not kept:
            durable.operations.rmdir(directory)


def _require_own(directory: Path) -> None:
    """Refuse what somebody else may have put there: it would be emptied."""
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise StorageError(
            f"{directory} is not a directory of this user", path=str(directory)
        )


def _beginning(digest: Digest) -> str:
    """Return how the names of all parts of a digest begin."""
    return f"{digest.algorithm}-{digest.hex}-"


def _parts_of(directory: Path, digest: Digest) -> list[Path]:
    """Return the parts of a digest that are there, whatever they are."""
    beginning = _beginning(digest)
    names = sorted(os.listdir(directory))
    return [directory / name for name in names if name.startswith(beginning)]


def _begin_with_others(
    part: Path, what: Descriptor, mode: int, look: Callable[[int], None] | None
) -> None:
    """Begin a source's part with the most that another one left, if there is any."""
    found = []
    for other in _parts_of(part.parent, what.digest):
        with suppress(OSError):
            size = _usable(os.lstat(other), what)
            found.append((size, other))
    found.sort(key=lambda one: one[0])
    if not found or not (most := found[-1][0]):
        return
    for _, other in found[: -(MOST_PARTS - 1)]:
        durable.operations.unlink(other)
    room = os.statvfs(part.parent)
    if room.f_bavail * room.f_frsize < what.size:
        # Two of them have no room: the one that is there passes on.
        durable.operations.replace(found[-1][1], part)
        return
    to = durable.operations.create(part, mode)
    try:
        _copy(found[-1][1], to, most, look)
    except OSError:
        _remove(part)
        raise
    finally:
        os.close(to)


def _copy(other: Path, to: int, size: int, look: Callable[[int], None] | None) -> None:
    with durable.open_regular(other, follow=False) as file:
        while size and (piece := file.read(min(size, BUFFER))):
            durable.write_all(to, piece)
            size -= len(piece)
            if look is not None:
                look(len(piece))


def _opened(part: Path, what: Descriptor, mode: int) -> tuple[int, int]:
    """Return a descriptor of the part, and how many bytes it begins with."""
    if os.path.lexists(part):
        # A link is not followed, and what nobody could have left here is not used.
        with suppress(OSError):
            descriptor = durable.operations.reopen(part)
            size = _usable(os.fstat(descriptor), what)
            if size:
                return descriptor, size
            os.close(descriptor)
        durable.operations.unlink(part)
    return durable.operations.create(part, mode), 0


def _usable(found: os.stat_result, what: Descriptor) -> int:
    """Return the size of a part that is ours alone and not too large, or 0."""
    ours = (
        stat.S_ISREG(found.st_mode)
        and found.st_uid == os.geteuid()
        and found.st_nlink == 1
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )
    return found.st_size if ours and found.st_size <= what.size else 0


def _hashed(
    descriptor: int, size: int, what: Descriptor, look: Callable[[int], None] | None
) -> Begun:
    hasher = hashlib.new(what.digest.algorithm)
    if size:
        buffer = memoryview(bytearray(BUFFER))
        with io.FileIO(descriptor, closefd=False) as file:
            left = size
            while left and (count := file.readinto(buffer[: min(left, BUFFER)])):
                hasher.update(buffer[:count])
                left -= count
                if look is not None:
                    look(count)
    return Begun(hasher, size)


def _remove(part: Path) -> None:
    with suppress(FileNotFoundError):
        durable.operations.unlink(part)
