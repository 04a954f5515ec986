"""Bodies that are read below urllib3, and the seams that this needs."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import threading
from http.client import HTTPConnection, HTTPResponse
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from urllib3.connection import HTTPConnection as UrllibConnection

from margo_supplychain.errors import FetchError, TooSlowError
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.storage.receive import BUFFER, check_stream
from margo_supplychain.transport import line as line_module
from margo_supplychain.transport.bounded import BoundedStream
from margo_supplychain.transport.connections import Connections
from margo_supplychain.transport.direct import Direct
from margo_supplychain.transport.network import Network
from margo_supplychain.transport.request import Request
from margo_supplychain.transport.transfer import Transfer
from margo_supplychain.transport.wire import Heard
from tests.transport.liar import Liar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.transport.liar import Conversation

DATA = os.urandom(3 << 20) + b"end"
WHAT = Descriptor.of(DATA, "application/octet-stream")
QUICK = Network(
    connect_timeout=5, read_timeout=0.5, response_timeout=5, tries=3, longest_delay=0
)


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
def connections() -> Connections:
    return Connections(QUICK)


def opened(liar: Liar, connections: Connections, network: Network = QUICK) -> Transfer:
    url = f"{liar.url}x"
    return Transfer(connections, url, network=network, start=0, size=len(DATA))


def read(transfer: Transfer, *, most: int = BUFFER, size: int = len(DATA)) -> bytes:
    found = bytearray()
    buffer = memoryview(bytearray(most))
    try:
        while count := transfer.read_into(buffer):
            found += buffer[:count]
            assert len(found) <= size
    finally:
        transfer.close()
    return bytes(found)


def honest(talk: Conversation) -> None:
    talk.say(200, DATA)


def with_its_headers(talk: Conversation) -> None:
    """Head and body in one write: http.client reads of both."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DATA)
    talk.wfile.write(head + DATA)


def closes(talk: Conversation) -> None:
    talk.say(200, DATA, Connection="close")
    talk.hang_up()


def of_old(talk: Conversation) -> None:
    head = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DATA)
    talk.wfile.write(head + DATA)
    talk.hang_up()


def without_length(talk: Conversation) -> None:
    talk.say(200, DATA, Content_Length=None)
    talk.hang_up()


def in_chunks(talk: Conversation) -> None:
    talk.say(200, Content_Length=None, Transfer_Encoding="chunked")
    for at in range(0, len(DATA), 1_000_000):
        piece = DATA[at : at + 1_000_000]
        talk.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    talk.wfile.write(b"0\r\n\r\n")


# --- what comes is what was sent -----------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [honest, with_its_headers, closes, of_old, without_length, in_chunks],
)
@pytest.mark.parametrize("most", [1000, 8191, 8192, 8193, BUFFER, 1 << 23])
def test_every_way_gives_the_same_bytes(
    liar: Liar,
    connections: Connections,
    answer: Callable[[Conversation], None],
    most: int,
) -> None:
    liar.answers_with("/x", answer)
    for _ in range(2):
        assert read(opened(liar, connections), most=most) == DATA


@pytest.mark.parametrize("answer", [honest, with_its_headers, in_chunks])
def test_connection_is_used_again(
    liar: Liar, connections: Connections, answer: Callable[[Conversation], None]
) -> None:
    liar.answers_with("/x", answer)
    for _ in range(5):
        assert read(opened(liar, connections)) == DATA
    liar.answers_with("/x", lambda talk: talk.say(200))
    for _ in range(3):
        assert read(opened(liar, connections)) == b""
    assert len(liar.connections) == 1


def test_connection_with_an_unread_rest_is_not(
    liar: Liar, connections: Connections
) -> None:
    liar.answers_with("/x", honest)
    for _ in range(3):
        transfer = opened(liar, connections)
        transfer.read_into(memoryview(bytearray(1000)))
        transfer.close()
    assert len(liar.connections) == 3


def test_empty_buffer_asks_nothing(liar: Liar, connections: Connections) -> None:
    assert opened(liar, connections).read_into(memoryview(b"")) == 0
    assert liar.requests == []


def test_verified_download(liar: Liar, connections: Connections) -> None:
    """As the content store reads it, piece by piece into one buffer."""
    liar.answers_with("/x", honest)
    sizes: list[int] = []
    transfer = opened(liar, connections)
    stream = BoundedStream(transfer.read_into, left=WHAT.size, url="x")
    check_stream(WHAT, stream.as_binary(), subject="x", tick=sizes.append)
    transfer.close()
    assert sum(sizes) == WHAT.size


@pytest.mark.parametrize("answer", [honest, with_its_headers, in_chunks])
def test_broken_and_resumed_from_the_beginning(
    liar: Liar, connections: Connections, answer: Callable[[Conversation], None]
) -> None:
    """A server without ranges: what was there already is read over."""

    def part(talk: Conversation) -> None:
        talk.say(200, DATA[:1_500_000], Content_Length=str(len(DATA)))
        talk.hang_up()

    liar.answers_with("/x", part, answer)
    assert read(opened(liar, connections)) == DATA


# --- nobody else writes into the reader's buffer -------------------------------------


