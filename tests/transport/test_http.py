from __future__ import annotations

import contextlib
import gc
import os
import socket
import subprocess
import sys
import threading
import warnings
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import (
    FetchError,
    FormatError,
    LengthMismatchError,
    TooLargeError,
    TooSlowError,
)
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.names import TargetPath
from margo_supplychain.storage.content_store import ContentStore
from margo_supplychain.transport import attempts, line
from margo_supplychain.transport.http import HttpSource
from margo_supplychain.transport.network import Network
from margo_supplychain.version import __version__
from tests.transport.liar import Liar, statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.transport.liar import Conversation

DATA = bytes(range(256)) * 40
WHAT = Descriptor.of(DATA, "application/octet-stream")
BLOB = f"/blobs/sha256/{WHAT.digest.hex}"
TIMESTAMP = "/metadata/timestamp.json"
# No pauses between tries, and short patience.
QUICK = Network(
    connect_timeout=5, read_timeout=0.2, response_timeout=5, tries=3, longest_delay=0
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
def source(liar: Liar) -> HttpSource:
    return HttpSource.of(liar.url, network=QUICK)


class FakeTime:
    """Notes sleeps instead of sleeping; its clock may jump at each look."""

    def __init__(self, step: float = 0) -> None:
        self.now = 0.0
        self.step = step
        self.slept: list[float] = []

    def monotonic(self) -> float:
        self.now += self.step
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(attempts, "time", fake)
    return fake


def read(source: HttpSource, *, start: int = 0) -> bytes:
    with source.blob(WHAT, start=start) as file:
        return file.read()


def timestamp(source: HttpSource, *, limit: int = 100) -> bytes:
    return source.metadata("timestamp.json", limit=limit)


def from_byte(talk: Conversation) -> int:
    return int(talk.headers["Range"].removeprefix("bytes=").removesuffix("-"))


def honest(talk: Conversation) -> None:
    if "Range" not in talk.headers:
        talk.say(200, DATA)
        return
    start = from_byte(talk)
    told = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
    talk.say(206, DATA[start:], Content_Range=told)


def breaks_after(count: int) -> Callable[[Conversation], None]:
    def answer(talk: Conversation) -> None:
        talk.say(200, DATA[:count], Content_Length=str(len(DATA)))
        talk.hang_up()

    return answer


# --- names and headers ---------------------------------------------------------------


def test_each_kind_of_file(liar: Liar, source: HttpSource) -> None:
    liar.serves("/metadata/3.root.json", b"root")
    liar.serves("/metadata/1.a%2Fb%20c.json", b"role")
    liar.serves(f"/targets/a%20b/c%23/{WHAT.digest.hex}.d%3F%C3%A9%25+", DATA)
    liar.serves(BLOB, DATA)
    assert source.metadata("3.root.json", limit=4) == b"root"
    assert source.metadata("1.a%2Fb%20c.json", limit=4) == b"role"
    with source.target(TargetPath("a b/c#/d?é%+"), WHAT) as file:
        assert file.read() == DATA
    assert read(source) == DATA


def test_request_headers(liar: Liar, source: HttpSource) -> None:
    liar.answers_with(
        TIMESTAMP, lambda talk: talk.say(200, b"{}", Set_Cookie="id=1; Path=/")
    )
    timestamp(source)
    timestamp(source)
    for _, headers in liar.requests:
        assert headers["Accept-Encoding"] == "identity"
        assert headers["User-Agent"] == f"margo-supplychain/{__version__}"
        assert not {"Range", "Cookie", "Authorization"} & set(headers)


def test_one_connection_serves_many_files(liar: Liar, source: HttpSource) -> None:
    connections = set()

    def answer(talk: Conversation) -> None:
        connections.add(talk.client_address)
        talk.say(200, DATA)

    liar.answers_with(TIMESTAMP, answer)
    liar.answers_with(BLOB, answer)
    for _ in range(3):
        timestamp(source, limit=len(DATA))
        read(source)
    assert len(connections) == 1


@pytest.mark.parametrize(
    "name",
    ["../1.root.json", "a/b.json", ".json", "root", "1.\n.json", "a\\b.json", ""],
)
def test_metadata_names_stay_in_their_place(
    liar: Liar, source: HttpSource, name: str
) -> None:
    with pytest.raises(FetchError, match="is not a file name") as caught:
        source.metadata(name, limit=100)
    assert not caught.value.missing
    assert liar.requests == []


@pytest.mark.parametrize("path", ["../x", "a/../b", "/a", "a//b", "a/.", "", "\ud800"])
def test_target_paths_stay_in_their_place(
    liar: Liar, source: HttpSource, path: str
) -> None:
    with pytest.raises(FetchError, match="is not relative"):
        source.target(TargetPath(path), WHAT)
    with pytest.raises(FetchError, match="is not relative"):
        source.plain_target(TargetPath(path), WHAT)
    assert liar.requests == []


def test_target_without_consistent_snapshots(liar: Liar, source: HttpSource) -> None:
    liar.serves("/targets/a/b%20c", DATA)
    with source.plain_target(TargetPath("a/b c"), WHAT) as file:
        assert file.read() == DATA


# --- answers -------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 410])
def test_absent(liar: Liar, source: HttpSource, status: int) -> None:
    liar.answers_with(TIMESTAMP, *statuses(status))
    with pytest.raises(FetchError, match=r"timestamp.json does not exist") as caught:
        timestamp(source)
    assert caught.value.facts() == {
        "url": f"{liar.url}metadata/timestamp.json",
        "status": status,
        "missing": True,
        "unreachable": False,
    }
    assert len(liar.requests) == 1


@pytest.mark.parametrize("status", [204, 206, 300, 304, 400, 401, 403, 405, 418, 501])
def test_refused_is_not_absent(liar: Liar, source: HttpSource, status: int) -> None:
    liar.answers_with(TIMESTAMP, *statuses(status))
    with pytest.raises(FetchError) as caught:
        timestamp(source)
    assert caught.value.status == status
    assert not caught.value.missing
    assert not caught.value.unreachable
    assert len(liar.requests) == 1
    assert ("bucket" in str(caught.value.hint)) == (status == 403)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_later_is_tried_again(liar: Liar, source: HttpSource, status: int) -> None:
    liar.answers_with(
        TIMESTAMP, *statuses(status, status), lambda talk: talk.say(200, b"{}")
    )
    assert timestamp(source) == b"{}"
    assert len(liar.requests) == 3


def test_tries_are_bounded(liar: Liar, source: HttpSource) -> None:
    liar.answers_with(TIMESTAMP, *statuses(503))
    with pytest.raises(FetchError, match="answered 503") as caught:
        timestamp(source)
    assert caught.value.status == 503
    assert not caught.value.unreachable
    assert len(liar.requests) == QUICK.tries


def test_pauses_grow_with_jitter(liar: Liar, clock: FakeTime) -> None:
    liar.answers_with(TIMESTAMP, *statuses(503))
    with pytest.raises(FetchError):
        timestamp(HttpSource.of(liar.url, network=Network(tries=8)))
    assert len(clock.slept) == 7
    for number, pause in enumerate(clock.slept):
        longest = min(3.0, 0.25 * 2**number)
        assert longest / 2 <= pause <= longest


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"Retry_After": "7"}, 7),
        (
            {
                "Retry_After": "Wed, 21 Oct 2026 07:28:09 GMT",
                "Date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            9,
        ),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": "Thu, 01 Jan 2026 00:00:00 +99999999999999999999"}, None),
        ({"Retry_After": "Thu, 01 Jan 9999999999 00:00:00 GMT"}, None),
        ({"Retry_After": "-5"}, None),
    ],
)
def test_retry_after_is_honoured(
    liar: Liar, clock: FakeTime, headers: dict[str, str], pause: float | None
) -> None:
    def later(talk: Conversation) -> None:
        talk.send_response_only(429)
        for name, text in headers.items():
            talk.send_header(name.replace("_", "-"), text)
        talk.send_header("Content-Length", "0")
        talk.end_headers()

    liar.answers_with(TIMESTAMP, later, lambda talk: talk.say(200, b"{}"))
    assert timestamp(HttpSource.of(liar.url)) == b"{}"
    if pause is None:
        assert clock.slept[0] <= 0.25
    else:
        assert clock.slept == [pause]


