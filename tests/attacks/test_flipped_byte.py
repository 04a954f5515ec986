"""Any byte of any served file is changed on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from margo_supplychain.errors import VerificationError
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.verify.policy import Policy
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.attacks.scenes import Plant, running
from tests.world import MemorySource
from tests.world.device import SIGNED

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world import Files

NAME = ReleaseName.parse("acme/pump-monitor")
PIN = Pin.parse_argument("*")
STRIDE = 5  # odd: every bit of a byte gets its turn
FILES = (
    "2.root.json",
    "timestamp.json",
    "4.snapshot.json",
    "3.targets.json",
    "4.acme.json",
    "3.acme.pump-monitor.json",
)


class Verdict(NamedTuple):
    """What a device would act on."""

    version: str
    record: bytes
    manifest: str


def verdict(plant: Plant, files: Files) -> Verdict:
    """Ask a device without memory, so that every served byte counts."""
    source = MemorySource(files)
    store = TrustStore.unsafe_without_memory(root=files.metadata["1.root.json"])
    verifier = Verifier(
        store=store,
        source=source,
        content=plant.device,
        policy=Policy.from_toml(SIGNED),
        clock=plant.device.clock,
    )
    release = verifier.verify(NAME, PIN)
    assert store.status().root == 2
    return Verdict(
        str(release.version), release.record.to_bytes(), str(release.manifest.digest)
    )


def next_state(tmp_path: Path) -> Plant:
    plant = running(tmp_path)
    plant.world.release("1.2.0")
    plant.world.touch("root", "targets", "acme")
    plant.world.publish()
    plant.serve()
    plant.device.contents = [plant.device.source]
    return plant


@pytest.mark.parametrize("filename", FILES)
def test_flipped_byte_of_metadata(tmp_path: Path, filename: str) -> None:
    """Mallory flips one bit of one file: the device refuses, or finds the very same
    content verified (a space that no signature covers). Nothing in between."""
    plant = next_state(tmp_path)
    files = plant.world.files.copy()
    honest = verdict(plant, files)
    assert honest.version == "1.2.0"  # sane

    data = files.metadata[filename]
    refusals = 0
    for position in range(0, len(data), STRIDE):
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position // STRIDE % 8)
        files.metadata[filename] = bytes(flipped)
        try:
            found = verdict(plant, files)
        except VerificationError:
            refusals += 1
        else:
            assert found == honest, position
    assert refusals > len(data) // STRIDE // 2


@pytest.mark.parametrize("part", ["releases/pump-monitor/1.2.0", "policies"])
def test_flipped_byte_of_a_target(tmp_path: Path, part: str) -> None:
    """The same for the release record and the publisher policy: here every bit is
    covered, so every one is refused."""
    plant = next_state(tmp_path)
    files = plant.world.files.copy()
    where = next(one for one in files.targets if part in one[0])
    data = files.targets[where]
    for position in range(0, len(data), STRIDE):
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position // STRIDE % 8)
        files.targets[where] = bytes(flipped)
        with pytest.raises(VerificationError) as caught:
            verdict(plant, files)
        assert caught.value.code == "digest-mismatch"


@pytest.mark.parametrize("filename", FILES)
def test_cut_metadata(tmp_path: Path, filename: str) -> None:
    """A file that ends early is refused wherever it ends."""
    plant = next_state(tmp_path)
    files = plant.world.files.copy()
    data = files.metadata[filename]
    for length in (*range(0, len(data) - 1, 97), len(data) - 1):
        files.metadata[filename] = data[:length]
        with pytest.raises(VerificationError):
            verdict(plant, files)
