"""What an edit has gathered so far, and how the repository stands with it.

The ground that `delegating`, `policies` and `listing` work on. Nothing here is signed
or written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from tuf.api.metadata import TargetFile

from margo_supplychain.authoring.changes import Changes
from margo_supplychain.authoring.delegator_fields import removed_roles
from margo_supplychain.authoring.overlay import Staged
from margo_supplychain.authoring.roles import application_of, kind_of, signers_of
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    FetchError,
    MetadataFormatError,
    RefusedError,
    VerificationError,
)
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.publisher_policy import FORMAT, PublisherPolicy
from margo_supplychain.formats.tuf_metadata import parse_targets
from margo_supplychain.verify import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from typing import Literal

    from tuf.api.metadata import MetaFile, Root

    from margo_supplychain.authoring.attestations import Attestation
    from margo_supplychain.authoring.place import Place, Progress
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.authoring.settings import Settings
    from margo_supplychain.authoring.signatures import Signers
    from margo_supplychain.authoring.state import State
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.names import TargetPath
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.formats.release_entry import ReleaseEntry
    from margo_supplychain.formats.versions import Version
    from margo_supplychain.verify.resolve import Candidate

_OCTETS: Final = "application/octet-stream"


class NewRelease(NamedTuple):
    """A release that this edit lists, and the record that says so."""

    record: ReleaseRecord
    release: Release


class Attested(NamedTuple):
    """What this edit lets a release, new or listed before, name of itself."""

    release: Release
    envelopes: tuple[Attestation, ...]


@final
class Work:
    """One edit's changes.

    Args:
        state: the verified state that it starts from.
        place: where the repository lies.
        settings: profile and periods.
        signers: the private keys at hand.
        now: when all of it happens, in whole seconds.
        signed_at: `x-issued`, from which signatures last: `now`; or the last signed
            time, when a machine whose clock was ahead has signed. Devices keep that
            as a floor, and would find anything expired that ends before it.
        progress: told what is being copied.

    Attributes:
        changes: the targets roles.
        staged: content and target files.
        releases: application → versions that are new.
        new: those, with their records.
        kept: releases that are listed already, and of which content was damaged or
            missing.
        restored: that content, and attestations.
        attested: attestations that come with releases.
        proving: application → versions that must prove what the publisher demands.
        summarised: likewise, those that get a verification summary whose signer the
            publisher names.
        applications: those that a device must be able to follow afterwards.
        adopted: targets roles that others have signed → their exact bytes.
        top: `snapshot` and `timestamp`, as far as they must be signed.
        withdrawn: paths that this edit marks as withdrawn.
        before: the timestamp that the place must still have.
        seen: a version of timestamp that devices may have seen.
        next_root: the root that is adopted when this edit is written: its keys sign
            as well, so that devices see no moment between the two.
        counted: versions of snapshot and timestamp to count on from, in place of those
            that the state shows: see `recovering`.
        snapshot: the one that this edit signed last.
        leaves: called before the keys of a role are taken away, so that nothing is gone
            on from that waits to be published and was signed with them.
        warnings: what the author should know.
    """

    def __init__(
        self,
        *,
        state: State,
        place: Place,
        settings: Settings,
        signers: Signers,
        now: datetime,
        signed_at: datetime,
        progress: Progress | None = None,
    ) -> None:
        self.state = state
        self.place = place
        self.settings = settings
        self.signers = signers
        self.now = now
        self.signed_at = signed_at
        self.progress = progress
        self.changes = self._begun(state, self._named_metadata)
        self.staged = Staged()
        self.releases: dict[ReleaseName, set[Version]] = {}
        self.new: list[NewRelease] = []
        self.kept: list[Release] = []
        self.restored: set[Digest] = set()
        self.attested: list[Attested] = []
        self.proving: dict[ReleaseName, set[Version]] = {}
        self.summarised: dict[ReleaseName, set[Version]] = {}
        self.applications: set[ReleaseName] = set()
        self.adopted: dict[str, bytes] = {}
        self.top: set[str] = set()
        self.withdrawn: set[str] = set()
        self.before = state.timestamp.file.data
        self.seen = 0
        self.next_root: Root | None = None
        self.counted: dict[str, int] = {}
        self.snapshot: bytes | None = None
        self.leaves: Callable[[str], None] | None = None
        self.warnings: list[str] = []

    def begin(self, state: State, named: Callable[[str, MetaFile], bytes]) -> None:
        """Start from another state, before anything is changed.

        Args:
            state: verified.
            named: see `Changes`.
        """
        self.state = state
        self.before = state.timestamp.file.data
        self.changes = self._begun(state, named)

    def _begun(self, state: State, named: Callable[[str, MetaFile], bytes]) -> Changes:
        return Changes(state, may_renew=self.holds_key, named=named)

    @property
    def is_simple(self) -> bool:
        """Whether `targets` decides everything itself."""
        return self.settings.profile == "simple"

    # --- who decides -----------------------------------------------------------------

    def offline(self, name: ReleaseName) -> str:
        """Return the role that signs an application's policy."""
        return "targets" if self.is_simple else name.publisher

    def deciding(self, name: ReleaseName) -> str:
        """Return the role that lists an application's releases."""
        return "targets" if self.is_simple else name.role

    def can_sign(self, role: str) -> bool:
        """Say whether the keys at hand meet a role's threshold."""
        return self.signers.suffice(self.changes.require_who(role))

    def holds_key(self, role: str) -> bool:
        """Say whether any key of a role is at hand."""
        return bool(self.signers.of(self.changes.require_who(role)))

    def _named_metadata(self, role: str, entry: MetaFile) -> bytes:
        return self.place.named(role, entry)

    def require_publisher(self, name: ReleaseName) -> None:
        """Refuse the application of a publisher that is none here.

        Raises:
            RefusedError: it is not.
        """
        if self.is_simple:
            known = self.settings.publisher
            if known is not None and known != name.publisher:
                raise RefusedError(
                    f"this repository is {known}'s, not {name.publisher}'s",
                    hint=f"name it {known}/{name.name}",
                )
        elif self.changes.who(name.publisher) is None:
            if name.publisher in removed_roles(self.changes.view("targets")):
                raise RefusedError(
                    f"{name.publisher} is no longer a publisher here: it was removed",
                    hint="ask the operator; it comes back with new keys alone",
                )
            raise RefusedError(
                f"there is no publisher {name.publisher} here",
                hint=f"add it: margo-supplychain publisher add {name.publisher}"
                if self.place.is_own
                else "the operator adds publishers: ask there, and send your public "
                "key",
            )

    def applications_of(self, role: str) -> set[ReleaseName]:
        """Return the applications whose releases a role lists, or may list."""
        if kind_of(role) == "application":
            return {application_of(role)}
        if not (self.is_simple and role == "targets"):
            return set()
        found = set()
        for path in self.changes.view("targets").targets:
            publisher, kind, name, *_ = path.split("/")
            if kind == "policies":
                found.add(ReleaseName(publisher, name))
        return found

    def co_signers(self, role: str) -> RoleSigners | None:
        """Return who signs a top-level role besides: the keys of the next root."""
        if self.next_root is None:
            return None
        return signers_of(self.next_root, role)

    def last_version(self, role: Literal["snapshot", "timestamp"]) -> int:
        """Return the version that the next one of a role is counted from."""
        shown = self.state.snapshot if role == "snapshot" else self.state.timestamp
        return self.counted.get(role, shown.version)

    # --- how it stands ---------------------------------------------------------------

    def policy(self, name: ReleaseName) -> PublisherPolicy | None:
        """Return an application's policy; None if it has none.

        Raises:
            MetadataFormatError: it is no policy that this version reads.
        """
        if self.changes.who(self.offline(name)) is None:
            return None
        path = name.policy_path(FORMAT)
        file = self.changes.view(self.offline(name)).targets.get(path)
        if file is None:
            return None
        try:
            data = self.read(path, file, limit=LIMITS.policy)
        except (FetchError, VerificationError) as why:
            if isinstance(why, FetchError) and not why.missing:
                raise
            why.hint = (
                "bring the file back from a backup; or sign the policy anew, in full: "
                f"margo-supplychain app policy {name} --epoch N --provenance none"
            )
            raise
        return PublisherPolicy.parse(data)

    def lists_policy(self, name: ReleaseName, policy: PublisherPolicy) -> bool:
        """Say whether exactly this policy is signed, wherever its bytes are."""
        listed = self.changes.view(self.offline(name)).targets
        file = listed.get(name.policy_path(FORMAT))
        what = Descriptor.of(policy.to_bytes(), _OCTETS)
        return file is not None and file.hashes.get("sha256") == what.digest.hex

    def require_policy(self, name: ReleaseName) -> PublisherPolicy:
        """Return the policy of an application that is here.

        Raises:
            RefusedError: it is not, or has no policy.
        """
        self.require_publisher(name)
        policy = self.policy(name)
        if policy is None or self.changes.who(self.deciding(name)) is None:
            raise RefusedError(
                f"there is no application {name} here, with a publisher policy",
                hint=f"add it with the offline key: margo-supplychain app add {name}",
            )
        return policy

    def listed(self, name: ReleaseName) -> tuple[Candidate, ...]:
        """Return an application's releases, newest first."""
        if self.changes.who(self.deciding(name)) is None:
            return ()
        return resolve.listed(self.changes.view(self.deciding(name)), name)

    def require_listed(self, name: ReleaseName, version: Version) -> Candidate:
        """Return a release that is listed.

        Raises:
            RefusedError: it is not.
            MetadataFormatError: its entry can't be read.
        """
        self.require_policy(name)
        for one in self.listed(name):
            if one.version == version:
                if one.entry is None:
                    raise MetadataFormatError(
                        f"the entry of {name} {version} is malformed",
                        hint="it was not made by this tool, and devices refuse it",
                    )
                return one
        raise RefusedError(
            f"there is no release {name} {version}",
            hint=f"`margo-supplychain release show {name}` lists what there is",
        )

    def entries(self, name: ReleaseName) -> Mapping[Version, ReleaseEntry]:
        """Return an application's releases by version, newest first."""
        return {
            one.version: one.entry for one in self.listed(name) if one.entry is not None
        }

    def read(self, path: str, file: TargetFile, *, limit: int) -> bytes:
        """Return the exact bytes of a target file, staged or written."""
        for known, (what, data) in self.staged.targets.items():
            if known == path and what.digest.hex == file.hashes.get("sha256"):
                return data
        return self.state.walk.target(path, file, limit=limit)

    # --- changing it -----------------------------------------------------------------

    def put(
        self, role: str, path: TargetPath, data: bytes, *, custom: dict[str, Any] | None
    ) -> None:
        """Let a role list a target file."""
        what = self.stage(path, data)
        self.changes.change(role).targets[path] = TargetFile(
            length=what.size,
            hashes={"sha256": what.digest.hex},
            path=path,
            unrecognized_fields=None if custom is None else {"custom": custom},
        )

    def stage(self, path: TargetPath, data: bytes) -> Descriptor:
        """Take in the bytes of a target file; return what they are."""
        what = Descriptor.of(data, _OCTETS)
        self.staged.targets[path] = (what, data)
        return what

    def adopt(self, role: str, data: bytes) -> None:
        """Take in a targets role as others have signed it; see `accepting`.

        Raises:
            MetadataFormatError: it is none.
        """
        file = parse_targets(data, role=role, limit=LIMITS.targets)
        self.adopted[role] = data
        self.changes.adopt(role, file.signed)

    def put_entry(self, role: str, path: str, entry: ReleaseEntry) -> None:
        """Change what a role says of a release that it lists."""
        file = self.changes.change(role).targets[path]
        file.unrecognized_fields["custom"] = entry.to_custom()
