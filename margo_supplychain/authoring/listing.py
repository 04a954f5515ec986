"""The list of an application's releases: adding one, and taking one back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from margo_supplychain.authoring import rules
from margo_supplychain.authoring.policies import void_marks
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.authoring.work import NewRelease
from margo_supplychain.errors import FetchError, VerificationError
from margo_supplychain.formats.record import ReleaseRecord
from margo_supplychain.formats.release_entry import Withdrawal

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    from margo_supplychain.authoring.overlay import Opener
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.versions import Version
    from margo_supplychain.verify.resolve import Candidate


def add_release(work: Work, release: Release) -> bool:
    """List a release and take its content in; see `Edit.add_release`."""
    name = release.name
    policy = work.require_policy(name)
    release = work.place.located(release)
    record = release.record(work.now)
    listed = work.listed(name)
    existing = rules.listed_version(listed, release.version)
    if existing is not None:
        signs = _require_same(work, existing, record)
        _restore(work, release)
        return signs
    role = work.deciding(name)
    rules.check_release(release, policy, listed, role_version=work.state.version(role))
    for part in release.parts():
        what = part.descriptor
        work.staged.blobs[what.digest] = (what, _opener(release, what))
    work.new.append(NewRelease(record, release))
    custom = record.entry().to_custom()
    work.put(role, record.path, record.to_bytes(), custom=custom)
    work.releases.setdefault(name, set()).add(release.version)
    work.applications.add(name)
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


def _require_same(work: Work, existing: Candidate, record: ReleaseRecord) -> bool:
    """Refuse a release that is listed as something else.

    A record that was damaged or lost is signed anew, for nobody has its bytes: its time
    is in it. Returns whether that is so.
    """
    entry = existing.entry
    if existing.version != record.version or entry is None:
        raise rules.other_bytes(record.name, existing.version, record.version)
    what = f"{record.name} {record.version}"
    lost = False
    try:
        data = work.read(existing.path, existing.file, limit=LIMITS.record)
        same = rules.same_release(ReleaseRecord.parse(data), record)
    except (FetchError, VerificationError):
        lost = True
        same = (entry.artifact, entry.profiles) == (
            record.artifact.digest,
            record.profiles(),
        )
    if not same:
        raise rules.other_bytes(record.name, existing.version, record.version)
    if entry.withdrawn is not None:
        work.warnings.append(f"{what} is withdrawn, and stays so")
    if lost:
        role = work.deciding(record.name)
        work.put(role, record.path, record.to_bytes(), custom=entry.to_custom())
        work.applications.add(record.name)
        work.warnings.append(f"the record of {what} was damaged or lost: signed anew")
    return lost


def _restore(work: Work, release: Release) -> None:
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
