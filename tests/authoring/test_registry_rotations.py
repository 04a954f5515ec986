"""Roots are adopted in a registry, too: where nothing has a lock, and names move."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring import adopting, root_writing
from margo_supplychain.authoring.repository import Repository
from margo_supplychain.errors import (
    ConflictError,
    ExpiredError,
    IncompleteError,
    InconclusiveError,
    SupplyChainError,
    ThresholdError,
    VerificationError,
)
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.names import target_path
from margo_supplychain.transport.opening import open_sink
from margo_supplychain.transport.tagged_sink import TaggedSink
from margo_supplychain.verify.trust_store import TrustStore
from tests.authoring import thief
from tests.authoring.ceremony import keys_of, signed_root
from tests.authoring.killing import Killed, Stop, cut_off, killed
from tests.authoring.tagged import TRUST, TaggedVendor
from tests.authoring.trust import PUMP, key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.authoring.proposals import SignedRoot
    from margo_supplychain.authoring.written import Written
    from margo_supplychain.verify.verifier import Verifier


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaggedVendor:
    return TaggedVendor.moved(tmp_path, monkeypatch, release="1.0.0")


def next_root(vendor: TaggedVendor, **changes: Any) -> SignedRoot:
    return signed_root(vendor.at_registry(), ["offline"], clock=vendor.clock, **changes)


def adopt(vendor: TaggedVendor, keys: list[str], **changes: Any) -> Written:
    root = next_root(vendor, **changes)
    return vendor.at_registry().adopt_root(
        root, [key(one) for one in keys], clock=vendor.clock
    )


def sound(vendor: TaggedVendor) -> None:
    assert vendor.at_registry().check(clock=vendor.clock).violations == ()


def device(vendor: TaggedVendor) -> Verifier:
    """Return a device that has refreshed."""
    store = TrustStore.unsafe_without_memory(root=vendor.root, publishers=None)
    found = vendor.device_there(store)
    found.refresh()
    return found


def write(vendor: TaggedVendor, files: dict[str, bytes]) -> None:
    sink = TaggedSink(vendor.registry.repository(TRUST))
    for name, data in files.items():
        sink.put_metadata(name, data)


def fetch_metadata(vendor: TaggedVendor) -> None:
    """Put what the registry holds where `thief` reads it."""
    sink = TaggedSink(vendor.registry.repository(TRUST))
    for name in sink.metadata_files():
        path = vendor.trust / "metadata" / name
        path.write_bytes(sink.metadata(name, limit=1 << 20))


@pytest.mark.parametrize("keys", [["ci", "ci-2"], ["ci-2"]])
def test_online_keys(vendor: TaggedVendor, keys: list[str]) -> None:
    plant = device(vendor)
    new = keys_of("ci-2")
    done = adopt(vendor, keys, snapshot=new, timestamp=new)
    assert set(done.roles) == {"root", "snapshot", "timestamp"}
    assert vendor.newest_there() == "1.0.0"
    plant.refresh()
    sound(vendor)
    vendor.publish_there(vendor.release("1.1.0"), keys=[key("ci"), key("ci-2")])
    assert vendor.newest_there() == "1.1.0"
    plant.refresh()
    sound(vendor)


def test_root_alone(vendor: TaggedVendor) -> None:
    plant = device(vendor)
    new = keys_of("r-1", "r-2")
    root = signed_root(
        vendor.at_registry(), ["offline", "r-1"], clock=vendor.clock, root=new
    )
    done = vendor.at_registry().adopt_root(root, clock=vendor.clock)
    assert set(done.roles) == {"root"}
    plant.refresh()
    sound(vendor)
    vendor.publish_there(vendor.release("1.1.0"))
    assert vendor.newest_there() == "1.1.0"


@pytest.mark.parametrize("change", [lambda _: None, thief.nonsense])
def test_fast_forward(
    vendor: TaggedVendor, change: Callable[[dict[str, dict[str, Any]]], None]
) -> None:
    plant = device(vendor)
    fetch_metadata(vendor)
    write(vendor, thief.forge(vendor, change=change))
    plant.refresh()
    new = keys_of("ci-2")
    done = adopt(vendor, ["ci-2"], snapshot=new, timestamp=new)
    assert done.roles["snapshot"][0] < 10
    plant.refresh()
    assert vendor.newest_there() == "1.0.0"
    sound(vendor)
    vendor.publish_there(vendor.release("1.1.0"), keys=[key("ci"), key("ci-2")])
    plant.refresh()
    assert vendor.newest_there() == "1.1.0"
    sound(vendor)


def test_a_name_that_somebody_took(vendor: TaggedVendor) -> None:
    """What is no root has the next root's name: devices stop, until one is there."""
    write(vendor, {"2.root.json": b"{}"})
    with pytest.raises(VerificationError):
        device(vendor)
    adopt(vendor, ["ci"])
    device(vendor)
    sound(vendor)


