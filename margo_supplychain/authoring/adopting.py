"""Adopting a root: its file, and what its keys must sign, in an order that is safe.

Devices follow `N.root.json` as soon as it is there. So:

    alone      nothing has to be signed again: the root is written, and that is all
    handed on  the keys before and the new ones are at hand: roles, snapshot and
               timestamp get the signatures of both and are published as an edit under
               the old root. Then the root is written. Every device accepts every state
    replaced   the keys before were stolen or lost, nothing honest is left of what they
               signed, or a run was killed: roles and snapshot, then the root, at last
               the timestamp. Between these two writes every device refuses the place
               and keeps what it has

Who holds the keys of targets may have signed apart (`targets_draft`): then none of them
is needed here, neither the new ones nor, if they signed as well, those before.

Before anything is written, devices judge the result (`adoption_trial`): a fresh one,
one on the last root, those that hold what lies there now, and the author's memory. Run
again after a kill, it goes on where that one ended; so does any edit with the keys of
the new root.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.authoring.adoption_trial import judged, what_devices_hold
from margo_supplychain.authoring.directory_place import DirectoryPlace
from margo_supplychain.authoring.ending import finish
from margo_supplychain.authoring.evidence import (
    SANE,
    needs_signing,
    read_chain,
    require_who,
)
from margo_supplychain.authoring.healing import begin
from margo_supplychain.authoring.joining import join_rivals
from margo_supplychain.authoring.overlay import Overlay, Staged, Until
from margo_supplychain.authoring.proposal_rules import check_returning, check_time
from margo_supplychain.authoring.recovering import Recovered, recover
from margo_supplychain.authoring.rehearsal import holder_of
from margo_supplychain.authoring.role_signing import RoleSigning, meta_of
from margo_supplychain.authoring.settings import verified_settings
from margo_supplychain.authoring.signatures import require_complete
from margo_supplychain.authoring.signed_apart import (
    TOP,
    as_written,
    read_draft,
    unless_there,
    with_draft,
)
from margo_supplychain.authoring.state import (
    LIMITS,
    Roots,
    last_issued,
    load,
    read_roots,
    require_plausible_time,
)
from margo_supplychain.authoring.unfinished import (
    FINISH,
    is_no_root,
    require_writable,
    unfinished,
)
from margo_supplychain.authoring.work import Work
from margo_supplychain.authoring.written import Written
from margo_supplychain.errors import (
    ClockError,
    ConflictError,
    ExpiredError,
    FetchError,
    IncompleteError,
    RefusedError,
    StorageError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.storage.durable import clean_temporary
from margo_supplychain.transport.locations import TIMESTAMP
from margo_supplychain.verify.clock import StoppedClock
from margo_supplychain.verify.memory import Memory
from margo_supplychain.verify.workflow import Demand, Workflow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from tuf.api.metadata import Root

    from margo_supplychain.authoring.healing import Beginning
    from margo_supplychain.authoring.place import Place
    from margo_supplychain.authoring.state import State
    from margo_supplychain.authoring.targets_draft import TargetsDraft
    from margo_supplychain.formats.tuf_metadata import RoleFile

_REPLACED: Final = (
    "the keys before were not at hand, so they count as lost or stolen: for a moment "
    "devices refused what lay there; in a routine rotation give them as well"
)


def adopt(
    start: Beginning, root: RoleFile[Root], *, targets: bytes | None = None
) -> Written:
    """Adopt a root that both thresholds have signed; see `Repository.adopt_root`."""
    if isinstance(start.place, DirectoryPlace):
        clean_temporary(start.place.directory / "metadata")  # what killed runs left
    found = read_chain(start)
    newest = found.newest
    if root.version <= newest.version:
        _require_same(start.place, root, found)
        draft = read_draft(start, found.chain, targets)
        return _continue(start, found.chain, draft)
    _require_next(start.place, root, found)
    chain = (*found.chain, root)
    check_time(root, start.now)
    check_returning(root, [one.signed for one in found.chain])
    draft = read_draft(start, chain, targets)
    try:
        if found.problem is not None:
            raise found.problem
        work = begin(start)
    except (ExpiredError, ClockError):
        raise  # it may be an old copy that a registry shows
    except (VerificationError, FetchError, ConflictError) as why:
        if isinstance(why, FetchError) and not why.missing:
            if why is not found.problem or not is_no_root(start.place, root, why):
                raise
            require_writable(start.place, root)
        return _replace(start, chain, draft, is_there=False, problem=why)
    standing = work.state.walk.workflow.roles["targets"].file
    lacking = _lacking(work.state, root, start)
    draft = unless_there(draft, standing)
    if draft is not None:
        draft.require_follows(standing)
        draft = as_written(start.place, draft)
        lacking |= TOP
    if not lacking:
        return _alone(start, work, root)
    if _is_handed_on(work, root.signed, lacking, draft):
        return _hand_on(start, work, root, lacking, draft)
    written = _replace(start, chain, draft, is_there=False, before=work.state)
    if "root" in work.state.walk.expired or _is_odd(work.state):
        return written
    return replace(written, warnings=(*written.warnings, _REPLACED))


def resume(start: Beginning) -> Written | None:
    """Finish a root that is there, and whose metadata is not signed for it yet.

    Returns:
        What was written, so that an edit can begin; None if there was no such root.

    Raises:
        IncompleteError: it needs keys that are not at hand.
    """
    found = read_chain(start)
    problem = unfinished(start.place.source, found)
    if problem is None:
        return None
    if start.signers.is_empty:
        raise IncompleteError(problem, hint=FINISH)
    try:
        return _replace(start, found.chain, None, is_there=True)
    except IncompleteError as why:
        raise IncompleteError(f"{problem}: {why}", hint=FINISH) from why


# --- what is asked for ---------------------------------------------------------------


def _require_same(place: Place, root: RoleFile[Root], found: Roots) -> None:
    """Refuse a root in whose place another one stands.

    Raises:
        RefusedError: it does, or newer ones follow it already.
    """
    known = [one for one in found.chain if one.version == root.version]
    if not known or known[0].payload != root.payload:
        raise RefusedError(
            f"{place.url} has another root v{root.version}",
            hint="somebody else's ceremony was faster: propose the next root from what "
            "stands now (`root propose`)",
        )
    if known[0].version < found.newest.version:
        raise RefusedError(
            f"root v{root.version} is there already, and root v{found.newest.version} "
            "follows it",
            hint="there is nothing to do",
        )


def _require_next(place: Place, root: RoleFile[Root], found: Roots) -> None:
    """Refuse a root that devices would not follow from the newest one.

    Raises:
        RefusedError: roots between are missing.
        VerificationError: it is not signed as it must be.
    """
    newest = found.newest
    if root.version != newest.version + 1:
        raise RefusedError(
            f"root v{root.version} does not follow root v{newest.version}, the newest "
            f"at {place.url}",
            hint="finalize those between first, in order",
        )
    last = Memory(root=newest.data, publishers=None)
    Workflow(last, demand=Demand.MARGO, limits=LIMITS).update_root(root.data)


def _lacking(state: State, root: RoleFile[Root], start: Beginning) -> frozenset[str]:
    """Return the top-level roles that must be signed for a root.

    Devices take the time at which the root was issued for the least that it is now, so
    what expires before that has expired.
    """
    files: list[RoleFile[Any]] = [state.snapshot.file, state.timestamp.file]
    files.append(state.walk.workflow.roles["targets"].file)
    late = start._replace(now=_moment(start, root))
    found = {one.role for one in files if needs_signing(one, root.signed, late)}
    if "targets" in found:
        found.add("snapshot")
    if "snapshot" in found:
        found.add("timestamp")
    return frozenset(found)


def _moment(start: Beginning, root: RoleFile[Root]) -> datetime:
    """Return now; or when a root was issued, if its machine's clock was ahead."""
    return start.now if root.issued is None else max(start.now, root.issued)


