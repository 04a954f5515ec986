"""The device's copies of signed files are damaged or replaced.

They are a cache: what is wrong with them costs a download, and no safety.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import RollbackError
from tests.attacks.scenes import ROLES, Plant, refused, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COPIED = ROLES[1:]


def deleted(plant: Plant, path: Path) -> None:
    path.unlink()


def empty(plant: Plant, path: Path) -> None:
    path.write_bytes(b"")


def truncated(plant: Plant, path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zeroed(plant: Plant, path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flipped(plant: Plant, path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def endless(plant: Plant, path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(64 << 20)  # a hole: takes no space


def older(plant: Plant, path: Path) -> None:
    """The signed file of the version before."""
    role = path.name.removesuffix(".json")
    if role == "timestamp":
        path.write_bytes(plant.old.metadata["timestamp.json"])
        return
    version = plant.world.roles[role].version
    path.write_bytes(plant.old.metadata[f"{version - 1}.{path.name}"])


def newer(plant: Plant, path: Path) -> None:
    """A signed file of a version that the device has not come to."""
    role = path.name.removesuffix(".json")
    world = plant.world.copy()
    world.bump(role, 100)
    path.write_bytes(world.sign(role))


def another_roles(plant: Plant, path: Path) -> None:
    other = "snapshot" if path.name == "timestamp.json" else "timestamp"
    path.write_bytes((path.parent / f"{other}.json").read_bytes())


def by_another_key(plant: Plant, path: Path) -> None:
    role = path.name.removesuffix(".json")
    path.write_bytes(plant.world.sign(role, plant.world.signers["root"]))


def a_directory(plant: Plant, path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link_to_nowhere(plant: Plant, path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def a_pipe(plant: Plant, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = (
    deleted,
    empty,
    truncated,
    zeroed,
    flipped,
    endless,
    older,
    newer,
    another_roles,
    by_another_key,
    a_link_to_nowhere,
    a_pipe,
)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("role", COPIED)
def test_copy_of_metadata_is_damaged(
    tmp_path: Path, role: str, damage: Callable[[Plant, Path], None]
) -> None:
    """The copy of a role's file is not what was accepted: it is fetched anew, the
    answer is the same, and no version moves."""
    plant = running(tmp_path)
    memory = plant.device.memory
    path = plant.device.state / "metadata" / f"{role}.json"
    whole = path.read_bytes()

    damage(plant, path)
    assert plant.device.version() == "1.1.0"
    if role == "timestamp" and damage is newer:
        # Validly signed: as good as from the source, which has nothing newer... yet.
        return
    assert plant.device.memory == memory
    assert path.read_bytes() == whole


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("role", COPIED)
def test_copy_of_metadata_is_damaged_and_old_metadata_served(
    tmp_path: Path, role: str, damage: Callable[[Plant, Path], None]
) -> None:
    """The same with Mallory as the source: what the copies were worth is remembered."""
    plant = running(tmp_path)
    damage(plant, plant.device.state / "metadata" / f"{role}.json")
    plant.device.source.files = plant.old
    refused(plant.device, RollbackError, "rollback", "timestamp v2 is older than")


def test_all_copies_are_gone(tmp_path: Path) -> None:
    """Without any copy the memory alone keeps every floor."""
    plant = running(tmp_path)
    memory = plant.device.memory
    for directory in ("metadata", "targets"):
        for path in (plant.device.state / directory).iterdir():
            path.unlink()
        (plant.device.state / directory).rmdir()

    plant.device.source.files = plant.old
    refused(plant.device, RollbackError, "rollback", "timestamp v2 is older than")
    plant.serve()
    assert plant.device.version() == "1.1.0"
    assert plant.device.memory == memory


@pytest.mark.parametrize(
    "damage",
    [deleted, empty, truncated, zeroed, flipped, endless, a_link_to_nowhere, a_pipe],
)
def test_copy_of_a_target_is_damaged(
    tmp_path: Path, damage: Callable[[Plant, Path], None]
) -> None:
    """Copies of records, policies and manifests are named by their digest and hashed
    at each use; a damaged one is fetched anew."""
    plant = running(tmp_path)
    copies = sorted((plant.device.state / "targets").iterdir())
    whole = {path: path.read_bytes() for path in copies}
    assert whole  # sane
    release = plant.device.verify()

    for path in copies:
        damage(plant, path)
    again = plant.device.verify()
    assert (again.record, again.manifest) == (release.record, release.manifest)
    used = {path for path in copies if path.is_file() and path.stat().st_size}
    assert any(path.read_bytes() == whole[path] for path in used)


def test_copies_of_two_targets_are_swapped(tmp_path: Path) -> None:
    """Mallory renames one signed record to another's digest; the bytes decide."""
    plant = running(tmp_path)
    targets = plant.device.state / "targets"
    copies = sorted(targets.iterdir())
    whole = [path.read_bytes() for path in copies]
    for path, data in zip(copies, [*whole[1:], whole[0]], strict=True):
        path.write_bytes(data)
    assert plant.device.version() == "1.1.0"
    assert plant.device.verify().record.version.major == 1
