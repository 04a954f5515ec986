"""A vendor signs what is his, for a repository that others run: no operator's key.

The edit is the same as an operator's own (`Edit`), on a view of the repository that is
only read; what it changes is signed by the vendor's keys and handed in, judged before
by the rules that the operator will judge it by. Snapshot and timestamp, and what other
publishers have, are never touched.

What the vendor handed in before and what still waits in the inbox counts as taken: the
next submission goes on from it, and the operator takes them in this order. Where the
inbox does not let itself be read, it goes on from what stands.

Example:
    >>> view = Repository.view("https://updates.example.org/plant", root=root)
    >>> with view.submit([ci], inbox=open_inbox("inbox")) as edit:  # doctest: +SKIP
    ...     edit.add_release(release)
    True
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

from margo_supplychain.authoring.edit import Edit
from margo_supplychain.authoring.holders import known_holders, named
from margo_supplychain.authoring.overlay import Overlay
from margo_supplychain.authoring.pending import Handing, Pending
from margo_supplychain.authoring.policies import drop_void_marks
from margo_supplychain.authoring.roles import delegator_of, kind_of
from margo_supplychain.authoring.signatures import partly_signed
from margo_supplychain.authoring.state import (
    State,
    last_issued,
    require_plausible_time,
)
from margo_supplychain.authoring.submission import Base, Submission, SubmittedTarget
from margo_supplychain.authoring.submission_file import require_free, save_submission
from margo_supplychain.authoring.work import Work
from margo_supplychain.authoring.written import HandedIn, Written
from margo_supplychain.errors import (
    ConflictError,
    IncompleteError,
    RefusedError,
    StorageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tuf.api.metadata import Targets

    from margo_supplychain.authoring.place import Stored
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.threshold import ThresholdStatus
    from margo_supplychain.verify.trust_store import TrustStore

MOST_TAKEN: Final = 100  # names in a row that something else has


@contextmanager
def submit(start: Handing) -> Iterator[Edit]:
    """Collect changes and hand them in when the block ends well.

    Raises:
        SupplyChainError: see `Repository.submit`.
    """
    if start.file is not None:
        require_free(start.file)  # before anybody types a passphrase for nothing
    state = start.load()
    pending = Pending(start, state).look()
    signed_at = start.now
    if start.time_checked:
        signed_at = max(start.now, last_issued(state))
    work = Work(
        state=pending.state,
        place=start.place,
        settings=start.settings(state),
        signers=start.signers,
        now=start.now,
        signed_at=signed_at,
        progress=start.progress,
    )
    # What waits of a cut-off role can go on from what waits as well.
    work.begin(pending.state, pending.named)
    work.leaves = _Leaving(work, pending).leave
    edit = Edit(work)
    yield edit
    edit.written = _HandingIn(start, work, state, pending).finish()


def hand_in(start: Handing, submission: Submission) -> HandedIn:
    """Hand in what several holders have signed.

    Raises:
        IncompleteError: signatures are missing.
        RefusedError: the operator would refuse it.
        VerificationError, FetchError, StorageError: see `Repository.submit`.
    """
    state = start.load()
    pending = Pending(start, state).look()
    submission.require_complete(submission.signers(pending.state))
    pending.judge(submission)
    if start.inbox is None:
        raise TypeError("there is no inbox to hand it in to")
    name = start.inbox.put(submission)
    warnings: list[str] = []
    remember(start.store, state, warnings)
    return HandedIn(
        roles={one.role: (one.version, one.expires) for one in submission.roles},
        name=name,
        inbox=start.inbox.url,
        file=None,
        # It may wait there already.
        after=tuple(one for one in pending.names if one != name),
        blobs_along=len(submission.content),
        warnings=(*pending.told, *warnings),
    )


@final
class _Leaving:
    """Nothing that waits is gone on from if it was signed by keys that are taken away.

    Args:
        work: the edit.
        pending: what the operator has not taken yet.
    """

    def __init__(self, work: Work, pending: Pending) -> None:
        self._work = work
        self._pending = pending

    def leave(self, role: str) -> None:
        """Build on what is published, as far as this role and those below it go.

        Raises:
            RefusedError: something was changed already; or nothing but what waits
                knows that role.
        """
        work = self._work
        is_changed = bool(work.changes.touched or work.new or work.staged.targets)
        waiting = self._pending.of(role)
        if not waiting:
            return
        left = "; ".join(waiting.values())
        if is_changed:
            raise RefusedError(
                f"what waits of {role} must not be gone on from when its keys are "
                f"taken away: {left}",
                hint="do that first, in a submission of its own",
            )
        self._pending.leave(waiting)
        work.begin(self._pending.state, self._pending.named)
        if work.changes.who(role) is None:
            raise RefusedError(
                f"{role} is not published yet: it waits in {left}",
                hint="ask the operator to refuse that one, and add it again with "
                "another key",
            )
        work.warnings.append(
            f"this goes on from what is published of {role}, and can't be taken "
            f"together with what waits of it: {left}; hand in again what is yours of "
            f"that. `repo accept` takes this one before that{self._alone()}"
        )

    def _alone(self) -> str:
        """Return what an operator names with this one who does not take all."""
        names = self._pending.names
        if not names:
            return ""
        options = " ".join(f"--only {name[:12]}" for name in names)
        return f"; who takes it by --only names what it follows, too: {options}"


# --- what is handed in ---------------------------------------------------------------


@final
class _HandingIn:
    """The end of one edit: signed, judged, and put into the inbox or file.

    Args:
        start: what is at hand.
        work: the edit.
        state: what the operator has published.
        pending: what he has not taken yet.
    """

    def __init__(
        self, start: Handing, work: Work, state: State, pending: Pending
    ) -> None:
        self._start = start
        self._work = work
        self._state = state
        self._pending = pending

    def finish(self) -> Written:
        """Sign, judge and hand in; nothing if nothing changed.

        Raises:
            SupplyChainError: see `Repository.submit`.
        """
        start, work = self._start, self._work
        drop_void_marks(work)
        for role, why in work.changes.renewed.items():
            if role in work.changes.touched:
                work.warnings.append(why)
        self._touch_what_is_staged()
        if not work.changes.touched:
            stored = start.place.push([], work.kept, progress=work.progress)
            remember(start.store, self._state, work.warnings)
            return Written(
                blobs_restored=len(work.restored),
                blobs_there=stored.there,
                waiting=self._pending.releases,
            )
        publisher = self._publisher()
        if not start.time_checked:
            require_plausible_time(self._state, work.now)
        submission = self._signed(publisher)
        status = submission.status(submission.signers(work.state))
        lacking = [one for one in status if not one.met]
        if not lacking:
            self._pending.judge(submission)
            work.warnings.extend(self._pending.told)
            if self._pending.names:
                names = ", ".join(name[:12] for name in self._pending.names)
                work.warnings.append(
                    f"built on {names}, which the operator has not taken yet"
                )
        elif start.file is None:
            self._refuse_incomplete(lacking)
        else:
            work.warnings.extend(self._pending.told)
        stored = start.place.push(
            work.new, work.kept, attested=work.attested, progress=work.progress
        )
        work.warnings.extend(stored.told)
        written = self._put(submission, stored, lacking)
        remember(start.store, self._state, work.warnings)
        return written

    def _touch_what_is_staged(self) -> None:
        """Let the role of a target file that was lost come along with it."""
        work = self._work
        if work.top:
            raise RefusedError(
                "snapshot and timestamp are the operator's, and signed there",
                hint="a vendor renews roles of his own: --role PUBLISHER/NAME",
            )
        if not work.changes.touched:
            for path in work.staged.targets:
                publisher, kind, name, *_ = path.split("/")
                role = f"{publisher}.{name}" if kind == "releases" else publisher
                work.changes.change(role)

    def _publisher(self) -> str:
        """Return whose roles these are; `targets` is the operator's own.

        Raises:
            RefusedError: they are of two.
        """
        touched = self._work.changes.touched
        publishers = {one.partition(".")[0] for one in touched}
        if len(publishers) > 1:
            raise RefusedError(
                f"{' and '.join(sorted(publishers))} can't be handed in together: a "
                "submission is of one publisher, or of the operator's own targets",
                hint="hand in one after the other",
            )
        return publishers.pop()

    def _signed(self, publisher: str) -> Submission:
        work = self._work
        along = self._content()
        return Submission(
            publisher=publisher,
            created=work.signed_at,
            base=Base(self._state.snapshot.version, self._state.snapshot.file.sha256),
            roles=tuple(self._role(one) for one in sorted(work.changes.touched)),
            targets=tuple(
                SubmittedTarget(path, data)
                for path, (_, data) in sorted(work.staged.targets.items())
            ),
            content=along,
            note=self._start.note,
            source=Overlay(work.staged, work.place.source),
        )

    def _role(self, role: str) -> RoleFile[Targets]:
        work = self._work
        signed = work.changes.view(role)
        signed.version = self._next_version(role)
        signed.expires = work.signed_at + work.settings.period(kind_of(role))
        return partly_signed(signed, work.changes.require_who(role), work.signers)

    def _next_version(self, role: str) -> int:
        """Return the first version after the trusted one whose name is free.

        Raises:
            ConflictError: something else has each of them.
        """
        first = self._work.state.version(role) + 1
        for version in range(first, first + MOST_TAKEN):
            if self._work.place.written(role, version) is None:
                return version
        raise ConflictError(
            f"{self._work.place.url} has something under each of {MOST_TAKEN} names of "
            f"{role} from v{first} on",
            hint="tell the operator: somebody takes the names before you",
        )

    def _content(self) -> tuple[Descriptor, ...]:
        """Return the blobs that no registry of the vendor's has, and attestations."""
        given = self._work.staged.attestations
        found = {str(what.digest): what for what, _ in given.values()}
        for one in self._work.new:
            if self._start.place.comes_along(one.release):
                parts = one.release.parts()
                found |= {
                    str(part.descriptor.digest): part.descriptor for part in parts
                }
        return tuple(found[digest] for digest in sorted(found))

    def _put(
        self,
        submission: Submission,
        stored: Stored,
        lacking: Sequence[ThresholdStatus],
    ) -> HandedIn:
        start = self._start
        name, inbox, file = "", None, None
        if not lacking and start.inbox is not None:
            name, inbox = start.inbox.put(submission), start.inbox.url
        elif start.file is not None:
            save_submission(start.file, submission, replaces=False)
            file = start.file
        return HandedIn(
            roles={one.role: (one.version, one.expires) for one in submission.roles},
            blobs_new=stored.new,
            blobs_there=stored.there,
            blobs_restored=len(self._work.restored),
            name=name,
            inbox=inbox,
            file=file,
            after=tuple(self._pending.names),
            blobs_along=len(submission.content),
            lacking=tuple(self._lacks(one) for one in lacking),
        )

    def _lacks(self, one: ThresholdStatus) -> str:
        """Return what a role lacks, by the names that its delegator knows."""
        holders = known_holders(self._work.changes.view(delegator_of(one.role)))
        missing = ", ".join(named(keyid, holders) for keyid in one.missing[:8])
        return (
            f"{one.role} has {len(one.signers)} of {one.needed} signatures (missing: "
            f"{missing})"
        )

    def _refuse_incomplete(self, lacking: Sequence[ThresholdStatus]) -> None:
        who = {one.role: self._work.changes.require_who(one.role) for one in lacking}
        raise IncompleteError(
            "; ".join(self._lacks(one) for one in lacking),
            roles={role: tuple(one.keys) for role, one in who.items()},
            hint="give the other keys, too; or write it to a file that their holders "
            "sign: --out FILE. Nothing was handed in",
        )


def remember(store: TrustStore | None, state: State, warnings: list[str]) -> None:
    """Let a vendor's memory know what he has seen of the operator's repository."""
    if store is None:
        return
    accepted = state.walk.accepted
    files = {role: data for role, data in accepted.items() if role != "root"}
    try:
        store.keep(state.before, state.walk.workflow.complete(), files, {})
    except ConflictError:
        # Somebody verified with the same memory in the meantime: it never falls.
        return
    except StorageError as why:
        warnings.append(f"your memory of the repository is not written: {why}")
