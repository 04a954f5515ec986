"""The list of an application's releases: adding one, and taking one back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from margo_supplychain.authoring import rules, summaries
from margo_supplychain.authoring.attestations import describe, sort_out
from margo_supplychain.authoring.policies import void_marks
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.authoring.work import Attested, NewRelease
from margo_supplychain.errors import FetchError, RefusedError, VerificationError
from margo_supplychain.formats.record import ReleaseRecord
from margo_supplychain.formats.release_entry import Withdrawal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    from margo_supplychain.authoring.attestations import Attestation, Given
    from margo_supplychain.authoring.overlay import Opener
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.record import AttestationReference
    from margo_supplychain.formats.versions import Version
    from margo_supplychain.verify.resolve import Candidate


def add_release(
    work: Work, release: Release, attestations: Sequence[bytes] = ()
) -> bool:
    """List a release and take its content in; see `Edit.add_release`."""
    name = release.name
    policy = work.require_policy(name)
    release = work.place.located(release)
    given = _sorted(work, release, attestations)
    listed = work.listed(name)
    existing = rules.listed_version(listed, release.version)
    if existing is not None:
        signs = _list_again(work, existing, release, given)
        if not given.summaries:
            return signs
        record = record_of(work, name, release.version)
        added = summaries.add(work, release, given.summaries, record)
        return added or signs
    summaries.require_none(given.summaries, release)
    role = work.deciding(name)
    rules.check_release(release, policy, listed, role_version=work.state.version(role))
    record = release.record(
        work.now,
        layout=rules.layout_of(
            release.record(work.now), policy, has_links=given.has_links
        ),
        attestations=given.references,
    )
    work.warnings.extend(rules.never_proven(record, policy))
    for part in release.parts():
        what = part.descriptor
        work.staged.blobs[what.digest] = (what, _opener(release, what))
    work.new.append(NewRelease(record, release))
    custom = record.entry().to_custom()
    work.put(role, record.path, record.to_bytes(), custom=custom)
    work.releases.setdefault(name, set()).add(release.version)
    work.proving.setdefault(name, set()).add(release.version)
    work.applications.add(name)
    _stage(work, release, given.pinned)
    work.warnings.extend(release.warnings)
    if release.elsewhere and not release.locations:
        work.warnings.append(
            f"{name} {release.version} names {len(release.elsewhere)} components that "
            "are not here, and no --location: devices fetch them only from a mirror"
        )
    if len(listed) >= rules.MANY_RELEASES:
        work.warnings.append(
            f"{role} lists {len(listed) + 1} releases, and devices read all of them "
            f"whenever it changes; above {rules.MANY_RELEASES} that gets slow"
        )
    return True


def withdraw(
    work: Work,
    name: ReleaseName,
    version: Version,
    *,
    reason: str,
    use: Version | None,
) -> bool:
    """Take a release back; see `Edit.withdraw`."""
    one = work.require_listed(name, version)
    if one.entry is None:
        return False
    if use is not None:
        other = work.require_listed(name, use)
        rules.check_use(one, other, work.require_policy(name))
    _warn_of_siblings(work, name, one)
    known = one.entry.withdrawn
    if known is not None and one.path in void_marks(
        work, name, work.require_policy(name)
    ):
        known = None  # reinstated: this is a new withdrawal
    if known is not None and (known.reason, known.use) == (reason, use):
        return False
    since = work.now if known is None else known.since
    mark = Withdrawal(reason=reason, since=since, use=use)
    work.put_entry(work.deciding(name), one.path, replace(one.entry, withdrawn=mark))
    work.withdrawn.add(one.path)
    work.applications.add(name)
    return True


def record_of(work: Work, name: ReleaseName, version: Version) -> ReleaseRecord:
    """Return the record of a listed release; see `Edit.record`."""
    one = work.require_listed(name, version)
    return ReleaseRecord.parse(work.read(one.path, one.file, limit=LIMITS.record))


def _sorted(work: Work, release: Release, attestations: Sequence[bytes]) -> Given:
    if attestations and work.is_simple:
        raise RefusedError(
            "a repository of the profile simple takes no attestations: one role says "
            "what is required and what was done",
            hint="publish without them, or make a repository of the profile small",
        )
    return sort_out(attestations, artifact=release.artifact.digest)


def _stage(work: Work, release: Release, envelopes: Sequence[Attestation]) -> None:
    """Take in the envelopes that a release names."""
    for one in envelopes:
        work.staged.attestations[one.what.digest] = (one.what, one.data)
    if envelopes:
        work.attested.append(Attested(release, tuple(envelopes)))


def _kinds(found: Sequence[AttestationReference]) -> list[tuple[str, str]]:
    return sorted((one.type, one.step or "") for one in found)


def _list_again(
    work: Work, existing: Candidate, release: Release, given: Given
) -> bool:
    """Refuse a release that is listed as something else; restore what it lost.

    A record that was damaged or lost is signed anew, for nobody has its bytes: its time
    is in it. Returns whether that is so.
    """
    name, entry = release.name, existing.entry
    if existing.version != release.version or entry is None:
        raise rules.other_bytes(name, existing.version, release.version)
    what = f"{name} {release.version}"
    known = _known(work, existing)
    if known is None:
        record = _record_anew(work, release, given)
        same = (entry.artifact, entry.profiles) == (
            record.artifact.digest,
            record.profiles(),
        )
    else:
        record = release.record(
            work.now, layout=known.layout, attestations=known.attestations
        )
        same = rules.same_release(known, record)
    if not same:
        raise rules.other_bytes(name, existing.version, release.version)
    if known is not None and given.pinned and given.references != known.attestations:
        if _kinds(given.references) != _kinds(known.attestations):
            has = describe(known.attestations) or "none"
            raise RefusedError(
                f"{what} exists with other attestations: its record has {has}",
                hint="a record never changes: raise the version; a verification "
                "summary can be added by itself",
            )
        # A pipeline that runs again signs again, with another commit around the same
        # bytes: what the record has of the same steps and types stands.
        work.warnings.append(
            f"{what} keeps the attestations that its record has: a record never changes"
        )
        given = given._replace(
            pinned=tuple(
                one for one in given.pinned if one.reference in known.attestations
            )
        )
    if entry.withdrawn is not None:
        work.warnings.append(f"{what} is withdrawn, and stays so")
    if known is None:
        role = work.deciding(name)
        # Summaries name the record that is gone.
        custom = replace(entry, summaries=()).to_custom()
        work.put(role, record.path, record.to_bytes(), custom=custom)
        work.applications.add(name)
        work.warnings.append(f"the record of {what} was damaged or lost: signed anew")
        if entry.summaries:
            work.warnings.append(
                f"{what} names no verification summary any more: those that it had "
                f"({len(entry.summaries)}) were about the record that is gone; verify "
                "it again (device verify --vsa FILE), sign that, and publish it with "
                "the summary"
            )
        if entry.withdrawn is None:
            work.proving.setdefault(name, set()).add(release.version)
        _stage(work, release, given.pinned)
    _restore(work, release, given)
    return known is None


def _known(work: Work, existing: Candidate) -> ReleaseRecord | None:
    """Return the record of a listed release; None if it was damaged or lost.

    Raises:
        FetchError: nobody knows, for its place gave no answer.
    """
    try:
        data = work.read(existing.path, existing.file, limit=LIMITS.record)
        return ReleaseRecord.parse(data)
    except (FetchError, VerificationError) as why:
        if isinstance(why, FetchError) and not why.missing:
            raise
        return None


def _record_anew(work: Work, release: Release, given: Given) -> ReleaseRecord:
    """Return the record of a release that lost it, with what is given now.

    Raises:
        RefusedError: devices may demand attestations, and those that it named are
            unknown.
    """
    policy = work.require_policy(release.name)
    if _lacks(work, given, policy, release):
        raise RefusedError(
            f"the record of {release.name} {release.version} was damaged or lost, and "
            "with it which attestations it named",
            hint="give them again: --attestation FILE; or bring the record back: "
            "margo-supplychain repo check --repair",
        )
    return release.record(
        work.now,
        layout=rules.layout_of(
            release.record(work.now), policy, has_links=given.has_links
        ),
        attestations=given.references,
    )


def _lacks(work: Work, given: Given, policy: PublisherPolicy, release: Release) -> bool:
    """Say whether what the lost record may have named is not given again.

    Where a layout serves the release, its links may have proven it: some device's owner
    demands that, whether the publisher does or not.
    """
    if policy.attestations and not given.pinned:
        return True
    layout = policy.layout_for(release.version, release.record(work.now).release)
    return not given.has_links and (
        policy.provenance == "required" or layout is not None
    )


def _restore(work: Work, release: Release, given: Given) -> None:
    """Take in what a listed release has lost, of content and attestations."""
    lost = [
        what
        for what in work.place.lost(release)
        if what.digest not in work.staged.blobs
    ]
    for what in lost:
        work.staged.blobs[what.digest] = (what, _opener(release, what))
        work.restored.add(what.digest)
    if lost:
        work.kept.append(release)
    summaries.restore(work, given.pinned)


def _warn_of_siblings(work: Work, name: ReleaseName, one: Candidate) -> None:
    """Say which other versions have the same bytes: a withdrawal bars bytes."""
    same = [
        str(other.version)
        for other in work.listed(name)
        if other.artifact == one.artifact and other.version != one.version
    ]
    if same:
        work.warnings.append(
            f"{', '.join(same[:5])[:200]} of {name} has the same package as "
            f"{one.version}: devices refuse it as well"
        )


def _opener(release: Release, what: Descriptor) -> Opener:
    def open_it() -> AbstractContextManager[BinaryIO]:
        return release.open(what)

    return open_it
