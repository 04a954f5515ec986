"""How much is asked: requests and connections, counted between client and registry."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.references import RegistryReference
from margo_supplychain.transport.network import Network
from margo_supplychain.transport.oci_registry import RegistryRepository
from tests.attacks.packages import artifact
from tests.registries.between import Between
from tests.registries.hostile import HostileRegistry
from tests.registries.plant import CONTENT, TRUST, plant_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.registries.plant import Plant

MANY: Final = 200
AT_ONCE: Final = 4


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    """A plant whose next release has 200 small blobs."""
    with HostileRegistry() as registry:
        plant = plant_on(registry, tmp_path)
        layers: list[tuple[str, str | None, bytes]] = [
            ("application/wasm", f"{number}.wasm", b"module %d" % number)
            for number in range(MANY)
        ]
        plant.release("2.0.0", artifact=artifact(plant.world, layers))
        yield plant


@pytest.fixture
def relay(plant: Plant) -> Iterator[Between]:
    """Counts what the device asks."""
    with Between(to=plant.registry.host) as relay:
        plant.device.trust = f"oci://{relay.host}/{TRUST}"
        plant.device.content = (f"oci://{relay.host}/{CONTENT}",)
        yield relay


def test_release_of_many_small_blobs(plant: Plant, relay: Between) -> None:
    """One request for each blob beyond the manifest, four at a time."""
    assert plant.device.install() == "2.0.0"
    asked = [one for one in relay.passed if f"/{CONTENT}/blobs/" in one.path]
    # The empty config is there already.
    assert len(asked) == MANY
    assert {one.method for one in relay.passed} == {"GET"}
    assert len({one.path for one in asked}) == MANY
    assert relay.count("GET", f"/{CONTENT}/manifests/") == 1
    assert relay.connections <= 2 * AT_ONCE


def test_device_that_is_up_to_date(plant: Plant, relay: Between) -> None:
    """Is there a newer root, and what is the timestamp: two requests, one line."""
    assert plant.device.install() == "2.0.0"
    relay.passed.clear()
    before = relay.connections
    plant.device.refresh()
    assert [one.path.rpartition("/")[2] for one in relay.passed] == [
        "2.root",
        "timestamp",
    ]
    assert relay.connections - before <= 1


def test_content_that_is_there_is_not_asked_for(plant: Plant, relay: Between) -> None:
    assert plant.device.install() == "2.0.0"
    relay.passed.clear()
    assert plant.device.install() == "2.0.0"
    assert relay.count("GET", f"/{CONTENT}/") == 0


def test_content_is_pushed_once() -> None:
    """A small blob takes three requests the first time, and one after that."""
    with HostileRegistry() as registry, Between(to=registry.host) as relay:
        reference = RegistryReference.parse(f"oci://{relay.host}/acme/app")
        target = RegistryRepository(reference, network=Network())
        blobs = [b"blob %d" % number for number in range(20)]
        for count in (3, 1):
            relay.passed.clear()
            for data in blobs:
                what = Descriptor.of(data, "application/octet-stream")
                target.put_blob(what, io.BytesIO(data))
            assert len(relay.passed) == count * len(blobs)
        assert relay.connections == 1
