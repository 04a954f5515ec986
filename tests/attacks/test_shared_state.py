"""Several processes and threads use one state directory while the publisher works."""

from __future__ import annotations

import multiprocessing
import os
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.verify.policy import Policy
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.attacks.scenes import APPLICATION, running
from tests.world.device import SIGNED
from tests.world.on_disk import write_files

if TYPE_CHECKING:
    from pathlib import Path

    from tests.attacks.scenes import Plant

AT_ONCE = 4
CALLS = 25
UPDATES = 12
NAME = ReleaseName.parse("acme/pump-monitor")
PIN = Pin.parse_argument("*")


class Here:
    """Content lies beside the metadata."""

    def __init__(self, source: DirectorySource) -> None:
        self.source = source

    def sources(self, locations: object) -> list[DirectorySource]:
        del locations
        return [self.source]


def verifier(plant: Plant, directory: Path) -> Verifier:
    source = DirectorySource(directory)
    return Verifier(
        store=TrustStore.open(plant.device.state),
        source=source,
        content=Here(source),
        policy=Policy.from_toml(SIGNED),
        clock=plant.device.clock,
    )


def work(plant: Plant, directory: Path, shared: Verifier | None = None) -> None:
    """Refresh and verify in turn; versions never fall, in the memory and in answers."""
    last: tuple[tuple[int, ...], tuple[int, int]] = ((0, 0, 0), (0, 0))
    for number in range(CALLS):
        mine = shared if shared is not None else verifier(plant, directory)
        if number % 2:
            mine.refresh()
            found = last[1]
        else:
            version = mine.verify(NAME, PIN).version
            found = (version.major, version.minor)
        trusted = plant.device.trusted
        floors = (trusted["timestamp"], trusted["snapshot"], trusted[APPLICATION])
        for old, new in zip(last[0], floors, strict=True):
            if new < old:
                raise RuntimeError(f"{floors} after {last[0]}")
        if found < last[1]:
            raise RuntimeError(f"{found} after {last[1]}")
        last = (floors, found)


def in_a_process(plant: Plant, directory: Path, result: Path) -> None:
    try:
        work(plant, directory)
        result.write_text("good", "utf-8")
    finally:
        os._exit(0)  # without pytest's own ending


def publish(plant: Plant, directory: Path, number: int) -> None:
    """Add a release as a publisher does: what moves comes last, in one step."""
    plant.world.release(f"1.{number}.0")
    plant.world.publish()
    files = plant.world.files
    for (path, sha256), data in files.targets.items():
        folder, _, name = path.rpartition("/")
        place = directory / "targets" / folder / f"{sha256}.{name}"
        if not place.exists():
            place.write_bytes(data)
    for digest, data in files.blobs.items():
        place = directory / "blobs" / digest.replace(":", "/")
        if not place.exists():
            place.write_bytes(data)
    for name, data in files.metadata.items():
        place = directory / "metadata" / name
        if name != "timestamp.json" and not place.exists():
            place.write_bytes(data)
    moving = directory / "metadata" / "timestamp.new"
    moving.write_bytes(files.metadata["timestamp.json"])
    moving.replace(directory / "metadata" / "timestamp.json")


def test_processes_on_one_state_directory(tmp_path: Path) -> None:
    """Four processes refresh and verify on one state directory while releases appear:
    every call succeeds, and no version ever falls."""
    plant = running(tmp_path)
    directory = write_files(plant.world.files, tmp_path / "served")
    results = [tmp_path / f"result-{number}" for number in range(AT_ONCE)]
    fork = multiprocessing.get_context("fork")
    workers = [
        fork.Process(target=in_a_process, args=(plant, directory, result))
        for result in results
    ]
    for worker in workers:
        worker.start()
    for number in range(2, UPDATES + 2):
        publish(plant, directory, number)
        workers[0].join(0.01)
    for worker in workers:
        worker.join(60)
    assert [result.read_text("utf-8") for result in results] == ["good"] * AT_ONCE

    mine = verifier(plant, directory)
    assert str(mine.verify(NAME, PIN).version) == f"1.{UPDATES + 1}.0"
    assert plant.device.trusted["timestamp"] == 3 + UPDATES


@pytest.mark.parametrize("share", [True, False])
def test_threads_on_one_state_directory(tmp_path: Path, share: bool) -> None:
    """The same with four threads, on one verifier or on one each."""
    plant = running(tmp_path)
    directory = write_files(plant.world.files, tmp_path / "served")
    shared = verifier(plant, directory) if share else None
    good: list[int] = []

    def run(number: int) -> None:
        work(plant, directory, shared)
        good.append(number)

    threads = [Thread(target=run, args=(number,)) for number in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for number in range(2, UPDATES + 2):
        publish(plant, directory, number)
        threads[0].join(0.02)
    for thread in threads:
        thread.join(60)
    assert sorted(good) == list(range(AT_ONCE))
    assert plant.device.trusted["snapshot"] >= 3
