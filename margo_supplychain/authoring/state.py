"""The state that an author starts from: verified as a device would, but for expiry.

The rules are the device's own (`verify.workflow`), with one exception: metadata past
its expiry is noted and not refused, since signing it again is what its author came for.
What an edit makes of it is judged with expiry and all, see `rehearsal`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, final

from margo_supplychain.authoring.roles import delegator_of
from margo_supplychain.errors import (
    ClockError,
    ExpiredError,
    FetchError,
    MixAndMatchError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.verify.limits import Budget, Limits
from margo_supplychain.verify.memory import Memory
from margo_supplychain.verify.refresh import Walk
from margo_supplychain.verify.workflow import Demand, Workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.transport.protocols import Source
    from margo_supplychain.verify.clock import Clock
    from margo_supplychain.verify.trust_store import TrustStore
    from margo_supplychain.verify.workflow import Trusted

LIMITS: Final = Limits()
# An author's clock may be this far from the last signed time.
LONGEST_PAUSE: Final = timedelta(days=30)


@final
class TolerantWorkflow(Workflow):
    """The device's rules, but what has expired is noted in `expired`, not refused."""

    expired: dict[str, ExpiredError | ClockError]

    def __init__(self, memory: Memory, *, demand: Demand, limits: Limits) -> None:
        self.expired = {}
        super().__init__(memory, demand=demand, limits=limits)

    def _require_unexpired(self, file: RoleFile[Any]) -> None:
        try:
            super()._require_unexpired(file)
        except (ExpiredError, ClockError) as why:
            self.expired.setdefault(file.role, why)


class Judgement(NamedTuple):
    """What a role's acceptance depends on, but for the time."""

    role: str
    version: int
    sha256: str
    delegator: str
    delegator_sha256: str


class OnceWalk(Walk):
    """A walk that judges the same file of a role once, and without a budget.

    A device asks for one application and its few roles; an author may ask for all. What
    the rules say of a targets role depends on its bytes, on the bytes of its delegator
    and on the time, so what one walk accepted at a time holds for the next one.

    Args:
        accepted: what another walk accepted at the same time (`accepted_roles`).
    """

    def __init__(
        self,
        memory: Memory,
        copies: Callable[[str], bytes | None],
        source: Source,
        *,
        clock: Clock,
        accepted: Mapping[Judgement, Trusted[Targets]] | None = None,
    ) -> None:
        super().__init__(
            memory,
            copies,
            source,
            demand=Demand.MARGO,
            limits=LIMITS,
            clock=clock,
            budget=Budget(None),
        )
        self.accepted_roles: dict[Judgement, Trusted[Targets]] = dict(accepted or {})

    def role(self, role: str, delegator: str) -> Trusted[Targets]:
        """Return a targets role; see `Walk.role`."""
        judgement = self._judgement(role, delegator)
        found = self.accepted_roles.get(judgement)
        if found is None:
            found = super().role(role, delegator)
            self.accepted_roles[judgement] = found
        self.workflow.roles[role] = found
        return found

    def take(self, role: str, delegator: str, found: Trusted[Targets]) -> None:
        """Take a role as it is: somebody else has judged it."""
        self.accepted_roles[self._judgement(role, delegator)] = found

    def _judgement(self, role: str, delegator: str) -> Judgement:
        workflow = self.workflow
        parent = workflow.root if delegator == "root" else workflow.roles[delegator]
        entry = workflow.listed(role)
        return Judgement(
            role=role,
            version=entry.version,
            sha256=(entry.hashes or {}).get("sha256", ""),
            delegator=delegator,
            delegator_sha256=parent.file.sha256,
        )


@final
class AuthorWalk(OnceWalk):
    """A walk of `TolerantWorkflow`."""

    def __init__(
        self,
        memory: Memory,
        copies: Callable[[str], bytes | None],
        source: Source,
        *,
        clock: Clock,
    ) -> None:
        super().__init__(memory, copies, source, clock=clock)
        self._tolerant = TolerantWorkflow(memory, demand=Demand.MARGO, limits=LIMITS)
        self.workflow = self._tolerant
        self._silence: FetchError | None = None

    def top_level(self) -> None:
        """Refresh root, timestamp, snapshot and targets; see `Walk.top_level`.

        Raises:
            FetchError: the source can't be reached. Copies are good enough for what a
                device runs, but not for what somebody signs or says of a repository.
        """
        super().top_level()
        if self.offline and self._silence is not None:
            raise self._silence

    def _fetch(self, filename: str, limit: int) -> bytes:
        try:
            return super()._fetch(filename, limit)
        except FetchError as why:
            self._silence = why
            raise

    @property
    def expired(self) -> dict[str, ExpiredError | ClockError]:
        """What has expired, by role."""
        return self._tolerant.expired

    def unexpired(self) -> dict[Judgement, Trusted[Targets]]:
        """Return the roles that any device would accept at this time, too.

        Those whose bytes came from the author's own copies are left out: a device has
        only what the source holds.
        """
        return {
            judgement: one
            for judgement, one in self.accepted_roles.items()
            if judgement.role not in self.expired and judgement.role in self.accepted
        }


