"""A mirror shows a part of an update, because it is slow or because Mallory cut it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import FetchError
from tests.attacks.scenes import APPLICATION, LISTED, ON_THE_WAY, refused, running

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("role", ["snapshot", *LISTED])
def test_half_copied_mirror(tmp_path: Path, role: str) -> None:
    """The timestamp is new and a file behind it is not there yet: that is no verdict;
    the device keeps what it had and completes when the mirror is whole."""
    plant = running(tmp_path)
    world = plant.world
    world.release("1.2.0")
    world.touch("targets", "acme")
    half = world.publish()
    trusted = plant.device.trusted

    missing = f"{world.roles[role].version}.{role}.json"
    del half.metadata[missing]
    plant.device.source.files = half
    error = refused(
        plant.device,
        FetchError,
        "fetch",
        f"no {missing}",
        last=missing,
        moved=ON_THE_WAY[role],
    )
    assert error.missing
    assert error.exit_status == 4
    assert plant.device.trusted.keys() == trusted.keys()
    assert all(plant.device.trusted[one] >= trusted[one] for one in trusted)

    plant.serve()
    assert plant.device.install() == "1.2.0"
    assert plant.device.trusted[APPLICATION] == 3


def test_mirror_without_the_record(tmp_path: Path) -> None:
    """Metadata is whole, the release's record is not there: no verdict either."""
    plant = running(tmp_path)
    plant.world.release("1.2.0")
    half = plant.world.publish()
    path = "acme/releases/pump-monitor/1.2.0"
    half.targets = {one: data for one, data in half.targets.items() if path not in one}
    plant.device.source.files = half
    refused(
        plant.device,
        FetchError,
        "fetch",
        f"no {path}",
        last=path,
        moved=["timestamp", "snapshot", "timestamp_time", "root_time"],
    )

    plant.serve()
    assert plant.device.install() == "1.2.0"
