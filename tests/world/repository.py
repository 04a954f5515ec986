"""An honest trust repository in memory, and every key that Mallory may steal.

Written with python-tuf's metadata API. `publish` signs what changed and replaces the
served files; attacks take `files.copy()` to serve old states, or change `roles` and
call `sign` with keys of their own.
"""

from __future__ import annotations

import copy
import hashlib
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Self, cast

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.names import (
    ReleaseName,
    application_patterns,
    publisher_patterns,
)
from margo_supplychain.formats.oci import Layer, manifest_bytes
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.record import Component, Image, ReleaseRecord
from margo_supplychain.formats.release_entry import ReleaseEntry, Withdrawal
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.formats.versions import Version
from tests.world.device import Device, FixedClock
from tests.world.sources import Files

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
WASM = "application/wasm"
GENERIC = "application/vnd.example.generic.v1+json"
DAYS = {
    "root": 730,
    "targets": 365,
    "snapshot": 14,
    "timestamp": 4,
}
TOP_LEVEL = ("root", "timestamp", "snapshot", "targets")


@cache
def key(name: str) -> CryptoSigner:
    """Return the key called `name`; the same one all through a test run."""
    del name
    return CryptoSigner.generate_ed25519()


def issued(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


class World:
    """Operator, publishers and their CI, all honest."""

    def __init__(
        self,
        *,
        publishers: tuple[str, ...] = ("acme",),
        profile: str = "standard",
        now: datetime = START,
    ) -> None:
        self.clock = FixedClock(now)
        self.files = Files()
        self.profile = profile
        self.signers: dict[str, list[CryptoSigner]] = {
            role: [key(role)] for role in TOP_LEVEL
        }
        self.policies: dict[ReleaseName, PublisherPolicy] = {}
        root = Root(consistent_snapshot=True)
        self.roles: dict[str, Any] = {
            "root": root,
            "targets": Targets(),
            "snapshot": Snapshot(),
            "timestamp": Timestamp(),
        }
        self.roles["snapshot"].meta.clear()
        for signed in self.roles.values():
            signed.version = 0  # the first `bump` makes it 1
        for role in TOP_LEVEL:
            root.add_key(self.signers[role][0].public_key, role)
        self._written: dict[str, bytes] = {}
        self._dirty = {"root", "targets"}
        for publisher in publishers:
            self.add_publisher(publisher)
        self.publish()

    # --- operator and publishers -----------------------------------------------------

    @property
    def root(self) -> Root:
        return cast("Root", self.roles["root"])

    @property
    def targets(self) -> Targets:
        return cast("Targets", self.roles["targets"])

    def touch(self, *roles: str) -> None:
        """Sign these roles anew at the next `publish`."""
        self._dirty.update(roles)

    def add_publisher(self, publisher: str) -> None:
        if self.profile == "simple":
            return
        self.delegate("targets", publisher, publisher_patterns(publisher))

    def delegate(
        self,
        parent: str,
        role: str,
        paths: tuple[str, ...],
        *,
        terminating: bool = True,
        signer: CryptoSigner | None = None,
    ) -> None:
        """Delegate paths to a role, with a key of its own."""
        signed = cast("Targets", self.roles[parent])
        if signed.delegations is None:
            signed.delegations = Delegations({}, {})
        if signed.delegations.roles is None:
            raise ValueError("hash bins and roles exclude each other")
        signed.delegations.roles[role] = DelegatedRole(
            role, [], 1, terminating, paths=list(paths)
        )
        signer = signer if signer is not None else key(role)
        signed.add_key(signer.public_key, role)
        self.signers[role] = [signer]
        if role not in self.roles:
            self.roles[role] = Targets()
            self.roles[role].version = 0
        self.touch(parent, role)

    def offline_role(self, name: ReleaseName) -> str:
        return "targets" if self.profile == "simple" else name.publisher

    def deciding_role(self, name: ReleaseName) -> str:
        return "targets" if self.profile == "simple" else name.role

    def add_application(
        self, name: str = "acme/pump-monitor", policy: PublisherPolicy | None = None
    ) -> None:
        parsed = ReleaseName.parse(name)
        self.set_policy(
            name,
            policy
            if policy is not None
            else PublisherPolicy(epoch=1, provenance="none"),
        )
        if self.profile != "simple":
            self.delegate(parsed.publisher, parsed.role, application_patterns(parsed))

    def set_policy(self, name: str, policy: PublisherPolicy) -> None:
        parsed = ReleaseName.parse(name)
        self.policies[parsed] = policy
        self.add_target(
            self.offline_role(parsed), parsed.policy_path(1), policy.to_bytes()
        )

    # --- releases --------------------------------------------------------------------

    def add_target(
        self, role: str, path: str, data: bytes, custom: dict[str, Any] | None = None
    ) -> None:
        """List a target file in a role, and serve its bytes."""
        sha256 = hashlib.sha256(data).hexdigest()
        file = TargetFile(len(data), {"sha256": sha256}, path)
        if custom is not None:
            file.unrecognized_fields["custom"] = custom
        self.roles[role].targets[path] = file
        self.files.targets[path, sha256] = data
        self.touch(role)

    def add_blob(self, data: bytes, media_type: str) -> Descriptor:
        what = Descriptor.of(data, media_type)
        self.files.blobs[str(what.digest)] = data
        return what

    def artifact(self, content: bytes, *, kind: str = GENERIC) -> Descriptor:
        """Serve a small OCI artifact with one layer."""
        layer = self.add_blob(content, WASM)
        self.add_blob(b"{}", "application/vnd.oci.empty.v1+json")
        data = manifest_bytes(
            artifact_type=kind, layers=[Layer(descriptor=layer, title="module.wasm")]
        )
        return self.add_blob(data, "application/vnd.oci.image.manifest.v1+json")

    def record(
        self,
        name: ReleaseName,
        version: str,
        artifact: Descriptor,
        *,
        kind: str | None = GENERIC,
        components: tuple[Component, ...] = (),
        images: tuple[Image, ...] = (),
        closure: str = "complete",
        application_version: str | None = None,
        locations: tuple[str, ...] = (),
    ) -> ReleaseRecord:
        return ReleaseRecord(
            name=name,
            version=Version.parse(version),
            application_version=application_version,
            created=self.clock.when,
            artifact=artifact,
            artifact_type=kind,
            locations=locations,
            components=components,
            images=images,
            closure="complete" if closure == "complete" else "partial",
        )

    def release(
        self,
        version: str,
        name: str = "acme/pump-monitor",
        *,
        content: bytes | None = None,
        **record: Any,
    ) -> Digest:
        """List a release of a generic artifact; `publish` makes it visible."""
        parsed = ReleaseName.parse(name)
        if parsed not in self.policies:
            self.add_application(name)
        artifact = record.pop("artifact", None) or self.artifact(
            content if content is not None else f"{name} {version}".encode()
        )
        made = self.record(parsed, version, artifact, **record)
        self.list_record(self.deciding_role(parsed), made)
        return cast("Digest", artifact.digest)

    def list_record(
        self,
        role: str,
        record: ReleaseRecord,
        *,
        path: str | None = None,
        entry: ReleaseEntry | None = None,
    ) -> None:
        """List a record, at another path or with another entry if Mallory likes."""
        self.add_target(
            role,
            path if path is not None else record.path,
            record.to_bytes(),
            (entry if entry is not None else record.entry()).to_custom(),
        )

    def withdraw(
        self, version: str, name: str = "acme/pump-monitor", *, use: str | None = None
    ) -> None:
        parsed = ReleaseName.parse(name)
        role = self.deciding_role(parsed)
        path = parsed.release_path(Version.parse(version).tag)
        file = self.roles[role].targets[path]
        entry = ReleaseEntry.parse(file.custom, path)
        withdrawal = Withdrawal(
            reason="leaks oil",
            since=self.clock.when,
            use=Version.parse(use) if use is not None else None,
        )
        file.unrecognized_fields["custom"] = ReleaseEntry(
            artifact=entry.artifact, profiles=entry.profiles, withdrawn=withdrawal
        ).to_custom()
        self.touch(role)

    # --- signing ---------------------------------------------------------------------

    def sign(self, role: str, signers: list[CryptoSigner] | None = None) -> bytes:
        """Sign a role as it stands, by its own or other keys; return the file."""
        metadata = Metadata(self.roles[role])
        for signer in self.signers[role] if signers is None else signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def write(self, role: str, data: bytes) -> None:
        """Serve a role's file under its versioned name and bind it in snapshot."""
        version = self.roles[role].version
        self.files.metadata[file_name(role, version)] = data
        self._written[role] = data
        if role not in ("root", "snapshot", "timestamp"):
            self.roles["snapshot"].meta[f"{role}.json"] = bound(version, data)

    def publish(self, *, days: dict[str, int] | None = None) -> Files:
        """Bump and sign what changed, snapshot and timestamp; serve and return it."""
        periods = {**DAYS, **(days or {})}
        changed = [role for role in self.roles if role in self._dirty]
        for role in changed:
            if role in ("snapshot", "timestamp"):
                continue
            self.bump(role, periods.get(role, 180))
            self.write(role, self.sign(role))
        self.publish_online(periods)
        self._dirty.clear()
        return self.files.copy()

    def publish_online(self, days: dict[str, int] | None = None) -> None:
        """Bump and sign snapshot and timestamp alone."""
        periods = {**DAYS, **(days or {})}
        self.bump("snapshot", periods["snapshot"])
        self.write("snapshot", self.sign("snapshot"))
        self.publish_timestamp(periods)

    def publish_timestamp(self, days: dict[str, int] | None = None) -> None:
        periods = {**DAYS, **(days or {})}
        self.bump("timestamp", periods["timestamp"])
        self.roles["timestamp"].snapshot_meta = bound(
            self.roles["snapshot"].version, self._written["snapshot"]
        )
        self.files.metadata["timestamp.json"] = self.sign("timestamp")

    def bump(self, role: str, days: float) -> None:
        signed = self.roles[role]
        signed.version += 1
        signed.expires = self.clock.when + timedelta(days=days)
        if role in ("root", "timestamp"):
            signed.unrecognized_fields["x-issued"] = issued(self.clock.when)

    def rotate(self, role: str, *names: str, keep_old: bool = False) -> None:
        """Replace a top-level role's keys in a new root; the old root's keys sign too.

        The new root is served; what the new keys must sign anew is the caller's.
        """
        old_root = list(self.signers["root"])
        new = [key(name) for name in names]
        found = self.root.roles[role]
        for keyid in [] if keep_old else list(found.keyids):
            self.root.revoke_key(keyid, role)
        for signer in new:
            self.root.add_key(signer.public_key, role)
        self.signers[role] = (self.signers[role] if keep_old else []) + new
        self.bump("root", DAYS["root"])
        signers = list(dict.fromkeys([*old_root, *self.signers["root"]]))
        self.files.metadata[file_name("root", self.root.version)] = self.sign(
            "root", signers
        )

    def copy(self) -> Self:
        """Return the same world once more, to go another way from here; keys are the
        same."""
        other = copy.copy(self)
        other.clock = FixedClock(self.clock.when)
        other.files = self.files.copy()
        other.signers = {role: list(signers) for role, signers in self.signers.items()}
        other.policies = dict(self.policies)
        other.roles = copy.deepcopy(self.roles)
        other._written = dict(self._written)
        other._dirty = set(self._dirty)
        return other

    # --- devices ---------------------------------------------------------------------

    def device(self, state: Path, **options: Any) -> Device:
        """Return a new device that asks this repository; its clock is its own."""
        return Device(state, self.files.copy(), FixedClock(self.clock.when), **options)


def bound(version: int, data: bytes) -> MetaFile:
    """Return a snapshot or timestamp entry with length and sha256."""
    sha256 = hashlib.sha256(data).hexdigest()
    return MetaFile(version, len(data), {"sha256": sha256})
