"""A trust repository under tags, over a registry that is not always honest."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import (
    ConflictError,
    DigestMismatchError,
    FetchError,
    FormatError,
    LengthMismatchError,
    ManifestRefusedError,
    OciFormatError,
    RefusedError,
    StorageError,
    TooLargeError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.names import TargetPath
from margo_supplychain.formats.oci import (
    EMPTY,
    INDEX,
    MANIFEST,
    Entry,
    Layer,
    Manifest,
    index_bytes,
    manifest_bytes,
    parse_manifest,
)
from margo_supplychain.formats.registry_form import (
    MAX_INLINE,
    TUF_METADATA,
    TUF_TARGET,
    content_tag,
    metadata_tag,
    target_tag,
    unwrapped,
    wrapped,
    wrapping,
)
from margo_supplychain.transport.tagged import TaggedSource
from margo_supplychain.transport.tagged_sink import TaggedSink
from tests.transport.memory_registry import MemoryRegistry

if TYPE_CHECKING:
    from collections.abc import Callable

    from margo_supplychain.transport.protocols import Shelf

SMALL, LARGE = b'{"small": 1}', b"x" * (MAX_INLINE + 1)
RECORD = b"a release record"
WHAT = Descriptor.of(RECORD, "application/json")
PATH = TargetPath("acme/releases/pump-monitor/1.0.0")
PACKAGE = manifest_bytes(artifact_type="application/x", layers=[Layer(descriptor=WHAT)])
PACKAGED = Descriptor.of(PACKAGE, MANIFEST)


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def sink(registry: MemoryRegistry) -> TaggedSink:
    return TaggedSink(registry)


def put_raw(registry: MemoryRegistry, tag: str, manifest: bytes) -> None:
    digest = str(Digest.of(manifest))
    registry.manifests[digest] = manifest
    registry.tagged[tag] = digest


def text_of(registry: MemoryRegistry, tag: str) -> Manifest:
    found = parse_manifest(registry.manifests[registry.tagged[tag]])
    assert isinstance(found, Manifest)
    return found


# --- reading -------------------------------------------------------------------------


def test_small_metadata_comes_in_one_request(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    for name in ("3.root.json", "timestamp.json", f"1.{'y' * 200}.json"):
        sink.put_metadata(name, SMALL)
        registry.asked.clear()
        counted: list[int] = []
        source = TaggedSource(registry)
        assert source.metadata(name, limit=100, tick=counted.append) == SMALL
        assert registry.asked == [f"manifest {metadata_tag(name)}"]
        assert counted
    assert sink.url == registry.url


def test_large_metadata_comes_in_two(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    sink.put_metadata("1.targets.json", LARGE)
    registry.asked.clear()
    assert sink.metadata("1.targets.json", limit=len(LARGE)) == LARGE
    assert len(registry.asked) == 2


def test_a_device_reads_up_to_its_limit(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    sink.put_metadata("1.root.json", SMALL)
    sink.put_metadata("1.targets.json", LARGE)
    registry.asked.clear()
    for name, data in (("1.root.json", SMALL), ("1.targets.json", LARGE)):
        with pytest.raises(TooLargeError, match=f"has {len(data)} bytes, more than"):
            sink.metadata(name, limit=len(data) - 1)
    # Nothing beyond the manifest was asked for.
    assert len(registry.asked) == 2


def test_more_bytes_than_the_manifest_says(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    sink.put_metadata("1.targets.json", LARGE)
    registry.blobs[str(Digest.of(LARGE))] = LARGE * 3
    with pytest.raises(TooLargeError, match="larger than the limit"):
        sink.metadata("1.targets.json", limit=len(LARGE) + 5)


def test_absent_metadata(registry: MemoryRegistry, sink: TaggedSink) -> None:
    with pytest.raises(FetchError, match=r"no 2\.root") as caught:
        sink.metadata("2.root.json", limit=100)
    assert caught.value.missing
    registry.down = True
    with pytest.raises(FetchError, match="wire is cut") as caught:
        sink.metadata("2.root.json", limit=100)
    assert not caught.value.missing


def test_a_tag_without_its_bytes_is_not_absent(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    """Else a copy that is half done would say that there is no newer root."""
    sink.put_metadata("2.root.json", LARGE)
    registry.blobs.clear()
    with pytest.raises(FetchError, match="does not hold its bytes") as caught:
        sink.metadata("2.root.json", limit=len(LARGE))
    assert not caught.value.missing
    registry.down = True
    with pytest.raises(FetchError, match="wire is cut"):
        sink.metadata("2.root.json", limit=len(LARGE))


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        (wrapped(SMALL, media_type=TUF_TARGET)[0], "expected application/vnd.tuf.meta"),
        (PACKAGE, "is application/x, expected"),
        (index_bytes([Entry(descriptor=EMPTY)]), "around one file"),
        (b"not json", "is not JSON"),
    ],
)
def test_a_tag_of_something_else(
    registry: MemoryRegistry, sink: TaggedSink, manifest: bytes, text: str
) -> None:
    put_raw(registry, "2.root", manifest)
    with pytest.raises(FetchError, match=text) as caught:
        sink.metadata("2.root.json", limit=100)
    assert not caught.value.missing


def test_a_large_manifest_around_a_small_file(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    put_raw(registry, "timestamp", b" " * (1 << 20))
    with pytest.raises(TooLargeError, match="above 131072 bytes"):
        sink.metadata("timestamp.json", limit=100)


@pytest.mark.parametrize(
    "name", ["root.json", "../1.root.json", "1.root", "", "a/b.json"]
)
def test_names_that_are_no_metadata(sink: TaggedSink, name: str) -> None:
    with pytest.raises(
        FetchError, match=r"is neither timestamp|not a file name"
    ) as caught:
        sink.metadata(name, limit=100)
    assert not caught.value.missing
    with pytest.raises((StorageError, FetchError), match=r"is neither|not a file name"):
        sink.put_metadata(name, b"{}")


def test_a_name_that_no_file_system_takes(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    with pytest.raises(StorageError, match="a control character, backslash or colon"):
        sink.put_metadata("1.a:b.json", b"{}")
    assert registry.asked == []


def test_a_media_type_leads_nowhere_else(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    """A layer that calls itself a manifest is still asked for as a blob."""
    manifest, blobs = wrapped(LARGE, media_type=MANIFEST)
    document = json.loads(manifest)
    document["artifactType"] = TUF_METADATA
    registry.blobs[str(blobs[1][0].digest)] = LARGE
    put_raw(registry, "1.targets", json.dumps(document).encode())
    assert sink.metadata("1.targets.json", limit=len(LARGE)) == LARGE
    with sink.target(PATH, Descriptor.of(LARGE, MANIFEST)) as stream:
        assert stream.read() == LARGE
    assert registry.asked[-2].endswith(TUF_METADATA)
    assert registry.asked[-1].endswith(TUF_TARGET)


def test_targets_and_content_by_digest(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    sink.put_target(PATH, WHAT, io.BytesIO(RECORD))
    registry.asked.clear()
    with sink.target(PATH, WHAT, start=2) as stream:
        assert stream.read() == RECORD[2:]
    with sink.blob(WHAT, start=3) as stream:
        assert stream.read() == RECORD[3:]
    assert len(registry.asked) == 2
    assert sink.has_blob(WHAT)
    assert not sink.has_blob(Descriptor.of(b"other", "a/b"))


def test_resolve(sink: TaggedSink, registry: MemoryRegistry) -> None:
    sink.put_blob(EMPTY, io.BytesIO(b"{}"))
    sink.put_blob(WHAT, io.BytesIO(RECORD))
    sink.put_manifest(PACKAGED, PACKAGE, tag="1.0.0")
    assert sink.resolve("1.0.0") == PACKAGED
    assert sink.resolve(f"@{PACKAGED.digest}") == PACKAGED
    with pytest.raises(FetchError, match=r"no 2\.0\.0"):
        sink.resolve("2.0.0")
    with pytest.raises(OciFormatError, match="is not sha256"):
        sink.resolve("@latest")
    put_raw(registry, "odd", b"{}")
    with pytest.raises(OciFormatError, match="schemaVersion"):
        sink.resolve("odd")


# --- writing -------------------------------------------------------------------------


def test_a_file_is_wrapped_and_tagged(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    sink.put_metadata("7.acme.json", SMALL)
    sink.put_target(PATH, WHAT, io.BytesIO(RECORD))
    assert set(registry.tagged) == {"7.acme", target_tag(WHAT.digest)}
    metadata, target = (text_of(registry, tag) for tag in registry.tagged)
    assert (metadata.kind, metadata.layers[0].title) == (TUF_METADATA, "7.acme.json")
    assert target.kind == TUF_TARGET
    assert target.layers[0].descriptor.digest == WHAT.digest
    # The empty config is pushed once.
    puts = [one for one in registry.asked if one == f"put blob {EMPTY.digest.short}"]
    assert len(puts) == 1


def test_versions_are_written_once(registry: MemoryRegistry, sink: TaggedSink) -> None:
    for data in (SMALL, LARGE):
        name = f"{len(data)}.acme.json"
        sink.put_metadata(name, data)
        before = dict(registry.tagged)
        registry.asked.clear()
        sink.put_metadata(name, data)
        assert not [one for one in registry.asked if one.startswith("put manifest")]
        with pytest.raises(ConflictError, match="has other bytes under the tag"):
            sink.put_metadata(name, data + b" ")
        assert registry.tagged == before


def test_timestamp_moves(registry: MemoryRegistry, sink: TaggedSink) -> None:
    for data in (b"1", b"2", b"2"):
        sink.put_metadata("timestamp.json", data)
        assert TaggedSource(registry).metadata("timestamp.json", limit=9) == data


def test_what_was_lost_behind_a_tag_is_put_back(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    sink.put_metadata("1.targets.json", LARGE)
    sink.put_target(PATH, WHAT, io.BytesIO(RECORD))
    registry.blobs.clear()
    sink.put_metadata("1.targets.json", LARGE)
    sink.put_target(PATH, WHAT, io.BytesIO(RECORD))
    assert sink.metadata("1.targets.json", limit=len(LARGE)) == LARGE
    with sink.target(PATH, WHAT) as stream:
        assert stream.read() == RECORD


FOREIGN = [b"{}", PACKAGE, wrapped(SMALL, media_type=TUF_TARGET)[0]]


@pytest.mark.parametrize("manifest", FOREIGN)
def test_a_name_of_something_else_is_left_alone(
    registry: MemoryRegistry, sink: TaggedSink, manifest: bytes
) -> None:
    put_raw(registry, "7.acme", manifest)
    before = dict(registry.tagged)
    with pytest.raises(ConflictError, match=r"under the tag 7\.acme"):
        sink.put_metadata("7.acme.json", SMALL)
    assert registry.tagged == before


@pytest.mark.parametrize(
    "manifest",
    [
        *FOREIGN,
        wrapped(RECORD, media_type=TUF_METADATA)[0],
        wrapping(Descriptor(media_type=TUF_TARGET, digest=WHAT.digest, size=1))[0],
        bytes((4 << 20) + 1),
    ],
)
def test_who_takes_a_tag_by_digest_keeps_nobody_from_it(
    registry: MemoryRegistry, sink: TaggedSink, manifest: bytes
) -> None:
    """Its name says which bytes it has."""
    target, content = target_tag(WHAT.digest), content_tag(PACKAGED.digest)
    put_raw(registry, target, manifest)
    put_raw(registry, content, manifest)
    assert not sink.keeps(target, WHAT)
    sink.put_target(PATH, WHAT, io.BytesIO(RECORD))
    sink.put_manifest(PACKAGED, PACKAGE, tag=content)
    assert sink.keeps(target, WHAT)
    assert sink.keeps(content, PACKAGED)
    assert sink.resolve(content) == PACKAGED
    assert unwrapped(sink._writer.manifest(target)[0]).layer.digest == WHAT.digest
    registry.asked.clear()
    sink.put_target(PATH, WHAT, io.BytesIO(RECORD))
    sink.put_manifest(PACKAGED, PACKAGE, tag=content)
    assert not [one for one in registry.asked if one.startswith("put manifest")]


def test_a_tag_by_the_digest_of_other_bytes_is_a_name(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    """A component's revision may look like one: it does not move."""
    for tag in (content_tag(WHAT.digest), target_tag(PACKAGED.digest)):
        put_raw(registry, tag, FOREIGN[2])
        with pytest.raises(ConflictError, match="under the tag"):
            sink.put_manifest(PACKAGED, PACKAGE, tag=tag)


