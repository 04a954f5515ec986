"""Attacks are about trust, not about power failures: nothing waits for a disk here.

`tests/faults/` and `tests/storage/` show what is synced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.storage import durable
from margo_supplychain.storage.operations import Operations

if TYPE_CHECKING:
    from pathlib import Path


class WithoutSync(Operations):
    """The usual operations, but syncing is left out."""

    def sync_file(self, descriptor: int) -> None:
        del descriptor

    def sync_directory(self, path: Path) -> None:
        del path


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "operations", WithoutSync())
