"""What an author can bring back: damaged content, records, policies, killed runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from operator import contains
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring import rules
from margo_supplychain.authoring.publish import publish
from margo_supplychain.errors import (
    DigestMismatchError,
    RefusedError,
    RollbackError,
    StorageError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.versions import Version
from margo_supplychain.verify.trust_store import TrustStore
from tests.authoring.trust import OPEN, PUMP, Vendor, key

if TYPE_CHECKING:
    from pathlib import Path

ANY = Pin.range("*", grammar="npm")


@pytest.fixture
def filled(vendor: Vendor) -> Vendor:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    return vendor


def blobs(vendor: Vendor) -> list[Path]:
    return sorted((vendor.trust / "blobs/sha256").iterdir())


def damage(path: Path) -> None:
    """Change the last byte of a file; its size stays."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def policy_file(vendor: Vendor) -> Path:
    (found,) = (vendor.trust / "targets/acme/policies/pump-monitor").iterdir()
    return found


def fetch(vendor: Vendor) -> str:
    device = vendor.device()
    release = device.verify(PUMP, ANY)
    device.fetch(release, vendor.directory / f"to-{len(vendor.files())}")
    return str(release.version)


def test_publishing_again_restores_content(filled: Vendor) -> None:
    before = filled.files()
    damage(blobs(filled)[0])
    blobs(filled)[1].unlink()
    done = filled.publish("1.0.0", keys=[])
    assert (done.changed, done.blobs_restored) == (True, 2)
    assert not done.releases[0].is_new
    assert done.timestamp == 3
    assert filled.files() == before
    again = filled.publish("1.0.0", keys=[])
    assert (again.changed, again.blobs_restored) == (False, 0)
    assert fetch(filled) == "1.0.0"


def test_a_link_in_place_of_content_is_replaced(filled: Vendor) -> None:
    blob = blobs(filled)[0]
    moved = filled.directory / "moved"
    blob.rename(moved)
    blob.symlink_to(moved)
    filled.publish("1.0.0", "1.1.0")
    assert not blob.is_symlink()
    assert blob.read_bytes() == moved.read_bytes()


def test_shared_content_that_is_damaged_is_replaced(filled: Vendor) -> None:
    for blob in blobs(filled):
        damage(blob)
    # The empty config is part of both.
    filled.publish("1.1.0")
    device = filled.device()
    release = device.verify(PUMP, Pin.exact(Version.parse("1.1.0")))
    device.fetch(release, filled.directory / "to")


@pytest.mark.parametrize("lost", [False, True])
def test_a_record_is_signed_anew(filled: Vendor, lost: bool) -> None:
    (record,) = (filled.trust / "targets/acme/releases/pump-monitor").iterdir()
    if lost:
        record.unlink()
    else:
        damage(record)
    filled.clock.advance(hours=1)
    done = filled.publish("1.0.0")
    assert done.warnings == (
        "the record of acme/pump-monitor 1.0.0 was damaged or lost: signed anew",
    )
    assert fetch(filled) == "1.0.0"
    assert filled.repository.check(clock=filled.clock).verdict == "verified"


def test_a_withdrawn_release_stays_so_when_its_record_is_lost(filled: Vendor) -> None:
    filled.publish("1.1.0")
    filled.withdraw("1.1.0")
    for record in (filled.trust / "targets/acme/releases/pump-monitor").iterdir():
        record.unlink()
    filled.publish("1.1.0", "1.0.0")
    assert fetch(filled) == "1.0.0"
    with filled.repository.edit((), clock=filled.clock) as edit:
        assert edit.releases(PUMP)[Version.parse("1.1.0")].withdrawn is not None


def test_other_bytes_do_not_become_a_lost_record(filled: Vendor) -> None:
    for record in (filled.trust / "targets/acme/releases/pump-monitor").iterdir():
        record.unlink()
    other = filled.release("1.0.0", b"other bytes")
    with pytest.raises(RefusedError, match="exists with other bytes"):
        publish(filled.repository, [other], keys=[key("ci")], clock=filled.clock)


