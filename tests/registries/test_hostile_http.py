"""What a registry may do with HTTP itself: every answer ends, and hurts nobody."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain.errors import FetchError, SupplyChainError
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.references import RegistryReference
from margo_supplychain.storage.receive import read_exact
from margo_supplychain.transport.network import RegistryAccess
from margo_supplychain.transport.oci_registry import RegistryRepository
from tests.registries import lies
from tests.registries.between import Between
from tests.registries.certificates import Authority
from tests.registries.hostile import HostileRegistry, digest_of
from tests.registries.plant import quick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from margo_supplychain.transport.network import Network
    from tests.registries.hostile import Conversation, Lie

REPOSITORY: Final = "acme/app"
DATA: Final = b"content of a blob" * 1000
WHAT: Final = Descriptor.of(DATA, "application/octet-stream")
LOGIN: Final = ("plant", "insecure-password")
OUTSIDE: Final = "mirror.plant:5000"  # nobody looks it up: the proxy takes it


@pytest.fixture
def server() -> Iterator[HostileRegistry]:
    with HostileRegistry() as server:
        server.of(REPOSITORY).add_blob(DATA)
        yield server


def client_of(host: str, network: Network | None = None) -> RegistryRepository:
    reference = RegistryReference.parse(f"oci://{host}/{REPOSITORY}")
    return RegistryRepository(reference, network=network or quick())


def read(client: RegistryRepository) -> bytes:
    with client.open_blob(WHAT) as stream:
        return read_exact(WHAT, stream, subject="the blob")


# --- answers -------------------------------------------------------------------------


def raw(*pieces: bytes, endless: bytes = b"", pause: float = 0) -> Lie:
    """Send bytes, then `endless` again and again, as fast as `pause` lets it."""

    def lie(talk: Conversation) -> None:
        talk.read_body()
        talk.close_connection = True
        for piece in pieces:
            talk.give(piece)
        while endless and not talk.server.over.wait(pause):
            talk.give(endless)

    return lie


OK: Final = b"HTTP/1.1 200 OK\r\n"
HEAD: Final = OK + b"Content-Length: %d\r\n" % len(DATA)
ANSWERS: Final = {
    "interim answers without end": raw(endless=b"HTTP/1.1 100 Continue\r\n\r\n"),
    "interim answers now and then": raw(
        endless=b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.05
    ),
    "early hints without end": raw(endless=b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "headers without end": raw(OK, endless=b"X-A: b\r\n"),
    "headers now and then": raw(OK, endless=b"X-A: b\r\n", pause=0.05),
    "a header without end": raw(OK, b"X-A: ", endless=b"b" * 65536),
    "a header, a byte now and then": raw(OK, b"X-A: ", endless=b"b", pause=0.05),
    "a status line without end": raw(b"HTTP/1.1 200 ", endless=b"O" * 65536),
    "ten thousand headers": raw(OK, b"X-A: b\r\n" * 10_000, b"\r\n"),
    "no status": raw(b"HTTP/1.1\r\n\r\n"),
    "status no number": raw(b"HTTP/1.1 yes OK\r\n\r\n"),
    "status very large": raw(b"HTTP/1.1 99999 OK\r\n\r\n"),
    "status negative": raw(b"HTTP/1.1 -200 OK\r\n\r\n"),
    "another protocol": raw(b"HTTP/9.9 200 OK\r\n\r\n"),
    "HTTP/0.9": raw(DATA),
    "switching protocols": raw(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    "chunk of no size": raw(OK, b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    "chunk of a negative size": raw(OK, b"Transfer-Encoding: chunked\r\n\r\n-5\r\n"),
    "chunk size without end": raw(
        OK, b"Transfer-Encoding: chunked\r\n\r\n", endless=b"0" * 65536
    ),
    "chunk of 2^80": raw(
        OK, b"Transfer-Encoding: chunked\r\n\r\n", b"f" * 20 + b"\r\nabc"
    ),
    "trailers without end": raw(
        OK, b"Transfer-Encoding: chunked\r\n\r\n0\r\n", endless=b"X-A: b\r\n"
    ),
    "two lengths": raw(OK, b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde"),
    "length very long": raw(OK, b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nabc"),
    "location with a line end": raw(
        b"HTTP/1.1 307 X\r\nLocation: /a\r\n b\r\nContent-Length: 0\r\n\r\n"
    ),
    "location no url": raw(
        b"HTTP/1.1 307 X\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n"
    ),
    "location another scheme": raw(
        b"HTTP/1.1 307 X\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"
    ),
    "location a null": raw(
        b"HTTP/1.1 307 X\r\nLocation: /a\0b\r\nContent-Length: 0\r\n\r\n"
    ),
    "location no text": raw(
        b"HTTP/1.1 307 X\r\nLocation: /\xff\xfe\r\nContent-Length: 0\r\n\r\n"
    ),
    "range no number": raw(
        b"HTTP/1.1 206 X\r\nContent-Range: bytes \xb2-\xb3/\xb9\r\n"
        b"Content-Length: 3\r\n\r\nabc"
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answer_that_is_no_answer(name: str, server: HostileRegistry) -> None:
    server.lies("GET", ANSWERS[name])
    client = client_of(server.host, quick(response_timeout=0.5, tries=2))
    with pytest.raises(SupplyChainError):
        read(client)
    with pytest.raises(SupplyChainError):
        client.manifest(str(WHAT.digest))
    # Both kernels keep some of what nobody reads.
    assert server.sent < 64 << 20
    # Redirects are followed five times, and lines that broke meanwhile opened again.
    assert len(server.seen) <= 30
    server.is_honest_again()
    # On other lines: who never ends there does not know that it should be honest.
    assert read(client_of(server.host)) == DATA


@pytest.mark.parametrize(
    "text",
    [
        "-5",
        "-99999999999999999999",
        "1e9",
        "Infinity",
        "nan",
        "9" * 400,
        "\u0665",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 31 Dec 99999 23:59:59 GMT",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "tomorrow",
        "",
    ],
)
def test_retry_after_that_is_none(text: str, server: HostileRegistry) -> None:
    """It is honoured, obeyed by giving up, or passed over; nobody waits for ever."""
    header = {"Retry-After": text} if text.isascii() else {}
    server.lies("GET", lambda talk: talk.say(429, b"", header))
    with pytest.raises(FetchError, match="429"):
        read(client_of(server.host))
    assert len(server.seen) <= 3


@pytest.mark.parametrize(
    "make",
    [
        lambda n: "Bearer " + 'realm="' * n,
        lambda n: "Bearer " + 'a="\\' * n,
        lambda n: "Bearer " + "a=b," * n,
        lambda n: "Bearer realm=" + '"\\"' * n,
        lambda n: "Bearer" + " " * n + "x",
        lambda n: "Basic realm=" + "," * n,
    ],
)
def test_challenge_that_is_long(
    make: Callable[[int], str], server: HostileRegistry
) -> None:
    """Reading it takes time in proportion: 60 kB are nothing."""
    text = make(60_000 // max(1, len(make(1)) - len(make(0))))[:60_000]
    server.lies("GET", lies.status(401, WWW_Authenticate=text))
    with pytest.raises(SupplyChainError):
        read(client_of(server.host))
    assert len(server.seen) <= 3


# --- proxies and plain http ----------------------------------------------------------


def docker_config(directory: Path, *hosts: str) -> Path:
    said = base64.b64encode(":".join(LOGIN).encode()).decode()
    path = directory / "config.json"
    document = {"auths": {host: {"auth": said} for host in hosts}}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.mark.parametrize("tokens", [False, True])
def test_password_never_travels_over_plain_http(
    tokens: bool, server: HostileRegistry, tmp_path: Path
) -> None:
    """A mirror may speak http; then it can't have a login, whoever asks for it."""
    server.login, server.tokens = LOGIN, tokens
    server.realm = f"http://{OUTSIDE}/token"
    with Between(to=server.host) as proxy:
        access = RegistryAccess(plain_http=True, proxy=proxy.url)
        network = quick(
            registries={OUTSIDE: access}, docker_config=docker_config(tmp_path, OUTSIDE)
        )
        with pytest.raises(FetchError, match="401"):
            read(client_of(OUTSIDE, network))
        assert {secret for one in server.seen for secret in one.secrets} == set()
        assert not server.asked("/token")
        server.login = None
        assert read(client_of(OUTSIDE, network)) == DATA