def _is_odd(state: State) -> bool:
    """Say whether versions are such as only a thief would choose."""
    return max(state.timestamp.version, state.snapshot.version) > SANE


def _is_handed_on(
    work: Work, root: Root, lacking: frozenset[str], draft: TargetsDraft | None
) -> bool:
    """Say whether old and new keys can sign together, so that nobody sees a gap.

    Those of targets may have done so before (`draft`).
    """
    state = work.state
    if "root" in state.walk.expired or _is_odd(state):
        return False  # devices on the old root refuse whatever it says
    if draft is not None and not draft.old.met:
        return False
    return all(
        work.can_sign(role) and work.signers.suffice(require_who(root, role))
        for role in (lacking if draft is None else lacking - {"targets"})
    )


# --- alone, handed on ----------------------------------------------------------------


def _alone(start: Beginning, work: Work, root: RoleFile[Root]) -> Written:
    chain = (work.state.root.file, root)
    source = start.place.source
    devices = [holder_of(work.state, "a device with the previous state")]
    told = judged(start, Overlay(_staged(root), source), chain, devices, work.state)
    _write_root(start.place, chain)
    told += _follow(start)
    return Written(roles=_of_root(root), warnings=(*work.warnings, *told))


def _hand_on(
    start: Beginning,
    work: Work,
    root: RoleFile[Root],
    lacking: frozenset[str],
    draft: TargetsDraft | None,
) -> Written:
    """Publish under the old root what the new one's keys have signed, too."""
    previous = holder_of(work.state, "a device with the previous state")
    chain = (work.state.root.file, root)
    told: list[str] = []

    def judge(overlay: Overlay) -> None:
        staged = Overlay(_staged(root), overlay)
        told.extend(judged(start, staged, chain, [previous], work.state))

    work.next_root = root.signed
    work.signed_at = max(work.signed_at, _moment(start, root))
    if draft is not None:
        work.adopt("targets", draft.data)
    elif "targets" in lacking:
        work.changes.change("targets")
    work.top.update(lacking - {"targets"})
    written = finish(
        work, time_checked=start.time_checked, store=start.store, judge=judge
    )
    # Somebody may have published right after: then this one starts again.
    state = load(
        start.place.source,
        first_root=start.first_root,
        store=start.store,
        clock=StoppedClock(start.now),
    )
    if _lacking(state, root, start):
        raise ConflictError(f"{start.place.url}: somebody else published meanwhile")
    _write_root(start.place, chain)
    told += _follow(start)
    roles = {**written.roles, **_of_root(root)}
    return Written(roles=roles, warnings=(*work.warnings, *told))