def test_retry_after_too_long_is_the_end(liar: Liar, clock: FakeTime) -> None:
    liar.answers_with(TIMESTAMP, lambda talk: talk.say(503, Retry_After="86400"))
    with pytest.raises(FetchError, match="answered 503"):
        timestamp(HttpSource.of(liar.url))
    assert clock.slept == []
    assert len(liar.requests) == 1


@pytest.mark.parametrize(
    "encoding", ["gzip", "br", "deflate, gzip", "GZIP", "identity2"]
)
def test_encoded_body_is_refused(liar: Liar, source: HttpSource, encoding: str) -> None:
    liar.answers_with(
        TIMESTAMP, lambda talk: talk.say(200, b"{}", Content_Encoding=encoding)
    )
    with pytest.raises(FetchError, match="although identity was asked for"):
        timestamp(source)


@pytest.mark.parametrize("encoding", ["identity", "", "Identity"])
def test_identity_is_fine(liar: Liar, source: HttpSource, encoding: str) -> None:
    liar.answers_with(
        TIMESTAMP, lambda talk: talk.say(200, b"{}", Content_Encoding=encoding)
    )
    assert timestamp(source) == b"{}"


# --- sizes ---------------------------------------------------------------------------


def test_metadata_limit(liar: Liar, source: HttpSource) -> None:
    liar.serves(TIMESTAMP, b"12345")
    assert timestamp(source, limit=5) == b"12345"
    with pytest.raises(TooLargeError, match="larger than the limit of 4 bytes"):
        timestamp(source, limit=4)


