"""Mallory, with stolen keys, pushes versions so far that honest ones look old.

The device must come back: once the operator has replaced the stolen keys, the floors
that they earned fall (TUF 5.3.11), and no others.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import (
    ExpiredError,
    FetchError,
    RollbackError,
    ThresholdError,
)
from tests.attacks.scenes import APPLICATION, refused, running
from tests.world.repository import DAYS, bound, issued, key

if TYPE_CHECKING:
    from pathlib import Path

HIGHEST = 2**53 - 1  # no JSON reader takes more


def test_fast_forward_of_timestamp(tmp_path: Path) -> None:
    """Mallory holds timestamp's key and signs the highest version there is; honest
    timestamps are refused until that key is replaced, then the device is back."""
    plant = running(tmp_path)
    world, device = plant.world, plant.device

    world.roles["timestamp"].version = HIGHEST - 1
    world.publish_timestamp()
    plant.serve()
    assert device.version() == "1.1.0"  # validly signed, so it is believed
    poisoned = world.files.metadata["timestamp.json"]
    world.roles["timestamp"].version = 3
    world.release("1.2.0")
    world.publish()
    plant.serve()
    refused(
        device,
        RollbackError,
        "rollback",
        f"timestamp v4 is older than trusted v{HIGHEST}",
        last="timestamp.json",
    )

    world.rotate("timestamp", "timestamp-2")
    world.publish_timestamp()
    plant.serve()
    assert device.install() == "1.2.0"
    assert device.trusted["timestamp"] == 5

    # The stolen key is worth nothing any more.
    device.source.files.metadata["timestamp.json"] = poisoned
    refused(device, ThresholdError, "threshold", f"timestamp v{HIGHEST} has 0 of 1")


def test_fast_forward_of_snapshot_by_its_announcement(tmp_path: Path) -> None:
    """Mallory holds timestamp's key alone and announces a snapshot that can't exist:
    what that key announced falls with it."""
    plant = running(tmp_path)
    world, device = plant.world, plant.device

    world.bump("timestamp", 4)
    world.roles["timestamp"].snapshot_meta = bound(HIGHEST, b"nothing")
    world.files.metadata["timestamp.json"] = world.sign("timestamp")
    plant.serve()
    refused(
        device,
        FetchError,
        "fetch",
        f"no {HIGHEST}.snapshot.json",
        moved=["timestamp"],
    )
    world.publish_timestamp()
    plant.serve()
    refused(
        device,
        RollbackError,
        "rollback",
        f"snapshot v3 is older than trusted v{HIGHEST}",
        last="timestamp.json",
    )

    world.rotate("timestamp", "timestamp-2")
    world.publish_online()
    plant.serve()
    assert device.install() == "1.1.0"
    assert device.trusted["snapshot"] == 4


def test_fast_forward_of_snapshot(tmp_path: Path) -> None:
    """Mallory holds snapshot's and timestamp's keys; both must be replaced, and
    replacing timestamp's alone brings nothing back."""
    plant = running(tmp_path)
    world, device = plant.world, plant.device

    world.roles["snapshot"].version = HIGHEST - 1
    world.publish_online()
    plant.serve()
    assert device.trusted["snapshot"] == 3
    assert device.version() == "1.1.0"
    assert device.trusted["snapshot"] == HIGHEST

    world.roles["snapshot"].version = 3
    world.rotate("timestamp", "timestamp-2")
    world.publish_online()
    plant.serve()
    refused(
        device,
        RollbackError,
        "rollback",
        f"snapshot v4 is older than trusted v{HIGHEST}",
        last="timestamp.json",
        moved=["root", "timestamp", "timestamp_time"],
    )

    world.rotate("snapshot", "snapshot-2")
    world.publish_online()
    plant.serve()
    assert device.install() == "1.1.0"
    assert (device.trusted["snapshot"], device.trusted[APPLICATION]) == (5, 2)


def test_fast_forward_of_listed_roles(tmp_path: Path) -> None:
    """Mallory, with snapshot's and timestamp's keys, lists versions of roles that do
    not exist; what snapshot's key said of roles falls with that key."""
    plant = running(tmp_path)
    world, device = plant.world, plant.device
    meta = world.roles["snapshot"].meta
    honest = dict(meta)

    for name in honest:
        meta[name] = bound(HIGHEST, b"nothing")
    world.publish_online()
    plant.serve()
    refused(
        device,
        FetchError,
        "fetch",
        f"no {HIGHEST}.targets.json",
        moved=["timestamp", "snapshot"],
    )
    meta.update(honest)
    world.publish_online()
    plant.serve()
    error = refused(
        device, RollbackError, "rollback", "is older than trusted", moved=["timestamp"]
    )
    assert error.trusted == HIGHEST

    world.rotate("timestamp", "timestamp-2")
    world.rotate("snapshot", "snapshot-2")
    world.publish_online()
    plant.serve()
    assert device.install() == "1.1.0"
    assert device.trusted[APPLICATION] == 2


