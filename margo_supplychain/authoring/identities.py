"""Listed releases by what policies name them by: the digest of what their records say.

Publisher policies name what survives a lost key, or a layout, by
`ReleaseRecord.release`. Lists don't hold it, so records are read, where a policy names
any.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import FetchError, VerificationError
from margo_supplychain.formats.record import ReleaseRecord

if TYPE_CHECKING:
    from collections.abc import Collection

    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.versions import Version
    from margo_supplychain.verify.resolve import Candidate


def record(work: Work, one: Candidate) -> ReleaseRecord:
    """Return the record of a listed release.

    Raises:
        FetchError, VerificationError: it can't be read, or is not what is listed.
    """
    return ReleaseRecord.parse(work.read(one.path, one.file, limit=LIMITS.record))


def named(policy: PublisherPolicy | None) -> frozenset[Digest]:
    """Return the releases that a policy names as good for a layout or a functionary."""
    if policy is None:
        return frozenset()
    return frozenset().union(
        *(one.releases for one in policy.layouts),
        *(one.survivors for one in policy.revoked_functionaries),
    )


def changed(
    work: Work, name: ReleaseName, old: PublisherPolicy | None, new: PublisherPolicy
) -> dict[Digest, Version]:
    """Return versions of what two policies name, if they don't name the same."""
    if old is not None and (old.layouts, old.revoked_functionaries) == (
        new.layouts,
        new.revoked_functionaries,
    ):
        return {}
    return versions(work, name, named(old) | named(new))


def versions(
    work: Work, name: ReleaseName, wanted: Collection[Digest]
) -> dict[Digest, Version]:
    """Return the versions of those `wanted` that are listed and can be read."""
    found: dict[Digest, Version] = {}
    for one in work.listed(name):
        if len(found) == len(wanted):
            break
        with suppress(FetchError, VerificationError):
            release = record(work, one).release
            if release in wanted:
                found[release] = one.version
    return found
