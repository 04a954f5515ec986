"""Making a repository: all of its first metadata, visible in one step.

Everything is written below `.unfinished` and synced; then that directory becomes
`metadata`. A run that is killed leaves nothing that a device could see, and the next
one takes the same directory again.
"""

from __future__ import annotations

import os
from datetime import UTC
from typing import TYPE_CHECKING, Final

from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Snapshot,
    Targets,
    Timestamp,
)

from margo_supplychain import threshold
from margo_supplychain.authoring.holders import holders_field
from margo_supplychain.authoring.overlay import Nowhere, Overlay, Staged
from margo_supplychain.authoring.plan import RoleKeys
from margo_supplychain.authoring.proposal_rules import check_time
from margo_supplychain.authoring.proposals import RootProposal
from margo_supplychain.authoring.rehearsal import Subjects, rehearse_creation
from margo_supplychain.authoring.role_signing import meta_of
from margo_supplychain.authoring.roles import RoleSigners, kind_of
from margo_supplychain.authoring.settings import (
    DIRECTORY,
    FILE_NAME,
    Settings,
    signed_periods,
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
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from securesystemslib.signer import Signer
    from tuf.api.metadata import Signed

    from margo_supplychain.authoring.plan import RootPlan
    from margo_supplychain.authoring.proposals import SignedRoot

ROOT: Final = "root"
UNFINISHED: Final = ".unfinished"
LOCK_TIMEOUT: Final = 60.0  # seconds
# What a killed run may have left, besides temporary files.
_OURS: Final = frozenset(
    {DIRECTORY, UNFINISHED, LOCK_FILE, "blobs", "index.json", "oci-layout"}
)


def create(
    directory: Path,
    *,
    plan: RootPlan,
    keys: Sequence[Signer],
    root: SignedRoot | None,
    now: datetime,
) -> None:
    """Make a repository; see `Repository.create`."""
    now = now.astimezone(UTC).replace(microsecond=0)
    _check_free(directory)
    if root is not None:
        _require_planned(root, plan)
        check_time(root.root, now)
    require_complete(_who(plan, root), Signers(keys))
    root = root or _first_root(plan, keys, now)
    staged = _first_metadata(plan, root, Signers(keys), now)
    publishers = () if plan.publisher_keys is None else (str(plan.publisher),)
    overlay = Overlay(staged, Nowhere(str(directory)))
    rehearse_creation(overlay, root.data, Subjects(publishers, {}), now=now)
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


def _first_root(plan: RootPlan, keys: Sequence[Signer], now: datetime) -> SignedRoot:
    """Propose the first root, and sign it with the keys at hand."""
    proposal = RootProposal.first(plan, now=now)
    for key in keys:
        if threshold.material(key.public_key) in plan.root.materials():
            proposal = proposal.sign(key)
    return proposal.finalize()


def _require_planned(root: SignedRoot, plan: RootPlan) -> None:
    """Refuse a root that was signed for something else.

    Raises:
        RefusedError: it is no first root, or says something else than the plan.
    """
    if root.version != 1:
        raise RefusedError(
            f"root v{root.version} is no first root",
            hint="finalize it where root v1 is: `root finalize`",
        )
    signed = root.root.signed
    for role, wanted in plan.top.items():
        found = RoleKeys.of(signed, role)
        if (found.materials(), found.threshold) != (
            wanted.materials(),
            wanted.threshold,
        ):
            raise RefusedError(
                f"the root that was signed has other keys of {role}, or another "
                "threshold, than the plan"
            )
    if signed_periods(signed) != plan.periods:
        raise RefusedError("the root that was signed has other periods than the plan")


def _who(plan: RootPlan, root: SignedRoot | None) -> list[RoleSigners]:
    """Return who signs the first metadata; root as well, if nobody has yet."""
    keys = {role: one for role, one in plan.top.items() if root is None or role != ROOT}
    if plan.publisher is not None and plan.publisher_keys is not None:
        keys[plan.publisher] = plan.publisher_keys
    return [
        RoleSigners(role, {key.keyid: key for key in one.keys}, one.threshold)
        for role, one in keys.items()
    ]


def _first_metadata(
    plan: RootPlan, root: SignedRoot, signers: Signers, now: datetime
) -> Staged:
    who = {one.role: one for one in _who(plan, root)}
    staged = Staged(metadata={file_name(ROOT, 1): root.data})

    def sign(role: str, signed: Signed) -> bytes:
        signed.expires = now + plan.period(kind_of(role))
        return signed_bytes(signed, who[role], signers)

    def stage(role: str, signed: Signed) -> bytes:
        data = sign(role, signed)
        staged.metadata[file_name(role, 1)] = data
        return data

    meta = {"targets.json": meta_of(1, stage("targets", _targets(plan)))}
    if plan.publisher is not None and plan.publisher_keys is not None:
        data = stage(plan.publisher, Targets())
        meta[f"{plan.publisher}.json"] = meta_of(1, data)
    named = meta_of(1, stage("snapshot", Snapshot(meta=meta)))
    issued = {ISSUED: format_time(now)}
    timestamp = Timestamp(snapshot_meta=named, unrecognized_fields=issued)
    staged.timestamp = sign("timestamp", timestamp)
    return staged


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
