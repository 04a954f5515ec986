"""A store is made once, opened ever after, repaired from itself, and never rewound."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import (
    AmbiguousRoleError,
    ConflictError,
    FormatError,
    MalformedError,
    StateLostError,
    StorageError,
    ThresholdError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.storage.durable import read_file
from margo_supplychain.storage.lock import DirectoryLock
from margo_supplychain.verify import trust_store
from margo_supplychain.verify.memory import FileFloor, Memory, SnapshotFloor
from margo_supplychain.verify.trust_store import MEMORY_FILES, DiskState, TrustStore
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

ACME = frozenset({"acme"})
PUMP, VALVE, PRESS = (ReleaseName.parse(f"acme/{one}") for one in ("a", "b", "c"))


@pytest.fixture(scope="module")
def root() -> bytes:
    return World().files.metadata["1.root.json"]


@pytest.fixture
def store(tmp_path: Path, root: bytes) -> TrustStore:
    return TrustStore.create(tmp_path / "store", root=root, publishers=ACME)


def raised(memory: Memory, version: int) -> Memory:
    floor = SnapshotFloor(
        version=version,
        sha256="00",
        roles={"targets.json": FileFloor(version, None)},
        signers=frozenset({"a key"}),
    )
    return replace(memory, snapshot=floor)


def copy_name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- making and opening --------------------------------------------------------------


def test_create_and_open(tmp_path: Path, root: bytes, store: TrustStore) -> None:
    memory = TrustStore.open(tmp_path / "store").load()
    assert memory == store.load() == Memory(root=root, publishers=ACME)
    status = store.status()
    assert (status.root, status.timestamp, status.snapshot) == (1, None, None)
    assert (status.time_floor, status.withdrawn, status.fetched) == (None, 0, ())
    assert status.publishers == ACME


def test_only_the_owner_reads_it(tmp_path: Path, store: TrustStore) -> None:
    store.keep(
        store.load(), store.load(), {"timestamp": b"{}"}, {copy_name(b"t"): b"t"}
    )
    expected = {".lock": 0o644}
    for path in [tmp_path / "store", *(tmp_path / "store").rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == expected.get(path.name, 0o700 if path.is_dir() else 0o600), path


def test_open_never_creates(tmp_path: Path) -> None:
    with pytest.raises(StateLostError, match="has no readable memory"):
        TrustStore.open(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(StateLostError):
        TrustStore.open(tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("left", [MEMORY_FILES, MEMORY_FILES[:1], MEMORY_FILES[1:]])
def test_create_never_forgets(
    tmp_path: Path, root: bytes, store: TrustStore, left: tuple[str, ...]
) -> None:
    """Not even what is damaged: to begin anew is for a person to decide."""
    memory = store.load()
    for name in set(MEMORY_FILES) - set(left):
        (tmp_path / "store" / name).unlink()
    with pytest.raises(StorageError, match="holds a store already") as caught:
        TrustStore.create(tmp_path / "store", root=root, publishers=ACME)
    assert caught.value.hint is not None
    assert TrustStore.open(tmp_path / "store").load() == memory


def test_neighbours_share_no_publisher(
    tmp_path: Path, root: bytes, store: TrustStore
) -> None:
    """Two stores of a device may stand side by side, for different publishers."""
    (tmp_path / "no store").mkdir()
    (tmp_path / "a file").write_bytes(b"")
    both = frozenset({"acme", "plant"})
    with pytest.raises(AmbiguousRoleError, match="publisher acme is claimed") as caught:
        TrustStore.create(tmp_path / "other", root=root, publishers=both)
    assert caught.value.name == "acme"
    assert not (tmp_path / "other").exists()
    other = TrustStore.create(
        tmp_path / "other", root=root, publishers=frozenset({"plant"})
    )
    assert other.publishers == {"plant"}
    assert store.load().publishers == ACME


def test_in_a_directory_that_is_not_there_yet(tmp_path: Path, root: bytes) -> None:
    TrustStore.create(tmp_path / "a" / "b" / "store", root=root, publishers=ACME)
    TrustStore.open(tmp_path / "a" / "b" / "store")


def test_create_refuses_what_no_device_could_start_from(
    tmp_path: Path, root: bytes
) -> None:
    with pytest.raises(MalformedError, match="trusted root"):
        TrustStore.create(tmp_path / "store", root=b"{}", publishers=ACME)
    with pytest.raises(ThresholdError):
        TrustStore.create(
            tmp_path / "store", root=World().sign("root", []), publishers=ACME
        )
    with pytest.raises(ValueError, match="at least one publisher"):
        TrustStore.create(tmp_path / "store", root=root, publishers=frozenset())
    with pytest.raises(FormatError):
        TrustStore.create(tmp_path / "store", root=root, publishers=frozenset({"Acme"}))
    assert not (tmp_path / "store").exists()


# --- two copies of the memory --------------------------------------------------------


def _damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("harm", [_damage, _empty, _remove])
@pytest.mark.parametrize("name", MEMORY_FILES)
def test_one_damaged_copy_is_repaired(
    tmp_path: Path, store: TrustStore, name: str, harm: Callable[[Path], None]
) -> None:
    memory = store.update(lambda one: raised(one, 7))
    harm(tmp_path / "store" / name)
    assert TrustStore.open(tmp_path / "store").load() == memory
    first, second = ((tmp_path / "store" / one).read_bytes() for one in MEMORY_FILES)
    assert first == second == memory.to_bytes()


def test_the_newer_of_two_good_copies_wins(tmp_path: Path, store: TrustStore) -> None:
    """Killed between the two writes: the first was durable, so it counts."""
    old = (tmp_path / "store" / "memory-b").read_bytes()
    memory = store.update(lambda one: raised(one, 7))
    (tmp_path / "store" / "memory-b").write_bytes(old)
    assert TrustStore.open(tmp_path / "store").load() == memory
    (tmp_path / "store" / "memory-a").write_bytes(old)
    assert TrustStore.open(tmp_path / "store").load() == memory


def test_two_damaged_copies_are_a_lost_state(tmp_path: Path, store: TrustStore) -> None:
    for name in MEMORY_FILES:
        _damage(tmp_path / "store" / name)
    before = {one: (tmp_path / "store" / one).read_bytes() for one in MEMORY_FILES}
    with pytest.raises(StateLostError) as caught:
        TrustStore.open(tmp_path / "store")
    assert caught.value.path == str(tmp_path / "store")
    with pytest.raises(StateLostError):
        store.update(lambda one: one)
    after = {one: (tmp_path / "store" / one).read_bytes() for one in MEMORY_FILES}
    assert after == before


def _unreadable(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let a disk fail below some files."""
    read = read_file

    def failing(path: Path, *, limit: int) -> bytes:
        if path.name in names:
            raise StorageError(f"can't read {path}: bad sector", path=str(path))
        return read(path, limit=limit)

    monkeypatch.setattr(trust_store, "read_file", failing)


