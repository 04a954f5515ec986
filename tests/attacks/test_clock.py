"""The device's clock is wrong, by accident or by Mallory's hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import ClockError, ExpiredError, RollbackError
from margo_supplychain.verify.clock import Freshness
from tests.attacks.scenes import refused, running

if TYPE_CHECKING:
    from pathlib import Path

YEAR = 365 * 86_400


def test_clock_fifty_years_ahead(tmp_path: Path) -> None:
    """Somebody sets the clock fifty years ahead: everything looks expired. That is the
    clock, not the repository: inconclusive, and over once the clock is set right."""
    plant = running(tmp_path)
    right = plant.device.clock.when

    plant.device.clock.advance(days=50 * 365)
    error = refused(
        plant.device, ClockError, "clock", "years after anything signed", last=None
    )
    assert error.exit_status == 4
    assert plant.device.source.asked == ["2.root.json"]

    plant.device.clock.when = right
    plant.world.release("1.2.0")
    plant.world.publish()
    plant.serve()
    assert plant.device.refresh() is Freshness.FRESH
    assert plant.device.install() == "1.2.0"


def test_clock_a_few_years_ahead(tmp_path: Path) -> None:
    """Three years can't be told from a freeze: refused, but no lock-out either."""
    plant = running(tmp_path)
    right = plant.device.clock.when

    plant.device.clock.advance(days=3 * 365)
    refused(plant.device, ExpiredError, "expired", "root v1 expired")

    plant.device.clock.when = right
    assert plant.device.version() == "1.1.0"
    assert plant.device.refresh() is Freshness.FRESH


def test_first_start_with_a_clock_ahead(tmp_path: Path) -> None:
    """A new device whose clock is fifty years ahead learns nothing wrong from it."""
    plant = running(tmp_path)
    fresh = plant.world.device(tmp_path / "fresh")
    fresh.clock.advance(days=50 * 365)
    refused(fresh, ClockError, "clock", "years after anything signed")

    fresh.clock.when = plant.device.clock.when
    assert fresh.install() == "1.1.0"


@pytest.mark.parametrize(
    ("seconds", "freshness"),
    [(1, Freshness.FRESH), (YEAR, Freshness.UNPROVEN), (56 * YEAR, Freshness.UNPROVEN)],
)
def test_clock_set_back(tmp_path: Path, seconds: int, freshness: Freshness) -> None:
    """Mallory sets the clock back so that old metadata looks current; nothing falls,
    the answer says how little is proven, and the device goes on to what is newer."""
    plant = running(tmp_path)
    memory = plant.device.memory

    plant.device.clock.advance(seconds=-seconds)
    assert plant.device.refresh() is freshness
    assert plant.device.memory == memory
    plant.device.source.files = plant.old
    refused(plant.device, RollbackError, "rollback", "timestamp v2 is older")

    plant.world.release("1.2.0")
    plant.world.publish()
    plant.serve()
    release = plant.device.verify()
    assert (str(release.version), release.freshness) == ("1.2.0", freshness)


def test_clock_set_back_does_not_unfreeze(tmp_path: Path) -> None:
    """Mallory froze the device beyond expiry, and sets its clock back: a signed time
    that was accepted is a floor that no clock undercuts."""
    plant = running(tmp_path)
    frozen = plant.world.files.copy()
    other = plant.world
    other.clock.advance(days=20)
    other.rotate("timestamp", "timestamp", keep_old=True)  # a newer root, days later
    frozen.metadata["2.root.json"] = other.files.metadata["2.root.json"]
    plant.device.source.files = frozen

    plant.device.clock.advance(days=-300)
    error = refused(
        plant.device,
        ExpiredError,
        "expired",
        "timestamp v3 expired .*, before the signed time 2026-12-11",
        moved=["root"],
    )
    assert error.now == other.clock.when
