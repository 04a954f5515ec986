"""Kill tests of a device: each of its writes, by a signal and by a power failure.

Whatever is left, the store opens, no floor is below what it was before the call, and
the same call then does its work.
"""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import StateLostError
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.storage import durable
from margo_supplychain.storage.operations import Operations
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.opening import FixedContent
from margo_supplychain.verify.limits import Limits
from margo_supplychain.verify.policy import Policy
from margo_supplychain.verify.trust_store import MEMORY_FILES, TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.faults.crash import Crash, Loss, crash_points
from tests.world import World
from tests.world.device import SIGNED
from tests.world.on_disk import write_files

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.verify.memory import Memory
    from margo_supplychain.verify.results import VerifiedContent, VerifiedRelease

NAME = ReleaseName.parse("acme/pump-monitor")
PIN = Pin.parse_argument("*")
PUBLISHERS = frozenset({"acme"})


class Plant:
    """A repository on disk, and a device's directory that crashes are played in."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.served = scratch / "served"
        self.state = scratch / "state"
        self.state.mkdir()
        self.world = World()
        self.world.release("1.0.0")
        self.serve()
        self.root = self.world.files.metadata["1.root.json"]

    def serve(self) -> None:
        self.world.publish()
        write_files(self.world.files, self.served)

    def create(self, directory: Path) -> TrustStore:
        return TrustStore.create(
            directory / "store", root=self.root, publishers=PUBLISHERS
        )

    def verifier(self, directory: Path) -> Verifier:
        source = DirectorySource(self.served)
        return Verifier(
            store=TrustStore.open(directory / "store"),
            source=source,
            content=FixedContent([source]),
            policy=Policy.from_toml(SIGNED),
            clock=self.world.clock,
            # Each run makes the same writes in the same order.
            limits=Limits(parallel=1),
        )

    def verify(self, directory: Path) -> VerifiedRelease:
        return self.verifier(directory).verify(NAME, PIN)

    def fetch(self, directory: Path) -> VerifiedContent:
        verifier = self.verifier(directory)
        return verifier.fetch(verifier.verify(NAME, PIN), directory / "staging")

    def confirm(self, directory: Path, content: VerifiedContent) -> None:
        verifier = self.verifier(directory)
        verifier.confirm_running(content.release.manifest.digest)


class Unsynced(Operations):
    """Checks go on from what is left, they don't crash again: no need to wait."""

    def sync_file(self, descriptor: int) -> None:
        pass

    def sync_directory(self, path: Path) -> None:
        pass


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "operations", Unsynced())


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


def memory_of(directory: Path) -> Memory:
    return TrustStore.open(directory / "store").load()


def floors(directory: Path) -> dict[str, object]:
    """Return all that must never fall, each as something that can be compared."""
    memory = memory_of(directory)
    found: dict[str, object] = {"time": str(memory.time_floor or "")}
    found["root"] = TrustStore.open(directory / "store").status().root
    found["timestamp"] = memory.timestamp.version if memory.timestamp else 0
    found["snapshot"] = memory.snapshot.version if memory.snapshot else 0
    for role, floor in (memory.snapshot.roles if memory.snapshot else {}).items():
        found[f"role {role}"] = floor.version
    for slot, releases in memory.releases.items():
        for name, release in releases.items():
            found[f"slot {slot} {name}"] = (release.epoch, release.version)
    for name, seen in memory.withdrawn.items():
        for digest, version in seen.items():
            found[f"withdrawn {name} {digest}"] = version
    for one in memory.fetched:
        found[f"fetched {one.name} {one.artifact}"] = True
    return found


def require_not_below(directory: Path, before: dict[str, object]) -> None:
    now = floors(directory)
    for what, floor in before.items():
        assert what in now, what
        assert now[what] >= floor, what  # type: ignore[operator]  # both are versions


def require_like(directory: Path, expected: Memory) -> None:
    """The memory is what the call leaves when nothing is killed; commits may differ."""
    found = memory_of(directory)
    assert found.to_bytes() != b""
    for field in ("root", "publishers", "timestamp", "snapshot", "releases", "fetched"):
        assert getattr(found, field) == getattr(expected, field), field
    for field in ("root_time", "timestamp_time", "withdrawn", "reinstated"):
        assert getattr(found, field) == getattr(expected, field), field


def require_no_leftovers(directory: Path) -> None:
    left = [one for one in directory.rglob(".tmp-*") if one.is_file()]
    assert left == []


def test_kill_during_the_first_refresh(plant: Plant) -> None:
    plant.create(plant.state)
    plant.world.rotate("timestamp", "timestamp-2")
    plant.serve()
    before = floors(plant.state)
    whole = plant.scratch / "whole"
    shutil.copytree(plant.state, whole)
    plant.verifier(whole).refresh()
    expected = memory_of(whole)

    def check(directory: Path, crash: Crash) -> None:
        require_not_below(directory, before)
        if crash.finished:
            require_like(directory, expected)
        plant.verifier(directory).refresh()
        require_like(directory, expected)

    writes = crash_points(
        plant.state,
        lambda directory: plant.verifier(directory).refresh(),
        check,
        scratch=plant.scratch,
    )
    assert writes > 20


