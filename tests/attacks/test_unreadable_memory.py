"""One copy of the memory can not be read at all: a bad sector, grown, or a pipe.

The other copy counts, as with any other damage, and this one is repaired.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import RollbackError
from margo_supplychain.verify.memory import LIMIT
from margo_supplychain.verify.trust_store import MEMORY_FILES
from tests.attacks.scenes import refused, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def endless(path: Path) -> None:
    os.truncate(path, LIMIT + 1)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [endless, a_pipe])
@pytest.mark.parametrize("name", MEMORY_FILES)
def test_unreadable_copy(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    plant = running(tmp_path)
    path = plant.device.state / name
    whole = path.read_bytes()
    damage(path)
    plant.device.source.files = plant.old
    refused(plant.device, RollbackError, "rollback", "timestamp v2 is older than")
    assert path.read_bytes() == whole
