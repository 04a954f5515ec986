"""Whom a connection believes, what it shows of itself, and through whom it goes."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization

from margo_supplychain.errors import FetchError, TooSlowError
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.transport import attempts
from margo_supplychain.transport.connections import Connections
from margo_supplychain.transport.exchange import Answer, Body, Request, exchange
from margo_supplychain.transport.http import HttpSource
from margo_supplychain.transport.network import Network, RegistryAccess
from tests.registries.between import Between
from tests.registries.certificates import Authority, Pair
from tests.transport.liar import Liar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.transport.liar import Conversation

BIG = os.urandom(1 << 20) * 3
WHAT = Descriptor.of(BIG, "application/octet-stream")
BLOB = f"/blobs/sha256/{WHAT.digest.hex}"
TIMESTAMP = "/metadata/timestamp.json"
QUICK = Network(
    connect_timeout=5, read_timeout=0.5, response_timeout=5, tries=2, longest_delay=0
)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("plant"))


@pytest.fixture(scope="module")
def client(plant: Authority) -> Pair:
    return plant.issue("client")


class Guard(Liar):
    """Speaks TLS, asks for a client certificate, and notes whose it was shown."""

    def __init__(self, plant: Authority, *, demands: bool = False) -> None:
        context = plant.server_context(ask_client=True)
        if demands:
            context.verify_mode = ssl.CERT_REQUIRED
        super().__init__(context)
        self.shown: list[str | None] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def note(self, talk: Conversation, body: bytes = b"{}") -> None:
        connection = talk.connection
        found: Any = None
        if isinstance(connection, ssl.SSLSocket):
            found = connection.getpeercert()
        names = dict(part[0] for part in (found or {}).get("subject", ()))
        self.shown.append(names.get("commonName"))
        talk.say(200, body)


@pytest.fixture
def guard(plant: Authority) -> Iterator[Guard]:
    with Guard(plant) as server:
        server.answers_with("/x", server.note)
        yield server


@pytest.fixture
def other(plant: Authority) -> Iterator[Guard]:
    with Guard(plant) as server:
        server.answers_with("/x", server.note)
        yield server


def ask(server: Liar, network: Network = QUICK, path: str = "x") -> Answer:
    request = Request("GET", server.url + path)
    return exchange(Connections(network), request, network=network, limit=1000)


def through(guard: Guard, **access: Any) -> Network:
    return Network(
        registries={guard.host: RegistryAccess(**access)}, tries=2, longest_delay=0
    )


# --- whom a connection believes ------------------------------------------------------


def test_https(guard: Guard, plant: Authority) -> None:
    guard.serves(BLOB, BIG)
    source = HttpSource.of(guard.url, network=Network(ca_file=plant.file))
    for _ in range(2):
        with source.blob(WHAT) as file:
            assert file.read() == BIG
    assert len(guard.connections) == 1


def test_unknown_certificate_is_not_tried_again(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=slept.append)
    monkeypatch.setattr(attempts, "time", clock)
    with pytest.raises(FetchError, match="can't reach https://127") as caught:
        HttpSource.of(guard.url).metadata("timestamp.json", limit=10)
    assert str(caught.value).startswith(
        f"can't reach {guard.url.rstrip('/')}: certificate verify failed: "
    )
    assert "name its certificates as ca_file" in str(caught.value.hint)
    assert caught.value.unreachable
    assert slept == []


def test_plain_http_where_tls_is_expected(
    plant: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Liar() as plain:
        url = plain.url.replace("http:", "https:")
        with pytest.raises(FetchError, match="the answer is not TLS") as caught:
            HttpSource.of(url).metadata("timestamp.json", limit=10)
        assert 'plain_http = true in [registry."' in str(caught.value.hint)
        assert caught.value.unreachable
        # A proxy is no registry: its own URL says how it is spoken to.
        monkeypatch.setenv("https_proxy", url)
        with pytest.raises(FetchError, match="the answer is not TLS") as caught:
            HttpSource.of("https://updates.example").metadata("timestamp.json", limit=9)
        assert "plain_http" not in str(caught.value.hint)
        assert plain.requests == []


def test_registry_with_its_own_authority(
    guard: Guard, other: Guard, plant: Authority
) -> None:
    """What one registry is believed for says nothing about another."""
    network = through(guard, ca_file=plant.file)
    assert ask(guard, network).body == b"{}"
    with pytest.raises(FetchError, match="certificate verify failed"):
        ask(other, network)
    guard.answers_with("/y", lambda t: t.say(307, Location=f"{other.url}x"))
    with pytest.raises(FetchError, match="certificate verify failed"):
        ask(guard, network, "y")
    assert other.requests == []


def test_own_authority_stands_instead_of_the_network_s(
    guard: Guard, plant: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger")
    access = RegistryAccess(ca_file=stranger.file)
    network = Network(ca_file=plant.file, registries={guard.host: access}, tries=1)
    with pytest.raises(FetchError, match="certificate verify failed"):
        ask(guard, network)
    assert ask(guard, Network(ca_file=plant.file)).status == 200


def test_certificate_for_another_host(plant: Authority) -> None:
    with Liar(plant.server_context(hosts=("127.0.0.2",))) as liar:
        with pytest.raises(FetchError, match="certificate verify failed: IP address"):
            ask(liar, Network(ca_file=plant.file))
        assert liar.requests == []


def test_https_never_becomes_http(guard: Guard, plant: Authority) -> None:
    with Liar() as plain:
        plain.serves("/x", b"{}")
        guard.answers_with("/y", lambda t: t.say(302, Location=f"{plain.url}x"))
        text = r"redirects to http://127.0.0.1, which is not"
        with pytest.raises(FetchError, match=text):
            ask(guard, Network(ca_file=plant.file), "y")
        assert plain.requests == []


# --- what it shows of itself ---------------------------------------------------------


def test_client_certificate(plant: Authority, client: Pair, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(client.certificate.read_bytes() + client.key.read_bytes())
    with Guard(plant, demands=True) as guard:
        guard.answers_with("/x", guard.note)
        for files in (
            {"certificate": client.certificate, "private_key": client.key},
            {"certificate": both},
        ):
            assert ask(guard, through(guard, ca_file=plant.file, **files)).body == b"{}"
        with pytest.raises(FetchError, match="can't reach"):
            ask(guard, through(guard, ca_file=plant.file))
        assert guard.shown == ["client", "client"]


def test_client_certificate_is_for_its_own_registry(
    guard: Guard, other: Guard, plant: Authority, client: Pair
) -> None:
    """Neither a redirect nor another registry sees who the client is."""
    mine = RegistryAccess(certificate=client.certificate, private_key=client.key)
    network = Network(ca_file=plant.file, registries={guard.host: mine}, tries=1)
    guard.answers_with("/y", lambda t: t.say(307, Location=f"{other.url}x"))
    other.answers_with("/z", lambda t: t.say(307, Location=f"{guard.url}x"))
    connections = Connections(network)
    for server, path in ((guard, "x"), (other, "x"), (guard, "y"), (other, "z")):
        request = Request("GET", server.url + path)
        exchange(connections, request, network=network, limit=10)
    assert other.shown == [None, None]
    assert guard.shown == ["client", "client"]
    # The same machine by another name is another origin.
    named = Request("GET", f"https://localhost:{guard.server_port}/x")
    exchange(connections, named, network=network, limit=10)
    assert guard.shown[-1] is None


# --- files that can't be used --------------------------------------------------------


def test_authority_that_can_not_be_read(guard: Guard, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for path, text in (
        (tmp_path / "none.pem", "no such file or directory"),
        (empty, "it holds none that can be read"),
        (Path(__file__), "it holds none that can be read"),
        (tmp_path, "is a directory|it holds none"),
    ):
        for network in (through(guard, ca_file=path), Network(ca_file=path)):
            with pytest.raises(FetchError, match=text) as caught:
                ask(guard, network)
            assert str(path) in str(caught.value)
            assert caught.value.hint == (
                "correct the path, or the file: PEM, and readable by this user"
            )
    assert guard.requests == []


def test_client_certificate_that_can_not_be_used(
    guard: Guard, plant: Authority, client: Pair, tmp_path: Path
) -> None:
    stranger = plant.issue("stranger")
    locked = tmp_path / "locked.key"
    key = serialization.load_pem_private_key(client.key.read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    for certificate, private_key, text in (
        (tmp_path / "none.pem", client.key, "no such file or directory"),
        (client.certificate, tmp_path / "none.key", "no such file or directory"),
        (client.certificate, stranger.key, "does not belong to the certificate"),
        (client.certificate, None, "it holds none that can be read"),
        (client.certificate, locked, "it has a passphrase, and nobody is there"),
        (client.key, client.key, "it holds none that can be read"),
    ):
        network = through(
            guard,
            ca_file=plant.file,
            certificate=certificate,
            private_key=private_key,
        )
        with pytest.raises(FetchError, match="can't use the client cert") as caught:
            ask(guard, network)
        assert text in str(caught.value)
    assert guard.requests == []


# --- what comes over TLS -------------------------------------------------------------


def test_body_over_tls_is_counted_and_timed(guard: Guard, plant: Authority) -> None:
    network = Network(
        ca_file=plant.file, read_timeout=0.3, tries=1, rate_window=0.6, longest_delay=0
    )
    source = HttpSource.of(guard.url, network=network)

    def silent(talk: Conversation) -> None:
        talk.say(200, BIG[:100_000], Content_Length=str(len(BIG)))
        talk.keep_waiting()

    def drips(talk: Conversation) -> None:
        talk.say(200, BIG[:100], Content_Length=str(len(BIG)))
        talk.drip(b"x")

    def hangs_up(talk: Conversation) -> None:
        talk.say(200, BIG[:100_000], Content_Length=str(len(BIG)))
        talk.hang_up()

    for answer, kind, text in (
        (silent, TooSlowError, "broke off after 100000 bytes: nothing came any more"),
        (drips, TooSlowError, "expected 1024 per second"),
        (hangs_up, FetchError, "broke off after 100000 bytes"),
    ):
        guard.answers_with(BLOB, answer)
        with pytest.raises(kind, match=text), source.blob(WHAT) as file:
            file.read()


def test_sending_over_tls(guard: Guard, plant: Authority) -> None:
    got: list[bytes] = []

    def keeps(talk: Conversation) -> None:
        got.append(talk.body())
        talk.say(201)

    guard.answers_with("/put", keeps)
    network = Network(ca_file=plant.file)
    request = Request("PUT", f"{guard.url}put", body=BIG)
    answer = exchange(Connections(network), request, network=network, limit=10)
    assert answer.status == 201
    assert got == [BIG]
    guard.answers_with("/put", lambda talk: talk.keep_waiting())
    network = Network(ca_file=plant.file, rate_window=0.3, tries=1)
    with pytest.raises(TooSlowError, match=r"took \d+ bytes in"):
        exchange(Connections(network), request, network=network, limit=10)


def takes(talk: Conversation) -> None:
    talk.body()
    talk.say(201)


# --- proxies -------------------------------------------------------------------------


def proxied(network: Network) -> bytes:
    request = Request("GET", "http://mirror.example/x")
    return exchange(Connections(network), request, network=network, limit=99).body


def login(liar: Liar) -> str | None:
    headers = {name.lower(): text for name, text in liar.requests[-1][1].items()}
    return headers.get("proxy-authorization")


@pytest.fixture
def proxy() -> Iterator[Liar]:
    with Liar() as server:
        server.serves("http://mirror.example/x", b"proxied")
        server.serves("http://updates.example.org/metadata/timestamp.json", b"proxied")
        yield server


def updates() -> bytes:
    source = HttpSource.of("http://updates.example.org", network=QUICK)
    return source.metadata("timestamp.json", limit=100)


def test_proxy_from_the_environment(
    proxy: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//me:p%40ss@"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert updates() == b"proxied"
    assert login(proxy) == "Basic bWU6cEBzcw=="
    proxy.serves(TIMESTAMP, b"direct")
    source = HttpSource.of(proxy.url)
    assert source.metadata("timestamp.json", limit=100) == b"direct"
    assert login(proxy) is None


def test_proxy_without_a_login(proxy: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", proxy.url)
    assert updates() == b"proxied"
    assert login(proxy) is None


def test_proxy_of_an_unknown_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "gopher://127.0.0.1:9")
    with pytest.raises(FetchError, match="can't reach"):
        updates()


def test_proxy_of_one_registry(proxy: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "mirror.example")
    access = RegistryAccess(
        plain_http=True, proxy=proxy.url.replace("//", "//me:p%40ss@")
    )
    assert proxied(Network(registries={"mirror.example": access})) == b"proxied"
    assert login(proxy) == "Basic bWU6cEBzcw=="
    monkeypatch.delenv("no_proxy")
    with pytest.raises(FetchError, match=r"updates.example.org: connection refused"):
        updates()


def test_no_proxy_for_one_registry(
    proxy: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    proxy.serves("/x", b"direct")
    access = RegistryAccess(proxy="")
    host = f"127.0.0.1:{proxy.server_port}"
    network = Network(registries={host: access}, tries=1)
    assert ask(proxy, network).body == b"direct"


def test_tls_through_a_proxy(guard: Guard, plant: Authority, tmp_path: Path) -> None:
    """It opens what passes; who trusts its authority for this registry goes on."""
    inspector = Authority(tmp_path, "inspector")
    guard.serves("/big", BIG)
    guard.answers_with("/put", takes)
    with Between(authority=inspector, upstream_ca=plant.file) as between:
        access = RegistryAccess(ca_file=inspector.file, proxy=between.url)
        network = Network(registries={guard.host: access}, tries=1)
        connections = Connections(network)
        for _ in range(3):
            request = Request("GET", f"{guard.url}big")
            answer = exchange(connections, request, network=network, limit=1 << 24)
            assert answer.body == BIG
        body = Body.of(BIG)
        request = Request("PUT", f"{guard.url}put", body=body)
        assert exchange(connections, request, network=network, limit=10).status == 201
        assert between.count("GET") == 3
        assert between.connections == 1
        distrusting = RegistryAccess(ca_file=plant.file, proxy=between.url)
        with pytest.raises(FetchError, match="certificate verify failed"):
            ask(guard, Network(registries={guard.host: distrusting}, tries=1))


class Tunnel:
    """A proxy that is itself reached over TLS, and opens nothing."""

    def __init__(self, context: ssl.SSLContext, *, ends: bool = False) -> None:
        self._context = context
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._server.getsockname()[1]}"
        self.shown: list[object] = []
        self.ends = ends
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(peer,), daemon=True).start()

    def _pass(self, peer: socket.socket) -> None:
        try:
            near = self._context.wrap_socket(peer, server_side=True)
            self.shown.append(near.getpeercert())
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += near.recv(1)
            host, _, port = head.split()[1].decode().rpartition(":")
            far = socket.create_connection((host, int(port)))
            near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join(5)
        except OSError:
            return
        finally:
            peer.close()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


def _pump(one: socket.socket, other: socket.socket) -> None:
    try:
        while data := one.recv(65536):
            other.sendall(data)
    except OSError:
        return
    finally:
        for end in (one, other):
            end.close()


def test_tls_inside_of_tls(guard: Guard, plant: Authority, client: Pair) -> None:
    """The proxy sees no client certificate; bodies take the longer way, and come."""
    guard.answers_with("/big", lambda talk: guard.note(talk, BIG))
    context = plant.server_context(ask_client=True)
    tunnel = Tunnel(context)
    access = RegistryAccess(
        certificate=client.certificate, private_key=client.key, proxy=tunnel.url
    )
    network = Network(ca_file=plant.file, registries={guard.host: access}, tries=1)
    try:
        request = Request("GET", f"{guard.url}big")
        answer = exchange(Connections(network), request, network=network, limit=1 << 24)
    finally:
        tunnel.close()
    assert answer.body == BIG
    assert guard.shown == ["client"]
    assert tunnel.shown in ([{}], [None])