def test_endless_metadata(liar: Liar, source: HttpSource) -> None:
    sent = []

    def endless(talk: Conversation) -> None:
        talk.say(200, Content_Length=None)
        while not talk.server.over.is_set():
            talk.wfile.write(b"x" * 65536)
            sent.append(65536)

    liar.answers_with(TIMESTAMP, endless)
    with pytest.raises(TooLargeError):
        timestamp(source, limit=1000)


def test_endless_chunks(liar: Liar, source: HttpSource) -> None:
    def endless(talk: Conversation) -> None:
        talk.say(200, Content_Length=None, Transfer_Encoding="chunked")
        while not talk.server.over.is_set():
            talk.wfile.write(b"4\r\nabcd\r\n")

    liar.answers_with(TIMESTAMP, endless)
    with pytest.raises(TooLargeError):
        timestamp(source, limit=1000)


def test_chunked_body(liar: Liar, source: HttpSource) -> None:
    def chunks(talk: Conversation) -> None:
        talk.say(200, Content_Length=None, Transfer_Encoding="chunked")
        talk.wfile.write(b"4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n")

    liar.answers_with(TIMESTAMP, chunks)
    assert timestamp(source) == b"abcdef"


def test_blob_that_goes_on(liar: Liar, source: HttpSource, tmp_path: Path) -> None:
    """One byte too many is the most that a reader gets, and enough to know."""
    liar.serves(BLOB, DATA + b"more and more")
    with source.blob(WHAT) as file:
        assert file.read(len(DATA) + 1) == DATA + b"m"
        assert file.read(0) == b""
        with pytest.raises(TooLargeError, match="goes on after its signed size"):
            file.read(1)
    with source.blob(WHAT) as file, pytest.raises(TooLargeError):
        file.read(len(DATA) + 100)
    store = ContentStore.create(tmp_path / "store")
    with source.blob(WHAT) as file, pytest.raises(LengthMismatchError):
        store.put(WHAT, file)


def test_read_waits_for_what_it_was_asked_for(liar: Liar, source: HttpSource) -> None:
    def pieces(talk: Conversation) -> None:
        talk.say(200, Content_Length=str(len(DATA)))
        for at in range(0, len(DATA), 1024):
            talk.wfile.write(DATA[at : at + 1024])

    liar.answers_with(BLOB, pieces)
    with source.blob(WHAT) as file:
        assert file.readable()
        assert file.read(5000) == DATA[:5000]
        assert file.read(9000) == DATA[5000:]
        assert file.read(5) == b""


