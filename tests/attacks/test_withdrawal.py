"""A withdrawn release comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import BudgetError, WithdrawnError
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.publisher_policy import PublisherPolicy, Reinstatement
from margo_supplychain.verify import memory
from tests.attacks.standing import refused
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.formats.digests import Digest
    from tests.world import Device

PUMP = ReleaseName.parse("acme/pump-monitor")


def withdrawn(tmp_path: Path) -> tuple[World, Device, Digest]:
    """A device that runs 1.1.0 when it is withdrawn, and has seen that."""
    world = World()
    world.release("1.0.0")
    bad = world.release("1.1.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.1.0"  # sane
    assert device.verifier.check_installed(bad).verdict == "verified"

    world.withdraw("1.1.0", use="1.2.0")
    device.source.files = world.publish()
    with pytest.raises(WithdrawnError, match=r"1\.1\.0 is withdrawn: leaks oil") as why:
        device.verify(pin="1.1.0")
    assert why.value.code == "withdrawn"
    assert (why.value.use, why.value.reason) == ("1.2.0", "leaks oil")
    assert why.value.hint == "the publisher says to use 1.2.0"
    role = world.roles[PUMP.role].version
    assert device.memory.withdrawn == {PUMP: {bad: role}}
    return world, device, bad


def reinstate(world: World, artifact: Digest, up_to: int) -> None:
    world.set_policy(
        str(PUMP),
        PublisherPolicy(
            epoch=1,
            provenance="none",
            reinstated=(Reinstatement(artifact=artifact, up_to=up_to),),
        ),
    )


def test_check_installed_says_that_it_is_withdrawn(tmp_path: Path) -> None:
    """What runs is judged by what was seen, without a network, also after a restart."""
    _, device, bad = withdrawn(tmp_path)
    device.source.down = True
    asked = len(device.source.asked)
    report = device.verifier.check_installed(bad)
    assert (report.verdict, report.code) == ("rejected", "withdrawn")
    assert len(device.source.asked) == asked


def test_withdrawal_un_listed_by_the_online_key(tmp_path: Path) -> None:
    """A stolen CI key takes the withdrawal back, or hides the release for a while."""
    world, device, bad = withdrawn(tmp_path)
    path = PUMP.release_path("1.1.0")
    file = world.roles[PUMP.role].targets[path]
    del file.unrecognized_fields["custom"]["withdrawn"]
    world.touch(PUMP.role)
    device.source.files = world.publish()
    with refused(
        device,
        WithdrawnError,
        "withdrawn",
        match=r"1\.1\.0 is withdrawn: withdrawn under another version",
        newer=True,
    ):
        device.verify(pin="1.1.0")

    del world.roles[PUMP.role].targets[path]
    world.touch(PUMP.role)
    device.source.files = world.publish()
    device.refresh()
    world.roles[PUMP.role].targets[path] = file
    world.touch(PUMP.role)
    device.source.files = world.publish()
    with refused(device, WithdrawnError, "withdrawn", match="withdrawn", newer=True):
        device.verify(pin="1.1.0")
    assert device.verifier.check_installed(bad).code == "withdrawn"


@pytest.mark.parametrize("slot", ["default", "line-2"])
def test_withdrawn_bytes_under_a_new_version(tmp_path: Path, slot: str) -> None:
    """The same artifact as 1.9.0, in the same slot and in a fresh one."""
    world, device, bad = withdrawn(tmp_path)
    del world.roles[PUMP.role].targets[PUMP.release_path("1.1.0")]
    assert world.release("1.9.0", content=b"acme/pump-monitor 1.1.0") == bad
    device.source.files = world.publish()
    with refused(
        device,
        WithdrawnError,
        "withdrawn",
        match=r"1\.9\.0 is withdrawn: withdrawn under another version",
        newer=True,
    ):
        device.verify(pin="1.9.0", slot=slot)


def test_withdrawn_under_one_version_only(tmp_path: Path) -> None:
    """Two versions list one artifact and one of them is withdrawn: both are."""
    world = World()
    world.release("1.0.0")
    world.release("1.1.0", content=b"same")
    world.release("1.2.0", content=b"same")
    world.publish()
    device = world.device(tmp_path)
    assert device.version() == "1.2.0"  # sane

    world.withdraw("1.1.0")
    device.source.files = world.publish()
    with pytest.raises(WithdrawnError, match=r"1\.2\.0 is withdrawn"):
        device.verify(pin="1.2.0")
    assert device.version() == "1.0.0"


def test_reinstated_by_the_offline_key_alone(tmp_path: Path) -> None:
    """The publisher policy voids the withdrawals up to a version of the role."""
    world, device, bad = withdrawn(tmp_path)
    seen = world.roles[PUMP.role].version
    del world.roles[PUMP.role].targets[PUMP.release_path("1.1.0")]
    world.release("1.1.0")

    reinstate(world, bad, seen - 1)
    device.source.files = world.publish()
    with pytest.raises(WithdrawnError):
        device.verify(pin="1.1.0")
    assert device.verifier.check_installed(bad).code == "withdrawn"

    reinstate(world, bad, seen)
    device.source.files = world.publish()
    assert device.version(pin="1.1.0") == "1.1.0"
    assert device.verifier.check_installed(bad).verdict == "verified"

    # Withdrawn again later: that counts again.
    world.withdraw("1.1.0")
    device.source.files = world.publish()
    with pytest.raises(WithdrawnError, match="leaks oil"):
        device.verify(pin="1.1.0")
    assert device.memory.withdrawn[PUMP][bad] == world.roles[PUMP.role].version
    assert device.verifier.check_installed(bad).code == "withdrawn"


def test_reinstatement_taken_back(tmp_path: Path) -> None:
    """A policy without the reinstatement makes the withdrawal stand again."""
    world, device, bad = withdrawn(tmp_path)
    del world.roles[PUMP.role].targets[PUMP.release_path("1.1.0")]
    world.release("1.1.0")
    reinstate(world, bad, world.roles[PUMP.role].version)
    device.source.files = world.publish()
    assert device.version(pin="1.1.0") == "1.1.0"

    world.set_policy(str(PUMP), PublisherPolicy(epoch=1, provenance="none"))
    device.source.files = world.publish()
    with pytest.raises(WithdrawnError):
        device.verify(pin="1.1.0")
    assert device.verifier.check_installed(bad).code == "withdrawn"


def test_reinstatement_of_another_artifact(tmp_path: Path) -> None:
    """A reinstatement names bytes; it helps no other release."""
    world, device, bad = withdrawn(tmp_path)
    other = world.release("1.0.0")
    assert other != bad
    reinstate(world, other, 1000)
    device.source.files = world.publish()
    with pytest.raises(WithdrawnError):
        device.verify(pin="1.1.0")


def test_one_applications_key_withdraws_another(tmp_path: Path) -> None:
    """The valve's CI key lists the pump monitor's artifact as its own, withdrawn."""
    world = World()
    world.release("1.0.0", content=b"shared")
    world.release("1.0.0", "acme/valve")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane

    same = world.release("6.6.6", "acme/valve", content=b"shared")
    world.withdraw("6.6.6", "acme/valve")
    device.source.files = world.publish()
    assert device.version("acme/valve") == "1.0.0"
    assert device.memory.withdrawn[ReleaseName.parse("acme/valve")].keys() == {same}
    assert device.version() == "1.0.0"
    assert device.verifier.check_installed(same).verdict == "verified"


def test_withdrawal_without_a_replacement(tmp_path: Path) -> None:
    """The error says why, and names no other version."""
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.version() == "1.0.0"  # sane
    world.withdraw("1.0.0")
    device.source.files = world.publish()
    with pytest.raises(WithdrawnError, match="leaks oil") as caught:
        device.verify()
    assert caught.value.use is None
    assert device.memory.fetched == ()


def test_a_flood_of_withdrawals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stolen CI key withdraws without end: the memory stays small, others live on."""
    monkeypatch.setattr(memory, "MAX_WITHDRAWN", 3)
    world = World()
    for version in ("1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0"):
        world.release(version)
    world.release("1.0.0", "acme/valve")
    world.publish()
    device = world.device(tmp_path)
    assert device.version() == "1.4.0"  # sane

    for version in ("1.0.0", "1.1.0", "1.2.0"):
        world.withdraw(version)
    device.source.files = world.publish()
    assert device.version() == "1.4.0"
    world.withdraw("1.3.0")
    device.source.files = world.publish()
    with refused(
        device,
        BudgetError,
        "budget",
        match="more than 3 withdrawn releases",
        newer=True,
    ):
        device.verify()
    assert len(device.memory.withdrawn[PUMP]) == 3
    assert device.version("acme/valve") == "1.0.0"


def test_unknown_is_not_good(tmp_path: Path) -> None:
    """An artifact that this device never fetched is not good because of its silence."""
    _, device, bad = withdrawn(tmp_path)
    stranger = type(bad).of(b"never seen")
    report = device.verifier.check_installed(stranger)
    assert (report.verdict, report.code) == ("rejected", "unknown-target")
