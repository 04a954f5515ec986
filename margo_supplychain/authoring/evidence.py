"""What the keys of a root signed, wherever it is found: what a new root goes on from.

In the place under its versioned names, in a registry's witnesses, in the last timestamp
that a directory keeps, and in the author's memory. All of it is looked at unverified
and counts by its signatures alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from margo_supplychain.authoring.directory_place import DirectoryPlace
from margo_supplychain.authoring.lying import SANE, Lying, previous_timestamp
from margo_supplychain.authoring.role_signing import meta_of
from margo_supplychain.authoring.roles import signers_of
from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.authoring.state import LIMITS, Roots, read_roots
from margo_supplychain.authoring.witnesses import MOST_LOOKED_AT, bounded
from margo_supplychain.errors import RefusedError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.transport.locations import TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tuf.api.metadata import MetaFile, Root, Snapshot, Timestamp

    from margo_supplychain.authoring.healing import Beginning
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.formats.tuf_metadata import RoleFile

COUNTED: Final = 2**30
"""No honest version goes beyond: one a second for 34 years."""


def read_chain(start: Beginning) -> Roots:
    """Return the verified roots of a place, and what is wrong with the next one.

    A memory may begin later than the root that devices are given: the roots before it
    tell whose metadata lies there, if they lead to it.

    Raises:
        FetchError: the place does not answer.
    """
    source, store = start.place.source, start.store
    found = read_roots(source, start.first_root)
    if store is None:
        return found
    trusted = store.load().root
    if any(one.data == trusted for one in found.chain):
        return found
    return read_roots(source, trusted)


def needs_signing(file: RoleFile[Any], root: Root, start: Beginning) -> bool:
    """Say whether a top-level role must be signed again under a root."""
    who = require_who(root, file.role)
    return signed_by(file.data, who) is None or file.expires <= start.now


def require_who(root: Root, role: str) -> RoleSigners:
    """Return who signs a top-level role.

    Raises:
        RefusedError: root names nobody.
    """
    found = signers_of(root, role)
    if found is None:
        raise RefusedError(f"root v{root.version} names no {role}")
    return found


@final
class Evidence(Lying):
    """What the keys of an old or new root signed, wherever it is found.

    Nothing was published that the new root's keys alone have signed, as long as that
    root is not there: a killed run left it, and others may have published since.

    Args:
        start: what is at hand.
        old, new: the roots.
        is_there: whether the new one is published already.

    Attributes:
        timestamps, snapshots: newest first.
        published: the sha256 of each snapshot that a timestamp names or the author's
            memory has; of others, nobody was told as far as can be seen.
        unread: how many names of timestamp in a registry were too many to look at.
    """

    def __init__(
        self, start: Beginning, *, old: Root, new: Root, is_there: bool
    ) -> None:
        super().__init__(start)
        self.new = new
        self.signing = (new, old) if is_there else (old,)
        self.is_there = is_there
        self.published: set[str] = set()
        self.unread = 0
        self.timestamps = self._unique("timestamp", self._timestamp_files())
        self.snapshots = self._unique("snapshot", self._snapshot_files())

    def stands(self, file: RoleFile[Any]) -> bool:
        """Say whether the new root's keys signed a top-level role."""
        return signed_by(file.data, require_who(self.new, file.role)) is not None

    def signed(self, role: str, data: bytes) -> RoleFile[Any] | None:
        """Return a top-level role if the keys of a root signed it that count."""
        for root in self.signing:
            found = signed_by(data, require_who(root, role))
            if found is not None:
                return found
        return None

    def _unique(self, role: str, files: Iterable[bytes]) -> list[RoleFile[Any]]:
        found = {}
        for data in files:
            file = self.signed(role, data)
            if file is not None:
                found[file.sha256] = file
        return sorted(found.values(), key=lambda file: file.version, reverse=True)

    def _timestamp_files(self) -> Iterator[bytes]:
        place, store = self.start.place, self.start.store
        yield self.read(TIMESTAMP, LIMITS.timestamp) or b""
        if store is not None:
            yield store.copy("timestamp") or b""
        if isinstance(place, DirectoryPlace):
            yield previous_timestamp(place) or b""
        else:
            # One of each edit that ever was, or a flood: neither may bar a new root.
            sane = sorted(one for one in place.versions("timestamp") if one <= SANE)
            self.unread = len(sane[:-MOST_LOOKED_AT])
            for _, data in bounded(place, "timestamp", sane[-MOST_LOOKED_AT:]):
                yield data

    def _snapshot_files(self) -> Iterator[bytes]:
        place, store = self.start.place, self.start.store
        for one in self.timestamps:
            data = self.under("snapshot", one.signed.snapshot_meta)
            if data is not None:
                self._note(data, one.signed.snapshot_meta)
                yield data
        if store is not None:
            known = store.copy("snapshot") or b""
            self.published.add(Digest.of(known).hex)
            yield known
        if place.is_own:
            # Where others publish at the same time, only witnesses tell who landed.
            for version in self.versions("snapshot"):
                name = file_name("snapshot", version)
                yield self.read(name, LIMITS.snapshot) or b""

    def _note(self, data: bytes, named: MetaFile) -> None:
        if meta_of(named.version, data) == named:
            self.published.add(Digest.of(data).hex)

    def shown(self) -> RoleFile[Timestamp] | None:
        """Return the timestamp that lies there, if rightful keys signed it."""
        data = self.read(TIMESTAMP, LIMITS.timestamp)
        return None if data is None else self.signed("timestamp", data)

    def was_cut_short(self) -> bool:
        """Say whether the last edit of a directory never replaced the timestamp.

        The first that an edit writes is a copy of the timestamp that it will replace.
        """
        previous = previous_timestamp(self.start.place)
        return previous is not None and previous == self.read(
            TIMESTAMP, LIMITS.timestamp
        )

    def of_memory(self) -> RoleFile[Snapshot] | None:
        """Return the snapshot that the author's memory has, if rightful keys did it."""
        store = self.start.store
        data = None if store is None else store.copy("snapshot")
        return None if data is None else self.signed("snapshot", data)
