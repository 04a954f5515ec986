"""A tar of an OCI image layout as a place of content and of a whole repository."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import (
    BudgetError,
    DigestMismatchError,
    FetchError,
    StorageError,
    TooLargeError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.names import TargetPath
from margo_supplychain.formats.oci import (
    EMPTY,
    MANIFEST,
    Layer,
    index_bytes,
    manifest_bytes,
)
from margo_supplychain.storage import durable
from margo_supplychain.storage.content_store import LAYOUT
from margo_supplychain.storage.operations import Operations
from margo_supplychain.transport import layout_archive
from margo_supplychain.transport.archive_sink import MAX_MEMBER, ArchiveSink
from margo_supplychain.transport.layout_archive import ArchiveSource
from margo_supplychain.transport.layout_sink import LayoutSink
from margo_supplychain.transport.opening import open_source
from tests.faults.crash import Crash, crash_points
from tests.formats.tars import END, entry, raw, tar

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.transport.protocols import Shelf

RECORD = b"a release record"
WHAT = Descriptor.of(RECORD, "application/json")
PATH = TargetPath("acme/releases/pump-monitor/1.0.0")
PACKAGE = manifest_bytes(
    artifact_type="application/x", layers=[Layer(descriptor=EMPTY)]
)
PACKAGED = Descriptor.of(PACKAGE, MANIFEST)
TOP = (entry("oci-layout"), LAYOUT), (entry("index.json"), index_bytes(()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bundle.tar"


def fill(sink: Shelf, *, version: int = 1) -> None:
    """Put a little of everything."""
    sink.put_blob(EMPTY, io.BytesIO(b"{}"))
    sink.put_manifest(PACKAGED, PACKAGE, tag="acme/pump-monitor:1.0.0")
    sink.put_target(PATH, WHAT, io.BytesIO(RECORD))
    sink.put_metadata(f"{version}.snapshot.json", b"snapshot %d" % version)
    sink.put_metadata("timestamp.json", b"%d" % version)


def made(path: Path, *, version: int = 1) -> ArchiveSource:
    sink = ArchiveSink(path)
    fill(sink, version=version)
    sink.close()
    return ArchiveSource(path)


def names(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        return archive.getnames()


def no_source(path: Path, data: bytes, text: str) -> None:
    path.write_bytes(data)
    source = ArchiveSource(path)
    with pytest.raises(FetchError, match=text) as caught:
        source.metadata("timestamp.json", limit=100)
    assert caught.value.unreachable
    assert not caught.value.missing
    with pytest.raises(FetchError, match=text), source.blob(WHAT):
        pass


# --- reading -------------------------------------------------------------------------


def test_what_goes_in_comes_out(path: Path) -> None:
    source = made(path)
    assert source.metadata("timestamp.json", limit=9) == b"1"
    assert source.resolve("acme/pump-monitor:1.0.0") == PACKAGED
    assert source.resolve(f"@{PACKAGED.digest}") == PACKAGED
    for start in (0, 3, WHAT.size):
        with source.target(PATH, WHAT, start=start) as file:
            assert file.read() == RECORD[start:]
        with source.blob(WHAT, start=start) as file:
            assert file.read(2) + file.read() == RECORD[start:]
    assert source.url == f"oci-archive:{path}"
    assert sorted(path.parent.iterdir()) == [path]


def test_absent_content(path: Path) -> None:
    source = made(path)
    with pytest.raises(FetchError, match=r"has no tag '2\.root'") as caught:
        source.metadata("2.root.json", limit=9)
    assert caught.value.missing
    with (
        pytest.raises(FetchError, match="does not hold sha256") as caught,
        source.blob(Descriptor.of(b"other", "a/b")),
    ):
        pass
    assert caught.value.missing
    with (
        pytest.raises(FetchError, match="has fewer than 17 bytes"),
        source.blob(WHAT, start=17),
    ):
        pass


def test_a_member_ends_where_it_ends(path: Path) -> None:
    """Neither the next member nor padding is ever read as content."""
    source = made(path)
    longer = Descriptor(media_type="a/b", digest=WHAT.digest, size=WHAT.size + 600)
    with source.blob(longer) as file:
        assert file.read() == RECORD
    shorter = Descriptor(media_type="a/b", digest=WHAT.digest, size=3)
    with source.blob(shorter) as file, pytest.raises(TooLargeError, match="goes on"):
        file.read()


def test_the_archive_is_read_again_when_it_changed(path: Path) -> None:
    source = made(path)
    assert source.metadata("timestamp.json", limit=9) == b"1"
    with source.blob(WHAT) as file:
        # A stream that is open goes on with the archive that it began with.
        assert file.read(3) == RECORD[:3]
        made(path, version=2)
        assert source.metadata("timestamp.json", limit=9) == b"2"
        assert file.read() == RECORD[3:]


@pytest.mark.parametrize(
    "form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_archives_of_other_tools(path: Path, form: int) -> None:
    """With directories, a leading ./, and files that are not the layout's."""
    what = Descriptor.of(b"x" * 5000, "a/b")
    members: list[tuple[tarfile.TarInfo, bytes] | tarfile.TarInfo] = [
        entry("./", tarfile.DIRTYPE),
        entry("./blobs/", tarfile.DIRTYPE),
        (entry("./manifest.json"), b"[]"),
        *((entry(f"./{info.name}"), data) for info, data in TOP),
        (entry(f"./blobs/sha256/{what.digest.hex}"), b"x" * 5000),
        entry("./blobs/", tarfile.DIRTYPE),
    ]
    path.write_bytes(tar(*members, form=form))
    with ArchiveSource(path).blob(what) as file:
        assert file.read() == b"x" * 5000


