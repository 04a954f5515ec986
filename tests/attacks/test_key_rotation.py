"""Keys are replaced: that opens nothing, and what was replaced signs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import (
    BudgetError,
    ReleaseFloorError,
    RollbackError,
    ThresholdError,
)
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.verify.limits import Limits
from tests.attacks.scenes import APPLICATION, LISTED, refused, running
from tests.world.repository import bound, key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world import World


def test_snapshot_rollback_after_a_routine_rotation(tmp_path: Path) -> None:
    """The operator replaces timestamp's key, as every year. Mallory, with the new one,
    names the old snapshot: its floor is not timestamp's to lose."""
    plant = running(tmp_path)
    world = plant.world
    world.rotate("timestamp", "timestamp-2")
    world.publish_timestamp()
    plant.serve()
    assert plant.device.version() == "1.1.0"  # sane

    world.rotate("timestamp", "timestamp-3")
    world.roles["timestamp"].version = 1
    world.roles["timestamp"].snapshot_meta = bound(
        2, plant.old.metadata["2.snapshot.json"]
    )
    world.files.metadata["timestamp.json"] = world.sign("timestamp")
    plant.serve()
    refused(
        plant.device,
        RollbackError,
        "rollback",
        "snapshot v2 is older than trusted v3",
        last="timestamp.json",
        moved=["root", "timestamp", "timestamp_time"],
    )


@pytest.mark.parametrize("role", LISTED)
def test_role_rollback_after_a_routine_rotation(tmp_path: Path, role: str) -> None:
    """The same for a role: timestamp's new key and snapshot's stolen one together
    bring no role back."""
    plant = running(tmp_path)
    world = plant.world
    trusted = plant.device.trusted[role]

    world.rotate("timestamp", "timestamp-2")
    name = f"{trusted - 1}.{role}.json"
    world.roles["snapshot"].meta[f"{role}.json"] = bound(
        trusted - 1, plant.old.metadata[name]
    )
    world.publish_online()
    plant.serve()
    refused(
        plant.device,
        RollbackError,
        "rollback",
        f"{role} v{trusted - 1} is older than trusted v{trusted}",
        last="4.snapshot.json",
        moved=["root", "timestamp", "timestamp_time"],
    )


def test_release_rollback_after_a_rotation_of_all_online_keys(tmp_path: Path) -> None:
    """All online keys are replaced, so that all their floors fall, and Mallory gets
    the new ones: the release that the slot was confirmed to run stays its floor."""
    plant = running(tmp_path)
    world = plant.world
    world.rotate("timestamp", "timestamp-2")
    world.rotate("snapshot", "snapshot-2")
    old = plant.old.metadata[f"1.{APPLICATION}.json"]
    world.roles["snapshot"].meta[f"{APPLICATION}.json"] = bound(1, old)
    world.publish_online()
    plant.serve()
    error = refused(
        plant.device,
        ReleaseFloorError,
        "release-floor",
        "acme/pump-monitor 1.0.0 .* is not newer than 1.1.0",
        moved=["root", "timestamp", "snapshot", "timestamp_time", "root_time"],
    )
    assert error.floor == "1.1.0"
    assert plant.device.trusted[APPLICATION] == 1  # its metadata may be that old again


def rotate_root(world: World, *names: str, threshold: int = 1) -> bytes:
    """Replace root's keys; return the new root, signed by old and new ones."""
    world.root.roles["root"].threshold = threshold
    world.rotate("root", *names)
    return world.files.metadata[file_name("root", world.root.version)]


def test_600_root_rotations(tmp_path: Path) -> None:
    """A device that slept through 600 changes of root's key catches up in one call."""
    plant = running(tmp_path)
    for number in range(600):
        rotate_root(plant.world, f"root-{number % 7}-{number}")
    plant.serve()

    plant.device.source.asked.clear()
    assert plant.device.version() == "1.1.0"
    assert plant.device.trusted["root"] == 601
    assert plant.device.source.asked[600:] == ["602.root.json", "timestamp.json"]


