from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest

from margo_supplychain.errors import (
    ConflictError,
    DigestMismatchError,
    FetchError,
    FormatError,
    LengthMismatchError,
    OciFormatError,
    StorageError,
    TooLargeError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.names import TargetPath
from margo_supplychain.storage.lock import DirectoryLock
from margo_supplychain.transport.bounded import BoundedStream
from margo_supplychain.transport.directory import DirectorySink, DirectorySource
from tests.faults.crash import Crash, crash_points

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = b"a release record"
WHAT = Descriptor.of(DATA, "application/json")
PATH = TargetPath("acme/releases/pump-monitor/1.0.0")
STORED = Path("targets/acme/releases/pump-monitor", f"{WHAT.digest.hex}.1.0.0")


@pytest.fixture
def sink(tmp_path: Path) -> DirectorySink:
    sink = DirectorySink(tmp_path / "trust")
    sink.put_metadata("1.root.json", b"root")
    sink.put_target(PATH, WHAT, io.BytesIO(DATA))
    sink.put_blob(WHAT, io.BytesIO(DATA))
    sink.put_metadata("timestamp.json", b"one")
    return sink


def openers(source: DirectorySource) -> list[Callable[[], bytes]]:
    """Return the three ways to read, each to its end."""

    def target() -> bytes:
        with source.target(PATH, WHAT) as file:
            return file.read()

    def blob() -> bytes:
        with source.blob(WHAT) as file:
            return file.read()

    return [lambda: source.metadata("1.root.json", limit=100), target, blob]


def places(sink: DirectorySink) -> list[Path]:
    return [
        sink.directory / "metadata" / "1.root.json",
        sink.directory / STORED,
        sink.directory / "blobs" / "sha256" / WHAT.digest.hex,
    ]


def test_what_goes_in_comes_out(sink: DirectorySink) -> None:
    found = [read() for read in openers(DirectorySource(sink.directory))]
    assert found == [b"root", DATA, DATA]
    assert (sink.directory / STORED).read_bytes() == DATA
    assert (sink.directory / "oci-layout").exists()
    assert sink.url == str(sink.directory)


def test_versions_are_written_once_and_timestamp_moves(sink: DirectorySink) -> None:
    sink.put_metadata("1.root.json", b"root")
    with pytest.raises(ConflictError, match=r"1\.root\.json exists with other bytes"):
        sink.put_metadata("1.root.json", b"another root")
    sink.put_metadata("timestamp.json", b"second")
    assert sink.metadata("timestamp.json", limit=100) == b"second"
    assert sink.metadata("1.root.json", limit=100) == b"root"


@pytest.mark.parametrize("name", ["root.json", "0.root.json", "x.root.json", "1.json"])
def test_metadata_without_a_version_is_refused(sink: DirectorySink, name: str) -> None:
    with pytest.raises(StorageError, match="without a version"):
        sink.put_metadata(name, b"{}")


def test_longest_role_name(sink: DirectorySink) -> None:
    name = f"7.{'x' * 248}.json"
    assert len(name) == 255
    sink.put_metadata(name, b"role")
    assert sink.metadata(name, limit=100) == b"role"


@pytest.mark.parametrize("name", ["../x.json", "a/b.json", "..json", "\0.json", "x"])
def test_metadata_names_stay_in_their_place(sink: DirectorySink, name: str) -> None:
    with pytest.raises(FetchError, match="is not a file name"):
        sink.metadata(name, limit=100)
    with pytest.raises(FetchError, match="is not a file name"):
        sink.put_metadata(name, b"{}")


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/x", "a//b", "./a", "", "a\0b", "\udcff"]
)
def test_target_paths_stay_in_their_place(sink: DirectorySink, path: str) -> None:
    with pytest.raises(FetchError, match="is not relative and normalised"):
        sink.target(TargetPath(path), WHAT)
    with pytest.raises(FormatError, match="is not relative and normalised"):
        sink.put_target(TargetPath(path), WHAT, io.BytesIO(DATA))


def test_names_too_long_for_the_disk(sink: DirectorySink) -> None:
    with pytest.raises(FetchError, match="File name too long") as caught:
        sink.metadata("x" * 300 + ".json", limit=100)
    assert not caught.value.missing


