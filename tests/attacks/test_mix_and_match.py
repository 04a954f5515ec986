"""Files of two states of the repository are put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import MixAndMatchError
from tests.attacks.scenes import LISTED, ON_THE_WAY, refused, running
from tests.world.repository import bound

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("role", ["snapshot", *LISTED])
def test_older_file_under_the_name_of_the_newer(tmp_path: Path, role: str) -> None:
    """Mallory's mirror has the new state with one file of the state before, under the
    new name; it is not the file that the signed list names."""
    plant = running(tmp_path)
    world = plant.world
    world.release("1.2.0")
    world.touch("targets", "acme")
    mixed = world.publish()

    version = world.roles[role].version
    mixed.metadata[f"{version}.{role}.json"] = mixed.metadata[
        f"{version - 1}.{role}.json"
    ]
    plant.device.source.files = mixed
    error = refused(
        plant.device,
        MixAndMatchError,
        "mix-and-match",
        f"{role} is not the file that (timestamp|snapshot) v4 names",
        last=f"{version}.{role}.json",
        moved=ON_THE_WAY[role],
    )
    assert error.role == role


def test_snapshot_under_another_version(tmp_path: Path) -> None:
    """Mallory, with timestamp's key, names the bytes of snapshot v3 as v4, so that the
    honest v4 never counts; version and bytes belong together."""
    plant = running(tmp_path)
    world = plant.world
    old = world.files.metadata["3.snapshot.json"]

    world.bump("timestamp", 4)
    world.roles["timestamp"].snapshot_meta = bound(4, old)
    world.files.metadata["timestamp.json"] = world.sign("timestamp")
    world.files.metadata["4.snapshot.json"] = old
    (plant.device.state / "metadata" / "snapshot.json").unlink()
    plant.serve()
    refused(
        plant.device,
        MixAndMatchError,
        "mix-and-match",
        "snapshot v3 was served where timestamp v4 names v4",
        last="4.snapshot.json",
        moved=["timestamp"],
    )


@pytest.mark.parametrize("role", LISTED)
def test_role_under_another_version(tmp_path: Path, role: str) -> None:
    """Mallory, with snapshot's and timestamp's keys, lists a role's old bytes as a new
    version: a rollback that no version number shows."""
    plant = running(tmp_path)
    world = plant.world
    version = world.roles[role].version
    old = world.files.metadata[f"{version - 1}.{role}.json"]

    world.roles["snapshot"].meta[f"{role}.json"] = bound(version + 1, old)
    world.files.metadata[f"{version + 1}.{role}.json"] = old
    world.publish_online()
    plant.serve()
    refused(
        plant.device,
        MixAndMatchError,
        "mix-and-match",
        f"{role} v{version - 1} was served where snapshot v4 names v{version + 1}",
        last=f"{version + 1}.{role}.json",
        moved=ON_THE_WAY[role],
    )
