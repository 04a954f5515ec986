"""A trust repository as its author holds it: in a directory, registry or layout.

A directory is what any web server can serve: `metadata/`, `targets/` and an OCI image
layout beside. `authoring/` in it is a convenience of its author and needs no server.
Nothing here trusts the place: each edit starts from metadata that was verified as a
device would, and ends with metadata that a device has accepted. A registry or layout is
not even asked for its first root: that comes from the author, or from the memory.

Example:
    >>> repository = Repository.create(Path("trust"), plan=plan, keys=[offline, ci])
    >>> with repository.edit([offline, ci]) as edit:
    ...     edit.add_application(name, [ci.public_key], policy=policy)
    True
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, Final, Self, final

from margo_supplychain.authoring.edit import Edit
from margo_supplychain.authoring.ending import finish
from margo_supplychain.authoring.healing import Beginning, begin_edit
from margo_supplychain.authoring.mending import MendingSource
from margo_supplychain.authoring.place import open_place
from margo_supplychain.authoring.settings import Settings, verified_settings
from margo_supplychain.authoring.signatures import Signers
from margo_supplychain.authoring.state import load, read_roots
from margo_supplychain.authoring.unfinished import FINISH, unfinished
from margo_supplychain.errors import (
    FetchError,
    RefusedError,
    ThresholdError,
    VerificationError,
)
from margo_supplychain.verify.clock import StoppedClock, SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, timedelta
    from pathlib import Path

    from securesystemslib.signer import Signer

    from margo_supplychain.authoring.accepted import Accepted
    from margo_supplychain.authoring.duties import Duty
    from margo_supplychain.authoring.inbox import Inbox
    from margo_supplychain.authoring.pending import Handing
    from margo_supplychain.authoring.place import Place, Progress
    from margo_supplychain.authoring.placement import Mirrored
    from margo_supplychain.authoring.plan import Profile, RootPlan
    from margo_supplychain.authoring.proposals import RootProposal, SignedRoot
    from margo_supplychain.authoring.root_chain import RootChain
    from margo_supplychain.authoring.state import State
    from margo_supplychain.authoring.targets_draft import TargetsDraft
    from margo_supplychain.authoring.written import Written
    from margo_supplychain.formats.reports import Report
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.protocols import ContentSources
    from margo_supplychain.verify.clock import Clock
    from margo_supplychain.verify.trust_store import TrustStore

_NO_ROOT: Final = (
    "name a root that you got from somebody you trust (--root FILE), or your memory of "
    "this repository (--state)"
)


@final
class Repository:
    """A trust repository; made by `create` or `open`."""

    def __init__(self, place: Place, root: bytes | None) -> None:
        self.place = place
        self._settings = place.settings()
        self._root = root
        self._standing: Settings | None = None

    @property
    def url(self) -> str:
        """What the repository is called in messages: its directory, or its URL."""
        return self.place.url

    def standing(self, *, state: TrustStore | None = None) -> Settings:
        """Return profile, publisher and periods, as the verified metadata has them.

        What can't be verified now is as it is written down: whoever does anything with
        the repository will hear about that.

        Args:
            state: the author's memory of this repository.
        """
        if self._standing is None:
            try:
                begun = self._load(_now(None), state)
            except (VerificationError, FetchError, RefusedError):
                return self._settings
            self._standing = verified_settings(self._settings, begun)
        return self._standing

    @property
    def profile(self) -> Profile:
        """`standard`, `small` or `simple`, as the verified delegations have it."""
        return self.standing().profile

    @property
    def publisher(self) -> str | None:
        """The one publisher of the profiles small and simple."""
        return self.standing().publisher

    @property
    def root(self) -> bytes:
        """Exact bytes of `1.root.json`: what devices are given out of band.

        Of a repository that is no directory: the root that it was opened with.

        Raises:
            RefusedError: it was opened without one.
        """
        if self._root is None:
            raise RefusedError(
                f"{self.url} is not asked for its own first root", hint=_NO_ROOT
            )
        return self._root

    def roots(self, *, state: TrustStore | None = None) -> RootChain:
        """Return the trusted root, and those before it that the place still has.

        Looks at roots alone: also where nothing else verifies, or all has expired.

        Args:
            state: the author's memory of this repository.

        Raises:
            VerificationError: a root does not follow the one before it.
            FetchError: the place can't be reached.
        """
        from margo_supplychain.authoring.root_chain import chain_in

        known = None if state is None else state.load().root
        first = self._first_root(state) if known is None else self._root
        return chain_in(self.place.source, first=first, known=known)

    @property
    def directory(self) -> Path:
        """Where the repository lies as files.

        Raises:
            RefusedError: it lies in a registry or layout.
        """
        from margo_supplychain.authoring.directory_place import DirectoryPlace

        if not isinstance(self.place, DirectoryPlace):
            raise RefusedError(f"{self.url} is no directory")
        return self.place.directory

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        plan: RootPlan,
        keys: Sequence[Signer],
        root: SignedRoot | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """Make a repository in a new or empty directory.

        A directory in which this was begun and killed counts as empty.

        Args:
            directory: where; its parents are made.
            plan: keys, thresholds and periods.
            keys: private keys, enough for each role's threshold; those of root only
                without `root`.
            root: the first root, proposed from this plan and signed apart.
            clock: the machine's by default.

        Raises:
            IncompleteError: a key that must sign is not in `keys`.
            RefusedError: the directory is not empty; `root` is not of this plan.
            StorageError: it can't be written.
        """
        from margo_supplychain.authoring.creation import create

        create(directory, plan=plan, keys=keys, root=root, now=_now(clock))
        return cls.open(directory)

    @classmethod
    def open(
        cls,
        where: Path | str,
        *,
        root: bytes | None = None,
        network: Network | None = None,
        mirrored: Mirrored | None = None,
    ) -> Self:
        """Open a repository; signs, verifies and changes nothing.

        Args:
            where: a directory, or `oci://host/path` or `oci-layout:PATH`.
            root: what to believe, in place of a directory's own `1.root.json`. Any
                other place needs it, or a memory (`state`) with each call.
            network: limits and credentials of what comes over the network.
            mirrored: where content of an `oci://` location lies instead, such as
                `MirrorMap.places`; asked about what a release only refers to.

        Raises:
            FormatError: there is none, or no kind of place that can be edited.
            StorageError: it can't be read.
        """
        place = open_place(where, network=network, mirrored=mirrored)
        first = place.first_root()
        return cls(place, first if root is None else root)

    @classmethod
    def view(
        cls,
        where: Path | str,
        *,
        root: bytes | None = None,
        network: Network | None = None,
        mirrored: Mirrored | None = None,
    ) -> Self:
        """Open an operator's repository as his vendors do: it is read, not written.

        Args:
            where: a directory, `https://…` or `oci://…`, as a device could read it.
            root: what to believe; or a memory (`state`) with each call.
            network, mirrored: see `open`.

        Raises:
            FormatError: no kind of URL.
        """
        from margo_supplychain.authoring.vendor_place import open_vendor_place

        place = open_vendor_place(where, network=network, mirrored=mirrored)
        return cls(place, root)

    @contextmanager
    def submit(
        self,
        keys: Sequence[Signer],
        *,
        inbox: Inbox | None = None,
        file: Path | None = None,
        note: str | None = None,
        clock: Clock | None = None,
        time_checked: bool = False,
        state: TrustStore | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Edit]:
        """Change what is a vendor's own, and hand it in when the `with` block ends.

        `Edit.written` is then a `HandedIn`, unless nothing changed.

        Args:
            keys: private keys of the publisher's roles that change; no operator's.
            inbox: where the operator takes it from.
            file: where it goes while signatures are missing, or without an inbox.
            note: one line for the operator.
            clock, time_checked, state, progress: see `edit`.

        Raises:
            RefusedError: the operator would refuse it, or something of it is his.
            IncompleteError: signatures are missing, and there is no file to write it
                to (with one, `HandedIn.lacking` says what is missing).
            VerificationError: the repository is not what memory or root says.
            ClockError: the clock is far from the last signed time.
            FetchError, StorageError: something can't be read, pushed or handed in.
        """
        from margo_supplychain.authoring.submitting import submit

        start = replace(
            self.handing(keys, clock=clock, state=state),
            inbox=inbox,
            file=file,
            note=note,
            time_checked=time_checked,
            progress=progress,
        )
        with submit(start) as edit:
            yield edit

    def handing(
        self,
        keys: Sequence[Signer] = (),
        *,
        clock: Clock | None = None,
        state: TrustStore | None = None,
    ) -> Handing:
        """Return what `submitting` needs of a view: what to believe, and keys.

        Args:
            keys, clock, state: see `submit`.

        Raises:
            RefusedError: the repository was not opened by `view`; nothing says which
                keys are its own.
        """
        from margo_supplychain.authoring.pending import Handing
        from margo_supplychain.authoring.vendor_place import VendorPlace

        if not isinstance(self.place, VendorPlace):
            raise RefusedError(
                f"{self.url} is open to be written, not as vendors see it",
                hint="open it with Repository.view",
            )
        return Handing(
            place=self.place,
            first_root=self._first_root(state),
            store=state,
            signers=Signers(keys),
            now=_now(clock),
        )

    @contextmanager
    def edit(
        self,
        keys: Sequence[Signer],
        *,
        clock: Clock | None = None,
        time_checked: bool = False,
        state: TrustStore | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Edit]:
        """Change the repository: all or nothing, when the `with` block ends well.

        A directory is locked from the beginning, so that a second publisher waits and
        then starts from what the first one wrote. A registry has no lock: there the
        second one is refused, and starts again.

        Args:
            keys: private keys of every role that changes, and of snapshot and
                timestamp.
            clock: the machine's by default.
            time_checked: sign although the clock is far from the last signed time;
                when that lies ahead of the clock, as if it were that time: devices
                have it as a floor.
            state: the author's memory of this repository; without it, what the
                place holds is believed from the root on.
            progress: told what is being copied, how much of it and how much there is.

        Raises:
            VerificationError: the place is not what the memory or root says, or a
                device would refuse the result. Nothing was written.
            IncompleteError: a role lacks signatures; names the keys.
            ClockError: the clock is far from the last signed time.
            ConflictError: somebody else published at the same time; run it again.
            StorageError: locked for a minute by others, or the disk refuses.
        """
        with self.place.locked():
            start = self._beginning(
                keys,
                clock=clock,
                time_checked=time_checked,
                state=state,
                progress=progress,
            )
            work = begin_edit(start)
            edit = Edit(work)
            yield edit
            edit.written = finish(work, time_checked=time_checked, store=state)
            if edit.written.roles:
                work.warnings += self._put_back()

    def accept(
        self,
        inbox: Inbox,
        keys: Sequence[Signer],
        *,
        only: Sequence[str] = (),
        discard: bool = False,
        dry_run: bool = False,
        content: ContentSources | None = None,
        clock: Clock | None = None,
        time_checked: bool = False,
        state: TrustStore | None = None,
        progress: Progress | None = None,
    ) -> Accepted:
        """Judge what vendors have submitted, and publish what is good.

        Each is taken whole, or not at all; one that is refused stands in nobody's way.
        What is published is then removed from the inbox. Again is fine.

        Args:
            inbox: where it lies.
            keys: private keys of snapshot and timestamp; no vendor's.
            only: names of submissions, or their first digits; all that are there by
                default.
            discard: remove what was refused as well.
            dry_run: judge alone: no key is needed, no content is read, and nothing is
                written or removed.
            content: asks the registries that records name for the content of releases;
                None to ask nobody. Vendors name them, so without your login:
                `MirroredContent(…, anonymous=True)`.
            clock, time_checked, state, progress: see `edit`.

        Raises:
            FetchError, StorageError: the inbox can't be read.
            RefusedError: `only` names none, or more than one.
            SupplyChainError: see `edit`; nothing was published.
        """
        from margo_supplychain.authoring.accepting import accept, preview

        if dry_run:
            return preview(self, inbox, only=only, clock=clock, state=state)
        return accept(
            self,
            inbox,
            keys,
            only=only,
            discard=discard,
            content=content,
            clock=clock,
            time_checked=time_checked,
            state=state,
            progress=progress,
        )

    def _beginning(
        self,
        keys: Sequence[Signer],
        *,
        clock: Clock | None,
        time_checked: bool,
        state: TrustStore | None,
        progress: Progress | None = None,
    ) -> Beginning:
        return Beginning(
            place=self.place,
            settings=self._settings,
            first_root=self._first_root(state),
            store=state,
            signers=Signers(keys),
            now=_now(clock),
            time_checked=time_checked,
            progress=progress,
        )

    # --- root ------------------------------------------------------------------------

    def plan(
        self, *, clock: Clock | None = None, state: TrustStore | None = None
    ) -> RootPlan:
        """Return what the newest root says, as a plan to change.

        Args:
            clock: the machine's by default.
            state: the author's memory of this repository.

        Raises:
            VerificationError: a root does not follow the one before it.
            FetchError: the place does not answer.
        """
        from margo_supplychain.authoring.standing_plan import standing_plan

        root = self.roots(state=state).trusted.signed
        try:
            begun = self._load(_now(clock), state)
        except (VerificationError, FetchError):
            # A root is planned also when nothing below it verifies: that is recovery.
            begun = None
        return standing_plan(root, begun, self._settings)

    def propose_root(
        self,
        plan: RootPlan,
        *,
        clock: Clock | None = None,
        state: TrustStore | None = None,
    ) -> RootProposal:
        """Propose the root that follows the newest one here; writes nothing.

        Args:
            plan: all that it shall say; `self.plan` gives what stands.
            clock: the machine's by default.
            state: the author's memory of this repository.

        Raises:
            RefusedError: it would lock somebody out, or a key returns that left.
            VerificationError, FetchError: see `roots`.
        """
        from margo_supplychain.authoring.proposals import RootProposal

        chain = self.roots(state=state)
        found = RootProposal.following(chain.trusted.data, plan, now=_now(clock))
        found.check_returning(chain.signed)
        return found

    def draft_targets(
        self,
        proposal: RootProposal,
        *,
        clock: Clock | None = None,
        state: TrustStore | None = None,
    ) -> TargetsDraft:
        """Draft the targets that goes with a proposed root; writes nothing.

        For keys of targets that lie apart: its holders sign the draft, and `adopt_root`
        takes it. It says what stands, and nothing else.

        Args:
            proposal: the newest root's successor, perhaps not signed yet.
            clock: the machine's by default.
            state: the author's memory of this repository.

        Raises:
            RefusedError: the proposal follows another root; or its keys of targets
                have signed what stands, and nothing is to be drafted.
            VerificationError, FetchError: the place is not what the memory or root
                says, and nothing is left that its keys signed.
        """
        from margo_supplychain.authoring.drafting import draft_targets

        start = self._beginning((), clock=clock, time_checked=False, state=state)
        return draft_targets(start, proposal)

    def adopt_root(
        self,
        root: SignedRoot,
        keys: Sequence[Signer] = (),
        *,
        targets: bytes | None = None,
        clock: Clock | None = None,
        time_checked: bool = False,
        state: TrustStore | None = None,
        progress: Progress | None = None,
    ) -> Written:
        """Publish a root, and sign what its keys must sign: all or nothing.

        Devices of every kind judge the result before anything is written. The same
        root again, after a run that was killed, goes on where that one ended.

        Args:
            root: the newest root's successor, or the newest one itself.
            keys: private keys of targets, snapshot and timestamp, as far as the root
                changes them: the new ones, and in a routine rotation the old ones, so
                that no device ever sees a gap. Without the old ones they count as
                stolen or lost.
            targets: the file of a `TargetsDraft` that was signed apart; then no key of
                targets is needed here. Unverified.
            clock: the machine's by default.
            time_checked: see `edit`.
            state: the author's memory of this repository; it follows.
            progress: see `edit`.

        Returns:
            What was signed, and what the author should know.

        Raises:
            RefusedError: it does not follow the newest root here; a key returns; what
                was signed apart is changed, stale or for another root.
            IncompleteError: a role lacks signatures; names the keys.
            VerificationError: a device would refuse the result. Nothing was written.
            ClockError: the clock is far from the last signed time.
            ConflictError: somebody else published at the same time; run it again.
            StorageError, FetchError: the place can't be read or written.
        """
        from margo_supplychain.authoring.adopting import adopt

        with self.place.locked():
            start = self._beginning(
                keys,
                clock=clock,
                time_checked=time_checked,
                state=state,
                progress=progress,
            )
            return adopt(start, root.root, targets=targets)

    # --- looking ---------------------------------------------------------------------

    def check(
        self, *, clock: Clock | None = None, state: TrustStore | None = None
    ) -> Report:
        """Look at everything as a fresh device, and as one with the previous state.

        Reads every role, policy, record and blob; finds every problem, not the first.
        A registry is asked for each manifest and for the presence of each blob. Copies
        elsewhere are looked at by `margo-supplychain repo check PLACE`.

        Args:
            clock: the machine's by default.
            state: the author's memory of this repository: a third pair of eyes.
        """
        from margo_supplychain.authoring.checks import check_place
        from margo_supplychain.authoring.content_look import look_at
        from margo_supplychain.authoring.tagged_place import TaggedPlace
        from margo_supplychain.transport.opening import open_sink

        shelf = self.place.shelf
        if isinstance(self.place, TaggedPlace):
            content = look_at(
                shelf,
                open_repository=self.place.content.open,
                mirrored=self.place.content.mirrored,
            )
        else:
            content = look_at(shelf, open_repository=open_sink)
        return check_place(
            shelf,
            self._first_root(state),
            content=content,
            store=state,
            now=_now(clock),
        )

    def status(
        self,
        *,
        within: timedelta,
        clock: Clock | None = None,
        state: TrustStore | None = None,
    ) -> tuple[Duty, ...]:
        """Return every role with who must act by when; needs no key.

        Args:
            within: what expires in this time is due.
            clock: the machine's by default.
            state: the author's memory of this repository, which sees an old copy.

        Raises:
            VerificationError: the top-level metadata is not what the memory or the
                root says.
        """
        from margo_supplychain.authoring.duties import duties, misplaced

        now = _now(clock)
        begun = self._load(now, state)
        settings = verified_settings(self._settings, begun)
        found = duties(begun, settings=settings, now=now, within=within)
        place = self.place.source
        plain = place.plain if isinstance(place, MendingSource) else place
        return tuple(misplaced(found, begun, plain))

    def begun(
        self, *, clock: Clock | None = None, state: TrustStore | None = None
    ) -> State:
        """Return what stands, verified; what has expired is noted in it.

        Args:
            clock: the machine's by default.
            state: the author's memory of this repository.

        Raises:
            VerificationError: the top-level metadata is not what the memory or the
                root says.
            FetchError: a file is missing, or the place does not answer.
        """
        return self._load(_now(clock), state)

    def _put_back(self) -> list[str]:
        source = self.place.source
        mended = source.mended if isinstance(source, MendingSource) else ()
        return [
            f"put back {name}: it was not under its name, and devices could not refresh"
            for name in sorted(mended)
        ]

    def _load(self, now: datetime, store: TrustStore | None) -> State:
        first = self._first_root(store)
        try:
            begun = load(
                self.place.source,
                first_root=first,
                store=store,
                clock=StoppedClock(now),
            )
        except ThresholdError as why:
            # A root whose adoption was cut short; who looks can't finish it.
            problem = unfinished(
                self.place.source, read_roots(self.place.source, first)
            )
            if problem is not None:
                why.hint = f"{problem}: {FINISH}"
            raise
        # With a memory the snapshot comes from there, and what it names may be gone.
        self.place.expect(begun.snapshot.signed.meta)
        return begun

    def _first_root(self, store: TrustStore | None) -> bytes:
        if self._root is not None:
            return self._root
        if store is None:
            raise RefusedError(
                f"{self.url} can't be believed by itself: nothing says which keys are "
                "its own",
                hint=_NO_ROOT,
            )
        return store.load().root


def _now(clock: Clock | None) -> datetime:
    found = (clock or SystemClock()).now()
    return found.astimezone(UTC).replace(microsecond=0)
