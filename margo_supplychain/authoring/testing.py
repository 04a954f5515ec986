"""A tiny real repository, for the tests of agents that embed the verifier.

Nothing is faked: real keys (throw-away, in memory only), real metadata, a real OCI
artifact. What is verified against it went through every check that counts in the field.

Example:
    >>> tiny = tiny_repository(tmp_path)
    >>> store = TrustStore.create(
    ...     tmp_path / "state", root=tiny.root, publishers=frozenset({tiny.publisher}))
    >>> verifier = Verifier(
    ...     store=store, source=tiny.source(), content=tiny.content_sources(),
    ...     policy=policy)
    >>> verifier.verify(tiny.name, Pin.exact(tiny.version)).manifest == tiny.artifact
    True
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from securesystemslib.signer import CryptoSigner

from margo_supplychain.authoring.plan import RootPlan
from margo_supplychain.authoring.release import Release
from margo_supplychain.authoring.repository import Repository
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.oci import (
    EMPTY,
    EMPTY_BYTES,
    MANIFEST,
    Layer,
    manifest_bytes,
)
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.versions import Version
from margo_supplychain.storage.content_store import ContentStore
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.opening import FixedContent

if TYPE_CHECKING:
    from pathlib import Path

    from securesystemslib.signer import Signer

    from margo_supplychain.transport.protocols import ContentSources, Source
    from margo_supplychain.verify.clock import Clock

ARTIFACT_TYPE: Final = "application/vnd.margo-supplychain.test.v1"
_LAYER_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TinyRepository:
    """A repository with one publisher, one application and one release.

    Args:
        directory: the repository, as files.
        root: exact bytes of `1.root.json`, for `TrustStore.create`.
        publisher: `acme`.
        name, version: the release that is there.
        artifact: its manifest; an OCI artifact of one layer.
        content: the bytes of that layer.
        repository: to change it further.
        offline, online: throw-away keys, in memory only.
        clock: what signs; None for the machine's.
    """

    directory: Path
    root: bytes
    publisher: str
    name: ReleaseName
    version: Version
    artifact: Descriptor
    content: bytes
    repository: Repository
    offline: Signer
    online: Signer
    clock: Clock | None

    def source(self) -> Source:
        """Return the repository as a device's source."""
        return DirectorySource(self.directory)

    def content_sources(self) -> ContentSources:
        """Return where a device finds content: in the repository itself."""
        return FixedContent([self.source()])

    def publish(self, version: str, content: bytes) -> Descriptor:
        """Publish one more release of the application; return its artifact."""
        release = artifact_release(
            self.directory.parent / f"{self.directory.name}-built",
            name=self.name,
            version=version,
            content=content,
        )
        with self.repository.edit([self.online], clock=self.clock) as edit:
            edit.add_release(release)
        return release.artifact

    def withdraw(self, version: str, *, reason: str) -> None:
        """Withdraw a release."""
        with self.repository.edit([self.online], clock=self.clock) as edit:
            edit.withdraw(self.name, Version.parse(version), reason=reason)


def tiny_repository(directory: Path, *, clock: Clock | None = None) -> TinyRepository:
    """Make a tiny repository below `directory`: `acme/pump-monitor` 1.0.0.

    Args:
        directory: new or empty; `trust` in it becomes the repository.
        clock: when it is signed; the machine's clock by default.
    """
    offline = CryptoSigner.generate_ecdsa()
    online = CryptoSigner.generate_ecdsa()
    name = ReleaseName.parse("acme/pump-monitor")
    plan = RootPlan.small(
        publisher=name.publisher, offline=offline.public_key, online=online.public_key
    )
    place = directory / "trust"
    repository = Repository.create(
        place, plan=plan, keys=[offline, online], clock=clock
    )
    policy = PublisherPolicy(epoch=1, provenance="none")
    content = b"pump monitor 1.0.0"
    release = artifact_release(
        directory / "trust-built", name=name, version="1.0.0", content=content
    )
    with repository.edit([offline, online], clock=clock) as edit:
        edit.add_application(name, [online.public_key], policy=policy)
        edit.add_release(release)
    return TinyRepository(
        directory=place,
        root=repository.root,
        publisher=name.publisher,
        name=name,
        version=release.version,
        artifact=release.artifact,
        content=content,
        repository=repository,
        offline=offline,
        online=online,
        clock=clock,
    )


def artifact_release(
    directory: Path, *, name: ReleaseName, version: str, content: bytes
) -> Release:
    """Make an OCI artifact of one layer in a layout, and a release of it.

    Args:
        directory: an OCI image layout, made if it is not there.
        name, version: what it will be released as.
        content: the bytes of the layer.
    """
    store = ContentStore.create(directory)
    store.put(EMPTY, io.BytesIO(EMPTY_BYTES))
    layer = Descriptor.of(content, _LAYER_TYPE)
    store.put(layer, io.BytesIO(content))
    data = manifest_bytes(artifact_type=ARTIFACT_TYPE, layers=[Layer(descriptor=layer)])
    manifest = Descriptor.of(data, MANIFEST)
    store.put(manifest, io.BytesIO(data))
    return Release.from_artifact(
        DirectorySource(directory),
        str(manifest.digest),
        name=name,
        version=Version.parse(version),
    )
