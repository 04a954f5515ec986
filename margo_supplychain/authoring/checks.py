"""Looking at a whole repository as devices do, and finding every problem.

    1  a fresh device starts from the first root; every root is there
    2  a device holds the state before the last edit, or the author's memory
    3  every publisher and application has its one role and its policy
    4  every listed release has its record, as its path and entry say, and the
       attestations that these name; they prove what is demanded (`proof_look`)
    5  all content is there, and a device would take it; see `content_look`

The rules are the device's own; what has expired is a problem and no reason to stop.
Files that no metadata names are no problem: killed runs leave them. What is withdrawn
needs no content: no device takes it, and copies leave it out. What the publisher
reinstates does, whether its mark is gone or not.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal

from margo_supplychain.authoring import rules
from margo_supplychain.authoring.delegator_fields import is_awaited, removed_roles
from margo_supplychain.authoring.directory_place import PREVIOUS
from margo_supplychain.authoring.duties import clock_ahead
from margo_supplychain.authoring.overlay import Overlay, Staged, Until
from margo_supplychain.authoring.place_checks import (
    list_problems,
    root_problems,
    tag_problems,
)
from margo_supplychain.authoring.proof_look import ProofLook
from margo_supplychain.authoring.roles import delegator_of
from margo_supplychain.authoring.selection import EVERYTHING
from margo_supplychain.authoring.settings import DIRECTORY
from margo_supplychain.authoring.state import (
    LIMITS,
    AuthorWalk,
    State,
    no_copies,
    read_roots,
)
from margo_supplychain.authoring.unfinished import FINISH, unfinished
from margo_supplychain.errors import (
    ClockError,
    FormatError,
    InconclusiveError,
    SupplyChainError,
    ThresholdError,
)
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.reports import Report, Step, Violation
from margo_supplychain.formats.tuf_metadata import TOP_LEVEL
from margo_supplychain.storage.durable import read_file
from margo_supplychain.transport.directory import DirectorySink
from margo_supplychain.verify import artifact, chain, offline_role, resolve
from margo_supplychain.verify.clock import StoppedClock
from margo_supplychain.verify.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from tuf.api.metadata import Root, Targets

    from margo_supplychain.authoring.content_look import ContentLook
    from margo_supplychain.authoring.selection import Selection
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.transport.protocols import Shelf, Source
    from margo_supplychain.verify.chain import Chain
    from margo_supplychain.verify.resolve import Candidate
    from margo_supplychain.verify.trust_store import TrustStore

_TITLES: Final = {
    1: "trust metadata, as a fresh device",
    2: "trust metadata, as a device with the previous state",
    3: "publishers, applications and policies",
    4: "release records",
    5: "content",
}
# How many roots back somebody's device may have been when the last edit ended.
_ROOTS_BEFORE: Final = 3


def check_place(
    shelf: Shelf,
    root: bytes,
    *,
    content: ContentLook,
    store: TrustStore | None,
    now: datetime,
    select: Selection = EVERYTHING,
) -> Report:
    """Return every problem of a repository or copy of one, wherever it lies.

    Args:
        shelf: the place; nothing is written.
        root: what a fresh device starts from.
        content: looks at content, as far as that can be done there.
        store: the author's memory: a third pair of eyes.
        now: what expiry is judged by.
        select: whose content is looked at; of a copy that was narrowed.
    """
    check = _Check(shelf, root, now, content, select)
    check.run(store)
    return check.report()


def unfollowed(walk: AuthorWalk) -> tuple[Violation, ...]:
    """Return what keeps devices from following publishers and applications.

    Args:
        walk: knows targets.
    """
    follower = _Follower()
    for _ in follower.applications(walk):
        pass
    return follower.problems


class _Follower:
    """Follows every publisher and application, and gathers what is wrong."""

    def __init__(self) -> None:
        self._problems: list[Violation] = []
        self._failed: set[int] = set()
        self._at = 1

    @property
    def problems(self) -> tuple[Violation, ...]:
        """What was found."""
        return tuple(self._problems)

    def applications(self, walk: AuthorWalk) -> Iterator[tuple[ReleaseName, Chain]]:
        """Yield each application that devices follow, and how."""
        for name in sorted(self._names(walk), key=str):
            try:
                found = chain.follow(walk, name)
                offline_role.publisher_policy(walk, found, name, LIMITS)
            except SupplyChainError as why:
                if not _is_awaited(walk, why):
                    self._problem(why, name)
                continue
            yield name, found

    def _names(self, walk: AuthorWalk) -> set[ReleaseName]:
        targets = walk.workflow.roles["targets"].signed
        if targets.delegations is None or targets.delegations.roles is None:
            return self._with_policy(targets)
        names: set[ReleaseName] = set()
        for publisher in targets.delegations.roles:
            if not _is_listed(walk, publisher):
                continue  # delegated, and not signed before its first submission
            try:
                signed = walk.role(publisher, "targets").signed
            except SupplyChainError as why:
                if not _is_awaited(walk, why):
                    self._problem(why, publisher)
                continue
            found = self._with_policy(signed) | self._delegated(signed)
            # Delegated, and not signed before its first release; or removed: its
            # policy stays, so that its epoch can't fall.
            removed = removed_roles(signed)
            names |= {
                name
                for name in found
                if _is_listed(walk, name.role) and name.role not in removed
            }
        return names

    def _with_policy(self, signed: Targets) -> set[ReleaseName]:
        found = set()
        for path in signed.targets:
            steps = path.split("/")
            if len(steps) == 4 and steps[1] == "policies":
                found |= self._named(f"{steps[0]}/{steps[2]}")
        return found

    def _delegated(self, signed: Targets) -> set[ReleaseName]:
        found: set[ReleaseName] = set()
        below = signed.delegations
        for role in (below.roles or {}) if below is not None else {}:
            found |= self._named(role.replace(".", "/", 1))
        return found

    def _named(self, text: str) -> set[ReleaseName]:
        try:
            return {ReleaseName.parse(text)}
        except FormatError as why:
            self._problem(why)
            return set()

    # --- what was found --------------------------------------------------------------

    def _problem(self, why: SupplyChainError, where: object = None) -> None:
        text = str(why) if where is None else f"{where}: {why}"
        # A file that is missing here is a fact about this directory, not a doubt.
        gone = getattr(why, "missing", False) or isinstance(
            why.__cause__, FileNotFoundError
        )
        open_ = isinstance(why, InconclusiveError) and not gone
        self._add(why.code, text, inconclusive=open_)

    def _add(self, rule: str, text: str, *, inconclusive: bool = False) -> None:
        found = Violation(rule=rule, text=text, inconclusive=inconclusive)
        if found not in self._problems:
            self._problems.append(found)
            self._failed.add(self._at)


class _Check(_Follower):
    def __init__(
        self,
        shelf: Shelf,
        root: bytes,
        now: datetime,
        content: ContentLook,
        select: Selection,
    ) -> None:
        super().__init__()
        self._shelf = shelf
        self._root = root
        self._now = now
        self._content = content
        self._select = select
        self._facts: dict[int, dict[str, object]] = {}

    def run(self, store: TrustStore | None) -> None:
        """Go through the steps; from 3 on they need the first."""
        facts = self._step(1)
        walk = self._walk(Memory(root=self._root, publishers=None), self._shelf)
        newest = None if walk is None else walk.workflow.root.version
        for why in root_problems(self._shelf, self._root, newest):
            self._problem(why)
        if walk is not None:
            facts.update(_versions(walk))
            self._clocks(walk)
            self._note_expired(walk)
        self._as_before(store, self._step(2))
        if walk is None:
            self._say_unfinished()
            return
        facts = self._step(3)
        found = list(self.applications(walk))
        facts["applications"] = len(found)
        self._note_expired(walk)
        self._releases(walk, found)
        for why in tag_problems(self._shelf, walk):
            self._problem(why)
        memory = Memory(root=self._root, publishers=None)
        state = State(walk=walk, before=memory, first_root=self._root)
        self._at = 1
        for why in list_problems(self._shelf, state):
            self._problem(why)
        self._step(5).update(self._content.facts())

    def _releases(
        self, walk: AuthorWalk, found: Sequence[tuple[ReleaseName, Chain]]
    ) -> None:
        """Look at every release: its record, its attestations and its content."""
        releases = attestations = barred = 0
        can_look = self._begin_content({name.publisher for name, _ in found})
        for name, decided in found:
            policy = offline_role.publisher_policy(walk, decided, name, LIMITS)
            look = ProofLook(walk, decided, policy, self._shelf)
            for record, one, is_needed in self._records(walk, name, decided):
                releases += 1
                if can_look and is_needed:
                    self._at = 5
                    for why in self._content.problems(record):
                        self._problem(why, f"{record.name} {record.version}")
                self._at = 4
                for why in look.problems(record, one) if is_needed else ():
                    self._problem(why, f"{record.name} {record.version}")
                # Records are read once, and there may be a hundred thousand.
                walk.accepted_targets.clear()
            attestations += look.envelopes
            barred += look.barred
        facts = self._step(4)
        facts["releases"] = releases
        if attestations:
            facts["attestations"] = attestations
        if barred:
            facts["barred by later demands"] = barred

    def report(self) -> Report:
        """Return what was found."""
        verdict: Literal["verified", "rejected", "inconclusive"] = "verified"
        if self._problems:
            all_open = all(one.inconclusive for one in self._problems)
            verdict = "inconclusive" if all_open else "rejected"
        return Report(
            subject=f"repository {_shown(self._shelf)}",
            verdict=verdict,
            code=self._problems[0].rule if self._problems else "verified",
            time=self._now,
            steps=tuple(self._outcome(number) for number in _TITLES),
            violations=tuple(self._problems),
        )

    def _step(self, number: int) -> dict[str, object]:
        self._at = number
        return self._facts.setdefault(number, {})

    def _outcome(self, number: int) -> Step:
        outcome: Literal["passed", "failed", "not reached"] = "passed"
        if number not in self._facts:
            outcome = "not reached"
        if number in self._failed:
            outcome = "failed"
        return Step(
            number=number,
            title=_TITLES[number],
            outcome=outcome,
            facts=self._facts.get(number, {}),
        )

    # --- 1 and 2 ---------------------------------------------------------------------

    def _walk(self, memory: Memory, source: Source) -> AuthorWalk | None:
        walk = self._author_walk(memory, source)
        try:
            walk.top_level()
        except SupplyChainError as why:
            self._problem(why)
            return None
        return walk

    def _author_walk(self, memory: Memory, source: Source) -> AuthorWalk:
        return AuthorWalk(memory, no_copies, source, clock=StoppedClock(self._now))

    def _as_before(self, store: TrustStore | None, facts: dict[str, object]) -> None:
        memory = self._memory_before()
        if memory is not None and memory.timestamp is not None:
            facts["timestamp"] = memory.timestamp.version
            self._walk(memory, self._shelf)
        if store is not None:
            facts["memory"] = store.label
            self._walk(store.load(), self._shelf)

    def _memory_before(self) -> Memory | None:
        """Return the memory of a device that saw the timestamp before the last edit."""
        if not isinstance(self._shelf, DirectorySink):
            return None
        path = self._shelf.directory / DIRECTORY / PREVIOUS
        try:
            data = read_file(path, limit=LIMITS.timestamp)
        except FileNotFoundError:
            return None
        overlay = Overlay(Staged(timestamp=data), self._shelf)
        memory = Memory(root=self._root, publishers=None)
        for root in reversed(self._roots()[-_ROOTS_BEFORE:]):
            # Under a root whose keys signed it: the newest may have others.
            walk = self._author_walk(memory, Until(overlay, root.version))
            try:
                walk.top_level()
                return walk.workflow.complete()
            except SupplyChainError:
                continue
        # Its keys or files have gone: no device of today holds that state.
        return None

    def _roots(self) -> tuple[RoleFile[Root], ...]:
        try:
            return read_roots(self._shelf, self._root).chain
        except SupplyChainError:
            return ()  # said already

    def _say_unfinished(self) -> None:
        try:
            problem = unfinished(self._shelf, read_roots(self._shelf, self._root))
        except SupplyChainError:
            return
        if problem is not None:
            self._at = 1
            self._add(ThresholdError.code, f"{problem}: {FINISH}")

    def _clocks(self, walk: AuthorWalk) -> None:
        for one in (walk.workflow.root, walk.workflow.timestamp):
            problem = None if one is None else clock_ahead(one.file, self._now)
            if problem is not None:
                self._add(ClockError.code, problem)

    # --- 3 ---------------------------------------------------------------------------

    def _note_expired(self, walk: AuthorWalk) -> None:
        for why in walk.expired.values():
            self._problem(why)

    # --- 4 ---------------------------------------------------------------------------

    def _records(
        self, walk: AuthorWalk, name: ReleaseName, found: Chain
    ) -> Iterator[tuple[ReleaseRecord, Candidate, bool]]:
        """Yield each record, and whether its content has to be here."""
        self._at = 4
        listed = resolve.listed(found.deciding.signed, name)
        withdrawn = self._withdrawn(walk, name, found)
        known = {one.path for one in listed}
        for path in found.deciding.signed.targets:
            if path.startswith(name.releases) and path not in known:
                self._add("malformed", f"{path} is no release: its name is no version")
        for newer, one in pairwise(listed):
            if newer.version.same_precedence(one.version):
                self._add(
                    "no-matching-version",
                    f"{name} {newer.version} and {one.version} have one precedence: "
                    "devices refuse both",
                )
        for one in listed:
            try:
                record = artifact.fetch_record(walk, name, one, LIMITS)
            except SupplyChainError as why:
                self._problem(why, f"{name} {one.version}")
                continue
            is_usable = record.artifact.digest not in withdrawn
            yield record, one, is_usable and self._select.takes(name, one)

    def _withdrawn(
        self, walk: AuthorWalk, name: ReleaseName, found: Chain
    ) -> frozenset[Digest]:
        """Return what no device installs: not what the publisher reinstates."""
        digests = resolve.withdrawn_in(resolve.listed(found.deciding.signed, name))
        if not digests:
            return digests
        policy = offline_role.publisher_policy(walk, found, name, LIMITS)
        version = found.deciding.version
        return frozenset(
            one for one in digests if not rules.is_reinstated(policy, one, version)
        )

    # --- 5 ---------------------------------------------------------------------------

    def _begin_content(self, publishers: set[str]) -> bool:
        self._at = 5
        try:
            self._content.begin(publishers)
        except SupplyChainError as why:
            self._problem(why)
            return False
        return True


def _is_listed(walk: AuthorWalk, role: str) -> bool:
    snapshot = walk.workflow.snapshot
    return snapshot is None or f"{role}.json" in snapshot.signed.meta


def _is_awaited(walk: AuthorWalk, why: SupplyChainError) -> bool:
    """Say whether a role lacks the signatures of keys that it was given since.

    That is a duty of their holder (`duties`), and nothing that is wrong here.
    """
    if not isinstance(why, ThresholdError) or why.role in TOP_LEVEL:
        return False
    delegator = walk.workflow.roles.get(delegator_of(why.role))
    if delegator is None:
        return False
    return is_awaited(delegator.signed, why.role, walk.workflow.listed(why.role))


def _versions(walk: AuthorWalk) -> dict[str, object]:
    workflow = walk.workflow
    found: dict[str, object] = {"root": workflow.root.version}
    for role, one in (
        ("timestamp", workflow.timestamp),
        ("snapshot", workflow.snapshot),
        ("targets", workflow.roles.get("targets")),
    ):
        if one is not None:
            found[role] = one.version
    return found


def _shown(shelf: Shelf) -> str:
    return str(shelf.directory) if isinstance(shelf, DirectorySink) else shelf.url
