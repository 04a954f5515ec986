"""Places on this machine that a command was given: there, and what they look like.

A typing error is found here, before anything calls a path that isn't there a damaged
copy, or fills a disk on which nothing is mounted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.errors import FormatError, RefusedError

if TYPE_CHECKING:
    from pathlib import Path


def require_place(place: str) -> None:
    """Refuse a path that isn't there; URLs of registries are taken as they are.

    Raises:
        FormatError: nothing is there.
    """
    path, _ = _path_of(place)
    if path is not None and not path.exists():
        raise FormatError(
            f"{place} does not exist",
            hint="name a directory, oci-layout:DIR, oci-archive:FILE or oci://HOST/PATH",
        )


def check_target(place: str) -> None:
    """Refuse to write where it was hardly meant.

    Raises:
        RefusedError: a tar that would become a directory, or one whose directory isn't
            there: on a stick that is not mounted, say.
    """
    path, is_tar = _path_of(place)
    if path is None:
        return
    if not is_tar and path.suffix == ".tar" and not path.exists():
        raise RefusedError(
            f"{place} would be a directory",
            hint=f"write oci-archive:{place} for a tar, or ./DIR/ with another name",
        )
    if is_tar and not path.absolute().parent.is_dir():
        raise RefusedError(
            f"{path.parent} does not exist, and {path.name} shall be in it",
            hint="mount what it is on, or make the directory; nothing was written",
        )


def _path_of(place: str) -> tuple[Path | None, bool]:
    """Return where a place lies on this machine, and whether it is one file."""
    from margo_supplychain.transport.archive_sink import ArchiveSink
    from margo_supplychain.transport.directory import DirectorySink
    from margo_supplychain.transport.layout_sink import LayoutSink
    from margo_supplychain.transport.opening import open_sink

    if place.startswith("oci://"):
        return None, False
    shelf = open_sink(place)
    if isinstance(shelf, DirectorySink | LayoutSink):
        return shelf.directory, False
    return (shelf.path, True) if isinstance(shelf, ArchiveSink) else (None, False)
