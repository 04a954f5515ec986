"""What a registry may do to those who push: refuse and lie, and learn no more."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain.errors import (
    DigestMismatchError,
    FetchError,
    LengthMismatchError,
    SupplyChainError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import EMPTY, MANIFEST, Layer, manifest_bytes
from margo_supplychain.formats.references import RegistryReference
from margo_supplychain.transport.oci_registry import RegistryRepository
from tests.registries import lies
from tests.registries.hostile import INDEX, HostileRegistry
from tests.registries.plant import quick

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.registries.hostile import Conversation, Lie

REPOSITORY: Final = "acme/app"
DATA: Final = bytes(range(256)) * 5000
WHAT: Final = Descriptor.of(DATA, "application/octet-stream")
PLAIN: Final = manifest_bytes(
    artifact_type="application/wasm", layers=[Layer(descriptor=WHAT)]
)
UPLOAD: Final = "(POST|PATCH|PUT) .*/blobs/"
PUT_MANIFEST: Final = "PUT .*/manifests/"


@pytest.fixture
def server() -> Iterator[HostileRegistry]:
    with HostileRegistry() as server:
        yield server


@pytest.fixture
def client(server: HostileRegistry) -> RegistryRepository:
    reference = RegistryReference.parse(f"oci://{server.host}/{REPOSITORY}")
    return RegistryRepository(reference, network=quick())


class OneWay(io.BytesIO):
    """Bytes that can be read once, as from a pipe."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation("seek")


# --- blobs ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [io.BytesIO, OneWay])
def test_blob_is_pushed_once(
    kind: type[io.BytesIO], server: HostileRegistry, client: RegistryRepository
) -> None:
    assert client.put_blob(WHAT, kind(DATA))
    assert server.of(REPOSITORY).blobs[str(WHAT.digest)] == DATA
    server.seen.clear()
    assert not client.put_blob(WHAT, kind(DATA))
    assert [one.method for one in server.seen] == ["HEAD"]


