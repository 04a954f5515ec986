"""`root finalize` killed at any write: what is left is accepted, or says what to run,
and the next run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import SupplyChainError
from margo_supplychain.formats.pins import Pin
from margo_supplychain.verify.trust_store import TrustStore
from tests.authoring import thief
from tests.authoring.ceremony import keys_of, signed_root
from tests.authoring.killing import at
from tests.authoring.trust import PUMP, Vendor, key
from tests.faults.crash import Crash, Loss, crash_points

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.authoring.proposals import SignedRoot

ANY = Pin.range("*", grammar="npm")


@pytest.fixture
def original(tmp_path: Path) -> Vendor:
    found = Vendor(tmp_path / "start")
    found.create_with_pump()
    found.publish("1.0.0")
    return found


def newest(vendor: Vendor, store: TrustStore | None = None) -> str:
    return str(vendor.device(store).verify(PUMP, ANY).version)


def finalized(
    copy: Path, original: Vendor, root: SignedRoot, keys: list[str], memory: str = ""
) -> None:
    vendor = at(copy, original)
    store = TrustStore.open(copy / memory) if memory else None
    vendor.repository.adopt_root(
        root, [key(one) for one in keys], clock=vendor.clock, state=store
    )


def published(copy: Path, original: Vendor, keys: list[str]) -> None:
    """Publish as somebody else would, who knows nothing of a ceremony."""
    vendor = at(copy, original)
    vendor.release("1.1.0")
    vendor.publish("1.1.0", keys=[key(one) for one in keys])


@pytest.mark.parametrize(
    ("role", "new", "signers"),
    [
        ("root", keys_of("r-1", "r-2"), ["offline", "r-1"]),
        ("targets", keys_of("t-1"), ["offline"]),
        ("snapshot", keys_of("s-1"), ["offline"]),
        ("timestamp", keys_of("ci", "ci-2", threshold=2), ["offline"]),
    ],
)
def test_handed_on(
    original: Vendor, tmp_path: Path, role: str, new: object, signers: list[str]
) -> None:
    """Every device accepts what is left at every write, and so does `repo check`."""
    keys = ["offline", "ci", "ci-2", "t-1", "s-1"]
    store = original.store("device/state")
    newest(original, store)
    changes: dict[str, Any] = {role: new}
    root = signed_root(original.repository, signers, clock=original.clock, **changes)

    def finalize(copy: Path) -> None:
        finalized(copy, original, root, keys)

    def check(copy: Path, crash: Crash) -> None:
        vendor = at(copy, original)
        store = TrustStore.open(copy / "device/state")
        assert newest(vendor) == newest(vendor, store) == "1.0.0"
        assert vendor.repository.check(clock=vendor.clock).violations == ()
        known = store.status().root
        assert known in ({2} if crash.finished else {1, 2})
        if crash.at % 2:
            published(copy, original, keys)
        finalize(copy)
        vendor.device(store).refresh()
        assert store.status().root == 2
        expected = "1.1.0" if crash.at % 2 else "1.0.0"
        assert newest(vendor) == newest(vendor, store) == expected
        assert vendor.repository.check(clock=vendor.clock).violations == ()
        assert not any(".tmp-" in name for name in vendor.files())

    losses = [Loss.UNSYNCED]
    crash_points(original.directory, finalize, check, scratch=tmp_path, losses=losses)


def test_in_place_of_stolen_keys(original: Vendor, tmp_path: Path) -> None:
    """With a memory, and after a thief: one gap, in which everything says what to run;
    the same root again goes on, and so does whoever publishes next."""
    author = original.store("author/state")
    with original.repository.edit(
        [key("ci")], clock=original.clock, state=author
    ) as edit:
        edit.refresh()
    store = original.store("device/state")
    newest(original, store)
    thief.write(original, thief.forge(original, change=thief.nonsense))
    with pytest.raises(SupplyChainError):
        newest(original, store)
    new = keys_of("ci-2")
    root = signed_root(
        original.repository,
        ["offline"],
        clock=original.clock,
        state=author,
        snapshot=new,
        timestamp=new,
    )
    gaps = set()

    def finalize(copy: Path) -> None:
        finalized(copy, original, root, ["ci-2"], "author/state")

    def check(copy: Path, crash: Crash) -> None:
        vendor = at(copy, original)
        memory = TrustStore.open(copy / "author/state")
        store = TrustStore.open(copy / "device/state")
        has_root = (copy / "trust/metadata/2.root.json").exists()
        found = vendor.repository.check(clock=vendor.clock, state=memory).violations
        if crash.finished:
            assert found == ()
        elif found and has_root:
            gaps.add(crash.operation.partition(" ")[0])
            text = [one.text for one in found]
            assert any(
                "run `margo-supplychain root finalize` again" in one for one in text
            )
        if has_root and crash.at % 2:
            published(copy, original, ["ci", "ci-2"])
            assert newest(vendor) == newest(vendor, store) == "1.1.0"
        finalize(copy)
        if not (has_root and crash.at % 2):
            assert newest(vendor) == newest(vendor, store) == "1.0.0"
        for one in (None, memory, store):
            report = vendor.repository.check(clock=vendor.clock, state=one)
            assert report.violations == ()
        published(copy, original, ["ci", "ci-2"])

    losses = [Loss.NOTHING, Loss.UNSYNCED]
    crash_points(original.directory, finalize, check, scratch=tmp_path, losses=losses)
    # Between the name of the root and that of the timestamp, and nowhere else.
    assert gaps <= {
        "sync_directory",
        "create",
        "write",
        "sync_file",
        "replace",
        "unlink",
    }


def test_after_files_were_hidden(original: Vendor, tmp_path: Path) -> None:
    """What the memory brings back is written before anything names it."""
    author = original.store("author/state")
    original.publish("1.1.0", state=author)
    store = original.store("device/state")
    newest(original, store)
    listed = original.version("snapshot")
    now = original.signed("timestamp.json")
    now["meta"]["snapshot.json"] = thief.entry(listed + 1, b"there is none")
    thief.write(
        original,
        {
            "timestamp.json": thief.signed_as("timestamp", now, "ci"),
            f"{listed}.snapshot.json": b"{}",
        },
    )
    (original.trust / "metadata/3.acme.pump-monitor.json").unlink()
    root = signed_root(
        original.repository,
        ["offline"],
        clock=original.clock,
        state=author,
        timestamp=keys_of("ts-2"),
    )

    def finalize(copy: Path) -> None:
        finalized(copy, original, root, ["ts-2"], "author/state")

    def check(copy: Path, crash: Crash) -> None:
        del crash
        finalize(copy)
        vendor = at(copy, original)
        memory = TrustStore.open(copy / "author/state")
        store = TrustStore.open(copy / "device/state")
        assert newest(vendor) == newest(vendor, store) == "1.1.0"
        for one in (None, memory, store):
            report = vendor.repository.check(clock=vendor.clock, state=one)
            assert report.violations == ()

    losses = [Loss.NOTHING, Loss.UNSYNCED]
    crash_points(original.directory, finalize, check, scratch=tmp_path, losses=losses)
