"""A copy is killed before each of its writes: devices see the old state or the new."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from margo_supplychain.authoring.copying import copy_releases
from margo_supplychain.authoring.shelves import open_shelf
from margo_supplychain.formats.pins import Pin
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.opening import FixedContent, open_source
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.authoring.trust import DEVICE_POLICY, PUMP, Vendor
from tests.faults.crash import Crash, Loss, crash_points

if TYPE_CHECKING:
    from pathlib import Path

NEWEST = Pin.range("*", grammar="npm")


def begin(vendor: Vendor, kind: str) -> Path:
    """Make a repository, a copy of its first state, and a second state."""
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    copies = vendor.directory / "copies"
    copies.mkdir()
    run(vendor, copies, kind)
    vendor.publish("1.1.0")
    return copies


def run(vendor: Vendor, directory: Path, kind: str) -> None:
    with open_shelf(f"{kind}:{directory / 'mirror'}") as shelf:
        copy_releases(
            DirectorySource(vendor.trust),
            shelf,
            trust=TrustStore.unsafe_without_memory(root=vendor.repository.root),
            clock=vendor.clock,
        )


def seen(vendor: Vendor, directory: Path, kind: str) -> str:
    """Return the version that a fresh device, and one of the first state, installs."""
    source = open_source(f"{kind}:{directory / 'mirror'}")
    verifier = Verifier(
        store=TrustStore.unsafe_without_memory(root=vendor.repository.root),
        source=source,
        content=FixedContent([source]),
        policy=DEVICE_POLICY,
        clock=vendor.clock,
    )
    release = verifier.verify(PUMP, NEWEST)
    installed = directory / "installed"
    verifier.fetch(release, installed)
    shutil.rmtree(installed)
    return str(release.version)


def crash(tmp_path: Path, kind: str, *losses: Loss) -> None:
    vendor = Vendor(tmp_path / "vendor")
    copies = begin(vendor, kind)
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def check(directory: Path, crash: Crash) -> None:
        version = seen(vendor, directory, kind)
        assert version in ({"1.1.0"} if crash.finished else {"1.0.0", "1.1.0"})
        run(vendor, directory, kind)
        assert seen(vendor, directory, kind) == "1.1.0"

    crash_points(
        copies,
        lambda directory: run(vendor, directory, kind),
        check,
        scratch=scratch,
        losses=losses,
    )


def test_into_a_directory(tmp_path: Path) -> None:
    crash(tmp_path, "file", Loss.UNSYNCED, Loss.BYTES)


def test_into_a_layout(tmp_path: Path) -> None:
    crash(tmp_path, "oci-layout", Loss.UNSYNCED)