@pytest.mark.parametrize("name", MEMORY_FILES)
def test_a_bad_sector_in_one_copy(
    store: TrustStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    memory = store.update(lambda one: raised(one, 7))
    _unreadable(monkeypatch, name)
    assert store.load() == memory


def test_a_disk_that_fails_has_lost_nothing_yet(
    tmp_path: Path, store: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may answer again: a lost state would tell somebody to begin anew."""
    memory = store.load()
    with monkeypatch.context() as patch:
        _unreadable(patch, *MEMORY_FILES)
        with pytest.raises(StorageError, match="bad sector"):
            TrustStore.open(tmp_path / "store")
    assert store.load() == memory


def test_somebody_else_repairs_first(
    tmp_path: Path, store: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the lock: then nothing is written any more."""
    path = tmp_path / "store" / "memory-a"
    whole = path.read_bytes()
    _damage(path)
    enter = DirectoryLock.__enter__

    def late(lock: DirectoryLock) -> DirectoryLock:
        path.write_bytes(whole)
        return enter(lock)

    monkeypatch.setattr(DirectoryLock, "__enter__", late)
    before = (tmp_path / "store" / "memory-b").stat().st_ino
    assert DiskState(tmp_path / "store").load() == store.load()
    assert (tmp_path / "store" / "memory-b").stat().st_ino == before


# --- commits -------------------------------------------------------------------------


def test_commits_are_counted(store: TrustStore) -> None:
    before = store.load()
    after = store.keep(before, raised(before, 7), {}, {})
    assert (before.sequence, after.sequence) == (0, 1)
    assert store.load() == after
    assert store.keep(after, after, {}, {}) is after
    assert store.update(lambda one: one) == after
    assert store.keep(after, after, {"timestamp": b"{}"}, {}) == after


def test_a_stale_view_lowers_nothing(tmp_path: Path, store: TrustStore) -> None:
    stale = store.load()
    TrustStore.open(tmp_path / "store").update(lambda one: raised(one, 7))
    with pytest.raises(ConflictError, match="was changed by another process"):
        store.keep(stale, raised(stale, 5), {"timestamp": b"{}"}, {})
    memory = store.load()
    assert memory.snapshot is not None
    assert memory.snapshot.version == 7
    assert store.copy("timestamp") is None


def test_changes_meet_under_the_lock(tmp_path: Path, store: TrustStore) -> None:
    """`update` works on what is there, whoever wrote it."""
    TrustStore.open(tmp_path / "store").update(lambda one: raised(one, 7))
    seen = store.update(lambda one: replace(one, root=one.root + b"\n"))
    assert seen.snapshot is not None
    assert seen.sequence == 2


def test_a_change_that_fails_changes_nothing(store: TrustStore) -> None:
    before = store.load()

    def fail(memory: Memory) -> Memory:
        raise KeyError(memory.sequence)

    with pytest.raises(KeyError):
        store.update(fail)
    assert store.load() == before


def test_a_lock_that_is_held(
    tmp_path: Path, store: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust_store, "LOCK_TIMEOUT", 0.0)
    with (
        DirectoryLock(tmp_path / "store", timeout=0),
        pytest.raises(StorageError, match="locked by another process"),
    ):
        store.update(lambda one: raised(one, 7))
    assert store.load().snapshot is None


# --- copies --------------------------------------------------------------------------


def test_copies_by_role_and_by_digest(tmp_path: Path, store: TrustStore) -> None:
    store.keep(store.load(), store.load(), {"acme.a/b": b"role"}, {})
    store.keep_copies(PUMP, {copy_name(b"target"): b"target"})
    assert store.copy("acme.a/b") == b"role"
    assert store.copy_for(PUMP, "acme.a/b") == b"role"
    assert store.copy_for(PUMP, copy_name(b"target")) == b"target"
    assert store.copy_for(VALVE, copy_name(b"target")) is None
    assert store.copy("acme") is None
    assert store.copy_for(PUMP, copy_name(b"other")) is None
    names = [one.name for one in (tmp_path / "store" / "metadata").iterdir()]
    assert names == ["acme.a%2Fb.json"]


def test_what_can_not_be_read_is_no_copy(tmp_path: Path, store: TrustStore) -> None:
    store.keep_copies(PUMP, {copy_name(b"target"): b"target"})
    (path,) = (tmp_path / "store" / "targets").iterdir()
    path.unlink()
    path.mkdir()
    assert store.copy_for(PUMP, copy_name(b"target")) is None


def test_copies_from_before_they_had_an_owner(
    tmp_path: Path, store: TrustStore
) -> None:
    """They are read for everybody, and whoever uses one gets its own."""
    name = copy_name(b"target")
    store.keep(store.load(), store.load(), {}, {name: b"target"})
    assert store.copy_for(PUMP, name) == store.copy_for(VALVE, name) == b"target"
    store.keep_copies(PUMP, {name: b"target"})
    (tmp_path / "store" / "targets" / name).unlink()
    assert store.copy_for(PUMP, name) == b"target"
    assert store.copy_for(VALVE, name) is None


def test_a_copy_that_is_there_is_not_written_again(
    tmp_path: Path, store: TrustStore
) -> None:
    store.keep_copies(PUMP, {copy_name(b"target"): b"target"})
    (path,) = (tmp_path / "store" / "targets").iterdir()
    before = path.stat().st_ino, path.stat().st_mtime_ns
    store.keep_copies(PUMP, {copy_name(b"target"): b"target"})
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == before
    path.write_bytes(b"damaged")
    store.keep_copies(PUMP, {copy_name(b"target"): b"target"})
    assert path.read_bytes() == b"target"


def test_a_disk_that_takes_no_copies_is_no_error(
    tmp_path: Path, store: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that copies prove runs on a disk that is read-only by now."""
    monkeypatch.setattr(trust_store, "LOCK_TIMEOUT", 0.0)
    with DirectoryLock(tmp_path / "store", timeout=0):
        store.keep_copies(PUMP, {copy_name(b"target"): b"target"})
    assert store.copy_for(PUMP, copy_name(b"target")) is None


def test_small_files_take_no_room_from_another_application(
    tmp_path: Path, store: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust_store, "MAX_COPIES_SIZE", 100)
    monkeypatch.setattr(trust_store, "MAX_COPIES", 8)
    name = copy_name(b"valve")
    store.keep_copies(VALVE, {name: b"valve"})
    (mine,) = (tmp_path / "store" / "targets").iterdir()
    os.utime(mine, (1, 1))  # the oldest of all
    many = [bytes([one]) for one in range(9)]
    large = [bytes([one]) * 30 for one in range(8)]
    for datas in (many, large, [b"valve"]):  # their own copy of the same file, too
        store.keep_copies(PUMP, {copy_name(data): data for data in datas})
        assert store.copy_for(VALVE, name) == b"valve"
    assert len(list((tmp_path / "store" / "targets").iterdir())) <= 8


def test_the_oldest_copies_go(
    tmp_path: Path, store: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust_store, "MAX_COPIES", 3)
    monkeypatch.setattr(trust_store, "MAX_COPIES_SIZE", 25)
    directory = tmp_path / "store" / "targets"
    datas = [bytes([65 + number]) * 10 for number in range(4)]
    for age, data in enumerate(datas):
        store.keep_copies(PUMP, {copy_name(data): data})
        (copy,) = directory.glob(f"{copy_name(data)}*")
        os.utime(copy, ns=(age, age))
    # The one just written is the newest, and a third of this size is too much.
    store.keep_copies(PUMP, {copy_name(b"small"): b"small"})
    kept = {one.stem for one in directory.iterdir()}
    assert kept == {copy_name(one) for one in (b"small", datas[3], datas[2])}


# --- without a disk ------------------------------------------------------------------


@pytest.mark.parametrize("publishers", [None, ACME])
def test_without_memory(root: bytes, publishers: frozenset[str] | None) -> None:
    """Forgets with the process; None means that anybody may be spoken for."""
    store = TrustStore.unsafe_without_memory(root=root, publishers=publishers)
    before = store.load()
    assert before.publishers == publishers
    other = TrustStore.unsafe_without_memory(root=root, publishers=publishers)
    assert store.where != other.where
    assert store.label == other.label == "of this run alone"
    after = store.keep(
        before, raised(before, 7), {"timestamp": b"{}"}, {copy_name(b"t"): b"t"}
    )
    assert after.sequence == 1
    assert (store.copy("timestamp"), store.copy(copy_name(b"t"))) == (b"{}", b"t")
    with pytest.raises(ConflictError):
        store.keep(before, before, {"timestamp": b""}, {})
    store.keep_copies(PUMP, {copy_name(b"u"): b"u"})
    assert store.load() == after
    assert store.status().snapshot == 7


# --- copies of envelopes -------------------------------------------------------------


def test_envelopes_are_kept_beside_other_copies(
    tmp_path: Path, store: TrustStore
) -> None:
    data = b"an envelope"
    digest = Digest.of(data)
    assert store.attestation(PUMP, digest) is None
    store.keep_attestations(PUMP, {digest: data})
    assert TrustStore.open(tmp_path / "store").attestation(PUMP, digest) == data
    assert store.copy(digest.hex) is None
    kept = tmp_path / "store/attestations"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert store.attestation(VALVE, digest) is None
    (copy,) = kept.iterdir()
    copy.unlink()
    copy.mkdir()
    assert store.attestation(PUMP, digest) is None


def test_the_oldest_envelopes_go(
    tmp_path: Path, store: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust_store, "MAX_ATTESTATIONS_SIZE", 25)
    found = {Digest.of(bytes([n]) * 10): bytes([n]) * 10 for n in range(3)}
    for number, (digest, data) in enumerate(found.items()):
        store.keep_attestations(PUMP, {digest: data})
        (copy,) = (tmp_path / "store/attestations").glob(f"{digest.hex}*")
        os.utime(copy, (number, number))
    store.keep_attestations(PUMP, {})
    assert kept_of(store, PUMP, found) == [False, True, True]


def kept_of(
    store: TrustStore, name: ReleaseName, found: Iterable[Digest]
) -> list[bool]:
    return [store.attestation(name, one) is not None for one in found]


def envelopes(size: int, count: int, first: int = 0) -> dict[Digest, bytes]:
    found = [bytes([one]) * size for one in range(first, first + count)]
    return {Digest.of(data): data for data in found}


def test_an_application_takes_no_room_from_another(
    tmp_path: Path, store: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust_store, "MAX_ATTESTATIONS_SIZE", 100)
    monkeypatch.setattr(trust_store, "MAX_COPIES", 8)
    mine = envelopes(20, 2)
    store.keep_attestations(VALVE, mine)
    for copy in (tmp_path / "store/attestations").iterdir():
        os.utime(copy, (1, 1))  # the oldest of all
    # Too many of them, then too large: they push each other out.
    tiny = envelopes(1, 9, first=10)
    store.keep_attestations(PUMP, tiny)
    assert kept_of(store, VALVE, mine) == [True, True]
    assert sum(kept_of(store, PUMP, tiny)) == 6
    large = envelopes(30, 8, first=20)
    store.keep_attestations(PUMP, large)
    assert kept_of(store, VALVE, mine) == [True, True]
    left = [*kept_of(store, PUMP, tiny), *kept_of(store, PUMP, large)]
    assert sum(left[9:]) <= 2
    # One more application takes room from whoever has the most.
    store.keep_attestations(PRESS, envelopes(20, 1))
    assert kept_of(store, VALVE, mine) == [True, True]
    assert kept_of(store, PRESS, envelopes(20, 1)) == [True]


def test_a_disk_that_takes_no_envelopes_is_no_error(
    store: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes, *, mode: int) -> None:
        raise StorageError(f"{path} takes no {len(data)} bytes ({mode})", path="x")

    monkeypatch.setattr(trust_store, "write_file", full)
    digest = Digest.of(b"data")
    store.keep_attestations(PUMP, {digest: b"data"})
    assert store.attestation(PUMP, digest) is None


def test_a_store_without_a_disk_keeps_no_envelopes(root: bytes) -> None:
    store = TrustStore.unsafe_without_memory(root=root)
    digest = Digest.of(b"data")
    store.keep_attestations(PUMP, {digest: b"data"})
    assert store.attestation(PUMP, digest) is None
