"""An older release is offered after a newer one was confirmed to run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import (
    FormatError,
    NoMatchingVersionError,
    ReleaseFloorError,
    UnknownTargetError,
    WithdrawnError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.names import (
    ReleaseName,
    application_patterns,
    publisher_patterns,
)
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.versions import Version
from margo_supplychain.verify import memory as memory_module
from tests.attacks.standing import refused, stands
from tests.world import World
from tests.world.repository import key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world import Device

PUMP = ReleaseName.parse("acme/pump-monitor")


def running(tmp_path: Path, *versions: str) -> tuple[World, Device]:
    """A repository with 1.0.0 and the given ones; the device runs the highest."""
    world = World()
    for version in ("1.0.0", *versions):
        world.release(version)
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == (versions or ("1.0.0",))[-1]  # sane
    return world, device


def set_policy(world: World, **fields: Any) -> None:
    world.set_policy(
        str(PUMP), PublisherPolicy(**{"epoch": 1, "provenance": "none", **fields})
    )


def test_old_release_after_a_newer_one_runs(tmp_path: Path) -> None:
    """A deployment pins 1.0.0 on a device that runs 1.1.0; listed is still both."""
    _, device = running(tmp_path, "1.1.0")
    with refused(
        device,
        ReleaseFloorError,
        "release-floor",
        match=r"1\.0\.0 \(epoch 1\) is not newer than 1\.1\.0 \(epoch 1\), the floor "
        "of slot default",
    ):
        device.verify(pin="1.0.0")
    assert device.version() == "1.1.0"


def test_old_release_after_the_newer_one_is_removed(tmp_path: Path) -> None:
    """A stolen CI key drops the newer release from the list."""
    world, device = running(tmp_path, "1.1.0")
    del world.roles[PUMP.role].targets[PUMP.release_path("1.1.0")]
    world.touch(PUMP.role)
    device.source.files = world.publish()
    with refused(
        device, ReleaseFloorError, "release-floor", match=r"1\.0\.0", newer=True
    ):
        device.verify()


@pytest.mark.parametrize("rotated", ["all online", "publisher", "application", "root"])
def test_old_release_after_a_key_rotation(tmp_path: Path, rotated: str) -> None:
    """Metadata floors fall with their keys; a release floor never does."""
    world, device = running(tmp_path, "1.1.0")
    if rotated == "all online":
        for role in ("timestamp", "snapshot", "targets"):
            world.rotate(role, f"{role}-2")
        world.touch("targets")
    elif rotated == "root":
        world.rotate("root", "root-2")
    elif rotated == "publisher":
        world.delegate(
            "targets", "acme", publisher_patterns("acme"), signer=key("acme-2")
        )
    else:
        world.delegate(
            "acme", PUMP.role, application_patterns(PUMP), signer=key("pump-2")
        )
    device.source.files = world.publish()
    with refused(
        device, ReleaseFloorError, "release-floor", match=r"1\.1\.0", newer=True
    ):
        device.verify(pin="1.0.0")
    assert device.version() == "1.1.0"


def test_same_version_with_other_bytes(tmp_path: Path) -> None:
    """1.0.0 is listed again with another artifact: no update of the 1.0.0 that runs."""
    world, device = running(tmp_path)
    world.release("1.0.0", content=b"other bytes")
    device.source.files = world.publish()
    with refused(
        device, ReleaseFloorError, "release-floor", match=r"1\.0\.0", newer=True
    ):
        device.verify()


@pytest.mark.parametrize("content", [b"other bytes", None])
def test_same_precedence_with_other_build_metadata(
    tmp_path: Path, content: bytes | None
) -> None:
    """1.0.0+mallory for a running 1.0.0: never with other bytes."""
    world, device = running(tmp_path)
    del world.roles[PUMP.role].targets[PUMP.release_path("1.0.0")]
    if content is None:
        world.release("1.0.0+mallory", content=b"acme/pump-monitor 1.0.0")
        device.source.files = world.publish()
        assert device.version(pin="1.0.0+mallory") == "1.0.0+mallory"
        return
    world.release("1.0.0+mallory", content=content)
    device.source.files = world.publish()
    with refused(
        device, ReleaseFloorError, "release-floor", match="mallory", newer=True
    ):
        device.verify(pin="1.0.0+mallory")


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_two_releases_of_one_precedence(tmp_path: Path, order: tuple[str, str]) -> None:
    """1.0.0+a and 1.0.0+b order equally: neither is taken; 0.9.0 lives on."""
    world = World()
    world.release("0.9.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.version() == "0.9.0"  # sane

    for build in order:
        world.release(f"1.0.0+{build}")
    device.source.files = world.publish()
    for pin in ("1.0.0+a", "1.0.0+b", "^1.0"):
        with refused(
            device,
            NoMatchingVersionError,
            "no-matching-version",
            match="listed twice, differing in build metadata only",
            newer=True,
        ):
            device.verify(pin=pin)
    assert device.version() == "0.9.0"


def test_three_releases_of_one_precedence(tmp_path: Path) -> None:
    """One in the middle, with a malformed entry, hides nothing."""
    world = World()
    for version in ("1.0.0", "2.0.0+a", "2.0.0+b", "2.0.0+c"):
        world.release(version)
    path = PUMP.release_path("2.0.0_b")
    world.roles[PUMP.role].targets[path].unrecognized_fields.clear()
    world.publish()
    device = world.device(tmp_path)
    assert device.version() == "1.0.0"
    for build in "abc":
        with refused(
            device, NoMatchingVersionError, "no-matching-version", match="is out"
        ):
            device.verify(pin=f"2.0.0+{build}")


def test_old_release_in_a_fresh_slot(tmp_path: Path) -> None:
    """A deployment to a slot of another name is no way below what all others run."""
    world = World()
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        world.release(version)
    world.publish()
    device = world.device(tmp_path)
    assert device.install(slot="line-1", pin="1.1.0") == "1.1.0"
    assert device.install(slot="line-2", pin="1.2.0") == "1.2.0"  # sane
    with refused(device, ReleaseFloorError, "release-floor", match="slot line-3"):
        device.verify(pin="1.0.0", slot="line-3")
    assert str(device.verify(pin="1.1.0", slot="line-3").version) == "1.1.0"
    with refused(device, ReleaseFloorError, "release-floor", match="slot line-2"):
        device.verify(pin="1.1.0", slot="line-2")


@pytest.mark.parametrize("slot", ["", "..", "a/b", "a..b", "-x", "x" * 65, "a\n", "ä"])
def test_slot_names_are_names(tmp_path: Path, slot: str) -> None:
    """A slot name that could be a path is refused before anything else."""
    _, device = running(tmp_path)
    artifact = device.memory.fetched[0].artifact
    with refused(device, FormatError, "format", match="is not a name"):
        device.verify(slot=slot)
    with refused(device, FormatError, "format", match="is not a name"):
        device.verifier.confirm_running(artifact, slot=slot)


def test_looking_bars_nothing(tmp_path: Path) -> None:
    """Verified and fetched 2.0.0, never confirmed: 1.9.0 stays possible."""
    world, device = running(tmp_path)
    world.release("1.9.0")
    world.release("2.0.0")
    device.source.files = world.publish()
    assert device.version() == "2.0.0"
    assert str(device.fetch().release.version) == "2.0.0"
    assert device.install(pin="1.9.0") == "1.9.0"


def test_confirm_of_something_never_fetched(tmp_path: Path) -> None:
    """Whoever confirms may only name what was verified and fetched whole."""
    world, device = running(tmp_path)
    world.release("2.0.0")
    device.source.files = world.publish()
    seen = device.verify().manifest.digest
    for digest in (seen, Digest.of(b"never heard of")):
        with refused(
            device, UnknownTargetError, "unknown-target", match="was not fetched"
        ):
            device.verifier.confirm_running(digest)


def test_confirm_never_lowers(tmp_path: Path) -> None:
    """A late confirmation of the old release leaves the floor where it is."""
    world, device = running(tmp_path)
    old = device.memory.fetched[0].artifact
    world.release("1.1.0")
    device.source.files = world.publish()
    assert device.install() == "1.1.0"
    with refused(
        device,
        ReleaseFloorError,
        "release-floor",
        match=r"1\.0\.0 is older than 1\.1\.0, the floor of slot default",
    ):
        device.verifier.confirm_running(old)
    with refused(
        device, ReleaseFloorError, "release-floor", match="the floor of slot other"
    ):
        device.verifier.confirm_running(old, slot="other")


def test_confirm_never_lowers_the_epoch(tmp_path: Path) -> None:
    """A release fetched under epoch 1 is older than any of epoch 2."""
    world, device = running(tmp_path)
    world.release("1.5.0")
    device.source.files = world.publish()
    late = device.fetch().release.manifest.digest
    set_policy(world, epoch=2)
    device.source.files = world.publish()
    assert device.install(pin="1.0.0") == "1.0.0"
    with refused(device, ReleaseFloorError, "release-floor", match="is older than"):
        device.verifier.confirm_running(late)


def test_downgrade_passes_the_floor(tmp_path: Path) -> None:
    """The offline key allows one artifact below the floor; confirming it sets it."""
    world, device = running(tmp_path, "1.1.0", "1.2.0")
    old = world.release("1.0.0")
    set_policy(world, downgrade_to=(old,))
    device.source.files = world.publish()
    with refused(
        device, ReleaseFloorError, "release-floor", match=r"1\.1\.0", newer=True
    ):
        device.verify(pin="1.1.0")
    assert device.install(pin="1.0.0") == "1.0.0"
    assert device.memory.releases["default"][PUMP].version == Version.parse("1.0.0")
    assert device.version(pin="1.1.0") == "1.1.0"  # upwards again is an update


def test_downgrade_passes_nothing_else(tmp_path: Path) -> None:
    """Neither the publisher's minimum nor a withdrawal."""
    world, device = running(tmp_path, "1.1.0")
    old = world.release("1.0.0")
    set_policy(world, downgrade_to=(old,), minimum_version=Version.parse("1.1.0"))
    device.source.files = world.publish()
    with refused(
        device,
        NoMatchingVersionError,
        "no-matching-version",
        match="below the publisher's minimum",
        newer=True,
    ):
        device.verify(pin="1.0.0")

    set_policy(world, downgrade_to=(old,))
    world.withdraw("1.0.0")
    device.source.files = world.publish()
    before = stands(device)
    with pytest.raises(WithdrawnError) as caught:
        device.verify(pin="1.0.0")
    assert caught.value.code == "withdrawn"
    role = world.roles[PUMP.role].version
    assert stands(device) == {**before, "withdrawn": {PUMP: {old: role}}}


def test_confirmed_at_each_start_after_many_fetches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs is confirmed again though other fetches have filled the memory."""
    monkeypatch.setattr(memory_module, "MAX_FETCHED", 4)
    world, device = running(tmp_path, "1.1.0")
    runs = device.memory.fetched[0].artifact
    world.release("1.0.0", "acme/valve")
    device.source.files = world.publish()
    for number in range(6):
        device.fetch("acme/valve", slot=f"line-{number}")
    assert runs not in {one.artifact for one in device.memory.fetched}

    before = device.memory
    device.verifier.confirm_running(runs)
    assert device.memory == before
    with pytest.raises(ReleaseFloorError):
        device.verify(pin="1.0.0")