def test_both_forms_of_a_target_are_right(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    tag = target_tag(WHAT.digest)
    older, _ = wrapped(RECORD, media_type=TUF_TARGET, form="1.0")
    put_raw(registry, tag, older)
    sink.put_target(PATH, WHAT, io.BytesIO(RECORD))
    assert sink._writer.manifest(tag)[0] == older


def test_who_takes_a_tag_at_the_same_time(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    registry.meddle = lambda tag: put_raw(registry, tag, FOREIGN[2])
    with pytest.raises(ConflictError, match="than were written just now"):
        sink.put_target(PATH, WHAT, io.BytesIO(RECORD))
    with pytest.raises(ConflictError, match="than were written just now"):
        sink.put_manifest(PACKAGED, PACKAGE, tag=content_tag(PACKAGED.digest))


def test_what_a_racing_publisher_overwrote_is_put_back(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    put_raw(registry, "7.acme", wrapped(b"theirs", media_type=TUF_METADATA)[0])
    sink.restore_metadata("7.acme.json", SMALL)
    assert sink.metadata("7.acme.json", limit=99) == SMALL
    with pytest.raises(ValueError, match="is no versioned metadata file"):
        sink.restore_metadata("timestamp.json", SMALL)


def test_two_publishers_at_once(registry: MemoryRegistry, sink: TaggedSink) -> None:
    """Whoever put the tag first and is overwritten learns it."""
    theirs, _ = wrapped(b"theirs", media_type=TUF_METADATA)
    registry.meddle = lambda tag: put_raw(registry, tag, theirs)
    for name in ("7.acme.json", "timestamp.json"):
        with pytest.raises(ConflictError, match="than were written just now"):
            sink.put_metadata(name, SMALL)


def test_a_registry_that_loses_what_it_took(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    registry.meddle = registry.tagged.__delitem__
    with pytest.raises(ConflictError, match="than were written just now"):
        sink.put_metadata("7.acme.json", SMALL)


def test_a_registry_that_can_not_be_asked(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    registry.down = True
    with pytest.raises(FetchError, match="wire is cut"):
        sink.put_metadata("7.acme.json", SMALL)


def test_the_older_form_where_the_newer_is_refused(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    registry.refuses = lambda found: found.artifact_type is not None
    sink.put_metadata("1.root.json", SMALL)
    sink.put_target(PATH, WHAT, io.BytesIO(RECORD))
    sink.put_metadata("timestamp.json", SMALL)
    # It asked once with the newer form, and remembered.
    assert registry.asked.count("put manifest 1.root") == 2
    assert registry.asked.count("put manifest timestamp") == 1
    found = text_of(registry, "1.root")
    assert (found.artifact_type, found.config.media_type) == (None, TUF_METADATA)
    assert TaggedSource(registry).metadata("1.root.json", limit=99) == SMALL
    # Another run meets its own files, in either form.
    TaggedSink(registry).put_metadata("1.root.json", SMALL)


def test_a_registry_that_refuses_both(
    registry: MemoryRegistry, sink: TaggedSink
) -> None:
    registry.refuses = lambda _: True
    with pytest.raises(ManifestRefusedError, match="MANIFEST_INVALID") as caught:
        sink.put_metadata("1.root.json", SMALL)
    assert "settings" in str(caught.value.hint)


def test_content_is_never_rewritten(registry: MemoryRegistry, sink: TaggedSink) -> None:
    registry.blobs = {str(WHAT.digest): RECORD, str(EMPTY.digest): b"{}"}
    registry.refuses = lambda _: True
    with pytest.raises(ManifestRefusedError, match="MANIFEST_INVALID"):
        sink.put_manifest(PACKAGED, PACKAGE)


def test_manifests_of_content(registry: MemoryRegistry, sink: TaggedSink) -> None:
    for what, data in ((EMPTY, b"{}"), (WHAT, RECORD), (PACKAGED, PACKAGE)):
        sink.put_blob(what, io.BytesIO(data))
    index = index_bytes([Entry(descriptor=PACKAGED)])
    sink.put_manifest(Descriptor.of(index, INDEX), index)
    assert set(registry.manifests.values()) == {PACKAGE, index}
    assert registry.tagged == {}
    registry.asked.clear()
    sink.put_manifest(PACKAGED, PACKAGE)
    assert registry.asked == [f"has {PACKAGED.digest.short}"]


def test_a_version_tag_never_moves(registry: MemoryRegistry, sink: TaggedSink) -> None:
    registry.blobs = {str(WHAT.digest): RECORD, str(EMPTY.digest): b"{}"}
    sink.put_manifest(PACKAGED, PACKAGE, tag="1.0.0")
    sink.put_manifest(PACKAGED, PACKAGE, tag="1.0.0")
    assert registry.asked.count("put manifest 1.0.0") == 1
    other = manifest_bytes(artifact_type="a/other", layers=[Layer(descriptor=WHAT)])
    with pytest.raises(ConflictError, match=r"under the tag 1\.0\.0, and") as caught:
        sink.put_manifest(Descriptor.of(other, MANIFEST), other, tag="1.0.0")
    assert caught.value.hint == "a version is published once: take the next one"
    assert sink.resolve("1.0.0") == PACKAGED


def test_other_bytes_are_not_put(registry: MemoryRegistry, sink: TaggedSink) -> None:
    other = Descriptor.of(b"something else", MANIFEST)
    puts: list[Callable[[], None]] = [
        lambda: sink.put_manifest(other, PACKAGE),
        lambda: sink.put_blob(other, io.BytesIO(PACKAGE)),
        lambda: sink.put_target(PATH, other, io.BytesIO(b"something els3")),
    ]
    for put in puts:
        with pytest.raises(
            (LengthMismatchError, DigestMismatchError), match=r"bytes|digest"
        ):
            put()
    assert (registry.blobs, registry.manifests) == ({}, {})
    with pytest.raises(FormatError, match="is not relative"):
        sink.put_target(TargetPath("../x"), WHAT, io.BytesIO(RECORD))
    huge = Descriptor(media_type=MANIFEST, digest=WHAT.digest, size=(4 << 20) + 1)
    with pytest.raises(OciFormatError, match="above 4 MiB"):
        sink.put_blob(huge, io.BytesIO(b""))


# --- looking through -----------------------------------------------------------------


def test_metadata_files(registry: MemoryRegistry, sink: TaggedSink) -> None:
    long, odd = f"7.{'y' * 200}.json", "1.a%2Fb.json"
    names = {
        "1.root.json",
        "7.acme.pump.json",
        "timestamp.json",
        long,
        odd,
        "3.2.x.json",
    }
    for name in names:
        sink.put_metadata(name, name.encode())
    sink.put_target(PATH, WHAT, io.BytesIO(RECORD))
    for tag in ("latest", "1.0.0", "2.0.0-rc.1", "sha256-ab", "t.ab", f"1._{'0' * 64}"):
        put_raw(registry, tag, PACKAGE)
    put_raw(registry, "5._odd", b"{}")
    # Titles that are of other tags, or of none.
    for number, title in enumerate(("2.root.json", "odd", "timestamp.json")):
        tag = f"{number + 1}._{'1' * 64}"
        put_raw(registry, tag, wrapped(b"", media_type=TUF_METADATA, title=title)[0])
    registry.tagged["9._gone"] = "nowhere"
    assert sorted(sink.metadata_files()) == sorted(names)


def test_metadata_of_another_tool(registry: MemoryRegistry, sink: TaggedSink) -> None:
    """Without a title, only the tag can tell."""
    untitled, _ = wrapped(SMALL, media_type=TUF_METADATA)
    put_raw(registry, "1.0.0", untitled)
    put_raw(registry, f"1._{'0' * 64}", untitled)
    assert list(sink.metadata_files()) == ["1.0.0.json"]
    with pytest.raises(RefusedError, match="something else") as caught:
        sink.remove_metadata("1.0.0.json")
    assert "the tool that wrote it" in str(caught.value.hint)


def test_remove(registry: MemoryRegistry, sink: TaggedSink) -> None:
    # The same bytes under two names, as two empty roles may have.
    sink.put_metadata("1.acme.json", SMALL)
    sink.put_metadata("1.other.json", SMALL)
    sink.remove_metadata("1.acme.json")
    sink.remove_metadata("1.acme.json")
    assert set(registry.tagged) == {"1.other"}
    for name in ("1.root.json", "timestamp.json", "root.json"):
        with pytest.raises(ValueError, match="stays"):
            sink.remove_metadata(name)


@pytest.mark.parametrize(
    "manifest",
    [b"{}", PACKAGE, wrapped(SMALL, media_type=TUF_METADATA, title="1.root.json")[0]],
)
def test_what_is_not_that_metadata_stays(
    registry: MemoryRegistry, sink: TaggedSink, manifest: bytes
) -> None:
    put_raw(registry, "1.acme", manifest)
    with pytest.raises(RefusedError, match=r"than 1\.acme\.json"):
        sink.remove_metadata("1.acme.json")
    assert "1.acme" in registry.tagged


def test_a_shelf(sink: TaggedSink) -> None:
    shelf: Shelf = sink
    with shelf.together():
        shelf.put_metadata("1.root.json", SMALL)
    shelf.close()
