"""What lies in a place, read as far as it can be: nothing of it is verified.

Whoever may write there gives any name to anything: to what is too large, a pipe, a
directory, a manifest of another kind. Who signs a list may name lengths that nobody
reads. Such a file is evidence of nothing, as if it were not there, and must not keep
anybody from a new root. Only a place that does not answer does: else a moment's failure
would count as what is lost.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from margo_supplychain.authoring.directory_place import (
    PREVIOUS,
    DirectoryPlace,
)
from margo_supplychain.authoring.role_signing import meta_of
from margo_supplychain.authoring.settings import DIRECTORY
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    FetchError,
    RefusedError,
    StorageError,
    TooLargeError,
    TooSlowError,
)
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.transport.directory import DirectorySink

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tuf.api.metadata import MetaFile

    from margo_supplychain.authoring.healing import Beginning
    from margo_supplychain.authoring.place import Place
    from margo_supplychain.transport.protocols import Source

SANE: Final = 2**31
"""Beyond is what only a thief chooses. Who counts on from `COUNTED` stays far below."""
MOST_READ: Final = 512  # old files of one role; the newest come first


def is_illegible(place: Place, why: FetchError) -> bool:
    """Say whether a file is not there, or is none that anybody could read.

    Args:
        place: where it lies.
        why: what reading it raised.
    """
    if why.missing or isinstance(why, TooLargeError):
        return True
    if why.unreachable or isinstance(why, TooSlowError):
        return False
    if place.is_own or why.status == 404:
        return True  # no regular file; a manifest whose bytes are gone
    # What has a tag and is no metadata is said of the place. What broke off, or was
    # denied, is said of the URL below that was asked for.
    return why.status is None and why.url == place.url


def limit_of(role: str) -> int:
    """Return how many bytes of a role's file anybody reads."""
    return LIMITS.snapshot if role == "snapshot" else LIMITS.targets


def previous_timestamp(place: Place) -> bytes | None:
    """Return the timestamp that a directory keeps, if it can be read."""
    if isinstance(place, DirectoryPlace):
        with suppress(StorageError):
            return place.previous()
    return None


def require_writable(place: Place, names: Iterable[str]) -> None:
    """Refuse to begin where metadata can't be written: no file replaces a directory.

    Args:
        place: where.
        names: of metadata files, which are written over whatever else has them.

    Raises:
        RefusedError: one of them is a directory.
    """
    if not isinstance(place, DirectoryPlace):
        return
    paths = [place.directory / "metadata" / name for name in names]
    paths.append(place.directory / DIRECTORY / PREVIOUS)
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            raise RefusedError(
                f"{path} is a directory, and a file belongs there",
                hint="somebody made it: look at what is in it, and remove it; nothing "
                "was changed",
            )


class Lying:
    """Reads what lies in a place, and in its author's memory.

    Args:
        start: what is at hand.
    """

    def __init__(self, start: Beginning) -> None:
        self.start = start
        self._names: dict[str, list[int]] | None = None

    def read(self, name: str, limit: int) -> bytes | None:
        """Return a metadata file; None if it can't be read.

        Raises:
            FetchError: the place does not answer.
        """
        return self._from(self.start.place.source, name, limit)

    def named(self, role: str, entry: MetaFile) -> bytes | None:
        """Return what a list names, from the place or from the author's memory.

        Raises:
            FetchError: the place does not answer.
        """
        data = self.under(role, entry)
        if data is not None and meta_of(entry.version, data) == entry:
            return data
        store = self.start.store
        data = None if store is None else store.copy(role)
        if data is None or meta_of(entry.version, data) != entry:
            return None
        return data

    def under(self, role: str, entry: MetaFile) -> bytes | None:
        """Return what a place has for an entry of a list, perhaps other bytes.

        Raises:
            FetchError: the place does not answer.
        """
        place = self.start.place
        if (entry.length or 0) > limit_of(role):
            return None
        try:
            return place.named(role, entry)
        except FetchError as why:
            if is_illegible(place, why):
                return None
            raise

    def unserved(self, meta: Mapping[str, MetaFile]) -> dict[str, bytes]:
        """Return what devices would not find under its name, and is still there.

        In the author's memory; or in a registry, by digest, where a tag was taken away.

        Raises:
            FetchError: the place does not answer.
        """
        shelf, found = self.start.place.shelf, {}
        for listed, entry in meta.items():
            role = listed.removesuffix(".json")
            name = file_name(role, entry.version)
            limit = min(entry.length or limit_of(role), limit_of(role))
            served = self._from(shelf, name, limit)
            if served is not None and meta_of(entry.version, served) == entry:
                continue
            data = self.named(role, entry)
            if data is not None:
                found[name] = data
        return found

    def versions(self, role: str) -> list[int]:
        """Return the sane versions of a role that lie there, newest first."""
        place = self.start.place
        if isinstance(place, DirectoryPlace):
            if self._names is None:
                self._names = {}
                for name in DirectorySink(place.directory).metadata_files():
                    version, _, rest = name.partition(".")
                    if version.isdecimal() and len(version) < 17:
                        self._names.setdefault(rest, []).append(int(version))
            found = self._names.get(file_name(role, None), [])
        else:
            found = list(place.versions(role))
        sane = (one for one in found if one <= SANE)
        return sorted(sane, reverse=True)[:MOST_READ]

    def _from(self, source: Source, name: str, limit: int) -> bytes | None:
        try:
            return source.metadata(name, limit=limit)
        except FetchError as why:
            if is_illegible(self.start.place, why):
                return None
            raise