def test_endless_root_rotations(tmp_path: Path) -> None:
    """Mallory, once root, signs roots without end: each call is bounded, what was
    followed is kept, and the next call goes on from there."""
    plant = running(tmp_path)
    for number in range(12):
        rotate_root(plant.world, f"root-{number}")
    plant.serve()
    plant.device.limits = Limits(root_rotations=5)

    for version in (6, 11):
        refused(
            plant.device,
            BudgetError,
            "budget",
            "followed 5 roots and there are more",
            last=f"{version}.root.json",
            moved=["root"],
        )
        assert plant.device.trusted["root"] == version
    assert plant.device.version() == "1.1.0"


def test_removed_root_key_signs_the_next_root(tmp_path: Path) -> None:
    """Root's key was stolen and replaced; Mallory signs the root after that with it,
    alone and beside a key of her own."""
    plant = running(tmp_path)
    world = plant.world
    stolen = world.signers["root"][0]
    rotate_root(world, "root-2")
    plant.serve()
    assert plant.device.version() == "1.1.0"
    assert plant.device.trusted["root"] == 2  # sane

    world.root.roles["root"].keyids.clear()
    world.root.add_key(key("mallory").public_key, "root")
    world.bump("root", 730)
    for signers in ([stolen], [stolen, key("mallory")]):
        forged = world.sign("root", signers)
        plant.device.source.files.metadata["3.root.json"] = forged
        refused(
            plant.device,
            ThresholdError,
            "threshold",
            "root v3 has 0 of 1 required signatures",
            last="3.root.json",
        )


def test_new_root_without_the_old_threshold(tmp_path: Path) -> None:
    """Two of two old keys must sign the next root; Mallory has one of them and all the
    new ones."""
    plant = running(tmp_path)
    world = plant.world
    rotate_root(world, "root-a", "root-b", threshold=2)
    plant.serve()
    assert plant.device.version() == "1.1.0"  # sane

    rotate_root(world, "root-c", "root-d", threshold=2)
    signers = [key("root-a"), key("root-c"), key("root-d")]
    plant.device.source.files.metadata["3.root.json"] = world.sign("root", signers)
    error = refused(
        plant.device,
        ThresholdError,
        "threshold",
        "root v3 has 1 of 2 required signatures",
        last="3.root.json",
    )
    assert error.missing == (key("root-b").public_key.keyid,)


def test_new_root_without_its_own_threshold(tmp_path: Path) -> None:
    """The old keys sign a root that its own keys do not carry: no device could ever
    follow it, so none accepts it."""
    plant = running(tmp_path)
    world = plant.world
    rotate_root(world, "root-a", "root-b", threshold=2)

    signers = [key("root"), key("root-a")]
    plant.device.source.files.metadata["2.root.json"] = world.sign("root", signers)
    error = refused(
        plant.device,
        ThresholdError,
        "threshold",
        "root v2 has 1 of 2 required signatures",
        last="2.root.json",
    )
    assert error.missing == (key("root-b").public_key.keyid,)


def test_revoked_key_of_an_online_role(tmp_path: Path) -> None:
    """Timestamp's key was replaced; Mallory still signs newer timestamps with it, and
    the device's own copy by the old key does not count either."""
    plant = running(tmp_path)
    world = plant.world
    stolen = list(world.signers["timestamp"])
    world.rotate("timestamp", "timestamp-2")

    world.bump("timestamp", 4)
    world.files.metadata["timestamp.json"] = world.sign("timestamp", stolen)
    plant.serve()
    refused(
        plant.device,
        ThresholdError,
        "threshold",
        "timestamp v4 has 0 of 1",
        last="timestamp.json",
        moved=["root", "timestamp", "timestamp_time"],
    )
    world.publish_timestamp()
    plant.serve()
    assert plant.device.install() == "1.1.0"
