"""What a registry may do with lists: tags and referrers are hints, and have an end.

Reference §6, "Referrers", and §4.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from margo_supplychain.errors import FetchError, SupplyChainError, TooLargeError
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
REFERRERS: Final = "GET .*/referrers/"
TAGS: Final = "GET .*/tags/list"
SBOM: Final = "application/spdx+json"
PLAIN: Final = manifest_bytes(
    artifact_type="application/wasm", layers=[Layer(descriptor=EMPTY)]
)
SUBJECT: Final = Descriptor.of(PLAIN, MANIFEST)
DIGEST: Final = SUBJECT.digest
FALLBACK: Final = f"sha256-{DIGEST.hex}"


def about(number: int, kind: str = SBOM) -> bytes:
    """Return an artifact about `PLAIN`."""
    return manifest_bytes(
        artifact_type=kind,
        layers=[Layer(descriptor=EMPTY)],
        subject=SUBJECT,
        annotations={"number": str(number)},
    )


def entry(number: int) -> dict[str, Any]:
    digest = Digest.of(str(number).encode())
    return {
        "mediaType": MANIFEST,
        "digest": str(digest),
        "size": 100,
        "artifactType": SBOM,
    }


def index(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}


@pytest.fixture
def server() -> Iterator[HostileRegistry]:
    with HostileRegistry() as server:
        held = server.of(REPOSITORY)
        held.add_blob(b"{}")
        held.add_manifest(PLAIN, tag="1.0.0")
        yield server


@pytest.fixture
def client(server: HostileRegistry) -> RegistryRepository:
    reference = RegistryReference.parse(f"oci://{server.host}/{REPOSITORY}")
    return RegistryRepository(reference, network=quick())


# --- referrers -----------------------------------------------------------------------


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_referrers_of_all_pages(
    page: int, server: HostileRegistry, client: RegistryRepository
) -> None:
    server.page = page
    for number in range(5):
        kind = SBOM if number % 2 else "application/other"
        server.of(REPOSITORY).add_manifest(about(number, kind), tag=None)
    assert len(client.referrers(DIGEST)) == 5
    assert len(client.referrers(DIGEST, artifact_type=SBOM)) == 2


def test_referrers_that_were_not_filtered(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    other = {**entry(1), "artifactType": "application/other"}
    server.lies(REFERRERS, lies.document(index(entry(0), other)))
    found = client.referrers(DIGEST, artifact_type=SBOM)
    assert [str(one.descriptor.digest) for one in found] == [entry(0)["digest"]]


def test_a_million_referrers(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    server.lies(REFERRERS, lies.many_referrers(1_000_000, entry(0)))
    with pytest.raises(TooLargeError):
        client.referrers(DIGEST)
    assert server.sent < 32 << 20


def test_a_million_referrers_on_pages(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    def page(number: int) -> dict[str, Any]:
        return index(*(entry(number * 500 + one) for one in range(500)))

    server.lies(REFERRERS, lies.pages(page))
    with pytest.raises(TooLargeError, match="more than 1000 referrers"):
        client.referrers(DIGEST)
    assert len(server.asked(REFERRERS)) == 3


@pytest.mark.parametrize("empty", [True, False])
def test_referrers_without_end(
    empty: bool, server: HostileRegistry, client: RegistryRepository
) -> None:
    entries = [] if empty else [entry(0)]
    server.lies(REFERRERS, lies.pages(lambda _: index(*entries)))
    with pytest.raises(FetchError, match="nothing new on 5 pages"):
        client.referrers(DIGEST)
    assert len(server.asked(REFERRERS)) == (5 if empty else 6)


def test_referrers_that_link_to_themselves(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    link = f"/v2/{REPOSITORY}/referrers/{DIGEST}"
    server.lies(REFERRERS, lies.pages(lambda _: index(entry(0)), link=link))
    with pytest.raises(FetchError, match="nothing new on 5 pages"):
        client.referrers(DIGEST)
    assert len(server.asked(REFERRERS)) == 6


@pytest.mark.parametrize("where", [REFERRERS, TAGS])
def test_link_to_another_host(
    where: str, server: HostileRegistry, client: RegistryRepository
) -> None:
    with HostileRegistry() as stranger:
        stranger.holdings = server.holdings
        one: dict[str, Any] = index(entry(0)) if where == REFERRERS else {"tags": ["a"]}
        link = f"{stranger.url}/v2/{REPOSITORY}/tags/list"
        server.lies(where, lies.pages(lambda _: one, link=link))
        with pytest.raises(FetchError, match="another origin"):
            list(client.referrers(DIGEST) if where == REFERRERS else client.tags())
        assert stranger.seen == []


@pytest.mark.parametrize("number", [401, 403, 404, 405])
def test_registry_without_referrers(
    number: int, server: HostileRegistry, client: RegistryRepository
) -> None:
    """Old Harbor says 401, olareg 405: no API is no error, and the tag is asked."""
    server.lies(REFERRERS, lies.status(number))
    assert client.referrers(DIGEST) == ()
    data = json.dumps(index(entry(0), entry(1))).encode()
    server.of(REPOSITORY).add_manifest(data, tag=FALLBACK, kind=INDEX)
    assert len(client.referrers(DIGEST)) == 2


def test_registry_that_breaks_on_referrers(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    """Whether there are any can't be told; that is not the same as none."""
    server.lies(REFERRERS, lies.status(500))
    with pytest.raises(FetchError) as caught:
        client.referrers(DIGEST)
    assert not caught.value.missing