@pytest.mark.parametrize("how", [killed, cut_off])
@pytest.mark.parametrize("keys", [["ci", "ci-2"], ["ci-2"]])
def test_killed_at_any_request(
    vendor: TaggedVendor, how: Callable[[], BaseException], keys: list[str]
) -> None:
    """Handed on, no device ever refuses; in the keys' place, in one gap alone, and
    then everybody is told what to run."""
    new = keys_of("ci-2")
    root = next_root(vendor, snapshot=new, timestamp=new)
    signers = [key(one) for one in keys]
    start = vendor.registry
    gaps = set()
    for at in range(1, 1000):
        vendor.registry = start.copy()
        plant = device(vendor)
        stop = Stop(at, how)
        why: BaseException | None = None
        try:
            vendor.at_registry(stop).adopt_root(root, signers, clock=vendor.clock)
        except (Killed, InconclusiveError) as stopped:
            why = stopped
        try:
            plant.refresh()
            vendor.newest_there()
            sound(vendor)
        except ThresholdError:
            assert keys == ["ci-2"], stop.seen
            gaps.add(at)
            found = vendor.at_registry().check(clock=vendor.clock).violations
            assert "run `margo-supplychain root finalize` again" in found[-1].text
        if at % 2:
            vendor.at_registry().adopt_root(root, signers, clock=vendor.clock)
        elif at in gaps:
            # Any edit with the new keys goes on.
            with vendor.at_registry().edit([key("ci-2")], clock=vendor.clock) as edit:
                edit.refresh()
        plant.refresh()
        assert vendor.newest_there() == "1.0.0"
        sound(vendor)
        if why is None:
            assert at > 10
            break
    assert bool(gaps) == (keys == ["ci-2"])
    assert vendor.newest_there(PUMP) == "1.0.0"


def test_somebody_publishes_meanwhile(vendor: TaggedVendor) -> None:
    """A publisher lands between our look and our write: the ceremony is run again."""
    new = keys_of("ci-2")
    root = next_root(vendor, snapshot=new, timestamp=new)
    raced = False

    def race(what: str) -> None:
        nonlocal raced
        if what == "put timestamp" and not raced:
            raced = True
            vendor.publish_there(vendor.release("1.1.0"))

    signers = [key("ci"), key("ci-2")]
    try:
        vendor.at_registry(race).adopt_root(root, signers, clock=vendor.clock)
    except ConflictError:
        vendor.at_registry().adopt_root(root, signers, clock=vendor.clock)
    assert raced
    assert vendor.newest_there() == "1.1.0"
    device(vendor)
    sound(vendor)


def test_an_old_timestamp_that_comes_back(vendor: TaggedVendor) -> None:
    """A write of the old keys, held back by the network, undoes the new timestamp."""
    sink = TaggedSink(vendor.registry.repository(TRUST))
    held_back = sink.metadata("timestamp.json", limit=1 << 20)
    new = keys_of("ci-2")
    adopt(vendor, ["ci-2"], snapshot=new, timestamp=new)
    plant = device(vendor)
    write(vendor, {"timestamp.json": held_back})
    with pytest.raises(SupplyChainError):
        plant.refresh()
    with (
        pytest.raises(IncompleteError),
        vendor.at_registry().edit([key("ci")], clock=vendor.clock) as edit,
    ):
        edit.refresh()
    with vendor.at_registry().edit([key("ci-2")], clock=vendor.clock) as edit:
        edit.refresh()
    plant.refresh()
    assert vendor.newest_there() == "1.0.0"
    sound(vendor)


