"""Whether an operator takes what a vendor has submitted: all of it, or nothing.

A submission is judged over the repository as it stands, with everything that was taken
before it, as a device would judge the result:

    1  each role is the publisher's own, or that of one of its applications
    2  what was taken already is recognised by its bytes, and not judged again
    3  a threshold of distinct keys has signed: the publisher's role, as `targets`
       delegates it, then each application's, as the resulting publisher role does;
       nothing that they say is looked at before
    4  the next version of each, not expired, and not for ever
    5  what the publisher lists and delegates (`acceptance_publisher`)
    6  what each application lists (`acceptance_application`)
    7  every application of that publisher, submitted or not, can be followed by devices

Nothing is written. Content, and what releases are attested by, is looked at by whoever
takes it in (`accepting`, `acceptance_provenance`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from margo_supplychain.authoring import acceptance_past, acceptance_rules
from margo_supplychain.authoring.acceptance_application import (
    ApplicationJudgement,
    reinstated,
)
from margo_supplychain.authoring.acceptance_publisher import PublisherJudgement
from margo_supplychain.authoring.acceptance_signatures import Signatures
from margo_supplychain.authoring.acceptance_targets import judge_targets
from margo_supplychain.authoring.delegator_fields import is_awaited
from margo_supplychain.authoring.roles import (
    application_of,
    delegator_of,
    kind_of,
)
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.authoring.submission import OPERATOR
from margo_supplychain.errors import (
    ExpiredError,
    FormatError,
    RefusedError,
    SupplyChainError,
    ThresholdError,
)
from margo_supplychain.formats.pins import Pin
from margo_supplychain.verify import artifact, chain, offline_role, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tuf.api.metadata import Targets

    from margo_supplychain.authoring.acceptance_application import NewRecord
    from margo_supplychain.authoring.prospect import Prospect
    from margo_supplychain.authoring.submission import Submission, SubmittedTarget
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.formats.versions import Version


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """What was submitted, and can be taken.

    Args:
        publisher: whose it is.
        roles: those that are new; none if all of it was taken before.
        targets: their target files.
        records: releases that were not listed before, or are no longer withdrawn.
        summaries: verification summaries that releases of before name from now on.
        after: the repository with it.
        warnings: what the operator should know, one line each.
    """

    publisher: str
    roles: tuple[RoleFile[Targets], ...]
    targets: tuple[SubmittedTarget, ...]
    records: tuple[NewRecord, ...]
    summaries: tuple[Descriptor, ...]
    after: Prospect
    warnings: tuple[str, ...]

    @property
    def is_known(self) -> bool:
        """Whether all of it was taken before."""
        return not self.roles

    def releases(self) -> Iterator[ReleaseRecord]:
        """Yield the new releases that devices may install."""
        for one in self.records:
            if not (one.is_withdrawn or one.is_barred):
                yield one.record

    def contents(self) -> Iterator[ReleaseRecord]:
        """Yield those whose content must be here: what is barred may not stay so."""
        for one in self.records:
            if not one.is_withdrawn:
                yield one.record


def judge(before: Prospect, submission: Submission) -> Judged:
    """Judge one submission over a repository with those before it.

    The publisher's name is put in front of every error's message.

    Args:
        before: how the repository stands with them.
        submission: unverified.

    Raises:
        RefusedError: it can't be taken; names the publisher and the reason.
        VerificationError, FormatError: likewise, as a device finds.
        FetchError: something that it depends on can't be read.
    """
    try:
        return _Judging(before, submission).run()
    except SupplyChainError as why:
        why.args = (f"{submission.publisher}: {why}", *why.args[1:])
        raise


class _Judging:
    def __init__(self, before: Prospect, submission: Submission) -> None:
        self._before = before
        self._submission = submission
        self._publisher = submission.publisher
        self._warnings: list[str] = []
        self._summaries: list[Descriptor] = []

    def run(self) -> Judged:
        """Go through the steps."""
        before = self._before
        signatures = Signatures(before)
        for one in self._submission.roles:
            signatures.check_name(one.role, self._publisher)
        new = [
            one
            for one in self._submission.roles
            if not before.has(one.role, one.version, one.data)
        ]
        if not new:
            return self._judged(before, (), (), ())
        for one in new:
            signatures.require(one)
        for one in new:
            acceptance_rules.require_next(before, one)
        targets = self._listed_targets(new)
        after = before.joined(new, targets)
        for one in sorted(new, key=lambda one: "." in one.role):
            after.trusted(one.role)
            acceptance_rules.require_bounded_expiry(before, one)
        acceptance_rules.require_room(before, after, self._submission.label)
        records = self._check_content(after, new)
        self._check_all(after, {one.role for one in new}, records)
        return self._judged(after, new, targets, records)

    def _judged(
        self,
        after: Prospect,
        new: Sequence[RoleFile[Targets]],
        targets: Sequence[SubmittedTarget],
        records: Sequence[NewRecord],
    ) -> Judged:
        return Judged(
            publisher=self._publisher,
            roles=tuple(new),
            targets=tuple(targets),
            records=tuple(records),
            summaries=tuple(self._summaries),
            after=after,
            # Of one role that was cut off, each of its applications says the same.
            warnings=tuple(dict.fromkeys(self._warnings)),
        )

    # --- 5 and 6 ---------------------------------------------------------------------

    def _listed_targets(
        self, new: Sequence[RoleFile[Targets]]
    ) -> tuple[SubmittedTarget, ...]:
        """Return the target files that the new roles list, exactly so.

        Raises:
            RefusedError: there is one that no submitted role lists.
        """
        listed = _listed(self._submission.roles)
        for one in self._submission.targets:
            if one.what.digest.hex not in listed.get(one.path, ()):
                raise RefusedError(
                    f"{one.path[:240]} comes with it, and no role of it lists those "
                    "bytes"
                )
        listed = _listed(new)
        return tuple(
            one
            for one in self._submission.targets
            if one.what.digest.hex in listed.get(one.path, ())
        )

    def _check_content(
        self, after: Prospect, new: Sequence[RoleFile[Targets]]
    ) -> list[NewRecord]:
        records: list[NewRecord] = []
        for one in new:
            if one.role == OPERATOR:
                self._warnings += judge_targets(self._before, one)
                acceptance_past.require_same_past(
                    self._before,
                    after,
                    one.label,
                    self._before.standing(OPERATOR),
                    one.signed,
                )
            elif kind_of(one.role) == "publisher":
                publisher = PublisherJudgement(self._before, after, one)
                publisher.run()
                self._warnings += publisher.warnings
                for role in sorted(acceptance_rules.delegated(one.signed)):
                    name = application_of(role)
                    records += reinstated(self._before, after, name)
            else:
                name = application_of(one.role)
                application = ApplicationJudgement(self._before, after, name, one)
                application.run()
                records += application.new
                self._summaries += application.summaries
                self._warnings += application.warnings
        return records

    # --- 7 ---------------------------------------------------------------------------

    def _check_all(
        self, after: Prospect, new: set[str], records: Sequence[NewRecord]
    ) -> None:
        versions: dict[ReleaseName, list[Version]] = {}
        for one in records:
            if not (one.is_withdrawn or one.is_barred):
                versions.setdefault(one.record.name, []).append(one.record.version)
        for name in self._applications(after):
            if not after.lists(name.role):
                continue  # it is signed with its first release; nothing to follow yet
            try:
                _follow(after, name, versions.get(name, ()))
            except SupplyChainError as why:
                self._left_behind(after, name, new, why)

    def _applications(self, after: Prospect) -> Iterator[ReleaseName]:
        publishers: Sequence[str] = (self._publisher,)
        if self._publisher == OPERATOR:
            publishers = tuple(acceptance_rules.delegated(after.standing("targets")))
        for publisher in publishers:
            # Of keys that did not sign what is there, nothing stands afterwards.
            said = after.standing(publisher) or self._before.standing(publisher)
            for role in sorted(acceptance_rules.delegated(said)):
                # Of another publisher, when `targets` is judged: whatever it has.
                try:
                    yield application_of(role)
                except FormatError:
                    continue

    def _left_behind(
        self,
        after: Prospect,
        name: ReleaseName,
        new: set[str],
        why: SupplyChainError,
    ) -> None:
        """Refuse what devices could no longer follow, unless it was so before.

        Raises:
            RefusedError: this submission would be what they stumble over.
        """
        if name.role in new:
            raise why
        if isinstance(why, ExpiredError) and why.role not in new:
            self._warnings.append(f"{why}: its holder must sign it again")
            return
        if isinstance(why, ThresholdError) and self._is_cut_off(after, why.role):
            self._warnings.append(
                f"{why.role} is cut off from its keys: devices refuse it until its new "
                "keys have signed"
            )
            return
        try:
            _follow(self._before, name, (), tolerant=True)
        except SupplyChainError:
            self._warnings.append(f"devices could not follow {name} before either")
            return
        raise RefusedError(
            f"devices could no longer follow {name}: {why}",
            hint=f"hand in {name.role} as well, signed by the keys that it has now",
        ) from why

    def _is_cut_off(self, after: Prospect, role: str) -> bool:
        """Say whether a delegator took a role's keys away, and says so itself."""
        said = after.standing(delegator_of(role))
        listed = after.meta.get(f"{role}.json")
        return (
            said is not None and listed is not None and is_awaited(said, role, listed)
        )


