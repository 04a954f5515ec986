"""Manifests, blobs, tags and referrers of one repository."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, BinaryIO

import oras.provider
import pytest

from margo_supplychain.errors import (
    ConflictError,
    DigestMismatchError,
    FetchError,
    ManifestRefusedError,
    OciFormatError,
    RefusedError,
    SupplyChainError,
    TooLargeError,
)
from margo_supplychain.formats import oci
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import INDEX, MANIFEST, Layer
from margo_supplychain.formats.references import RegistryReference
from margo_supplychain.transport.network import Network, RegistryAccess
from margo_supplychain.transport.oci_registry import (
    RegistryRepository,
    registry_client,
)
from margo_supplychain.transport.oci_registry.client import RegistryClient
from margo_supplychain.transport.oci_registry.referrers import fallback_tag
from tests.registries import lies
from tests.registries.hostile import digest_of
from tests.registries.servers import docker_registry
from tests.transport.oci_registry.logins import (
    DATA,
    PATH,
    PLAIN,
    WHAT,
    quick,
    read,
    repository,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.registries.hostile import Conversation, HostileRegistry, Lie

PLAIN_WHAT = Descriptor.of(PLAIN, MANIFEST)
SIGNATURE = "application/vnd.example.signature"


def about(number: int, *, kind: str | None = SIGNATURE) -> bytes:
    return oci.manifest_bytes(
        artifact_type=kind,
        layers=[Layer(descriptor=oci.EMPTY)],
        subject=PLAIN_WHAT,
        annotations={"number": str(number)},
    )


def drain(stream: BinaryIO) -> None:
    while stream.read(1 << 16):
        pass


def says(status: int, body: bytes) -> Lie:
    return lambda talk: talk.say(status, body)


@pytest.fixture
def client(server: HostileRegistry) -> RegistryRepository:
    server.of(PATH).add_blob(DATA)
    server.of(PATH).add_manifest(PLAIN, tag="1.0.0")
    return repository(server)


# --- real registries -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "tls"),
    [("none", "none"), ("basic", "none"), ("token", "server"), ("none", "mutual")],
)
def test_all_of_it_in_docker_registry(auth: Any, tls: Any, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry", auth=auth, tls=tls) as registry:
        reference = RegistryReference.parse(f"oci://{registry.host}/acme/app")
        here = RegistryRepository(reference, network=registry.network())
        with pytest.raises(FetchError, match="does not exist") as caught:
            list(here.tags())
        assert caught.value.missing
        assert here.head_manifest("1.0.0") is None
        assert here.put_blob(WHAT, io.BytesIO(DATA))
        assert not here.put_blob(WHAT, io.BytesIO(DATA))
        assert here.put_blob(oci.EMPTY, io.BytesIO(b"{}"))
        digest = here.put_manifest(PLAIN, MANIFEST, tag="1.0.0")
        assert here.head_manifest("1.0.0") == digest == PLAIN_WHAT.digest
        for name in ("1.0.0", str(digest)):
            assert here.manifest(name) == (PLAIN, MANIFEST)
        assert here.has_blob(WHAT)
        assert here.has_blob(PLAIN_WHAT)
        assert read(here) == DATA
        assert read(here, PLAIN_WHAT) == PLAIN
        with here.open_blob(WHAT, start=100) as stream:
            assert stream.read() == DATA[100:]
        signature = here.put_manifest(about(1), MANIFEST)
        assert [one.descriptor.digest for one in here.referrers(digest)] == [signature]
        assert list(here.tags()) == ["1.0.0", fallback_tag(digest)]
        other = RegistryRepository(
            RegistryReference(registry.host, "acme/other"), network=registry.network()
        )
        assert not other.put_blob(WHAT, io.BytesIO(b""), mount_from=[here.url])
        assert read(other) == DATA
        here.delete_manifest(signature)
        assert here.head_manifest(str(signature)) is None
        here.delete_manifest(signature)


def test_a_registry_on_loopback_that_speaks_tls(tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry", tls="server") as registry:
        reference = RegistryReference.parse(f"oci://{registry.host}/acme/app")
        here = RegistryRepository(reference, network=quick())
        for ask in (
            lambda: here.manifest("1.0.0"),
            lambda: here.has_blob(WHAT),
            lambda: read(here),
            lambda: list(here.tags()),
        ):
            with pytest.raises(FetchError, match="answered 400") as caught:
                ask()
            assert caught.value.hint == (
                f'it may speak TLS: set ca_file for it in [registry."{registry.host}"]'
                ", and no plain_http"
            )


def test_a_registry_that_says_what_it_dislikes_speaks_http(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    server.lies("manifests", says(400, refusal("TAG_INVALID")))
    with pytest.raises(FetchError, match="answered 400: TAG_INVALID") as caught:
        client.manifest("1.0.0")
    assert caught.value.hint == FetchError.default_hint


def test_a_registry_that_deletes_nothing(tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry", delete=False) as registry:
        reference = RegistryReference.parse(f"oci://{registry.host}/acme/app")
        here = RegistryRepository(reference, network=registry.network())
        here.put_blob(WHAT, io.BytesIO(DATA))
        here.put_blob(oci.EMPTY, io.BytesIO(b"{}"))
        digest = here.put_manifest(PLAIN, MANIFEST)
        with pytest.raises(RefusedError, match="can't be deleted") as caught:
            here.delete_manifest(digest)
        assert "storage.delete.enabled" in (caught.value.hint or "")


def test_with_oras_py_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways, with the client whose parts ours is made of."""
    with docker_registry(tmp_path / "registry") as registry:
        theirs = oras.provider.Registry(insecure=True)
        reference = RegistryReference.parse(f"oci://{registry.host}/acme/app")
        ours = RegistryRepository(reference, network=registry.network())
        monkeypatch.chdir(tmp_path)
        (tmp_path / "pump.wasm").write_bytes(DATA)
        target = f"{registry.host}/acme/app:theirs"
        theirs.push(target=target, files=["pump.wasm:application/wasm"])
        data, media_type = ours.manifest("theirs")
        found = oci.parse_manifest(data)
        assert isinstance(found, oci.Manifest)
        assert media_type == MANIFEST
        assert read(ours, found.layers[0].descriptor) == DATA

        layer = Layer(descriptor=WHAT, title="ours.wasm")
        ours.put_blob(oci.EMPTY, io.BytesIO(b"{}"))
        pushed = oci.manifest_bytes(artifact_type="application/wasm", layers=[layer])
        ours.put_blob(WHAT, io.BytesIO(DATA))
        ours.put_manifest(pushed, MANIFEST, tag="ours")
        out = tmp_path / "out"
        theirs.pull(target=f"{registry.host}/acme/app:ours", outdir=str(out))
        assert (out / "ours.wasm").read_bytes() == DATA


