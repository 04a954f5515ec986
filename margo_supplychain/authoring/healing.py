"""An edit begins where everything that was published is in what `timestamp` names.

A write of `timestamp` that the network held back, or of a publisher who was cut off
right after it, may have undone what others were told is published. Their witnesses are
still there (`witnesses`). So before anything else is done, the timestamp is written
anew above all of them: for what has the others' work in it already, or for a snapshot
with the work of all (`joining`). What can't be joined is refused aloud.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from margo_supplychain.authoring.joining import Joining, join_rivals
from margo_supplychain.authoring.lineage import Lineage
from margo_supplychain.authoring.lying import is_illegible
from margo_supplychain.authoring.overlay import Overlay
from margo_supplychain.authoring.rehearsal import Subjects, rehearse_edit
from margo_supplychain.authoring.roles import signers_of
from margo_supplychain.authoring.settings import verified_settings
from margo_supplychain.authoring.state import (
    last_issued,
    load,
    require_plausible_time,
)
from margo_supplychain.authoring.uniting import Rival
from margo_supplychain.authoring.witnesses import Keys, Published, compare
from margo_supplychain.authoring.work import Work
from margo_supplychain.errors import (
    ConflictError,
    FetchError,
    MixAndMatchError,
    VerificationError,
)
from margo_supplychain.verify.clock import StoppedClock

if TYPE_CHECKING:
    from datetime import datetime

    from margo_supplychain.authoring.place import Place, Progress
    from margo_supplychain.authoring.settings import Settings
    from margo_supplychain.authoring.signatures import Signers
    from margo_supplychain.authoring.state import State
    from margo_supplychain.authoring.witnesses import Found
    from margo_supplychain.verify.trust_store import TrustStore


class Beginning(NamedTuple):
    """What an edit has at hand when it begins.

    Args:
        place: where it happens.
        settings: as they are written down there.
        first_root: what a fresh client starts from.
        store: the author's memory.
        signers: his keys.
        now: when.
        time_checked, progress: see `Repository.edit`.
    """

    place: Place
    settings: Settings
    first_root: bytes
    store: TrustStore | None
    signers: Signers
    now: datetime
    time_checked: bool
    progress: Progress | None

    def load(
        self, timestamp: bytes | None = None, *, remembering: bool = True
    ) -> State:
        """Verify the place, or as it was at a timestamp, from the memory or root."""
        place = self.place
        state = load(
            place.source if timestamp is None else place.source_at(timestamp),
            first_root=self.first_root,
            store=self.store if remembering else None,
            clock=StoppedClock(self.now),
        )
        if timestamp is None:
            # With a memory the snapshot's file was perhaps not read.
            place.expect(state.snapshot.signed.meta)
        return state

    def work(self, state: State | None = None) -> Work:
        """Return an edit that starts from a state, or from what the place shows.

        Raises:
            ExpiredError, ClockError: it may be an old copy, see `_require_current`.
        """
        state = state or self.load()
        if not self.signers.is_empty:
            self._require_current(state)
        signed_at = self.now
        if self.time_checked:
            signed_at = max(self.now, last_issued(state))
        return Work(
            state=state,
            place=self.place,
            settings=verified_settings(self.settings, state),
            signers=self.signers,
            now=self.now,
            signed_at=signed_at,
            progress=self.progress,
        )

    def _require_current(self, state: State) -> None:
        """Refuse to sign on top of what may be an old copy.

        Raises:
            ExpiredError, ClockError: the timestamp has expired, and only a memory
                could tell that nothing newer was ever signed.
        """
        why = state.walk.expired.get("timestamp")
        if why is None or self.store is not None or self.place.is_own:
            return
        why.hint = (
            f"{self.place.url} may show an old copy for your key to sign on top of; "
            "edit it where your memory of it is (--state), or begin one from a copy "
            "that you trust: margo-supplychain repo check --begin-from FILE"
        )
        raise why


def begin(start: Beginning) -> Work:
    """Return an edit that starts from all that was published.

    Raises:
        VerificationError: the place is not what the memory or root says.
        ConflictError: what was published can't be joined, or not with these keys.
        FetchError: the place does not answer.
    """
    if start.place.is_own:
        return start.work(start.load())
    problem = None
    try:
        shown = start.load()
    except VerificationError as why:
        if start.store is None:
            raise
        # The memory may know what `timestamp` has no more.
        problem = why
        shown = _without_memory(start, why)
    found = compared(start.place, shown)
    if not (found.apart or found.is_behind):
        if problem is not None:
            raise problem
        return start.work(shown)
    told = _Healing(start, shown, found).heal(problem)
    work = start.work(start.load())
    work.warnings.extend(told)
    return work


def begin_edit(start: Beginning) -> Work:
    """Return an edit of whoever comes next, with keys or without.

    A root whose adoption was cut short is finished first, with the keys at hand.

    Raises:
        SupplyChainError: see `begin`; and who has no key is told what to run.
    """

    def attempt() -> Work:
        return start.work() if start.signers.is_empty else begin(start)

    try:
        return attempt()
    except (VerificationError, FetchError) as why:
        from margo_supplychain.authoring.adopting import resume

        if isinstance(why, FetchError) and not is_illegible(start.place, why):
            raise
        finished = resume(start)
        if finished is None:
            raise
    work = attempt()
    work.warnings.extend(finished.warnings)
    return work


def compared(place: Place, state: State) -> Found:
    """Compare a place's timestamp, as verified, with its witnesses.

    Raises:
        ConflictError, FetchError: see `witnesses`.
    """
    root = state.root.signed
    timestamp, snapshot = signers_of(root, "timestamp"), signers_of(root, "snapshot")
    if timestamp is None or snapshot is None:
        raise MixAndMatchError("root names no timestamp or snapshot", role="root")
    return compare(
        place,
        Published(state.timestamp.file, state.snapshot.file),
        Keys(timestamp, snapshot),
        Lineage(place, [state.snapshot.file]),
    )


def _without_memory(start: Beginning, problem: VerificationError) -> State:
    try:
        return start.load(remembering=False)
    except VerificationError:
        raise problem from None


class _Healing:
    """One writing of the timestamp above all that was published.

    Args:
        start: what is at hand.
        shown: what the timestamp names now.
        found: its witnesses.
    """

    def __init__(self, start: Beginning, shown: State, found: Found) -> None:
        self._start = start
        self._place = start.place
        self._found = found
        self._current = Published(shown.timestamp.file, shown.snapshot.file)
        self._lineage = Lineage(
            start.place,
            [self._current.snapshot, *(one.snapshot for one in found.apart)],
        )

    def heal(self, problem: VerificationError | None) -> list[str]:
        """Write it, and return what the author should know.

        Raises:
            ConflictError: it can't be joined, or not with these keys.
            VerificationError: the memory refuses all of it.
        """
        parties = self._parties()
        state = self._state(parties, problem)
        work = self._start.work(state)
        if not self._start.time_checked:
            require_plausible_time(state, work.now)
        self._require_keys(work, "snapshot" if len(parties) > 1 else "timestamp")
        work.before = self._current.timestamp.data
        work.seen = self._found.version
        ours, rivals = parties[0], parties[1:]
        work.snapshot = ours.snapshot.data
        joining = Joining(work, state.walk, firm=self._firm(ours, rivals))
        if rivals:
            joining.join([self._rival(one) for one in rivals])
        else:
            joining.stamp()
            self._place.expect({"snapshot.json": ours.timestamp.signed.snapshot_meta})
            self._place.expect(ours.snapshot.signed.meta)
            overlay = Overlay(work.staged, self._place.source)
            rehearse_edit(overlay, state, Subjects((), {}), now=work.signed_at)
        self._place.write_metadata(work)
        self._place.commit(work)
        joined = join_rivals(work, joining.joined.walk)
        self._place.settle(work)
        lost = joining.joined.lost | joined.lost
        return [self._told(parties, lost), *work.warnings]

    def _parties(self) -> list[Published]:
        """Return those whose work is not in another's; who yields comes first."""
        apart, current = list(self._found.apart), self._current
        if any(self._lineage.contains(one.snapshot, current.snapshot) for one in apart):
            return apart
        # Nobody was told of a timestamp without a witness: what was published stays.
        return [current, *reversed(apart)]

    def _rival(self, one: Published) -> Rival:
        return Rival(one.snapshot, one.timestamp.version)

    def _firm(self, ours: Published, rivals: list[Published]) -> frozenset[str]:
        """Return what nobody may change who did not start from it."""
        if ours is self._current and not self._found.is_witnessed:
            return frozenset()
        names: set[str] = set()
        for one in rivals:
            base = self._lineage.base(ours.snapshot, one.snapshot)
            known = {} if base is None else base.signed.meta
            names.update(
                name
                for name, entry in ours.snapshot.signed.meta.items()
                if entry != known.get(name)
            )
        return frozenset(names)

    def _state(
        self, parties: list[Published], problem: VerificationError | None
    ) -> State:
        """Return the state of the first one that the memory takes.

        Raises:
            VerificationError: it takes none.
        """
        newest = self._found.newest or self._current
        for one in (newest, *parties):
            try:
                return self._start.load(one.timestamp.data)
            except VerificationError as why:
                problem = problem or why
        raise problem or MixAndMatchError("there is no timestamp", role="timestamp")

    def _require_keys(self, work: Work, role: str) -> None:
        if work.can_sign("timestamp") and work.can_sign(role):
            return
        raise ConflictError(
            f"{self._place.url}: timestamp v{self._current.timestamp.version} does not "
            f"have in it what was published as v{self._found.version}",
            hint="run `margo-supplychain repo refresh` with the keys of snapshot and "
            "timestamp first: it brings that back",
        )

    def _told(self, parties: list[Published], lost: frozenset[str]) -> str:
        seen = self._found.version
        text = (
            f"{self._place.url} had an older timestamp than v{seen}, which was "
            "published: it is written anew above it"
        )
        if len(parties) > 1:
            text = (
                f"{self._place.url} had a timestamp without what was published "
                f"as v{seen}: both are joined"
            )
        if lost:
            text += f"; of {', '.join(sorted(lost))}, what was published stays"
        return text
