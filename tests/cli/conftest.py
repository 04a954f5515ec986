"""A place to work in, without anybody's settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import PASSPHRASE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory; the environment says nothing."""
    for name in list(os.environ):
        if name.startswith(("MARGO_SUPPLYCHAIN_", "_MARGO")):
            monkeypatch.delenv(name)
    for name in ("NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def secret(place: Path) -> str:
    """The name of a passphrase file in `place`."""
    path = place / "passphrase"
    path.write_text(PASSPHRASE + "\n")
    path.chmod(0o600)
    return path.name
