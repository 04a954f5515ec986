from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, BinaryIO

import pytest

from margo_supplychain.errors import (
    CancelledError,
    DigestMismatchError,
    FetchError,
    LengthMismatchError,
    OciFormatError,
    StorageError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.storage import durable
from margo_supplychain.storage.content_store import (
    MAX_INDEX,
    ContentStore,
    blob_path,
)
from margo_supplychain.storage.receive import BUFFER
from tests.faults.crash import Crash, crash_points

if TYPE_CHECKING:
    from pathlib import Path

TYPE = "application/octet-stream"
DATA = b"the content of a layer"
WHAT = Descriptor.of(DATA, TYPE)


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore.create(tmp_path / "store")


def left(store: ContentStore) -> list[str]:
    return [one.name for one in (store.directory / "blobs" / "sha256").iterdir()]


def tags(store: ContentStore) -> list[tuple[str, str | None]]:
    return [
        (
            entry.descriptor.digest.short,
            entry.annotations.get("org.opencontainers.image.ref.name"),
        )
        for entry in store.index().manifests
    ]


class OnlyRead(io.RawIOBase):
    """Has `read` and no `readinto`, and gives less than it is asked for."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = io.BytesIO(data)

    def read(self, size: int | None = -1) -> bytes:
        return self._data.read(min(7, size or 7))

    readinto = None  # type: ignore[assignment]  # a stream without it


def test_layout_on_disk(store: ContentStore) -> None:
    store.put(WHAT, io.BytesIO(DATA))
    layout = json.loads((store.directory / "oci-layout").read_bytes())
    assert layout == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((store.directory / "index.json").read_bytes())
    assert index["manifests"] == []
    assert left(store) == [WHAT.digest.hex]
    with store.open_blob(WHAT.digest) as file:
        assert file.read() == DATA


def test_create_again_keeps_everything(store: ContentStore) -> None:
    store.put(WHAT, io.BytesIO(DATA))
    store.add_reference(WHAT, name="1.0.0")
    again = ContentStore.create(store.directory)
    assert again.has(WHAT)
    assert tags(again) == [(WHAT.digest.short, "1.0.0")]


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_every_algorithm(store: ContentStore, algorithm: str) -> None:
    digest = Digest(algorithm, hashlib.new(algorithm, DATA).hexdigest())
    what = Descriptor(media_type=TYPE, digest=digest, size=len(DATA))
    store.put(what, io.BytesIO(DATA))
    assert store.has(what)
    store.verify(what)
    store.clean()


@pytest.mark.parametrize("size", [0, 1, BUFFER - 1, BUFFER, BUFFER + 1, 3 * BUFFER])
def test_sizes_around_the_buffer(store: ContentStore, size: int) -> None:
    data = os.urandom(size)
    what = Descriptor.of(data, TYPE)
    ticks: list[int] = []
    store.put(what, io.BytesIO(data), tick=ticks.append)
    assert sum(ticks) == size
    with store.open_blob(what.digest) as file:
        assert file.read() == data


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (DATA[:-1], LengthMismatchError, "has 21 bytes, expected 22"),
        (b"", LengthMismatchError, "has 0 bytes, expected 22"),
        (DATA + b"!", LengthMismatchError, "is larger than the 22 bytes"),
        (DATA * 99, LengthMismatchError, "is larger than the 22 bytes"),
        (
            DATA[:-1] + b"R",
            DigestMismatchError,
            "has digest .*, expected sha256",
        ),
    ],
)
def test_other_bytes_leave_nothing(
    store: ContentStore, data: bytes, error: type[Exception], text: str
) -> None:
    for stream in (io.BytesIO(data), OnlyRead(data)):
        with pytest.raises(error, match=text):
            store.put(WHAT, stream)  # type: ignore[arg-type]  # a stream without it
        assert left(store) == []
        assert not store.has(WHAT)


def test_at_most_one_byte_too_many_is_read(store: ContentStore) -> None:
    endless = io.BytesIO(DATA * 1000)
    with pytest.raises(LengthMismatchError):
        store.put(WHAT, endless)
    assert endless.tell() == WHAT.size + 1


def test_source_that_fails_leaves_nothing(store: ContentStore) -> None:
    class Failing(io.RawIOBase):
        def readinto(self, buffer: object) -> int:
            raise FetchError("connection lost", url="https://example.org")

    broken: BinaryIO = Failing()  # type: ignore[assignment]  # only what is read
    with pytest.raises(FetchError, match="connection lost"):
        store.put(WHAT, broken)
    assert left(store) == []


def test_cancelling_from_tick_leaves_nothing(store: ContentStore) -> None:
    def tick(_: int) -> None:
        raise CancelledError("stopped")

    with pytest.raises(CancelledError):
        store.put(WHAT, io.BytesIO(DATA), tick=tick)
    assert left(store) == []


def test_second_put_reads_nothing(store: ContentStore) -> None:
    store.put(WHAT, io.BytesIO(DATA))
    stream = io.BytesIO(b"never read")
    store.put(WHAT, stream)
    assert stream.tell() == 0


@pytest.mark.parametrize("damage", ["short", "link", "empty"])
def test_damaged_blob_is_written_again(
    store: ContentStore, damage: str, tmp_path: Path
) -> None:
    path = blob_path(store.directory, WHAT.digest)
    if damage == "link":
        (tmp_path / "victim").write_bytes(b"x" * WHAT.size)
        path.symlink_to(tmp_path / "victim")
    else:
        path.write_bytes(b"" if damage == "empty" else DATA[:5])
        assert not store.has(WHAT)
    store.put(WHAT, io.BytesIO(DATA))
    assert path.read_bytes() == DATA
    assert not path.is_symlink()


def test_verify_reads_again(store: ContentStore) -> None:
    store.put(WHAT, io.BytesIO(DATA))
    store.verify(WHAT)
    blob_path(store.directory, WHAT.digest).write_bytes(DATA[:-1] + b"R")
    assert store.has(WHAT)  # the size is right
    with pytest.raises(DigestMismatchError):
        store.verify(WHAT)


def test_absent_blob(store: ContentStore) -> None:
    assert not store.has(WHAT)
    for ask in (lambda: store.open_blob(WHAT.digest), lambda: store.verify(WHAT)):
        with pytest.raises(StorageError, match="does not hold sha256:"):
            ask()
    with pytest.raises(StorageError, match="does not hold sha256:"):
        store.add_reference(WHAT, name="1.0.0")


def test_references(store: ContentStore) -> None:
    other = Descriptor.of(b"other", TYPE)
    store.put(WHAT, io.BytesIO(DATA))
    store.put(other, io.BytesIO(b"other"))
    store.add_reference(WHAT, name="1.0.0", annotations={"note": "first"})
    store.add_reference(WHAT)
    store.add_reference(WHAT)
    store.add_reference(other)
    short, another = WHAT.digest.short, other.digest.short
    assert tags(store) == [(short, "1.0.0"), (short, None), (another, None)]
    store.add_reference(other, name="1.0.0", artifact_type="application/x.kind")
    assert tags(store) == [(short, None), (another, None), (another, "1.0.0")]
    assert store.index().manifests[-1].artifact_type == "application/x.kind"


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("oci-layout", None, "it has no oci-layout"),
        ("index.json", None, "it has no index.json"),
        ("oci-layout", b'{"imageLayoutVersion": "2.0.0"}', "'2.0.0', expected 1.0.0"),
        ("oci-layout", b"{}", "version None, expected"),
        ("oci-layout", b"[]", "not a JSON object"),
        ("index.json", b"{", "not JSON"),
        ("index.json", b'{"schemaVersion": 2}', "manifests"),
    ],
)
def test_not_a_layout(
    store: ContentStore, name: str, data: bytes | None, text: str
) -> None:
    path = store.directory / name
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    for ask in (store.index, lambda: ContentStore.open(store.directory)):
        with pytest.raises(OciFormatError, match=text):
            ask()


def test_index_limit(store: ContentStore) -> None:
    (store.directory / "index.json").write_bytes(b" " * (MAX_INDEX + 1))
    with pytest.raises(StorageError, match="larger than 8388608 bytes"):
        store.index()


def test_clean(store: ContentStore) -> None:
    store.put(WHAT, io.BytesIO(DATA))
    for directory in (store.directory, store.directory / "blobs" / "sha256"):
        (directory / ".tmp-0123456789abcdef").write_bytes(b"left")
    store.clean()
    assert left(store) == [WHAT.digest.hex]
    assert sorted(one.name for one in store.directory.iterdir()) == [
        "blobs",
        "index.json",
        "oci-layout",
    ]


def test_nothing_half_done_survives_a_crash(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()

    def action(directory: Path) -> None:
        store = ContentStore.create(directory / "store")
        store.put(WHAT, io.BytesIO(DATA))
        store.add_reference(WHAT, name="1.0.0")

    def check(directory: Path, crash: Crash) -> None:
        path = directory / "store"
        if (path / "oci-layout").exists():
            store = ContentStore.open(path)
            if crash.finished or store.index().manifests:
                assert tags(store) == [(WHAT.digest.short, "1.0.0")]
                store.verify(WHAT)
            blob = blob_path(path, WHAT.digest)
            assert not blob.exists() or blob.read_bytes() == DATA
        else:
            assert not crash.finished
        action(directory)  # restart
        store = ContentStore.open(path)
        store.clean()
        store.verify(WHAT)
        assert tags(store) == [(WHAT.digest.short, "1.0.0")]
        assert left(store) == [WHAT.digest.hex]

    assert crash_points(tmp_path / "state", action, check, scratch=tmp_path) > 30


def test_killed_after_the_name_then_the_power_fails(tmp_path: Path) -> None:
    """A blob that is there is not yet one that stays: the second `put` syncs it."""
    state = tmp_path / "state"
    ContentStore.create(state)

    def action(directory: Path) -> None:
        left = durable.operations.create(directory / "left", 0o644)
        durable.write_all(left, DATA)
        durable.operations.sync_file(left)
        os.close(left)
        path = blob_path(directory, WHAT.digest)
        durable.operations.replace(directory / "left", path)  # here it was killed
        ContentStore.open(directory).put(WHAT, io.BytesIO(b"never read"))

    def check(directory: Path, crash: Crash) -> None:
        if crash.finished:
            ContentStore.open(directory).verify(WHAT)

    crash_points(state, action, check, scratch=tmp_path)


_MEMORY = """
import sys
from pathlib import Path
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.storage.content_store import ContentStore
store, source, digest = sys.argv[1:]
path = Path(source)
what = Descriptor(
    media_type="a/b", digest=Digest.parse(digest), size=path.stat().st_size)
with path.open("rb") as file:
    ContentStore.create(Path(store)).put(what, file)
line, = (x for x in open("/proc/self/status") if x.startswith("VmHWM"))
print(line.split()[1])
"""


def test_memory_does_not_grow_with_the_blob(tmp_path: Path) -> None:
    peaks = []
    for size in (1 << 20, 64 << 20):
        source = tmp_path / f"{size}"
        with source.open("wb") as file:
            file.truncate(size)
        with source.open("rb") as file:
            digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        ran = subprocess.run(
            [sys.executable, "-c", _MEMORY, tmp_path / f"s{size}", source, digest],
            check=True,
            capture_output=True,
            text=True,
        )
        peaks.append(int(ran.stdout))
    assert peaks[1] - peaks[0] < 4096  # KiB
