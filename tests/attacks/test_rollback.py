"""Old metadata is served again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import RollbackError
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path


def test_timestamp_rollback(tmp_path: Path) -> None:
    """Mallory replays an old timestamp; the device keeps the newer one."""
    world = World()
    world.release("1.0.0")
    old = world.publish()
    device = world.device(tmp_path / "device")
    world.release("1.1.0")
    device.source.files = world.publish()
    assert device.version() == "1.1.0"  # sane
    before = device.memory

    device.source.files = old
    with pytest.raises(RollbackError, match="timestamp v2 is older than trusted v3"):
        device.verify()
    assert device.memory == before
