"""Files that are complete or absent, whatever kills the process or the power.

A file is written under a temporary name in its own directory, synced, given its final
name in one step, and the directory is synced: when a call returns, a power failure
changes nothing; before, the old file is there, whole. Two writers of one name need a
`DirectoryLock`. What a killed writer left is removed by `clean_temporary`, under that
lock. `OSError` becomes `StorageError`; nothing here knows what the bytes mean.

Example:
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     path = pathlib.Path(name, "timestamp.json")
    ...     write_file(path, b"{}")
    ...     read_file(path, limit=100)
    b'{}'
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from margo_supplychain.errors import ConflictError, StorageError
from margo_supplychain.storage.operations import Operations

if TYPE_CHECKING:
    from collections.abc import Iterator

operations: Operations = Operations()
"""Does every write of the package; the kill tests put their own here."""

# 21 bytes: a role file's name may already fill the 255 that file systems take.
_TEMPORARY: Final = re.compile(r"\.tmp-[0-9a-f]{16}", re.ASCII)
# What file systems without hard links (FAT, some network ones) answer to link(2).
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})


def write_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write or replace a file; a symbolic link at `path` is replaced, not followed.

    Raises:
        StorageError: the file could not be written; the old one is still there, or,
            when only the last sync failed, may come back after a power failure.
    """
    with storage_errors(path, "write"):
        with temporary_file(path.parent, mode) as (temporary, descriptor):
            write_all(descriptor, data)
            operations.sync_file(descriptor)
            operations.replace(temporary, path)
        operations.sync_directory(path.parent)


def write_new_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file whose name is written once; the same bytes again are fine.

    Raises:
        ConflictError: the name exists with other bytes, or is no regular file.
        StorageError: the file could not be written.
    """
    with storage_errors(path, "write"):
        if not os.path.lexists(path):
            with temporary_file(path.parent, mode) as (temporary, descriptor):
                write_all(descriptor, data)
                operations.sync_file(descriptor)
                placed = _place_new(temporary, path)
            if placed:
                operations.sync_directory(path.parent)
                return
        _check_same(path, data)


def read_file(path: Path, *, limit: int, follow: bool = True) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Args:
        path: the file.
        limit: most bytes.
        follow: whether the last step of `path` may be a symbolic link.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: not a regular file, larger than `limit`, or not readable.
    """
    with (
        storage_errors(path, "read", missing_passes=True),
        open_regular(path, follow=follow) as file,
    ):
        data: bytes | None = file.read(limit + 1)
    if data is None:
        # What looks like a file and makes its readers wait, as some below /proc do.
        raise StorageError(f"{path} is not a regular file", path=str(path))
    if len(data) > limit:
        raise StorageError(f"{path} is larger than {limit} bytes", path=str(path))
    return data


def open_regular(path: Path, *, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading; a pipe or device is refused and never waited on.

    Args:
        path: the file.
        follow: whether the last step of `path` may be a symbolic link.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: not a regular file, or not readable.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    if not follow:
        flags |= os.O_NOFOLLOW
    with storage_errors(path, "read", missing_passes=True):
        try:
            descriptor = os.open(path, flags)
        except OSError as why:
            if follow or why.errno != errno.ELOOP or not path.is_symlink():
                raise
            raise StorageError(f"{path} is a symbolic link", path=str(path)) from why
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StorageError(f"{path} is not a regular file", path=str(path))
        return os.fdopen(descriptor, "rb")


def make_directory(path: Path, *, mode: int = 0o755) -> None:
    """Make a directory and its parents; `mode` is for those that are made.

    Raises:
        StorageError: it could not be made, or something else has the name.
    """
    with storage_errors(path, "make"):
        missing: list[Path] = []
        for at in (path, *path.parents):
            if at.is_dir():
                # It may have been the last act of a killed process.
                with suppress(PermissionError):
                    operations.sync_directory(at.parent)
                break
            missing.append(at)
        for one in reversed(missing):
            try:
                operations.mkdir(one, mode)
            except FileExistsError:
                if not one.is_dir():
                    raise
            operations.sync_directory(one.parent)


def remove_file(path: Path) -> None:
    """Remove a file or symbolic link for good; one that is not there is fine.

    Raises:
        StorageError: it could not be removed.
    """
    with storage_errors(path, "remove"):
        with suppress(FileNotFoundError):
            operations.unlink(path)
        operations.sync_directory(path.parent)


def remove_directory(path: Path) -> None:
    """Remove a directory and all that is in it; one that is not there is fine.

    Links in it are removed, not followed.

    Raises:
        StorageError: it is no directory, or could not be removed.
    """
    with storage_errors(path, "remove"):
        if not os.path.lexists(path):
            return
        if path.is_symlink():
            raise StorageError(f"{path} is a symbolic link", path=str(path))
        for directory, names, files in os.walk(path, topdown=False):
            for name in files:
                operations.unlink(Path(directory, name))
            for name in names:
                one = Path(directory, name)
                (operations.unlink if one.is_symlink() else operations.rmdir)(one)
        operations.rmdir(path)
        operations.sync_directory(path.parent)


def clean_temporary(directory: Path) -> None:
    """Remove what killed writers left in `directory`, which the caller has locked.

    Raises:
        StorageError: the directory can't be listed or written.
    """
    with storage_errors(directory, "clean"):
        for name in os.listdir(directory):
            if _TEMPORARY.fullmatch(name) is not None:
                operations.unlink(directory / name)


@contextmanager
def temporary_file(directory: Path, mode: int) -> Iterator[tuple[Path, int]]:
    """Give a new file's path and descriptor; afterwards that name is gone."""
    path = directory / f".tmp-{os.urandom(8).hex()}"
    descriptor = operations.create(path, mode)
    try:
        yield path, descriptor
    finally:
        os.close(descriptor)
        # After a rename it has its final name and this one is free.
        with suppress(FileNotFoundError):
            operations.unlink(path)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte of `data` to an open file."""
    rest = memoryview(data)
    while rest:
        rest = rest[operations.write(descriptor, rest) :]


@contextmanager
def storage_errors(
    path: Path, verb: str, *, missing_passes: bool = False
) -> Iterator[None]:
    """Turn `OSError` into `StorageError` about `path`.

    Args:
        path: the file or directory.
        verb: what was tried: `read`, `write`.
        missing_passes: let `FileNotFoundError` through.
    """
    try:
        yield
    except OSError as why:
        if missing_passes and isinstance(why, FileNotFoundError):
            raise
        raise StorageError(
            f"can't {verb} {path}: {why.strerror or why}", path=str(path)
        ) from why


def _place_new(temporary: Path, path: Path) -> bool:
    # link(2) is the one rename that never replaces and needs no new system call.
    try:
        operations.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as why:
        if why.errno not in _NO_LINKS:
            raise
        # Without hard links only the directory's lock keeps two writers apart.
        if os.path.lexists(path):
            return False
        operations.replace(temporary, path)
    return True


def _check_same(path: Path, data: bytes) -> None:
    if path.is_symlink() or not path.is_file():
        raise ConflictError(f"{path} exists and is not a regular file")
    with open_regular(path, follow=False) as file:
        if file.read(len(data) + 1) != data:
            raise ConflictError(f"{path} exists with other bytes")
        # Whoever wrote it may have been killed before it synced.
        operations.sync_file(file.fileno())
    operations.sync_directory(path.parent)
