"""Copies between directories, layouts, tars and a real registry, in every direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import FetchError, RollbackError
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.pins import Pin
from margo_supplychain.transport.mirrors import MirroredContent, MirrorMap
from margo_supplychain.transport.opening import open_sink, open_source
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.authoring.copies import KINDS, copy, fill, home, place
from tests.authoring.trust import DEVICE_POLICY, PUMP, VALVE, Vendor
from tests.registries.servers import docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from margo_supplychain.formats.names import ReleaseName
    from tests.registries.servers import DockerRegistry

# A layout has the empty config already, of its metadata; so has a trust repository.
BLOBS = {"directory": 7, "oci-layout": 6, "oci-archive": 6, "oci": 7}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def filled(vendor: Vendor) -> Vendor:
    return fill(vendor)


def fetch(
    vendor: Vendor,
    at: str,
    name: ReleaseName,
    pin: str,
    registry: DockerRegistry,
    *,
    mirrors: MirrorMap | None = None,
) -> None:
    """Do what a device does that was told of `at`, and of `mirrors`."""
    network = registry.network()
    source = open_source(at, network=network)
    is_registry = at.startswith("oci://")
    verifier = Verifier(
        store=TrustStore.unsafe_without_memory(root=vendor.repository.root),
        source=source,
        content=MirroredContent(
            mirrors or MirrorMap({}),
            network=network,
            before=[] if is_registry else [source],
            always=[source] if is_registry else [],
        ),
        policy=DEVICE_POLICY,
        clock=vendor.clock,
    )
    release = verifier.verify(name, Pin.parse_argument(pin))
    verifier.fetch(release, vendor.directory / "fetched")


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(
    filled: Vendor, registry: DockerRegistry, tmp_path: Path, kind: str
) -> None:
    there = place(kind, filled, "there", registry)
    done = copy(filled, str(filled.trust), there, registry)
    assert (done.releases, done.blobs_new) == (3, BLOBS[kind])
    again = copy(filled, str(filled.trust), there, registry)
    assert not again.changed, again
    assert again.blobs_there == done.blobs_new + done.blobs_there

    back = place("directory", filled, "back", registry)
    returned = copy(filled, there, back, registry)
    assert returned.releases == 3
    fetch(filled, back, PUMP, "1.1.0", registry)
    fetch(filled, back, VALVE, "1.0.0", registry)
    for part in ("metadata", "targets", "blobs"):
        for path in (tmp_path / "back" / part).rglob("*"):
            origin = filled.trust / path.relative_to(tmp_path / "back")
            if path.is_file():
                assert origin.read_bytes() == path.read_bytes()

    filled.publish("1.2.0")
    grown = copy(filled, str(filled.trust), there, registry)
    assert grown.blobs_new == 2
    with pytest.raises(RollbackError):
        copy(filled, back, there, registry)


def test_from_registry_to_registry(filled: Vendor, registry: DockerRegistry) -> None:
    origin = place("oci", filled, "origin", registry)
    mirror = place("oci", filled, "mirror", registry)
    copy(filled, str(filled.trust), origin, registry)
    done = copy(filled, origin, mirror, registry)
    assert done.blobs_new == 7
    parents = [one.rpartition("/")[0] for one in (origin, mirror)]
    assert done.mirrors == {
        parents[0]: (parents[1],),
        "oci://registry.example/acme": (parents[1],),
    }
    there = open_source(home(mirror, PUMP), network=registry.network())
    assert there.resolve("1.1.0") == filled.release("1.1.0").artifact  # type: ignore[attr-defined]  # a TaggedSource
    mirrors = MirrorMap(done.mirrors)
    fetch(filled, mirror, PUMP, "1.1.0", registry, mirrors=mirrors)


def test_garbage_collection_takes_nothing(
    filled: Vendor, registry: DockerRegistry
) -> None:
    at = place("oci", filled, "kept", registry)
    copy(filled, str(filled.trust), at, registry)
    registry.collect_garbage()
    assert not copy(filled, str(filled.trust), at, registry).changed


def test_a_killed_run_left_a_target_without_a_tag(
    filled: Vendor, registry: DockerRegistry
) -> None:
    at = place("oci", filled, "untagged", registry)
    repository = open_sink(at, network=registry.network())
    (record,) = (filled.trust / "targets/acme/releases/valve").iterdir()
    data = record.read_bytes()
    what = Descriptor.of(data, "application/octet-stream")
    with record.open("rb") as stream:
        repository.put_blob(what, stream)
    copy(filled, str(filled.trust), at, registry)
    registry.collect_garbage()
    fetch_back = place("directory", filled, "back", registry)
    assert copy(filled, at, fetch_back, registry).listed == 3


def test_nothing_is_there(filled: Vendor, registry: DockerRegistry) -> None:
    for kind in KINDS:
        nowhere = place(kind, filled, "nowhere", registry)
        with pytest.raises(FetchError):
            copy(filled, nowhere, str(filled.directory / "to"), registry)
