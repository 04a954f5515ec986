"""Which bytes metadata has, as the metadata above it says: by size and sha256.

Filled while files are read in the order of a refresh: a timestamp names one snapshot,
and that names the roles. Nothing here is verified: who reads checks each file.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, final

from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import FormatError
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.registry_form import TUF_METADATA
from margo_supplychain.formats.tuf_metadata import (
    file_name,
    parse_snapshot,
    parse_timestamp,
)
from margo_supplychain.transport.locations import TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuf.api.metadata import MetaFile


@final
class NamedFiles:
    """What the timestamp that was read last, and its snapshot, name."""

    def __init__(self) -> None:
        self._named: dict[str, Descriptor] = {}
        self._snapshot = ""

    def get(self, filename: str) -> Descriptor | None:
        """Return what a file must be; None if nothing names it."""
        return self._named.get(filename)

    def learn(self, filename: str, data: bytes) -> bool:
        """Take note of what a file names; True if it begins anew: a timestamp does."""
        # What is no metadata names nothing, and its reader will say so.
        with suppress(FormatError):
            if filename == TIMESTAMP:
                timestamp = parse_timestamp(data, limit=LIMITS.timestamp)
                meta = timestamp.signed.snapshot_meta
                self._named = {}
                self._snapshot = file_name("snapshot", meta.version)
                self._note("snapshot", meta)
                return True
            if filename == self._snapshot:
                self.expect(parse_snapshot(data, limit=LIMITS.snapshot).signed.meta)
        return False

    def expect(self, meta: Mapping[str, MetaFile]) -> None:
        """Take note of what a snapshot names."""
        for name, entry in meta.items():
            self._note(name.removesuffix(".json"), entry)

    def _note(self, role: str, meta: MetaFile) -> None:
        sha256 = (meta.hashes or {}).get("sha256")
        if sha256 is not None and meta.length is not None:
            self._named[file_name(role, meta.version)] = Descriptor(
                media_type=TUF_METADATA,
                digest=Digest("sha256", sha256),
                size=meta.length,
            )
