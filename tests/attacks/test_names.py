"""Names of publishers, applications and targets that could be something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import FormatError
from margo_supplychain.formats.names import ReleaseName, publisher_name, target_path
from margo_supplychain.verify.trust_store import TrustStore
from tests.attacks.standing import refused
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

PUBLISHERS = [
    "",
    ".",
    "..",
    "root",
    "targets",
    "snapshot",
    "timestamp",
    "mirrors",
    "constructor",
    "ACME",
    "Acme",
    "acme.pump",
    "acme_",
    "-acme",
    "acme-",
    "1acme",
    "42",
    "*",
    "acme*",
    "a/b",
    "a\\b",
    "acmé",
    "\u0430cme",
    "acme\n",
    "acme\x00",
    "acme ",
    "a" * 33,
]
APPLICATIONS = [
    "",
    ".",
    "..",
    "a..b",
    ".hidden",
    "ends.",
    "ends_",
    "_x",
    "Pump",
    "pump monitor",
    "pump/monitor",
    "pump\\monitor",
    "pump\n",
    "pump\x00",
    "pump*",
    "pump%2fmonitor",
    "pümp",
    "\u0440ump",
    "a" * 201,
]
PATHS = [
    "",
    "/",
    "/etc/passwd",
    "a//b",
    "a/",
    ".",
    "..",
    "a/../b",
    "../a",
    "a/./b",
    "a\\b",
    "a\nb",
    "a\x00b",
    "a/\x7f",
    "a" * 513,
]


@pytest.mark.parametrize("publisher", PUBLISHERS, ids=ascii)
def test_publisher_that_is_no_name(tmp_path: Path, publisher: str) -> None:
    """A store is never made for one, and none is ever asked for."""
    world = World()
    root = world.files.metadata["1.root.json"]
    with pytest.raises(FormatError, match="is not a name") as caught:
        TrustStore.create(
            tmp_path / "store", root=root, publishers=frozenset({publisher})
        )
    assert caught.value.code == "format"
    assert not (tmp_path / "store").exists()
    with pytest.raises(FormatError, match="is not a name"):
        publisher_name(publisher)
    with pytest.raises(FormatError):
        ReleaseName.parse(f"{publisher}/pump-monitor")
    with pytest.raises(FormatError, match="is not a name"):
        ReleaseName(publisher, "pump-monitor")


@pytest.mark.parametrize("name", APPLICATIONS, ids=lambda one: ascii(one[:24]))
def test_application_that_is_no_name(tmp_path: Path, name: str) -> None:
    """Refused before a file or a request could be named after it."""
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.version() == "1.0.0"  # sane
    device.source.asked.clear()
    with refused(device, FormatError, "format", match="is not a name"):
        device.verify(f"acme/{name}")
    assert device.source.asked == []


@pytest.mark.parametrize("path", PATHS, ids=lambda one: ascii(one[:24]))
def test_target_path_that_is_none(path: str) -> None:
    """Sources name files after target paths: none may leave its directory."""
    with pytest.raises(FormatError, match="is not relative and normalised") as caught:
        target_path(path)
    assert caught.value.code == "format"


@pytest.mark.parametrize("text", ["acme", "", "pump-monitor"])
def test_name_without_a_publisher(text: str) -> None:
    with pytest.raises(FormatError, match="expected <publisher>/<name>"):
        ReleaseName.parse(text)


def test_a_store_needs_a_publisher(tmp_path: Path) -> None:
    """Nobody is not everybody."""
    world = World()
    root = world.files.metadata["1.root.json"]
    with pytest.raises(ValueError, match="at least one publisher"):
        TrustStore.create(tmp_path / "store", root=root, publishers=frozenset())