def test_kill_during_a_verification_after_an_update(plant: Plant) -> None:
    """A new root with other keys, a withdrawal, a newer release: all at once."""
    plant.create(plant.state)
    content = plant.fetch(plant.state)
    plant.confirm(plant.state, content)
    plant.world.rotate("snapshot", "snapshot-2")
    plant.world.release("1.0.1")
    plant.world.release("1.1.0")
    plant.world.withdraw("1.0.1")
    plant.serve()
    before = floors(plant.state)
    # Snapshot's floors fall with its keys, by the new root and not by a crash.
    before = {
        what: floor
        for what, floor in before.items()
        if what != "snapshot" and not what.startswith("role ")
    }
    whole = plant.scratch / "whole"
    shutil.copytree(plant.state, whole)
    plant.verify(whole)
    expected = memory_of(whole)

    def check(directory: Path, crash: Crash) -> None:
        require_not_below(directory, before)
        if crash.finished:
            require_like(directory, expected)
        assert str(plant.verify(directory).version) == "1.1.0"
        require_like(directory, expected)

    crash_points(plant.state, plant.verify, check, scratch=plant.scratch)


def test_kill_during_a_fetch(plant: Plant) -> None:
    plant.create(plant.state)
    plant.fetch(plant.state)
    plant.world.release("1.1.0", content=b"pump" * 1000)
    plant.serve()
    plant.verify(plant.state)
    before = floors(plant.state)

    def check(directory: Path, crash: Crash) -> None:
        require_not_below(directory, before)
        # A name among the blobs is a promise, whoever killed the writer.
        for path in (directory / "staging" / "blobs" / "sha256").iterdir():
            if not path.name.startswith("."):
                found = hashlib.sha256(path.read_bytes()).hexdigest()
                assert found == path.name
        content = plant.fetch(directory)
        for digest, what in content.digests.items():
            with content.open(digest) as stream:
                assert len(stream.read()) == what.size
        listed = [one.descriptor for one in content.content.index().manifests]
        assert content.release.manifest in listed
        plant.confirm(directory, content)

    crash_points(plant.state, plant.fetch, check, scratch=plant.scratch)


def test_kill_during_the_first_fetch(plant: Plant) -> None:
    """The layout itself is made as well."""
    plant.create(plant.state)
    plant.verify(plant.state)
    before = floors(plant.state)

    def check(directory: Path, crash: Crash) -> None:
        require_not_below(directory, before)
        content = plant.fetch(directory)
        for digest in content.digests:
            content.open(digest).close()

    crash_points(plant.state, plant.fetch, check, scratch=plant.scratch)


def test_kill_during_a_confirmation(plant: Plant) -> None:
    plant.create(plant.state)
    plant.confirm(plant.state, plant.fetch(plant.state))
    plant.world.release("1.1.0")
    plant.serve()
    content = plant.fetch(plant.state)
    before = floors(plant.state)
    versions = {"1.0.0", "1.1.0"}

    def check(directory: Path, crash: Crash) -> None:
        require_not_below(directory, before)
        floor = memory_of(directory).floor(NAME, "default")
        assert floor is not None
        assert str(floor.version) in ({"1.1.0"} if crash.finished else versions)
        plant.confirm(directory, content)
        floor = memory_of(directory).floor(NAME, "default")
        assert floor is not None
        assert str(floor.version) == "1.1.0"
        require_no_leftovers(directory)

    crash_points(
        plant.state,
        lambda directory: plant.confirm(directory, content),
        check,
        scratch=plant.scratch,
    )


def test_kill_during_creation(plant: Plant) -> None:
    """There is a store, or there is none and making it works."""
    made = 0

    def check(directory: Path, crash: Crash) -> None:
        nonlocal made
        try:
            store = TrustStore.open(directory / "store")
        except StateLostError:
            assert not crash.finished
            store = plant.create(directory)
            made += 1
        assert store.load().root == plant.root
        plant.verifier(directory).refresh()

    writes = crash_points(plant.state, plant.create, check, scratch=plant.scratch)
    assert 0 < made < 3 * writes


@pytest.mark.parametrize("name", MEMORY_FILES)
def test_kill_during_a_repair(plant: Plant, name: str) -> None:
    """One copy of the memory is damaged; whoever repairs it is killed."""
    plant.create(plant.state)
    plant.confirm(plant.state, plant.fetch(plant.state))
    expected = memory_of(plant.state)
    (plant.state / "store" / name).write_bytes(b"damaged")

    def action(directory: Path) -> None:
        TrustStore.open(directory / "store")

    def check(directory: Path, crash: Crash) -> None:
        assert memory_of(directory) == expected
        copies = {(directory / "store" / one).read_bytes() for one in MEMORY_FILES}
        assert len(copies) == 1

    assert crash_points(plant.state, action, check, scratch=plant.scratch) > 5


def test_kill_while_old_copies_are_pruned(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies are worth a download and no safety."""
    plant.create(plant.state)
    plant.verify(plant.state)
    before = floors(plant.state)
    plant.world.release("1.1.0")
    plant.serve()
    monkeypatch.setattr("margo_supplychain.verify.trust_store.MAX_COPIES", 2)

    def check(directory: Path, crash: Crash) -> None:
        require_not_below(directory, before)
        assert str(plant.verify(directory).version) == "1.1.0"
        # The next one that writes a copy clears away what the killed one left.
        name = hashlib.sha256(b"copy").hexdigest()
        TrustStore.open(directory / "store").keep_copies(NAME, {name: b"copy"})
        assert len(list((directory / "store" / "targets").iterdir())) == 2

    losses = [Loss.UNSYNCED]
    crash_points(plant.state, plant.verify, check, scratch=plant.scratch, losses=losses)
