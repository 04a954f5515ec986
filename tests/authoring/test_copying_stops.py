"""A copy into a layout, tar or registry ends at any put: devices see a whole state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.copying import copy_releases
from margo_supplychain.authoring.shelves import open_shelf
from margo_supplychain.errors import ConflictError, FetchError, StorageError
from margo_supplychain.formats.pins import Pin
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.opening import FixedContent, open_sink, open_source
from margo_supplychain.transport.tagged_sink import TaggedSink
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.authoring.copies import home, place
from tests.authoring.trust import DEVICE_POLICY, PUMP, Vendor
from tests.registries.servers import docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from margo_supplychain.transport.protocols import Shelf
    from tests.registries.servers import DockerRegistry

NEWEST = Pin.range("*", grammar="npm")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def filled(vendor: Vendor) -> Vendor:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    return vendor


class StoppedError(Exception):
    """The power failed, or somebody pressed Ctrl-C."""


class Stopping:
    """A writer that stops before its n-th put."""

    def __init__(self, writer: Any, left: list[int]) -> None:
        self._writer = writer
        self._left = left

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._writer, name)
        if name not in ("put_blob", "put_manifest"):
            return found

        def put(*arguments: Any, **options: Any) -> Any:
            self._left[0] -= 1
            if self._left[0] < 0:
                raise StoppedError
            return found(*arguments, **options)

        return put


def stopping(shelf: Shelf, left: list[int]) -> Shelf:
    assert isinstance(shelf, TaggedSink)
    shelf._writer = Stopping(shelf._writer, left)
    return shelf


def run(vendor: Vendor, at: str, registry: DockerRegistry, left: list[int]) -> bool:
    network = registry.network()
    try:
        with open_shelf(at, network=network) as shelf:
            copy_releases(
                DirectorySource(vendor.trust),
                stopping(shelf, left),
                trust=trust(vendor),
                open_repository=lambda url: stopping(
                    open_sink(url, network=network), left
                ),
                clock=vendor.clock,
            )
    except StoppedError:
        return False
    return True


def trust(vendor: Vendor) -> TrustStore:
    return TrustStore.unsafe_without_memory(root=vendor.repository.root)


def seen(
    vendor: Vendor, at: str, registry: DockerRegistry, store: TrustStore | None = None
) -> str:
    network = registry.network()
    content = [at, home(at, PUMP)] if at.startswith("oci://") else [at]
    verifier = Verifier(
        store=store or trust(vendor),
        source=open_source(at, network=network),
        content=FixedContent([open_source(one, network=network) for one in content]),
        policy=DEVICE_POLICY,
        clock=vendor.clock,
    )
    release = verifier.verify(PUMP, NEWEST)
    verifier.fetch(release, vendor.directory / "fetched")
    return str(release.version)


@pytest.mark.parametrize("kind", ["oci-layout", "oci-archive", "oci"])
def test_stopped_at_every_put(
    filled: Vendor, registry: DockerRegistry, kind: str
) -> None:
    at = place(kind, filled, "copy", registry)
    put = 0
    while not run(filled, at, registry, [put]):
        with pytest.raises(FetchError) as caught:
            seen(filled, at, registry)
        assert caught.value.exit_status == 4
        put += 5
    assert put > 10
    store = trust(filled)
    assert seen(filled, at, registry, store) == "1.0.0"

    filled.publish("1.1.0")
    put = 0
    while not run(filled, at, registry, [put]):
        assert seen(filled, at, registry, store) == "1.0.0"
        assert seen(filled, at, registry) == "1.0.0"
        put += 1
    assert put > 5
    assert seen(filled, at, registry, store) == "1.1.0"


# --- others at the same time ---------------------------------------------------------


class Racing(DirectorySource):
    """While its content is read, somebody else writes to the target."""

    def __init__(self, directory: Path, target: Path) -> None:
        super().__init__(directory)
        self._file = target / "metadata" / "timestamp.json"

    def blob(self, *arguments: Any, **options: Any) -> Any:
        self._file.write_bytes(b"somebody else's")
        return super().blob(*arguments, **options)


def test_somebody_else_writes_to_the_target(filled: Vendor) -> None:
    mirror = filled.directory / "mirror"
    with (
        open_shelf(str(mirror)) as shelf,
        pytest.raises(ConflictError, match="another timestamp than when this began"),
    ):
        copy_releases(
            Racing(filled.trust, mirror),
            shelf,
            trust=trust(filled),
            clock=filled.clock,
        )
    data = (mirror / "metadata" / "timestamp.json").read_bytes()
    assert data == b"somebody else's"


@pytest.mark.parametrize(
    ("error", "warnings"),
    [
        (ConflictError("somebody verified just now"), 0),
        (StorageError("the disk is full", path="state"), 1),
    ],
)
def test_a_memory_that_keeps_nothing(
    filled: Vendor,
    error: Exception,
    warnings: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def keep(*_: object) -> None:
        raise error

    monkeypatch.setattr(TrustStore, "keep", keep)
    store = trust(filled)
    with open_shelf(str(filled.directory / "mirror")) as shelf:
        done = copy_releases(
            DirectorySource(filled.trust), shelf, trust=store, clock=filled.clock
        )
    assert len(done.warnings) == warnings
    assert done.releases == 1
