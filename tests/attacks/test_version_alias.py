"""A release under a text that looks like a version, or reads like another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import NoMatchingVersionError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.names import ReleaseName
from tests.attacks.standing import refused
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

PUMP = ReleaseName.parse("acme/pump-monitor")
ALIASES = [
    "v1.2.3",
    "V1.2.3",
    "1.2",
    "1",
    "1.2.3.4",
    "01.2.3",
    "1.2.03",
    "1.٢.3",
    "1.2.3\n",
    " 1.2.3",
    "1.2.3 ",
    "=1.2.3",
    "1.2.3-",
    "1.2.3-01",
    "1.2.3+a",
    "1.2.3_a_b",
    "1.2.3_",
    "1.2.x",
    "latest",
    "",
    "1.2.3/",
    "../1.2.3",
    "1.2.9007199254740992",
    "9007199254740992.0.0",
    "1.2.3-9007199254740992",
    "1.2." + "3" * 300,
    "1.2.3-" + "a" * 300,
    "1.2." + "3" * 5000,
    "\uff11.2.3",
    "1.2.3\x00",
]
PINS = ["1.2.3", "^1.2", "*", ">=0.0.0", "1.x", ">=1.2.3-0"]


@pytest.mark.parametrize("alias", ALIASES, ids=lambda one: ascii(one[:24]))
def test_alias_of_a_version(tmp_path: Path, alias: str) -> None:
    """A stolen CI key lists an alias: no pin takes it, and it hides no release."""
    world = World()
    world.release("1.2.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.2.0"  # sane

    path = f"{PUMP.releases}{alias}"
    record = world.record(PUMP, "1.2.3", world.artifact(b"forged"))
    world.list_record(PUMP.role, record, path=path)
    device.source.files = world.publish()
    with refused(
        device,
        NoMatchingVersionError,
        "no-matching-version",
        match=r"no release inside 1\.2\.3",
        newer=True,
    ):
        device.verify(pin="1.2.3")
    for pin in PINS[1:]:
        if pin != ">=1.2.3-0":
            assert device.version(pin=pin) == "1.2.0"

    honest = world.release("1.2.3")
    device.source.files = world.publish()
    for pin in PINS:
        found = device.verify(pin=pin)
        assert (str(found.version), found.manifest.digest) == ("1.2.3", honest)
    assert path not in device.source.asked


def test_only_aliases(tmp_path: Path) -> None:
    """A list of aliases is a list of no releases."""
    world = World()
    world.add_application()
    record = world.record(PUMP, "1.2.3", world.artifact(b"forged"))
    for alias in ALIASES:
        world.list_record(PUMP.role, record, path=f"{PUMP.releases}{alias}")
    device = world.device(tmp_path)
    device.source.files = world.publish()
    device.refresh()  # sane
    for pin in PINS:
        with refused(
            device,
            NoMatchingVersionError,
            "no-matching-version",
            match="no release inside",
            newer=True,
        ):
            device.verify(pin=pin)


def test_pinned_digest_that_differs(tmp_path: Path) -> None:
    """The pin names the artifact: the version with other bytes is not it."""
    world = World()
    honest = world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.version(pin=f"1.0.0@{honest}") == "1.0.0"  # sane

    other = world.release("1.0.0", content=b"rebuilt by mallory")
    device.source.files = world.publish()
    with refused(
        device,
        NoMatchingVersionError,
        "no-matching-version",
        match=f"signed is {other.short}, not the pinned artifact",
        newer=True,
    ):
        device.verify(pin=f"1.0.0@{honest}")
    with refused(
        device, NoMatchingVersionError, "no-matching-version", match="not the pinned"
    ):
        device.verify(pin=f"1.0.0@{Digest.of(b'')}")


def test_why_each_release_is_out(tmp_path: Path) -> None:
    """At most ten near ones are named, newest first, each with its reason."""
    world = World()
    for minor in range(12):
        world.release(f"1.{minor}.0")
    world.release("1.11.0+b")
    world.publish()
    device = world.device(tmp_path)
    with pytest.raises(NoMatchingVersionError) as caught:
        device.verify(pin="2.0.0")
    assert caught.value.pin == "2.0.0"
    assert len(caught.value.candidates) == 10
    assert caught.value.candidates[2] == ("1.10.0", "outside the pin")
    with pytest.raises(NoMatchingVersionError) as caught:
        device.verify(pin="1.11.0")
    assert caught.value.candidates == (
        ("1.11.0", "listed twice, differing in build metadata only"),
    )
