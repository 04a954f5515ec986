"""Names of trust metadata that somebody gave to other things, and how a place heals.

A tag of a metadata file may name a manifest of another kind: somebody wrote it there,
by hand or through a tool that believed a record. No device reads past that. To us such
a name is free: what belongs there is written over it, and what follows the last root,
where nothing belongs, is removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from margo_supplychain.authoring.overlay import Behind
from margo_supplychain.errors import (
    FetchError,
    OciFormatError,
    RefusedError,
    StorageError,
)
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.transport.tagged_sink import TaggedSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from margo_supplychain.transport.protocols import Source


def is_vandalised(place: Source, filename: str) -> bool:
    """Say whether a name is taken by what is no metadata file; no in a directory.

    Raises:
        FetchError: that can't be found out.
    """
    return isinstance(place, TaggedSink) and place.is_damaged(filename)


def free_next_root(place: Source, newest: int) -> str | None:
    """Remove what has the name of the root after the last one, and is none.

    Returns:
        What is wrong if it can't be removed.

    Raises:
        FetchError: what is there can't be found out.
    """
    name = file_name("root", newest + 1)
    if not isinstance(place, TaggedSink) or not place.is_damaged(name):
        return None
    try:
        place.remove_damaged(name)
    except (FetchError, OciFormatError, RefusedError, StorageError) as why:
        return (
            f"somebody gave the name of {name} in {place.url} to something else, so no "
            f"device goes on there, and it can't be removed: {why}"
        )
    return None


@final
class Legible(Behind):
    """A place where a name that something else has counts as missing.

    Implements `Source`.

    Args:
        place: unverified.
    """

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        """Return a metadata file; see `Source.metadata`."""
        try:
            return self._source.metadata(filename, limit=limit, tick=tick)
        except FetchError as why:
            if why.missing or why.unreachable:
                raise
            if not is_vandalised(self._source, filename):
                raise
            raise FetchError(
                f"{self.url} has something else under the name of {filename}",
                url=self.url,
                missing=True,
            ) from why
