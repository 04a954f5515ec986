"""`prune` removes old versions, and nothing that anybody may need."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring.housekeeping import Pruned, prune
from margo_supplychain.authoring.shelves import open_shelf
from margo_supplychain.authoring.testing import tiny_repository
from margo_supplychain.errors import (
    FetchError,
    MixAndMatchError,
    RefusedError,
    RollbackError,
    ThresholdError,
)
from margo_supplychain.formats.pins import Pin
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.verify.trust_store import TrustStore
from tests.authoring.copies import KINDS, copy, device, place
from tests.authoring.trust import PUMP, Vendor
from tests.registries.servers import docker_registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.registries.servers import DockerRegistry


@pytest.fixture
def old(vendor: Vendor) -> Vendor:
    """A repository with five releases, one edit each: snapshots 1 to 7."""
    vendor.create_with_pump()
    for number in range(5):
        vendor.publish(f"1.{number}.0")
    return vendor


def run(
    vendor: Vendor,
    at: str | Path | None = None,
    *,
    trust: TrustStore | None = None,
    keep: int = 2,
    registry: DockerRegistry | None = None,
) -> Pruned:
    network = None if registry is None else registry.network()
    with open_shelf(str(at or vendor.trust), network=network) as shelf:
        return prune(
            shelf,
            trust=trust
            or TrustStore.unsafe_without_memory(root=vendor.repository.root),
            clock=vendor.clock,
            keep=keep,
        )


def names(vendor: Vendor) -> set[str]:
    return {one.name for one in (vendor.trust / "metadata").iterdir()}


def test_the_last_ones_stay(old: Vendor) -> None:
    before = names(old)
    done = run(old)
    assert set(done.removed) == before - names(old)
    assert done.kept == len(names(old))
    assert {one for one in names(old) if "snapshot" in one} == {
        "6.snapshot.json",
        "7.snapshot.json",
    }
    assert {one for one in names(old) if "pump" in one} == {
        "5.acme.pump-monitor.json",
        "6.acme.pump-monitor.json",
    }
    assert {"1.root.json", "timestamp.json", "1.targets.json"} <= names(old)
    assert old.repository.check(clock=old.clock).verdict == "verified"
    assert run(old).removed == ()
    old.publish("2.0.0")


def test_what_the_snapshot_before_names_stays(old: Vendor) -> None:
    """A device that read the timestamp just before the last edit finds its files."""
    previous = (old.trust / "authoring/previous-timestamp.json").read_bytes()
    run(old, keep=1)
    assert "6.snapshot.json" in names(old)
    assert "5.acme.pump-monitor.json" in names(old)
    shutil.copytree(old.trust, old.directory / "mirror")
    (old.directory / "mirror/metadata/timestamp.json").write_bytes(previous)
    found = device(old).verify(PUMP, Pin.parse_argument("^1"))
    assert str(found.version) == "1.3.0"


def test_names_of_killed_runs_stay(old: Vendor) -> None:
    """They were never seen, and must never be written again with other bytes."""
    left = old.trust / "metadata" / "8.snapshot.json"
    left.write_bytes(b"left by a killed run")
    (old.trust / "metadata" / "1.acme.new.json").write_bytes(b"{}")
    (old.trust / "metadata" / "6.snapshot.json").write_bytes(b"damaged")
    run(old, keep=1)
    assert {"8.snapshot.json", "1.acme.new.json", "6.snapshot.json"} <= names(old)
    assert old.publish("2.0.0").snapshot == 9


def test_what_has_expired_can_be_pruned(old: Vendor) -> None:
    old.clock.advance(days=20)
    assert run(old).removed


def test_only_what_verifies_is_pruned(old: Vendor) -> None:
    before = names(old)
    path = old.trust / "metadata" / "7.snapshot.json"
    good = path.read_bytes()
    path.write_bytes(good.replace(b"7", b"9"))
    with pytest.raises(MixAndMatchError):
        run(old)
    path.write_bytes(good)
    store = old.store()
    device(old, store, at="trust").refresh()
    shutil.copy(
        old.trust / "authoring/previous-timestamp.json",
        old.trust / "metadata/timestamp.json",
    )
    with pytest.raises(RollbackError):
        run(old, trust=store)
    assert names(old) == before


def test_keep_something(old: Vendor) -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        run(old, keep=0)


def test_nothing_there(old: Vendor) -> None:
    with pytest.raises(FetchError):
        run(old, old.directory / "nowhere")
    tiny = tiny_repository(old.directory / "tiny", clock=old.clock)
    stranger = TrustStore.unsafe_without_memory(root=tiny.root)
    with pytest.raises(ThresholdError):
        run(old, trust=stranger)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_every_kind_of_place(old: Vendor, tmp_path: Path, kind: str) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        at = place(kind, old, "there", registry)
        trust = DirectorySource(old.trust).url
        for version in ("2.0.0", "3.0.0", "4.0.0"):
            copy(old, trust, at, registry)
            old.publish(version)
        done = run(old, at, keep=1, registry=registry)
        assert done.removed == ("6.acme.pump-monitor.json", "7.snapshot.json")
        assert not run(old, at, keep=1, registry=registry).removed
        assert copy(old, at, str(tmp_path / "back"), registry).snapshot == 9
        found = device(old, at="back").verify(PUMP, Pin.parse_argument("^3"))
        assert str(found.version) == "3.0.0"


def test_a_registry_that_deletes_nothing(old: Vendor, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry", delete=False) as registry:
        at = place("oci", old, "there", registry)
        for version in ("2.0.0", "3.0.0", "4.0.0"):
            copy(old, str(old.trust), at, registry)
            old.publish(version)
        with pytest.raises(RefusedError) as caught:
            run(old, at, keep=1, registry=registry)
        assert "delete" in f"{caught.value} {caught.value.hint}"