def test_plain_http_is_not_chosen(server: HostileRegistry) -> None:
    """Only who is named with plain_http, or is on loopback, is asked over http."""
    with Between(to=server.host) as proxy:
        network = quick(registries={OUTSIDE: RegistryAccess(proxy=proxy.url)})
        with pytest.raises(FetchError):
            read(client_of(OUTSIDE, network))
        assert proxy.passed == []
        assert len(proxy.tunnels) <= 3


def test_redirect_to_plain_http_elsewhere(server: HostileRegistry) -> None:
    """Also from a registry on loopback, which may speak http itself."""
    with Between(to=server.host) as proxy:
        network = quick(registries={OUTSIDE: RegistryAccess(proxy=proxy.url)})
        server.lies("GET", lies.redirect(f"http://{OUTSIDE}"), times=1)
        with pytest.raises(FetchError, match="plain http"):
            read(client_of(server.host, network))
        assert proxy.passed == []
        allowed = RegistryAccess(proxy=proxy.url, plain_http=True)
        server.lies("GET", lies.redirect(f"http://{OUTSIDE}"), times=1)
        network = quick(registries={OUTSIDE: allowed})
        assert read(client_of(server.host, network)) == DATA
        assert len(proxy.passed) == 1


def test_password_of_a_proxy_is_for_the_proxy(tmp_path: Path) -> None:
    """It stands in the CONNECT, and in nothing that passes through the tunnel."""
    vendor, company = Authority(tmp_path, "vendor"), Authority(tmp_path, "company")
    with (
        HostileRegistry(vendor.server_context()) as server,
        Between(authority=company, upstream_ca=vendor.file) as proxy,
    ):
        digest = server.of(REPOSITORY).add_blob(DATA)
        assert digest == digest_of(DATA)
        url = proxy.url.replace("://", f"://{LOGIN[0]}:{LOGIN[1]}@")
        access = RegistryAccess(ca_file=company.file, proxy=url)
        network = quick(registries={server.host: access})
        assert read(client_of(server.host, network)) == DATA
        assert "proxy-authorization" in proxy.tunnels[0]
        assert all("proxy-authorization" not in one.headers for one in proxy.passed)
        server.lies("GET", lies.status(500))
        with pytest.raises(SupplyChainError) as caught:
            read(client_of(server.host, network))
        assert LOGIN[1] not in f"{caught.value} {caught.value.hint} {network!r}"