def test_no_other_thread_writes_into_the_buffer(
    liar: Liar, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that were hashed don't change: whoever is stuck has memory of his own.

    A line reads a piece, is cut and does not leave; the transfer goes on, and then the
    stuck thread's read comes back after all.
    """
    monkeypatch.setattr(line_module, "_TO_LEAVE", 0.05)
    go, late = threading.Event(), threading.Event()
    true_read1 = urllib3.HTTPResponse.read1
    readers: list[int] = []

    def slow(self: Any, amt: int | None = None, **options: Any) -> bytes:
        readers.append(threading.get_ident())
        if len(readers) == 1:
            data = true_read1(self, amt, **options)
            go.wait(10)
            late.set()
            return b"\xff" * len(data)
        return true_read1(self, amt, **options)

    monkeypatch.setattr(urllib3.HTTPResponse, "read1", slow)
    liar.answers_with("/x", in_chunks)
    # The line is stuck for longer than a slow stretch is borne: that ends it all.
    network = Network(rate_window=0.2, tries=3, longest_delay=0)
    transfer = Transfer(Connections(network), f"{liar.url}x", network=network, start=0)
    buffer = memoryview(bytearray(BUFFER))
    with pytest.raises(TooSlowError, match="expected 1024 per second"):
        transfer.read_into(buffer)
    transfer.close()
    fresh = opened(liar, connections)
    count = fresh.read_into(buffer)
    before = hashlib.sha256(buffer[:count]).digest()
    go.set()
    assert late.wait(10)
    assert hashlib.sha256(buffer[:count]).digest() == before
    assert bytes(buffer[:count]) == DATA[:count]
    fresh.close()


def test_owner_reads_what_has_a_length(liar: Liar, connections: Connections) -> None:
    """The other half of that promise."""
    readers: set[int] = set()
    liar.answers_with("/x", honest)
    response = connections.send(Request("GET", f"{liar.url}x"), look=lambda: 1.0)
    wire = response._direct._wire if response._direct is not None else None
    assert wire is not None

    class Watched:
        def __getattr__(self, name: str) -> Any:
            readers.add(threading.get_ident())
            return getattr(wire, name)

    assert response._direct is not None
    response._direct._wire = Watched()  # type: ignore[assignment]  # it does what a socket does
    buffer = memoryview(bytearray(BUFFER))
    while response.read_into(buffer, look=lambda: 1.0):
        pass
    response.close()
    assert readers == {threading.get_ident()}


# --- waits end -----------------------------------------------------------------------


def test_short_body(liar: Liar, connections: Connections) -> None:
    def short(talk: Conversation) -> None:
        talk.say(200, DATA[:100], Content_Length="101")
        talk.hang_up()

    liar.answers_with("/x", short)
    with pytest.raises(FetchError, match="after 100 bytes: the connection ended early"):
        read(opened(liar, connections))


def test_reset_in_the_middle(liar: Liar, connections: Connections) -> None:
    def reset(talk: Conversation) -> None:
        talk.say(200, DATA[:100_000], Content_Length=str(len(DATA)))
        talk.server.over.wait(0.1)
        no_goodbye = b"\x01\0\0\0\0\0\0\0"
        talk.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_goodbye)
        talk.connection.close()
        talk.close_connection = True

    liar.answers_with("/x", reset)
    with pytest.raises(FetchError, match="after 100000 bytes: connection reset"):
        read(opened(liar, connections))


def test_look_is_called_while_nothing_comes(
    liar: Liar, connections: Connections
) -> None:
    liar.answers_with("/x", lambda talk: talk.say(200, b"x", Content_Length="2"))
    response = connections.send(Request("GET", f"{liar.url}x"), look=lambda: 1.0)
    buffer = memoryview(bytearray(10))
    assert response.read_into(buffer, look=lambda: 1.0) == 1
    looks: list[None] = []

    def look() -> float:
        looks.append(None)
        if len(looks) == 5:
            raise KeyError
        return -1.0

    with pytest.raises(KeyError):
        response.read_into(buffer, look=look)
    response.close()


# --- seams ---------------------------------------------------------------------------


def test_http_client_makes_the_answers_that_it_is_told_to() -> None:
    assert HTTPConnection.response_class is HTTPResponse
    assert issubclass(UrllibConnection, HTTPConnection)
    # urllib3 leaves it at that.
    assert "response_class" not in vars(UrllibConnection)


def test_urllib3_shows_the_answer_below(liar: Liar, connections: Connections) -> None:
    """Without that, bodies would still come, but the longer way."""
    liar.answers_with("/x", honest)
    response = connections.send(Request("GET", f"{liar.url}x"), look=lambda: 1.0)
    below = response._response
    assert isinstance(below._original_response, Heard)  # type: ignore[attr-defined]  # the seam
    assert isinstance(below._original_response.fp, io.BufferedReader)  # type: ignore[attr-defined]  # the seam
    assert isinstance(response._direct, Direct)
    assert below.length_remaining == len(DATA)
    assert response._line is None
    response.close()


def test_without_the_seam_bodies_come_the_longer_way(
    liar: Liar, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any, **__: Any) -> None:
        return

    monkeypatch.setattr(Direct, "of", none)
    for answer in (honest, with_its_headers, closes, of_old):
        liar.answers_with("/x", answer)
        assert read(opened(liar, connections)) == DATA


def test_read1_gives_first_what_is_buffered() -> None:
    """What `Direct` relies on to know that nothing is left above the socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as file:
        theirs.sendall(b"line\n" + b"b" * 1000)
        assert file.readline() == b"line\n"
        theirs.sendall(b"s" * 10)
        ours.settimeout(0)
        assert file.read1(io.DEFAULT_BUFFER_SIZE) == b"b" * 1000
        assert ours.recv(100) == b"s" * 10
        assert not file.read1(io.DEFAULT_BUFFER_SIZE)