def _follow(
    prospect: Prospect,
    name: ReleaseName,
    versions: Sequence[Version],
    *,
    tolerant: bool = False,
) -> None:
    """Follow an application as a device does, and resolve some of its releases.

    Raises:
        SupplyChainError: as a device finds.
    """
    walk = prospect.tolerant if tolerant else prospect.walk
    walk.role("targets", "root")
    found = chain.follow(walk, name)
    policy = offline_role.publisher_policy(walk, found, name, LIMITS)
    candidates = resolve.listed(found.deciding.signed, name)
    # Also what no device could keep in mind: more withdrawn releases than it remembers.
    memory = prospect.state.walk.workflow.memory.with_withdrawn(
        name, resolve.withdrawn_in(candidates), found.deciding.version
    )
    if not versions:
        return
    standing = resolve.Standing(
        policy=policy,
        floor=None,
        slot="default",
        withdrawn=memory.withdrawn.get(name, {}),
    )
    for version in versions:
        chosen = resolve.select(name, Pin.exact(version), candidates, standing)
        artifact.fetch_record(walk, name, chosen, LIMITS)


def _listed(roles: Sequence[RoleFile[Targets]]) -> Mapping[str, set[str]]:
    """Return path → sha256, as roles list them."""
    found: dict[str, set[str]] = {}
    for one in roles:
        for path, file in one.signed.targets.items():
            found.setdefault(path, set()).add(file.hashes.get("sha256", ""))
    return found
