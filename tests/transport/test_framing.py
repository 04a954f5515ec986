"""Where an answer begins and ends, and what a server may not make of that."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import FetchError, LengthMismatchError
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.storage.content_store import ContentStore
from margo_supplychain.transport.connections import Connections
from margo_supplychain.transport.exchange import Answer, Request, exchange
from margo_supplychain.transport.http import HttpSource
from margo_supplychain.transport.network import Network
from tests.registries.certificates import Authority
from tests.transport.liar import Liar, says

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.transport.liar import Conversation

QUICK = Network(
    connect_timeout=5, read_timeout=2, response_timeout=2, tries=3, longest_delay=0
)
TIMESTAMP = "/metadata/timestamp.json"
ROOT = "/metadata/2.root.json"
DATA = os.urandom(3 << 20)
WHAT = Descriptor.of(DATA, "application/octet-stream")
BLOB = f"/blobs/sha256/{WHAT.digest.hex}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def liar() -> Iterator[Liar]:
    with Liar() as server:
        yield server


@pytest.fixture
def source(liar: Liar) -> HttpSource:
    return HttpSource.of(liar.url, network=QUICK)


def metadata(source: HttpSource, name: str = "timestamp.json") -> bytes:
    return source.metadata(name, limit=1000)


# --- chunks --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chunk",
    [
        b"-1\r\n" + b"A" * 5000,
        b"-5\r\n" + b"A" * 9000,
        b"+2\r\n{}\r\n0\r\n\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b" 2\r\n{}\r\n0\r\n\r\n",
        b"0_2\r\n{}\r\n0\r\n\r\n",
        b"\xd9\xa2\r\n{}\r\n0\r\n\r\n",
        b"zz\r\n",
        b"\r\nabc",
        b"f" * 16 + b"\r\n{}",
        b"f" * 60_000 + b"\r\n",
        b"2;" + b"a" * 70_000 + b"\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_chunk_of_no_size(liar: Liar, source: HttpSource, chunk: bytes) -> None:
    for path in (TIMESTAMP, BLOB):
        liar.answers_with(path, says(CHUNKED + chunk, ends=True))
    with pytest.raises(FetchError, match="the answer is not HTTP"):
        metadata(source)
    with pytest.raises(FetchError, match="is not HTTP"), source.blob(WHAT) as file:
        file.read()


@pytest.mark.parametrize(
    "chunks",
    [b"2\r\n{}\r\n0\r\n\r\n", b"02;a=b\r\n{}\r\n0\r\n\r\n", b"1 \n{\r\n1\n}\r\n0\n\n"],
)
def test_chunks(liar: Liar, source: HttpSource, chunks: bytes) -> None:
    liar.answers_with(TIMESTAMP, says(CHUNKED + chunks))
    for _ in range(2):
        assert metadata(source) == b"{}"
    assert len(liar.connections) == 1


def test_chunks_that_break_off(liar: Liar, source: HttpSource) -> None:
    liar.answers_with(TIMESTAMP, says(CHUNKED + b"2\r\n{}\r\n", ends=True))
    with pytest.raises(FetchError, match="the connection ended early"):
        metadata(source)


# --- bodies that are short -----------------------------------------------------------


def start_of(talk: Conversation) -> int:
    return int(talk.headers.get("Range", "bytes=0-")[6:-1])


def breaks_off(talk: Conversation) -> None:
    talk.say(200, DATA[:1000], Content_Length=str(len(DATA)))
    talk.hang_up()


def part(talk: Conversation, size: int, *, total: str = str(len(DATA))) -> None:
    """A part that is shorter than what was asked for, as RFC 9110 §15.3.7 allows."""
    start = start_of(talk)
    body = DATA[start : start + size]
    told = f"bytes {start}-{start + len(body) - 1}/{total}"
    talk.say(206, body, Content_Range=told)


@pytest.mark.parametrize("total", [str(len(DATA)), "*"])
def test_parts_that_are_shorter_than_asked(
    liar: Liar, source: HttpSource, total: str
) -> None:
    liar.answers_with(BLOB, breaks_off, lambda talk: part(talk, 1 << 20, total=total))
    with source.blob(WHAT) as file:
        assert file.read() == DATA
    assert [head.get("Range") for _, head in liar.requests] == [
        None,
        "bytes=1000-",
        f"bytes={1000 + (1 << 20)}-",
        f"bytes={1000 + (2 << 20)}-",
    ]


def closing(talk: Conversation) -> None:
    """Ends with its connection, and that is cut."""
    start = start_of(talk)
    body = DATA[start : start + (1 << 20)]
    told = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}" if start else None
    talk.say(206 if start else 200, body, Content_Length=None, Content_Range=told)
    talk.hang_up()


def test_body_without_length_that_is_cut(
    liar: Liar, source: HttpSource, tmp_path: Path
) -> None:
    liar.answers_with(BLOB, closing)
    store = ContentStore.create(tmp_path / "content")
    store.put_resumable(WHAT, lambda at: source.blob(WHAT, start=at))
    assert store.has(WHAT)


def test_cut_again_and_again(liar: Liar, source: HttpSource, tmp_path: Path) -> None:
    """That is no false answer, and what came stays."""
    size = 1 << 20

    def same(talk: Conversation) -> None:
        start = start_of(talk)
        told = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}" if start else None
        talk.say(
            206 if start else 200,
            DATA[start:size],
            Content_Length=None,
            Content_Range=told,
        )
        talk.hang_up()

    liar.answers_with(BLOB, same)
    store = ContentStore.create(tmp_path / "content")
    text = f"broke off after {size} bytes: it ended without saying"
    with pytest.raises(FetchError, match=text):
        store.put_resumable(WHAT, lambda at: source.blob(WHAT, start=at))
    assert [one.stat().st_size for one in (tmp_path / "content/.parts").iterdir()] == [
        size
    ]


def test_file_that_says_that_it_is_short(
    liar: Liar, source: HttpSource, tmp_path: Path
) -> None:
    """Who says where the file ends is believed: it is not the signed one."""
    store = ContentStore.create(tmp_path / "content")
    liar.serves(BLOB, DATA[:5000])
    with pytest.raises(LengthMismatchError):
        store.put(WHAT, source.blob(WHAT).__enter__())
    liar.answers_with(BLOB, breaks_off, lambda talk: part(talk, 500, total="1500"))
    with source.blob(WHAT) as file:
        assert file.read() == DATA[:1500]


def test_metadata_that_does_not_say_where_it_ends(
    liar: Liar, source: HttpSource
) -> None:
    """Half of it and all of it look alike."""
    liar.answers_with(TIMESTAMP, says(b"HTTP/1.1 200 OK\r\n\r\n{}", ends=True))
    with pytest.raises(FetchError, match="ended without saying that there is no more"):
        metadata(source)
    with pytest.raises(FetchError, match="2 bytes that don't say where they end"):
        ask(liar, TIMESTAMP)
    # What an error has to say is not that important.
    liar.answers_with(TIMESTAMP, says(b"HTTP/1.1 403 No\r\n\r\n{}", ends=True))
    assert ask(liar, TIMESTAMP).body == b"{}"


def ask(liar: Liar, path: str) -> Answer:
    request = Request("GET", liar.url.rstrip("/") + path)
    return exchange(Connections(QUICK), request, network=QUICK, limit=1000)


# --- interim answers -----------------------------------------------------------------


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 2,
        b"HTTP/1.1 199 Wait\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n",
    ],
)
def test_interim_answer_is_no_answer(
    liar: Liar, source: HttpSource, interim: bytes
) -> None:
    def hints(talk: Conversation) -> None:
        talk.wfile.write(interim)
        time.sleep(0.05)
        talk.say(200, talk.path.encode())

    liar.answers_with(TIMESTAMP, hints)
    liar.answers_with(ROOT, hints)
    for _ in range(2):
        assert metadata(source) == TIMESTAMP.encode()
        assert metadata(source, "2.root.json") == ROOT.encode()
    assert len(liar.connections) == 1


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000,
    ],
)
def test_interim_answers_that_lead_nowhere(
    liar: Liar, source: HttpSource, interim: bytes
) -> None:
    liar.answers_with(TIMESTAMP, says(interim + b"HTTP/1.1 404 No\r\n\r\n"))
    with pytest.raises(FetchError, match="the answer is not HTTP"):
        metadata(source)
    # None of these connections is used for anything else.
    liar.serves(ROOT, b"root")
    assert metadata(source, "2.root.json") == b"root"
    assert len(liar.connections) == 4


# --- what is left over ---------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 20_000, 70_000])
@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("is_tls", [False, True])
def test_answer_behind_an_answer(
    tmp_path: Path, size: int, *, is_chunked: bool, is_tls: bool
) -> None:
    """It would be taken for the answer to what is asked next."""
    authority = Authority(tmp_path)
    body = bytes(size)
    framed = b"%x\r\n%s\r\n0\r\n\r\n" % (size, body) if is_chunked else body
    length = b"Content-Length: %d\r\n\r\n" % size
    head = CHUNKED if is_chunked else b"HTTP/1.1 200 OK\r\n" + length
    more = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
    with Liar(authority.server_context() if is_tls else None) as liar:
        liar.answers_with(ROOT, says(head + framed + more))
        liar.serves(TIMESTAMP, b"{}")
        network = Network(tries=1, ca_file=authority.file)
        source = HttpSource.of(liar.url, network=network)
        for _ in range(3):
            assert source.metadata("2.root.json", limit=100_000) == body
            assert metadata(source) == b"{}"


# --- how a server is reached ---------------------------------------------------------


class Silent:
    """A port that takes no connection."""

    def __init__(self) -> None:
        self._server = socket.socket()
        self._server.bind(("127.0.0.1", 0))
        self._server.listen(0)
        self.port: int = self._server.getsockname()[1]
        self._others = [socket.socket() for _ in range(4)]
        for one in self._others:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", self.port))

    def close(self) -> None:
        for one in (*self._others, self._server):
            one.close()


def resolve(
    monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]
) -> list[object]:
    """Let `registry.example` have these addresses; return those that are tried."""
    tried: list[object] = []
    usual = socket.getaddrinfo

    def look_up(host: str, *rest: object) -> object:
        if host != "registry.example":
            return usual(host, *rest)  # type: ignore[arg-type]  # as it was called
        return [
            (socket.AF_INET6 if ":" in one[0] else socket.AF_INET, 1, 6, "", one)
            for one in addresses
        ]

    class Noting(socket.socket):
        def connect(self, address: object) -> None:
            tried.append(address)
            super().connect(address)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "socket", Noting)
    return tried


def test_name_with_thousands_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """None takes a connection; nothing of the call outlives it."""
    silent = Silent()
    addresses = [(f"127.0.0.{1 + n % 250}", silent.port) for n in range(4000)]
    addresses = [("127.0.0.1", silent.port)] * 4000 + addresses
    network = Network(connect_timeout=0.4, response_timeout=1, tries=2, longest_delay=0)
    source = HttpSource.of(f"http://registry.example:{silent.port}", network=network)
    tried = resolve(monkeypatch, *addresses)
    before, began = threading.active_count(), time.monotonic()
    with pytest.raises(FetchError):
        metadata(source)
    assert time.monotonic() - began < 4
    assert len(tried) <= 16
    # A thread of the line may wait for the next one.
    assert threading.active_count() <= before + 1
    silent.close()


def test_call_that_is_cut_while_it_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Silent()
    network = Network(connect_timeout=30, response_timeout=0.3, tries=1)
    source = HttpSource.of(f"http://registry.example:{silent.port}", network=network)
    tried = resolve(monkeypatch, *[("127.0.0.1", silent.port)] * 2)
    before, began = threading.active_count(), time.monotonic()
    with pytest.raises(FetchError, match="did not answer within 0"):
        metadata(source)
    assert time.monotonic() - began < 3
    assert len(tried) == 1
    assert threading.active_count() <= before
    silent.close()


def test_second_address_of_a_name(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    """The families take turns: many addresses of one don't hide the other's."""
    liar.serves(TIMESTAMP, b"{}")
    source = HttpSource.of(f"http://registry.example:{liar.server_port}", network=QUICK)
    broken = [("::1", n) for n in range(1, 30)]
    tried = resolve(monkeypatch, *broken, ("127.0.0.1", liar.server_port))
    assert metadata(source) == b"{}"
    assert tried == [broken[0], ("127.0.0.1", liar.server_port)]


def test_name_without_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    source = HttpSource.of("http://registry.example", network=Network(tries=1))
    resolve(monkeypatch)
    with pytest.raises(FetchError, match="the name has no address"):
        metadata(source)
    for host in ("a..example", "a" * 64 + ".example"):
        source = HttpSource.of(f"http://{host}", network=Network(tries=1))
        with pytest.raises(FetchError, match="can't reach"):
            metadata(source)
