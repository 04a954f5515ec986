"""Old metadata is served again, or under a new name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import FetchError, MixAndMatchError, RollbackError
from margo_supplychain.verify.clock import Freshness
from tests.attacks.scenes import APPLICATION, LISTED, refused, running
from tests.world.repository import bound

if TYPE_CHECKING:
    from pathlib import Path


def test_timestamp_rollback(tmp_path: Path) -> None:
    """Mallory replays an old timestamp; the device keeps the newer one."""
    plant = running(tmp_path)

    plant.device.source.files = plant.old
    error = refused(
        plant.device,
        RollbackError,
        "rollback",
        "timestamp v2 is older than trusted v3",
        last="timestamp.json",
    )
    assert (error.role, error.trusted, error.offered) == ("timestamp", 3, 2)


def test_snapshot_rollback_by_a_stolen_timestamp_key(tmp_path: Path) -> None:
    """Mallory signs a new timestamp that names an old snapshot; it is refused before
    that snapshot is fetched."""
    plant = running(tmp_path)

    world = plant.world
    world.bump("timestamp", 4)
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
    )


def test_rollback_of_a_snapshot_that_was_only_announced(tmp_path: Path) -> None:
    """The device has seen a timestamp for snapshot v4, which never arrived; Mallory,
    with timestamp's key, goes back to v3: what was announced is a floor too."""
    plant = running(tmp_path)
    plant.world.publish_online()
    announced = plant.world.files.copy()
    withheld = announced.metadata.pop("4.snapshot.json")
    plant.device.source.files = announced
    with pytest.raises(FetchError, match=r"no 4\.snapshot\.json"):
        plant.device.verify()
    assert plant.device.trusted["timestamp"] == 4  # sane

    world = plant.world
    world.bump("timestamp", 4)
    world.roles["timestamp"].snapshot_meta = bound(
        3, announced.metadata["3.snapshot.json"]
    )
    world.files.metadata["timestamp.json"] = world.sign("timestamp")
    plant.serve()
    refused(
        plant.device,
        RollbackError,
        "rollback",
        "snapshot v3 is older than trusted v4",
        last="timestamp.json",
    )
    assert withheld == world.files.metadata["4.snapshot.json"]


@pytest.mark.parametrize("role", LISTED)
def test_role_rollback_by_stolen_online_keys(tmp_path: Path, role: str) -> None:
    """Mallory holds snapshot's and timestamp's keys and lists an older version of a
    role that is still validly signed; no role goes back."""
    plant = running(tmp_path)
    trusted = plant.device.trusted[role]

    name = f"{trusted - 1}.{role}.json"
    plant.world.roles["snapshot"].meta[f"{role}.json"] = bound(
        trusted - 1, plant.old.metadata[name]
    )
    plant.world.publish_online()
    plant.serve()
    error = refused(
        plant.device,
        RollbackError,
        "rollback",
        f"{role} v{trusted - 1} is older than trusted v{trusted}",
        last="4.snapshot.json",
        moved=["timestamp"],
    )
    assert error.role == role


@pytest.mark.parametrize("role", LISTED)
def test_role_vanishes_from_snapshot(tmp_path: Path, role: str) -> None:
    """Mallory drops a role from snapshot, so that nothing remembers its version the
    next time it is listed; a listed role never vanishes."""
    plant = running(tmp_path)

    del plant.world.roles["snapshot"].meta[f"{role}.json"]
    plant.world.publish_online()
    plant.serve()
    refused(
        plant.device,
        RollbackError,
        "rollback",
        f"snapshot v4 no longer lists {role}, trusted at v",
        last="4.snapshot.json",
        moved=["timestamp"],
    )


def test_root_rollback(tmp_path: Path) -> None:
    """Mallory serves the old root, validly signed, as the next one."""
    plant = running(tmp_path)

    files = plant.device.source.files
    files.metadata["2.root.json"] = files.metadata["1.root.json"]
    refused(
        plant.device,
        RollbackError,
        "rollback",
        "root v1 was served as v2",
        last="2.root.json",
    )


def test_root_that_skips_a_version(tmp_path: Path) -> None:
    """Mallory serves root v3 as v2, to leave out what v2 said; each root follows the
    one before it."""
    plant = running(tmp_path)
    plant.world.rotate("timestamp", "timestamp-2")
    plant.world.rotate("timestamp", "timestamp-3")

    files = plant.device.source.files
    files.metadata["2.root.json"] = plant.world.files.metadata["3.root.json"]
    refused(
        plant.device,
        RollbackError,
        "rollback",
        "root v3 was served as v2",
        last="2.root.json",
    )


def test_second_timestamp_of_the_trusted_version(tmp_path: Path) -> None:
    """Mallory, with timestamp's key, signs another file of the trusted version; it is
    no second truth: the device goes on by the one it has."""
    plant = running(tmp_path)
    trusted = plant.device.memory

    world = plant.world
    world.publish_online()
    world.roles["timestamp"].version = 3
    world.files.metadata["timestamp.json"] = world.sign("timestamp")
    plant.serve()
    assert plant.device.version() == "1.1.0"
    assert plant.device.memory == trusted
    assert "4.snapshot.json" not in plant.device.source.asked


def test_second_timestamp_after_the_copy_was_lost(tmp_path: Path) -> None:
    """The same once the device has lost its copy: the memory knows the bytes."""
    plant = running(tmp_path)
    (plant.device.state / "metadata" / "timestamp.json").unlink()

    world = plant.world
    world.publish_online()
    world.roles["timestamp"].version = 3
    world.files.metadata["timestamp.json"] = world.sign("timestamp")
    plant.serve()
    refused(
        plant.device,
        MixAndMatchError,
        "mix-and-match",
        "timestamp v3 has other bytes than the one accepted before",
        last="timestamp.json",
    )


@pytest.mark.parametrize("role", LISTED)
def test_second_file_of_a_roles_version(tmp_path: Path, role: str) -> None:
    """Mallory, with all online keys and the role's, signs other content under the
    version that the device has; one version of a role is one file."""
    plant = running(tmp_path)
    version = plant.device.trusted[role]

    world = plant.world
    world.roles[role].expires = world.roles["root"].expires
    world.write(role, world.sign(role))
    world.publish_online()
    plant.serve()
    refused(
        plant.device,
        MixAndMatchError,
        "mix-and-match",
        f"names other bytes for {role} v{version} than those accepted before",
        last="4.snapshot.json",
        moved=["timestamp"],
    )


def test_versions_never_fall_while_the_source_is_gone(tmp_path: Path) -> None:
    """Mallory cuts the wire after an update: the device lives on what it accepted, and
    nothing older."""
    plant = running(tmp_path)
    trusted = plant.device.trusted

    plant.device.source.down = True
    assert plant.device.refresh() is Freshness.GRACE
    assert plant.device.version() == "1.1.0"
    assert plant.device.trusted == trusted
    assert plant.device.trusted[APPLICATION] == 2
