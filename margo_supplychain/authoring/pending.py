"""What waits in an inbox counts as taken by the vendor who handed it in.

His next submission goes on from it: the operator takes them in this order. Each is
judged as the operator will, so nobody else's rubbish in the inbox, however it is
called, changes what a vendor signs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, final

from margo_supplychain.authoring.acceptance import judge
from margo_supplychain.authoring.prospect import Prospect
from margo_supplychain.authoring.roles import signers_of
from margo_supplychain.authoring.settings import Settings, verified_settings
from margo_supplychain.authoring.state import LIMITS, State, load
from margo_supplychain.errors import (
    FetchError,
    InconclusiveError,
    RefusedError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.verify.clock import StoppedClock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from tuf.api.metadata import MetaFile

    from margo_supplychain.authoring.inbox import Inbox
    from margo_supplychain.authoring.place import Progress
    from margo_supplychain.authoring.signatures import Signers
    from margo_supplychain.authoring.submission import Submission
    from margo_supplychain.authoring.vendor_place import VendorPlace
    from margo_supplychain.verify.trust_store import TrustStore


MOST_PASSES: Final = 20  # what waits may be built on one another
MOST_READ: Final = 100  # submissions, each of many megabytes at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Handing:
    """What a vendor has at hand who hands something in.

    Args:
        place: the operator's repository.
        first_root: what a fresh client starts from.
        store: the vendor's memory.
        signers: his keys.
        now: when.
        inbox: where to; None if it goes into a file.
        file: where it goes while signatures are missing, or when there is no inbox.
        note: one line for the operator.
        time_checked, progress: see `Repository.edit`.
    """

    place: VendorPlace
    first_root: bytes
    store: TrustStore | None
    signers: Signers
    now: datetime
    inbox: Inbox | None = None
    file: Path | None = None
    note: str | None = None
    time_checked: bool = False
    progress: Progress | None = None

    def load(self) -> State:
        """Verify the operator's repository, from the memory or root.

        Raises:
            VerificationError: it is not what they say, or may be an old copy.
            RefusedError: it has no vendors.
        """
        state = load(
            self.place.source,
            first_root=self.first_root,
            store=self.store,
            clock=StoppedClock(self.now),
        )
        expired = state.walk.expired.get("timestamp")
        if expired is not None and self.store is None:
            expired.hint = (
                f"{self.place.url} may show an old copy for your key to sign on top of;"
                " ask the operator, or work with a memory of it (--state)"
            )
            raise expired
        if self.settings(state).profile == "simple":
            raise RefusedError(
                f"{self.place.url} has the profile simple: its role targets signs "
                "everything, and takes nothing in",
                hint="publish with the operator's keys",
            )
        return state

    def settings(self, state: State) -> Settings:
        """Return profile and periods, as verified metadata has them."""
        return verified_settings(Settings(profile="standard"), state)


@final
class Pending:
    """How the repository will stand once the operator has taken what waits.

    Args:
        start: what is at hand.
        state: what the operator has published.

    Attributes:
        names: the submissions of this vendor that wait and can be taken, in order.
        releases: what each of them lists anew.
        told: what the vendor should know, one line each.
    """

    def __init__(self, start: Handing, state: State) -> None:
        self._state = state
        self._start = start
        self._prospect = Prospect(state, start.place, now=start.now)
        self._waiting: dict[str, Submission] = {}
        self._said = 0
        self.names: list[str] = []
        self.releases: dict[str, tuple[str, ...]] = {}
        self.told: list[str] = []

    @property
    def state(self) -> State:
        """What the next submission is built on."""
        if not self.names:
            return self._state
        walk = self._prospect.tolerant
        self._prospect.trusted("targets", tolerant=True)
        walk.workflow.timestamp = self._state.timestamp
        return State(
            walk=walk, before=self._state.before, first_root=self._state.first_root
        )

    def look(self) -> Self:
        """Look through the inbox for what was handed in with these keys."""
        inbox = self._start.inbox
        if inbox is None:
            return self
        try:
            names, more = inbox.names()
        except FetchError as why:
            self.told.append(
                f"what waits in {inbox.url} can't be looked at ({why}): if something of"
                " yours does, this may be refused after it"
            )
            return self
        if more:
            self.told.append(f"{inbox.url} has more than the {len(names)} looked at")
        found = self._read(inbox, names)
        ours = {
            publisher
            for publisher in {one.publisher for one in found.values()}
            if self._has_key_of(publisher, found.values())
        }
        waiting = {name: one for name, one in found.items() if one.publisher in ours}
        self._said = len(self.told)
        self._take(waiting)
        return self

    def named(self, role: str, entry: MetaFile) -> bytes:
        """Return a role's file: one that waits, or one that is published.

        Raises:
            FetchError: there is none.
        """
        return self._prospect.overlay.metadata(
            file_name(role, entry.version), limit=entry.length or LIMITS.targets
        )

    def of(self, role: str) -> Mapping[str, str]:
        """Return what waits of a role, and of those below it.

        Returns:
            Name → what people call it: its first digits, its roles and its releases.
        """
        return {
            name: f"{name[:12]} ({one.label})"
            + (f" with {', '.join(self.releases[name])}" if self.releases[name] else "")
            for name, one in self._waiting.items()
            if any(f"{each.role}.".startswith(f"{role}.") for each in one.roles)
        }

    def leave(self, left: Collection[str]) -> None:
        """Go on without some of what waits: keys that signed it are taken away.

        Args:
            left: names; what was built on those can't be taken either.
        """
        rest = {name: self._waiting[name] for name in self.names if name not in left}
        del self.told[self._said :]
        self.names.clear()
        self.releases.clear()
        self._waiting.clear()
        self._prospect = Prospect(self._state, self._start.place, now=self._start.now)
        self._take(rest)

    def judge(self, submission: Submission) -> None:
        """Judge a submission as the operator will, after those that wait.

        Raises:
            RefusedError: he would refuse it.
            SupplyChainError: devices would; see `acceptance.judge`.
        """
        self.told.extend(judge(self._prospect, submission).warnings)

    def _read(self, inbox: Inbox, names: Sequence[str]) -> dict[str, Submission]:
        """Return what waits of publishers that the operator has, without content."""
        found: dict[str, Submission] = {}
        for name in names:
            if len(found) == MOST_READ:
                self.told.append(
                    f"{inbox.url} has more than the {MOST_READ} submissions that were "
                    "read"
                )
                break
            try:
                if self._prospect.who(inbox.publisher(name)) is not None:
                    found[name] = inbox.signed(name)
            except (VerificationError, InconclusiveError):
                # Somebody else's rubbish is the operator's to refuse.
                continue
        return found

    def _has_key_of(self, publisher: str, waiting: Iterable[Submission]) -> bool:
        """Say whether a key at hand is a publisher's, or will be when all is taken."""
        signers = self._start.signers
        who = self._prospect.who(publisher)
        if who is not None and signers.of(who):
            return True
        drafts = (one.role(publisher) for one in waiting)
        said = [draft.signed for draft in drafts if draft is not None]
        if self._prospect.lists(publisher):
            standing = self._prospect.standing(publisher)
            said += [] if standing is None else [standing]
        return any(
            signers.of(found)
            for signed in said
            if signed.delegations is not None
            for role in signed.delegations.roles or ()
            if (found := signers_of(signed, role)) is not None
        )

    def _take(self, waiting: dict[str, Submission]) -> None:
        """Judge all of them, in whatever order they can be taken."""
        left = dict(sorted(waiting.items(), key=lambda pair: _versions(pair[1])))
        problems: dict[str, SupplyChainError] = {}
        for _ in range(MOST_PASSES):
            before = len(left)
            for name, one in list(left.items()):
                try:
                    judged = judge(self._prospect, one)
                except SupplyChainError as why:
                    problems[name] = why
                    continue
                del left[name]
                if not judged.is_known:
                    self._prospect = judged.after
                    self.names.append(name)
                    self._waiting[name] = one
                    self.releases[name] = tuple(
                        f"{new.record.name} {new.record.version}"
                        for new in judged.records
                    )
            if len(left) == before:
                break
        self.told += [
            f"submission {name[:12]} ({one.label}) waits, and will be refused as it "
            f"stands: {problems[name]}"
            for name, one in left.items()
        ]


def _versions(submission: Submission) -> tuple[str, list[tuple[str, int]]]:
    """Return what orders the submissions of one vendor: what comes first, first."""
    return submission.publisher, [(one.role, one.version) for one in submission.roles]
