"""Publishing: what the vendor is told, twice the same, two at once, conflicts."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring import rules
from margo_supplychain.authoring.publish import publish
from margo_supplychain.errors import ConflictError, RefusedError
from margo_supplychain.formats.pins import Pin
from margo_supplychain.transport.directory import DirectorySink
from tests.authoring.trust import PUMP, Vendor, key

if TYPE_CHECKING:
    from pathlib import Path

ANY = Pin.range("*", grammar="npm")


def test_published(vendor: Vendor) -> None:
    vendor.create_with_pump()
    done = vendor.publish("1.0.0", "1.1.0")
    assert done.changed
    assert (done.root, done.snapshot, done.timestamp) == (1, 3, 3)
    assert done.fresh_until == vendor.clock.when + timedelta(days=4)
    assert (done.blobs_new, done.blobs_there) == (5, 0)  # one empty config for both
    first = done.releases[0]
    assert (first.name, str(first.version), first.is_new) == (PUMP, "1.0.0", True)
    assert first.path == "acme/releases/pump-monitor/1.0.0"
    assert (first.role, first.role_version) == ("acme.pump-monitor", 2)
    assert first.expires == vendor.clock.when + timedelta(days=180)
    assert first.artifact == vendor.release("1.0.0").artifact.digest
    device = vendor.device()
    content = device.fetch(device.verify(PUMP, ANY), vendor.directory / "fetched")
    assert len(content.digests) == 3


def test_the_same_again_changes_nothing(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    before = vendor.files()
    vendor.clock.advance(days=1)
    done = vendor.publish("1.0.0")
    assert not done.changed
    assert not done.releases[0].is_new
    assert (done.timestamp, done.releases[0].role_version) == (3, 2)
    assert (done.blobs_new, done.blobs_there) == (0, 0)
    assert vendor.files() == before


def test_the_same_again_needs_no_key(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    assert not vendor.publish("1.0.0", keys=[]).changed


def test_other_bytes_are_refused(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    before = vendor.files()
    other = vendor.release("1.0.0", b"other bytes")
    with pytest.raises(
        RefusedError, match=r"1\.0\.0 exists with other bytes"
    ) as caught:
        publish(vendor.repository, [other], keys=[key("ci")], clock=vendor.clock)
    assert caught.value.exit_status == 2
    assert vendor.files() == before


def test_one_wrong_release_publishes_none(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    before = vendor.files()
    releases = [vendor.release("1.1.0"), vendor.release("1.0.0", b"other bytes")]
    with pytest.raises(RefusedError, match="exists with other bytes"):
        publish(vendor.repository, releases, keys=[key("ci")], clock=vendor.clock)
    assert vendor.files() == before


def test_nothing_to_publish(vendor: Vendor) -> None:
    vendor.create_with_pump()
    with pytest.raises(RefusedError, match="there is nothing to publish"):
        publish(vendor.repository, [], keys=[key("ci")])


def test_older_and_newer_versions_in_any_order(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("2.0.0")
    vendor.publish("1.0.1")
    device = vendor.device()
    assert str(device.verify(PUMP, ANY).version) == "2.0.0"
    pin = Pin.range("^1", grammar="npm")
    assert str(device.verify(PUMP, pin).version) == "1.0.1"


def test_two_publishers_at_once_both_land(vendor: Vendor) -> None:
    vendor.create_with_pump()
    repositories = [vendor.repository, vendor.repository]
    releases = [[vendor.release(f"{major}.0.0")] for major in (1, 2)]
    errors: list[BaseException] = []
    start = threading.Barrier(2)

    def run(number: int) -> None:
        try:
            start.wait(timeout=10)
            publish(
                repositories[number],
                releases[number],
                keys=[key("ci")],
                clock=vendor.clock,
            )
        except BaseException as why:  # noqa: BLE001 (shown below)
            errors.append(why)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []
    assert vendor.version("acme.pump-monitor") == 3
    assert vendor.version("timestamp") == 4
    for major in ("1", "2"):
        pin = Pin.range(major, grammar="npm")
        assert str(vendor.device().verify(PUMP, pin).version) == f"{major}.0.0"
    assert vendor.repository.check(clock=vendor.clock).verdict == "verified"


def _conflicts(monkeypatch: pytest.MonkeyPatch, times: int) -> list[str]:
    """Let the first writes of a snapshot meet a file of somebody without the lock."""
    seen: list[str] = []
    write = DirectorySink.put_metadata

    def put(self: Any, filename: str, data: bytes) -> None:
        if filename.endswith(".snapshot.json") and len(seen) < times:
            seen.append(filename)
            path: Path = self.directory / "metadata" / filename
            path.write_bytes(b"of somebody who does not lock")
        write(self, filename, data)

    monkeypatch.setattr(DirectorySink, "put_metadata", put)
    return seen


def test_a_conflict_is_tried_again_once(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.create_with_pump()
    seen = _conflicts(monkeypatch, 1)
    done = vendor.publish("1.0.0")
    assert seen == ["3.snapshot.json"]
    assert (done.changed, done.snapshot) == (True, 4)
    assert vendor.repository.check(clock=vendor.clock).verdict == "verified"


def test_a_second_conflict_is_told(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.create_with_pump()
    _conflicts(monkeypatch, 2)
    with pytest.raises(ConflictError, match=r"4\.snapshot\.json exists with other"):
        vendor.publish("1.0.0")
    vendor.device().refresh()


def test_many_releases_are_warned_of(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.create_with_pump()
    monkeypatch.setattr(rules, "MANY_RELEASES", 1)
    assert vendor.publish("1.0.0").warnings == ()
    (warning,) = vendor.publish("1.1.0").warnings
    assert warning.startswith("acme.pump-monitor lists 2 releases")