def test_an_archive_that_is_not_there_says_nothing(path: Path) -> None:
    with pytest.raises(FetchError, match="does not exist") as caught:
        ArchiveSource(path).metadata("2.root.json", limit=9)
    assert caught.value.unreachable
    assert not caught.value.missing
    path.mkdir()
    with pytest.raises(FetchError, match="is not a regular file") as caught:
        ArchiveSource(path).metadata("2.root.json", limit=9)
    assert caught.value.unreachable


@pytest.mark.parametrize(
    ("magic", "name"),
    [
        (gzip.compress(b"x")[:3], "gzip"),
        (b"BZh91AY", "bzip2"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
    ],
)
def test_compressed_archives(path: Path, magic: bytes, name: str) -> None:
    no_source(path, magic + bytes(2000), f"is compressed with {name}, expected a plain")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "it ends early"),
        (b"not a tar" * 100, "damaged"),
        (tar(TOP[0]), "it has no index.json"),
        (tar(TOP[1]), "it has no oci-layout"),
        (tar(*TOP, TOP[1]), "index.json' is there twice"),
        (tar(*TOP, (entry("./index.json"), b"{}")), "is there twice"),
        (tar(*TOP, entry("index.json", tarfile.DIRTYPE)), "is there twice"),
        (tar(*TOP, (entry("blobs/../x"), b"")), "leads elsewhere"),
        (tar(*TOP, (entry("/etc/passwd"), b"")), "leads elsewhere"),
        (tar(*TOP, (entry("a\\b"), b"")), "leads elsewhere"),
        (tar(*TOP, entry("..", tarfile.DIRTYPE)), "leads elsewhere"),
        (
            tar(*TOP, entry("l", tarfile.SYMTYPE, linkname="index.json")),
            "symbolic link",
        ),
        (tar(*TOP, entry("l", tarfile.LNKTYPE, linkname="index.json")), "hard link"),
        (tar(*TOP, entry("p", tarfile.FIFOTYPE)), "a named pipe"),
        (raw(b"s", b"S") + END, "a sparse file"),
        (tar(*TOP)[:700], "it ends early"),
        (tar((entry("oci-layout"), b"{}"), TOP[1]), "has version None"),
        (tar((entry("oci-layout"), b" " * 5000), TOP[1]), "has 5000 bytes, more than"),
        (tar(TOP[0], (entry("index.json"), b"[]")), "is not a JSON object"),
    ],
)
def test_archives_that_are_no_layout(path: Path, data: bytes, text: str) -> None:
    no_source(path, data, text)


