"""The peers work at all: a small repository, made by python-tuf alone, by each peer.

Whether they agree with this package is asked elsewhere; here only that their yes is a
yes and their no a no.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
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

from tests.peers.clients import PeerClient, serve

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b'{"format":1}\n'
TARGET = "acme/releases/pump-monitor/1.2.0"
ROLE = "acme.pump-monitor"


class SmallRepository:
    """Root v1, and a role `acme.pump-monitor` that signs one target."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.signer = CryptoSigner.generate_ecdsa()
        self.expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
        root = Root(version=1, expires=self.expires, consistent_snapshot=True)
        for role in ("root", "timestamp", "snapshot", "targets"):
            root.add_key(self.signer.public_key, role)
        self._write("1.root.json", Metadata(root))

    @property
    def root(self) -> Path:
        return self.directory / "metadata" / "1.root.json"

    def _write(self, name: str, metadata: Metadata[Any]) -> MetaFile:
        metadata.sign(self.signer)
        data = metadata.to_bytes()
        path = self.directory / "metadata" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        version = metadata.signed.version
        return MetaFile(version, length=len(data), hashes={"sha256": sha256})

    def publish(self, version: int) -> None:
        """Write version `version` of everything but root."""
        target = TargetFile.from_data(TARGET, CONTENT, ["sha256"])
        parent, name = TARGET.rsplit("/", 1)
        path = self.directory / "targets" / parent
        path.mkdir(parents=True, exist_ok=True)
        (path / f"{target.hashes['sha256']}.{name}").write_bytes(CONTENT)

        common: dict[str, Any] = {"version": version, "expires": self.expires}
        application = Metadata(Targets(**common, targets={TARGET: target}))
        key = self.signer.public_key
        role = DelegatedRole(
            ROLE, [key.keyid], 1, terminating=True, paths=["acme/releases/*/*"]
        )
        targets = Metadata(
            Targets(**common, delegations=Delegations({key.keyid: key}, {ROLE: role}))
        )
        snapshot = Metadata(
            Snapshot(
                **common,
                meta={
                    f"{ROLE}.json": self._write(f"{version}.{ROLE}.json", application),
                    "targets.json": self._write(f"{version}.targets.json", targets),
                },
            )
        )
        entry = self._write(f"{version}.snapshot.json", snapshot)
        timestamp = Metadata(Timestamp(**common, snapshot_meta=entry))
        self._write("timestamp.json", timestamp)


@pytest.fixture(params=["go_tuf", "tuf_js"])
def peer(request: pytest.FixtureRequest) -> PeerClient:
    client = request.getfixturevalue(request.param)
    assert isinstance(client, PeerClient)
    return client


@pytest.fixture
def repository(tmp_path: Path) -> SmallRepository:
    return SmallRepository(tmp_path / "repository")


def test_peer_fetches_and_verifies_a_target(
    peer: PeerClient, repository: SmallRepository, tmp_path: Path
) -> None:
    repository.publish(3)
    with serve(repository.directory) as url:
        said = peer.run(url, [TARGET], root=repository.root, directory=tmp_path)
    assert said.ok, said.error
    versions = {"root": 1, "timestamp": 3, "snapshot": 3, "targets": 3, ROLE: 3}
    assert said.versions == versions
    (found,) = said.targets
    assert (found.path, found.length) == (TARGET, len(CONTENT))
    assert found.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert found.file.read_bytes() == CONTENT


def test_peer_refuses_a_changed_target(
    peer: PeerClient, repository: SmallRepository, tmp_path: Path
) -> None:
    repository.publish(1)
    (stored,) = repository.directory.glob("targets/**/*.1.2.0")
    stored.write_bytes(CONTENT.upper())
    with serve(repository.directory) as url:
        said = peer.run(url, [TARGET], root=repository.root, directory=tmp_path)
    assert not said.ok
    assert said.targets == ()


def test_peer_refuses_a_target_that_nobody_signed(
    peer: PeerClient, repository: SmallRepository, tmp_path: Path
) -> None:
    repository.publish(1)
    with serve(repository.directory) as url:
        said = peer.run(url, [f"{TARGET}9"], root=repository.root, directory=tmp_path)
    assert not said.ok


def test_peer_keeps_its_state_and_refuses_a_rollback(
    peer: PeerClient, repository: SmallRepository, tmp_path: Path
) -> None:
    with serve(repository.directory) as url:
        repository.publish(2)
        assert peer.run(url, root=repository.root, directory=tmp_path).ok
        repository.publish(1)
        said = peer.run(url, root=repository.root, directory=tmp_path)
    assert not said.ok
