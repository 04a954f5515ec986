"""Publishing releases: one edit, tried again once if somebody came in between.

The releases bring their own digests, from the build or a reviewed `components.lock`; no
tag is read here. What was published before, exactly so, stays as it is.

Example:
    >>> done = publish(repository, [release], keys=[ci])
    >>> done.changed, done.releases[0].role_version
    (True, 7)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from margo_supplychain.errors import ConflictError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from securesystemslib.signer import Signer

    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.authoring.place import Progress
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.names import ReleaseName, TargetPath
    from margo_supplychain.formats.record import AttestationReference, ReleaseRecord
    from margo_supplychain.formats.release_entry import ReleaseEntry
    from margo_supplychain.formats.versions import Version
    from margo_supplychain.verify.clock import Clock
    from margo_supplychain.verify.trust_store import TrustStore


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRelease:
    """One release that is now listed.

    Args:
        path: target path of its record.
        is_new: False when exactly this was listed before.
        role, role_version, expires: the role that lists it.
        layout: number of the in-toto layout that it was made by, if its record has one.
        attestations: what its record names.
        summaries: how many verification summaries its entry names.
    """

    name: ReleaseName
    version: Version
    artifact: Digest
    path: TargetPath
    is_new: bool
    role: str
    role_version: int
    expires: datetime
    layout: int | None = None
    attestations: tuple[AttestationReference, ...] = ()
    summaries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What `publish` did.

    Args:
        releases: in the order they were given.
        changed: whether anything was written.
        root, snapshot, timestamp: versions after it.
        fresh_until: when the timestamp expires.
        blobs_new, blobs_there: content that was copied, and that lay there already.
        blobs_restored: content of releases that were listed before, and that was
            damaged or missing.
        warnings: what the author should know, one line each.
    """

    releases: tuple[PublishedRelease, ...]
    changed: bool
    root: int
    snapshot: int
    timestamp: int
    fresh_until: datetime
    blobs_new: int
    blobs_there: int
    blobs_restored: int
    warnings: tuple[str, ...]


class _Listed(NamedTuple):
    """One release as the edit lists it."""

    record: ReleaseRecord
    entry: ReleaseEntry


def publish(
    repository: Repository,
    releases: Sequence[Release],
    *,
    keys: Sequence[Signer],
    attestations: Sequence[bytes] = (),
    clock: Clock | None = None,
    time_checked: bool = False,
    state: TrustStore | None = None,
    progress: Progress | None = None,
) -> Published:
    """Publish releases in one edit: all of them, or none.

    Args:
        repository: where.
        releases: at least one, each of another version.
        keys: the applications' keys, and those of snapshot and timestamp.
        attestations: envelopes about the one release; see `Edit.add_release`.
        clock, time_checked, state, progress: see `Repository.edit`.

    Raises:
        RefusedError: nothing to publish, attestations of more than one release, or a
            release that can't be listed.
        ProvenanceError, AttestationError: it does not prove what its publisher
            demands.
        SupplyChainError: see `Repository.edit`; nothing was published.
    """
    if not releases:
        raise RefusedError(
            "there is nothing to publish",
            hint="name what `margo-supplychain release build` made",
        )
    require_one(releases, attestations)

    def attempt() -> Published:
        with repository.edit(
            keys,
            clock=clock,
            time_checked=time_checked,
            state=state,
            progress=progress,
        ) as edit:
            new = [edit.add_release(one, attestations=attestations) for one in releases]
            listed = [_listed(edit, one) for one in releases]
        return _result(edit, listed, new)

    try:
        return attempt()
    except ConflictError:
        # A registry has no lock, and neither has a second machine: start from theirs.
        return attempt()


def require_one(releases: Sequence[Release], attestations: Sequence[bytes]) -> None:
    """Refuse attestations of several releases: a link does not say whose it is.

    Raises:
        RefusedError: they are.
    """
    if attestations and len(releases) != 1:
        raise RefusedError(
            f"attestations of {len(releases)} releases can't be told apart",
            hint="publish one release with its attestations, then the next",
        )


def _listed(edit: Edit, one: Release) -> _Listed:
    record = edit.record(one.name, one.version)
    return _Listed(record, edit.releases(one.name)[one.version])


def _result(edit: Edit, releases: Sequence[_Listed], new: Sequence[bool]) -> Published:
    found = []
    for (one, entry), is_new in zip(releases, new, strict=True):
        role = edit.deciding_role(one.name)
        version, expires = edit.standing(role)
        found.append(
            PublishedRelease(
                name=one.name,
                version=one.version,
                artifact=one.artifact.digest,
                path=one.path,
                is_new=is_new,
                role=role,
                role_version=version,
                expires=expires,
                layout=one.layout,
                attestations=one.attestations,
                summaries=len(entry.summaries),
            )
        )
    timestamp, fresh_until = edit.standing("timestamp")
    written = edit.written
    restored = written.blobs_restored if written else 0
    return Published(
        releases=tuple(found),
        changed=any(new) or restored > 0,
        root=edit.standing("root")[0],
        snapshot=edit.standing("snapshot")[0],
        timestamp=timestamp,
        fresh_until=fresh_until,
        blobs_new=written.blobs_new if written else 0,
        blobs_there=written.blobs_there if written else 0,
        blobs_restored=restored,
        warnings=edit.warnings,
    )
