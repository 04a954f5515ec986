"""A site, a client, and a small repository of the kind that others publish."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.conformance.running import Client, Site
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        yield server


@pytest.fixture
def client(site: Site, tmp_path: Path) -> Client:
    directory = tmp_path / "client"
    directory.mkdir()
    return Client(site, directory)


@pytest.fixture
def world() -> World:
    """A repository without Margo's roles; its time is the machine's."""
    return World(publishers=(), now=datetime.now(UTC).replace(microsecond=0))
