"""`repo accept`: what vendors have submitted is judged, taken in and published.

Each submission is judged over the repository with those that were taken before it
(`acceptance`), its content is taken in, and then one snapshot and timestamp say all of
it, in an edit like any other. Two vendors who built on the same state both land; of two
submissions for one version, the second has to be built again. One that is refused or
malformed changes nothing and stands in nobody's way.

An inbox is emptied of what is published, and not before: a run that was killed goes on
where it was, since what was taken is known by its bytes.

Example:
    >>> done = repository.accept(open_inbox("inbox"), [online])  # doctest: +SKIP
    >>> [one.publisher for one in done.taken], done.refused
    (['acme', 'globex'], ())
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, final

from margo_supplychain.authoring.acceptance import judge
from margo_supplychain.authoring.acceptance_content import inner_work, take_content
from margo_supplychain.authoring.acceptance_past import loses_keys
from margo_supplychain.authoring.acceptance_provenance import (
    keep_submitted,
    prove_submitted,
)
from margo_supplychain.authoring.acceptance_signatures import Signatures
from margo_supplychain.authoring.accepted import Accepted, Refusal, Taken
from margo_supplychain.authoring.allowances import Allowances
from margo_supplychain.authoring.inbox import NAME
from margo_supplychain.authoring.inbox_order import claims_of, followed_by, in_order
from margo_supplychain.authoring.prospect import Prospect
from margo_supplychain.authoring.roles import application_of, kind_of
from margo_supplychain.authoring.submission import OPERATOR
from margo_supplychain.authoring.submission_changes import role_changes
from margo_supplychain.authoring.written import Written
from margo_supplychain.errors import (
    BudgetError,
    ConflictError,
    InconclusiveError,
    RefusedError,
    SupplyChainError,
    TooLargeError,
    VerificationError,
)
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.verify import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from securesystemslib.signer import Signer

    from margo_supplychain.authoring.acceptance import Judged
    from margo_supplychain.authoring.inbox import Inbox
    from margo_supplychain.authoring.place import Progress
    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.authoring.submission import Submission
    from margo_supplychain.authoring.submission_changes import RoleChange
    from margo_supplychain.authoring.submission_file import Claim
    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.versions import Version
    from margo_supplychain.transport.protocols import ContentSources
    from margo_supplychain.verify.clock import Clock
    from margo_supplychain.verify.trust_store import TrustStore

    _Attempt = Callable[[Sequence[str]], "Accepted"]

MOST_PASSES: Final = 20
"""Submissions may be built on one another, and lie in any order."""
MOST_WASTED: Final = 600.0  # seconds, on what is refused; then others are not read
# What devices may say of one of them that is wrong.
_OF_ONE: Final = (VerificationError, TooLargeError, BudgetError)
SHORTEST_NAME: Final = 8  # digits of a submission's name that tell it from others
MOST_LOOKED_AT: Final = 100  # submissions, for what one of them follows
_FEW: Final = 5  # names in a sentence


def accept(
    repository: Repository,
    inbox: Inbox,
    keys: Sequence[Signer],
    *,
    only: Sequence[str] = (),
    discard: bool = False,
    content: ContentSources | None = None,
    clock: Clock | None = None,
    time_checked: bool = False,
    state: TrustStore | None = None,
    progress: Progress | None = None,
) -> Accepted:
    """Take in what vendors have submitted; see `Repository.accept`."""
    waiting = inbox.names()
    names = _chosen(inbox, waiting.names, only)
    reached: list[Accepted] = []
    allowances = Allowances()

    def attempt(chosen: Sequence[str]) -> Accepted:
        reached.clear()
        with repository.edit(
            keys,
            clock=clock,
            time_checked=time_checked,
            state=state,
            progress=progress,
        ) as edit:
            found = edit.accept(inbox, chosen, content=content, allowances=allowances)
            reached.append(found)
        stored = edit.written or Written()
        content_of = found.written
        written = replace(
            stored,
            blobs_new=content_of.blobs_new + stored.blobs_new,
            blobs_there=content_of.blobs_there + stored.blobs_there,
        )
        return replace(found, written=written, warnings=edit.warnings)

    try:
        done = attempt(names)
    except ConflictError:
        # A registry has no lock: start again from what somebody else has published.
        done = attempt(names)
    except _OF_ONE as why:
        if not reached or len(reached[0].taken) < 2:
            raise
        # Each was judged alone, and together devices would refuse them: whoever it is,
        # the others need not wait for him.
        done = _one_by_one(attempt, names, reached, why)
    done = _explained(done, inbox, waiting.names)
    return _tidied(done, inbox, more=waiting.more and not only, discard=discard)


def preview(
    repository: Repository,
    inbox: Inbox,
    *,
    only: Sequence[str] = (),
    clock: Clock | None = None,
    state: TrustStore | None = None,
) -> Accepted:
    """Judge what waits and publish nothing; see `Repository.accept`.

    No content is read: whether that comes along whole is found when it is taken.
    """
    waiting = inbox.names()
    names = _chosen(inbox, waiting.names, only)
    with repository.edit((), clock=clock, time_checked=True, state=state) as edit:
        found = edit.accept(inbox, names, is_dry=True)
    found = _explained(found, inbox, waiting.names)
    return replace(
        found, more=found.more or (waiting.more and not only), warnings=edit.warnings
    )


def _one_by_one(
    attempt: _Attempt,
    names: Sequence[str],
    reached: Sequence[Accepted],
    problem: SupplyChainError,
) -> Accepted:
    """Take each submission in an edit of its own.

    Raises:
        SupplyChainError: it is not the fault of any one of them.
    """
    done = Accepted()
    for name in names:
        try:
            one = attempt([name])
        except _OF_ONE as why:
            if not reached or not reached[0].taken:
                raise
            publisher = reached[0].taken[0].publisher
            one = Accepted(refused=(_refusal(name, publisher, why),))
        done = Accepted(
            taken=(*done.taken, *one.taken),
            known=(*done.known, *one.known),
            refused=(*done.refused, *one.refused),
            written=Written(
                roles={**done.written.roles, **one.written.roles},
                blobs_new=done.written.blobs_new + one.written.blobs_new,
                blobs_there=done.written.blobs_there + one.written.blobs_there,
            ),
            more=done.more or one.more,
            warnings=(*done.warnings, *one.warnings),
        )
    if not done.taken:
        raise problem
    return done


def _chosen(inbox: Inbox, names: Sequence[str], only: Sequence[str]) -> tuple[str, ...]:
    """Return the names to look at; `only` may have their first digits.

    Raises:
        RefusedError: nothing, or more than one, begins so.
    """
    if not only:
        return tuple(names)
    found = []
    for given in only:
        matching = [one for one in names if one.startswith(given)]
        if NAME.fullmatch(given) is not None:
            matching = [given]  # also where more lie there than were listed
        if len(given) < SHORTEST_NAME:
            raise RefusedError(
                f"{given!r} are {len(given)} digits of a submission's name, expected "
                f"{SHORTEST_NAME} or more"
                if given
                else "an empty name is no submission's",
                hint=f"in {inbox.url}: {_shown(matching)}" if matching else None,
            )
        if len(matching) != 1:
            counted = f"{len(matching)} submissions" if matching else "no submission"
            raise RefusedError(
                f"{counted} in {inbox.url} begin{'' if matching else 's'} with "
                f"{given[:64]!r}",
                hint=f"give more digits: {_shown(matching)}"
                if matching
                else f"it holds {_shown(names)}",
            )
        found += matching
    return tuple(dict.fromkeys(found))


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(one[:12] for one in names[:_FEW])
    more = len(names) - _FEW
    return f"{shown} and {more} more" if more > 0 else shown or "nothing"


def _explained(done: Accepted, inbox: Inbox, names: Sequence[str]) -> Accepted:
    """Say of what came too early which submission it follows, if that waits there."""
    if not any(one.is_early for one in done.refused):
        return done
    seen = {one.name for one in (*done.taken, *done.known)}
    seen |= {one.name for one in done.refused}
    left = [one for one in names if one not in seen][:MOST_LOOKED_AT]
    early = [one.name for one in done.refused if one.is_early]
    # Nobody asked for the others: no more of them is read.
    claims = claims_of(inbox, [*early, *left])
    refused: list[Refusal] = []
    for one in done.refused:
        found = followed_by([one.name], claims) if one.is_early else set()
        before = [name for name in left if name in found]
        refused.append(one._replace(hint=_follows(before, one)) if before else one)
    return replace(done, refused=tuple(refused))


def _follows(before: Sequence[str], one: Refusal) -> str:
    if len(before) > _FEW:
        return (
            f"it follows others of {one.publisher} in the same inbox: take them "
            "together, without --only"
        )
    options = " ".join(f"--only {name[:12]}" for name in (*before, one.name))
    return (
        f"it follows {_shown(before)}, in the same inbox and not looked at: take them "
        f"together, {options}"
    )


def _tidied(done: Accepted, inbox: Inbox, *, more: bool, discard: bool) -> Accepted:
    """Take away what is published, and what is refused if that is wanted."""
    names = [one.name for one in (*done.taken, *done.known)]
    if discard:
        names += [one.name for one in done.refused if not one.is_open]
    more = more or done.more
    removed: list[str] = []
    kept: list[str] = []
    warnings = list(done.warnings)
    for name in names:
        try:
            gone = inbox.remove(name)
        except SupplyChainError as why:
            # What is published is published: it must not be reported as a failure.
            warnings.append(f"{name[:12]} stays in {inbox.url}: {why}")
            continue
        (removed if gone else kept).append(name)
    if kept:
        warnings.append(
            f"{inbox.url} keeps {len(kept)} submissions that are done with: remove "
            "them with the registry's own tools"
        )
    if more:
        warnings.append(
            f"{inbox.url} holds more than was looked at: run it again, with "
            "--discard-refused if what was refused is in the way; who fills it?"
        )
    return replace(done, removed=tuple(removed), more=more, warnings=tuple(warnings))


# --- inside an edit ------------------------------------------------------------------


def take(
    work: Work,
    inbox: Inbox,
    names: Sequence[str],
    *,
    content: ContentSources | None,
    allowances: Allowances | None = None,
    is_dry: bool = False,
) -> Accepted:
    """Judge submissions one after the other, and take in what is good; see `accept`.

    Args:
        work: the edit that signs for them.
        inbox: where they lie; nothing is removed.
        names: which of them.
        content: asks the registries that records name.
        allowances: what is left of each vendor's time, over several edits.
        is_dry: judge alone: nothing is taken in, and no content is read.

    Raises:
        SupplyChainError: the repository is not fit to take in anything.
    """
    taking = _Taking(
        work, inbox, content, allowances=allowances or Allowances(), is_dry=is_dry
    )
    taking.run(names)
    return taking.result()


@final
class _Taking:
    def __init__(
        self,
        work: Work,
        inbox: Inbox,
        content: ContentSources | None,
        *,
        allowances: Allowances,
        is_dry: bool,
    ) -> None:
        self._work = work
        self._is_dry = is_dry
        self._inbox = inbox
        self._content = content
        self._prospect = Prospect(work.state, work.place, now=work.signed_at)
        self._taken: list[Taken] = []
        self._known: list[Taken] = []
        self._refused: dict[str, Refusal] = {}
        self._new: set[tuple[ReleaseName, Version]] = set()
        self._blobs_new = 0
        self._blobs_there = 0
        self._wasted = 0.0
        self._allowances = allowances
        self._more = False

    def run(self, names: Sequence[str]) -> None:
        """Judge them, and those again that may have come too early."""
        claims = claims_of(self._inbox, names) if len(names) > 1 else {}
        order = in_order(names, claims)
        own, first = self._first(order, claims)
        self._judge([one for one in order if one in own])
        self._judge([one for one in order if one in first - own])
        self._judge([one for one in order if one not in own | first])
        if not self._is_dry:
            self._note_releases()

    def _judge(self, pending: Sequence[str]) -> None:
        """Judge these, and again what was refused and may have come too early."""
        for _ in range(MOST_PASSES):
            before = len(self._taken)
            for name in pending:
                if self._wasted > MOST_WASTED:
                    self._more = True
                    break
                self._one(name)
            changed = {one.publisher for one in self._taken[before:]}
            pending = [
                one.name
                for one in self._refused.values()
                if one.publisher is not None
                and (
                    one.publisher in changed
                    or OPERATOR in changed
                    # It may wait for what new keys have signed just now.
                    or (changed and one.publisher == OPERATOR)
                )
            ]
            if not pending:
                break

    def _first(
        self, names: Sequence[str], claims: Mapping[str, Claim]
    ) -> tuple[set[str], set[str]]:
        """Return those that come first: the operator's own, then what takes keys away.

        A thief of these keys may have handed in what would be taken as well, before
        them alone; and then they would not follow what is published any more. So what
        they follow themselves comes first, too, as far as enough keys signed it.
        """
        own, first, lost = set(), set(), set[str]()
        signed: dict[str, Claim] = {}
        began = time.monotonic()
        for name in names if len(names) > 1 else ():
            if time.monotonic() - began > MOST_WASTED / 10:
                break
            try:
                found = self._inbox.signed(name, Signatures(self._prospect))
                roles = loses_keys(self._prospect, found)
            except SupplyChainError:
                continue  # why it is refused is found when it is judged
            if name in claims:
                signed[name] = claims[name]
            if found.publisher == OPERATOR:
                own.add(name)
            elif roles:
                first.add(name)
                lost |= roles
        return own, first | followed_by(first, signed, taken=lost)

    def result(self) -> Accepted:
        """Return what came of it, before anything is published."""
        return Accepted(
            taken=tuple(self._taken),
            known=tuple(self._known),
            refused=tuple(self._refused.values()),
            written=Written(blobs_new=self._blobs_new, blobs_there=self._blobs_there),
            more=self._more,
        )

    def _one(self, name: str) -> None:
        self._refused.pop(name, None)
        gate = Signatures(self._prospect)
        began = time.monotonic()
        try:
            # Who did not sign it enough is not read any further.
            submission = self._inbox.signed(name, gate)
            judged = judge(self._prospect, submission)
            if judged.is_known:
                self._known.append(_taken(name, submission, judged))
                return
            changes = role_changes(submission, self._prospect, roles=judged.roles)
            if not self._is_dry:
                self._take_content(name, submission, judged)
        except SupplyChainError as why:
            found = _refusal(name, gate.publisher, why)
            if not self._is_fit():
                found = found._replace(is_open=True)
            else:
                found = found._replace(is_early=gate.is_early)
            self._refused[name] = found
            self._wasted += time.monotonic() - began
            return
        self._adopt(judged)
        self._taken.append(_taken(name, submission, judged, changes))

    def _take_content(self, name: str, submission: Submission, judged: Judged) -> None:
        # Signed by those who may: now all of it is read, and compared.
        with self._inbox.read(name) as whole:
            if _files(whole) != _files(submission):
                raise RefusedError(
                    f"{submission.publisher}: {name[:12]} changed while it was read"
                )
            place = self._work.place
            prove_submitted(judged, whole, place)
            stored = take_content(
                self._work,
                whole,
                list(judged.contents()),
                content=self._content,
                allowances=self._allowances,
            )
            keep_submitted(judged, whole, place, keep=self._keep)
        self._blobs_new += stored.new
        self._blobs_there += stored.there

    def _keep(self, found: dict[Digest, tuple[Descriptor, bytes]]) -> None:
        """Write the attestations of one release."""
        work = inner_work(self._work)
        work.staged.attestations.update(found)
        self._work.place.write(work)

    def _is_fit(self) -> bool:
        """Say whether the operator's own role stands, or nothing could be taken."""
        try:
            self._prospect.trusted(OPERATOR)
        except SupplyChainError as why:
            text = f"no vendor can be served before the operator acts: {why}"
            if text not in self._work.warnings:
                self._work.warnings.append(text)
            return False
        return True

    def _adopt(self, judged: Judged) -> None:
        work = self._work
        work.warnings += judged.warnings
        self._prospect = judged.after
        if self._is_dry:
            return
        for role in judged.roles:
            # Also where another one follows in this very run: it has its name.
            work.staged.metadata[file_name(role.role, role.version)] = role.data
            work.adopt(role.role, role.data)
            if kind_of(role.role) == "application":
                work.applications.add(application_of(role.role))
        for target in judged.targets:
            work.staged.targets[target.path] = (target.what, target.data)
        self._new.update((one.name, one.version) for one in judged.releases())

    def _note_releases(self) -> None:
        """Tell the edit which releases devices must be able to install now."""
        for name, version in self._new:
            said = self._prospect.standing(name.role)
            listed = () if said is None else resolve.listed(said, name)
            for one in listed:
                is_usable = one.entry is not None and one.entry.withdrawn is None
                if one.version == version and is_usable:
                    self._work.releases.setdefault(name, set()).add(version)


