"""A new root where the keys before are lost or stolen: signed by its own keys alone.

What it goes on from is what `recovering` found. Roles and snapshot are written first,
then the root, at last the timestamp; between these two every device refuses the place
and keeps what it has (`adopting`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.authoring.adoption_trial import judged, what_devices_hold
from margo_supplychain.authoring.evidence import require_who
from margo_supplychain.authoring.joining import join_rivals
from margo_supplychain.authoring.lying import is_illegible, require_writable
from margo_supplychain.authoring.overlay import Overlay
from margo_supplychain.authoring.recovering import Recovered, recover
from margo_supplychain.authoring.role_signing import RoleSigning, meta_of
from margo_supplychain.authoring.rolled_back import newer_targets, taken_back
from margo_supplychain.authoring.root_writing import (
    follow,
    moment,
    of_root,
    staged_root,
    write_root,
)
from margo_supplychain.authoring.settings import verified_settings
from margo_supplychain.authoring.signatures import require_complete
from margo_supplychain.authoring.signed_apart import with_draft
from margo_supplychain.authoring.state import (
    LIMITS,
    last_issued,
    require_plausible_time,
)
from margo_supplychain.authoring.witnesses import FloodError
from margo_supplychain.authoring.work import Work
from margo_supplychain.authoring.written import Written
from margo_supplychain.errors import (
    ConflictError,
    ExpiredError,
    FetchError,
    SupplyChainError,
)
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.transport.locations import TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from tuf.api.metadata import Root

    from margo_supplychain.authoring.healing import Beginning
    from margo_supplychain.authoring.place import Place
    from margo_supplychain.authoring.state import State
    from margo_supplychain.authoring.targets_draft import TargetsDraft
    from margo_supplychain.formats.tuf_metadata import RoleFile


def replace_keys(
    start: Beginning,
    chain: Sequence[RoleFile[Root]],
    draft: TargetsDraft | None,
    *,
    is_there: bool,
    problem: SupplyChainError | None = None,
    before: State | None = None,
) -> Written:
    """Sign what the last root of a chain goes on from, with its keys alone.

    Args:
        start: what is at hand.
        chain: verified roots, the one to adopt last.
        draft: what the holders of targets signed apart.
        is_there: whether that one is published already.
        problem: why no edit can begin from what lies there.
        before: what lies there, if one could.
    """
    place, root = start.place, chain[-1]
    recovered = recover(start, chain, is_there=is_there)
    flood = [str(problem)] if isinstance(problem, FloodError) else []
    if isinstance(problem, ConflictError) and recovered.is_kept and not flood:
        # What several published is joined by the keys that signed it, and they stay.
        raise problem
    _require_current(start, recovered)
    if is_there and "targets" not in recovered.lacking:
        draft = None  # it did its work before
    standing = recovered.state.trusted("targets").file
    apart, recovered = with_draft(place, recovered, draft, before)
    if not is_there and "targets" in recovered.lacking:
        newer = newer_targets(start, chain[-2].signed, standing)
        if newer is not None:
            raise taken_back(standing, newer)
    work = _work(start, recovered)
    if not start.time_checked:
        # The root's holders have signed its time.
        require_plausible_time(work.state, moment(start, root))
    roles = _sign(work, recovered, apart)
    staged = Overlay(work.staged, place.source)
    devices = list(what_devices_hold(start, chain))
    told = judged(start, Overlay(staged_root(root), staged), chain, devices, before)
    names = [*recovered.brought, *work.staged.metadata, TIMESTAMP]
    require_writable(place, [*names, file_name("root", root.version)])
    # Somebody may have given their names to something else.
    for name, data in recovered.brought.items():
        place.shelf.restore_metadata(name, data)
    place.write(work)
    if not is_there:
        write_root(place, chain)
    place.commit(work)
    if place.is_own:
        # What an earlier edit never published stays so: see `was_cut_short`.
        work.before = work.staged.timestamp
        place.write_metadata(work)
    told += _joined(work)
    place.settle(work)
    told += follow(start)
    found = {**roles, **of_root(root)}
    warnings = (*recovered.told, *flood, *work.warnings, *told)
    return Written(roles=found, warnings=warnings)


def _require_current(start: Beginning, recovered: Recovered) -> None:
    """Refuse to go on from what may be an old copy; see `Beginning.work`.

    Raises:
        ExpiredError: nothing that lies there is current, and only a memory could tell
            that nothing newer was ever signed.
    """
    newest = recovered.state.timestamp.file
    if start.store is None and not start.place.is_own and newest.expires <= start.now:
        raise ExpiredError(
            f"the newest timestamp at {start.place.url} that can be believed is "
            f"v{newest.version}, and expired at {format_time(newest.expires)}",
            role="timestamp",
            expires=newest.expires,
            now=start.now,
            hint="it may show an old copy: run it where your memory of it is (--state)",
        )


def _work(start: Beginning, recovered: Recovered) -> Work:
    state = recovered.state
    signed_at = moment(start, state.root.file)
    if start.time_checked:
        signed_at = max(signed_at, last_issued(state))
    work = Work(
        state=state,
        place=start.place,
        settings=verified_settings(start.settings, state),
        signers=start.signers,
        now=start.now,
        signed_at=signed_at,
        progress=start.progress,
    )
    work.counted = recovered.counted
    # In a directory, the timestamp before the last edit stays: it may be honest, and
    # what lies there a thief's.
    work.before = b"" if start.place.is_own else _timestamp(start.place)
    return work


def _timestamp(place: Place) -> bytes:
    """Return what lies there as the timestamp, which must still be there later."""
    try:
        return place.source.metadata(TIMESTAMP, limit=LIMITS.timestamp)
    except FetchError as why:
        if is_illegible(place, why):
            return b""
        raise


def _joined(work: Work) -> list[str]:
    """Join what others published meanwhile; say if a flood of names hides it.

    Raises:
        ConflictError, StorageError, FetchError: see `join_rivals`.
    """
    try:
        join_rivals(work, work.state.walk)
    except FloodError as why:
        work.place.witness(work)
        return [f"published, and what others published meanwhile is not known: {why}"]
    return []


def _sign(
    work: Work, recovered: Recovered, apart: bytes | None
) -> Mapping[str, tuple[int, datetime]]:
    root = work.state.root.signed
    lacking = sorted(recovered.lacking - ({"targets"} if apart else frozenset()))
    require_complete([require_who(root, role) for role in lacking], work.signers)
    signing = RoleSigning(work)
    work.staged.metadata.update(recovered.brought)
    meta = dict(recovered.meta)
    if apart is not None:
        work.adopt("targets", apart)
        meta["targets.json"] = signing.adopt("targets", apart)
    elif "targets" in recovered.lacking:
        signed = work.changes.change("targets")
        meta["targets.json"] = signing.sign("targets", signed)
    file = work.state.snapshot.file
    named = meta_of(file.version, file.data)
    if "snapshot" in recovered.lacking:
        named = signing.snapshot(meta, after=recovered.after)
    signing.timestamp(named)
    return signing.roles
