"""What a registry may do to an author's trust repository while it is written there."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain.errors import (
    ConflictError,
    FetchError,
    RefusedError,
    SupplyChainError,
    TooLargeError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.names import TargetPath
from margo_supplychain.formats.oci import EMPTY, MANIFEST, Layer, manifest_bytes
from margo_supplychain.transport.opening import open_sink
from tests.registries import lies
from tests.registries.hostile import HostileRegistry
from tests.registries.plant import METADATA, TRUST, quick, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from margo_supplychain.transport.protocols import Shelf
    from tests.registries.hostile import Conversation

SNAPSHOT: Final = b'{"signed":{"_type":"snapshot","version":3}}'
OTHER: Final = b'{"signed":{"_type":"snapshot","version":3,"x":1}}'
PUT_MANIFEST: Final = "PUT .*/manifests/"


@pytest.fixture
def server() -> Iterator[HostileRegistry]:
    with HostileRegistry() as server:
        yield server


@pytest.fixture
def sink(server: HostileRegistry) -> Shelf:
    return open_sink(f"oci://{server.host}/{TRUST}", network=quick())


def test_metadata_is_written_once(server: HostileRegistry, sink: Shelf) -> None:
    sink.put_metadata("3.snapshot.json", SNAPSHOT)
    server.seen.clear()
    sink.put_metadata("3.snapshot.json", SNAPSHOT)
    assert not server.asked(PUT_MANIFEST)
    with pytest.raises(ConflictError, match="other bytes"):
        sink.put_metadata("3.snapshot.json", OTHER)
    assert sink.metadata("3.snapshot.json", limit=1000) == SNAPSHOT


def test_versioned_tag_that_mallory_took(server: HostileRegistry, sink: Shelf) -> None:
    """Mallory puts bytes of hers under the tag of the next version; nothing of hers
    is moved, and nobody believes that the version was published."""
    wrap(server.of(TRUST), "3.snapshot", OTHER, METADATA, inline=True)
    with pytest.raises(ConflictError, match="other bytes"):
        sink.put_metadata("3.snapshot.json", SNAPSHOT)


def test_registry_that_keeps_nothing(server: HostileRegistry, sink: Shelf) -> None:
    """It says 201 and keeps nothing: what was tagged is read back."""
    digest = Digest.of(b"")
    for where in (PUT_MANIFEST, "PUT .*/blobs/uploads/"):
        server.lies(where, lies.status(201, Location=f"/v2/x/blobs/{digest}"))
        with pytest.raises(SupplyChainError):
            sink.put_metadata("timestamp.json", SNAPSHOT)
        assert "timestamp" not in server.of(TRUST).tags or "blobs" in where


def test_registry_that_keeps_other_bytes(server: HostileRegistry, sink: Shelf) -> None:
    def another(talk: Conversation) -> None:
        truth = talk.truth()
        held = server.of(TRUST)
        wrap(held, "timestamp", OTHER, METADATA, inline=True)
        talk.tell(truth)

    server.lies(PUT_MANIFEST, another)
    with pytest.raises(ConflictError, match="written just now"):
        sink.put_metadata("timestamp.json", SNAPSHOT)


def test_registry_that_refuses_the_new_form(
    server: HostileRegistry, sink: Shelf
) -> None:
    """An older Quay, GitLab's Docker-format repositories: our own metadata goes in the
    form of OCI 1.0, and is read in either."""

    def only_old(talk: Conversation) -> None:
        document = json.loads(talk.read_body())
        if "artifactType" in document:
            talk.say(400, b'{"errors":[{"code":"MANIFEST_INVALID"}]}')
        else:
            talk.tell(talk.truth())

    server.lies(PUT_MANIFEST, only_old)
    sink.put_metadata("3.snapshot.json", SNAPSHOT)
    sink.put_metadata("timestamp.json", OTHER)
    held = server.of(TRUST)
    for tag, data in (("3.snapshot", SNAPSHOT), ("timestamp", OTHER)):
        document = json.loads(held.manifests[held.tags[tag]][1])
        assert "artifactType" not in document
        assert document["config"]["mediaType"] == METADATA
        assert sink.metadata(f"{tag}.json", limit=1000) == data
    # It is tried once, and not for each file.
    assert len(server.asked(PUT_MANIFEST)) == 3


@pytest.mark.parametrize("number", [400, 401, 403, 405, 413, 415, 500])
def test_registry_that_refuses_every_form(
    number: int, server: HostileRegistry, sink: Shelf
) -> None:
    server.lies(PUT_MANIFEST, lies.status(number))
    with pytest.raises(SupplyChainError) as caught:
        sink.put_metadata("timestamp.json", SNAPSHOT)
    assert caught.value.hint
    assert isinstance(caught.value, FetchError | RefusedError)
    assert server.of(TRUST).tags == {}


def test_registry_with_immutable_tags(server: HostileRegistry, sink: Shelf) -> None:
    """`timestamp` has to move; the error says which setting forbids it."""
    sink.put_metadata("timestamp.json", SNAPSHOT)
    body = b'{"errors":[{"code":"DENIED","message":"tag is immutable"}]}'
    server.lies(PUT_MANIFEST, lambda talk: talk.say(403, body))
    with pytest.raises(RefusedError) as caught:
        sink.put_metadata("timestamp.json", OTHER)
    assert "immutab" in str(caught.value.hint)


def test_tag_of_content_never_moves(server: HostileRegistry, sink: Shelf) -> None:
    sink.put_blob(EMPTY, io.BytesIO(b"{}"))
    one, other = (
        manifest_bytes(artifact_type=kind, layers=[Layer(descriptor=EMPTY)])
        for kind in ("application/wasm", "application/other")
    )
    for _ in range(2):
        sink.put_manifest(Descriptor.of(one, MANIFEST), one, tag="1.0.0")
    assert len(server.asked(PUT_MANIFEST)) == 1
    with pytest.raises(ConflictError, match=r"under the tag 1\.0\.0"):
        sink.put_manifest(Descriptor.of(other, MANIFEST), other, tag="1.0.0")
    assert server.of(TRUST).tags == {"1.0.0": str(Digest.of(one))}


def test_target_is_written_under_its_digest(
    server: HostileRegistry, sink: Shelf
) -> None:
    data = b'{"format":1}'
    what = Descriptor.of(data, "application/json")
    path = TargetPath("acme/releases/pump/1.0.0")
    sink.put_target(path, what, io.BytesIO(data))
    assert list(server.of(TRUST).tags) == [f"t.{what.digest.hex}"]
    with sink.target(path, what) as stream:
        assert stream.read() == data
    # Whoever takes the tag first can't keep a publisher from it.
    tag = f"t.{what.digest.hex}"
    wrap(server.of(TRUST), tag, b"x", METADATA, inline=True)
    sink.put_target(path, what, io.BytesIO(data))
    wrapper = server.of(TRUST).manifests[server.of(TRUST).tags[tag]][1]
    assert json.loads(wrapper)["layers"][0]["digest"] == str(what.digest)


def test_files_of_a_repository_with_other_tags(
    server: HostileRegistry, sink: Shelf
) -> None:
    """Only what is trust metadata is listed, whatever Mallory tags."""
    sink.put_metadata("1.root.json", SNAPSHOT)
    sink.put_metadata("timestamp.json", SNAPSHOT)
    held = server.of(TRUST)
    for tag in ("latest", "1.2.0", "t." + "0" * 64, "x.root", "01.root", "0.root"):
        held.add_manifest(b"{}", tag=tag, kind=MANIFEST)
    assert sorted(sink.metadata_files()) == ["1.root.json", "timestamp.json"]


def test_listing_without_end(server: HostileRegistry, sink: Shelf) -> None:
    counted = iter(range(10**9))

    def page(talk: Conversation) -> None:
        tags = [f"{next(counted) + 1}.root" for _ in range(20_000)]
        link = f'</v2/{TRUST}/tags/list?last={tags[-1]}>; rel="next"'
        talk.say(200, json.dumps({"tags": tags}).encode(), {"Link": link})

    server.lies("GET .*/tags/list", page)
    with pytest.raises(TooLargeError):
        list(sink.metadata_files())
    assert len(server.asked("tags/list")) <= 6


def test_removal_of_what_shares_a_manifest(
    server: HostileRegistry, sink: Shelf
) -> None:
    """Registries delete by digest, and with it every tag: Mallory tags a root's
    manifest as an old snapshot, and waits for `repo prune`."""
    sink.put_metadata("1.root.json", SNAPSHOT)
    held = server.of(TRUST)
    held.tags["3.snapshot"] = held.tags["1.root"]
    with pytest.raises(RefusedError):
        sink.remove_metadata("3.snapshot.json")
    assert sink.metadata("1.root.json", limit=1000) == SNAPSHOT


@pytest.mark.parametrize("filename", ["1.root.json", "timestamp.json"])
def test_removal_of_what_always_stays(filename: str, sink: Shelf) -> None:
    sink.put_metadata(filename, SNAPSHOT)
    with pytest.raises(ValueError, match=r"root|timestamp"):
        sink.remove_metadata(filename)
    assert sink.metadata(filename, limit=1000) == SNAPSHOT


def test_registry_that_says_it_has_everything(
    server: HostileRegistry, sink: Shelf
) -> None:
    """A HEAD that lies spares an upload; the tag is read back, and a device that
    misses the bytes says so."""
    data = b"x" * 40_000  # above what stands inline
    claim = {"Content-Length": str(len(data))}
    server.lies("HEAD .*/blobs/", lambda talk: talk.begin(200, claim))
    sink.put_metadata("3.snapshot.json", data)
    with pytest.raises(FetchError, match="does not hold its bytes") as caught:
        sink.metadata("3.snapshot.json", limit=100_000)
    assert not caught.value.missing