def test_other_bytes_are_not_stored(sink: DirectorySink) -> None:
    other = Descriptor.of(b"something else", "application/json")
    for put in (sink.put_blob, lambda w, d: sink.put_target(PATH, w, d)):
        with pytest.raises(LengthMismatchError):
            put(other, io.BytesIO(DATA))
        with pytest.raises(DigestMismatchError):
            put(other, io.BytesIO(b"something els3"))
    hexes = {path.name for path in sink.directory.rglob("*") if path.is_file()}
    assert not [name for name in hexes if other.digest.hex in name or "tmp" in name]


def test_absent_files(sink: DirectorySink) -> None:
    for place, read in zip(places(sink), openers(sink), strict=True):
        place.unlink()
        with pytest.raises(FetchError, match="does not exist") as caught:
            read()
        assert caught.value.missing
        assert not caught.value.unreachable
        assert caught.value.url == str(place)


def test_absent_directory(tmp_path: Path) -> None:
    """A stick that is not plugged in says nothing about what exists."""
    for read in openers(DirectorySource(tmp_path / "stick")):
        with pytest.raises(FetchError, match="is not a directory") as caught:
            read()
        assert caught.value.unreachable
        assert not caught.value.missing


def test_empty_mount_point(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="metadata is not a directory") as caught:
        DirectorySource(tmp_path).metadata("timestamp.json", limit=100)
    assert caught.value.unreachable