def _files(submission: Submission) -> tuple[object, ...]:
    return (
        submission.publisher,
        tuple((one.role, one.data) for one in submission.roles),
        submission.targets,
        submission.content,
    )


def _taken(
    name: str,
    submission: Submission,
    judged: Judged,
    changes: tuple[RoleChange, ...] = (),
) -> Taken:
    return Taken(
        name=name,
        publisher=judged.publisher,
        roles=tuple((one.role, one.version) for one in judged.roles),
        releases=tuple(
            f"{one.record.name} {one.record.version}" for one in judged.records
        ),
        note=submission.note,
        said=submission.said,
        changes=changes,
    )


def _hint(why: SupplyChainError) -> str | None:
    """Return what an operator can do; what a device should do is no help here."""
    if why.blame is not None and (why.hint or "").endswith(why.blame):
        return "it is no submission, or was cut or changed after it was handed in"
    return None if why.hint == why.default_hint else why.hint


def _refusal(name: str, publisher: str | None, why: SupplyChainError) -> Refusal:
    prefix = f"{publisher}: "
    text = str(why)
    if publisher is not None and not text.startswith(prefix):
        text = prefix + text
    return Refusal(
        name=name,
        publisher=publisher,
        reason=text,
        code=why.code,
        hint=_hint(why),
        is_open=isinstance(why, InconclusiveError),
    )