# --- replaced ------------------------------------------------------------------------


def _continue(
    start: Beginning, chain: Sequence[RoleFile[Root]], draft: TargetsDraft | None
) -> Written:
    """Finish the newest root, if it is not finished; write nothing else."""
    try:
        begin(start)
    except (VerificationError, FetchError):
        if unfinished(start.place.source, Roots(tuple(chain), None)) is None:
            raise
        return _replace(start, chain, draft, is_there=True)
    return Written(warnings=tuple(_follow(start)))


def _replace(
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
    if isinstance(problem, ConflictError) and recovered.is_kept:
        # What several published is joined by the keys that signed it, and they stay.
        raise problem
    _require_current(start, recovered)
    if is_there and "targets" not in recovered.lacking:
        draft = None  # it did its work before
    apart, recovered = with_draft(place, recovered, draft, before)
    work = _work(start, recovered)
    if not start.time_checked:
        # The root's holders have signed its time.
        require_plausible_time(work.state, _moment(start, root))
    roles = _sign(work, recovered, apart)
    staged = Overlay(work.staged, place.source)
    devices = list(what_devices_hold(start, chain))
    told = judged(start, Overlay(_staged(root), staged), chain, devices, before)
    # Somebody may have given their names to something else.
    for name, data in recovered.brought.items():
        place.shelf.restore_metadata(name, data)
    place.write(work)
    if not is_there:
        _write_root(place, chain)
    place.commit(work)
    if place.is_own:
        # What an earlier edit never published stays so: see `was_cut_short`.
        work.before = work.staged.timestamp
        place.write_metadata(work)
    join_rivals(work, work.state.walk)
    place.settle(work)
    told += _follow(start)
    found = {**roles, **_of_root(root)}
    warnings = (*recovered.told, *work.warnings, *told)
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
    signed_at = _moment(start, state.root.file)
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
        if why.missing:
            return b""
        raise


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


# --- for all -------------------------------------------------------------------------


def _staged(root: RoleFile[Root]) -> Staged:
    return Staged(metadata={file_name("root", root.version): root.data})


def _write_root(place: Place, chain: Sequence[RoleFile[Root]]) -> None:
    """Write the last root of a chain: from now on devices follow it.

    Raises:
        ConflictError: somebody else's root was faster.
        StorageError, FetchError: it can't be written.
    """
    shelf, root = place.shelf, chain[-1]
    name = file_name("root", root.version)
    try:
        shelf.put_metadata(name, root.data)
    except (FetchError, StorageError) as why:
        if not is_no_root(place, root, why):
            raise
        shelf.restore_metadata(name, root.data)
    except ConflictError as why:
        found = read_roots(Until(shelf, root.version), chain[-2].data)
        if found.newest.version >= root.version:
            raise ConflictError(
                f"{place.url} has another root v{root.version}",
                hint="somebody else's ceremony was faster: propose the next root from "
                "what stands now (`root propose`)",
            ) from why
        # Devices stop at what is no root: somebody who may write there put it in place.
        shelf.restore_metadata(name, root.data)


def _follow(start: Beginning) -> list[str]:
    """Let the author's memory follow; what is written is written, whatever it says."""
    if start.store is None:
        return []
    try:
        state = start.load()
        files = {
            role: data for role, data in state.walk.accepted.items() if role != "root"
        }
        start.store.keep(state.before, state.walk.workflow.complete(), files, {})
    except SupplyChainError as why:
        return [f"the root is published, the author's memory does not follow: {why}"]
    return []


def _of_root(root: RoleFile[Root]) -> dict[str, tuple[int, datetime]]:
    return {"root": (root.version, root.expires)}
