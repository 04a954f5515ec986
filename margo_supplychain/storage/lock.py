"""One writer at a time in a directory, between processes and between threads.

`flock` on the file `.lock` inside; the kernel drops it with the process, so a killed
writer locks nobody out. It protects those who ask for it, and readers need none:
files are replaced in one step.

Example:
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     with DirectoryLock(pathlib.Path(name), timeout=1.0):
    ...         durable.clean_temporary(pathlib.Path(name))
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING, Final, Self

from margo_supplychain.errors import StorageError
from margo_supplychain.storage import durable
from margo_supplychain.storage.durable import storage_errors

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

FILE_NAME: Final = ".lock"
_FIRST_WAIT: Final = 0.001
_LONGEST_WAIT: Final = 0.05


class DirectoryLock:
    """The right to change a directory, as a context manager.

    Not re-entrant: who holds it and asks again waits for itself until `timeout`. One
    object may be shared by threads.

    Args:
        directory: an existing directory.
        timeout: seconds to wait for another holder; 0 asks once.

    Raises:
        StorageError: on entering, when another holder kept it for `timeout`, or the
            lock file can't be opened.
    """

    def __init__(self, directory: Path, *, timeout: float) -> None:
        self._path = directory / FILE_NAME
        self._timeout = timeout
        self._descriptor = -1

    def __enter__(self) -> Self:
        deadline = time.monotonic() + self._timeout
        wait = _FIRST_WAIT
        while (descriptor := self._try()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise StorageError(
                    f"{self._path.parent} is locked by another process "
                    f"(waited {self._timeout:g} s)",
                    path=str(self._path.parent),
                    hint="another command is at work there: wait for it, or stop it",
                )
            # flock has no timed form; a signal-driven one is not for threads.
            time.sleep(min(wait, left))
            wait = min(wait * 2, _LONGEST_WAIT)
        # Only the holder reaches this line, so threads don't overwrite each other.
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def _try(self) -> int | None:
        with storage_errors(self._path, "lock"):
            descriptor = durable.operations.open_lock(self._path, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Somebody may have removed the file between open and flock.
                if os.path.samestat(os.fstat(descriptor), os.stat(self._path)):
                    return descriptor
            except (BlockingIOError, FileNotFoundError):
                pass
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            return None
