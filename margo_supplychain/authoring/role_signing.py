"""Signing the roles of an edit: which version each takes, and what is staged.

A run that was killed, or a publisher who was slower, leaves files that no snapshot
names, and a versioned name never has two contents. What says the same as ours, verifies
and is recent is taken as it is; any other name is passed over.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, final

from tuf.api.metadata import MetaFile, Snapshot, Timestamp

from margo_supplychain.authoring.roles import RoleSigners, kind_of
from margo_supplychain.authoring.signatures import (
    require_complete,
    same_but_for_expiry,
    signed_by,
    signed_bytes,
)
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import ConflictError, RefusedError, SignerError
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.tuf_metadata import (
    ISSUED,
    file_name,
    parse_targets,
    parse_timestamp,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from tuf.api.metadata import Signed

    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.tuf_metadata import RoleFile

AFTER: Final = "x-after"
"""A field of snapshots in registries: the snapshots that this one was made from."""
MAX_VERSION: Final = 2**53 - 1  # the last that every reader of JSON has
MOST_TAKEN: Final = 100  # names in a row that are looked at, for what has them
# What a killed run left is taken if it is as good as signed now: others tell by its
# expiry when this edit happened.
RECENT: Final = timedelta(hours=1)


def meta_of(version: int, data: bytes) -> MetaFile:
    """Return what snapshot or timestamp says of a metadata file."""
    return MetaFile(
        version=version,
        length=len(data),
        hashes={"sha256": hashlib.sha256(data).hexdigest()},
    )


@final
class RoleSigning:
    """Signs roles and stages them.

    Args:
        work: the edit.

    `roles` has version and expiry of what was signed.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self.roles: dict[str, tuple[int, datetime]] = {}

    def sign(self, role: str, signed: Signed, *, above: int = 0) -> MetaFile:
        """Sign and stage a role; return what the snapshot says of it.

        Args:
            role: which one.
            signed: what it says; its version and expiry are set.
            above: a version that devices may have seen besides the trusted one.

        Raises:
            IncompleteError: the keys at hand are not enough.
            ConflictError: the place has something else under each name that is asked
                for.
        """
        work = self._work
        signed.expires = work.signed_at + work.settings.period(kind_of(role))
        data = self._versioned(role, signed, above)
        work.staged.metadata[file_name(role, signed.version)] = data
        self.roles[role] = (signed.version, signed.expires)
        return meta_of(signed.version, data)

    def adopt(self, role: str, data: bytes) -> MetaFile:
        """Stage a role that others have signed; return what the snapshot says of it."""
        file = parse_targets(data, role=role, limit=LIMITS.targets)
        self._work.staged.metadata[file_name(role, file.version)] = data
        self.roles[role] = (file.version, file.expires)
        return meta_of(file.version, data)

    def snapshot(
        self, meta: Mapping[str, MetaFile], *, after: Sequence[RoleFile[Snapshot]]
    ) -> MetaFile:
        """Sign and stage a snapshot; return what the timestamp says of it.

        Args:
            meta: what it lists.
            after: the snapshots that it was made from, whose work is in it.
        """
        fields: dict[str, Any] = {}
        if not self._work.place.is_own:
            fields[AFTER] = [meta_of(one.version, one.data).to_dict() for one in after]
        named = self.sign(
            "snapshot",
            Snapshot(meta=dict(meta), unrecognized_fields=fields),
            # This edit may have shown one already.
            above=max((one.version for one in after), default=0),
        )
        name = file_name("snapshot", named.version)
        self._work.snapshot = self._work.staged.metadata[name]
        return named

    def timestamp(self, snapshot: MetaFile) -> None:
        """Sign and stage the timestamp that follows the last one."""
        work = self._work
        version = work.last_version("timestamp")
        if not work.place.is_own:
            # Who writes a lower snapshot later, unaware of ours, must not be taken for
            # newer: the timestamp goes at least as far as the snapshot.
            ahead = snapshot.version - work.last_version("snapshot") - 1
            version = max(version, version + ahead, work.seen, self._begun())
        if version >= MAX_VERSION:
            raise _no_number_above("timestamp", version)
        signed = Timestamp(
            version=version + 1,
            expires=work.signed_at + work.settings.period("timestamp"),
            snapshot_meta=snapshot,
            unrecognized_fields={ISSUED: format_time(work.signed_at)},
        )
        work.staged.timestamp = self._signed(signed, "timestamp")
        self.roles["timestamp"] = (signed.version, signed.expires)

    def _versioned(self, role: str, signed: Signed, above: int) -> bytes:
        work, who = self._work, self._work.changes.require_who(role)
        also = work.co_signers(role)
        if role == "snapshot":
            trusted = work.last_version("snapshot")
        else:
            trusted = work.state.version(role)
        first = max(trusted, above) + 1
        asked = 0
        for version in self._free(role, first):
            asked += 1
            if version > MAX_VERSION:
                raise _no_number_above(role, trusted)
            found = work.place.written(role, version)
            signed.version = version
            if found is None:
                return self._signed(signed, role)
            if also is not None and signed_by(found, also) is None:
                continue
            expires = same_but_for_expiry(found, signed, who, now=work.signed_at)
            if expires is not None and abs(signed.expires - expires) <= RECENT:
                signed.expires = expires
                return found
        raise ConflictError(
            f"{work.place.url} has something under each of {asked} names of {role} "
            f"from v{first} on",
            hint="somebody who may push there takes the names before you: remove those "
            "tags with the registry's own tools, and find out who it was",
        )

    def _begun(self) -> int:
        """Return the version of what the place has as the timestamp, if it counts."""
        work = self._work
        if "timestamp" in work.counted and not work.staged.timestamp:
            return 0
        return parse_timestamp(work.before, limit=LIMITS.timestamp).version

    def _signed(self, signed: Signed, role: str) -> bytes:
        """Return a file, signed by the role's keys and by those of the next root."""
        work = self._work
        who, also = work.changes.require_who(role), work.co_signers(role)
        if also is None:
            return signed_bytes(signed, who, work.signers)
        require_complete([who, also], work.signers)
        both = RoleSigners(role, {**also.keys, **who.keys}, who.threshold)
        data = signed_bytes(signed, both, work.signers)
        if any(signed_by(data, one) is None for one in (who, also)):
            raise SignerError(
                f"{role} lacks valid signatures of the old root's keys or the new "
                "one's",
                hint="nothing was written; check the keys or tokens",
            )
        return data

    def _free(self, role: str, first: int) -> Iterator[int]:
        """Yield versions that may be free: the next ones, then those not listed.

        Whoever may push could else keep us from publishing by a hundred names.
        """
        yield from range(first, first + MOST_TAKEN)
        taken = set(self._work.place.versions(role))
        left = MOST_TAKEN
        version = first + MOST_TAKEN
        while left:
            if version not in taken:
                left -= 1
                yield version
            version += 1


def _no_number_above(role: str, version: int) -> RefusedError:
    return RefusedError(
        f"{role} is at v{version}, and there is no number above",
        hint="no honest key signs that: only new keys of snapshot and timestamp, which "
        "root names, lead back (`root propose`)",
    )