@pytest.mark.parametrize("kind", ["pipe", "directory", "link", "device"])
def test_only_regular_files_are_read(
    sink: DirectorySink, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    for place, read in zip(places(sink), openers(sink), strict=True):
        place.unlink()
        if kind == "pipe":
            os.mkfifo(place)
        elif kind == "directory":
            place.mkdir()
        else:
            target = "/dev/zero" if kind == "device" else tmp_path / "secret"
            place.symlink_to(target)
        with pytest.raises(FetchError, match=r"not a regular file|symbolic link"):
            read()


def test_unreadable_file(sink: DirectorySink, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(FetchError, match="Permission denied") as caught:
        sink.metadata("1.root.json", limit=100)
    assert not caught.value.missing
    assert not caught.value.unreachable


def test_disk_that_fails_while_reading() -> None:
    def read_into(_: memoryview) -> int:
        raise OSError(5, "Input/output error")

    stream = BoundedStream(read_into, left=10, url="/media/stick/blob")
    with pytest.raises(FetchError, match="can't read /media/stick/blob: Input/output"):
        stream.read()


def test_the_readers_own_errors_are_its_own(sink: DirectorySink) -> None:
    with pytest.raises(BrokenPipeError), sink.blob(WHAT):
        raise BrokenPipeError


def test_limits(sink: DirectorySink) -> None:
    assert sink.metadata("1.root.json", limit=4) == b"root"
    with pytest.raises(TooLargeError, match="larger than the limit of 3 bytes"):
        sink.metadata("1.root.json", limit=3)
    for place, read in zip(places(sink)[1:], openers(sink)[1:], strict=True):
        place.write_bytes(DATA + b"more")
        with pytest.raises(TooLargeError, match="goes on after its signed size"):
            read()


def test_from_the_middle(sink: DirectorySink) -> None:
    for start in (0, 5, WHAT.size):
        with sink.target(PATH, WHAT, start=start) as file:
            assert file.read() == DATA[start:]
        with sink.blob(WHAT, start=start) as file:
            assert file.read() == DATA[start:]
    with (
        pytest.raises(FetchError, match="has fewer than 17 bytes"),
        sink.blob(WHAT, start=WHAT.size + 1),
    ):
        pass


def test_sha512_targets(sink: DirectorySink) -> None:
    digest = Digest("sha512", hashlib.sha512(DATA).hexdigest())
    what = Descriptor(media_type="a/b", digest=digest, size=len(DATA))
    sink.put_target(PATH, what, io.BytesIO(DATA))
    with sink.target(PATH, what) as file:
        assert file.read() == DATA


def test_another_kind_of_layout_is_left_alone(sink: DirectorySink) -> None:
    (sink.directory / "oci-layout").write_bytes(b'{"imageLayoutVersion": "9"}')
    with pytest.raises(OciFormatError, match="expected 1"):
        DirectorySink(sink.directory).put_blob(WHAT, io.BytesIO(DATA))


def test_clean(sink: DirectorySink) -> None:
    left = [
        directory / ".tmp-0123456789abcdef"
        for directory in (
            sink.directory,
            sink.directory / "metadata",
            (sink.directory / STORED).parent,
            sink.directory / "blobs" / "sha256",
        )
    ]
    for path in left:
        path.write_bytes(b"")
    sink.clean()
    assert [path for path in left if path.exists()] == []
    assert [read() for read in openers(sink)] == [b"root", DATA, DATA]


def test_what_is_there(sink: DirectorySink, tmp_path: Path) -> None:
    assert sink.has_blob(WHAT)
    assert not sink.has_blob(Descriptor.of(b"other", "a/b"))
    assert not DirectorySink(tmp_path / "absent").has_blob(WHAT)
    other = Descriptor(media_type="a/b", digest=WHAT.digest, size=1)
    assert not sink.has_blob(other)
    # Files have no tags, and a manifest is content as other content is.
    manifest = b'{"schemaVersion":2}'
    what = Descriptor.of(manifest, "application/vnd.oci.image.manifest.v1+json")
    sink.put_manifest(what, manifest, tag="1.0.0")
    with sink.blob(what) as file:
        assert file.read() == manifest


def test_looking_through_and_clearing_out(sink: DirectorySink, tmp_path: Path) -> None:
    sink.put_metadata("7.acme.json", b"role")
    for name in ("notes.txt", ".tmp-0123456789abcdef", "root.json"):
        (sink.directory / "metadata" / name).write_bytes(b"")
    names = {"1.root.json", "7.acme.json", "timestamp.json"}
    assert set(sink.metadata_files()) == names
    sink.remove_metadata("7.acme.json")
    sink.remove_metadata("7.acme.json")
    assert set(sink.metadata_files()) == names - {"7.acme.json"}
    for name in ("1.root.json", "timestamp.json", "root.json"):
        with pytest.raises(ValueError, match="stays"):
            sink.remove_metadata(name)
    with pytest.raises(FetchError, match="is not a file name"):
        sink.remove_metadata("../1.x.json")
    nowhere = DirectorySink(tmp_path / "absent")
    nowhere.remove_metadata("1.acme.json")
    assert list(nowhere.metadata_files()) == []
    with sink.together():
        sink.put_metadata("8.acme.json", b"role")
    sink.close()


def test_publishing_survives_every_crash(tmp_path: Path) -> None:
    """Whenever it dies, what `timestamp` leads to is complete."""
    state = tmp_path / "state"
    first = DirectorySink(state)
    first.put_metadata("1.snapshot.json", b"snapshot 1")
    first.put_metadata("timestamp.json", b"1")

    def action(directory: Path) -> None:
        sink = DirectorySink(directory)
        with DirectoryLock(directory, timeout=1):
            sink.clean()
            data: BinaryIO = io.BytesIO(DATA)
            sink.put_blob(WHAT, data)
            data.seek(0)
            sink.put_target(PATH, WHAT, data)
            sink.put_metadata("2.snapshot.json", b"snapshot 2")
            sink.put_metadata("timestamp.json", b"2")

    def check(directory: Path, crash: Crash) -> None:
        source = DirectorySource(directory)
        for restarted in (False, True):
            version = source.metadata("timestamp.json", limit=1)
            assert version == b"2" or not (crash.finished or restarted)
            name = f"{version.decode()}.snapshot.json"
            assert source.metadata(name, limit=99) == b"snapshot " + version
            if version == b"2":
                with source.target(PATH, WHAT) as file, source.blob(WHAT) as blob:
                    assert file.read() == blob.read() == DATA
            action(directory)
        assert not list(directory.rglob(".tmp-*"))

    assert crash_points(state, action, check, scratch=tmp_path) > 50