def test_the_same_policy_again_brings_its_file_back(filled: Vendor) -> None:
    before = filled.files()
    damage(policy_file(filled))
    with pytest.raises(DigestMismatchError) as caught:
        filled.withdraw("1.0.0")
    assert "app policy acme/pump-monitor --epoch N" in str(caught.value.hint)
    with filled.repository.edit((), clock=filled.clock) as edit:
        assert edit.set_policy(PUMP, OPEN)
    assert filled.files() == before
    with filled.repository.edit((), clock=filled.clock) as edit:
        assert not edit.set_policy(PUMP, OPEN)


@pytest.mark.parametrize("lost", [False, True])
def test_another_policy_in_place_of_a_damaged_one(filled: Vendor, lost: bool) -> None:
    if lost:
        policy_file(filled).unlink()
    else:
        damage(policy_file(filled))
    with filled.repository.edit(filled.keys, clock=filled.clock) as edit:
        assert edit.set_policy(PUMP, PublisherPolicy(epoch=2, provenance="none"))
        assert "was not compared with it" in edit.warnings[0]
    assert fetch(filled) == "1.0.0"


def test_a_file_in_the_place_of_the_new_policy(filled: Vendor) -> None:
    policy = PublisherPolicy(
        epoch=1, provenance="none", minimum_version=Version.parse("0.1.0")
    )
    place = policy_file(filled)
    with filled.repository.edit(filled.keys, clock=filled.clock) as edit:
        edit.set_policy(PUMP, policy)
    (new,) = (one for one in place.parent.iterdir() if one != place)
    data = new.read_bytes()
    assert policy.to_bytes() == data
    # Somebody puts another file of the same size where the next one will be.
    with filled.repository.edit(filled.keys, clock=filled.clock) as edit:
        edit.set_policy(PUMP, OPEN)
    damage(new)
    with filled.repository.edit(filled.keys, clock=filled.clock) as edit:
        edit.set_policy(PUMP, policy)
    assert new.read_bytes() == data
    assert fetch(filled) == "1.0.0"


def test_what_killed_runs_left_is_removed(filled: Vendor) -> None:
    left = [
        filled.trust / place / ".tmp-0123456789abcdef"
        for place in ("blobs/sha256", "metadata", ".")
    ]
    for path in left:
        path.write_bytes(b"half")
    filled.publish("1.1.0")
    assert not any(path.exists() for path in left)


