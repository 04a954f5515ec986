"""Metadata is kept from the device until what it has is past its expiry."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import ExpiredError
from margo_supplychain.verify.clock import Freshness
from tests.attacks.scenes import LISTED, ROLES, Plant, refused
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

AT_THE_START = datetime(1970, 1, 1, tzinfo=UTC)
LONG = {"root": 700, "timestamp": 300, "snapshot": 300, "targets": 365}


def running_for_three_days(tmp_path: Path, role: str) -> Plant:
    """Return a plant whose metadata is good for months, but a role's for three days."""
    world = World()
    world.release("1.0.0")
    world.touch("root", "targets", "acme")
    old = world.publish(days={**LONG, role: 3})
    device = world.device(tmp_path / "device")
    assert device.install() == "1.0.0"
    return Plant(world, device, old)


@pytest.mark.parametrize("role", ROLES)
def test_frozen_role(tmp_path: Path, role: str) -> None:
    """Mallory serves the same files for ever; a day after the role's expiry the device
    refuses to decide by them."""
    plant = running_for_three_days(tmp_path, role)
    plant.device.clock.advance(days=2)
    assert plant.device.version() == "1.0.0"  # sane

    plant.device.clock.advance(days=1)
    error = refused(plant.device, ExpiredError, "expired", f"^{role} v[0-9] expired")
    assert error.role == role
    # Nothing that hangs on the role is asked for.
    plant.device.source.asked.clear()
    with pytest.raises(ExpiredError):
        plant.device.verify()
    later = {"root": 1, "timestamp": 2}
    assert len(plant.device.source.asked) <= later.get(role, 3)


def newer_than(plant: Plant, role: str) -> tuple[str, ...]:
    """Publish what signs a time after the expiry of `role`; return what may move."""
    world = plant.world
    if role == "timestamp":
        world.rotate("snapshot", "snapshot", keep_old=True)  # just a newer root
        return ("root",)
    if role == "root":
        world.publish_online(LONG)
        return ()
    if role == "snapshot":
        world.publish_timestamp(LONG)
        return ("timestamp",)
    world.publish_online(LONG)
    return ("timestamp", "snapshot")


@pytest.mark.parametrize("role", ROLES)
def test_frozen_role_by_a_signed_time(tmp_path: Path, role: str) -> None:
    """The device's clock stands at 1970 and Mallory freezes one role; the time that
    other roles sign shows that it has expired, and that time is not kept."""
    plant = running_for_three_days(tmp_path, role)
    plant.device.clock.when = AT_THE_START
    assert plant.device.refresh() is Freshness.UNPROVEN
    assert plant.device.version() == "1.0.0"  # sane

    plant.world.clock.advance(days=4)
    moved = newer_than(plant, role)
    plant.serve()
    floor = plant.device.memory.time_floor
    refused(
        plant.device,
        ExpiredError,
        "expired",
        f"^{role} v[0-9] expired .*, before the signed time 2026-11-25",
        moved=moved,
    )
    assert plant.device.memory.time_floor == floor


@pytest.mark.parametrize("role", LISTED)
def test_expired_role_of_one_application_is_its_own(tmp_path: Path, role: str) -> None:
    """A frozen role bars what hangs on it; the device comes back with the next file."""
    plant = running_for_three_days(tmp_path, role)
    plant.device.clock.advance(days=4)
    refused(plant.device, ExpiredError, "expired", f"^{role} v[0-9] expired")

    plant.world.clock.advance(days=4)
    plant.world.touch(role)
    plant.world.publish(days=LONG)
    plant.serve()
    assert plant.device.version() == "1.0.0"