def test_two_ceremonies_at_once(
    vendor: TaggedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one's root lands between our look and our write."""
    ours = next_root(vendor)
    vendor.clock.advance(minutes=1)
    theirs = next_root(vendor)
    write_root = root_writing.write_root
    raced = False

    def race(*arguments: Any) -> None:
        nonlocal raced
        if not raced:
            raced = True
            vendor.at_registry().adopt_root(theirs, clock=vendor.clock)
        write_root(*arguments)

    monkeypatch.setattr(adopting, "write_root", race)
    with pytest.raises(ConflictError, match="has another root v2"):
        vendor.at_registry().adopt_root(ours, clock=vendor.clock)
    assert raced
    device(vendor)
    sound(vendor)


def test_in_a_layout(vendor: TaggedVendor, tmp_path: Path) -> None:
    """The same in a layout on a disk, where a lock keeps others away."""
    url = f"oci-layout:{tmp_path / 'layout'}"
    sink = open_sink(url)
    files = TaggedSink(vendor.registry.repository(TRUST))
    with sink.together():
        for path in sorted((vendor.trust / "targets").rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                what = Descriptor.of(data, "application/octet-stream")
                sink.put_target(target_path("x"), what, io.BytesIO(data))
        fetch_metadata(vendor)
        for name in sorted(files.metadata_files()):
            if name != "timestamp.json":
                sink.put_metadata(name, files.metadata(name, limit=1 << 20))
    timestamp = files.metadata("timestamp.json", limit=1 << 20)
    sink.put_metadata("timestamp.json", timestamp)
    repository = Repository.open(url, root=vendor.root)
    for keys in (["ci", "ci-2"], ["ci-3"]):
        root = signed_root(
            repository,
            ["offline"],
            clock=vendor.clock,
            snapshot=keys_of(keys[-1]),
            timestamp=keys_of(keys[-1]),
        )
        done = repository.adopt_root(
            root, [key(one) for one in keys], clock=vendor.clock
        )
        assert set(done.roles) == {"root", "snapshot", "timestamp"}
    with repository.edit([key("ci-3")], clock=vendor.clock) as edit:
        edit.refresh()


def test_an_expired_copy_is_signed_on_by_nobody_without_a_memory(
    vendor: TaggedVendor, tmp_path: Path
) -> None:
    """All has expired, and the registry may hide what came later: floors would fall
    with the keys, so only who remembers goes on from there."""
    memory = TrustStore.create(
        tmp_path / "author" / "state",
        root=vendor.root,
        publishers=frozenset({"acme"}),
    )
    vendor.publish_there(vendor.release("1.1.0"), state=memory)
    old = vendor.registry.copy()
    vendor.publish_there(vendor.release("1.2.0"), state=memory)
    known = memory.load().snapshot
    vendor.registry = old
    vendor.clock.advance(days=20)
    new = keys_of("ci-2")
    root = next_root(vendor, snapshot=new, timestamp=new)
    with pytest.raises(ExpiredError):
        vendor.at_registry().adopt_root(root, [key("ci-2")], clock=vendor.clock)
    assert "2.root" not in vendor.registry.at(TRUST).tags
    vendor.at_registry().adopt_root(
        root, [key("ci-2")], clock=vendor.clock, state=memory
    )
    now = memory.load().snapshot
    assert now is not None
    assert known is not None
    assert now.version > known.version
    # What the registry hid, the author's memory brings back.
    assert now.roles == known.roles
    device(vendor)


def test_old_state_beside_a_new_root(vendor: TaggedVendor) -> None:
    """A registry shows the new root with an old, expired timestamp, and no witness:
    without a memory, the new keys sign nothing on top of that."""
    old = vendor.registry.copy()
    new = keys_of("ci-2")
    adopt(vendor, ["ci-2"], snapshot=new, timestamp=new)
    shown = vendor.registry.at(TRUST)
    hidden = old.at(TRUST)
    hidden.manifests.update(shown.manifests)
    hidden.blobs.update(shown.blobs)
    hidden.tags["2.root"] = shown.tags["2.root"]
    vendor.registry = old
    vendor.clock.advance(days=20)
    with (
        pytest.raises(ExpiredError, match="that can be believed is v3"),
        vendor.at_registry().edit([key("ci-2")], clock=vendor.clock) as edit,
    ):
        edit.refresh()


def test_flooded_names_hide_nothing(vendor: TaggedVendor) -> None:
    """Hundreds of names above the honest witness: refused, rather than passed over."""
    new = keys_of("ci-2")
    held_back = TaggedSink(vendor.registry.repository(TRUST)).metadata(
        "timestamp.json", limit=1 << 20
    )
    adopt(vendor, ["ci-2"], snapshot=new, timestamp=new)
    write(vendor, {"timestamp.json": held_back})
    tags = vendor.registry.at(TRUST).tags
    for version in range(1000, 1600):
        tags[f"{version}.timestamp"] = tags["1.root"]
    with (
        pytest.raises(ConflictError, match="only 512 are looked at"),
        vendor.at_registry().edit([key("ci-2")], clock=vendor.clock) as edit,
    ):
        edit.refresh()
