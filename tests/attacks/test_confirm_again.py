"""What was fetched once is confirmed where, or when, it must not lower a floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import ReleaseFloorError
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

PUMP = ReleaseName.parse("acme/pump-monitor")


def test_one_artifact_of_two_applications(tmp_path: Path) -> None:
    """confirm_running takes the newest fetched name alone: the pump gets no floor."""
    world = World()
    world.release("2.0.0", content=b"same")
    world.release("1.0.0")
    world.release("2.0.0", "acme/valve", content=b"same")
    world.publish()
    device = world.device(tmp_path)
    pump = device.fetch(slot="pump").release.manifest.digest
    device.fetch("acme/valve", slot="valve")
    device.verifier.confirm_running(pump, slot="pump")
    with pytest.raises(ReleaseFloorError):
        device.verify(pin="1.0.0", slot="pump")


def test_a_downgrade_that_is_allowed_no_longer(tmp_path: Path) -> None:
    """The flag of a fetch long ago lets a later confirmation lower the floor."""
    world = World()
    old = world.release("1.0.0")
    world.release("1.1.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.1.0"
    world.set_policy(
        str(PUMP), PublisherPolicy(epoch=1, provenance="none", downgrade_to=(old,))
    )
    device.source.files = world.publish()
    assert device.install(pin="1.0.0") == "1.0.0"
    world.set_policy(str(PUMP), PublisherPolicy(epoch=1, provenance="none"))
    world.release("2.0.0")
    device.source.files = world.publish()
    assert device.install() == "2.0.0"
    with pytest.raises(ReleaseFloorError):
        device.verifier.confirm_running(old)
