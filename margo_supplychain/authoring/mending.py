"""A place where two publishers may have written one name, read as signed.

What signed metadata names, it names by sha256. Where a versioned name holds other
bytes, because a racing publisher overwrote it, or is gone, the right ones may still lie
in the registry under their digest. They are given instead, and noted, so that they can
be put back. Nothing here is verified: who reads has checked each file as always.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, final

from margo_supplychain.authoring.named_files import NamedFiles
from margo_supplychain.authoring.overlay import Behind
from margo_supplychain.errors import (
    FetchError,
    TooLargeError,
    VerificationError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.storage.receive import read_exact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tuf.api.metadata import MetaFile

    from margo_supplychain.transport.protocols import Source


@final
class MendingSource(Behind):
    """A source that finds overwritten metadata again by digest; implements `Source`.

    `mended` holds what was found that way, by file name; `plain` is what others see.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.plain = source
        self._named = NamedFiles()
        self.mended: dict[str, bytes] = {}

    def expect(self, meta: Mapping[str, MetaFile]) -> None:
        """Take note of what a snapshot names."""
        self._named.expect(meta)

    def names(self, filename: str) -> bool:
        """Say whether the metadata that was read so far names a file."""
        return self._named.get(filename) is not None

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        """Return a metadata file as the newest timestamp that was read names it."""
        named = self._named.get(filename)
        try:
            data = self._source.metadata(filename, limit=limit, tick=tick)
        except FetchError as why:
            # What was written over it may be larger than what is signed, or no file. A
            # registry that fails for a moment is not to be mended.
            fails = why.unreachable or why.status not in {None, 404}
            is_other = why.missing or isinstance(why, TooLargeError) or not fails
            found = self._by_digest(named, limit) if is_other else None
            if found is None:
                raise
            data = self.mended[filename] = found
        if named is not None and Digest.of(data) != named.digest:
            found = self._by_digest(named, limit)
            if found is not None:
                data = self.mended[filename] = found
        if self._named.learn(filename, data):
            self.mended = {}
        return data

    def _by_digest(self, named: Descriptor | None, limit: int) -> bytes | None:
        if named is None or named.size > limit:
            return None
        with suppress(FetchError, VerificationError), self._source.blob(named) as data:
            return read_exact(named, data, subject=str(named.digest))
        return None
