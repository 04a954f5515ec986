"""How an edit ends: sign, let devices judge it, write it, `timestamp.json` last.

Until the timestamp is replaced every device sees the old state. A run that is killed
leaves files that no metadata names; the next takes them if they are what it would have
signed itself, or else other versions.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from tuf.api.metadata import MetaFile, Snapshot, Timestamp

from margo_supplychain.authoring.edit import Written
from margo_supplychain.authoring.overlay import Overlay
from margo_supplychain.authoring.policies import drop_void_marks
from margo_supplychain.authoring.rehearsal import Subjects, rehearse_edit
from margo_supplychain.authoring.roles import kind_of
from margo_supplychain.authoring.signatures import (
    require_complete,
    same_but_for_expiry,
    signed_bytes,
)
from margo_supplychain.authoring.state import require_plausible_time
from margo_supplychain.errors import ConflictError, StorageError
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.tuf_metadata import ISSUED, file_name

if TYPE_CHECKING:
    from datetime import datetime

    from tuf.api.metadata import Signed

    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.authoring.work import Work
    from margo_supplychain.verify.refresh import Walk
    from margo_supplychain.verify.trust_store import TrustStore

MOST_TAKEN: Final = 100  # names in a row that somebody else has written


def finish(work: Work, *, time_checked: bool, store: TrustStore | None) -> Written:
    """Sign, rehearse and write an edit; nothing if nothing changed.

    Raises:
        IncompleteError: keys are missing; names each role.
        ClockError: the author's clock is not plausible.
        SupplyChainError: a device would refuse the result.
        ConflictError: somebody else published in the meantime.
        StorageError: it can't be written.
    """
    state, place = work.state, work.place
    drop_void_marks(work)
    if work.changes.touched:
        work.top.update(("snapshot", "timestamp"))
    restored = len(work.restored)
    if not work.top:
        if not work.staged.is_empty():
            place.write(work)
        _remember(store, work, state.walk)
        return Written(blobs_restored=restored)
    if not time_checked:
        require_plausible_time(state, work.now)
    roles = _sign(work)
    overlay = Overlay(work.staged, place.source)
    subjects = Subjects.of(work)
    walk = rehearse_edit(overlay, state, subjects, now=work.signed_at)
    stored = place.write(work)
    place.commit(work)
    _remember(store, work, walk)
    return Written(
        roles=roles,
        blobs_new=stored.new,
        blobs_there=stored.there,
        blobs_restored=restored,
    )


def meta_of(version: int, data: bytes) -> MetaFile:
    """Return what snapshot or timestamp says of a metadata file."""
    return MetaFile(
        version=version,
        length=len(data),
        hashes={"sha256": hashlib.sha256(data).hexdigest()},
    )


def _sign(work: Work) -> dict[str, tuple[int, datetime]]:
    who = {
        role: work.changes.require_who(role)
        for role in (*work.changes.touched, *sorted(work.top))
    }
    require_complete(list(who.values()), work.signers)
    signing = _Signing(work, who)
    meta = dict(work.state.snapshot.signed.meta)
    for role in work.changes.touched:
        version, data = signing.sign(role, work.changes.view(role))
        meta[f"{role}.json"] = meta_of(version, data)
    named = work.state.timestamp.signed.snapshot_meta
    if "snapshot" in work.top:
        named = meta_of(*signing.sign("snapshot", Snapshot(meta=meta)))
    timestamp = Timestamp(
        snapshot_meta=named, unrecognized_fields={ISSUED: format_time(work.signed_at)}
    )
    signing.sign("timestamp", timestamp)
    return signing.roles


class _Signing:
    def __init__(self, work: Work, who: dict[str, RoleSigners]) -> None:
        self._work = work
        self._who = who
        self.roles: dict[str, tuple[int, datetime]] = {}

    def sign(self, role: str, signed: Signed) -> tuple[int, bytes]:
        """Sign and stage one role; return its version and bytes."""
        work = self._work
        signed.expires = work.signed_at + work.settings.period(kind_of(role))
        if role == "timestamp":
            signed.version = work.state.timestamp.version + 1
            data = signed_bytes(signed, self._who[role], work.signers)
            work.staged.timestamp = data
        else:
            data = self._versioned(role, signed)
            work.staged.metadata[file_name(role, signed.version)] = data
        self.roles[role] = (signed.version, signed.expires)
        return signed.version, data

    def _versioned(self, role: str, signed: Signed) -> bytes:
        """Sign a role under the first version whose name nobody has written.

        A run that was killed, or a publisher who was slower, leaves files that no
        snapshot names, and a versioned name never has two contents. What says the same
        as ours and verifies is taken as it is; any other name is passed over.
        """
        work, who = self._work, self._who[role]
        if role == "snapshot":
            trusted = work.state.snapshot.version
        else:
            trusted = work.state.version(role)
        for version in range(trusted + 1, trusted + 1 + MOST_TAKEN):
            found = work.place.written(role, version)
            signed.version = version
            if found is None:
                return signed_bytes(signed, who, work.signers)
            expires = same_but_for_expiry(found, signed, who, now=work.signed_at)
            if expires is not None:
                signed.expires = expires
                return found
        raise ConflictError(
            f"{work.place.url} has files of {role} v{trusted + 1} to "
            f"v{trusted + MOST_TAKEN} that no snapshot names"
        )


def _remember(store: TrustStore | None, work: Work, walk: Walk) -> None:
    if store is None:
        return
    state = work.state
    accepted = {**state.walk.accepted, **walk.accepted}
    files = {role: data for role, data in accepted.items() if role != "root"}
    try:
        store.keep(state.before, walk.workflow.complete(), files, {})
    except ConflictError:
        # Somebody verified with the same memory in the meantime, and the repository is
        # written already. The memory never falls; the next run brings it up to date.
        return
    except StorageError as why:
        # What is written is written: it must not be reported as a failure.
        work.warnings.append(
            f"the repository is written, the author's memory of it is not: {why}"
        )
