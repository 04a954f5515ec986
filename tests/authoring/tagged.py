"""Registries in memory, for the tests of places: real sinks over dictionaries.

`MemoryRegistry` behaves as a registry does: tags move, nothing is locked, blobs stay.
`before` is called ahead of every request, so that a test can stop there, fail there or
let another publisher go first.
"""

from __future__ import annotations

import io
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from margo_supplychain.authoring.content_targets import ContentTargets
from margo_supplychain.authoring.publish import Published, publish
from margo_supplychain.authoring.repository import Repository
from margo_supplychain.authoring.tagged_place import TaggedPlace
from margo_supplychain.errors import FetchError
from margo_supplychain.formats.closure import is_manifest
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.names import target_path
from margo_supplychain.formats.pins import Pin
from margo_supplychain.storage.receive import read_exact
from margo_supplychain.transport.bounded import BoundedStream
from margo_supplychain.transport.tagged import TaggedSource
from margo_supplychain.transport.tagged_sink import TaggedSink
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.authoring.trust import DEVICE_POLICY, OPEN, PUMP, Vendor, key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import pytest

    from margo_supplychain.authoring.release import Release
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.protocols import Source

HOST = "oci://registry.example"
TRUST = f"{HOST}/acme/trust"


def nothing(what: str) -> None:
    """Let a request pass."""
    del what


