"""One edit of a repository: changes collected in memory, all or nothing.

An `Edit` is made by `Repository.edit` and signed when its `with` block ends well; until
then nothing is written, and when the block raises, nothing ever is. Each method says
whether it changed anything: asking for what is so already does not.

Example:
    >>> with repository.edit(keys) as edit:
    ...     edit.add_release(release)
    True
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, final

from margo_supplychain.authoring import (
    delegating,
    identities,
    listing,
    policies,
    policy_layouts,
)
from margo_supplychain.authoring.delegator_fields import removed_roles
from margo_supplychain.authoring.plan import RoleKeys
from margo_supplychain.authoring.roles import (
    application_of,
    check_role,
    kind_of,
)
from margo_supplychain.errors import RefusedError, VerificationError
from margo_supplychain.formats.names import publisher_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from securesystemslib.signer import Key

    from margo_supplychain.authoring.accepted import Accepted
    from margo_supplychain.authoring.allowances import Allowances
    from margo_supplychain.authoring.holders import Holder
    from margo_supplychain.authoring.inbox import Inbox
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.authoring.work import Work
    from margo_supplychain.authoring.written import Written
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.pins import Pin
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.formats.release_entry import ReleaseEntry
    from margo_supplychain.formats.versions import Version
    from margo_supplychain.transport.protocols import ContentSources

NO_HOLDERS: Final[Mapping[str, Holder]] = MappingProxyType({})


@final
class Edit:
    """Changes to one repository; made by `Repository.edit`.

    `written` is set when the edit has ended and all of it is on disk.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self.written: Written | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the author should know, one line each."""
        return tuple(self._work.warnings)

    @property
    def is_simple(self) -> bool:
        """Whether `targets` decides everything itself (the profile simple)."""
        return self._work.is_simple

    def deciding_role(self, name: ReleaseName) -> str:
        """Return the role that lists an application's releases."""
        return self._work.deciding(name)

    def require_publisher(self, name: ReleaseName) -> None:
        """Refuse the application of a publisher that is none here.

        Raises:
            RefusedError: it is not.
        """
        self._work.require_publisher(name)

    def require_publishers(self) -> None:
        """Refuse the profile simple, which has none.

        Raises:
            RefusedError: it is.
        """
        delegating.require_publishers(self._work)

    def keyids(self, role: str) -> tuple[str, ...]:
        """Return the key ids of a role as they stand in this edit.

        Empty if nobody delegates to it, or if its delegator can't be read.
        """
        try:
            who = self._work.changes.who(role)
        except VerificationError:
            return ()
        return () if who is None else tuple(who.keys)

    def signers(self, role: str) -> RoleSigners | None:
        """Return who signs a role as it stands in this edit.

        None if nobody delegates to it, or if its delegator can't be read.
        """
        try:
            return self._work.changes.who(role)
        except VerificationError:
            return None

    def below(self, publisher: str) -> tuple[str, ...]:
        """Return the applications of a publisher, as roles; empty if unreadable."""
        return delegating.below(self._work, publisher)

    @property
    def removed_publishers(self) -> tuple[str, ...]:
        """The publishers that were here once, and are no more."""
        removed = removed_roles(self._work.changes.view("targets"))
        return tuple(sorted(one for one in removed if "." not in one))

    def is_refused(self, role: str) -> bool:
        """Say whether devices refuse a role until its new keys have signed."""
        return self._work.changes.is_refused(role)

    def standing(self, role: str) -> tuple[int, datetime]:
        """Return a role's version and expiry: as written, once the edit has ended."""
        if self.written is not None and role in self.written.roles:
            return self.written.roles[role]
        found = self._work.state.trusted(role)
        return found.version, found.file.expires

    # --- who may sign ----------------------------------------------------------------

    def add_publisher(
        self,
        name: str,
        keys: Sequence[Key],
        *,
        threshold: int,
        holders: Mapping[str, Holder] = NO_HOLDERS,
    ) -> bool:
        """Delegate to a publisher; public keys are enough.

        Its role is signed at once when its keys are at hand, else with its first
        submission; until then devices know no such publisher.

        Args:
            name: the publisher.
            keys: who signs for it.
            threshold: how many of them must.
            holders: key id → who holds the key, to be signed by `targets`.

        Raises:
            RefusedError: in the profile simple; it exists with other keys; a key had
                left the role before.
            KeyFormatError: no key, a key twice, or an impossible threshold.
        """
        wanted = RoleKeys(keys=tuple(keys), threshold=threshold)
        return delegating.add_publisher(self._work, name, wanted, holders)

    def add_application(
        self,
        name: ReleaseName,
        keys: Sequence[Key] = (),
        *,
        threshold: int = 1,
        policy: PublisherPolicy,
        holders: Mapping[str, Holder] = NO_HOLDERS,
    ) -> bool:
        """Delegate to an application's role and sign its publisher policy.

        Both are signed by the publisher's offline key. The application's role itself
        is signed with its first release, or at once when its keys are at hand.

        Args:
            name: the application.
            keys: who releases it; none in the profile simple.
            threshold: how many of them must sign.
            policy: what is demanded of its releases.
            holders: key id → who holds the key, to be signed by the publisher.

        Raises:
            RefusedError: unknown publisher; it exists with other keys; a key had left
                the role before; see `set_policy`.
            KeyFormatError: no key, a key twice, or an impossible threshold.
        """
        self._work.require_publisher(name)
        changed = False
        if not self._work.is_simple:
            wanted = RoleKeys(keys=tuple(keys), threshold=threshold)
            changed = delegating.add_application(
                self._work, name, wanted, policy, holders
            )
        elif keys:
            raise RefusedError(
                "an application in a repository of the profile simple has no keys of "
                "its own: targets signs its releases",
                hint="leave the release key out",
            )
        return self.set_policy(name, policy) or changed

    def rotate_keys(
        self,
        role: str,
        keys: Sequence[Key],
        *,
        threshold: int,
        holders: Mapping[str, Holder] = NO_HOLDERS,
    ) -> bool:
        """Give a publisher's or application's role new keys, by its delegator.

        What the role lists is signed again by the new keys at hand. It stays as it is
        where enough of the new keys had signed it already: so a key that is lost is
        replaced in two steps, without a moment in which devices refuse the role.

        Args:
            role: `<publisher>` or `<publisher>.<name>`.
            keys: those that it shall have from now on, old ones among them.
            threshold: how many of them must sign.
            holders: key id → who holds the key, to be signed by the delegator.

        Raises:
            RefusedError: no such role; a key had left it before; the new keys are not
                at hand: see `cut_off_keys`.
            KeyFormatError: no key, a key twice, or an impossible threshold.
        """
        wanted = RoleKeys(keys=tuple(keys), threshold=threshold)
        return delegating.rotate_keys(self._work, role, wanted, holders)

    def cut_off_keys(
        self,
        role: str,
        keys: Sequence[Key],
        *,
        threshold: int,
        holders: Mapping[str, Holder] = NO_HOLDERS,
    ) -> bool:
        """Take a stolen key away at once, although the new keys have not signed.

        Devices refuse the role until they have; their holder goes on from the last
        file that the old keys signed. With the new keys at hand it is a rotation.

        Args:
            role, keys, threshold, holders: as `rotate_keys`.

        Raises:
            RefusedError: no such role; a key had left it before.
            KeyFormatError: as `rotate_keys`.
        """
        wanted = RoleKeys(keys=tuple(keys), threshold=threshold)
        return delegating.cut_off_keys(self._work, role, wanted, holders)

    def remove_publisher(self, name: str) -> bool:
        """End the delegation to a publisher (by the key of `targets`).

        Devices refuse all its applications; what they run keeps running. Its roles stay
        in the snapshot, and the keys that it and its applications had never return,
        also when a publisher of that name is added again.

        Raises:
            RefusedError: in the profile simple; there is no such publisher.
        """
        delegating.require_publishers(self._work)
        return delegating.remove(self._work, publisher_name(name))

    def remove_application(self, name: ReleaseName) -> bool:
        """End the delegation to an application (by its publisher's key).

        As `remove_publisher`. Its policy stays listed, so that its epoch can't fall
        when an application of that name is added again.

        Raises:
            RefusedError: in the profile simple; there is no such application.
        """
        delegating.require_publishers(self._work)
        return delegating.remove(self._work, name.role)

    # --- what is demanded ------------------------------------------------------------

    def policy(self, name: ReleaseName) -> PublisherPolicy | None:
        """Return an application's policy as it stands in this edit."""
        return self._work.policy(name)

    def set_policy(self, name: ReleaseName, policy: PublisherPolicy) -> bool:
        """Replace an application's publisher policy (by the offline key).

        An artifact that it reinstates loses its mark in the list as well, as soon as
        the list is signed by the application's key.

        Raises:
            RefusedError: unknown application; the epoch falls, or rises without a
                higher minimum; an artifact that no release has.
        """
        return policies.set_policy(self._work, name, policy)

    def reinstate(self, name: ReleaseName, version: Version) -> bool:
        """Make the withdrawals of a release void (by the offline key).

        Raises:
            RefusedError: no such release, or it is not withdrawn.
        """
        return policies.reinstate(self._work, name, version)

    def add_layout(
        self,
        name: ReleaseName,
        envelope: bytes,
        *,
        serves: Pin,
        expires: datetime | None = None,
    ) -> int:
        """List an in-toto layout (by the offline key); return its number.

        From now on releases of those versions are made by it. Current layouts that
        serve one of these versions are superseded: they stay good for exactly the
        listed releases that were made by them, and go where there are none. The same
        layout for the same versions changes nothing but its expiry.

        Args:
            name: the application.
            envelope: the signed layout.
            serves: a range of versions.
            expires: in place of the layout's own, whose bytes never change.

        Raises:
            RefusedError: the profile simple, unknown application; it proves nothing,
                has expired, or nobody has signed it; a digest for a range; the online
                keys could do all of it alone.
            FormatError: no layout that devices take.
        """
        return policy_layouts.add_layout(
            self._work, name, envelope, serves=serves, expires=expires
        )

    def layout(self, name: ReleaseName, number: int) -> bytes:
        """Return the envelope of a layout that the publisher lists.

        Raises:
            RefusedError: no such application or layout.
            VerificationError: it is not what the list says.
        """
        return policy_layouts.layout_of(self._work, name, number)

    def functionaries(self, name: ReleaseName) -> tuple[Key, ...]:
        """Return the keys of all functionaries of an application.

        Each has the id that a layout calls it by: a key may come more than once.
        A layout that can't be read is left out, and said to be.
        """
        return policy_layouts.functionaries(self._work, name)

    # --- releases --------------------------------------------------------------------

    def releases(self, name: ReleaseName) -> Mapping[Version, ReleaseEntry]:
        """Return an application's releases as they stand in this edit, newest first."""
        return self._work.entries(name)

    def named_releases(self, name: ReleaseName) -> Mapping[Digest, Version]:
        """Return versions of the releases that the policy names one by one.

        By `ReleaseRecord.release`: what superseded layouts still serve, and what
        survives of revoked functionaries. What is not listed any more, or can't be
        read, is left out.
        """
        wanted = identities.named(self._work.require_policy(name))
        return identities.versions(self._work, name, wanted)

    def record(self, name: ReleaseName, version: Version) -> ReleaseRecord:
        """Return the record of a release that is listed.

        Raises:
            RefusedError: no such release.
            VerificationError: its record is not what the list says.
        """
        return listing.record_of(self._work, name, version)

    def add_release(
        self, release: Release, *, attestations: Sequence[bytes] = ()
    ) -> bool:
        """List a release and take its content in.

        Exactly the same release again changes nothing that is signed, whenever it was
        made; content of it that was damaged or lost is restored. Its record, and so
        what it is attested by, never changes; a verification summary can be added to a
        release that is listed already, and replaces an older one of the same signers.

        Args:
            release: what was built or adopted.
            attestations: envelopes about it: links, statements and verification
                summaries, in any order. What they prove is judged when the edit ends,
                as a device would.

        Raises:
            RefusedError: no publisher policy; the version exists with other bytes or
                attestations; it is below the minimum or withdrawn; no layout serves
                it; an attestation is about something else; or the profile simple.
            EnvelopeFormatError, FormatError: an attestation is none.
            OciFormatError, VerificationError, FetchError: its content is not whole.
        """
        return listing.add_release(self._work, release, attestations)

    def withdraw(
        self,
        name: ReleaseName,
        version: Version,
        *,
        reason: str,
        use: Version | None = None,
    ) -> bool:
        """Take a release back (online): devices remember its artifact's digest.

        Args:
            name, version: which release.
            reason: one line for people.
            use: the version to use instead.

        Raises:
            RefusedError: no such release, or `use` is none or withdrawn itself.
        """
        return listing.withdraw(self._work, name, version, reason=reason, use=use)

    # --- what others have signed -----------------------------------------------------

    def accept(
        self,
        inbox: Inbox,
        names: Sequence[str],
        *,
        content: ContentSources | None = None,
        allowances: Allowances | None = None,
        is_dry: bool = False,
    ) -> Accepted:
        """Take in what vendors have submitted; see `Repository.accept`.

        Args:
            inbox: where it lies; nothing is removed.
            names: which submissions, one after the other.
            content: asks the registries that records name; None to ask nobody.
            allowances: what is left of each vendor's time, over several edits.
            is_dry: judge alone, and change nothing.
        """
        from margo_supplychain.authoring.accepting import take

        return take(
            self._work,
            inbox,
            names,
            content=content,
            allowances=allowances,
            is_dry=is_dry,
        )

    # --- renewal ---------------------------------------------------------------------

    def refresh(self, role: str | None = None) -> bool:
        """Sign a role again with a new expiry.

        Args:
            role: `snapshot` with timestamp (the default), `timestamp` alone, or an
                offline or application role whose keys are at hand. Root is renewed by
                a root ceremony (`Repository.propose_root`).

        Raises:
            RefusedError: no such role, or root.
        """
        if role == "root":
            raise RefusedError(
                "root is renewed by a root ceremony",
                hint="begin one: margo-supplychain root propose",
            )
        work = self._work
        if role is None or role == "snapshot":
            work.top.update(("snapshot", "timestamp"))
        elif role == "timestamp":
            work.top.add("timestamp")
        else:
            work.changes.require_who(check_role(role))
            work.changes.change(role)
            if kind_of(role) == "application":
                work.applications.add(application_of(role))
        return True
