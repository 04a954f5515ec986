from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.storage import durable
from margo_supplychain.storage.operations import Operations
from tests.authoring.trust import Vendor

if TYPE_CHECKING:
    from pathlib import Path


class Unsynced(Operations):
    """Writes without waiting for the disk: these tests cut no power by themselves."""

    def sync_file(self, descriptor: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


@pytest.fixture(autouse=True)
def _unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    # Kill tests put their own operations in place, which know what was synced.
    monkeypatch.setattr(durable, "operations", Unsynced())


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    """A vendor without a repository yet."""
    return Vendor(tmp_path)
