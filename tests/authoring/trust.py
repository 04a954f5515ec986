"""A vendor with throw-away keys and a clock, for the tests of repositories."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from securesystemslib.signer import CryptoSigner

from margo_supplychain.authoring.holders import Holder
from margo_supplychain.authoring.plan import RoleKeys, RootPlan
from margo_supplychain.authoring.publish import Published, publish
from margo_supplychain.authoring.repository import Repository
from margo_supplychain.authoring.testing import artifact_release
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.versions import Version
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.opening import FixedContent
from margo_supplychain.verify.policy import Policy
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.world import FixedClock

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.authoring.release import Release

NOW = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
PUMP = ReleaseName.parse("acme/pump-monitor")
VALVE = ReleaseName.parse("acme/valve")
OPEN = PublisherPolicy(epoch=1, provenance="none")
DEVICE_POLICY = Policy.from_toml(
    b'[policy."*/*"]\nrequire = ["signed"]\nallow-simple-profile = true\n'
)


@cache
def key(name: str) -> CryptoSigner:
    """Return the throw-away key that a test calls `name`."""
    return CryptoSigner.generate_ecdsa()


@dataclass
class Vendor:
    """One repository, its keys `offline` and `ci`, and where releases are built."""

    directory: Path
    clock: FixedClock = field(default_factory=lambda: FixedClock(NOW))
    profile: str = "small"

    @property
    def trust(self) -> Path:
        return self.directory / "trust"

    @property
    def keys(self) -> list[CryptoSigner]:
        return [key("offline"), key("ci")]

    @property
    def repository(self) -> Repository:
        return Repository.open(self.trust)

    def plan(self) -> RootPlan:
        offline, ci = key("offline").public_key, key("ci").public_key
        if self.profile == "standard":
            both = RoleKeys(keys=(offline,)), RoleKeys(keys=(ci,))
            return RootPlan.standard(
                root=both[0], targets=both[0], snapshot=both[1], timestamp=both[1]
            )
        make = RootPlan.small if self.profile == "small" else RootPlan.simple
        return make(
            publisher="acme",
            offline=offline,
            online=ci,
            holders={offline.keyid: Holder(name="holder A")},
        )

    def create(self) -> Repository:
        return Repository.create(
            self.trust, plan=self.plan(), keys=self.keys, clock=self.clock
        )

    def create_with_pump(self) -> Repository:
        """Create a repository with the application acme/pump-monitor."""
        repository = self.create()
        with repository.edit(self.keys, clock=self.clock) as edit:
            keys = [] if self.profile == "simple" else [key("ci").public_key]
            edit.add_application(PUMP, keys, policy=OPEN)
        return repository

    def release(
        self, version: str, content: bytes | None = None, name: ReleaseName = PUMP
    ) -> Release:
        data = f"{name} {version}".encode() if content is None else content
        return artifact_release(
            self.directory / "built", name=name, version=version, content=data
        )

    def publish(self, *versions: str, **options: Any) -> Published:
        options.setdefault(
            "keys", self.keys if self.profile == "simple" else [key("ci")]
        )
        return publish(
            self.repository,
            [self.release(one) for one in versions],
            clock=self.clock,
            **options,
        )

    def withdraw(self, version: str, reason: str = "leaks", **options: Any) -> None:
        with self.repository.edit([key("ci")], clock=self.clock) as edit:
            edit.withdraw(PUMP, Version.parse(version), reason=reason, **options)

    def device(self, store: TrustStore | None = None) -> Verifier:
        """Return a device's verifier, a fresh one without a store."""
        return Verifier(
            store=store
            or TrustStore.unsafe_without_memory(
                root=self.repository.root, publishers=None
            ),
            source=DirectorySource(self.trust),
            content=FixedContent([DirectorySource(self.trust)]),
            policy=DEVICE_POLICY,
            clock=self.clock,
        )

    def store(self, name: str = "state") -> TrustStore:
        """Return an author's or device's new memory of the repository."""
        return TrustStore.create(
            self.directory / name,
            root=self.repository.root,
            publishers=frozenset({"acme"}),
        )

    def files(self) -> dict[str, bytes]:
        """Return every file of the repository but the lock."""
        return {
            str(path.relative_to(self.trust)): path.read_bytes()
            for path in sorted(self.trust.rglob("*"))
            if path.is_file() and path.name != ".lock"
        }

    def signed(self, filename: str) -> dict[str, Any]:
        """Return the signed part of a metadata file."""
        path = self.trust / "metadata" / filename
        found: dict[str, Any] = json.loads(path.read_bytes())["signed"]
        return found

    def version(self, role: str) -> int:
        """Return the current version of a role, from timestamp and snapshot."""
        timestamp = self.signed("timestamp.json")
        if role == "timestamp":
            return int(timestamp["version"])
        snapshot = timestamp["meta"]["snapshot.json"]["version"]
        if role == "snapshot":
            return int(snapshot)
        meta = self.signed(f"{snapshot}.snapshot.json")["meta"]
        return int(meta[f"{role}.json"]["version"])
