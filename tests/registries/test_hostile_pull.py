"""What a registry may do to a manifest or a blob on its way, and what becomes of it.

Reference §6, "Body", "Digests, sizes", "JSON" and "Flow": the client is asked for one
thing by its digest, and either gets exactly that or an error of a known kind.
"""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain.errors import (
    DigestMismatchError,
    FetchError,
    LengthMismatchError,
    SupplyChainError,
    TooLargeError,
    TooSlowError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import MANIFEST, Layer, manifest_bytes
from margo_supplychain.formats.references import RegistryReference
from margo_supplychain.storage.content_store import ContentStore
from margo_supplychain.transport.oci_registry import RegistryRepository
from tests.registries import lies
from tests.registries.hostile import HostileRegistry
from tests.registries.plant import quick

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.registries.hostile import Conversation, Lie

REPOSITORY: Final = "acme/app"
# What a client may take in beyond what it wants: buffers of both kernels.
SLACK: Final = 16 << 20
# No two ranges of it are alike.
DATA: Final = random.Random(4).randbytes(500_000)  # noqa: S311 - not for keys
WHAT: Final = Descriptor.of(DATA, "application/octet-stream")
PLAIN: Final = manifest_bytes(
    artifact_type="application/wasm",
    layers=[Layer(descriptor=Descriptor.of(DATA, "application/wasm"))],
)
BLOB: Final = "GET .*/blobs/"
GET_MANIFEST: Final = "GET .*/manifests/"


@pytest.fixture
def server() -> Iterator[HostileRegistry]:
    with HostileRegistry() as server:
        server.of(REPOSITORY).add_blob(DATA)
        server.of(REPOSITORY).add_manifest(PLAIN, tag="1.0.0")
        yield server


@pytest.fixture
def client(server: HostileRegistry) -> RegistryRepository:
    reference = RegistryReference.parse(f"oci://{server.host}/{REPOSITORY}")
    return RegistryRepository(reference, network=quick())


def pull(
    client: RegistryRepository, directory: Path, what: Descriptor = WHAT
) -> ContentStore:
    """Fetch a blob as a device does."""
    store = ContentStore.create(directory)
    with client.open_blob(what) as stream:
        store.put(what, stream)
    return store


def pulled(client: RegistryRepository, directory: Path) -> bytes:
    with pull(client, directory).open_checked(WHAT) as file:
        return file.read()


def nothing_kept(directory: Path) -> None:
    """Nothing has the name of content, and nothing was left lying around."""
    left = [one for one in (directory / "blobs").rglob("*") if one.is_file()]
    assert left == []
    names = {one.name for one in directory.iterdir()}
    assert names <= {"blobs", "index.json", "oci-layout"}


# --- blobs ---------------------------------------------------------------------------

BLOB_LIES: Final[dict[str, tuple[Lie, type[SupplyChainError], str]]] = {
    "tampered": (lies.tampered, DigestMismatchError, "has digest"),
    "truncated": (lies.truncated, LengthMismatchError, "bytes, expected"),
    "cut every time": (lies.cut, FetchError, "ended early"),
    "trailing byte": (lies.trailing, LengthMismatchError, "larger than"),
    "endless": (lies.endless, LengthMismatchError, "larger than"),
    "endless chunks": (lies.endless_chunks, LengthMismatchError, "larger than"),
    "a byte now and then": (lies.dripping, TooSlowError, "per second"),
    "silent after headers": (lies.silent_after_headers, TooSlowError, "."),
    "silent": (lies.silent, TooSlowError, "."),
    "hangs up": (lies.hangs_up, FetchError, "."),
    "not http": (lies.no_http, FetchError, "not HTTP"),
    "length too long": (lies.length("600000"), FetchError, "fewer than"),
    "length too short": (lies.length("9"), LengthMismatchError, "has 9 bytes"),
    "gzip": (lies.gzipped, SupplyChainError, "."),
    "empty": (lies.body(b""), LengthMismatchError, "has 0 bytes"),
    "other bytes": (lies.body(b"x" * len(DATA)), DigestMismatchError, "has digest"),
    "no content": (lies.status(204), SupplyChainError, "."),
    "unasked part": (lies.status(206), FetchError, "."),
    "not modified": (lies.status(304), FetchError, "304"),
    "early hint": (lies.status(299), SupplyChainError, "."),
    "unauthorized": (lies.status(401), FetchError, "401"),
    "forbidden": (lies.status(403), FetchError, "403"),
    "missing": (lies.status(404), FetchError, "does not exist"),
    "teapot": (lies.status(418), FetchError, "418"),
    "broken": (lies.status(500), FetchError, "500"),
    "unavailable": (lies.status(503), FetchError, "503"),
}


@pytest.mark.parametrize("name", BLOB_LIES)
def test_lie_about_a_blob(
    name: str, server: HostileRegistry, client: RegistryRepository, tmp_path: Path
) -> None:
    lie, kind, match = BLOB_LIES[name]
    server.lies(BLOB, lie)
    with pytest.raises(kind, match=match) as caught:
        pull(client, tmp_path)
    assert isinstance(caught.value, SupplyChainError)
    nothing_kept(tmp_path)
    assert server.sent < len(DATA) * 10 + SLACK
    # Each cut brings half of what is left, so that it takes a while to give up.
    assert len(server.asked(BLOB)) <= 25
    server.is_honest_again()
    assert pulled(client, tmp_path) == DATA


@pytest.mark.parametrize("said", ["-1", "many", "", "1e3"])
def test_length_that_is_none(
    said: str, server: HostileRegistry, client: RegistryRepository, tmp_path: Path
) -> None:
    """The body ends with the connection then; its bytes are checked all the same."""
    server.lies(BLOB, lies.length(said))
    assert pulled(client, tmp_path) == DATA


@pytest.mark.parametrize(
    "said", ["../../../etc/passwd", "sha256:" + "0" * 64, "md5:00", "\t"]
)
def test_digest_header_of_a_blob_is_a_hint(
    said: str, server: HostileRegistry, client: RegistryRepository, tmp_path: Path
) -> None:
    server.lies(BLOB, lies.header("Docker-Content-Digest", said))
    assert pull(client, tmp_path / "layout").has(WHAT)
    assert {one.name for one in tmp_path.iterdir()} == {"layout"}


def test_blob_that_is_missing_is_said_to_be(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    other = Descriptor.of(b"other", "application/octet-stream")
    with pytest.raises(FetchError) as caught, client.open_blob(other) as stream:
        stream.read()
    assert caught.value.missing
    for number in (401, 403, 405, 500):
        server.lies(BLOB, lies.status(number))
        with pytest.raises(FetchError) as caught, client.open_blob(WHAT) as stream:
            stream.read()
        assert not caught.value.missing


def test_head_is_a_hint(server: HostileRegistry, client: RegistryRepository) -> None:
    assert client.has_blob(WHAT)
    server.lies("HEAD .*/blobs/", lies.header("Content-Length", "3"))
    assert not client.has_blob(WHAT)
    server.lies("HEAD .*/blobs/", lies.status(404))
    assert not client.has_blob(WHAT)


# --- resumption ----------------------------------------------------------------------


def test_blob_is_resumed_where_it_broke(
    server: HostileRegistry, client: RegistryRepository, tmp_path: Path
) -> None:
    server.lies(BLOB, lies.cut, times=2)
    assert pulled(client, tmp_path) == DATA
    ranges = [one.headers.get("range") for one in server.asked(BLOB)]
    assert ranges[0] is None
    assert all(one is not None for one in ranges[1:])
    assert server.sent <= len(DATA)


def test_range_is_ignored(
    server: HostileRegistry, client: RegistryRepository, tmp_path: Path
) -> None:
    server.lies(BLOB, lies.then(lies.cut, lies.ignores_ranges))
    assert pulled(client, tmp_path) == DATA


@pytest.mark.parametrize(
    ("lie", "kind"),
    [
        (lies.wrong_range, FetchError),
        (lies.beginning_as_range, DigestMismatchError),
        (lies.not_satisfiable, FetchError),
        (lies.status(206), FetchError),
    ],
    ids=["other range", "other bytes", "not satisfiable", "no range"],
)
def test_lie_about_a_range(
    lie: Lie,
    kind: type[SupplyChainError],
    server: HostileRegistry,
    client: RegistryRepository,
    tmp_path: Path,
) -> None:
    server.lies(BLOB, lies.then(lies.cut, lie))
    with pytest.raises(kind):
        pull(client, tmp_path)
    nothing_kept(tmp_path)


def test_blob_changes_between_two_ranges(
    server: HostileRegistry, client: RegistryRepository, tmp_path: Path
) -> None:
    def other(talk: Conversation) -> None:
        server.of(REPOSITORY).blobs[str(WHAT.digest)] = bytes(reversed(DATA))
        talk.tell(talk.truth())

    server.lies(BLOB, lies.then(lies.cut, other))
    with pytest.raises(DigestMismatchError):
        pull(client, tmp_path)
    nothing_kept(tmp_path)


# --- manifests -----------------------------------------------------------------------

PLAIN_DIGEST: Final = Digest.of(PLAIN)
LARGE: Final = PLAIN + b" " * ((4 << 20) + 1 - len(PLAIN))
MANIFEST_LIES: Final[dict[str, tuple[Lie, type[SupplyChainError], str]]] = {
    "tampered": (lies.tampered, DigestMismatchError, "digest"),
    "truncated": (lies.truncated, DigestMismatchError, "digest"),
    "trailing byte": (lies.trailing, DigestMismatchError, "digest"),
    "other manifest": (lies.body(b"{}"), DigestMismatchError, "digest"),
    "cut every time": (lies.cut, FetchError, "ended early"),
    "endless": (lies.endless, TooLargeError, "more than 4194304"),
    "endless chunks": (lies.endless_chunks, TooLargeError, "more than 4194304"),
    "4 MiB and a byte": (lies.body(LARGE), TooLargeError, "more than 4194304"),
    "a byte now and then": (lies.dripping, TooSlowError, "."),
    "silent after headers": (lies.silent_after_headers, TooSlowError, "."),
    "silent": (lies.silent, TooSlowError, "."),
    "not http": (lies.no_http, FetchError, "not HTTP"),
    "gzip": (lies.gzipped, SupplyChainError, "."),
    "gzip bomb": (lies.bomb, SupplyChainError, "."),
    "forbidden": (lies.status(403), FetchError, "403"),
    "broken": (lies.status(500), FetchError, "500"),
}


@pytest.mark.parametrize("name", MANIFEST_LIES)
def test_lie_about_a_manifest(
    name: str, server: HostileRegistry, client: RegistryRepository
) -> None:
    lie, kind, match = MANIFEST_LIES[name]
    server.lies(GET_MANIFEST, lie)
    with pytest.raises(kind, match=match):
        client.manifest(str(PLAIN_DIGEST))
    assert server.sent < 10 * (4 << 20) + SLACK
    server.is_honest_again()
    data, kind_said = client.manifest(str(PLAIN_DIGEST))
    assert (data, kind_said) == (PLAIN, MANIFEST)


@pytest.mark.parametrize(
    "said",
    [
        "../../../etc/passwd",
        f"sha256:{'A' * 64}",
        "md5:00",
        "sha256:",
        f"sha256:{'0' * 64}",
    ],
)
def test_digest_header_of_a_manifest_must_match(
    said: str, server: HostileRegistry, client: RegistryRepository
) -> None:
    server.lies(".*/manifests/", lies.header("Docker-Content-Digest", said))
    for reference in ("1.0.0", str(PLAIN_DIGEST)):
        with pytest.raises(FetchError, match="digest"):
            client.manifest(reference)
    server.is_honest_again()
    server.lies("HEAD .*/manifests/", lies.header("Docker-Content-Digest", said))
    # A hint, when it is a digest; else the manifest itself is read.
    found = client.head_manifest("1.0.0")
    assert str(found) in (said, str(PLAIN_DIGEST))


def test_size_of_a_manifest_is_bounded_by_the_caller(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    with pytest.raises(TooLargeError):
        client.manifest(str(PLAIN_DIGEST), limit=len(PLAIN) - 1)
    assert client.manifest("1.0.0", limit=len(PLAIN))[0] == PLAIN


def test_manifest_of_sha512_is_compared_too(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    digest = f"sha512:{hashlib.sha512(PLAIN).hexdigest()}"
    server.of(REPOSITORY).manifests[digest] = (MANIFEST, PLAIN)
    assert client.manifest(digest)[0] == PLAIN
    server.lies(GET_MANIFEST, lies.tampered)
    with pytest.raises(DigestMismatchError):
        client.manifest(digest)


# --- flow ----------------------------------------------------------------------------


def test_busy_registry_is_asked_again(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    server.lies(GET_MANIFEST, lies.status(429, Retry_After="0"), times=2)
    assert client.manifest("1.0.0")[0] == PLAIN
    assert len(server.asked(GET_MANIFEST)) == 3


def test_busy_registry_that_asks_for_a_year_is_left_alone(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    server.lies(GET_MANIFEST, lies.status(429, Retry_After="31536000"))
    with pytest.raises(FetchError, match="429") as caught:
        client.manifest("1.0.0")
    assert caught.value.status == 429
    assert len(server.asked(GET_MANIFEST)) == 1


def test_refusals_are_not_asked_again(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    for number in (400, 401, 403, 404, 405):
        server.seen.clear()
        server.lies(GET_MANIFEST, lies.status(number))
        with pytest.raises(FetchError) as caught:
            client.manifest("1.0.0")
        assert caught.value.missing == (number == 404)
        assert len(server.asked(GET_MANIFEST)) == 1


def test_cookies_are_not_kept(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    server.lies(".", lies.cookies)
    for _ in range(2):
        assert client.manifest("1.0.0")[0] == PLAIN
    assert {secret for one in server.seen for secret in one.secrets} == set()


def test_redirects_end(server: HostileRegistry, client: RegistryRepository) -> None:
    server.lies(GET_MANIFEST, lies.redirect(server.url))
    with pytest.raises(FetchError, match="redirects more than 5 times"):
        client.manifest("1.0.0")
    assert len(server.asked(GET_MANIFEST)) == 6
