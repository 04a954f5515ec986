"""Killed at any write: devices see the old state or the new one, and the next run
completes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from margo_supplychain.authoring.repository import Repository
from margo_supplychain.errors import FormatError
from margo_supplychain.formats.pins import Pin
from tests.authoring.killing import at
from tests.authoring.trust import OPEN, PUMP, VALVE, Vendor, key
from tests.faults.crash import Crash, Loss, crash_points

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.verify.trust_store import TrustStore

ANY = Pin.range("*", grammar="npm")


def newest(vendor: Vendor, store: TrustStore | None = None) -> str:
    """Return what a device would install, content and all."""
    device = vendor.device(store)
    release = device.verify(PUMP, ANY)
    target = vendor.directory / "fetched"
    device.fetch(release, target)
    shutil.rmtree(target)
    return str(release.version)


def test_publish(tmp_path: Path) -> None:
    original = Vendor(tmp_path / "start")
    original.create_with_pump()
    original.publish("1.0.0")
    original.device(original.store("device")).verify(PUMP, ANY)
    original.release("1.1.0")

    def publish(copy: Path) -> None:
        at(copy, original).publish("1.1.0")

    def check(copy: Path, crash: Crash) -> None:
        vendor = at(copy, original)
        seen = newest(vendor)
        assert seen in ({"1.1.0"} if crash.finished else {"1.0.0", "1.1.0"})
        vendor.repository.status(within=vendor.clock.when - vendor.clock.when)
        # Somebody else may be next.
        vendor.publish("1.2.0")
        done = vendor.publish("1.1.0")
        assert done.changed == (seen == "1.0.0")
        assert newest(vendor) == "1.2.0"
        report = vendor.repository.check(clock=vendor.clock)
        assert report.violations == ()
        assert not any(".tmp-" in name for name in vendor.files())

    writes = crash_points(original.directory, publish, check, scratch=tmp_path)
    assert writes > 30


def test_publish_with_a_memory(tmp_path: Path) -> None:
    """The author's memory and a device's survive with the repository."""
    original = Vendor(tmp_path / "start")
    original.create_with_pump()
    memory = original.store("author")
    original.publish("1.0.0", state=memory)
    from margo_supplychain.verify.trust_store import TrustStore

    def publish(copy: Path) -> None:
        store = TrustStore.open(copy / "author")
        at(copy, original).publish("1.1.0", state=store)

    def check(copy: Path, _: Crash) -> None:
        vendor = at(copy, original)
        store = TrustStore.open(copy / "author")
        vendor.publish("1.1.0", state=store)
        assert newest(vendor, store) == "1.1.0"
        assert vendor.repository.check(clock=vendor.clock, state=store).violations == ()

    original.release("1.1.0")
    losses = [Loss.UNSYNCED]
    crash_points(original.directory, publish, check, scratch=tmp_path, losses=losses)


def test_refresh_and_offline_changes(tmp_path: Path) -> None:
    original = Vendor(tmp_path / "start")
    original.create_with_pump()
    original.publish("1.0.0")

    def refresh(copy: Path) -> None:
        vendor = at(copy, original)
        with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
            edit.refresh()
            edit.refresh("targets")
            edit.add_application(VALVE, [key("ci").public_key], policy=OPEN)

    def check(copy: Path, crash: Crash) -> None:
        vendor = at(copy, original)
        assert newest(vendor) == "1.0.0"
        expected = {2} if crash.finished else {1, 2}
        assert vendor.version("targets") in expected
        refresh(copy)
        assert newest(vendor) == "1.0.0"
        assert vendor.repository.check(clock=vendor.clock).violations == ()

    losses = [Loss.UNSYNCED]
    crash_points(original.directory, refresh, check, scratch=tmp_path, losses=losses)


def test_create(tmp_path: Path) -> None:
    original = Vendor(tmp_path / "start")
    original.directory.mkdir()

    def create(copy: Path) -> None:
        at(copy, original).create()

    def check(copy: Path, crash: Crash) -> None:
        vendor = at(copy, original)
        try:
            Repository.open(vendor.trust)
        except FormatError:
            assert not crash.finished
            vendor.create()
        vendor.device().refresh()
        with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
            edit.add_application(PUMP, [key("ci").public_key], policy=OPEN)
        assert vendor.repository.check(clock=vendor.clock).violations == ()
        assert ".unfinished" not in {one.name for one in vendor.trust.iterdir()}

    crash_points(original.directory, create, check, scratch=tmp_path)