def test_archives_of_too_many_members(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(layout_archive.LIMITS, members=3)
    monkeypatch.setattr(layout_archive, "LIMITS", few)
    no_source(
        path, tar(*TOP, *((entry(f"m{n}"), b"") for n in range(2))), "more members"
    )
    short = replace(layout_archive.LIMITS, members=9, names=100)
    monkeypatch.setattr(layout_archive, "LIMITS", short)
    no_source(path, tar(*TOP, (entry("n" * 90), b"")), "longer names")


def test_reading_headers_is_within_the_callers_time(path: Path) -> None:
    source = made(path)

    def tick(_: int) -> None:
        raise BudgetError("no time left")

    with pytest.raises(BudgetError, match="no time left"):
        source.metadata("timestamp.json", limit=9, tick=tick)
    counted: list[int] = []
    assert source.metadata("timestamp.json", limit=9, tick=counted.append)
    counted.clear()
    assert source.metadata("timestamp.json", limit=9, tick=counted.append)
    assert counted.count(0) == 0  # the headers are known


def test_a_disk_that_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(path)

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(layout_archive, "scan", fail)
    with pytest.raises(FetchError, match=r"can't read .*Input/output error"):
        ArchiveSource(path).metadata("timestamp.json", limit=9)


# --- writing -------------------------------------------------------------------------


def test_nothing_is_there_before_the_end(path: Path) -> None:
    sink = ArchiveSink(path)
    fill(sink)
    assert not path.exists()
    assert sink.metadata("timestamp.json", limit=9) == b"1"
    assert set(sink.metadata_files()) == {"1.snapshot.json", "timestamp.json"}
    assert sink.has_blob(WHAT)
    assert not sink.has_blob(Descriptor.of(b"other", "a/b"))
    with pytest.raises(FetchError, match="does not hold") as caught:
        sink.blob(Descriptor.of(b"other", "a/b")).__enter__()
    assert caught.value.missing
    sink.close()
    assert path.exists()
    assert sorted(path.parent.iterdir()) == [path]


def test_the_same_content_is_the_same_archive(path: Path) -> None:
    made(path)
    other = path.with_name("other.tar")
    sink = ArchiveSink(other)
    # Another order, and a timestamp that came and went.
    sink.put_metadata("timestamp.json", b"0")
    sink.put_metadata("1.snapshot.json", b"snapshot 1")
    fill(sink)
    sink.close()
    assert other.read_bytes() == path.read_bytes()
    assert names(path)[:2] == ["oci-layout", "index.json"]
    assert names(path)[2:] == sorted(names(path)[2:])
    with tarfile.open(path) as archive:
        facts = {(one.mtime, one.uid, one.uname, one.mode) for one in archive}
    assert facts == {(0, 0, "", 0o644)}


def test_a_layout_packed_by_others_is_the_same_place(
    path: Path, tmp_path: Path
) -> None:
    fill(LayoutSink(tmp_path / "layout"))
    with tarfile.open(path, "w") as archive:
        archive.add(tmp_path / "layout", arcname=".")
    source = ArchiveSource(path)
    assert source.metadata("timestamp.json", limit=9) == b"1"
    with source.target(PATH, WHAT) as file:
        assert file.read() == RECORD


def test_an_archive_is_brought_up_to_date(path: Path) -> None:
    made(path)
    before = names(path)
    sink = ArchiveSink(path)
    assert sink.metadata("timestamp.json", limit=9) == b"1"
    with sink.blob(WHAT) as file:
        assert file.read() == RECORD
    assert sink.has_blob(WHAT)
    fill(sink, version=2)
    # What is there is not collected once more.
    part = path.with_name(".bundle.tar.part")
    assert not (part / "blobs" / "sha256" / WHAT.digest.hex).exists()
    assert ArchiveSource(path).metadata("timestamp.json", limit=9) == b"1"
    sink.close()
    source = ArchiveSource(path)
    assert source.metadata("timestamp.json", limit=9) == b"2"
    assert source.metadata("1.snapshot.json", limit=99) == b"snapshot 1"
    # One more snapshot; the old timestamp made room for the new one.
    assert len(names(path)) == len(before) + 2


def test_nothing_new_changes_nothing(path: Path) -> None:
    made(path)
    before = path.stat()
    made(path)
    assert path.stat() == before
    ArchiveSink(path).close()
    ArchiveSink(path.with_name("absent")).close()
    assert sorted(path.parent.iterdir()) == [path]


def test_a_sink_may_go_on_after_it_was_closed(path: Path) -> None:
    sink = ArchiveSink(path)
    fill(sink)
    sink.close()
    fill(sink, version=2)
    sink.close()
    assert ArchiveSource(path).metadata("timestamp.json", limit=9) == b"2"


def test_removed_metadata_is_left_out(path: Path) -> None:
    made(path)
    sink = ArchiveSink(path)
    sink.put_metadata("2.snapshot.json", b"new")
    with sink.together():
        for version in (1, 2):
            sink.remove_metadata(f"{version}.snapshot.json")
    gone = Descriptor.of(b"snapshot 1", "a/b")
    assert not sink.has_blob(gone)
    with pytest.raises(FetchError, match="does not hold"):
        sink.blob(gone).__enter__()
    sink.close()
    assert f"blobs/sha256/{gone.digest.hex}" not in names(path)
    assert list(ArchiveSink(path).metadata_files()) == ["timestamp.json"]
    # Removed and put again.
    sink.put_metadata("3.snapshot.json", b"kept")
    sink.remove_metadata("3.snapshot.json")
    sink.put_metadata("3.snapshot.json", b"kept")
    sink.close()
    assert ArchiveSource(path).metadata("3.snapshot.json", limit=9) == b"kept"


def test_a_run_that_was_killed_is_gone_on_with(path: Path) -> None:
    fill(ArchiveSink(path))  # and never closed
    blobs = path.with_name(".bundle.tar.part") / "blobs" / "sha256"
    kept = blobs / WHAT.digest.hex
    inode = kept.stat().st_ino
    (blobs / EMPTY.digest.hex).write_bytes(b"[]")  # a disk that lost bytes
    (blobs / ".tmp-0123456789abcdef").write_bytes(b"half")
    (blobs / "odd").write_bytes(b"")
    sink = ArchiveSink(path)
    assert sink.has_blob(WHAT)
    assert not sink.has_blob(EMPTY)
    fill(sink)
    assert kept.stat().st_ino == inode
    sink.close()
    other = path.with_name("other.tar")
    made(other)
    assert path.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("kind", [ArchiveSink, LayoutSink])
def test_blobs_from_several_threads(path: Path, kind: type) -> None:
    """Nobody cleans away what another thread is writing."""
    fill(ArchiveSink(path))  # and never closed
    sink = kind(path)
    blobs = [b"%d" % number * 1000 for number in range(60)]

    def put(data: bytes) -> bool:
        what = Descriptor.of(data, "a/b")
        sink.put_blob(what, io.BytesIO(data))
        return bool(sink.has_blob(what))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(put, blobs))
    sink.close()
    for data in blobs:
        with open_source(path).blob(Descriptor.of(data, "a/b")) as file:
            assert file.read() == data