def test_fast_forward_of_an_application_role(tmp_path: Path) -> None:
    """Mallory holds a CI key and signs the highest version of its role, which the
    repository lists; other applications live on, and new snapshot keys bring it back.
    """
    plant = running(tmp_path)
    world, device = plant.world, plant.device
    world.release("7.0.0", "acme/door-sensor")
    world.roles[APPLICATION].version = HIGHEST - 1
    world.touch(APPLICATION)
    world.publish()
    plant.serve()
    assert device.version() == "1.1.0"
    assert device.trusted[APPLICATION] == HIGHEST

    # The publisher replaces the key and goes on where versions were.
    publisher = world.roles["acme"]
    publisher.revoke_key(key(APPLICATION).public_key.keyid, APPLICATION)
    publisher.add_key(key("ci-2").public_key, APPLICATION)
    world.signers[APPLICATION] = [key("ci-2")]
    world.roles[APPLICATION].version = 2
    world.touch("acme", APPLICATION)
    world.publish()
    plant.serve()
    refused(
        device,
        RollbackError,
        "rollback",
        f"{APPLICATION} v3 is older than trusted v{HIGHEST}",
        moved=["timestamp"],
    )

    world.rotate("snapshot", "snapshot-2")
    world.publish_online()
    plant.serve()
    assert device.install() == "1.1.0"
    assert device.version("acme/door-sensor") == "7.0.0"
    assert device.trusted[APPLICATION] == 3


def test_application_role_goes_on_after_a_stolen_key(tmp_path: Path) -> None:
    """Mallory leaves room above her version: the publisher counts on from there with a
    new key, and nobody else has to do anything."""
    plant = running(tmp_path)
    world, device = plant.world, plant.device
    world.roles[APPLICATION].version = 1_000_000
    world.touch(APPLICATION)
    world.publish()
    plant.serve()
    assert device.version() == "1.1.0"

    publisher = world.roles["acme"]
    publisher.revoke_key(key(APPLICATION).public_key.keyid, APPLICATION)
    publisher.add_key(key("ci-2").public_key, APPLICATION)
    stolen, world.signers[APPLICATION] = world.signers[APPLICATION], [key("ci-2")]
    world.release("1.2.0")
    world.touch("acme")
    world.publish()
    plant.serve()
    assert device.install() == "1.2.0"
    assert device.trusted[APPLICATION] == 1_000_002

    # The stolen key signs nothing that counts.
    world.bump(APPLICATION, 180)
    world.write(APPLICATION, world.sign(APPLICATION, stolen))
    world.publish_online()
    plant.serve()
    refused(
        device,
        ThresholdError,
        "threshold",
        f"{APPLICATION} v1000003 has 0 of 1",
        moved=["timestamp", "snapshot"],
    )


def test_fast_forward_of_the_signed_time(tmp_path: Path) -> None:
    """Mallory, with timestamp's key, signs a time days ahead, so that honest files look
    expired: that floor falls with the key, and no floor of another key does."""
    plant = running(tmp_path)
    world, device = plant.world, plant.device
    now = world.clock.when

    world.bump("timestamp", 300)
    timestamp = world.roles["timestamp"]
    timestamp.unrecognized_fields["x-issued"] = issued(now + timedelta(days=13))
    world.files.metadata["timestamp.json"] = world.sign("timestamp")
    plant.serve()
    assert device.version() == "1.1.0"
    assert device.memory.time_floor == now + timedelta(days=13)
    world.publish_online()
    plant.serve()
    refused(device, ExpiredError, "expired", "timestamp v5 expired .* signed time")

    world.clock.advance(hours=1)
    world.rotate("timestamp", "timestamp-2")
    world.publish_online(DAYS)
    plant.serve()
    assert device.install() == "1.1.0"
    assert device.memory.time_floor == world.clock.when


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_recovery_is_durable_though_the_rest_fails(tmp_path: Path, role: str) -> None:
    """The new root arrives and the new timestamp does not: the floors have fallen on
    disk too, and the next call goes on from there."""
    plant = running(tmp_path)
    world, device = plant.world, plant.device
    world.roles["timestamp"].version = HIGHEST - 1
    world.roles["snapshot"].version = HIGHEST - 1 if role == "snapshot" else 3
    world.publish_online()
    plant.serve()
    device.refresh()

    world.roles["timestamp"].version = 3
    world.roles["snapshot"].version = 3
    world.rotate("timestamp", "timestamp-2")
    if role == "snapshot":
        world.rotate("snapshot", "snapshot-2")
    half = device.source.files.copy()
    half.metadata |= {
        name: data
        for name, data in world.files.metadata.items()
        if name.endswith(".root.json")
    }
    device.source.files = half
    refused(
        device,
        ThresholdError,
        "threshold",
        "timestamp v.* has 0 of 1",
        moved=["root", "timestamp", "timestamp_time", "snapshot"],
    )
    assert device.memory.timestamp is None
    assert (device.memory.snapshot is None) is (role == "snapshot")

    world.roles["snapshot"].version = HIGHEST - 1 if role == "timestamp" else 3
    world.publish_online()
    plant.serve()
    assert device.install() == "1.1.0"