def test_content_that_no_device_takes_is_not_published(
    filled: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise VerificationError("no device takes it")

    monkeypatch.setattr(
        "margo_supplychain.authoring.directory_place.check_stored", refuse
    )
    damage(blobs(filled)[0])
    before = filled.files()
    with pytest.raises(SupplyChainError, match="no device takes it") as caught:
        filled.publish("1.1.0")
    assert "nothing was published" in str(caught.value.hint)
    after = filled.files()
    assert after.keys() == before.keys()
    assert after["metadata/timestamp.json"] == before["metadata/timestamp.json"]


# --- what else an author is told -----------------------------------------------------


def test_status_sees_an_old_copy(filled: Vendor) -> None:
    store = filled.store()
    filled.publish("1.1.0", state=store)
    within = timedelta(days=1)
    assert filled.repository.status(within=within, clock=filled.clock, state=store)
    newer = filled.files()
    (filled.trust / "metadata/timestamp.json").write_bytes(
        newer["authoring/previous-timestamp.json"]
    )
    filled.repository.status(within=within, clock=filled.clock)
    with pytest.raises(RollbackError):
        filled.repository.status(within=within, clock=filled.clock, state=store)


@pytest.mark.parametrize(
    ("policy", "warnings"),
    [
        (
            replace(OPEN, provenance="required"),
            (
                "no layout is current: no new release can be published",
                "devices refuse 1.1.0, 1.0.0 of acme/pump-monitor from now on",
            ),
        ),
        (
            replace(OPEN, minimum_version=Version.parse("9.0.0")),
            ("the minimum 9.0.0 bars every listed release of acme/pump-monitor",),
        ),
        (
            replace(OPEN, epoch=1_000_000, minimum_version=Version.parse("1.1.0")),
            ("1000000 is the last epoch that acme/pump-monitor can ever have",),
        ),
        (replace(OPEN, minimum_version=Version.parse("1.1.0")), ()),
    ],
)
def test_policies_that_may_not_be_meant_are_warned_of(
    filled: Vendor, policy: PublisherPolicy, warnings: tuple[str, ...]
) -> None:
    filled.publish("1.1.0")
    with filled.repository.edit(filled.keys, clock=filled.clock) as edit:
        edit.set_policy(PUMP, policy)
    assert len(edit.warnings) == len(warnings)
    assert all(map(contains, edit.warnings, warnings))


def test_going_back_below_the_minimum_is_warned_of(filled: Vendor) -> None:
    filled.publish("1.1.0")
    policy = replace(
        OPEN,
        minimum_version=Version.parse("1.1.0"),
        downgrade_to=(filled.release("1.0.0").artifact.digest,),
    )
    with filled.repository.edit(filled.keys, clock=filled.clock) as edit:
        edit.set_policy(PUMP, policy)
    assert edit.warnings == (
        (
            "going back to 1.0.0 of acme/pump-monitor stays barred: it is below the "
            "minimum 1.1.0"
        ),
    )


def publish_twins(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    """List 1.0.1 with the package of 1.0.0, as other makers may do."""
    twin = vendor.release("1.0.1", f"{PUMP} 1.0.0".encode())
    with monkeypatch.context() as patch:
        patch.setattr(rules, "check_release", lambda *_one, **_two: None)
        publish(vendor.repository, [twin], keys=[key("ci")], clock=vendor.clock)


def test_withdrawing_one_of_two_with_the_same_package(
    filled: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_twins(filled, monkeypatch)
    filled.publish("0.9.0")
    with filled.repository.edit([key("ci")], clock=filled.clock) as edit:
        with pytest.raises(RefusedError, match=r"instead of 1\.0\.0: it has the same"):
            edit.withdraw(
                PUMP,
                Version.parse("1.0.0"),
                reason="leaks",
                use=Version.parse("1.0.1"),
            )
        edit.withdraw(PUMP, Version.parse("1.0.0"), reason="leaks")
    assert edit.warnings == (
        (
            "1.0.1 of acme/pump-monitor has the same package as 1.0.0: devices refuse "
            "it as well"
        ),
    )
    assert fetch(filled) == "0.9.0"
    # Either of them can be reinstated: it is about the package.
    with filled.repository.edit(filled.keys, clock=filled.clock) as edit:
        assert edit.reinstate(PUMP, Version.parse("1.0.1"))
    assert fetch(filled) == "1.0.1"


def test_what_is_below_the_minimum_is_no_replacement(filled: Vendor) -> None:
    filled.publish("1.1.0")
    with filled.repository.edit(filled.keys, clock=filled.clock) as edit:
        edit.set_policy(PUMP, replace(OPEN, minimum_version=Version.parse("1.1.0")))
    with pytest.raises(RefusedError, match=r"below the publisher's minimum 1\.1\.0"):
        filled.withdraw("1.1.0", use=Version.parse("1.0.0"))


def test_two_lost_policies_of_one_role(tmp_path: Path) -> None:
    """In `simple` one role lists all: each application is mended by itself."""
    vendor = Vendor(tmp_path, profile="simple")
    vendor.create_with_pump()
    valve = ReleaseName.parse("acme/valve")
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_application(
            valve, [], policy=PublisherPolicy(epoch=3, provenance="none")
        )
    vendor.publish("1.0.0")
    for path in (vendor.trust / "targets" / "acme" / "policies").rglob("*.json"):
        path.unlink()

    for name in (PUMP, valve):
        policy = PublisherPolicy(epoch=9, provenance="none")
        with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
            assert edit.set_policy(name, policy)
    assert not any("can't be read" in one for one in edit.warnings)
    vendor.publish("1.1.0")


def test_a_memory_that_can_not_be_written_after_the_repository_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What devices see already is not reported as a failure."""
    vendor = Vendor(tmp_path)
    vendor.create_with_pump()
    store = vendor.store()

    def full(*_: object) -> None:
        raise StorageError("can't write memory-a: no space left", path="memory-a")

    monkeypatch.setattr(TrustStore, "keep", full)
    found = vendor.publish("1.0.0", state=store)
    assert found.changed
    assert any("the author's memory of it is not" in one for one in found.warnings)
    monkeypatch.undo()
    assert str(vendor.device().verify(PUMP, ANY).version) == "1.0.0"
