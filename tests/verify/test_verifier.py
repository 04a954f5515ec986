"""The verifier between a store that others write to and a caller that waits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import (
    ConflictError,
    DeploymentError,
    FetchError,
    UnknownTargetError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.verify.clock import Freshness
from margo_supplychain.verify.limits import Control
from margo_supplychain.verify.trust_store import TrustStore
from tests.attacks.packages import component
from tests.world import Device, World
from tests.world.repository import WASM
from tests.world.sources import MemorySource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.verify.memory import Memory


@pytest.fixture
def world() -> World:
    world = World()
    world.release("1.0.0")
    world.publish()
    return world


@pytest.fixture
def device(world: World, tmp_path: Path) -> Device:
    return world.device(tmp_path / "device")


class Interrupting(MemorySource):
    """Lets another process commit while a file is on its way."""

    def __init__(self, device: Device, times: int) -> None:
        super().__init__(device.source.files)
        self.device = device
        self.left = times

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        if filename == "timestamp.json" and self.left:
            self.left -= 1

            def count(memory: Memory) -> Memory:
                # Other bytes with the same words: a change that hurts nobody.
                return replace(memory, root=memory.root + b"\n")

            TrustStore.open(self.device.state).update(count)
        return super().metadata(filename, limit=limit, tick=tick)


def test_refresh_says_how_fresh(world: World, device: Device) -> None:
    assert device.refresh() is Freshness.FRESH
    device.source.down = True
    assert device.refresh() is Freshness.GRACE
    device.clock.advance(hours=-2)
    assert device.refresh() is Freshness.UNPROVEN


def test_a_refresh_that_fails_has_a_report(device: Device) -> None:
    device.source.down = True
    with pytest.raises(FetchError) as caught:
        device.refresh()
    report = caught.value.report
    assert report is not None
    assert (report.subject, report.verdict) == ("refresh of memory:", "inconclusive")
    assert [one.number for one in report.steps] == [0, 1]


def test_a_conflict_is_tried_again(device: Device) -> None:
    """The other process' newer state is the start of the next try."""
    device.source = source = Interrupting(device, times=3)
    release = device.verify()
    assert str(release.version) == "1.0.0"
    assert source.asked.count("2.root.json") == 4
    numbers = [one.number for one in release.report.steps]
    assert numbers == [0, 1, 2, 3, 4, 5]
    assert device.memory.root.endswith(b"\n\n\n")


def test_conflicts_without_end(device: Device) -> None:
    device.source = source = Interrupting(device, times=1000)
    with pytest.raises(ConflictError, match="faster than it can be read") as caught:
        device.verify()
    assert source.asked.count("timestamp.json") == 16
    assert caught.value.report is not None
    assert caught.value.report.verdict == "inconclusive"
    assert device.memory.timestamp is None


def test_nothing_is_known_of_what_was_never_fetched(device: Device) -> None:
    """A store that has seen no signed time has none to report."""
    digest = Digest.of(b"unknown")
    report = device.verifier.check_installed(digest)
    assert (report.verdict, report.code) == ("rejected", "unknown-target")
    assert report.subject == str(digest)
    with pytest.raises(UnknownTargetError, match="was not fetched by this device"):
        device.verifier.confirm_running(digest)


def test_what_runs_stays_known(world: World, device: Device) -> None:
    """Also when the record of its fetching has made room for others."""
    content = device.fetch()
    digest = content.release.manifest.digest
    device.verifier.confirm_running(digest)
    store = TrustStore.open(device.state)
    store.update(lambda memory: replace(memory, fetched=()))
    report = device.verifier.check_installed(digest)
    assert (report.verdict, report.code) == ("verified", "verified")
    assert report.time == device.memory.time_floor
    world.release("1.0.1")
    world.withdraw("1.0.0")
    device.source.files = world.publish()
    assert device.version() == "1.0.1"
    report = device.verifier.check_installed(digest)
    assert (report.verdict, report.code) == ("rejected", "withdrawn")


def test_a_release_of_another_store(
    world: World, device: Device, tmp_path: Path
) -> None:
    other = world.device(tmp_path / "other")
    release = other.verify()
    with pytest.raises(ValueError, match="verified by another store"):
        device.verifier.fetch(release, device.staging)


def test_a_fetch_tells_how_far_it_is(device: Device) -> None:
    said: list[tuple[str, int, int]] = []
    verifier = device.verifier
    name = ReleaseName.parse("acme/pump-monitor")
    release = verifier.verify(name, Pin.parse_argument("*"))
    control = Control(progress=lambda *told: said.append(told))
    content = verifier.fetch(release, device.staging, control=control)
    # The manifest is here since it was verified: nobody is asked for it again.
    fetched = content.digests.keys() - {release.manifest.digest}
    assert {what for what, _, _ in said} == {str(one) for one in fetched}
    assert all(done <= total for _, done, total in said)


def test_a_profile_of_a_kind_that_nobody_knows(world: World, device: Device) -> None:
    """What it deploys is for its own agent to judge; its bytes are checked."""
    module = world.add_blob(b"wasm", WASM)
    world.release("1.1.0", components=(component(module, kind="wasm.v1"),))
    device.source.files = world.publish()
    content = device.fetch()
    assert str(content.release.version) == "1.1.0"
    assert module.digest in content.digests


def test_a_component_that_is_no_artifact(world: World, device: Device) -> None:
    """A Compose profile deploys an OCI artifact, never a bare file."""
    module = world.add_blob(b"wasm", WASM)
    world.release("1.1.0", components=(component(module, kind="compose"),))
    device.source.files = world.publish()
    with pytest.raises(
        DeploymentError, match="component web of profile compose is application/wasm"
    ):
        device.fetch()
    assert device.memory.fetched == ()
