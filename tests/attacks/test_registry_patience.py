"""T-55: a registry is slow, silent, endless or busy, to hold or exhaust a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain.errors import (
    FetchError,
    LengthMismatchError,
    TooLargeError,
    TooSlowError,
)
from tests.attacks.standing import refused
from tests.registries import lies
from tests.registries.hostile import HostileRegistry
from tests.registries.plant import CONTENT, TRUST, plant_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from margo_supplychain.errors import SupplyChainError
    from tests.registries.hostile import Lie
    from tests.registries.plant import Plant

PLACES: Final = {
    "root": f"GET /v2/{TRUST}/manifests/2.root",
    "timestamp": f"GET /v2/{TRUST}/manifests/timestamp",
    "snapshot": f"GET /v2/{TRUST}/manifests/4.snapshot",
    "record": f"GET /v2/{TRUST}/blobs/",
    "manifest": f"GET /v2/{CONTENT}/manifests/",
}
WAYS: Final[dict[str, tuple[Lie, type[SupplyChainError], str]]] = {
    "silent": (lies.silent, TooSlowError, "too-slow"),
    "silent after headers": (lies.silent_after_headers, TooSlowError, "too-slow"),
    "a byte now and then": (lies.dripping, TooSlowError, "too-slow"),
    "endless": (lies.endless_chunks, TooLargeError, "too-large"),
    "busy": (lies.status(503), FetchError, "fetch"),
    "busy for a year": (
        lies.status(429, Retry_After="31536000"),
        FetchError,
        "fetch",
    ),
    "redirected in a circle": (
        lambda talk: lies.redirect(talk.server.url)(talk),
        FetchError,
        "fetch",
    ),
}


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with HostileRegistry() as registry:
        plant = plant_on(registry, tmp_path)
        plant.release("1.2.0")
        yield plant


# Who gives no answer at all is not there: what is known is good until it expires.
NO_ANSWER: Final = {("root", "silent"), ("timestamp", "silent")}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", PLACES)
def test_registry_that_wastes_time(place: str, way: str, plant: Plant) -> None:
    """Mallory answers one kind of request so that it never ends; the device gives up
    within its limits, keeps what runs, and goes on when the registry does."""
    lie, kind, code = WAYS[way]
    plant.registry.lies(PLACES[place], lie)
    if (place, way) in NO_ANSWER:
        memory = plant.device.memory
        assert plant.device.version() == "1.1.0"
        assert plant.device.memory == memory
    elif (place, way) == ("root", "endless"):
        # "There is none", however long that answer is.
        assert plant.device.version() == "1.2.0"
    else:
        if way == "endless" and place in {"record", "manifest"}:
            # Here the size is signed, and one byte more is enough to know.
            kind, code = LengthMismatchError, "length-mismatch"
        with refused(plant.device, kind, code, match=".", newer=True):
            plant.device.verify()
    assert 0 < len(plant.registry.asked(PLACES[place])) <= 6
    assert plant.registry.sent < 32 << 20
    plant.registry.is_honest_again()
    assert plant.device.install() == "1.2.0"


def test_registry_is_gone(plant: Plant) -> None:
    """The registry does not answer at all: the device lives on what it has until that
    expires, and then can't tell."""
    plant.registry.lies(".", lies.hangs_up)
    memory = plant.device.memory
    assert plant.device.version() == "1.1.0"
    assert plant.device.memory == memory
    assert len(plant.registry.seen) <= 4
    plant.device.clock.advance(days=5)
    with refused(plant.device, FetchError, "fetch", match="can't be reached"):
        plant.device.verify()
    plant.device.clock.advance(days=-5)
    plant.registry.is_honest_again()
    assert plant.device.install() == "1.2.0"