def test_blob_that_is_short(liar: Liar, source: HttpSource, tmp_path: Path) -> None:
    liar.serves(BLOB, DATA[:-1])
    store = ContentStore.create(tmp_path / "store")
    with (
        source.blob(WHAT) as file,
        pytest.raises(LengthMismatchError, match="has 10239 bytes, expected 10240"),
    ):
        store.put(WHAT, file)
    assert len(liar.requests) == 1  # an honest answer: nothing to resume


@pytest.mark.parametrize("length", ["-1", "ten", "10, 20", "99999999999999999999999"])
def test_length_that_is_none(liar: Liar, source: HttpSource, length: str) -> None:
    def lie(talk: Conversation) -> None:
        talk.say(200, b"{}", Content_Length=length)
        talk.hang_up()

    liar.answers_with(TIMESTAMP, lie)
    with warnings.catch_warnings():
        # urllib3 forgets the response whose lengths contradict each other.
        warnings.simplefilter("ignore", ResourceWarning)
        with contextlib.suppress(FetchError):
            assert timestamp(source) == b"{}"
        gc.collect()


# --- broken and slow connections -----------------------------------------------------


def test_broken_transfer_is_resumed(liar: Liar, source: HttpSource) -> None:
    def part(talk: Conversation) -> None:
        start = from_byte(talk)
        told = f"bytes {start}-{len(DATA) - 1}/*"
        length = str(len(DATA) - start)
        talk.say(
            206, DATA[start : start + 3000], Content_Range=told, Content_Length=length
        )
        talk.hang_up()

    liar.answers_with(BLOB, breaks_after(1000), part, part, honest)
    assert read(source) == DATA
    ranges = [headers.get("Range") for _, headers in liar.requests]
    assert ranges == [None, "bytes=1000-", "bytes=4000-", "bytes=7000-"]


def test_resumed_from_a_server_without_ranges(liar: Liar, source: HttpSource) -> None:
    liar.answers_with(BLOB, breaks_after(1000), breaks_after(2000), breaks_after(10240))
    assert read(source) == DATA
    assert len(liar.requests) == 3


def test_transfer_without_progress_ends(liar: Liar, source: HttpSource) -> None:
    liar.answers_with(BLOB, breaks_after(1000), breaks_after(500))
    text = "broke off after 1000 bytes: the connection ended early"
    with pytest.raises(FetchError, match=text) as caught:
        read(source)
    assert not caught.value.unreachable
    assert len(liar.requests) == 1 + QUICK.tries - 1


def test_no_word_at_all(liar: Liar, source: HttpSource) -> None:
    liar.answers_with(TIMESTAMP, lambda talk: talk.hang_up())
    with pytest.raises(FetchError, match="can't reach http://127") as caught:
        timestamp(source)
    assert caught.value.unreachable
    assert not caught.value.missing
    assert len(liar.requests) == QUICK.tries


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    source = HttpSource.of(f"http://127.0.0.1:{port}", network=QUICK)
    with pytest.raises(FetchError) as caught:
        timestamp(source)
    said = str(caught.value)
    assert said == f"can't reach http://127.0.0.1:{port}: connection refused"
    assert caught.value.url.endswith("/metadata/timestamp.json")
    assert caught.value.unreachable


def test_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    source = HttpSource.of("https://updates.example.org", network=QUICK)
    text = "can't reach https://updates.example.org: name or service not known"
    with pytest.raises(FetchError, match=text):
        timestamp(source)


def test_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{port}")
    source = HttpSource.of("http://updates.example.org", network=QUICK)
    with pytest.raises(FetchError) as caught:
        timestamp(source)
    said = str(caught.value)
    assert said == "can't reach http://updates.example.org: connection refused"


