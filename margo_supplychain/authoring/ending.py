"""How an edit ends: sign, let devices judge it, write it, `timestamp.json` last.

Until the timestamp is replaced every device sees the old state. A run that is killed
leaves files that no metadata names; the next takes them if they are what it would have
signed itself, or else other versions.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from margo_supplychain.authoring.joining import join_rivals
from margo_supplychain.authoring.overlay import Overlay
from margo_supplychain.authoring.policies import drop_void_marks
from margo_supplychain.authoring.rehearsal import Subjects, rehearse_edit
from margo_supplychain.authoring.role_signing import RoleSigning
from margo_supplychain.authoring.signatures import require_complete
from margo_supplychain.authoring.state import require_plausible_time
from margo_supplychain.authoring.strays import strays
from margo_supplychain.authoring.written import Written
from margo_supplychain.errors import ConflictError, FetchError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from margo_supplychain.authoring.work import Work
    from margo_supplychain.verify.refresh import Walk
    from margo_supplychain.verify.trust_store import TrustStore


def finish(
    work: Work,
    *,
    time_checked: bool,
    store: TrustStore | None,
    judge: Callable[[Overlay], None] | None = None,
) -> Written:
    """Sign, rehearse and write an edit; nothing if nothing changed.

    Args:
        work: the edit.
        time_checked, store: see `Repository.edit`.
        judge: looks at what is staged as well, and raises when it must not be written.

    Raises:
        IncompleteError: keys are missing; names each role.
        ClockError: the author's clock is not plausible.
        SupplyChainError: a device would refuse the result.
        ConflictError: somebody else published in the meantime.
        StorageError: it can't be written.
    """
    state, place = work.state, work.place
    work.warnings.extend(strays(state.walk))
    drop_void_marks(work)
    for role, why in work.changes.renewed.items():
        if role in work.changes.touched:
            work.warnings.append(why)
    if (
        work.changes.touched
        or work.adopted
        or (
            # Where others may publish at the same time, snapshots tell of them.
            work.top and not place.is_own and work.can_sign("snapshot")
        )
    ):
        work.top.update(("snapshot", "timestamp"))
    restored = len(work.restored)
    if not work.top:
        if not work.staged.is_empty():
            work.warnings.extend(place.write(work).told)
        _remember(store, work, state.walk)
        return Written(blobs_restored=restored)
    if not time_checked:
        require_plausible_time(state, work.now)
    roles = _sign(work)
    overlay = Overlay(work.staged, place.source)
    subjects = Subjects.of(work)
    walk = rehearse_edit(overlay, state, subjects, now=work.signed_at)
    if judge is not None:
        judge(overlay)
    stored = place.write(work)
    work.warnings.extend(stored.told)
    with _uncertain():
        place.commit(work)
        joined = join_rivals(work, walk)
    place.settle(work)
    _remember(store, work, joined.walk)
    if joined.lost:
        raise ConflictError(
            f"{place.url}: somebody else changed {', '.join(sorted(joined.lost))} at "
            "the same time, and was faster"
        )
    return Written(
        roles={**roles, **joined.roles},
        blobs_new=stored.new,
        blobs_there=stored.there,
        blobs_restored=restored,
    )


@contextmanager
def _uncertain() -> Iterator[None]:
    """Say what is to be done when an answer about the timestamp gets lost."""
    try:
        yield
    except FetchError as why:
        if why.hint == why.default_hint:
            why.hint = (
                "it may be published, or not: run it again, and what is published "
                "stays as it is"
            )
        raise


def _sign(work: Work) -> dict[str, tuple[int, datetime]]:
    roles = (*work.changes.touched, *sorted(work.top))
    require_complete([work.changes.require_who(role) for role in roles], work.signers)
    work.changes.require_room()
    signing = RoleSigning(work)
    meta = dict(work.state.snapshot.signed.meta)
    for role, data in work.adopted.items():
        meta[f"{role}.json"] = signing.adopt(role, data)
    for role in work.changes.touched:
        meta[f"{role}.json"] = signing.sign(role, work.changes.view(role))
    named = work.state.timestamp.signed.snapshot_meta
    if "snapshot" in work.top:
        named = signing.snapshot(meta, after=[work.state.snapshot.file])
    signing.timestamp(named)
    return signing.roles


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