class Parts(NamedTuple):
    """What a state is put together from, where no device would accept it as it is.

    Args:
        timestamp, snapshot, targets: those to go on from.
        before: the memory before, under whatever root.
        first_root: exact bytes of the root that a fresh client starts from.
        source: where other roles are.
        copies: the author's, see `Walk`.
    """

    timestamp: Trusted[Timestamp]
    snapshot: Trusted[Snapshot]
    targets: Trusted[Targets]
    before: Memory
    first_root: bytes
    source: Source
    copies: Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """Where an edit, a check or a status starts.

    Args:
        walk: knows root, timestamp, snapshot and targets; reads other roles on demand.
        before: the memory that it started from.
        first_root: exact bytes of the root that a fresh client starts from.
    """

    walk: AuthorWalk
    before: Memory
    first_root: bytes

    @classmethod
    def under(cls, root: RoleFile[Root], parts: Parts, *, clock: Clock) -> Self:
        """Return a state under a root that has signed nothing of it yet.

        Args:
            root: a verified root.
            parts: what there is; its signatures were looked at by whoever made it.
            clock: when.
        """
        memory = replace(parts.before, root=root.data)
        walk = AuthorWalk(memory, parts.copies, parts.source, clock=clock)
        workflow = walk.workflow
        workflow.close_root(clock)
        workflow.timestamp, workflow.snapshot = parts.timestamp, parts.snapshot
        workflow.roles["targets"] = parts.targets
        walk.take("targets", "root", parts.targets)
        return cls(walk=walk, before=parts.before, first_root=parts.first_root)

    @property
    def root(self) -> Trusted[Root]:
        """The trusted root."""
        return self.walk.workflow.root

    @property
    def timestamp(self) -> Trusted[Timestamp]:
        """The trusted timestamp."""
        found = self.walk.workflow.timestamp
        if found is None:
            raise MixAndMatchError("there is no timestamp", role="timestamp")
        return found

    @property
    def snapshot(self) -> Trusted[Snapshot]:
        """The trusted snapshot."""
        found = self.walk.workflow.snapshot
        if found is None:
            raise MixAndMatchError("there is no snapshot", role="snapshot")
        return found

    def trusted(self, role: str) -> Trusted[Any]:
        """Return any role, top-level or not.

        Raises:
            UnknownTargetError: the snapshot does not list it.
        """
        if role == "root":
            return self.root
        if role == "snapshot":
            return self.snapshot
        if role == "timestamp":
            return self.timestamp
        return self.walk.role(role, delegator_of(role))

    def lists(self, role: str) -> bool:
        """Say whether the snapshot lists a role: whether it was ever signed."""
        return f"{role}.json" in self.snapshot.signed.meta

    def version(self, role: str) -> int:
        """Return a targets role's trusted version; 0 if it was never signed."""
        entry = self.snapshot.signed.meta.get(f"{role}.json")
        return 0 if entry is None else entry.version


def read_roots(source: Source, trusted: bytes) -> Roots:
    """Follow the roots of a place from a trusted one, as far as a device would.

    Args:
        source: unverified.
        trusted: exact bytes of a root that is trusted.

    Raises:
        FetchError: the source does not answer.
    """
    first = Memory(root=trusted, publishers=None)
    workflow = Workflow(first, demand=Demand.MARGO, limits=LIMITS)
    found = [workflow.root.file]
    problem: SupplyChainError | None = None
    while problem is None:
        name = file_name("root", workflow.root.version + 1)
        try:
            workflow.update_root(source.metadata(name, limit=LIMITS.root))
            found.append(workflow.root.file)
        except FetchError as why:
            if why.missing:
                break
            if why.unreachable:
                raise
            problem = why
        except VerificationError as why:
            problem = why
    return Roots(tuple(found), problem)


class Roots(NamedTuple):
    """A chain of verified roots.

    Args:
        chain: oldest first; never empty.
        problem: why what has the next root's name is none, if something has it.
    """

    chain: tuple[RoleFile[Root], ...]
    problem: SupplyChainError | None

    @property
    def newest(self) -> RoleFile[Root]:
        """The last of the chain."""
        return self.chain[-1]


def load(
    source: Source, *, first_root: bytes, store: TrustStore | None, clock: Clock
) -> State:
    """Verify the top-level metadata of a repository, from a memory or from its root.

    Args:
        source: the repository, unverified.
        first_root: what a fresh client starts from.
        store: the author's memory of this repository.

    Raises:
        VerificationError: the directory is not what the memory or the root says.
        FetchError: a file is missing.
    """
    if store is None:
        before = Memory(root=first_root, publishers=None)
        walk = AuthorWalk(before, no_copies, source, clock=clock)
    else:
        before = store.load()
        walk = AuthorWalk(before, store.copy, source, clock=clock)
    walk.top_level()
    return State(walk=walk, before=before, first_root=first_root)


def no_copies(name: str) -> bytes | None:
    """Return nothing: what a walk knows of earlier files where there is no memory."""
    del name
    return None


def last_issued(state: State) -> datetime:
    """Return the latest signed time in root and timestamp, as far as devices keep it.

    What a timestamp said falls with its keys: then nobody has signed it any more.
    """
    signed = [state.root.file.issued]
    if state.timestamp.signers:
        signed.append(state.timestamp.file.issued)
    return max(one for one in signed if one is not None)


def require_plausible_time(state: State, now: datetime) -> None:
    """Refuse to sign when the author's clock is far from the last signed time.

    A CI machine that is 300 days ahead would sign metadata that bars every device
    from what is signed afterwards.

    Raises:
        ClockError: before the last `x-issued`, or more than 30 days after it.
    """
    last = last_issued(state)
    if now < last:
        problem = "which is before the last signature here"
    elif now > last + LONGEST_PAUSE:
        problem = f"which is more than {LONGEST_PAUSE.days} days after the last one"
    else:
        return
    raise ClockError(
        f"this machine's clock says {format_time(now)}, {problem} "
        f"({format_time(last)})",
        hint="check the time by a watch you trust; if the clock is right, run it again "
        "with --time-checked",
    )
