"""How an edit ends: sign, let devices judge it, write it, `timestamp.json` last.

Until `timestamp.json` is replaced, in one step, every device sees the old state. A run
that is killed leaves files that no metadata names, and versions that the next skips.
"""

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING, Final

from tuf.api.metadata import MetaFile, Snapshot, Timestamp

from margo_supplychain.authoring.edit import Written
from margo_supplychain.authoring.overlay import Overlay
from margo_supplychain.authoring.policies import drop_void_marks
from margo_supplychain.authoring.rehearsal import Subjects, rehearse_edit
from margo_supplychain.authoring.roles import kind_of
from margo_supplychain.authoring.settings import DIRECTORY
from margo_supplychain.authoring.signatures import require_complete, signed_bytes
from margo_supplychain.authoring.state import LIMITS, require_plausible_time
from margo_supplychain.errors import (
    ConflictError,
    StorageError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.tuf_metadata import ISSUED, file_name
from margo_supplychain.storage.content_store import blob_path
from margo_supplychain.storage.durable import (
    clean_temporary,
    make_directory,
    remove_file,
    write_file,
)
from margo_supplychain.transport.directory import DirectorySink
from margo_supplychain.verify.content_checks import check_stored

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from tuf.api.metadata import Signed

    from margo_supplychain.authoring.overlay import Staged
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.verify.refresh import Walk
    from margo_supplychain.verify.trust_store import TrustStore

PREVIOUS: Final = "previous-timestamp.json"
"""The timestamp before the last edit, for `Repository.check`; signed, not trusted."""


def finish(
    work: Work, directory: Path, *, time_checked: bool, store: TrustStore | None
) -> Written:
    """Sign, rehearse and write an edit; nothing if nothing changed.

    Raises:
        IncompleteError: keys are missing; names each role.
        ClockError: the author's clock is not plausible.
        SupplyChainError: a device would refuse the result.
        StorageError: it can't be written.
    """
    state = work.state
    drop_void_marks(work)
    if work.changes.touched:
        work.top.update(("snapshot", "timestamp"))
    sink = DirectorySink(directory)
    restored = len(work.restored)
    if not work.top:
        if not work.staged.is_empty():
            write_content(sink, work)
        _remember(store, work, state.walk)
        return Written(blobs_restored=restored)
    if not time_checked:
        require_plausible_time(state, work.now)
    roles = _sign(work, directory)
    overlay = Overlay(work.staged, sink)
    subjects = Subjects.of(work)
    walk = rehearse_edit(overlay, state, subjects, now=work.signed_at)
    new, there = write_content(sink, work)
    make_directory(directory / DIRECTORY)
    write_file(directory / DIRECTORY / PREVIOUS, state.timestamp.file.data)
    sink.put_metadata("timestamp.json", work.staged.timestamp)
    _remember(store, work, walk)
    return Written(
        roles=roles, blobs_new=new, blobs_there=there, blobs_restored=restored
    )


def write_content(sink: DirectorySink, work: Work) -> tuple[int, int]:
    """Write everything but the timestamp; return how many blobs were new, and not.

    New content that a device would refuse is taken away again.

    Raises:
        VerificationError: a blob is not what was signed, or no device takes it.
        StorageError, FetchError: something can't be written, or read.
    """
    staged = work.staged
    store = sink.content()
    # What killed runs left, before it could be what fills the disk.
    store.clean()
    _clean(sink.directory, staged)
    new: list[Descriptor] = []
    try:
        for what, opener in staged.blobs.values():
            is_new = not store.has(what)
            if not store.keep_intact(what):
                new += [what] if is_new else []
                with opener() as stream:
                    sink.put_blob(what, stream)
        for record, elsewhere in work.records:
            check_stored(record, store, limits=LIMITS, elsewhere=elsewhere)
    except SupplyChainError as why:
        for what in new:
            remove_file(blob_path(store.directory, what.digest))
        if isinstance(why, VerificationError):
            why.hint = "nothing was published: every device would refuse the release"
        raise
    for path, (what, data) in staged.targets.items():
        sink.put_target(path, what, io.BytesIO(data))
    for name, data in staged.metadata.items():
        sink.put_metadata(name, data)
    return len(new), len(staged.blobs) - len(new)


def _clean(directory: Path, staged: Staged) -> None:
    places = {directory / "metadata", directory / DIRECTORY}
    # Not all of targets/: that would cost what the repository holds.
    places.update((directory / "targets" / path).parent for path in staged.targets)
    for place in places:
        if place.is_dir():
            clean_temporary(place)


def meta_of(version: int, data: bytes) -> MetaFile:
    """Return what snapshot or timestamp says of a metadata file."""
    return MetaFile(
        version=version,
        length=len(data),
        hashes={"sha256": hashlib.sha256(data).hexdigest()},
    )


def next_version(directory: Path, role: str, trusted: int) -> int:
    """Return the first version above `trusted` whose name was never written.

    A run that was killed leaves files that nobody saw. Their names are not used again:
    a versioned name never has two contents.
    """
    version = trusted + 1
    while os.path.lexists(directory / "metadata" / file_name(role, version)):
        version += 1
    return version


def _sign(work: Work, directory: Path) -> dict[str, tuple[int, datetime]]:
    who = {
        role: work.changes.require_who(role)
        for role in (*work.changes.touched, *sorted(work.top))
    }
    require_complete(list(who.values()), work.signers)
    signing = _Signing(work, directory, who)
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
    def __init__(
        self, work: Work, directory: Path, who: dict[str, RoleSigners]
    ) -> None:
        self._work = work
        self._directory = directory
        self._who = who
        self.roles: dict[str, tuple[int, datetime]] = {}

    def sign(self, role: str, signed: Signed) -> tuple[int, bytes]:
        """Sign and stage one role; return its version and bytes."""
        work = self._work
        if role == "timestamp":
            signed.version = work.state.timestamp.version + 1
        elif role == "snapshot":
            trusted = work.state.snapshot.version
            signed.version = next_version(self._directory, role, trusted)
        else:
            trusted = work.state.version(role)
            signed.version = next_version(self._directory, role, trusted)
        signed.expires = work.signed_at + work.settings.period(kind_of(role))
        data = signed_bytes(signed, self._who[role], work.signers)
        if role == "timestamp":
            work.staged.timestamp = data
        else:
            work.staged.metadata[file_name(role, signed.version)] = data
        self.roles[role] = (signed.version, signed.expires)
        return signed.version, data


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
