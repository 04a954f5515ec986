"""Publishing releases: one edit, tried again once if somebody came in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from securesystemslib.signer import Signer

    from margo_supplychain.authoring.release import Release
    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.names import ReleaseName, TargetPath
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
    """

    name: ReleaseName
    version: Version
    artifact: Digest
    path: TargetPath
    is_new: bool
    role: str
    role_version: int
    expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What `publish` did.

    Args:
        releases: in the order they were given.
        changed: whether anything was written.
        root, snapshot, timestamp: versions after it.
        fresh_until: when the timestamp expires.
        blobs_new, blobs_there: content that was copied, and that lay there already.
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
    warnings: tuple[str, ...]


def publish(
    repository: Repository,
    releases: Sequence[Release],
    *,
    keys: Sequence[Signer],
    clock: Clock | None = None,
    time_checked: bool = False,
    state: TrustStore | None = None,
) -> Published:
    """Publish releases in one edit.

    Args:
        keys: the application's key, and those of snapshot and timestamp.
        clock, time_checked, state: see `Repository.edit`.
    """
    raise NotImplementedError
