"""Files that only their owner may read: private keys, passphrases and PINs."""

from __future__ import annotations

import os
import select
import stat
import time
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import SignerError

if TYPE_CHECKING:
    from pathlib import Path

PIPE_PATIENCE: Final = 60.0  # seconds; at its other end a person may type something


def read_secret_file(path: Path, *, limit: int, what: str) -> bytes:
    """Read a file that only its owner may read; a pipe is fine, a directory is not.

    Raises:
        SignerError: absent, of another kind, readable by group or others, too large.
    """
    data, mode = read_with_mode(path, limit=limit, what=what)
    check_mode(path, mode, what)
    return data


def read_with_mode(path: Path, *, limit: int, what: str) -> tuple[bytes, int]:
    """Return the bytes and the mode of a file or pipe.

    Raises:
        SignerError: absent, of another kind, or too large.
    """
    try:
        # O_NONBLOCK: opening a pipe that nobody writes to must not hang.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as why:
        reason = why.strerror or "it cannot be opened"
        raise SignerError(
            f"cannot read {what} {path}: {reason.lower()}",
            hint="check the path and its permissions",
        ) from why
    try:
        # Asked of the open file, not of the path: nobody can swap it in between.
        status = os.fstat(handle)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
            raise SignerError(f"{what} {path} is not a file")
        data = _all_of(handle, limit, f"{what} {path}")
    finally:
        os.close(handle)
    if len(data) > limit:
        raise SignerError(f"{what} {path} has more than {limit} bytes")
    return data, stat.S_IMODE(status.st_mode)


def _all_of(handle: int, limit: int, named: str) -> bytes:
    """Read to the end, or one byte more than `limit`; the handle does not block."""
    data = bytearray()
    ends = time.monotonic() + PIPE_PATIENCE
    waiting = select.poll()
    waiting.register(handle, select.POLLIN)
    while len(data) <= limit:
        try:
            read = os.read(handle, limit + 1 - len(data))
        except BlockingIOError as why:
            left = ends - time.monotonic()
            if left > 0 and waiting.poll(left * 1000):
                continue
            raise SignerError(
                f"{named} is a pipe that did not end within {PIPE_PATIENCE:.0f} "
                "seconds",
                hint="whoever writes to it must close it",
            ) from why
        if not read:
            break
        data += read
    return bytes(data)


def check_mode(path: Path, mode: int, what: str) -> None:
    """Check that a file was for its owner alone when it was opened.

    Raises:
        SignerError: group or others may use it.
    """
    if mode & 0o077:
        raise SignerError(
            f"{what} {path} may be used by others than its owner (mode {mode:04o})",
            hint=f"chmod 600 {path}, and think of it as known to them",
        )
