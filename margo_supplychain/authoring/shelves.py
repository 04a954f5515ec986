"""Places to write to, opened for as long as one command works on them.

A directory has a lock and may hold what killed writers left; a tar is whole only when
it is closed; a registry has neither, and what others do there meanwhile shows. A stick
that somebody prepared with symbolic links leads no writer to other files.

Example:
    >>> with open_shelf("oci-archive:stick.tar") as shelf:
    ...     shelf.put_metadata("1.root.json", b"{}")
    >>> Path("stick.tar").is_file()
    True
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import RefusedError
from margo_supplychain.storage.durable import make_directory, storage_errors
from margo_supplychain.storage.lock import FILE_NAME as LOCK_FILE
from margo_supplychain.storage.lock import DirectoryLock
from margo_supplychain.transport.archive_sink import ArchiveSink
from margo_supplychain.transport.directory import DirectorySink
from margo_supplychain.transport.layout_sink import LayoutSink
from margo_supplychain.transport.opening import open_sink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.protocols import Shelf

LOCK_TIMEOUT: Final = 60.0  # seconds; another copy may be at work
# What a copy, or one that was killed, has in a directory.
_OURS: Final = frozenset({"metadata", "targets", "blobs", "oci-layout", "index.json"})


@contextmanager
def open_shelf(url: str, *, network: Network | None = None) -> Iterator[Shelf]:
    """Open a place to write to, alone in it as far as that can be had.

    Raises:
        RefusedError: a directory that holds something else, or a symbolic link where
            files would be written.
        FormatError: no kind of place that can be written.
        StorageError: another process works there, or the disk refuses.
    """
    shelf = open_sink(url, network=network)
    if isinstance(shelf, DirectorySink | LayoutSink):
        directory = shelf.directory
        _refuse_foreign(directory)
        _refuse_links(directory)
        is_layout = isinstance(shelf, LayoutSink)
        make_directory(directory if is_layout else directory / "metadata")
        with DirectoryLock(directory, timeout=LOCK_TIMEOUT):
            shelf.clean()
            yield shelf
    else:
        if isinstance(shelf, ArchiveSink):
            _refuse_links(shelf.part)
        yield shelf
    # Not after an error: a tar that is half done must not replace a whole one, and
    # the next run goes on from what was collected.
    shelf.close()


def _refuse_foreign(directory: Path) -> None:
    """Refuse to put a repository between somebody's files."""
    with storage_errors(directory, "list", missing_passes=True):
        try:
            found = {one.name for one in directory.iterdir()}
        except FileNotFoundError:
            return
    found = {one for one in found if one != LOCK_FILE and not one.startswith(".tmp-")}
    if found and not found & _OURS:
        raise RefusedError(
            f"{directory} is not empty, and no copy: it holds {min(found)[:80]}",
            hint="name a new or empty directory; nothing was changed",
        )


def _refuse_links(directory: Path) -> None:
    """Refuse to write through symbolic links to what lies elsewhere.

    The directory itself may be one: its owner named it.
    """
    found = [directory / LOCK_FILE]
    if directory.name.startswith("."):
        found.append(directory)  # beside an archive, and named by nobody
    for name in sorted(_OURS):
        found.append(directory / name)
        for at, names, _ in os.walk(directory / name):
            found += [Path(at, one) for one in names]
    for path in found:
        if path.is_symlink():
            raise RefusedError(
                f"{path} is a symbolic link: what is written there would lie elsewhere",
                hint="remove it, or name the place where the files shall be; nothing "
                "was changed",
            )
