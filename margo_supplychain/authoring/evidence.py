"""What the keys of a root signed, wherever it is found: what a new root goes on from.

In the place under its versioned names, in a registry's witnesses, in the last timestamp
that a directory keeps, and in the author's memory. All of it is looked at unverified
and counts by its signatures alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from margo_supplychain.authoring.directory_place import DirectoryPlace
from margo_supplychain.authoring.roles import signers_of
from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.authoring.state import LIMITS, Roots, read_roots
from margo_supplychain.authoring.witnesses import bounded
from margo_supplychain.errors import FetchError, RefusedError
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.transport.directory import DirectorySink
from margo_supplychain.transport.locations import TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tuf.api.metadata import Root

    from margo_supplychain.authoring.healing import Beginning
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.formats.tuf_metadata import RoleFile

SANE: Final = 2**31
"""No honest version goes beyond: one a second for 68 years."""
MOST_READ: Final = 512  # old files of one role; the newest come first


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
class Evidence:
    """What the keys of an old or new root signed, wherever it is found.

    Nothing was published that the new root's keys alone have signed, as long as that
    root is not there: a killed run left it, and others may have published since.
    """

    def __init__(
        self, start: Beginning, *, old: Root, new: Root, is_there: bool
    ) -> None:
        self.start = start
        self.new = new
        self.signing = (new, old) if is_there else (old,)
        self.is_there = is_there
        self._names: dict[str, list[int]] | None = None
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
        yield from self.read(TIMESTAMP, LIMITS.timestamp)
        if store is not None:
            yield store.copy("timestamp") or b""
        if isinstance(place, DirectoryPlace):
            yield place.previous() or b""
        else:
            # Who floods the names must not hide the honest ones: this refuses.
            sane = [one for one in place.versions("timestamp") if one <= SANE]
            for _, data in bounded(place, "timestamp", sane):
                yield data

    def _snapshot_files(self) -> Iterator[bytes]:
        place, store = self.start.place, self.start.store
        for one in self.timestamps:
            try:
                yield place.named("snapshot", one.signed.snapshot_meta)
            except FetchError as why:
                if why.unreachable:
                    raise
        if store is not None:
            yield store.copy("snapshot") or b""
        if place.is_own:
            # Where others publish at the same time, only witnesses tell who landed.
            for version in self.versions("snapshot"):
                yield from self.read(file_name("snapshot", version), LIMITS.snapshot)

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

    def read(self, name: str, limit: int) -> Iterator[bytes]:
        """Yield a file if it can be read.

        Raises:
            FetchError: the place does not answer.
        """
        try:
            yield self.start.place.source.metadata(name, limit=limit)
        except FetchError as why:
            if why.unreachable:
                raise
