"""Making a repository: all of its first metadata, visible in one step.

Everything is written below `.unfinished` and synced; then that directory becomes
`metadata`. A run that is killed leaves nothing that a device could see, and the next
one takes the same directory again.
"""

from __future__ import annotations

import os
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Role,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)

from margo_supplychain.authoring.holders import holders_field
from margo_supplychain.authoring.overlay import Nowhere, Overlay, Staged
from margo_supplychain.authoring.rehearsal import Subjects, rehearse_creation
from margo_supplychain.authoring.role_signing import meta_of
from margo_supplychain.authoring.roles import RoleSigners, kind_of
from margo_supplychain.authoring.root_fields import root_fields
from margo_supplychain.authoring.settings import (
    DIRECTORY,
    FILE_NAME,
    Settings,
    write_settings,
)
from margo_supplychain.authoring.signatures import (
    Signers,
    require_complete,
    signed_bytes,
)
from margo_supplychain.errors import RefusedError
from margo_supplychain.formats.names import publisher_patterns
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.tuf_metadata import ISSUED, file_name
from margo_supplychain.storage import durable
from margo_supplychain.storage.content_store import ContentStore
from margo_supplychain.storage.lock import FILE_NAME as LOCK_FILE
from margo_supplychain.storage.lock import DirectoryLock

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from tuf.api.metadata import Signed

    from margo_supplychain.authoring.plan import RoleKeys, RootPlan

UNFINISHED: Final = ".unfinished"
LOCK_TIMEOUT: Final = 60.0  # seconds
# What a killed run may have left, besides temporary files.
_OURS: Final = frozenset(
    {DIRECTORY, UNFINISHED, LOCK_FILE, "blobs", "index.json", "oci-layout"}
)


def create(directory: Path, *, plan: RootPlan, signers: Signers, now: datetime) -> None:
    """Make a repository; see `Repository.create`."""
    now = now.astimezone(UTC).replace(microsecond=0)
    _check_free(directory)
    staged = _first_metadata(plan, signers, now)
    root = staged.metadata["1.root.json"]
    publishers = () if plan.publisher_keys is None else (str(plan.publisher),)
    overlay = Overlay(staged, Nowhere(str(directory)))
    rehearse_creation(overlay, root, Subjects(publishers, {}), now=now)
    durable.make_directory(directory)
    with DirectoryLock(directory, timeout=LOCK_TIMEOUT):
        _check_free(directory)
        durable.clean_temporary(directory)
        # The settings come first: they tell what a killed run left from a layout that
        # somebody else made.
        write_settings(directory, Settings.of(plan))
        ContentStore.create(directory)
        _write(directory, {**staged.metadata, "timestamp.json": staged.timestamp})


def _check_free(directory: Path) -> None:
    with durable.storage_errors(directory, "list", missing_passes=True):
        try:
            found = {one.name for one in directory.iterdir()}
        except FileNotFoundError:
            return
    unfinished = os.path.lexists(directory / DIRECTORY / FILE_NAME) or found <= {
        DIRECTORY,
        LOCK_FILE,
    }
    foreign = {one for one in found - _OURS if not one.startswith(".tmp-")}
    if "metadata" in found:
        raise RefusedError(
            f"{directory} holds a trust repository already",
            hint="name a new directory; nothing was changed",
        )
    if foreign or not unfinished:
        raise RefusedError(
            f"{directory} is not empty: it holds {min(foreign or found)}",
            hint="name a new or empty directory; nothing was changed",
        )


def _write(directory: Path, files: dict[str, bytes]) -> None:
    place = directory / UNFINISHED
    durable.make_directory(place)
    for left in sorted(place.iterdir()):
        if left.name not in files:
            durable.remove_file(left)
    for name, data in files.items():
        durable.write_file(place / name, data)
    with durable.storage_errors(directory, "write"):
        durable.operations.replace(place, directory / "metadata")
        durable.operations.sync_directory(directory)


def _first_metadata(plan: RootPlan, signers: Signers, now: datetime) -> Staged:
    who = {
        "root": plan.root,
        "targets": plan.targets,
        "snapshot": plan.snapshot,
        "timestamp": plan.timestamp,
    }
    if plan.publisher is not None and plan.publisher_keys is not None:
        who[plan.publisher] = plan.publisher_keys
    roles = {
        role: RoleSigners(role, {key.keyid: key for key in one.keys}, one.threshold)
        for role, one in who.items()
    }
    require_complete(list(roles.values()), signers)
    staged = Staged()

    def sign(role: str, signed: Signed) -> bytes:
        signed.expires = now + plan.period(kind_of(role))
        return signed_bytes(signed, roles[role], signers)

    def stage(role: str, signed: Signed) -> bytes:
        data = sign(role, signed)
        staged.metadata[file_name(role, 1)] = data
        return data

    issued = {ISSUED: format_time(now)}
    stage("root", _root(who, {**issued, **root_fields(plan)}))
    meta = {"targets.json": meta_of(1, stage("targets", _targets(plan)))}
    if plan.publisher is not None and plan.publisher_keys is not None:
        data = stage(plan.publisher, Targets())
        meta[f"{plan.publisher}.json"] = meta_of(1, data)
    named = meta_of(1, stage("snapshot", Snapshot(meta=meta)))
    timestamp = Timestamp(snapshot_meta=named, unrecognized_fields=issued)
    staged.timestamp = sign("timestamp", timestamp)
    return staged


def _root(who: dict[str, RoleKeys], fields: dict[str, Any]) -> Root:
    top = ("root", "targets", "snapshot", "timestamp")
    return Root(
        keys={key.keyid: key for role in top for key in who[role].keys},
        roles={role: Role(list(who[role].keyids), who[role].threshold) for role in top},
        consistent_snapshot=True,
        unrecognized_fields=fields,
    )


def _targets(plan: RootPlan) -> Targets:
    if plan.publisher is None or plan.publisher_keys is None:
        return Targets()
    keys = plan.publisher_keys
    role = DelegatedRole(
        name=plan.publisher,
        keyids=list(keys.keyids),
        threshold=keys.threshold,
        terminating=True,
        paths=list(publisher_patterns(plan.publisher)),
    )
    return Targets(
        delegations=Delegations(
            keys={key.keyid: key for key in keys.keys}, roles={plan.publisher: role}
        ),
        unrecognized_fields=holders_field(plan.holders, keys.keyids),
    )
