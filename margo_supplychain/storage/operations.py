"""The few calls with which this package changes a file system.

Everything that writes goes through `durable.operations`, one object of this class, so
that the kill tests (`tests/faults/`) can stop the process before any single one and
know which of them a power failure would have undone. Nothing here decides anything.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Operations:
    """One small method for each way to change a file system."""

    def mkdir(self, path: Path, mode: int) -> None:
        """Make one directory, which must not exist."""
        os.mkdir(path, mode)

    def create(self, path: Path, mode: int) -> int:
        """Create a file that must not exist and return a descriptor to write it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path, flags, mode)

    def reopen(self, path: Path) -> int:
        """Open a file that is there and return a descriptor to read and go on."""
        # Not waiting: a pipe of that name would hang whoever opens it.
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        return os.open(path, flags)

    def open_lock(self, path: Path, mode: int) -> int:
        """Open a lock file, creating it when it is not there."""
        # Reading is enough for flock, so others than the file's owner can wait too.
        # Not waiting: a pipe of that name would hang whoever opens it.
        flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        return os.open(path, flags, mode)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write some of `data` and return how many bytes."""
        return os.write(descriptor, data)

    def sync_file(self, descriptor: int) -> None:
        """Return when the file's bytes would survive a power failure."""
        os.fsync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Rename over whatever file is there, in one step."""
        os.replace(source, target)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name that must not exist, in one step."""
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: Path) -> None:
        """Remove a file's name."""
        os.unlink(path)

    def rmdir(self, path: Path) -> None:
        """Remove one directory, which must be empty."""
        os.rmdir(path)

    def sync_directory(self, path: Path) -> None:
        """Return when the directory's names would survive a power failure."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as why:
            # Some network and FUSE file systems can't do it and say so like this.
            if why.errno != errno.EINVAL:
                raise
        finally:
            os.close(descriptor)
