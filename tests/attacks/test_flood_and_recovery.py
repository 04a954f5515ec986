"""A stolen key fills what a device remembers; recovering must not leave traces."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import (
    MalformedError,
    NoMatchingVersionError,
    ReleaseFloorError,
    WithdrawnError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.release_entry import ReleaseEntry, Withdrawal
from margo_supplychain.formats.versions import Version
from margo_supplychain.verify import memory as module
from margo_supplychain.verify.trust_store import TrustStore
from tests.attacks.standing import refused
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

PUMP = ReleaseName.parse("acme/pump-monitor")


def test_flood_of_withdrawals_and_a_new_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thief of an application key withdraws as much as a device remembers.

    After the offline key began a new epoch, an honest withdrawal counts again, and
    what this device runs is still remembered.
    """
    monkeypatch.setattr(module, "MAX_WITHDRAWN", 40)
    world = World()
    own = world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane

    since = world.clock.when
    for number in range(39):
        world.add_target(
            PUMP.role,
            PUMP.release_path(f"0.0.{number}"),
            b"{}",
            ReleaseEntry(
                artifact=Digest.of(f"invented {number}".encode()),
                withdrawn=Withdrawal(reason="flood", since=since),
            ).to_custom(),
        )
    world.withdraw("1.0.0")
    device.source.files = world.publish()
    with pytest.raises(WithdrawnError):
        device.verify()
    assert len(device.memory.withdrawn[PUMP]) == 40  # full

    world.roles[PUMP.role].targets.clear()
    world.set_policy(
        str(PUMP),
        PublisherPolicy(
            epoch=2, provenance="none", minimum_version=Version.parse("2.0.0")
        ),
    )
    world.release("2.0.0")
    world.release("2.1.0")
    device.source.files = world.publish()
    assert device.install() == "2.1.0"
    assert set(device.memory.withdrawn[PUMP]) == {own}

    world.withdraw("2.1.0", use="2.0.0")
    device.source.files = world.publish()
    with pytest.raises(WithdrawnError, match="leaks oil"):
        device.verify(pin="2.1.0")
    assert len(device.memory.withdrawn[PUMP]) == 2


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00Z", "0999-01-01T00:00:00Z"])
def test_signed_time_before_all_time(tmp_path: Path, when: str) -> None:
    """A stolen timestamp key signs a time that nobody could write down again."""
    world = World()
    world.release("1.0.0")
    world.publish()
    fresh, field = world.device(tmp_path / "fresh"), world.device(tmp_path / "field")
    assert field.version() == "1.0.0"  # sane

    world.bump("timestamp", 4)
    world.roles["timestamp"].unrecognized_fields["x-issued"] = when
    world.files.metadata["timestamp.json"] = world.sign("timestamp")
    for device in (fresh, field):
        device.source.files = world.files.copy()
        with refused(device, MalformedError, "malformed", match="before 1970"):
            device.verify()
        TrustStore.open(device.state)  # the memory is whole


def test_confirmed_late_in_a_fresh_slot(tmp_path: Path) -> None:
    """What was fetched long ago is no way below what every slot has outgrown."""
    world = World()
    old = world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    device.fetch()
    world.release("2.0.0")
    device.source.files = world.publish()
    assert device.install() == "2.0.0"  # sane

    before = device.memory
    with pytest.raises(ReleaseFloorError, match="the floor of slot line-2") as caught:
        device.verifier.confirm_running(old, slot="line-2")
    assert caught.value.code == "release-floor"
    assert device.memory == before


def test_downgrade_confirmed_again(tmp_path: Path) -> None:
    """The publisher allowed a downgrade once; the floor came back; it is over."""
    world = World()
    old = world.release("1.0.0")
    world.release("1.1.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.1.0"
    plain = PublisherPolicy(epoch=1, provenance="none")
    allowed = PublisherPolicy(epoch=1, provenance="none", downgrade_to=(old,))
    for policy, pin in ((allowed, "1.0.0"), (plain, "1.1.0")):
        world.set_policy(str(PUMP), policy)
        device.source.files = world.publish()
        assert device.install(pin=pin) == pin  # sane

    before = device.memory
    with pytest.raises(ReleaseFloorError, match=r"is older than 1\.1\.0") as caught:
        device.verifier.confirm_running(old)
    assert caught.value.code == "release-floor"
    assert device.memory == before


def test_confirmed_at_every_start(tmp_path: Path) -> None:
    """An agent confirms what runs at each start: nothing moves after the first."""
    world = World()
    own = world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"
    before = device.memory
    device.verifier.confirm_running(own)
    assert device.memory == before


def test_other_hash_of_withdrawn_bytes(tmp_path: Path) -> None:
    """The same artifact under its sha512 would be another one to the memory."""
    world = World()
    artifact = world.artifact(b"withdrawn")
    world.release("1.0.0", artifact=artifact)
    world.publish()
    device = world.device(tmp_path)
    assert device.version() == "1.0.0"  # sane

    raw = world.files.blobs[str(artifact.digest)]
    other = f"sha512:{hashlib.sha512(raw).hexdigest()}"
    path = PUMP.release_path("1.9.0")
    record = world.record(PUMP, "1.9.0", artifact).to_bytes()
    forged = record.replace(str(artifact.digest).encode(), other.encode())
    custom = {"artifact": other, "profiles": []}
    world.add_target(PUMP.role, path, forged, custom)
    world.withdraw("1.0.0")
    device.source.files = world.publish()
    with pytest.raises(WithdrawnError):
        device.verify(pin="1.0.0")
    with pytest.raises(
        NoMatchingVersionError, match="entry in the signed list is malformed"
    ):
        device.verify(pin="1.9.0")
