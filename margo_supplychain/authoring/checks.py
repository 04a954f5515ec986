"""Looking at a whole repository as devices do, and finding every problem.

    1  a fresh device starts from the first root
    2  a device holds the state before the last edit, or the author's memory
    3  every publisher and application has its one role and its policy
    4  every listed release has its record, as its path and entry say
    5  all content is there, every byte hashed, and a device would take it

The rules are the device's own; what has expired is a problem and no reason to stop.
Files that no metadata names are no problem: killed runs leave them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal

from margo_supplychain.authoring.directory_place import PREVIOUS
from margo_supplychain.authoring.duties import clock_ahead
from margo_supplychain.authoring.overlay import Overlay, Staged
from margo_supplychain.authoring.settings import DIRECTORY
from margo_supplychain.authoring.state import LIMITS, AuthorWalk
from margo_supplychain.errors import (
    ClockError,
    FormatError,
    InconclusiveError,
    SupplyChainError,
)
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.reports import Report, Step, Violation
from margo_supplychain.storage.content_store import ContentStore
from margo_supplychain.storage.durable import read_file
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.verify import artifact, chain, offline_role, resolve
from margo_supplychain.verify.clock import StoppedClock
from margo_supplychain.verify.content_checks import check_stored
from margo_supplychain.verify.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from tuf.api.metadata import Targets

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.verify.chain import Chain
    from margo_supplychain.verify.trust_store import TrustStore

_TITLES: Final = {
    1: "trust metadata, as a fresh device",
    2: "trust metadata, as a device with the previous state",
    3: "publishers, applications and policies",
    4: "release records",
    5: "content",
}


def check_all(
    directory: Path, root: bytes, *, store: TrustStore | None, now: datetime
) -> Report:
    """Return every problem of a repository; see `Repository.check`."""
    check = _Check(directory, root, now)
    check.run(store)
    return check.report()


class _Check:
    def __init__(self, directory: Path, root: bytes, now: datetime) -> None:
        self._directory = directory
        self._source = DirectorySource(directory)
        self._root = root
        self._now = now
        self._problems: list[Violation] = []
        self._facts: dict[int, dict[str, object]] = {}
        self._failed: set[int] = set()
        self._at = 1
        self._hashed: set[Digest] = set()
        self._elsewhere: frozenset[Digest] = frozenset()

    def run(self, store: TrustStore | None) -> None:
        """Go through the steps; from 3 on they need the first."""
        facts = self._step(1)
        walk = self._walk(Memory(root=self._root, publishers=None), self._source)
        if walk is not None:
            facts.update(_versions(walk))
            self._clocks(walk)
            self._note_expired(walk)
        self._as_before(store, self._step(2))
        if walk is None:
            return
        facts = self._step(3)
        found = list(self._applications(walk))
        facts["applications"] = len(found)
        self._note_expired(walk)
        releases = 0
        content = self._open_content()
        for name, decided in found:
            for record in self._records(walk, name, decided):
                releases += 1
                if content is not None:
                    self._at = 5
                    self._content_of(content, record)
                self._at = 4
                # Records are read once, and there may be a hundred thousand.
                walk.accepted_targets.clear()
        self._step(4)["releases"] = releases
        self._step(5)["blobs"] = len(self._hashed)
        if self._elsewhere:
            self._step(5)["components elsewhere"] = len(self._elsewhere)

    def report(self) -> Report:
        """Return what was found."""
        verdict: Literal["verified", "rejected", "inconclusive"] = "verified"
        if self._problems:
            all_open = all(one.inconclusive for one in self._problems)
            verdict = "inconclusive" if all_open else "rejected"
        return Report(
            subject=f"repository {self._directory}",
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

    def _walk(
        self, memory: Memory, source: Overlay | DirectorySource
    ) -> AuthorWalk | None:
        walk = self._author_walk(memory, source)
        try:
            walk.top_level()
        except SupplyChainError as why:
            self._problem(why)
            return None
        return walk

    def _author_walk(
        self, memory: Memory, source: Overlay | DirectorySource
    ) -> AuthorWalk:
        return AuthorWalk(memory, _no_copies, source, clock=StoppedClock(self._now))

    def _as_before(self, store: TrustStore | None, facts: dict[str, object]) -> None:
        memory = self._memory_before()
        if memory is not None and memory.timestamp is not None:
            facts["timestamp"] = memory.timestamp.version
            self._walk(memory, self._source)
        if store is not None:
            facts["memory"] = store.where
            self._walk(store.load(), self._source)

    def _memory_before(self) -> Memory | None:
        """Return the memory of a device that saw the timestamp before the last edit."""
        try:
            data = read_file(
                self._directory / DIRECTORY / PREVIOUS, limit=LIMITS.timestamp
            )
        except FileNotFoundError:
            return None
        overlay = Overlay(Staged(timestamp=data), self._source)
        memory = Memory(root=self._root, publishers=None)
        walk = self._author_walk(memory, overlay)
        try:
            walk.top_level()
            return walk.workflow.complete()
        except SupplyChainError:
            # Its keys or files have gone: no device of today holds that state.
            return None

    def _clocks(self, walk: AuthorWalk) -> None:
        for one in (walk.workflow.root, walk.workflow.timestamp):
            problem = None if one is None else clock_ahead(one.file, self._now)
            if problem is not None:
                self._add(ClockError.code, problem)

    # --- 3 ---------------------------------------------------------------------------

    def _applications(self, walk: AuthorWalk) -> Iterator[tuple[ReleaseName, Chain]]:
        for name in sorted(self._names(walk), key=str):
            try:
                found = chain.follow(walk, name)
                offline_role.publisher_policy(walk, found, name, LIMITS)
            except SupplyChainError as why:
                self._problem(why, name)
                continue
            yield name, found

    def _names(self, walk: AuthorWalk) -> set[ReleaseName]:
        targets = walk.workflow.roles["targets"].signed
        if targets.delegations is None or targets.delegations.roles is None:
            return self._with_policy(targets)
        names: set[ReleaseName] = set()
        for publisher in targets.delegations.roles:
            try:
                signed = walk.role(publisher, "targets").signed
            except SupplyChainError as why:
                self._problem(why, publisher)
                continue
            found = self._with_policy(signed) | self._delegated(signed)
            # Delegated, and not signed before its first release.
            names |= {name for name in found if _was_signed(walk, name)}
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

    def _note_expired(self, walk: AuthorWalk) -> None:
        for why in walk.expired.values():
            self._problem(why)

    # --- 4 ---------------------------------------------------------------------------

    def _records(
        self, walk: AuthorWalk, name: ReleaseName, found: Chain
    ) -> Iterator[ReleaseRecord]:
        self._at = 4
        listed = resolve.listed(found.deciding.signed, name)
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
                yield artifact.fetch_record(walk, name, one, LIMITS)
            except SupplyChainError as why:
                self._problem(why, f"{name} {one.version}")

    # --- 5 ---------------------------------------------------------------------------

    def _open_content(self) -> ContentStore | None:
        self._at = 5
        try:
            return ContentStore.open(self._directory)
        except SupplyChainError as why:
            self._problem(why)
            return None

    def _content_of(self, store: ContentStore, record: ReleaseRecord) -> None:
        # A component may lie in its own repository instead, named by digest.
        elsewhere = frozenset(
            one.content.digest
            for one in record.components
            if not store.has(one.content)
        )
        self._elsewhere |= elsewhere
        try:
            check_stored(
                record, store, limits=LIMITS, elsewhere=elsewhere, hashed=self._hashed
            )
        except SupplyChainError as why:
            self._problem(why, f"{record.name} {record.version}")

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


def _was_signed(walk: AuthorWalk, name: ReleaseName) -> bool:
    snapshot = walk.workflow.snapshot
    return snapshot is None or f"{name.role}.json" in snapshot.signed.meta


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


def _no_copies(name: str) -> bytes | None:
    del name
    return None
