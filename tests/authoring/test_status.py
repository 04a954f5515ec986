"""Who must sign what by when; without keys, and when it is too late."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring.repository import Repository
from margo_supplychain.errors import ThresholdError
from tests.authoring.tagged import TRUST, TaggedVendor
from tests.authoring.trust import OPEN, PUMP, Vendor, key

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.authoring.duties import Duty
    from margo_supplychain.authoring.plan import Kind

FORTNIGHT = timedelta(days=14)


def status(vendor: Vendor, within: timedelta = FORTNIGHT) -> dict[str, Duty]:
    found = vendor.repository.status(within=within, clock=vendor.clock)
    return {one.role: one for one in found}


def test_every_role_has_a_line(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    found = status(vendor)
    assert list(found) == [
        "root",
        "targets",
        "acme",
        "acme.pump-monitor",
        "snapshot",
        "timestamp",
    ]
    assert not any(one.due for one in found.values())
    acme = found["acme"]
    assert (acme.version, acme.signed, acme.needed) == (2, 1, 1)
    assert acme.expires == vendor.clock.when + timedelta(days=365)
    assert acme.holders == ("holder A",)
    assert [one.holder.name for one in acme.keys] == ["holder A"]
    assert (acme.action, acme.problem) == (None, None)
    ci = key("ci").public_key.keyid
    assert found["timestamp"].holders == (ci[:12],)
    assert found["timestamp"].keyids == (ci,)
    assert found["timestamp"].issued == vendor.clock.when


def test_duties_come_due(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.clock.advance(days=365 - 10)
    found = status(vendor)
    due = {one.role: one.action for one in found.values() if one.due}
    assert due == {
        "targets": "repo refresh --role targets",
        "acme": "repo refresh --role acme",
        "acme.pump-monitor": "repo refresh --role acme.pump-monitor",
        "snapshot": "repo refresh",
        "timestamp": "repo refresh",
    }
    later = status(vendor, timedelta(days=400))
    assert later["root"].due
    assert later["root"].action == "root propose"
    assert later["root"].problem is None


def test_a_duty_begins_with_its_signing_period(vendor: Vendor) -> None:
    """Root signs how long before the expiry a role is to be signed again."""
    signing: dict[Kind, timedelta] = {"publisher": timedelta(days=60)}
    plan = replace(vendor.plan(), signing=signing)
    Repository.create(vendor.trust, plan=plan, keys=vendor.keys, clock=vendor.clock)
    begins = vendor.clock.when + timedelta(days=305)
    nothing = timedelta(0)
    found = status(vendor, nothing)
    assert (found["acme"].begins, found["acme"].due) == (begins, False)
    assert found["targets"].begins is None
    vendor.clock.advance(days=305)
    found = status(vendor, nothing)
    assert found["acme"].due
    assert found["acme"].action == "repo refresh --role acme"
    assert not found["targets"].due


def test_a_scheduled_job_is_missed_at_half_time(vendor: Vendor) -> None:
    vendor.create()
    vendor.clock.advance(days=1, hours=23)
    assert not status(vendor)["timestamp"].due
    vendor.clock.advance(hours=1)
    assert status(vendor)["timestamp"].due
    assert not status(vendor, timedelta(hours=1))["timestamp"].due


def test_half_time_is_that_of_the_file_when_the_settings_are_lost(
    vendor: Vendor,
) -> None:
    plan = replace(vendor.plan(), periods={"timestamp": timedelta(hours=8)})
    Repository.create(vendor.trust, plan=plan, keys=vendor.keys, clock=vendor.clock)
    (vendor.trust / "authoring/settings.json").unlink()
    vendor.clock.advance(hours=3)
    assert not status(vendor)["timestamp"].due
    vendor.clock.advance(hours=1)
    assert status(vendor)["timestamp"].due


def test_an_application_without_a_release_is_no_duty(vendor: Vendor) -> None:
    vendor.create()
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_application(PUMP, [key("release").public_key], policy=OPEN)
    found = status(vendor)["acme.pump-monitor"]
    assert (found.version, found.signed, found.due) == (None, 0, False)


def test_a_damaged_role_is_a_problem_and_no_end(vendor: Vendor) -> None:
    vendor.create_with_pump()
    (vendor.trust / "metadata/1.acme.pump-monitor.json").write_bytes(b"damaged")
    found = status(vendor)["acme.pump-monitor"]
    assert found.due
    assert "is not the file that snapshot v2 names" in str(found.problem)
    assert found.version == 1
    assert "timestamp" in status(vendor)


def test_a_damaged_timestamp_is_an_error(vendor: Vendor) -> None:
    vendor.create()
    path = vendor.trust / "metadata/timestamp.json"
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2'))
    with pytest.raises(ThresholdError):
        status(vendor)


def test_simple(vendor: Vendor) -> None:
    vendor.profile = "simple"
    vendor.create_with_pump()
    assert list(status(vendor)) == ["root", "targets", "snapshot", "timestamp"]


# --- in a registry -------------------------------------------------------------------


@pytest.fixture
def tagged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaggedVendor:
    """A vendor whose repository of the profile small lies in a registry."""
    vendor = TaggedVendor(tmp_path)
    vendor.create_with_pump()
    vendor.move()
    vendor.registry.install(monkeypatch)
    return vendor


def test_the_profile_is_read_off_the_verified_keys(tagged: TaggedVendor) -> None:
    repository = tagged.at_registry()
    assert (repository.profile, repository.publisher) == ("small", "acme")


@pytest.mark.parametrize("with_memory", [False, True])
@pytest.mark.parametrize("tag", ["1.targets", "2.acme"])
def test_a_name_that_is_gone_is_noticed_and_put_back(
    tagged: TaggedVendor, tag: str, *, with_memory: bool
) -> None:
    """The author finds the bytes by digest, or has a copy; a device has neither."""
    repository = tagged.at_registry()
    state = tagged.store() if with_memory else None

    def due() -> list[Duty]:
        found = tagged.at_registry().status(
            within=FORTNIGHT, clock=tagged.clock, state=state
        )
        return [one for one in found if one.due]

    if state is not None:
        repository.check(clock=tagged.clock, state=state)
        with repository.edit([key("ci")], clock=tagged.clock, state=state) as edit:
            edit.refresh()
    assert not due()
    tags = tagged.registry.at(TRUST).tags
    lost = tags.pop(tag)
    assert [(one.role, one.action) for one in due()] == [
        (tag.partition(".")[2], "repo check --repair")
    ]
    assert due()[0].problem == f"{tag}.json is not there: devices can't refresh"
    tags[tag] = tags["1.root"]
    assert due()[0].problem == (
        f"{tag}.json is not what was signed: devices can't refresh"
    )
    if tag != "1.targets":  # that alone is read by every edit
        return
    del tags[tag]
    with tagged.at_registry().edit(
        [key("ci")], clock=tagged.clock, state=state
    ) as edit:
        edit.refresh()
    assert list(edit.warnings) == [
        f"put back {tag}.json: it was not under its name, and devices could not refresh"
    ]
    assert tags[tag] == lost
    assert not due()
