"""What an operator takes of an application's role: its list of releases.

1  releases of this application, by grammatical versions, and nothing else; it
delegates to nobody
2  none leaves, unless the publisher's policy has a higher epoch than before
3  none changes; a mark `withdrawn` vanishes only where the policy reinstates
4  what is new has its record, agrees with it, and is nothing that devices refuse
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, final

from margo_supplychain.authoring import acceptance_rules, rules
from margo_supplychain.authoring.acceptance_epochs import epoch_of_list
from margo_supplychain.authoring.acceptance_provenance import require_known_layout
from margo_supplychain.authoring.attested import envelope_at, named_envelopes
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    FetchError,
    FormatError,
    RefusedError,
    VerificationError,
)
from margo_supplychain.formats.publisher_policy import FORMAT, PublisherPolicy
from margo_supplychain.formats.record import ReleaseRecord
from margo_supplychain.formats.versions import Version
from margo_supplychain.verify import artifact, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tuf.api.metadata import TargetFile, Targets

    from margo_supplychain.authoring.prospect import Prospect
    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.verify.resolve import Candidate


class NewRecord(NamedTuple):
    """A release that was not listed before, or is no longer withdrawn.

    Args:
        record: of it.
        is_withdrawn: it came with its mark; no device takes it.
        is_barred: its mark is gone, and the policy bars it all the same, for now.
        proves: it must prove what its publisher demands: nobody has looked at it yet,
            or devices take it from now on.
        envelopes: attestations that it names.
    """

    record: ReleaseRecord
    is_withdrawn: bool = False
    is_barred: bool = False
    proves: bool = False
    envelopes: tuple[Descriptor, ...] = ()


@final
class ApplicationJudgement:
    """One new file of an application's role, over the repository before and with it.

    Args:
        before: how the repository stands.
        after: how it would stand with all that was submitted.
        name: the application.
        file: its role's file, signed by its keys.

    Attributes:
        new: releases that were not listed before, or are no longer withdrawn.
        summaries: verification summaries that others name from now on.
        warnings: what its author and the operator should know.
    """

    def __init__(
        self,
        before: Prospect,
        after: Prospect,
        name: ReleaseName,
        file: RoleFile[Targets],
    ) -> None:
        self._before = before
        self._after = after
        self._name = name
        self._label = file.label
        self._signed = file.signed
        self._role_version = before.version(name.role)
        self.warnings: list[str] = []
        old = before.standing(name.role)
        if old is None and before.lists(name.role):
            self.warnings.append(
                f"nothing stands of what {name.role} listed before: {file.label} was "
                "compared with nothing"
            )
        self._old = (
            {} if old is None else {one.path: one for one in resolve.listed(old, name)}
        )
        # Withdrawn by the list that stands, and usable all the same.
        self._void = _void(_readable_policy(before, name), self._role_version)
        self.new: list[NewRecord] = []
        self.summaries: list[Descriptor] = []

    def run(self) -> None:
        """Judge it.

        Raises:
            RefusedError: a rule is broken.
            VerificationError, FormatError: a record is not what is signed, or none.
            FetchError: a file can't be read.
        """
        self._check_shape()
        listed = self._candidates()
        policy = self._policy(self._after)
        self._check_none_left({one.path for one in listed}, policy)
        same: dict[Digest, list[Candidate]] = {}
        for one in listed:
            if one.artifact is not None:
                same.setdefault(one.artifact, []).append(one)
        for one in listed:
            known = self._old.get(one.path)
            others = () if one.artifact is None else same[one.artifact]
            others = [other for other in others if other is not one]
            if known is None:
                self._check_new(one, policy, others)
            elif self._check_unchanged(known, one, policy):
                is_usable = known.artifact in self._void
                self._check_reinstated(one, policy, others, is_usable=is_usable)
            self._check_mark(known, one, listed, policy)
        if len(listed) > rules.MANY_RELEASES:
            self.warnings.append(
                f"{self._label} lists {len(listed)} releases, and devices read all of "
                f"them whenever it changes; above {rules.MANY_RELEASES} that gets slow"
            )

    # --- 1 ---------------------------------------------------------------------------

    def _check_shape(self) -> None:
        acceptance_rules.require_known_fields(
            self._label, self._signed.unrecognized_fields
        )
        if self._signed.delegations is not None and (
            self._signed.delegations.roles or self._signed.delegations.succinct_roles
        ):
            raise RefusedError(
                f"{self._label} delegates further: an application's role is the end"
            )

    def _candidates(self) -> tuple[Candidate, ...]:
        for path, file in self._signed.targets.items():
            what = f"{path[:240]} of {self._label}"
            self._require_release(path)
            acceptance_rules.require_one_file(what, file, limit=LIMITS.record)
        listed = resolve.listed(self._signed, self._name)
        for one in listed:
            if one.entry is None:
                raise RefusedError(
                    f"the entry of {self._name} {one.version} in {self._label} is "
                    "malformed"
                )
        for newer, older in pairwise(listed):
            if newer.version.same_precedence(older.version):
                raise RefusedError(
                    f"{self._label} lists {newer.version} and {older.version}, which "
                    "have one precedence: devices refuse both"
                )
        return listed

    def _require_release(self, path: str) -> None:
        prefix = self._name.releases
        if not path.startswith(prefix):
            raise RefusedError(
                f"{self._label} lists {path[:240]!r}, which is no release of "
                f"{self._name}"
            )
        try:
            version = Version.parse_tag(path[len(prefix) :])
        except FormatError as why:
            raise RefusedError(f"{self._label} lists {path[:240]!r}: {why}") from why
        if path != self._name.release_path(version.tag):
            raise RefusedError(
                f"{self._label} lists {path[:240]!r}, which is not how {version} is "
                "written"
            )

    # --- 2 ---------------------------------------------------------------------------

    def _policy(self, prospect: Prospect) -> PublisherPolicy:
        found = _policy_in(prospect, self._name)
        if found is None:
            raise RefusedError(
                f"{self._name} has no publisher policy: devices deny what has none",
                hint=f"sign one first: margo-supplychain app add {self._name}",
            )
        return found

    def _check_none_left(self, listed: set[str], policy: PublisherPolicy) -> None:
        gone = [one for path, one in self._old.items() if path not in listed]
        if not gone:
            return
        before = _policy_in(self._before, self._name)
        if before is None or not self._is_above(policy.epoch, before.epoch):
            raise RefusedError(
                f"{self._label} drops {self._name} {gone[0].version}"
                + (f" and {len(gone) - 1} more" if len(gone) > 1 else "")
                + ": releases leave only with a higher epoch",
                hint="a release is taken back by `margo-supplychain release "
                "withdraw`; a new epoch needs the publisher's offline key, in the "
                "same submission",
            )
        self.warnings.append(
            f"{len(gone)} releases of {self._name} leave the list with epoch "
            f"{policy.epoch}"
        )

    def _is_above(self, epoch: int, before: int) -> bool:
        """Say whether an epoch is higher than that of the list that stands."""
        if epoch <= before:
            known = epoch_of_list(self._before, self._name)
            before = before if known is None else known
        return epoch > before

    # --- 3 ---------------------------------------------------------------------------

    def _check_unchanged(
        self, known: Candidate, one: Candidate, policy: PublisherPolicy
    ) -> bool:
        """Refuse a change of a release; say whether its mark is gone."""
        if not acceptance_rules.is_same_file(known.file, one.file):
            self._check_record(known, one, policy)
        old, new = known.entry, one.entry
        if old is None or new is None:
            return False
        if (old.artifact, old.profiles) != (new.artifact, new.profiles):
            raise rules.other_bytes(self._name, known.version, one.version)
        if new.withdrawn is None:
            self.summaries += [
                envelope_at(*pin) for pin in new.summaries if pin not in old.summaries
            ]
        if old.withdrawn is None or new.withdrawn is not None:
            return False
        if not rules.is_reinstated(policy, old.artifact, self._role_version):
            raise RefusedError(
                f"{self._label} drops the mark `withdrawn` of {self._name} "
                f"{one.version}, and the policy does not reinstate it",
                hint="the publisher's offline key reinstates: margo-supplychain app "
                f"policy {self._name} --reinstate {one.version}",
            )
        return True

    def _check_reinstated(
        self,
        one: Candidate,
        policy: PublisherPolicy,
        same: list[Candidate],
        *,
        is_usable: bool,
    ) -> None:
        """Judge what devices may install again as if it were new.

        It may have come with its mark, when nobody looked at its content, nor at how it
        was made. What was usable before was proven when its policy came: later demands
        bar it on devices, and no list has to withdraw it again.
        """
        record = artifact.fetch_record(self._after.walk, self._name, one, LIMITS)
        self.new.append(
            _again(
                record,
                one,
                policy,
                same,
                role_version=self._role_version,
                is_usable=is_usable,
            )
        )

    def _check_record(
        self, known: Candidate, one: Candidate, policy: PublisherPolicy
    ) -> None:
        """Take a record that was signed anew for one that says the same."""
        new = artifact.fetch_record(self._after.walk, self._name, one, LIMITS)
        try:
            data = self._before.tolerant.target(
                known.path, known.file, limit=LIMITS.record
            )
            is_same = rules.same_release(ReleaseRecord.parse(data), new)
        except (FetchError, VerificationError, FormatError) as why:
            if isinstance(why, FetchError) and not why.missing:
                raise  # perhaps it is there, and says something else
            # It was damaged or lost; the entries are compared all the same. What it
            # said of its provenance nobody knows, so it is proven as if it were new.
            if one.entry is not None and one.entry.withdrawn is None:
                require_known_layout(new, policy)
                envelopes = named_envelopes(new, one.entry)
                self.new.append(NewRecord(new, proves=True, envelopes=envelopes))
            return
        if not is_same:
            raise rules.other_bytes(self._name, known.version, one.version)

    def _check_mark(
        self,
        known: Candidate | None,
        one: Candidate,
        listed: tuple[Candidate, ...],
        policy: PublisherPolicy,
    ) -> None:
        mark = None if one.entry is None else one.entry.withdrawn
        if mark is None:
            return
        before = None
        if known is not None and known.entry is not None:
            before = known.entry.withdrawn
        if before is None:
            self.warnings.append(
                f"{self._name} {one.version} is withdrawn: {mark.reason}"
            )
        if mark.use is None or (before is not None and before.use == mark.use):
            return
        other = next((each for each in listed if each.version == mark.use), None)
        if other is None:
            raise RefusedError(
                f"{self._label} withdraws {one.version} in favour of {mark.use}, which "
                "it does not list"
            )
        rules.check_use(one, other, policy)

    # --- 4 ---------------------------------------------------------------------------

    def _check_new(
        self, one: Candidate, policy: PublisherPolicy, same: list[Candidate]
    ) -> None:
        record = artifact.fetch_record(self._after.walk, self._name, one, LIMITS)
        is_withdrawn = one.entry is not None and one.entry.withdrawn is not None
        if not is_withdrawn:
            rules.check_release(record, policy, same, role_version=self._role_version)
            require_known_layout(record, policy)
        self.new.append(
            NewRecord(
                record,
                is_withdrawn=is_withdrawn,
                proves=not is_withdrawn,
                envelopes=named_envelopes(record, one.entry),
            )
        )


def reinstated(
    before: Prospect, after: Prospect, name: ReleaseName
) -> Iterator[NewRecord]:
    """Yield what devices may install again by the publisher's word alone.

    A policy that makes a mark void needs no signature of the application's; and what
    came with its mark came without its content.

    Args:
        before: how the repository stands.
        after: how it would stand with all that was submitted.
        name: the application.

    Raises:
        RefusedError: devices would refuse it.
        VerificationError, FormatError: a file is not what is signed, or none.
        FetchError: a file can't be read.
    """
    old, new = _policy_file(before, name), _policy_file(after, name)
    if new is None or (old is not None and acceptance_rules.is_same_file(old, new)):
        return
    said = after.standing(name.role)
    policy = _policy_in(after, name)
    if said is None or policy is None or not policy.reinstated:
        return
    known = _void(_readable_policy(before, name), before.version(name.role))
    void = _void(policy, after.version(name.role))
    listed = resolve.listed(said, name)
    for one in listed:
        entry = one.entry
        if entry is None or entry.withdrawn is None:
            continue
        if entry.artifact not in void - known:
            continue
        record = artifact.fetch_record(after.walk, name, one, LIMITS)
        same = [
            other
            for other in listed
            if other is not one and other.artifact == entry.artifact
        ]
        yield _again(record, one, policy, same, role_version=after.version(name.role))


def _again(
    record: ReleaseRecord,
    one: Candidate,
    policy: PublisherPolicy,
    same: list[Candidate],
    *,
    role_version: int,
    is_usable: bool = False,
) -> NewRecord:
    """Return what devices may install again, if they would.

    Args:
        record: the release's.
        one: as it is listed.
        policy: of its publisher.
        same: others with its artifact.
        role_version: of the role that lists it.
        is_usable: devices take it already, though it is marked.
    """
    is_barred = rules.is_barred(policy, one.version)
    proves = not (is_barred or is_usable)
    if not is_barred:
        rules.check_release(record, policy, same, role_version=role_version)
    if proves:
        require_known_layout(record, policy)
    return NewRecord(
        record,
        is_barred=is_barred,
        proves=proves,
        envelopes=named_envelopes(record, one.entry),
    )


def _void(policy: PublisherPolicy | None, role_version: int) -> frozenset[Digest]:
    """Return the artifacts whose marks by a role up to this version are void."""
    return frozenset(
        one.artifact
        for one in (() if policy is None else policy.reinstated)
        if role_version <= one.up_to
    )


def _readable_policy(prospect: Prospect, name: ReleaseName) -> PublisherPolicy | None:
    try:
        return _policy_in(prospect, name)
    except (FetchError, VerificationError, FormatError):
        return None  # nobody knows what it reinstated: all of it is looked at


def _policy_file(prospect: Prospect, name: ReleaseName) -> TargetFile | None:
    said = prospect.standing(name.publisher)
    return None if said is None else said.targets.get(name.policy_path(FORMAT))


def _policy_in(prospect: Prospect, name: ReleaseName) -> PublisherPolicy | None:
    path = name.policy_path(FORMAT)
    file = _policy_file(prospect, name)
    if file is None:
        return None
    data = prospect.tolerant.target(path, file, limit=LIMITS.policy)
    return PublisherPolicy.parse(data)
