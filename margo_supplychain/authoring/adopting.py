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

from margo_supplychain.authoring.adoption_trial import judged
from margo_supplychain.authoring.directory_place import DirectoryPlace
from margo_supplychain.authoring.ending import finish
from margo_supplychain.authoring.evidence import (
    needs_signing,
    read_chain,
    require_who,
)
from margo_supplychain.authoring.healing import begin
from margo_supplychain.authoring.lying import (
    SANE,
    Lying,
    is_illegible,
    require_writable,
)
from margo_supplychain.authoring.overlay import Overlay
from margo_supplychain.authoring.proposal_rules import check_returning, check_time
from margo_supplychain.authoring.rehearsal import holder_of
from margo_supplychain.authoring.replacing import replace_keys
from margo_supplychain.authoring.rolled_back import newer_targets, taken_back
from margo_supplychain.authoring.root_writing import (
    follow,
    moment,
    of_root,
    staged_root,
    write_root,
)
from margo_supplychain.authoring.signed_apart import (
    TOP,
    as_written,
    read_draft,
    unless_there,
)
from margo_supplychain.authoring.state import (
    LIMITS,
    Roots,
    load,
)
from margo_supplychain.authoring.unfinished import (
    FINISH,
    is_no_root,
    unfinished,
)
from margo_supplychain.authoring.written import Written
from margo_supplychain.errors import (
    ClockError,
    ConflictError,
    ExpiredError,
    FetchError,
    IncompleteError,
    RefusedError,
    VerificationError,
)
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.storage.durable import clean_temporary
from margo_supplychain.transport.locations import TIMESTAMP
from margo_supplychain.verify.clock import StoppedClock
from margo_supplychain.verify.memory import Memory
from margo_supplychain.verify.workflow import Demand, Workflow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuf.api.metadata import Root

    from margo_supplychain.authoring.healing import Beginning
    from margo_supplychain.authoring.place import Place
    from margo_supplychain.authoring.state import State
    from margo_supplychain.authoring.targets_draft import TargetsDraft
    from margo_supplychain.authoring.work import Work
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
        if isinstance(why, FetchError) and not _is_left(start.place, root, found, why):
            raise
        return replace_keys(start, chain, draft, is_there=False, problem=why)
    return _go_on(start, work, chain, draft)


def _is_left(place: Place, root: RoleFile[Root], found: Roots, why: FetchError) -> bool:
    """Say whether what can't be read is what somebody left there, and no silence."""
    if why is found.problem:
        # A root that devices may go on from is not what anybody writes over.
        return is_no_root(place, root, why)
    return is_illegible(place, why)


def _go_on(
    start: Beginning,
    work: Work,
    chain: Sequence[RoleFile[Root]],
    draft: TargetsDraft | None,
) -> Written:
    """Adopt the last root of a chain where an edit could begin."""
    *_, last, root = chain
    standing = work.state.walk.workflow.roles["targets"].file
    lacking = _lacking(work.state, root, start)
    draft = unless_there(draft, standing)
    if draft is not None:
        lacking |= TOP
    if not lacking:
        return _alone(start, work, root)
    newer = None
    if "targets" in lacking:
        newer = newer_targets(start, last.signed, standing)
    if draft is not None and newer is None:
        draft.require_follows(standing)
        draft = as_written(start.place, draft)
    if _is_handed_on(work, root.signed, lacking, draft):
        if newer is not None:
            raise taken_back(standing, newer)
        return _hand_on(start, work, root, lacking, draft)
    written = replace_keys(start, chain, draft, is_there=False, before=work.state)
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
        return replace_keys(start, found.chain, None, is_there=True)
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
    late = start._replace(now=moment(start, root))
    found = {one.role for one in files if needs_signing(one, root.signed, late)}
    if "targets" in found:
        found.add("snapshot")
    if "snapshot" in found:
        found.add("timestamp")
    return frozenset(found)


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
    brought = _unserved(start, work.state)
    staged = staged_root(root)
    staged.metadata.update(brought)
    told = judged(start, Overlay(staged, source), chain, devices, work.state)
    _restore(start.place, brought, root)
    write_root(start.place, chain)
    told += follow(start)
    return Written(roles=of_root(root), warnings=(*work.warnings, *told))


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
        staged = Overlay(staged_root(root), overlay)
        told.extend(judged(start, staged, chain, [previous], work.state))
        _restore(start.place, brought, root)

    brought = _unserved(start, work.state)
    work.staged.metadata.update(brought)
    work.next_root = root.signed
    work.signed_at = max(work.signed_at, moment(start, root))
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
    write_root(start.place, chain)
    told += follow(start)
    roles = {**written.roles, **of_root(root)}
    return Written(roles=roles, warnings=(*work.warnings, *told))


def _unserved(start: Beginning, state: State) -> dict[str, bytes]:
    """Return the files that devices don't find: whoever may write put others there."""
    listed = {
        "snapshot.json": state.timestamp.signed.snapshot_meta,
        **state.snapshot.signed.meta,
    }
    return Lying(start).unserved(listed)


def _restore(place: Place, brought: Mapping[str, bytes], root: RoleFile[Root]) -> None:
    require_writable(place, [*brought, TIMESTAMP, file_name("root", root.version)])
    for name, data in brought.items():
        place.shelf.restore_metadata(name, data)


# --- a root that is there ------------------------------------------------------------


def _continue(
    start: Beginning, chain: Sequence[RoleFile[Root]], draft: TargetsDraft | None
) -> Written:
    """Finish the newest root, if it is not finished; write nothing else."""
    try:
        begin(start)
    except (VerificationError, FetchError) as why:
        # In the gap, somebody may have put anything in the timestamp's place.
        is_taken = isinstance(why, FetchError) and is_illegible(start.place, why)
        left = unfinished(start.place.source, Roots(tuple(chain), None))
        if left is None and not (is_taken and len(chain) > 1):
            raise
        return replace_keys(start, chain, draft, is_there=True)
    return Written(warnings=tuple(follow(start)))