FALLBACKS: Final[dict[str, tuple[bytes, str]]] = {
    "the subject": (PLAIN, MANIFEST),
    "another manifest": (about(7), MANIFEST),
    "an index that says it is a manifest": (
        json.dumps({**index(), "mediaType": MANIFEST}).encode(),
        INDEX,
    ),
    "no document": (b"referrers", INDEX),
}


@pytest.mark.parametrize("name", FALLBACKS)
def test_fallback_that_is_no_list(
    name: str, server: HostileRegistry, client: RegistryRepository
) -> None:
    server.referrers = False
    data, kind = FALLBACKS[name]
    server.of(REPOSITORY).manifests[str(Digest.of(data))] = (kind, data)
    server.of(REPOSITORY).tags[FALLBACK] = str(Digest.of(data))
    if name == "the subject":
        # GitLab takes the tag for the digest; that is how it says that there is none.
        assert client.referrers(DIGEST) == ()
        return
    with pytest.raises(FetchError, match="no list of referrers") as caught:
        client.referrers(DIGEST)
    assert not caught.value.missing


BAD_ENTRIES: Final[dict[str, Any]] = {
    "path": {**entry(0), "digest": "sha256:../../../../etc/passwd"},
    "absolute": {**entry(0), "digest": "/etc/passwd"},
    "upper case": {**entry(0), "digest": f"sha256:{'A' * 64}"},
    "unknown algorithm": {**entry(0), "digest": "md5:" + "0" * 32},
    "negative size": {**entry(0), "size": -1},
    "size 2^63": {**entry(0), "size": 1 << 63},
    "size text": {**entry(0), "size": "100"},
    "size true": {**entry(0), "size": True},
    "size fraction": {**entry(0), "size": 1.5},
    "no digest": {"mediaType": MANIFEST, "size": 1},
    "no object": 7,
    "media type": {**entry(0), "mediaType": "\n"},
}


@pytest.mark.parametrize("name", BAD_ENTRIES)
def test_malformed_referrer(
    name: str, server: HostileRegistry, client: RegistryRepository
) -> None:
    server.lies(REFERRERS, lies.document(index(BAD_ENTRIES[name])))
    with pytest.raises(SupplyChainError):
        client.referrers(DIGEST)


LISTS: Final[dict[str, Lie]] = {
    "no document": lies.body(b"<html>"),
    "a list": lies.document([]),
    "nothing": lies.body(b""),
    "duplicate keys": lies.body(b'{"manifests":[],"manifests":[],"tags":[],"tags":[]}'),
    "nan": lies.body(b'{"manifests":[NaN],"tags":[NaN]}'),
    "deep": lies.body(
        b'{"manifests":' + b"[" * 100_000 + b"]" * 100_000 + b',"tags":[[[[[]]]]]}'
    ),
    "numbers": lies.document({"manifests": 7, "tags": 7}),
    "endless": lies.endless,
    "endless chunks": lies.endless_chunks,
    "silent": lies.silent_after_headers,
    "tampered into no text": lies.body(b'{"tags":["\xff"],"manifests":["\xff"]}'),
}


@pytest.mark.parametrize("name", LISTS)
def test_list_that_is_none(
    name: str, server: HostileRegistry, client: RegistryRepository
) -> None:
    server.lies(REFERRERS, LISTS[name])
    server.lies(TAGS, LISTS[name])
    with pytest.raises(SupplyChainError):
        client.referrers(DIGEST)
    with pytest.raises(SupplyChainError):
        list(client.tags())
    assert server.sent < 64 << 20


# --- tags ----------------------------------------------------------------------------


@pytest.mark.parametrize("page", [1, 3, 1000])
def test_tags_of_all_pages(
    page: int, server: HostileRegistry, client: RegistryRepository
) -> None:
    server.page = page
    wanted = {f"1.0.{number}" for number in range(7)}
    for tag in wanted:
        server.of(REPOSITORY).add_manifest(PLAIN, tag=tag)
    assert sorted(client.tags()) == sorted(wanted)


def test_tags_without_end(server: HostileRegistry, client: RegistryRepository) -> None:
    counted = iter(range(10**9))

    def page(talk: Conversation) -> None:
        tags = [f"v{next(counted)}" for _ in range(100)]
        link = f'</v2/{REPOSITORY}/tags/list?last={tags[-1]}>; rel="next"'
        talk.say(200, json.dumps({"tags": tags}).encode(), {"Link": link})

    server.lies(TAGS, page)
    with pytest.raises(TooLargeError, match="more than 1000 tags"):
        list(client.tags(most=1000))
    assert len(server.asked(TAGS)) == 11


def test_tags_on_a_page_that_never_changes(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    link = f"/v2/{REPOSITORY}/tags/list"
    server.lies(TAGS, lies.pages(lambda _: {"tags": []}, link=link))
    with pytest.raises(FetchError, match="nothing new on 5 pages"):
        list(client.tags(most=1000))
    assert len(server.asked(TAGS)) == 5


@pytest.mark.parametrize(
    "tag", ["../../x", "/etc/passwd", "a b", "a\nb", "", "a" * 129, 7, None, ["a"]]
)
def test_tag_that_is_none(
    tag: object, server: HostileRegistry, client: RegistryRepository
) -> None:
    server.lies(TAGS, lies.document({"tags": ["1.0.0", tag]}))
    with pytest.raises(FetchError, match="no list of tags"):
        list(client.tags())
