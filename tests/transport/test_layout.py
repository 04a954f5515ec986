"""An OCI image layout on disk as a place of content and of a whole trust repository."""

from __future__ import annotations

import hashlib
import io
import json
import os
from itertools import repeat
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import (
    ConflictError,
    DigestMismatchError,
    FetchError,
    OciFormatError,
    StorageError,
    TooLargeError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.names import TargetPath
from margo_supplychain.formats.oci import (
    EMPTY,
    INDEX,
    MANIFEST,
    REFERENCE_NAME,
    Entry,
    Layer,
    index_bytes,
    manifest_bytes,
)
from margo_supplychain.formats.registry_form import (
    TUF_METADATA,
    content_tag,
    target_tag,
    wrapping,
)
from margo_supplychain.storage import durable
from margo_supplychain.storage.content_store import ContentStore, blob_path
from margo_supplychain.storage.lock import DirectoryLock
from margo_supplychain.storage.operations import Operations
from margo_supplychain.transport.layout_sink import LayoutSink
from margo_supplychain.transport.oci_layout import DirectoryLayout, LayoutSource, Names
from tests.faults.crash import Crash, crash_points

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RECORD = b"a release record"
WHAT = Descriptor.of(RECORD, "application/json")
PATH = TargetPath("acme/releases/pump-monitor/1.0.0")
PACKAGE = manifest_bytes(
    artifact_type="application/vnd.margo.app.v1+json",
    layers=[Layer(descriptor=EMPTY, title="margo.yaml")],
)
PACKAGED = Descriptor.of(PACKAGE, MANIFEST)


@pytest.fixture
def sink(tmp_path: Path) -> LayoutSink:
    return LayoutSink(tmp_path / "layout")


@pytest.fixture
def store(sink: LayoutSink) -> ContentStore:
    """A layout as another tool writes it: content, and no trust metadata."""
    store = ContentStore.create(sink.directory)
    store.put(EMPTY, io.BytesIO(b"{}"))
    store.put(PACKAGED, io.BytesIO(PACKAGE))
    return store


@pytest.fixture
def source(store: ContentStore) -> LayoutSource:
    return LayoutSource(store.directory)


def listed(sink: LayoutSink) -> dict[str, str]:
    """Return what `index.json` lists: tag, or `@` and a digest, to artifact type."""
    document = json.loads((sink.directory / "index.json").read_bytes())
    return {
        entry.get("annotations", {}).get(
            REFERENCE_NAME, f"@{entry['digest']}"
        ): entry.get("artifactType", "")
        for entry in document["manifests"]
    }


# --- reading -------------------------------------------------------------------------


def test_a_layout_of_content_alone(source: LayoutSource) -> None:
    with source.blob(PACKAGED, start=1) as file:
        assert file.read() == PACKAGE[1:]
    with pytest.raises(
        FetchError, match=r"oci-layout:.* has no tag 'timestamp'"
    ) as caught:
        source.metadata("timestamp.json", limit=100)
    assert caught.value.missing
    with (
        pytest.raises(FetchError, match="does not exist") as caught,
        source.target(PATH, WHAT),
    ):
        pass
    assert caught.value.missing


def test_resolve(store: ContentStore, source: LayoutSource) -> None:
    with pytest.raises(FetchError, match=r"has no tag '1\.0\.0'") as caught:
        source.resolve("1.0.0")
    assert caught.value.missing
    assert source.resolve(f"@{PACKAGED.digest}") == PACKAGED  # not listed, but there
    store.add_reference(PACKAGED, name="1.0.0")
    assert source.resolve("1.0.0") == PACKAGED
    assert source.resolve(f"@{PACKAGED.digest}") == PACKAGED


def test_a_tag_as_docker_saves_it(store: ContentStore, source: LayoutSource) -> None:
    store.add_reference(PACKAGED, name="registry.example/acme/pump:1.0.0")
    assert source.resolve("registry.example/acme/pump:1.0.0") == PACKAGED


def test_a_tag_never_stands_for_a_digest(
    store: ContentStore, source: LayoutSource
) -> None:
    other = Digest.of(b"something else")
    store.add_reference(PACKAGED, name=str(other))
    with pytest.raises(FetchError, match="does not exist"):
        source.resolve(f"@{other}")


def test_resolve_sha512(source: LayoutSource) -> None:
    digest = Digest("sha512", hashlib.sha512(PACKAGE).hexdigest())
    path = blob_path(source.directory, digest)
    path.parent.mkdir()
    path.write_bytes(PACKAGE)
    assert source.resolve(f"@{digest}").digest == digest


def test_tag_of_two_things(store: ContentStore, source: LayoutSource) -> None:
    entries = [
        Entry(descriptor=one, annotations={REFERENCE_NAME: "timestamp"})
        for one in (PACKAGED, EMPTY, PACKAGED)
    ]
    (store.directory / "index.json").write_bytes(index_bytes(entries))
    with pytest.raises(OciFormatError, match="has 2 manifests tagged") as caught:
        source.resolve("timestamp")
    assert "@sha256:" in str(caught.value.hint)
    with pytest.raises(FetchError, match="has 2 manifests tagged") as failed:
        source.metadata("timestamp.json", limit=100)
    assert not failed.value.missing


def test_resolve_what_is_not_so(source: LayoutSource) -> None:
    path = blob_path(source.directory, PACKAGED.digest)
    with pytest.raises(OciFormatError, match="is not sha256"):
        source.resolve("@sha256:../../etc/passwd")
    with pytest.raises(OciFormatError, match="schemaVersion"):
        source.resolve(f"@{EMPTY.digest}")
    path.write_bytes(PACKAGE + b" ")
    with pytest.raises(FetchError, match="as its digest says"):
        source.resolve(f"@{PACKAGED.digest}")
    path.write_bytes(b" " * ((4 << 20) + 1))
    with pytest.raises(TooLargeError, match=r"larger than|goes on after"):
        source.resolve(f"@{PACKAGED.digest}")
    path.unlink()
    with pytest.raises(FetchError, match="does not exist") as caught:
        source.resolve(f"@{PACKAGED.digest}")
    assert caught.value.missing


def test_nothing_beyond_what_the_index_says(
    store: ContentStore, source: LayoutSource
) -> None:
    store.add_reference(PACKAGED, name="timestamp")
    blob_path(store.directory, PACKAGED.digest).write_bytes(PACKAGE + b" " * 100)
    with pytest.raises(TooLargeError, match="goes on after its signed size"):
        source.resolve("timestamp")
    large = Descriptor(media_type=MANIFEST, digest=PACKAGED.digest, size=(4 << 20) + 1)
    entry = Entry(descriptor=large, annotations={REFERENCE_NAME: "timestamp"})
    (store.directory / "index.json").write_bytes(index_bytes([entry]))
    with pytest.raises(TooLargeError, match="has 4194305 bytes, more than the limit"):
        source.resolve("timestamp")


def test_a_layout_that_is_not_there_says_nothing(
    source: LayoutSource, tmp_path: Path
) -> None:
    """A stick that is not plugged in, or not whole yet, or of another kind."""
    with pytest.raises(FetchError, match="absent is not a directory") as caught:
        LayoutSource(tmp_path / "absent").metadata("2.root.json", limit=100)
    assert caught.value.unreachable
    (source.directory / "oci-layout").write_bytes(b'{"imageLayoutVersion":"2.0.0"}')
    with pytest.raises(FetchError, match="expected 1") as caught:
        source.metadata("2.root.json", limit=100)
    assert caught.value.unreachable
    for name in ("oci-layout", "index.json"):
        (source.directory / name).unlink()
        with pytest.raises(FetchError, match="is not an OCI image layout") as caught:
            source.metadata("2.root.json", limit=100)
        assert caught.value.unreachable
        assert not caught.value.missing
    os.mkfifo(source.directory / "oci-layout")
    with pytest.raises(FetchError, match="is not a regular file"):
        source.metadata("2.root.json", limit=100)


def test_half_a_copy_is_not_an_answer(sink: LayoutSink) -> None:
    """The tag is listed, its manifest is still on its way."""
    sink.put_metadata("2.root.json", b"root")
    for path in (sink.directory / "blobs" / "sha256").iterdir():
        path.unlink()
    source = LayoutSource(sink.directory)
    with pytest.raises(FetchError, match=r"lists 2\.root, and does not hold") as caught:
        source.metadata("2.root.json", limit=100)
    assert not caught.value.missing
    assert not caught.value.unreachable


def test_a_tag_that_moves_while_it_is_read(
    sink: LayoutSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device polls while its vendor signs the next timestamp, and drops the last."""
    sink.put_metadata("timestamp.json", b"1")
    source = LayoutSource(sink.directory)
    assert source.metadata("timestamp.json", limit=9) == b"1"
    names = DirectoryLayout.names
    moves = iter((b"2", b"3", *(b"%d" % number for number in range(4, 9))))
    kept: Iterator[bool] = iter((True, True, False))

    def then_move(
        layout: DirectoryLayout, *, tick: Callable[[int], None] | None = None
    ) -> Names:
        found = names(layout, tick=tick)
        if layout is source._tagged and next(kept, None):
            sink.put_metadata("timestamp.json", next(moves))
        return found

    monkeypatch.setattr(DirectoryLayout, "names", then_move)
    assert source.metadata("timestamp.json", limit=9) == b"3"
    # Not for ever: who moves it each time is no source.
    kept = repeat(True)
    with pytest.raises(FetchError, match="lists timestamp, and does not") as caught:
        source.metadata("timestamp.json", limit=9)
    assert not caught.value.missing


def test_the_list_is_read_again_when_it_changed(sink: LayoutSink) -> None:
    sink.put_metadata("timestamp.json", b"1")
    source = LayoutSource(sink.directory)
    assert source.metadata("timestamp.json", limit=9) == b"1"
    LayoutSink(sink.directory).put_metadata("timestamp.json", b"2")
    assert source.metadata("timestamp.json", limit=9) == b"2"
    assert sink.metadata("timestamp.json", limit=9) == b"2"


# --- writing -------------------------------------------------------------------------


def test_a_new_place_has_nothing(sink: LayoutSink) -> None:
    with pytest.raises(FetchError, match="has no tag 'timestamp'") as caught:
        sink.metadata("timestamp.json", limit=9)
    assert caught.value.missing
    assert not sink.has_blob(WHAT)
    assert list(sink.metadata_files()) == []
    sink.clean()
    sink.remove_metadata("1.acme.json")
    assert not sink.directory.exists()


def test_what_goes_in_comes_out(sink: LayoutSink) -> None:
    sink.put_blob(EMPTY, io.BytesIO(b"{}"))
    sink.put_manifest(PACKAGED, PACKAGE)
    index = index_bytes([Entry(descriptor=PACKAGED)], artifact_type="a/index")
    sink.put_blob(Descriptor.of(index, INDEX), io.BytesIO(index))
    sink.put_manifest(PACKAGED, PACKAGE, tag="1.0.0")
    sink.put_manifest(PACKAGED, PACKAGE)
    sink.put_target(PATH, WHAT, io.BytesIO(RECORD))
    sink.put_metadata("1.root.json", b"root")
    sink.put_metadata("timestamp.json", b"stamp")
    source = LayoutSource(sink.directory)
    assert source.metadata("1.root.json", limit=9) == b"root"
    assert source.resolve("1.0.0") == PACKAGED
    with source.target(PATH, WHAT) as file:
        assert file.read() == RECORD
    assert listed(sink) == {
        f"@{PACKAGED.digest}": "application/vnd.margo.app.v1+json",
        f"@{Digest.of(index)}": "a/index",
        "1.0.0": "application/vnd.margo.app.v1+json",
        f"t.{WHAT.digest.hex}": "application/vnd.tuf.target",
        "1.root": "application/vnd.tuf.metadata+json",
        "timestamp": "application/vnd.tuf.metadata+json",
    }
    assert sink.url == f"oci-layout:{sink.directory}"
    with pytest.raises(ConflictError, match="other bytes under the tag"):
        sink.put_metadata("1.root.json", b"other")
    with pytest.raises(DigestMismatchError):
        sink.put_blob(Descriptor.of(b"other", "a/b"), io.BytesIO(b"0ther"))


def test_what_a_damaged_disk_changed_is_put_again(sink: LayoutSink) -> None:
    sink.put_target(PATH, WHAT, io.BytesIO(RECORD))
    blob_path(sink.directory, WHAT.digest).write_bytes(b"a release recorD")
    assert sink.has_blob(WHAT)
    sink.put_target(PATH, WHAT, io.BytesIO(RECORD))
    with sink.target(PATH, WHAT) as file:
        assert file.read() == RECORD


def test_another_kind_of_layout_is_left_alone(sink: LayoutSink) -> None:
    sink.put_metadata("1.root.json", b"root")
    (sink.directory / "oci-layout").write_bytes(b'{"imageLayoutVersion": "9"}')
    with pytest.raises((FetchError, OciFormatError), match="expected 1"):
        LayoutSink(sink.directory).put_metadata("timestamp.json", b"1")


def test_a_manifest_that_nobody_listed_is_listed(
    sink: LayoutSink, store: ContentStore
) -> None:
    """Some tools remove what `index.json` does not lead to."""
    assert store.has(PACKAGED)
    assert not sink.has_blob(PACKAGED)
    sink.put_manifest(PACKAGED, PACKAGE)
    assert sink.has_blob(PACKAGED)
    assert list(listed(sink)) == [f"@{PACKAGED.digest}"]
    sink._writer.put_manifest(PACKAGE, MANIFEST)
    assert list(listed(sink)) == [f"@{PACKAGED.digest}"]


def test_a_target_whose_manifest_is_lost_is_put_again(sink: LayoutSink) -> None:
    sink.put_target(PATH, WHAT, io.BytesIO(RECORD))
    tag = target_tag(WHAT.digest)
    assert sink.keeps(tag, WHAT)
    blob_path(sink.directory, sink.resolve(tag).digest).unlink()
    again = LayoutSink(sink.directory)
    assert not again.keeps(tag, WHAT)
    again.put_target(PATH, WHAT, io.BytesIO(RECORD))
    assert again.keeps(tag, WHAT)


def test_content_whose_manifest_is_lost_is_put_again(
    sink: LayoutSink, store: ContentStore
) -> None:
    """Under its own tag; what lost another manifest keeps its name."""
    sink.put_manifest(PACKAGED, PACKAGE, tag="acme/pump-monitor:1.0.0")
    blob_path(sink.directory, PACKAGED.digest).unlink()
    other = index_bytes([Entry(descriptor=EMPTY)])
    with pytest.raises(FetchError, match="does not hold it"):
        LayoutSink(sink.directory).put_manifest(
            Descriptor.of(other, INDEX), other, tag="acme/pump-monitor:1.0.0"
        )
    again = LayoutSink(sink.directory)
    again.put_manifest(PACKAGED, PACKAGE, tag="acme/pump-monitor:1.0.0")
    assert again.resolve("acme/pump-monitor:1.0.0") == PACKAGED
    assert store.has(PACKAGED)


def test_a_tag_by_digest_of_two_things(sink: LayoutSink, store: ContentStore) -> None:
    sink.put_target(PATH, WHAT, io.BytesIO(RECORD))
    sink.put_manifest(PACKAGED, PACKAGE, tag=content_tag(PACKAGED.digest))
    for tag in (target_tag(WHAT.digest), content_tag(PACKAGED.digest)):
        index = store.index()
        other = Entry(
            descriptor=Descriptor.of(b"{}", MANIFEST), annotations={REFERENCE_NAME: tag}
        )
        (sink.directory / "index.json").write_bytes(
            index_bytes((*index.manifests, other))
        )
    again = LayoutSink(sink.directory)
    assert not again.keeps(target_tag(WHAT.digest), WHAT)
    assert not again.keeps(content_tag(PACKAGED.digest), PACKAGED)
    again.put_target(PATH, WHAT, io.BytesIO(RECORD))
    again.put_manifest(PACKAGED, PACKAGE, tag=content_tag(PACKAGED.digest))
    assert again.keeps(target_tag(WHAT.digest), WHAT)
    assert again.keeps(content_tag(PACKAGED.digest), PACKAGED)


def test_a_tag_of_two_things_is_put_right(sink: LayoutSink) -> None:
    """What a tool listed twice under one name is one thing again."""
    sink.put_metadata("timestamp.json", b"1")
    sink.put_blob(EMPTY, io.BytesIO(b"{}"))
    sink.put_manifest(PACKAGED, PACKAGE, tag="kept")
    entries = [
        Entry(descriptor=one, annotations={REFERENCE_NAME: "1.acme"})
        for one in (PACKAGED, EMPTY)
    ]
    (sink.directory / "index.json").write_bytes(index_bytes(entries))
    sink.restore_metadata("1.acme.json", b"role")
    assert LayoutSource(sink.directory).metadata("1.acme.json", limit=9) == b"role"
    assert list(listed(sink)) == ["1.acme"]


def test_one_of_two_things_under_a_tag_is_removed() -> None:
    names = Names(
        Entry(descriptor=one, annotations={REFERENCE_NAME: "a"})
        for one in (PACKAGED, EMPTY)
    )
    assert names.remove(EMPTY.digest) == 1
    assert names.tagged("a") == (PACKAGED,)
    assert names.remove(EMPTY.digest) == 0


def test_timestamps_leave_nothing_behind(sink: LayoutSink) -> None:
    sink.put_metadata("timestamp.json", b"0")
    before = len(list((sink.directory / "blobs" / "sha256").iterdir()))
    for number in range(3):
        sink.put_metadata("timestamp.json", b"%d" % number)
    after = len(list((sink.directory / "blobs" / "sha256").iterdir()))
    assert after == before


def test_one_timestamp_in_two_forms(sink: LayoutSink) -> None:
    """Another manifest around the same bytes does not take them away."""
    what, config = (Descriptor.of(one, TUF_METADATA) for one in (b"1", b"{}"))
    sink.put_blob(what, io.BytesIO(b"1"))
    sink.put_blob(config, io.BytesIO(b"{}"))
    older, _ = wrapping(what, form="1.0", title="timestamp.json")
    sink.put_manifest(Descriptor.of(older, MANIFEST), older, tag="timestamp")
    sink.put_metadata("timestamp.json", b"1")
    assert sink.has_blob(what)
    assert not sink.has_blob(Descriptor.of(older, MANIFEST))


def test_a_timestamp_that_is_something_else_is_only_replaced(sink: LayoutSink) -> None:
    sink.put_blob(EMPTY, io.BytesIO(b"{}"))
    sink.put_manifest(PACKAGED, PACKAGE, tag="timestamp")
    sink.put_metadata("timestamp.json", b"1")
    assert blob_path(sink.directory, PACKAGED.digest).exists()
    # The same, with a manifest that is lost, and with one that is listed otherwise.
    other = LayoutSink(sink.directory.with_name("other"))
    other.put_metadata("timestamp.json", b"1")
    what = other.resolve("timestamp")
    other.put_manifest(
        what, (blob_path(other.directory, what.digest)).read_bytes(), tag="kept"
    )
    other.put_metadata("timestamp.json", b"2")
    assert other.resolve("kept") == what
    blob_path(other.directory, other.resolve("timestamp").digest).unlink()
    other.put_metadata("timestamp.json", b"3")
    assert other.metadata("timestamp.json", limit=9) == b"3"


def test_removed_metadata_is_gone(sink: LayoutSink) -> None:
    sink.put_metadata("1.root.json", b"root")
    sink.put_metadata("timestamp.json", b"1")
    before = sorted((sink.directory / "blobs" / "sha256").iterdir())
    sink.put_metadata("1.acme.json", b"role")
    # The same bytes as another role's: they stay until that goes, too.
    sink.put_metadata("1.other.json", b"role")
    sink.remove_metadata("1.acme.json")
    assert sink.metadata("1.other.json", limit=9) == b"role"
    sink.remove_metadata("1.other.json")
    assert set(sink.metadata_files()) == {"1.root.json", "timestamp.json"}
    assert sorted((sink.directory / "blobs" / "sha256").iterdir()) == before


def test_what_an_index_lists_is_not_removed(sink: LayoutSink) -> None:
    sink.put_metadata("1.acme.json", b"role")
    what = sink.resolve("1.acme")
    absent = Descriptor.of(b"another platform", MANIFEST)
    index = index_bytes([Entry(descriptor=one) for one in (what, absent)])
    sink.put_manifest(Descriptor.of(index, INDEX), index, tag="bundle")
    sink.remove_metadata("1.acme.json")
    assert list(sink.metadata_files()) == []
    assert sink.resolve(f"@{what.digest}") == what


def test_where_a_manifest_can_not_be_read_no_blob_is_removed(sink: LayoutSink) -> None:
    sink.put_metadata("1.acme.json", b"role")
    sink.put_blob(EMPTY, io.BytesIO(b"{}"))
    sink.put_manifest(PACKAGED, PACKAGE)
    blob_path(sink.directory, PACKAGED.digest).write_bytes(b"x")
    sink.remove_metadata("1.acme.json")
    assert list(sink.metadata_files()) == []
    assert sink.has_blob(Descriptor.of(b"role", "a/b"))


def test_a_manifest_of_manifests_is_removed_alone(sink: LayoutSink) -> None:
    sink.put_blob(EMPTY, io.BytesIO(b"{}"))
    sink.put_manifest(PACKAGED, PACKAGE)
    index = index_bytes([Entry(descriptor=PACKAGED)])
    what = Descriptor.of(index, INDEX)
    sink.put_manifest(what, index, tag="bundle")
    sink._writer.delete_manifest(what.digest)
    assert not sink.has_blob(what)
    assert sink.has_blob(PACKAGED)
    sink._writer.delete_manifest(what.digest)


# --- many at once --------------------------------------------------------------------


class Counting(Operations):
    """Counts how often each name is written."""

    def __init__(self) -> None:
        self.replaced: list[str] = []

    def replace(self, source: Path, target: Path) -> None:
        self.replaced.append(target.name)
        super().replace(source, target)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting()
    monkeypatch.setattr(durable, "operations", counting)
    return counting


def test_together_lists_once(sink: LayoutSink, counting: Counting) -> None:
    with sink.together():
        for number in range(1, 300):
            sink.put_metadata(f"{number}.acme.json", b"%d" % number)
        with sink.together():
            sink.put_metadata("1.root.json", b"root")
        assert sink.metadata("299.acme.json", limit=9) == b"299"
        assert "index.json" not in counting.replaced
        with pytest.raises(FetchError, match="has no tag"):
            LayoutSource(sink.directory).metadata("299.acme.json", limit=9)
    assert counting.replaced.count("index.json") == 1
    assert len(set(LayoutSink(sink.directory).metadata_files())) == 300
    with sink.together():
        pass
    assert counting.replaced.count("index.json") == 1


def test_together_lists_what_was_put_before_it_failed(sink: LayoutSink) -> None:
    def put() -> None:
        with sink.together():
            sink.put_metadata("1.acme.json", b"1")
            sink.put_metadata("1.acme.json", b"2")

    with pytest.raises(ConflictError, match="other bytes"):
        put()
    assert list(LayoutSink(sink.directory).metadata_files()) == ["1.acme.json"]


def test_removed_and_put_again_together(sink: LayoutSink) -> None:
    sink.put_metadata("1.root.json", b"root")
    sink.put_metadata("1.acme.json", b"role")
    with sink.together():
        sink.remove_metadata("1.acme.json")
        sink.put_metadata("1.acme.json", b"role")
    assert LayoutSource(sink.directory).metadata("1.acme.json", limit=9) == b"role"


def test_each_put_is_durable_and_seen_at_once(
    sink: LayoutSink, counting: Counting
) -> None:
    for number in range(1, 4):
        sink.put_metadata(f"{number}.acme.json", b"x")
        found = LayoutSource(sink.directory).metadata(f"{number}.acme.json", limit=9)
        assert found == b"x"
    assert counting.replaced.count("index.json") == 3


def test_a_list_that_can_not_be_written(
    sink: LayoutSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink.put_metadata("1.root.json", b"root")

    class Full(Operations):
        def replace(self, source: Path, target: Path) -> None:
            if target.name == "index.json":
                raise OSError(28, "No space left on device")
            super().replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "operations", Full())
        with pytest.raises(StorageError, match="No space left"):
            sink.put_metadata("1.acme.json", b"role")
    # What is not on disk is not believed to be.
    assert list(sink.metadata_files()) == ["1.root.json"]
    sink.put_metadata("1.acme.json", b"role")
    assert len(list(sink.metadata_files())) == 2


def test_publishing_survives_every_crash(tmp_path: Path) -> None:
    """Whenever it dies, what `timestamp` leads to is complete."""
    state = tmp_path / "state"
    first = LayoutSink(state)
    first.put_metadata("1.snapshot.json", b"snapshot 1")
    first.put_metadata("timestamp.json", b"1")

    def action(directory: Path) -> None:
        sink = LayoutSink(directory)
        with DirectoryLock(directory, timeout=1):
            sink.clean()
            with sink.together():
                sink.put_target(PATH, WHAT, io.BytesIO(RECORD))
                sink.put_metadata("2.snapshot.json", b"snapshot 2")
            sink.put_metadata("timestamp.json", b"2")

    def check(directory: Path, crash: Crash) -> None:
        source = LayoutSource(directory)
        for restarted in (False, True):
            version = source.metadata("timestamp.json", limit=1)
            assert version == b"2" or not (crash.finished or restarted)
            name = f"{version.decode()}.snapshot.json"
            assert source.metadata(name, limit=99) == b"snapshot " + version
            if version == b"2":
                with source.target(PATH, WHAT) as file:
                    assert file.read() == RECORD
            action(directory)
        assert not list(directory.rglob(".tmp-*"))

    assert crash_points(state, action, check, scratch=tmp_path) > 50
