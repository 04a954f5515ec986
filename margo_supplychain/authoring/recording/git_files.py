"""Files of a working tree, compared with the blobs of a commit: by their own bytes.

git's index, what it was told not to look at and its filters say nothing here. What a
filter converts (LFS, line ends) is not what the commit holds, and so differs.

Example:
    >>> compare("/work", {"a": Entry(0o100644, "2c26…")})  # doctest: +SKIP
    ([('M', 'a')], {'a': (2049, 131, 33188, 5, 17…, 17…)})
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from margo_supplychain.authoring.recording.git_objects import digest_of
from margo_supplychain.authoring.recording.hashing import identity_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from margo_supplychain.authoring.recording.git_objects import Entry
    from margo_supplychain.authoring.recording.hashing import Identity

GONE: Final = "D"
CHANGED: Final = "M"
OTHER_KIND: Final = "T"
_LINK: Final = 0o120000
# A pipe in place of a file must not be waited for.
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PIECE: Final = 1 << 18  # bytes


def compare(
    top: str, entries: Mapping[str, Entry]
) -> tuple[list[tuple[str, str]], dict[str, Identity]]:
    """Return status and path of what differs, and what each file was when it was read.

    Args:
        top: of the working tree, without a link on the way.
        entries: what the commit holds, but for submodules.
    """
    direct = {"": True}
    differing = []
    seen = {}
    for path, entry in entries.items():
        status, identity = GONE, None
        if is_direct(top, path.rpartition("/")[0], direct):
            status, identity = _look(f"{top}/{path}", entry)
        if status:
            differing.append((status, path))
        if identity is not None:
            seen[path] = identity
    return differing, seen


def is_direct(top: str, path: str, known: dict[str, bool]) -> bool:
    """Say whether a directory is there, and no step to it is a link.

    Args:
        top: where `path` starts.
        path: of the directory.
        known: what was found before, of `top` itself too; is added to.
    """
    if path in known:
        return known[path]
    steps = path.split("/")
    for number in range(1, len(steps) + 1):
        one = "/".join(steps[:number])
        if one not in known:
            known[one] = _is_directory(f"{top}/{one}")
        if not known[one]:
            known[path] = False
            break
    return known[path]


def _is_directory(full: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(full).st_mode)
    except OSError:
        return False


def _look(full: str, entry: Entry) -> tuple[str, Identity | None]:
    """Return how a file differs, if it does, and what it was if it is a regular one."""
    try:
        found = os.lstat(full)
        if stat.S_ISLNK(found.st_mode):
            target = os.readlink(full)  # noqa: PTH115 - as it is: a Path tidies up
            return _link(os.fsencode(target), entry), None
        if not stat.S_ISREG(found.st_mode):
            return OTHER_KIND, None
        descriptor = os.open(full, _FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return GONE, None
    except OSError:
        return CHANGED, None  # it can't be read
    try:
        return _file(descriptor, entry)
    finally:
        os.close(descriptor)


def _link(target: bytes, entry: Entry) -> str:
    if entry.mode != _LINK:
        return OTHER_KIND
    digest = digest_of("blob", len(target), entry.id)
    digest.update(target)
    return "" if digest.hexdigest() == entry.id else CHANGED


def _file(descriptor: int, entry: Entry) -> tuple[str, Identity | None]:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or stat.S_IFMT(entry.mode) != stat.S_IFREG:
        return OTHER_KIND, None
    digest = digest_of("blob", found.st_size, entry.id)
    view = memoryview(bytearray(min(found.st_size, _PIECE)))
    rest = found.st_size
    # Never more than its size: a file that grows must not be read for ever.
    while rest and (count := os.readv(descriptor, [view[:rest]])):
        digest.update(view[:count])
        rest -= count
    same = digest.hexdigest() == entry.id
    same &= bool(found.st_mode & 0o100) == bool(entry.mode & 0o100)
    return "" if same else CHANGED, identity_of(found)