# --- manifests -----------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["", "a b", "../x", "-x", "sha256:x", "a/b"])
def test_what_is_no_reference(reference: str, client: RegistryRepository) -> None:
    for ask in (client.manifest, client.head_manifest):
        with pytest.raises(OciFormatError):
            ask(reference)
    with pytest.raises(OciFormatError):
        client.put_manifest(PLAIN, MANIFEST, tag=reference)


@pytest.mark.parametrize("status", [404, 410])
def test_missing_is_only_what_is_not_there(
    status: int, client: RegistryRepository, server: HostileRegistry
) -> None:
    with pytest.raises(FetchError, match="does not exist: MANIFEST_UNKNOWN") as caught:
        client.manifest("2.0.0")
    assert caught.value.missing
    server.lies("manifests", lies.status(status))
    with pytest.raises(FetchError) as caught:
        client.manifest("1.0.0")
    assert caught.value.missing
    assert client.head_manifest("1.0.0") is None
    assert not client.has_blob(PLAIN_WHAT)
    for other in (400, 401, 403, 405, 418, 451):
        server.lies("manifests", lies.status(other))
        for ask in (client.manifest, client.head_manifest):
            with pytest.raises(FetchError, match=f"answered {other}") as caught:
                ask("1.0.0")
            assert not caught.value.missing
            assert caught.value.status == other
        with pytest.raises(FetchError, match=f"answered {other}"):
            client.has_blob(PLAIN_WHAT)


def refusal(code: str, message: str = "no") -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def test_hidden_is_not_missing(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    server.lies("manifests", says(404, refusal("DENIED")))
    with pytest.raises(FetchError, match="answered 404: DENIED no") as caught:
        client.manifest("1.0.0")
    assert not caught.value.missing


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"{", b"{}", b'{"errors":{}}', b'{"errors":[1,{"code":7}]}'],
)
def test_words_that_are_none(
    body: bytes, client: RegistryRepository, server: HostileRegistry
) -> None:
    server.lies("manifests", says(418, body))
    with pytest.raises(FetchError, match=r"answered 418$"):
        client.manifest("1.0.0")


