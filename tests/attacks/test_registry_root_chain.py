"""T-56: a registry refuses, so that a device stays on an old root."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import FetchError, SupplyChainError, ThresholdError
from tests.attacks.standing import refused
from tests.registries import lies
from tests.registries.hostile import HostileRegistry
from tests.registries.plant import TRUST, plant_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.registries.plant import Plant


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    """A plant whose operator takes the timestamp's key away from a thief."""
    with HostileRegistry() as registry:
        plant = plant_on(registry, tmp_path)
        plant.world.rotate("timestamp", "timestamp-2")
        plant.world.release("1.2.0")
        plant.world.publish()
        plant.serve()
        yield plant


@pytest.mark.parametrize("number", [400, 401, 403, 405, 429, 500, 503])
def test_next_root_is_refused(number: int, plant: Plant) -> None:
    """Mallory answers with a refusal in the place of the next root; only "there is
    none" ends the chain."""
    plant.registry.lies(
        "GET .*/manifests/2.root", lies.status(number, Retry_After="9999")
    )
    with refused(plant.device, FetchError, "fetch", match=str(number)):
        plant.device.verify()
    assert not plant.registry.asked("manifests/timestamp")
    plant.registry.is_honest_again()
    assert plant.device.install() == "1.2.0"
    assert plant.device.trusted["root"] == 2


def test_next_root_is_hidden(plant: Plant) -> None:
    """Mallory hides it as if there were none, and serves what the new key signed: the
    old root does not know that key."""
    plant.registry.lies("GET .*/manifests/2.root", lies.status(404))
    with refused(plant.device, ThresholdError, "threshold", match="."):
        plant.device.verify()
    plant.registry.is_honest_again()
    assert plant.device.install() == "1.2.0"


def test_login_page_in_the_place_of_the_next_root(plant: Plant) -> None:
    """A proxy answers 200 with a page of its own."""
    page = lies.body(b"<html>log in</html>", Content_Type="text/html")
    plant.registry.lies(f"GET /v2/{TRUST}/manifests/2.root", page)
    with pytest.raises(SupplyChainError) as caught:
        plant.device.verify()
    assert caught.value.exit_status in (3, 4)
    assert plant.device.trusted["root"] == 1
    assert not plant.registry.asked("manifests/timestamp")
    plant.registry.is_honest_again()
    assert plant.device.install() == "1.2.0"
