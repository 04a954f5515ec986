"""One edit of a repository: changes collected in memory, all or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from securesystemslib.signer import Key

    from margo_supplychain.authoring.release import Release
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.release_entry import ReleaseEntry
    from margo_supplychain.formats.versions import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What an edit wrote.

    Args:
        roles: role → (version, expires), of the roles that were signed; empty when
            nothing changed.
        blobs_new, blobs_there: content that was copied, and that lay there already.
    """

    roles: Mapping[str, tuple[int, datetime]] = field(default_factory=dict)
    blobs_new: int = 0
    blobs_there: int = 0


@final
class Edit:
    """Changes to one repository; made by `Repository.edit`, signed when it ends."""

    warnings: list[str]
    """What the author should know, one line each."""

    written: Written | None
    """Set when the edit ended and all of it is on disk."""

    def add_publisher(self, name: str, keys: Sequence[Key], *, threshold: int) -> bool:
        """Delegate to a publisher; its own keys must sign too.

        Each method returns whether it changed anything; the same again does not.
        """
        raise NotImplementedError

    def add_application(
        self,
        name: ReleaseName,
        keys: Sequence[Key],
        *,
        threshold: int = 1,
        policy: PublisherPolicy,
    ) -> bool:
        """Delegate to an application's role and sign its publisher policy."""
        raise NotImplementedError

    def rotate_keys(self, role: str, keys: Sequence[Key], *, threshold: int) -> bool:
        """Give a publisher's or application's role new keys."""
        raise NotImplementedError

    def set_policy(self, name: ReleaseName, policy: PublisherPolicy) -> bool:
        """Replace an application's publisher policy."""
        raise NotImplementedError

    def add_release(
        self, release: Release, *, attestations: Sequence[bytes] = ()
    ) -> bool:
        """List a release."""
        raise NotImplementedError

    def withdraw(
        self,
        name: ReleaseName,
        version: Version,
        *,
        reason: str,
        use: Version | None = None,
    ) -> bool:
        """Take a release back (online)."""
        raise NotImplementedError

    def reinstate(self, name: ReleaseName, version: Version) -> bool:
        """Make a release's withdrawals void (offline: by the publisher policy)."""
        raise NotImplementedError

    def refresh(self, role: str | None = None) -> bool:
        """Sign a role again with a new expiry; snapshot and timestamp without one."""
        raise NotImplementedError

    def policy(self, name: ReleaseName) -> PublisherPolicy | None:
        """Return an application's policy as it stands in this edit."""
        raise NotImplementedError

    def releases(self, name: ReleaseName) -> Mapping[Version, ReleaseEntry]:
        """Return an application's releases as they stand in this edit."""
        raise NotImplementedError
