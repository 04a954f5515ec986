"""Epochs: an absurd version is undone, and the undoing is no way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import NoMatchingVersionError, ReleaseFloorError
from margo_supplychain.formats.names import ReleaseName, publisher_patterns
from margo_supplychain.formats.publisher_policy import MAX_EPOCH, PublisherPolicy
from margo_supplychain.formats.versions import Version
from tests.attacks.standing import refused
from tests.world import World
from tests.world.repository import key

if TYPE_CHECKING:
    from pathlib import Path

PUMP = ReleaseName.parse("acme/pump-monitor")
SIMPLE = b'[policy."acme/*"]\nrequire = ["signed"]\nallow-simple-profile = true\n'


def set_epoch(world: World, epoch: int, minimum: str | None = None) -> None:
    world.set_policy(
        str(PUMP),
        PublisherPolicy(
            epoch=epoch,
            provenance="none",
            minimum_version=Version.parse(minimum) if minimum else None,
        ),
    )


def test_epoch_lowered(tmp_path: Path) -> None:
    """A policy with a lower epoch is no way to older releases, nor to newer ones."""
    world = World()
    world.release("1.0.0")
    set_epoch(world, 2)
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane

    set_epoch(world, 1)
    world.release("2.0.0")
    device.source.files = world.publish()
    with refused(
        device,
        ReleaseFloorError,
        "release-floor",
        match=r"2\.0\.0 \(epoch 1\) is not newer than 1\.0\.0 \(epoch 2\)",
        newer=True,
    ):
        device.verify()


def test_an_absurd_version_of_a_stolen_ci_key(tmp_path: Path) -> None:
    """999.0.0 bars every real release until the offline key raises the epoch."""
    world = World()
    world.release("1.0.0")
    world.release("999.0.0", content=b"mallory's")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "999.0.0"

    del world.roles[PUMP.role].targets[PUMP.release_path("999.0.0")]
    world.release("1.0.1")
    device.source.files = world.publish()
    with refused(device, ReleaseFloorError, "release-floor", match="999", newer=True):
        device.verify()

    set_epoch(world, 2, minimum="1.0.1")
    device.source.files = world.publish()
    with refused(
        device,
        NoMatchingVersionError,
        "no-matching-version",
        match=r"below the publisher's minimum",
        newer=True,
    ):
        device.verify(pin="1.0.0")
    assert device.install() == "1.0.1"
    floor = device.memory.releases["default"][PUMP]
    assert (floor.epoch, str(floor.version)) == (2, "1.0.1")


@pytest.mark.parametrize("profile", ["standard", "simple"])
def test_an_absurd_epoch_of_a_stolen_publisher_key(
    tmp_path: Path, profile: str
) -> None:
    """The highest epoch falls with the key that said it; the version stays a floor."""
    world = World(profile=profile)
    world.release("1.0.0")
    set_epoch(world, MAX_EPOCH)
    world.publish()
    device = world.device(tmp_path, policy=SIMPLE)
    assert device.install() == "1.0.0"

    # The publisher writes a sane policy again: the floor of its stolen key stands.
    set_epoch(world, 2)
    world.release("1.1.0")
    world.release("0.9.0")
    device.source.files = world.publish()
    with refused(
        device,
        ReleaseFloorError,
        "release-floor",
        match=f"epoch {MAX_EPOCH}",
        newer=True,
    ):
        device.verify()

    # The operator replaces the key.
    if profile == "simple":
        world.rotate("targets", "targets-2")
        world.touch("targets")
    else:
        world.delegate(
            "targets", "acme", publisher_patterns("acme"), signer=key("acme-2")
        )
    device.source.files = world.publish()
    with refused(
        device,
        ReleaseFloorError,
        "release-floor",
        match=r"0\.9\.0 \(epoch 2\) is not newer than 1\.0\.0 \(epoch 2\)",
        newer=True,
    ):
        device.verify(pin="0.9.0")
    assert device.install() == "1.1.0"
    assert device.memory.releases["default"][PUMP].epoch == 2