def test_words_are_short_and_printable(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    for text in ("\x1b[2J", "a\nb", "x" * 10_000):
        body = refusal("TEAPOT", text)
        server.lies("manifests", says(418, body))
        with pytest.raises(FetchError, match="answered 418: TEAPOT") as caught:
            client.manifest("1.0.0")
        assert len(str(caught.value)) < 300
        assert str(caught.value).isprintable()


def test_a_manifest_is_bounded(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    assert client.manifest("1.0.0", limit=len(PLAIN))[0] == PLAIN
    with pytest.raises(TooLargeError):
        client.manifest("1.0.0", limit=len(PLAIN) - 1)
    server.lies("manifests", lies.body(b" " * ((4 << 20) + 1)))
    with pytest.raises(TooLargeError):
        client.manifest("1.0.0", limit=1 << 30)


def test_digests_of_headers(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    header = "Docker-Content-Digest"
    other = str(Digest.of(b"other"))
    server.lies("manifests", lies.header(header, other))
    for name in ("1.0.0", str(PLAIN_WHAT.digest)):
        with pytest.raises(FetchError, match="but its header says"):
            client.manifest(name)
    assert client.head_manifest("1.0.0") == Digest.parse(other)
    server.is_honest_again()
    for fine in ("", "sha512:" + "0" * 128, f" {PLAIN_WHAT.digest} "):
        server.lies("manifests", lies.header(header, fine))
        assert client.manifest("1.0.0")[0] == PLAIN
    server.lies("manifests", lies.header(header, ""))
    assert client.head_manifest("1.0.0") == PLAIN_WHAT.digest


def test_a_manifest_by_another_digest(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    digest = Digest.of(b"wanted")
    server.of(PATH).manifests[str(digest)] = MANIFEST, PLAIN
    with pytest.raises(DigestMismatchError, match=f"digest {PLAIN_WHAT.digest}"):
        client.manifest(str(digest))


def test_all_kinds_of_manifests_are_asked_for(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    client.manifest("1.0.0")
    accept = server.seen[-1].headers["accept"].split(", ")
    assert set(accept) == oci.MANIFEST_TYPES | oci.INDEX_TYPES
    read(client, PLAIN_WHAT)
    assert server.seen[-1].headers["accept"].split(", ") == accept
    read(client)
    assert server.seen[-1].headers["accept"] == "*/*"


# --- blobs ---------------------------------------------------------------------------


def test_a_blob_from_a_byte_on(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    server.seen.clear()
    with client.open_blob(WHAT, start=WHAT.size) as stream:
        assert stream.read() == b""
    assert server.seen == []
    server.lies("blobs", lies.ignores_ranges)
    with client.open_blob(WHAT, start=9) as stream:
        assert stream.read() == DATA[9:]


def test_a_blob_that_goes_on(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    server.lies("blobs", lies.trailing)
    with (
        client.open_blob(WHAT) as stream,
        pytest.raises(TooLargeError, match="goes on after its signed size"),
    ):
        drain(stream)


def test_a_blob_that_may_not_be_read(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    server.lies("blobs", lies.status(403))
    with pytest.raises(FetchError, match="403") as caught:
        read(client)
    assert "docker login" in (caught.value.hint or "")
    assert not caught.value.missing


def test_a_blob_that_is_refused_halfway(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    server.lies("blobs", lies.then(lies.cut, lies.status(403)))
    with client.open_blob(WHAT) as stream, pytest.raises(FetchError) as caught:
        drain(stream)
    assert "docker login" in (caught.value.hint or "")


def test_a_size_that_is_another(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    assert client.has_blob(WHAT)
    for size, found in (("7", False), ("many", True), ("", True), ("9" * 5000, False)):

        def say(talk: Conversation, size: str = size) -> None:
            talk.begin(200, {"Content-Length": size})
            talk.hang_up()

        server.lies("HEAD", say)
        try:
            assert client.has_blob(WHAT) is found
        except FetchError:
            assert size == "many"


# --- pushed manifests ----------------------------------------------------------------


def test_what_is_no_manifest_is_not_pushed(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    server.seen.clear()
    for data, kind in ((b"{}", MANIFEST), (PLAIN, INDEX), (b" " * (5 << 20), INDEX)):
        with pytest.raises(OciFormatError):
            client.put_manifest(data, kind)
    assert server.seen == []


def test_a_tag_moves(client: RegistryRepository) -> None:
    for number in (1, 2):
        data = about(number)
        digest = client.put_manifest(data, MANIFEST, tag="latest")
        assert client.manifest("latest")[0] == data
        assert client.head_manifest("latest") == digest


@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "hint"),
    [
        (400, "MANIFEST_INVALID", "bad", ManifestRefusedError, "OCI artifacts"),
        (400, "UNSUPPORTED", "no", ManifestRefusedError, "OCI artifacts"),
        (415, "X", "no", ManifestRefusedError, "OCI artifacts"),
        (405, "", "", ManifestRefusedError, "OCI artifacts"),
        (400, "TAG_INVALID", "tag is immutable", RefusedError, "immutability"),
        (409, "DENIED", "can't overwrite tag", RefusedError, "immutability"),
        (412, "PRECONDITION", "immutable tag", RefusedError, "immutability"),
        (403, "DENIED", "Immutable tags", RefusedError, "immutability"),
        (413, "", "", RefusedError, "client_max_body_size"),
        (403, "DENIED", "no", FetchError, "docker login"),
        (401, "", "", FetchError, "docker login"),
        (404, "NAME_UNKNOWN", "no", FetchError, None),
        (307, "", "", FetchError, "the host that it really has"),
        (400, "MANIFEST_BLOB_UNKNOWN", "no", FetchError, None),
        (418, "", "", FetchError, None),
    ],
)
def test_refusals_name_the_setting(
    status: int,
    code: str,
    message: str,
    kind: type[SupplyChainError],
    hint: str | None,
    client: RegistryRepository,
    server: HostileRegistry,
) -> None:
    body = refusal(code, message) if code else b""
    server.lies("PUT", says(status, body))
    with pytest.raises(kind, match=f"oci://{server.host}/{PATH}:1.0.1") as caught:
        client.put_manifest(PLAIN, MANIFEST, tag="1.0.1")
    assert type(caught.value) is kind
    if hint is not None:
        assert hint in (caught.value.hint or "")


def test_a_push_that_stored_something_else(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    other = str(Digest.of(b"other"))
    server.lies("PUT", lies.header("Docker-Content-Digest", other))
    with pytest.raises(FetchError, match="but its header says"):
        client.put_manifest(PLAIN, MANIFEST, tag="1.0.1")
    assert len(server.asked("PUT")) == 2
    server.is_honest_again()

    def changed(talk: Conversation) -> None:
        held = server.of(PATH)
        digest = held.add_manifest(PLAIN + b" ", tag="1.0.1")
        talk.say(201, b"", {"Docker-Content-Digest": digest})

    server.lies("PUT", changed, times=1)
    client.put_manifest(PLAIN, MANIFEST, tag="1.0.1")
    assert client.manifest("1.0.1")[0] == PLAIN


def test_what_can_not_be_deleted(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    client.delete_manifest(PLAIN_WHAT.digest)
    client.delete_manifest(PLAIN_WHAT.digest)
    for status, code in ((405, ""), (400, "UNSUPPORTED")):
        body = refusal(code) if code else b""
        server.lies("DELETE", says(status, body))
        with pytest.raises(RefusedError, match="can't be deleted"):
            client.delete_manifest(PLAIN_WHAT.digest)
    server.lies("DELETE", lies.status(403))
    with pytest.raises(FetchError, match="answered 403"):
        client.delete_manifest(PLAIN_WHAT.digest)


# --- lists ---------------------------------------------------------------------------


@pytest.mark.parametrize("page", [1, 3, 1000])
def test_tags_of_all_pages(
    page: int, client: RegistryRepository, server: HostileRegistry
) -> None:
    server.page = page
    for number in range(7):
        server.of(PATH).add_manifest(PLAIN, tag=f"1.0.{number}")
    assert list(client.tags()) == [f"1.0.{number}" for number in range(7)]
    assert list(client.tags(most=7)) == [f"1.0.{number}" for number in range(7)]
    with pytest.raises(TooLargeError, match="more than 6 tags"):
        list(client.tags(most=6))


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (b"[]", "not a JSON object"),
        (b'{"tags":{"a":1}}', "are no list"),
        (b'{"tags":"ab"}', "are no list"),
        (b'{"tags":[1]}', "is not one"),
        (b'{"tags":["../x"]}', "is not one"),
    ],
)
def test_what_is_no_list_of_tags(
    body: bytes, match: str, client: RegistryRepository, server: HostileRegistry
) -> None:
    server.lies("tags/list", lies.body(body))
    with pytest.raises(FetchError, match=match):
        list(client.tags())


def test_no_tags(client: RegistryRepository, server: HostileRegistry) -> None:
    for body in (b'{"tags":null}', b'{"tags":[]}', b"{}"):
        server.lies("tags/list", lies.body(body))
        assert list(client.tags()) == []


def test_lists_that_go_in_circles(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    link = f'</v2/{PATH}/tags/list?last=x>; rel="next"'
    server.lies("tags/list", lies.document({"tags": ["a", "a"]}, Link=link))
    with pytest.raises(FetchError, match="nothing new on 5 pages in a row"):
        list(client.tags())
    empty = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
    link = f'</v2/{PATH}/referrers/{PLAIN_WHAT.digest}>; rel="next"'
    server.lies("referrers", lies.document(empty, Link=link))
    with pytest.raises(FetchError, match="nothing new on 5 pages in a row"):
        client.referrers(PLAIN_WHAT.digest)


@pytest.mark.parametrize("to", ["?last=x", "", "/?last=x", "#x"])
def test_a_list_that_goes_on_at_the_hosts_top(
    to: str, client: RegistryRepository, server: HostileRegistry
) -> None:
    link = f'<{server.url}{to}>; rel="next"'
    server.lies("tags/list", lies.document({"tags": ["a"]}, Link=link))
    with pytest.raises(FetchError, match="does not exist"):
        list(client.tags())


@pytest.mark.parametrize("referrers", [True, False])
def test_referrers(
    referrers: bool, client: RegistryRepository, server: HostileRegistry
) -> None:
    server.referrers = referrers
    assert client.referrers(PLAIN_WHAT.digest) == ()
    digests = [client.put_manifest(about(n), MANIFEST) for n in range(2)]
    other = client.put_manifest(about(3, kind=None), MANIFEST)
    client.put_manifest(about(3, kind=None), MANIFEST)
    found = client.referrers(PLAIN_WHAT.digest)
    assert {one.descriptor.digest for one in found} == {*digests, other}
    found = client.referrers(PLAIN_WHAT.digest, artifact_type=SIGNATURE)
    assert {one.descriptor.digest for one in found} == set(digests)
    found = client.referrers(PLAIN_WHAT.digest, artifact_type=oci.EMPTY_TYPE)
    assert [one.descriptor.digest for one in found] == [other]
    with pytest.raises(TooLargeError, match="more than 2"):
        client.referrers(PLAIN_WHAT.digest, most=2)
    tags = {"1.0.0"} if referrers else {"1.0.0", fallback_tag(PLAIN_WHAT.digest)}
    assert set(client.tags()) == tags


def test_an_index_refers_too(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    server.referrers = False
    entry = {
        "mediaType": MANIFEST,
        "digest": str(PLAIN_WHAT.digest),
        "size": PLAIN_WHAT.size,
    }
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [entry],
            "subject": entry,
        }
    ).encode()
    digest = client.put_manifest(index, INDEX)
    (found,) = client.referrers(PLAIN_WHAT.digest)
    assert (found.descriptor.digest, found.artifact_type) == (digest, None)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 501])
def test_registries_without_referrers(
    status: int, client: RegistryRepository, server: HostileRegistry
) -> None:
    server.lies("/referrers/", lies.status(status))
    assert client.referrers(PLAIN_WHAT.digest) == ()


def test_who_may_read_nothing_is_told(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    server.lies(".", lies.status(401))
    with pytest.raises(FetchError, match="401"):
        client.referrers(PLAIN_WHAT.digest)


def test_referrers_that_are_none(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    server.lies("/referrers/", lies.body(b"<html>"))
    with pytest.raises(FetchError, match="has no list of referrers"):
        client.referrers(PLAIN_WHAT.digest)
    server.lies("/referrers/", lies.status(418))
    with pytest.raises(FetchError, match="418"):
        client.referrers(PLAIN_WHAT.digest)


def test_a_fallback_tag_that_is_something_else(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    server.referrers = False
    tag = fallback_tag(PLAIN_WHAT.digest)
    server.of(PATH).add_manifest(PLAIN, tag=tag)
    assert client.referrers(PLAIN_WHAT.digest) == ()
    server.of(PATH).add_manifest(about(1), tag=tag)
    for ask in (
        lambda: client.referrers(PLAIN_WHAT.digest),
        lambda: client.put_manifest(about(2), MANIFEST),
    ):
        with pytest.raises(FetchError, match="has no list of referrers"):
            ask()


def test_a_fallback_tag_that_others_write(
    client: RegistryRepository, server: HostileRegistry
) -> None:
    server.referrers = False
    tag = fallback_tag(PLAIN_WHAT.digest)
    held = server.of(PATH)

    def overwritten(talk: Conversation) -> None:
        talk.tell(talk.truth())
        held.add_manifest(oci.index_bytes([]), tag=tag, kind=INDEX)

    where = f"PUT .*/manifests/{tag}"
    server.lies(where, overwritten, times=2)
    digest = client.put_manifest(about(1), MANIFEST)
    found = client.referrers(PLAIN_WHAT.digest)
    assert [one.descriptor.digest for one in found] == [digest]
    server.lies(where, overwritten)
    with pytest.raises(ConflictError, match="does not keep what it lists"):
        client.put_manifest(about(2), MANIFEST)


def test_fallback_tags() -> None:
    digest = Digest.of(b"")
    assert fallback_tag(digest) == f"sha256-{digest.hex}"
    assert fallback_tag(Digest("sha512", "ab" * 64)) == "sha512-" + "ab" * 32


# --- clients -------------------------------------------------------------------------


def test_one_client_for_each_host_and_network() -> None:
    networks = [Network(), Network(tries=2), Network()]
    found = [registry_client("h.example", network=one) for one in networks]
    assert found[0] is found[2]
    assert found[0] is not found[1]
    assert registry_client("i.example", network=networks[0]) is not found[0]
    for number in range(40):
        registry_client(f"h{number}.example", network=networks[0])
    assert registry_client("h.example", network=networks[0]) is not found[0]
    with pytest.raises(OciFormatError):
        registry_client("h.example/x", network=networks[0])


@pytest.mark.parametrize(
    ("host", "access", "origin"),
    [
        ("h.example", RegistryAccess(), "https://h.example"),
        ("h.example:443", RegistryAccess(), "https://h.example"),
        ("h.example:5000", RegistryAccess(), "https://h.example:5000"),
        ("h.example", RegistryAccess(plain_http=True), "http://h.example"),
        ("h.example:80", RegistryAccess(plain_http=True), "http://h.example"),
        ("127.0.0.1:5000", RegistryAccess(), "http://127.0.0.1:5000"),
        ("localhost", RegistryAccess(), "http://localhost"),
        ("[::1]:5000", RegistryAccess(), "http://[::1]:5000"),
        ("[2001:db8::1]", RegistryAccess(), "https://[2001:db8::1]"),
        ("[2001:db8::1]:443", RegistryAccess(), "https://[2001:db8::1]"),
    ],
)
def test_how_a_registry_is_spoken_to(
    host: str, access: RegistryAccess, origin: str, tmp_path: Path
) -> None:
    client = RegistryClient(host, network=Network(registries={host: access}))
    assert client.origin == origin
    if origin.startswith("http:") and not access.plain_http:
        access = RegistryAccess(ca_file=tmp_path / "ca.pem")
        client = RegistryClient(host, network=Network(registries={host: access}))
        assert client.origin == origin.replace("http:", "https:")


def test_few_tokens_are_kept(
    server: HostileRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "margo_supplychain.transport.oci_registry.client._MOST_AUTHORIZATIONS", 2
    )
    network = quick()
    for path in ("a", "b", "c", "a"):
        server.of(path).add_blob(DATA)
        reference = RegistryReference(server.host, path)
        assert read(RegistryRepository(reference, network=network)) == DATA
    client = registry_client(server.host, network=network)
    assert [one.path for one in client._authorizations] == ["c", "a"]


def test_digest_of_is_ours() -> None:
    assert digest_of(DATA) == str(WHAT.digest)
