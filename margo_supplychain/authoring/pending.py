"""What waits in an inbox counts as taken by the vendor who handed it in.

His next submission goes on from it: the operator takes them in this order. Each is
judged as the operator will, so nobody else's rubbish in the inbox, however it is
called, changes what a vendor signs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Self, final

from margo_supplychain.authoring.acceptance import judge
from margo_supplychain.authoring.acceptance_provenance import prove_submitted
from margo_supplychain.authoring.acceptance_signatures import Signatures
from margo_supplychain.authoring.inbox_order import claims_of, in_order
from margo_supplychain.authoring.prospect import Prospect
from margo_supplychain.authoring.roles import signers_of
from margo_supplychain.authoring.settings import Settings, verified_settings
from margo_supplychain.authoring.state import LIMITS, State, load
from margo_supplychain.errors import (
    FetchError,
    InconclusiveError,
    MalformedError,
    RefusedError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.verify.clock import StoppedClock

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime
    from pathlib import Path

    from tuf.api.metadata import MetaFile, Targets

    from margo_supplychain.authoring.inbox import Inbox
    from margo_supplychain.authoring.place import Progress
    from margo_supplychain.authoring.signatures import Signers
    from margo_supplychain.authoring.submission import Submission
    from margo_supplychain.authoring.submission_file import Claim
    from margo_supplychain.authoring.vendor_place import VendorPlace
    from margo_supplychain.verify.trust_store import TrustStore


MOST_PASSES: Final = 20  # what waits may be built on one another
MOST_TAKEN: Final = 100  # submissions of one publisher that are built on
MOST_WASTED: Final = 60.0  # seconds, on what can't be taken
MOST_TOLD: Final = 10  # of those, one line each


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
        self._claims: dict[str, Claim] = {}
        self._said = 0
        self._wasted = 0.0

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
        claims = claims_of(inbox, names)
        by_publisher: dict[str, dict[str, Claim]] = {}
        for name in in_order(names, claims):
            if name in claims:
                claim = claims[name]
                by_publisher.setdefault(claim.publisher, {})[name] = claim
        waiting = [
            _Waiting(publisher, found, is_ours=self._has_key_of(publisher))
            for publisher, found in by_publisher.items()
            if self._is_known(publisher)
        ]
        self._said = len(self.told)
        # What others fill the inbox with, must not use up the time for ours.
        for one in sorted(waiting, key=lambda one: not one.is_ours):
            if one.is_ours or one.may_add_keys:
                self._take(inbox, one)
        if self._wasted > MOST_WASTED:
            self.told.append(
                f"{inbox.url} has so much that nobody has signed that not all of it was"
                " looked at: if something of yours waits there, this may be refused "
                "after it"
            )
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
            name: f"{name[:12]} ({_label(claim)})"
            + (f" with {', '.join(self.releases[name])}" if self.releases[name] else "")
            for name, claim in self._claims.items()
            if any(f"{each}.".startswith(f"{role}.") for each, _, _ in claim.roles)
        }

    def leave(self, left: Collection[str]) -> None:
        """Go on without some of what waits: keys that signed it are taken away.

        Args:
            left: names; what was built on those can't be taken either.
        """
        inbox = self._start.inbox
        rest: dict[str, dict[str, Claim]] = {}
        for name, claim in self._claims.items():
            if name not in left:
                rest.setdefault(claim.publisher, {})[name] = claim
        del self.told[self._said :]
        self.names.clear()
        self.releases.clear()
        self._claims.clear()
        self._prospect = Prospect(self._state, self._start.place, now=self._start.now)
        self._wasted = 0.0
        if inbox is not None:
            for publisher, claims in rest.items():
                self._take(inbox, _Waiting(publisher, claims, is_ours=True))

    def judge(self, submission: Submission) -> None:
        """Judge a submission as the operator will, after those that wait.

        Raises:
            RefusedError: he would refuse it.
            SupplyChainError: devices would; see `acceptance.judge`.
        """
        judged = judge(self._prospect, submission)
        prove_submitted(judged, submission, self._start.place)
        self.told.extend(judged.warnings)

    def _is_known(self, publisher: str) -> bool:
        try:
            return self._prospect.who(publisher) is not None
        except (VerificationError, InconclusiveError):
            return False  # what waits of it can't be judged, nor taken

    def _has_key_of(self, publisher: str) -> bool:
        """Say whether a key at hand is a publisher's, or one of its applications'."""
        signers = self._start.signers
        who = self._prospect.who(publisher)
        if who is not None and signers.of(who):
            return True
        if not self._prospect.lists(publisher):
            return False
        standing = self._prospect.standing(publisher)
        found = (
            signers_of(said, role)
            for said in (standing, self._resulting(publisher))
            if said is not None and said.delegations is not None
            for role in said.delegations.roles or ()
        )
        return any(one is not None and signers.of(one) for one in found)

    def _resulting(self, publisher: str) -> Targets | None:
        """Return what a publisher's role says once all is taken, if that is sound."""
        try:
            return self._prospect.trusted(publisher, tolerant=True).signed
        except (VerificationError, InconclusiveError):
            return None

    def _take(self, inbox: Inbox, waiting: _Waiting) -> None:
        """Judge what waits of one publisher, in whatever order it can be taken.

        Each is read, judged and forgotten: however many there are, one is in memory.
        """
        start, names, releases = self._prospect, list[str](), {}
        left = dict(waiting.claims)
        problems: dict[str, SupplyChainError] = {}
        is_signed = set[str]()
        for _ in range(MOST_PASSES):
            before = len(left)
            for name in list(left):
                if self._wasted > MOST_WASTED or len(names) == MOST_TAKEN:
                    break
                began = time.monotonic()
                try:
                    signed = inbox.signed(name, Signatures(self._prospect))
                    is_signed.add(name)
                    judged = judge(self._prospect, signed)
                except SupplyChainError as why:
                    self._wasted += time.monotonic() - began
                    problems[name] = why
                    if isinstance(why, MalformedError):
                        del left[name]  # nothing that comes before it mends that
                    continue
                del left[name]
                if not judged.is_known:
                    self._prospect = judged.after
                    names.append(name)
                    releases[name] = tuple(
                        f"{new.record.name} {new.record.version}"
                        for new in judged.records
                    )
            if len(left) == before or not left:
                break
        if not (waiting.is_ours or self._has_key_of(waiting.publisher)):
            self._prospect = start  # and so it was none of ours
            return
        self.names += names
        self._claims |= {name: waiting.claims[name] for name in names}
        self.releases |= releases
        if len(names) == MOST_TAKEN:
            self.told.append(f"{inbox.url} has more than the {MOST_TAKEN} looked at")
        # What is signed first: anybody may hand in the rest under this name.
        late = sorted(
            (name for name in left if name in problems),
            key=lambda name: name not in is_signed,
        )
        self.told += [
            f"submission {name[:12]} ({_label(left[name])}) waits, and will be refused "
            f"as it stands: {problems[name]}"
            for name in late[:MOST_TOLD]
        ]
        if len(late) > MOST_TOLD:
            self.told.append(
                f"{len(late) - MOST_TOLD} more of {waiting.publisher} will be, too"
            )


class _Waiting(NamedTuple):
    """What lies in an inbox under a publisher's name, unsigned.

    Args:
        publisher: whose it says it is; one whom the operator has.
        claims: by name, in the order in which to look.
        is_ours: whether a key at hand is this publisher's, as it stands.
    """

    publisher: str
    claims: Mapping[str, Claim]
    is_ours: bool

    @property
    def may_add_keys(self) -> bool:
        """Whether its keys may be others once this is taken: even those at hand."""
        return any(
            role == self.publisher
            for claim in self.claims.values()
            for role, _, _ in claim.roles
        )


def _label(claim: Claim) -> str:
    """Return how people call it: see `Submission.label`."""
    shown = ", ".join(f"{role} v{version}" for role, version, _ in claim.roles[:5])
    more = len(claim.roles) - 5
    return f"{shown} and {more} more" if more > 0 else shown
