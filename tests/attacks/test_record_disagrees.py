"""A validly signed record that says something else than the place it lies in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import (
    MalformedError,
    NoMatchingVersionError,
    TooLargeError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.release_entry import ReleaseEntry
from margo_supplychain.formats.versions import Version
from tests.attacks.standing import refused
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world import Device

PUMP = ReleaseName.parse("acme/pump-monitor")
PATH = PUMP.release_path("2.0.0")
OTHER = Digest.of(b"something else")


def installed(tmp_path: Path) -> tuple[World, Device]:
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane
    return world, device


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"name": ReleaseName.parse("acme/valve")}, "record of acme/valve 2"),
        ({"name": ReleaseName.parse("bolt/pump-monitor")}, "record of bolt/pump"),
        ({"version": Version.parse("2.0.1")}, r"pump-monitor 2\.0\.1"),
        ({"version": Version.parse("2.0.0+b")}, r"pump-monitor 2\.0\.0\+b"),
        ({"version": Version.parse("1.0.0")}, r"pump-monitor 1\.0\.0"),
    ],
)
def test_record_about_something_else(
    tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    """A record under a path that is not its own, with another name or version."""
    world, device = installed(tmp_path)
    record = world.record(PUMP, "2.0.0", world.artifact(b"2"))
    world.list_record(PUMP.role, replace(record, **change), path=PATH)
    device.source.files = world.publish()
    with refused(device, MalformedError, "malformed", match=match, newer=True):
        device.verify()
    assert device.version(pin="1.0.0") == "1.0.0"


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ({"artifact": OTHER}, "its entry in the signed list another"),
        ({"profiles": ("0123456789abcdef",)}, "other profiles than its entry"),
    ],
)
def test_record_that_disagrees_with_its_entry(
    tmp_path: Path, entry: dict[str, Any], match: str
) -> None:
    """What withdrawals and deployments go by is not what would be installed."""
    world, device = installed(tmp_path)
    record = world.record(PUMP, "2.0.0", world.artifact(b"2"))
    world.list_record(PUMP.role, record, entry=replace(record.entry(), **entry))
    device.source.files = world.publish()
    with refused(device, MalformedError, "malformed", match=match, newer=True):
        device.verify()


@pytest.mark.parametrize(
    "custom",
    [
        None,
        {},
        [],
        {"artifact": "sha256:00", "profiles": []},
        {"artifact": str(OTHER)},
        {"artifact": str(OTHER), "profiles": [], "priority": 1},
        {"artifact": str(OTHER), "profiles": ["../../.."]},
        {"artifact": str(OTHER), "profiles": [], "withdrawn": True},
    ],
)
def test_malformed_entry(tmp_path: Path, custom: Any) -> None:
    """An entry that can't be read is no release; it hides no other one either."""
    world, device = installed(tmp_path)
    world.release("2.0.0")
    file = world.roles[PUMP.role].targets[PATH]
    file.unrecognized_fields.clear()
    if custom is not None:
        file.unrecognized_fields["custom"] = custom
    device.source.files = world.publish()
    with refused(
        device,
        NoMatchingVersionError,
        "no-matching-version",
        match=r"2\.0\.0 is out, its entry in the signed list is malformed",
        newer=True,
    ):
        device.verify(pin="2.0.0")
    assert device.version() == "1.0.0"


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"format":2}', b"\xff", b"{" * 99]
)
def test_malformed_record(tmp_path: Path, data: bytes) -> None:
    """A stolen CI key signs bytes that are no record."""
    world, device = installed(tmp_path)
    custom = ReleaseEntry(artifact=OTHER).to_custom()
    world.add_target(PUMP.role, PATH, data, custom)
    device.source.files = world.publish()
    with refused(
        device, MalformedError, "malformed", match="release record", newer=True
    ):
        device.verify()
    assert device.version(pin="1.0.0") == "1.0.0"


def test_record_too_large(tmp_path: Path) -> None:
    """A signed length of a record lifts no limit of the device."""
    world, device = installed(tmp_path)
    custom = ReleaseEntry(artifact=OTHER).to_custom()
    world.add_target(PUMP.role, PATH, bytes(2 << 20), custom)
    device.source.files = world.publish()
    with refused(device, TooLargeError, "too-large", match=r"2\.0\.0 has", newer=True):
        device.verify()
    assert PATH not in device.source.asked