@dataclass
class Contents:
    """What one repository of the registry holds."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def copy(self) -> Contents:
        return Contents(dict(self.blobs), dict(self.manifests), dict(self.tags))


@dataclass
class MemoryRegistry:
    """A registry with its repositories by URL."""

    repositories: dict[str, Contents] = field(default_factory=dict)

    def at(self, url: str) -> Contents:
        return self.repositories.setdefault(url, Contents())

    def copy(self) -> MemoryRegistry:
        return MemoryRegistry(
            {url: one.copy() for url, one in self.repositories.items()}
        )

    def repository(
        self, url: str, before: Callable[[str], None] = nothing
    ) -> MemoryRepository:
        return MemoryRepository(url, self, before)

    def source(self, url: str = TRUST) -> TaggedSource:
        return TaggedSource(self.repository(url))

    def install(
        self, monkeypatch: pytest.MonkeyPatch, before: Callable[[str], None] = nothing
    ) -> None:
        """Let content go to this registry."""

        def opened(url: str, *, network: Network | None) -> TaggedSink:
            del network
            return TaggedSink(self.repository(url, before))

        monkeypatch.setattr(
            "margo_supplychain.authoring.content_targets.open_tagged", opened
        )

    def place(self, before: Callable[[str], None] = nothing) -> TaggedPlace:
        sink = TaggedSink(self.repository(TRUST, before))
        return TaggedPlace(sink, ContentTargets(sink))

    def open(
        self, root: bytes | None, before: Callable[[str], None] = nothing
    ) -> Repository:
        """Open the trust repository as an author does."""
        return Repository(self.place(before), root)


class MemoryRepository:
    """One repository; implements `TaggedWriter`."""

    def __init__(
        self, url: str, registry: MemoryRegistry, before: Callable[[str], None]
    ) -> None:
        self.url = url
        self._registry = registry
        self._before = before

    @property
    def _held(self) -> Contents:
        return self._registry.at(self.url)

    def manifest(
        self,
        reference: str,
        *,
        limit: int = 4 << 20,
        tick: Callable[[int], None] | None = None,
    ) -> tuple[bytes, str]:
        del limit, tick
        self._before(f"get {reference}")
        digest = self._held.tags.get(reference, reference)
        data = self._held.manifests.get(digest)
        if data is None:
            raise FetchError(f"no {reference}", url=self.url, missing=True)
        return data, ""

    @contextmanager
    def open_blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        del tick
        self._before(f"get {what.digest}")
        held = self._held.manifests if is_manifest(what) else self._held.blobs
        data = held.get(str(what.digest))
        if data is None:
            raise FetchError(f"no {what.digest}", url=self.url, missing=True)
        stream = io.BytesIO(data[start:])
        left = what.size - start
        yield BoundedStream(stream.readinto, left=left, url=self.url).as_binary()

    def has_blob(self, what: Descriptor) -> bool:
        self._before(f"head {what.digest}")
        held = self._held.manifests if is_manifest(what) else self._held.blobs
        return str(what.digest) in held

    def put_blob(
        self,
        what: Descriptor,
        data: BinaryIO,
        *,
        tick: Callable[[int], None] | None = None,
    ) -> bool:
        del tick
        self._before(f"put {what.digest}")
        found = read_exact(what, data, subject=str(what.digest))
        known = str(what.digest) in self._held.blobs
        self._held.blobs[str(what.digest)] = found
        return not known

    def put_manifest(
        self, data: bytes, media_type: str, *, tag: str | None = None
    ) -> Digest:
        del media_type
        self._before(f"put {tag}")
        digest = Digest.of(data)
        self._held.manifests[str(digest)] = data
        if tag is not None:
            self._held.tags[tag] = str(digest)
        return digest

    def tags(self, *, most: int = 10_000) -> Iterator[str]:
        yield from islice(sorted(self._held.tags), most)

    def delete_manifest(self, digest: Digest) -> None:
        self._before(f"delete {digest}")
        self._held.manifests.pop(str(digest), None)
        self._held.tags = {
            tag: one for tag, one in self._held.tags.items() if one != str(digest)
        }


class EveryRepository:
    """Content of a memory registry by location; implements `ContentSources`."""

    def __init__(self, registry: MemoryRegistry) -> None:
        self._registry = registry

    def sources(self, locations: Sequence[str]) -> Sequence[Source]:
        return [self._registry.source(one) for one in locations]


@dataclass
class TaggedVendor(Vendor):
    """A vendor whose repository lies in a registry, made in a directory before."""

    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    root: bytes = b""

    @classmethod
    def moved(
        cls,
        directory: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        others: Sequence[ReleaseName] = (),
        release: str | None = None,
    ) -> Self:
        """Return a vendor of acme/pump-monitor that works in the registry alone.

        Args:
            directory: where the repository lay before.
            monkeypatch: lets `oci://` lead to the registry.
            others: more applications.
            release: a version of each application that is published there.
        """
        found = cls(directory)
        found.create_with_pump()
        if others:
            with found.repository.edit(found.keys, clock=found.clock) as edit:
                for name in others:
                    edit.add_application(name, [key("ci").public_key], policy=OPEN)
        found.move()
        found.registry.install(monkeypatch)
        if release is not None:
            for name in (PUMP, *others):
                found.publish_there(found.release(release, name=name))
        return found

    def move(self) -> None:
        """Put the repository of the directory into the registry."""
        self.root = self.repository.root
        sink = TaggedSink(self.registry.repository(TRUST))
        for path in sorted((self.trust / "metadata").iterdir()):
            if path.name != "timestamp.json":
                sink.put_metadata(path.name, path.read_bytes())
        for path in sorted((self.trust / "targets").rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                what = Descriptor.of(data, "application/octet-stream")
                sink.put_target(target_path("x"), what, io.BytesIO(data))
        timestamp = (self.trust / "metadata" / "timestamp.json").read_bytes()
        sink.put_metadata("timestamp.json", timestamp)

    def at_registry(self, before: Callable[[str], None] = nothing) -> Repository:
        """Open the repository in the registry."""
        return self.registry.open(self.root, before)

    def publish_there(
        self,
        *releases: Release,
        before: Callable[[str], None] = nothing,
        **options: Any,
    ) -> Published:
        options.setdefault("keys", [key("ci")])
        return publish(self.at_registry(before), releases, clock=self.clock, **options)

    def device_there(self, store: TrustStore | None = None) -> Verifier:
        """Return a device's verifier, a fresh one without a store."""
        return Verifier(
            store=store
            or TrustStore.unsafe_without_memory(root=self.root, publishers=None),
            source=self.registry.source(),
            content=EveryRepository(self.registry),
            policy=DEVICE_POLICY,
            clock=self.clock,
        )

    def newest_there(self, name: ReleaseName = PUMP) -> str:
        """Return what a fresh device would install, content and all."""
        device = self.device_there()
        release = device.verify(name, Pin.range("*", grammar="npm"))
        target = self.directory / "fetched"
        device.fetch(release, target)
        shutil.rmtree(target)
        return str(release.version)