@pytest.mark.parametrize(
    "rubbish", [b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0" * 99]
)
def test_not_a_web_server(liar: Liar, source: HttpSource, rubbish: bytes) -> None:
    def answer(talk: Conversation) -> None:
        talk.wfile.write(rubbish)
        talk.hang_up()

    liar.answers_with(TIMESTAMP, answer)
    with pytest.raises(FetchError, match="can't reach") as caught:
        timestamp(source)
    assert str(caught.value).endswith(": the answer is not HTTP")


def test_silent_server(liar: Liar, source: HttpSource) -> None:
    liar.answers_with(TIMESTAMP, lambda talk: talk.keep_waiting())
    with pytest.raises(TooSlowError, match="did not answer within") as caught:
        timestamp(source)
    assert caught.value.unreachable


def test_silent_after_headers(liar: Liar, source: HttpSource) -> None:
    def answer(talk: Conversation) -> None:
        talk.say(200, b"{", Content_Length="2")
        talk.keep_waiting()

    liar.answers_with(TIMESTAMP, answer)
    with pytest.raises(TooSlowError, match="broke off after 1 bytes") as caught:
        timestamp(source)
    assert not caught.value.unreachable


def test_dripping_headers(liar: Liar) -> None:
    """One byte now and then keeps every socket timeout from firing."""

    def answer(talk: Conversation) -> None:
        talk.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        talk.drip(b"y")

    liar.answers_with(TIMESTAMP, answer)
    network = Network(read_timeout=10, response_timeout=0.2, tries=1)
    with pytest.raises(TooSlowError, match="did not answer within") as caught:
        timestamp(HttpSource.of(liar.url, network=network))
    assert caught.value.unreachable


def test_dripping_handshake() -> None:
    """The same below TLS, before any header."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            peer, _ = server.accept()
            with peer:
                try:
                    peer.sendall(b"\x16\x03\x03\x40\x00")
                    while not over.wait(0.01):
                        peer.sendall(b"\x02")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        url = f"https://127.0.0.1:{server.getsockname()[1]}"
        network = Network(connect_timeout=10, response_timeout=0.2, tries=1)
        with pytest.raises(TooSlowError, match="did not answer within"):
            timestamp(HttpSource.of(url, network=network))
        over.set()
        thread.join()


def test_dripping_body(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "time", FakeTime(step=20))

    def answer(talk: Conversation) -> None:
        talk.say(200, Content_Length="1000000")
        talk.drip(b"y")

    liar.answers_with(BLOB, answer)
    with pytest.raises(TooSlowError, match=r"gave \d+ bytes in \d+ s, expected 1024"):
        read(HttpSource.of(liar.url))


def test_fast_enough(liar: Liar, clock: FakeTime) -> None:
    """Twenty seconds for each kilobyte, over many windows."""
    go = threading.Semaphore(0)

    def answer(talk: Conversation) -> None:
        talk.say(200, Content_Length=str(len(DATA)))
        for at in range(0, len(DATA), 1024):
            go.acquire(timeout=10)
            clock.now += 20
            talk.wfile.write(DATA[at : at + 1024])

    liar.answers_with(BLOB, answer)
    source = HttpSource.of(liar.url, network=Network(minimum_rate=20))
    with source.blob(WHAT) as file:
        for at in range(0, len(DATA), 1024):
            go.release()
            assert file.read(1024) == DATA[at : at + 1024]
        assert file.read(1) == b""


def test_deadline_of_one_file(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "time", FakeTime(step=20))
    liar.serves(BLOB, DATA)
    with pytest.raises(TooSlowError, match="took longer than 50 s"):
        read(HttpSource.of(liar.url, network=Network(deadline=50)))


@pytest.mark.parametrize(
    ("start", "again"),
    [
        # http.client reads all of these, from their first byte to their last, at once.
        (b"2\r\n{}\r\n0\r\n", b"X: y\r\n"),
        (b"2\r\n{}\r\n", b"0"),
        (b"2\r\n{}\r\n2;", b"x"),
        (b"2\r\n{}\r\n2\r\n{}", b"\r"),
    ],
    ids=["trailers", "size", "extension", "end of a chunk"],
)
@pytest.mark.parametrize("limit", ["rate_window", "deadline"])
def test_chunks_that_never_end(
    liar: Liar, start: bytes, again: bytes, limit: str
) -> None:
    """A server that never stops talking, and never gives one more byte of the file."""

    def answer(talk: Conversation) -> None:
        talk.say(200, Content_Length=None, Transfer_Encoding="chunked")
        talk.wfile.write(start)
        talk.drip(again)

    for path in (TIMESTAMP, BLOB):
        liar.answers_with(path, answer)
    network = Network(tries=1, **{limit: 0.3})  # type: ignore[arg-type]  # names are parametrised
    source = HttpSource.of(liar.url, network=network)
    text = "took longer than" if limit == "deadline" else "expected 1024 per second"
    for ask in (timestamp, read):
        with pytest.raises(TooSlowError, match=text) as caught:
            ask(source)
        assert not caught.value.unreachable


def test_endless_prelude(liar: Liar) -> None:
    """http.client skips all answers that say "continue"."""

    def answer(talk: Conversation) -> None:
        talk.drip(b"HTTP/1.1 100 Continue\r\n\r\n")

    liar.answers_with(TIMESTAMP, answer)
    network = Network(response_timeout=0.3, tries=2, longest_delay=0)
    with pytest.raises(TooSlowError, match="did not answer within") as caught:
        timestamp(HttpSource.of(liar.url, network=network))
    assert caught.value.unreachable
    assert len(liar.requests) == 2


def test_deadline_before_any_answer(liar: Liar) -> None:
    liar.answers_with(TIMESTAMP, lambda talk: talk.keep_waiting())
    with pytest.raises(TooSlowError, match=r"took longer than 0\.3 s") as caught:
        timestamp(HttpSource.of(liar.url, network=Network(deadline=0.3)))
    assert caught.value.unreachable


def test_look_up_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket is there to be cut: the thread is left behind, and does no harm."""
    over = threading.Event()
    gone = threading.Event()

    def hang(*_: object) -> None:
        over.wait()
        gone.set()
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(line, "_TO_LEAVE", 0.05)
    network = Network(response_timeout=0.2, tries=1)
    source = HttpSource.of("http://updates.example.org", network=network)
    with pytest.raises(TooSlowError, match="did not answer within") as caught:
        timestamp(source)
    assert caught.value.unreachable
    over.set()
    assert gone.wait(10)


def test_one_byte_per_connection(liar: Liar) -> None:
    """Each attempt gives a byte, and each is as slow as is borne."""

    def answer(talk: Conversation) -> None:
        start = from_byte(talk) if "Range" in talk.headers else 0
        talk.server.over.wait(0.1)
        told = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
        talk.say(
            206 if start else 200,
            DATA[start : start + 1],
            Content_Range=told,
            Content_Length=str(len(DATA) - start),
        )
        talk.hang_up()

    liar.answers_with(BLOB, answer)
    with pytest.raises(FetchError, match="broke off after 3 bytes"):
        read(HttpSource.of(liar.url, network=QUICK))
    assert len(liar.requests) == QUICK.tries
    # Without a bound of the tries, the rate is one.
    network = Network(tries=10_000, longest_delay=0, rate_window=0.5)
    with pytest.raises(TooSlowError, match="expected 1024 per second"):
        read(HttpSource.of(liar.url, network=network))


# --- who waits may be stopped --------------------------------------------------------


class StopError(Exception):
    """What a caller raises to end a call."""


class Patience:
    """Is asked while something is waited for, and has enough at some time."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.sizes: list[int] = []

    def __call__(self, size: int) -> None:
        self.sizes.append(size)
        self.left -= 1
        if self.left < 0:
            raise StopError


def test_tick_hears_of_each_piece(liar: Liar, source: HttpSource) -> None:
    liar.serves(TIMESTAMP, DATA)
    heard: list[int] = []
    data = source.metadata("timestamp.json", limit=len(DATA), tick=heard.append)
    assert data == DATA
    assert sum(heard) == len(DATA)


@pytest.mark.parametrize("times", [0, 1, 2])
def test_stopped_while_waiting(
    liar: Liar, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Far below a second here; neither time-out nor deadline comes into it."""
    monkeypatch.setattr(attempts, "_LOOK", 0.01)

    def silent(talk: Conversation) -> None:
        talk.keep_waiting()

    def half(talk: Conversation) -> None:
        talk.say(200, b"{", Content_Length="2")
        talk.keep_waiting()

    def later(talk: Conversation) -> None:
        talk.say(503, Retry_After="20")

    source = HttpSource.of(liar.url)
    target = TargetPath("a/b")
    for answer in (silent, half, later):
        for path in (TIMESTAMP, BLOB, f"/targets/a/{WHAT.digest.hex}.b"):
            liar.answers_with(path, answer)
        with pytest.raises(StopError):
            source.metadata("timestamp.json", limit=100, tick=Patience(times))
        with pytest.raises(StopError), source.blob(WHAT, tick=Patience(times)) as file:
            file.read()
        tick = Patience(times)
        with pytest.raises(StopError), source.target(target, WHAT, tick=tick) as file:
            file.read()
        assert tick.sizes == [0] * (times + 1)
    liar.serves(TIMESTAMP, b"{}")
    assert timestamp(source) == b"{}"  # the source is as good as new


def test_tick_may_raise_what_connections_raise(liar: Liar, source: HttpSource) -> None:
    """It is the caller's word, not one more broken connection."""
    liar.answers_with(TIMESTAMP, lambda talk: talk.keep_waiting())

    def stop(size: int) -> None:
        raise TimeoutError(f"after {size} bytes")

    with pytest.raises(TimeoutError, match="after 0 bytes"):
        source.metadata("timestamp.json", limit=100, tick=stop)
    assert len(liar.requests) <= 1


def test_no_pause_beyond_the_deadline(liar: Liar, clock: FakeTime) -> None:
    liar.answers_with(TIMESTAMP, lambda talk: talk.say(503, Retry_After="20"))
    with pytest.raises(FetchError, match="answered 503"):
        timestamp(HttpSource.of(liar.url, network=Network(deadline=50)))
    assert clock.slept == [20, 20]


# --- ranges --------------------------------------------------------------------------


def test_from_the_middle(liar: Liar, source: HttpSource) -> None:
    liar.answers_with(BLOB, honest)
    assert read(source, start=5000) == DATA[5000:]
    assert liar.requests[0][1]["Range"] == "bytes=5000-"


def test_from_the_middle_without_ranges(liar: Liar, source: HttpSource) -> None:
    liar.serves(BLOB, DATA)
    assert read(source, start=5000) == DATA[5000:]


def test_from_beyond_a_shorter_file(liar: Liar, source: HttpSource) -> None:
    liar.serves(BLOB, DATA[:100])
    with pytest.raises(FetchError, match="has fewer than 5000 bytes"):
        read(source, start=5000)
    liar.answers_with(BLOB, *statuses(416))
    with pytest.raises(FetchError, match="has fewer than 5000 bytes") as caught:
        read(source, start=5000)
    assert caught.value.status == 416


def test_from_the_end_asks_nothing(liar: Liar, source: HttpSource) -> None:
    assert read(source, start=WHAT.size) == b""
    assert liar.requests == []


@pytest.mark.parametrize(
    "told",
    [
        "bytes 0-10239/10240",
        "bytes 4999-10239/10240",
        "bytes 5001-10239/10240",
        "bytes */10240",
        "items 5000-10239/10240",
        "bytes 5000-",
        "",
        None,
    ],
)
def test_wrong_part(liar: Liar, source: HttpSource, told: str | None) -> None:
    liar.answers_with(BLOB, lambda talk: talk.say(206, DATA[5000:], Content_Range=told))
    with pytest.raises(FetchError, match="came in part, but not from byte 5000"):
        read(source, start=5000)


def test_part_that_nobody_asked_for(liar: Liar, source: HttpSource) -> None:
    told = f"bytes 0-{len(DATA) - 1}/{len(DATA)}"
    liar.answers_with(BLOB, lambda talk: talk.say(206, DATA, Content_Range=told))
    with pytest.raises(FetchError, match="came in part"):
        read(source)


# --- redirects -----------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(liar: Liar, source: HttpSource, status: int) -> None:
    liar.answers_with(TIMESTAMP, lambda talk: talk.say(status, Location="/b?x=1#y"))
    liar.answers_with("/b?x=1", lambda talk: talk.say(status, Location=f"{liar.url}c"))
    liar.serves("/c", b"{}")
    assert timestamp(source) == b"{}"
    assert liar.paths == [TIMESTAMP, "/b?x=1", "/c"]


def test_redirected_range(liar: Liar, source: HttpSource) -> None:
    liar.answers_with(BLOB, lambda talk: talk.say(307, Location="/elsewhere"))
    liar.answers_with("/elsewhere", honest)
    assert read(source, start=5000) == DATA[5000:]


def test_redirect_loop(liar: Liar, source: HttpSource) -> None:
    liar.answers_with(TIMESTAMP, lambda talk: talk.say(302, Location=TIMESTAMP))
    with pytest.raises(FetchError, match="redirects more than 5 times"):
        timestamp(source)
    assert len(liar.requests) == 6


@pytest.mark.parametrize(
    "location",
    [
        None,
        "",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "http://user:secret@127.0.0.1/x",
        "http://[::1/x",
        "http://127.0.0.1:99999/x",
        "http://127.0.0.1:x/x",
    ],
)
def test_redirect_that_is_not_followed(
    liar: Liar, source: HttpSource, location: str | None
) -> None:
    liar.answers_with(TIMESTAMP, lambda talk: talk.say(302, Location=location))
    with pytest.raises(FetchError, match="redirects to") as caught:
        timestamp(source)
    assert "secret" not in str(caught.value)
    assert len(liar.requests) == 1


def test_redirect_target_is_absent(liar: Liar, source: HttpSource) -> None:
    """The error names what was asked for: a target URL may hold a signature."""
    liar.answers_with(TIMESTAMP, lambda talk: talk.say(302, Location="/x?sig=secret"))
    with pytest.raises(FetchError, match=r"timestamp.json does not exist") as caught:
        timestamp(source)
    assert caught.value.missing
    assert "secret" not in f"{caught.value} {caught.value.url}"


# --- URLs ----------------------------------------------------------------------------


def test_url() -> None:
    source = HttpSource.of("https://updates.example.org/acme")
    assert source.url == "https://updates.example.org/acme/"
    plain = HttpSource("https://a.example/m/", "https://b.example/t")
    assert plain.url == "https://a.example/m/"
    with pytest.raises(FetchError, match="has no content") as caught:
        plain.blob(WHAT)
    assert caught.value.missing


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ftp://example.org", "is not http"),
        ("https:///path", "is not http"),
        ("https://example.org:0", "is not http"),
        ("https://example.org:99999", "a URL is not one"),
        ("https://[::1", "a URL is not one"),
        ("https://me:secret@example.org/", "of example.org holds credentials"),
        ("https://example.org/?token=secret", "has a query"),
        ("https://example.org/#x", "has a query"),
        ("https://example.org/a b", "a blank"),
        ("https://example.org/a\u200b", "a blank"),
    ],
)
def test_url_that_is_refused(url: str, text: str) -> None:
    with pytest.raises(FormatError, match=text) as caught:
        HttpSource("https://example.org", url)
    assert "secret" not in str(caught.value)
    with pytest.raises(FormatError, match=text):
        HttpSource.of(url)


def test_threads_share_a_source(liar: Liar, source: HttpSource) -> None:
    liar.serves(BLOB, DATA)
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(read(source))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [DATA] * 8


def test_making_a_source_imports_no_http() -> None:
    code = (
        "import sys\n"
        "from margo_supplychain.transport.opening import open_source\n"
        "open_source('https://updates.example.org')\n"
        "bad = {'urllib3', 'http.client', 'yaml', 'ssl'} & set(sys.modules)\n"
        "sys.exit(' '.join(bad) or None)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
