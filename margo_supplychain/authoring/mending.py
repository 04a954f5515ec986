"""A place where two publishers may have written one name, read as signed.

What signed metadata names, it names by sha256. Where a versioned name holds other
bytes, because a racing publisher overwrote it, or is gone, the right ones may still lie
in the registry under their digest. They are given instead, and noted, so that they can
be put back. Nothing here is verified: who reads has checked each file as always.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, final

from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    FetchError,
    FormatError,
    TooLargeError,
    VerificationError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.registry_form import TUF_METADATA
from margo_supplychain.formats.tuf_metadata import (
    file_name,
    parse_snapshot,
    parse_timestamp,
)
from margo_supplychain.storage.receive import read_exact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    from tuf.api.metadata import MetaFile

    from margo_supplychain.formats.names import TargetPath
    from margo_supplychain.transport.protocols import Source

_TIMESTAMP: Final = "timestamp.json"


@final
class MendingSource:
    """A source that finds overwritten metadata again by digest; implements `Source`.

    `mended` holds what was found that way, by file name; `plain` is what others see.
    """

    def __init__(self, source: Source) -> None:
        self._source = self.plain = source
        self._named: dict[str, Descriptor] = {}
        self._snapshot = ""
        self.mended: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        """What the source is called in messages."""
        return self._source.url

    def expect(self, meta: Mapping[str, MetaFile]) -> None:
        """Take note of what a snapshot names."""
        for name, entry in meta.items():
            self._note(name.removesuffix(".json"), entry)

    def names(self, filename: str) -> bool:
        """Say whether the metadata that was read so far names a file."""
        return filename in self._named

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
            # What was written over it may be larger than what is signed.
            other = why.missing or isinstance(why, TooLargeError)
            found = self._by_digest(named, limit) if other else None
            if found is None:
                raise
            data = self.mended[filename] = found
        if named is not None and Digest.of(data) != named.digest:
            found = self._by_digest(named, limit)
            if found is not None:
                data = self.mended[filename] = found
        self._learn(filename, data)
        return data

    def target(
        self,
        path: TargetPath,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[BinaryIO]:
        """Open a target file; see `Source.target`."""
        return self._source.target(path, what, start=start, tick=tick)

    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[BinaryIO]:
        """Open content; see `Source.blob`."""
        return self._source.blob(what, start=start, tick=tick)

    def _by_digest(self, named: Descriptor | None, limit: int) -> bytes | None:
        if named is None or named.size > limit:
            return None
        with suppress(FetchError, VerificationError), self._source.blob(named) as data:
            return read_exact(named, data, subject=str(named.digest))
        return None

    def _learn(self, filename: str, data: bytes) -> None:
        # What is no metadata names nothing, and its reader will say so.
        with suppress(FormatError):
            if filename == _TIMESTAMP:
                timestamp = parse_timestamp(data, limit=LIMITS.timestamp)
                meta = timestamp.signed.snapshot_meta
                self._named, self.mended = {}, {}
                self._snapshot = file_name("snapshot", meta.version)
                self._note("snapshot", meta)
            elif filename == self._snapshot:
                snapshot = parse_snapshot(data, limit=LIMITS.snapshot)
                self.expect(snapshot.signed.meta)

    def _note(self, role: str, meta: MetaFile) -> None:
        sha256 = (meta.hashes or {}).get("sha256")
        if sha256 is not None and meta.length is not None:
            self._named[file_name(role, meta.version)] = Descriptor(
                media_type=TUF_METADATA,
                digest=Digest("sha256", sha256),
                size=meta.length,
            )