def test_blob_that_is_not_what_it_should_be(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    for data, error in (
        (DATA[:-1], LengthMismatchError),
        (DATA + b"x", LengthMismatchError),
        (bytes(len(DATA)), DigestMismatchError),
    ):
        with pytest.raises(error):
            client.put_blob(WHAT, io.BytesIO(data))
        assert server.of(REPOSITORY).blobs == {}


def test_blob_is_mounted(server: HostileRegistry, client: RegistryRepository) -> None:
    server.of("acme/other").add_blob(DATA)
    assert not client.put_blob(WHAT, io.BytesIO(DATA), mount_from=["acme/other"])
    assert server.of(REPOSITORY).blobs[str(WHAT.digest)] == DATA


UPLOAD_LIES: Final[dict[str, Lie]] = {
    "unauthorized": lies.status(401),
    "forbidden": lies.status(403),
    "no such repository": lies.status(404),
    "not allowed": lies.status(405),
    "too large": lies.status(413),
    "broken": lies.status(500),
    "busy for a year": lies.status(429, Retry_After="31536000"),
    "silent": lies.silent,
    "not http": lies.no_http,
    "hangs up": lies.hangs_up,
    "no location": lies.header("Location", ""),
    "location is no url": lies.header("Location", "http://[::1"),
    "location elsewhere": lies.header("Location", "http://192.0.2.1/v2/x/blobs/1"),
    "location with a login": lies.header("Location", "http://a:b@127.0.0.1/v2/x"),
    "location a file": lies.header("Location", "file:///etc/passwd"),
    "location with a line end": lies.header("Location", "/v2/x/\tblobs/uploads/1"),
    "moved": lies.redirect("http://192.0.2.1"),
    "endless": lies.endless,
}


@pytest.mark.parametrize("name", UPLOAD_LIES)
def test_lie_about_an_upload(
    name: str, server: HostileRegistry, client: RegistryRepository
) -> None:
    server.lies("POST .*/blobs/uploads/", UPLOAD_LIES[name])
    with pytest.raises(SupplyChainError):
        client.put_blob(WHAT, io.BytesIO(DATA))
    assert server.of(REPOSITORY).blobs == {}
    assert len(server.seen) <= 20
    server.is_honest_again()
    assert client.put_blob(WHAT, io.BytesIO(DATA))


@pytest.mark.parametrize("name", ["forbidden", "broken", "silent", "hangs up"])
def test_lie_in_the_middle_of_an_upload(
    name: str, server: HostileRegistry, client: RegistryRepository
) -> None:
    server.lies("(PATCH|PUT) .*/blobs/uploads/", UPLOAD_LIES[name])
    with pytest.raises(SupplyChainError):
        client.put_blob(WHAT, io.BytesIO(DATA))
    assert server.of(REPOSITORY).blobs == {}


def test_upload_that_breaks_is_resumed_or_begun_again(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    server.lies("(PATCH|PUT) .*/blobs/uploads/", lies.hangs_up, times=1)
    assert client.put_blob(WHAT, io.BytesIO(DATA))
    assert server.of(REPOSITORY).blobs[str(WHAT.digest)] == DATA


def test_upload_status_that_lies_about_the_offset(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    """Whatever the registry says that it has, it gets the right bytes or an error."""
    server.lies("PATCH .*/blobs/uploads/", lies.hangs_up, times=1)
    for said in ("0-99999999", "0--1", "5-10", "many", "0-2097151", ""):
        server.lies("GET .*/blobs/uploads/", lies.header("Range", said))
        try:
            client.put_blob(WHAT, io.BytesIO(DATA))
        except SupplyChainError:
            assert str(WHAT.digest) not in server.of(REPOSITORY).blobs
        else:
            assert server.of(REPOSITORY).blobs[str(WHAT.digest)] == DATA
        server.of(REPOSITORY).blobs.clear()


def test_digest_header_of_an_upload_is_a_hint(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    def another(talk: Conversation) -> None:
        truth = talk.truth()
        digest = f"sha256:{'0' * 64}"
        talk.tell(
            truth._replace(headers={**truth.headers, "Docker-Content-Digest": digest})
        )

    server.lies("PUT .*/blobs/uploads/", another)
    assert client.put_blob(WHAT, io.BytesIO(DATA))
    assert server.of(REPOSITORY).blobs[str(WHAT.digest)] == DATA


def test_mount_of_something_else(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    where = f"/v2/{REPOSITORY}/blobs/sha256:{'0' * 64}"
    server.lies("POST", lies.status(201, Location=where))
    with pytest.raises(FetchError):
        client.put_blob(WHAT, io.BytesIO(DATA), mount_from=["acme/other"])


# --- manifests -----------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["1.0.0", None])
def test_manifest_is_pushed_as_it_is(
    tag: str | None, server: HostileRegistry, client: RegistryRepository
) -> None:
    spaced = json.dumps(json.loads(PLAIN), indent=3).encode()
    client.put_blob(WHAT, io.BytesIO(DATA))
    digest = client.put_manifest(spaced, MANIFEST, tag=tag)
    assert digest == Digest.of(spaced)
    assert server.of(REPOSITORY).manifests == {str(digest): (MANIFEST, spaced)}
    assert server.of(REPOSITORY).tags == ({} if tag is None else {tag: str(digest)})


MANIFEST_LIES: Final[dict[str, Lie]] = {
    "unauthorized": lies.status(401),
    "forbidden": lies.status(403),
    "invalid": lies.status(400),
    "not allowed": lies.status(405),
    "unsupported": lies.status(415),
    "broken": lies.status(500),
    "silent": lies.silent,
    "hangs up": lies.hangs_up,
    "endless": lies.endless,
    "another digest": lies.header("Docker-Content-Digest", f"sha256:{'0' * 64}"),
}


@pytest.mark.parametrize("name", MANIFEST_LIES)
def test_lie_about_a_manifest_that_is_pushed(
    name: str, server: HostileRegistry, client: RegistryRepository
) -> None:
    server.lies(PUT_MANIFEST, MANIFEST_LIES[name])
    with pytest.raises(SupplyChainError):
        client.put_manifest(PLAIN, MANIFEST, tag="1.0.0")
    assert len(server.seen) <= 10


def test_refused_manifest_is_not_tried_again(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    server.lies(PUT_MANIFEST, lies.status(403))
    with pytest.raises(FetchError) as caught:
        client.put_manifest(PLAIN, MANIFEST, tag="1.0.0")
    assert caught.value.status == 403
    assert len(server.asked(PUT_MANIFEST)) == 1


# --- subjects ------------------------------------------------------------------------


def about(number: int, subject: Descriptor) -> bytes:
    return manifest_bytes(
        artifact_type="application/spdx+json",
        layers=[Layer(descriptor=EMPTY)],
        subject=subject,
        annotations={"number": str(number)},
    )


def test_subject_is_listed_by_the_api(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    subject = Descriptor.of(PLAIN, MANIFEST)
    client.put_manifest(about(1, subject), MANIFEST)
    assert server.of(REPOSITORY).tags == {}
    assert len(client.referrers(subject.digest)) == 1


def test_subject_is_listed_by_tag_without_the_api(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    server.referrers = False
    subject = Descriptor.of(PLAIN, MANIFEST)
    for number in (1, 2, 2):
        client.put_manifest(about(number, subject), MANIFEST)
    tag = f"sha256-{subject.digest.hex}"
    kind, data = server.of(REPOSITORY).manifests[server.of(REPOSITORY).tags[tag]]
    assert kind == INDEX
    listed = {one["digest"] for one in json.loads(data)["manifests"]}
    assert listed == {str(Digest.of(about(number, subject))) for number in (1, 2)}
    assert len(client.referrers(subject.digest)) == 2


def test_fallback_tag_that_names_the_subject_is_not_taken_for_a_list(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    server.referrers = False
    subject = Descriptor.of(PLAIN, MANIFEST)
    tag = f"sha256-{subject.digest.hex}"
    server.of(REPOSITORY).add_manifest(PLAIN, tag=tag)
    client.put_manifest(about(1, subject), MANIFEST)
    # GitLab answers so for a tag that is not there.
    assert len(client.referrers(subject.digest)) == 1


# --- deletion ------------------------------------------------------------------------


@pytest.mark.parametrize("number", [400, 403, 405, 415])
def test_registry_that_deletes_nothing(
    number: int, server: HostileRegistry, client: RegistryRepository
) -> None:
    digest = client.put_manifest(PLAIN, MANIFEST, tag="1.0.0")
    server.lies("DELETE", lies.status(number))
    with pytest.raises(SupplyChainError) as caught:
        client.delete_manifest(digest)
    assert caught.value.hint
    server.is_honest_again()
    client.delete_manifest(digest)
    assert server.of(REPOSITORY).manifests == {}