def test_collected_content_alone_is_written(path: Path) -> None:
    """All names were there; the run that was killed only put a blob back."""
    made(path)
    ArchiveSink(path).put_blob(Descriptor.of(b"more", "a/b"), io.BytesIO(b"more"))
    ArchiveSink(path).close()
    with ArchiveSource(path).blob(Descriptor.of(b"more", "a/b")) as file:
        assert file.read() == b"more"


def damage(path: Path) -> None:
    data = path.read_bytes()
    assert data.count(RECORD) == 1
    path.write_bytes(data.replace(RECORD, RECORD.upper()))


def test_damaged_content_is_not_carried_over(path: Path) -> None:
    made(path)
    damage(path)
    before = path.read_bytes()
    sink = ArchiveSink(path)
    sink.put_metadata("timestamp.json", b"2")
    with pytest.raises(
        StorageError, match=r"can't be written anew: .*digest"
    ) as caught:
        sink.close()
    assert "repair" in str(caught.value.hint)
    assert path.read_bytes() == before
    # Put again, it is repaired.
    sink = ArchiveSink(path)
    fill(sink, version=2)
    sink.close()
    with ArchiveSource(path).target(PATH, WHAT) as file:
        assert file.read() == RECORD


def test_an_archive_that_is_none_is_left_alone(path: Path) -> None:
    path.write_bytes(b"holiday pictures" * 100)
    with pytest.raises(FetchError, match="is damaged"):
        fill(ArchiveSink(path))
    assert path.read_bytes().startswith(b"holiday")


