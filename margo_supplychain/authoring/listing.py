"""The list of an application's releases: adding one, and taking one back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from margo_supplychain.authoring import rules
from margo_supplychain.authoring.policies import void_marks
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import RefusedError
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
    record = release.record(work.now)
    listed = work.listed(name)
    existing = rules.listed_version(listed, release.version)
    if existing is not None:
        _require_same(work, existing, record)
        return False
    role = work.deciding(name)
    rules.check_release(release, policy, listed, role_version=work.state.version(role))
    for part in release.parts():
        what = part.descriptor
        work.staged.blobs[what.digest] = (what, _opener(release, what))
    custom = record.entry().to_custom()
    work.put(role, record.path, record.to_bytes(), custom=custom)
    work.releases.setdefault(name, set()).add(release.version)
    work.applications.add(name)
    work.warnings.extend(release.warnings)
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
    if use is not None:
        other = work.require_listed(name, use)
        if (
            other.version == one.version
            or other.entry is None
            or other.entry.withdrawn is not None
        ):
            raise RefusedError(
                f"{use} can't be used instead of {version}: it is withdrawn itself",
                hint="name a version that devices may install",
            )
    if one.entry is None:
        return False
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


def _require_same(work: Work, existing: Candidate, record: ReleaseRecord) -> None:
    if existing.version == record.version:
        data = work.read(existing.path, existing.file, limit=LIMITS.record)
        if rules.same_release(ReleaseRecord.parse(data), record):
            if existing.entry is not None and existing.entry.withdrawn is not None:
                work.warnings.append(
                    f"{record.name} {record.version} is withdrawn, and stays so"
                )
            return
    raise rules.other_bytes(record.name, existing.version, record.version)


def _opener(release: Release, what: Descriptor) -> Opener:
    def open_it() -> AbstractContextManager[BinaryIO]:
        return release.open(what)

    return open_it