def test_other_bytes_are_not_put(path: Path) -> None:
    sink = ArchiveSink(path)
    with pytest.raises(DigestMismatchError):
        sink.put_blob(WHAT, io.BytesIO(RECORD.upper()))
    huge = Descriptor(media_type="a/b", digest=WHAT.digest, size=MAX_MEMBER + 1)
    with pytest.raises(StorageError, match="and a tar takes 8589934591") as caught:
        sink.put_blob(huge, io.BytesIO(RECORD))
    assert "oci-layout:PATH" in str(caught.value.hint)


def test_digests_of_other_algorithms(path: Path) -> None:
    digest = Digest("sha512", hashlib.sha512(RECORD).hexdigest())
    what = Descriptor(media_type="a/b", digest=digest, size=len(RECORD))
    sink = ArchiveSink(path)
    sink.put_target(PATH, what, io.BytesIO(RECORD))
    sink.close()
    with ArchiveSource(path).target(PATH, what) as file:
        assert file.read() == RECORD
    with tarfile.open(path) as archive:
        found = archive.extractfile(f"blobs/sha512/{digest.hex}")
        assert found is not None
        assert found.read() == RECORD


def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(path)
    before = path.read_bytes()
    sink = ArchiveSink(path)
    fill(sink, version=2)

    class Full(Operations):
        def sync_file(self, descriptor: int) -> None:
            raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(durable, "operations", Full())
        with pytest.raises(StorageError, match="No space left"):
            sink.close()
    assert path.read_bytes() == before
    sink.close()
    assert ArchiveSource(path).metadata("timestamp.json", limit=9) == b"2"


def test_writing_survives_every_crash(tmp_path: Path) -> None:
    """Whenever it dies, the archive is the old one or the new one, and whole."""
    state = tmp_path / "state"
    state.mkdir()
    made(state / "bundle.tar")

    def action(directory: Path) -> None:
        made(directory / "bundle.tar", version=2)

    def check(directory: Path, crash: Crash) -> None:
        source = ArchiveSource(directory / "bundle.tar")
        for restarted in (False, True):
            version = source.metadata("timestamp.json", limit=1)
            assert version == b"2" or not (crash.finished or restarted)
            name = f"{version.decode()}.snapshot.json"
            assert source.metadata(name, limit=99) == b"snapshot " + version
            with source.target(PATH, WHAT) as file:
                assert file.read() == RECORD
            action(directory)
        assert [one.name for one in directory.iterdir()] == ["bundle.tar"]

    assert crash_points(state, action, check, scratch=tmp_path) > 50
