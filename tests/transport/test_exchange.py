"""One question and its whole answer: what is sent, sent again, shown and believed."""

from __future__ import annotations

import io
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import (
    FetchError,
    StorageError,
    TooLargeError,
    TooSlowError,
)
from margo_supplychain.transport import attempts, line
from margo_supplychain.transport.connections import Connections
from margo_supplychain.transport.exchange import (
    ANONYMOUS,
    Answer,
    Body,
    Request,
    exchange,
)
from margo_supplychain.transport.network import Network, RegistryAccess
from margo_supplychain.transport.transfer import Transfer
from tests.transport.liar import Liar, statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.transport.liar import Conversation

QUICK = Network(
    connect_timeout=5, read_timeout=0.5, response_timeout=5, tries=3, longest_delay=0
)
BIG = os.urandom(1 << 20) * 8


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
def other() -> Iterator[Liar]:
    """Another origin."""
    with Liar() as server:
        yield server


def ask(
    liar: Liar,
    method: str = "GET",
    path: str = "/x",
    body: bytes | Body | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    network: Network = QUICK,
    limit: int = 1000,
    **options: Any,
) -> Answer:
    url = liar.url.rstrip("/") + path
    request = Request(method, url, headers or {}, body)
    connections = Connections(network)
    return exchange(connections, request, network=network, limit=limit, **options)


class Token:
    """A caller with a token for one origin, which may be renewed."""

    def __init__(self, server: Liar, *tokens: str) -> None:
        self.origin = server.url
        self.tokens = list(tokens)
        self.challenges: list[tuple[str, int, str]] = []

    def headers(self, url: str) -> Mapping[str, str]:
        if not url.startswith(self.origin) or not self.tokens:
            return {}
        return {"Authorization": f"Bearer {self.tokens[0]}"}

    def challenged(self, url: str, status: int, headers: Mapping[str, str]) -> bool:
        self.challenges.append((url, status, headers.get("www-authenticate", "")))
        if url.startswith(self.origin) and len(self.tokens) > 1:
            del self.tokens[0]
            return True
        return False


def guarded(token: str, then: Callable[[Conversation], None]) -> Any:
    def answer(talk: Conversation) -> None:
        if talk.headers.get("Authorization") == f"Bearer {token}":
            then(talk)
            return
        if "Content-Length" in talk.headers:
            talk.body()
        talk.say(401, b"{}", WWW_Authenticate='Bearer realm="x"')

    return answer


def kept(bodies: list[bytes]) -> Callable[[Conversation], None]:
    def answer(talk: Conversation) -> None:
        bodies.append(talk.body())
        talk.say(201, b"", Location="/made")

    return answer


def reads_and_hangs_up(talk: Conversation) -> None:
    talk.body()
    talk.hang_up()


def reads_and_waits(talk: Conversation) -> None:
    talk.body()
    talk.keep_waiting()


# --- answers -------------------------------------------------------------------------


def test_answer(liar: Liar) -> None:
    liar.answers_with("/x", lambda talk: talk.say(200, b"{}", Content_Type="a/b"))
    answer = ask(liar, headers={"Accept": "a/b"})
    assert (answer.status, answer.body) == (200, b"{}")
    assert answer.headers["content-TYPE"] == "a/b"
    assert answer.url == f"{liar.url}x"
    assert liar.requests[0][1]["Accept"] == "a/b"
    assert liar.requests[0][1]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("status", [201, 202, 304, 400, 401, 403, 404, 405, 416, 501])
def test_every_status_is_an_answer(liar: Liar, status: int) -> None:
    liar.answers_with("/x", *statuses(status))
    assert ask(liar).status == status
    assert len(liar.requests) == 1


def test_head_has_no_body(liar: Liar) -> None:
    liar.answers_with("/x", lambda talk: talk.say(200, Content_Length="4000000000"))
    connections = Connections(QUICK)
    for _ in range(3):
        request = Request("HEAD", f"{liar.url}x")
        answer = exchange(connections, request, network=QUICK, limit=10)
        assert answer.body == b""
        assert answer.headers["Content-Length"] == "4000000000"
    assert len(liar.connections) == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_limit(liar: Liar, chunked: bool) -> None:
    def answer(talk: Conversation) -> None:
        if not chunked:
            talk.say(200, b"x" * 1000)
            return
        talk.say(200, Content_Length=None, Transfer_Encoding="chunked")
        for _ in range(10):
            talk.wfile.write(b"64\r\n" + b"x" * 100 + b"\r\n")
        talk.wfile.write(b"0\r\n\r\n")

    liar.answers_with("/x", answer)
    assert ask(liar, limit=1000).body == b"x" * 1000
    with pytest.raises(TooLargeError, match=r"/x answered more than 999 bytes"):
        ask(liar, limit=999)


@pytest.mark.parametrize("length", [None, "100000000"])
def test_what_an_error_says_is_bounded(liar: Liar, length: str | None) -> None:
    def endless(talk: Conversation) -> None:
        talk.say(404, Content_Length=length)
        talk.close_connection = True
        while not talk.server.over.is_set():
            talk.wfile.write(b"no such thing. " * 100)

    liar.answers_with("/x", endless)
    answer = ask(liar, limit=10)
    assert answer.status == 404
    assert len(answer.body) == 1 << 16


def test_encoded_answer(liar: Liar) -> None:
    def encoded(status: int) -> Callable[[Conversation], None]:
        return lambda talk: talk.say(status, b"{}", Content_Encoding="gzip")

    liar.answers_with("/x", encoded(200))
    with pytest.raises(FetchError, match="although identity was asked for"):
        ask(liar)
    liar.answers_with("/x", encoded(404))
    assert ask(liar).status == 404


def test_answer_that_breaks_off(liar: Liar) -> None:
    def part(talk: Conversation) -> None:
        if "Content-Length" in talk.headers:
            talk.body()
        talk.say(200, b"{", Content_Length="2")
        talk.hang_up()

    liar.answers_with("/x", part, lambda talk: talk.say(200, b"{}"))
    assert ask(liar).body == b"{}"
    liar.answers_with("/x", part)
    with pytest.raises(FetchError, match="broke off in its answer") as caught:
        ask(liar)
    assert not caught.value.unreachable
    assert len(liar.requests) == 2 + QUICK.tries
    liar.requests.clear()
    with pytest.raises(FetchError, match="broke off in its answer"):
        ask(liar, "POST", body=b"{}")
    assert len(liar.requests) == 1


def test_tick_hears_of_what_goes_and_comes(liar: Liar) -> None:
    heard: list[int] = []

    def answer(talk: Conversation) -> None:
        talk.body()
        talk.say(200, b"x" * 500)

    liar.answers_with("/x", answer)
    ask(liar, "PUT", body=b"y" * 300, tick=heard.append)
    assert sum(heard) == 800


def test_tick_hears_once_of_what_is_sent_twice(liar: Liar) -> None:
    heard: list[int] = []
    liar.answers_with("/x", reads_and_hangs_up, kept([]))
    ask(liar, "PUT", body=BIG, tick=heard.append)
    assert sum(heard) == len(BIG)


def test_tick_ends_what_is_answered(liar: Liar) -> None:
    class StopError(Exception):
        pass

    def tick(count: int) -> None:
        if count:
            raise StopError

    liar.answers_with("/x", kept([]))
    with pytest.raises(StopError):
        ask(liar, "PUT", body=b"data", tick=tick)


# --- what is asked again -------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"])
def test_what_may_be_asked_again(liar: Liar, method: str) -> None:
    def answer(talk: Conversation) -> None:
        talk.hang_up()

    later = statuses(503)[0]
    for repeat, times in ((None, 3), (True, 3), (False, 1)):
        expected = times if repeat is not None or method[0] != "P" else None
        if expected is None:
            expected = 3 if method == "PUT" else 1
        for lie in (answer, later):
            liar.requests.clear()
            liar.answers_with("/x", lie)
            with pytest.raises(FetchError):
                ask(liar, method, body=None, repeat=repeat)
            assert len(liar.requests) == expected


def test_bodies_are_sent_again_from_their_beginning(liar: Liar) -> None:
    bodies: list[bytes] = []

    def breaks(talk: Conversation) -> None:
        bodies.append(talk.body()[:5])
        talk.hang_up()

    liar.answers_with("/x", breaks, kept(bodies))
    file = io.BytesIO(b"skip" + BIG)
    file.seek(4)
    answer = ask(liar, "PUT", body=Body(file, size=len(BIG)))
    assert answer.status == 201
    assert bodies == [BIG[:5], BIG]


def test_what_can_be_read_once_is_sent_once(liar: Liar) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    liar.answers_with("/x", reads_and_hangs_up)
    body = Body(Pipe(b"data"), size=4)
    assert not body.is_replayable
    with pytest.raises(FetchError, match="can't reach"):
        ask(liar, "PUT", body=body)
    assert len(liar.requests) == 1
    liar.answers_with("/x", guarded("t", lambda talk: talk.say(200)))
    caller = Token(liar, "old", "t")
    answer = ask(liar, "PUT", body=Body(Pipe(b"data"), size=4), caller=caller)
    assert answer.status == 401
    assert caller.challenges == []


@pytest.mark.parametrize("status", [307, 308, 303])
def test_only_reading_follows_redirects(liar: Liar, status: int) -> None:
    liar.answers_with("/x", lambda talk: talk.say(status, Location="/y"))
    liar.serves("/y", b"{}")
    assert ask(liar).body == b"{}"
    assert ask(liar).url == f"{liar.url}y"
    assert ask(liar, "HEAD").status == 200
    assert ask(liar, redirects=False).status == status
    for method in ("POST", "DELETE"):
        liar.requests.clear()
        answer = ask(liar, method)
        assert (answer.status, answer.headers["Location"]) == (status, "/y")
        assert liar.paths == ["/x"]


# --- bodies --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65536, len(BIG)])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "POST"])
def test_bodies(liar: Liar, method: str, size: int) -> None:
    bodies: list[bytes] = []
    liar.answers_with("/x", kept(bodies))
    data = BIG[:size]
    for body in (data, Body(io.BytesIO(data), size=size)):
        assert ask(liar, method, body=body).headers["Location"] == "/made"
        assert liar.requests[-1][1]["Content-Length"] == str(size)
        assert "Transfer-Encoding" not in liar.requests[-1][1]
        if isinstance(body, Body):
            assert body.sent == size
    assert bodies == [data, data]


def test_no_body_is_no_bytes(liar: Liar) -> None:
    liar.answers_with("/x", *statuses(202))
    assert ask(liar, "POST").status == 202
    assert liar.requests[0][1]["Content-Length"] == "0"


def test_body_that_can_not_be_read(liar: Liar) -> None:
    class Bad(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    liar.answers_with("/x", kept([]))
    with pytest.raises(StorageError, match="can't read what is sent: Input/output"):
        ask(liar, "PUT", body=Body(Bad(b"data"), size=4))
    with pytest.raises(StorageError, match="ends after 4 bytes, expected 5"):
        ask(liar, "PUT", body=Body(io.BytesIO(b"data"), size=5))
    assert len(liar.connections) <= 2


def test_body_that_does_not_seek_after_all(liar: Liar) -> None:
    class Stuck(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            raise OSError(29, "Illegal seek")

    liar.answers_with("/x", reads_and_hangs_up)
    with pytest.raises(StorageError, match="Illegal seek"):
        ask(liar, "PUT", body=Body(Stuck(b"data"), size=4))


def test_answer_before_the_body_was_read(liar: Liar) -> None:
    """A registry says no at once, and hangs up on what is still being sent."""

    def early(talk: Conversation) -> None:
        talk.say(413, b"too much")
        talk.wfile.flush()
        talk.connection.shutdown(socket.SHUT_WR)
        talk.server.over.wait(0.2)
        talk.close_connection = True

    liar.answers_with("/x", early)
    answer = ask(liar, "PUT", body=BIG * 8)
    assert (answer.status, answer.body) == (413, b"too much")


def test_server_that_does_not_read(liar: Liar) -> None:
    liar.answers_with("/x", lambda talk: talk.keep_waiting())
    network = Network(rate_window=0.3, tries=1)
    with pytest.raises(TooSlowError, match=r"took \d+ bytes in \d+ s, expected 1024"):
        ask(liar, "PUT", body=BIG * 4, network=network)


def test_server_that_reads_slowly(liar: Liar) -> None:
    def slow(talk: Conversation) -> None:
        while not talk.server.over.wait(0.01) and talk.rfile.read(10):
            pass

    liar.answers_with("/x", slow)
    network = Network(rate_window=0.5, minimum_rate=1 << 24, tries=1)
    with pytest.raises(TooSlowError, match=r"took \d+ bytes in \d+ s, expected"):
        ask(liar, "PUT", body=BIG * 4, network=network)


def test_time_for_an_answer_begins_when_all_is_sent(liar: Liar) -> None:
    """Sending may take longer than an answer may."""
    got: list[bytes] = []

    def slow(talk: Conversation) -> None:
        left = int(talk.headers["Content-Length"])
        while left:
            piece = talk.rfile.read(min(left, 1 << 20))
            left -= len(piece)
            time.sleep(0.05)
        got.append(b"all")
        talk.say(201)

    liar.answers_with("/x", slow)
    network = Network(response_timeout=0.5, tries=1)
    assert ask(liar, "PUT", body=BIG * 3, network=network).status == 201
    assert got == [b"all"]
    liar.answers_with("/x", reads_and_waits)
    with pytest.raises(TooSlowError, match="did not answer within"):
        ask(liar, "PUT", body=b"data", network=network)


def test_slow_link_is_not_taken_for_a_silent_server(liar: Liar) -> None:
    """What the kernel has taken, and not sent, is not yet sent."""

    def slow(talk: Conversation) -> None:
        left = int(talk.headers["Content-Length"])
        while left and not talk.server.over.wait(0.02):
            left -= len(talk.rfile.read(min(left, 20_000)))
        talk.say(201)

    liar.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    liar.answers_with("/x", slow)
    network = Network(
        response_timeout=1, rate_window=0.5, minimum_rate=100_000, tries=1
    )
    assert ask(liar, "PUT", body=BIG[:2_000_000], network=network).status == 201


def test_what_is_sent_again_is_timed_again(liar: Liar) -> None:
    """The second attempt is as slow as it is, however fast the first was."""

    def reads_nothing(talk: Conversation) -> None:
        talk.keep_waiting()

    liar.answers_with("/x", reads_and_hangs_up, reads_nothing)
    network = Network(rate_window=0.3, response_timeout=20, tries=2, longest_delay=0)
    began = time.monotonic()
    with pytest.raises(TooSlowError, match=r"took \d+ bytes in \d+ s, expected 1024"):
        ask(liar, "PUT", body=BIG * 4, network=network)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("chunked", [False, True])
def test_rest_that_does_not_come_is_not_waited_for(liar: Liar, chunked: bool) -> None:
    """Of an answer that is of no use; its connection ends."""

    def later(talk: Conversation) -> None:
        if chunked:
            talk.say(503, Content_Length=None, Transfer_Encoding="chunked")
        else:
            talk.say(503, Content_Length="100")
        talk.keep_waiting()

    liar.answers_with("/x", later, lambda talk: talk.say(200, b"{}"))
    network = Network(longest_delay=0.1)
    began = time.monotonic()
    assert ask(liar, network=network).body == b"{}"
    assert time.monotonic() - began < 10
    assert len(liar.connections) == 2


def test_body_is_left_alone_by_who_is_stuck(
    liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who still reads the body in another thread must not read it twice."""
    monkeypatch.setattr(line, "_TO_LEAVE", 0.05)
    go, reads = threading.Event(), []

    class Hangs(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            reads.append(size)
            go.wait(10)
            return super().read(size)

    liar.answers_with("/x", kept([]))
    network = Network(response_timeout=0.2, tries=3, longest_delay=0)
    with pytest.raises(TooSlowError, match="did not answer within"):
        ask(liar, "PUT", body=Body(Hangs(b"data"), size=4), network=network)
    assert len(reads) == 1
    go.set()


def test_stopped_while_sending(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_LOOK", 0.01)
    sent: list[int] = []

    class StopError(Exception):
        pass

    def tick(count: int) -> None:
        sent.append(count)
        if sum(sent):
            raise StopError

    liar.answers_with("/x", lambda talk: talk.keep_waiting())
    with pytest.raises(StopError):
        ask(liar, "PUT", body=BIG * 4, tick=tick)
    assert 0 < sum(sent) < len(BIG) * 4


# --- credentials ---------------------------------------------------------------------


def test_anonymous_shows_nothing() -> None:
    assert ANONYMOUS.headers("https://r.example/") == {}
    assert not ANONYMOUS.challenged("https://r.example/", 401, {})


def test_challenge_is_met_once(liar: Liar) -> None:
    liar.answers_with("/x", guarded("new", lambda talk: talk.say(200, b"{}")))
    caller = Token(liar, "old", "new")
    assert ask(liar, caller=caller).body == b"{}"
    assert caller.challenges == [(f"{liar.url}x", 401, 'Bearer realm="x"')]
    assert len(liar.connections) == 1


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH"])
def test_challenge_without_end(liar: Liar, method: str) -> None:
    liar.answers_with("/x", guarded("none of them", lambda talk: talk.say(200)))
    caller = Token(liar, *"abcdefgh")
    answer = ask(liar, method, body=b"data", caller=caller)
    assert answer.status == 401
    assert answer.body == b"{}"
    assert len(caller.challenges) == 1
    assert len(liar.requests) == 2


def test_body_goes_again_after_a_challenge(liar: Liar) -> None:
    bodies: list[bytes] = []
    liar.answers_with("/x", guarded("new", kept(bodies)))
    body = Body(io.BytesIO(BIG), size=len(BIG))
    answer = ask(liar, "POST", body=body, caller=Token(liar, "old", "new"))
    assert answer.status == 201
    assert bodies == [BIG]


def test_challenge_that_is_endless(liar: Liar) -> None:
    def endless(talk: Conversation) -> None:
        talk.say(401, Content_Length="100000000")
        while not talk.server.over.is_set():
            talk.wfile.write(b"x" * 65536)

    liar.answers_with("/x", endless, lambda talk: talk.say(200, b"{}"))
    assert ask(liar, caller=Token(liar, "old", "new")).body == b"{}"
    liar.answers_with("/x", endless)
    answer = ask(liar, caller=Token(liar, "old"))
    assert (answer.status, len(answer.body)) == (401, 1 << 16)


def test_challenge_in_chunks(liar: Liar) -> None:
    def chunks(talk: Conversation) -> None:
        talk.say(401, Content_Length=None, Transfer_Encoding="chunked")
        talk.wfile.write(b"4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n")

    liar.answers_with("/x", chunks)
    assert ask(liar, caller=Token(liar, "old")).body == b"abcdef"
    liar.answers_with("/x", chunks, lambda talk: talk.say(200, b"{}"))
    assert ask(liar, caller=Token(liar, "old", "new")).body == b"{}"


def test_challenge_that_breaks_off(liar: Liar) -> None:
    def part(talk: Conversation) -> None:
        talk.say(401, b"{", Content_Length="2")
        talk.hang_up()

    liar.answers_with("/x", part, lambda talk: talk.say(200, b"{}"))
    assert ask(liar, caller=Token(liar, "old")).body == b"{}"


def test_caller_that_fails(liar: Liar) -> None:
    class Fails(Token):
        def challenged(self, url: str, status: int, headers: Any) -> bool:
            raise FetchError("no token", url=url)

    liar.answers_with("/x", guarded("t", lambda talk: talk.say(200)))
    with pytest.raises(FetchError, match="no token"):
        ask(liar, caller=Fails(liar))


def test_credentials_stay_at_their_origin(liar: Liar, other: Liar) -> None:
    """Neither token nor headers of one's own follow a redirect elsewhere."""
    liar.answers_with("/x", lambda talk: talk.say(307, Location=f"{other.url}y"))
    other.answers_with("/y", lambda talk: talk.say(307, Location=f"{liar.url}z"))
    liar.answers_with("/z", guarded("t", lambda talk: talk.say(200, b"{}")))
    headers = {"Accept": "a/b", "X-Key": "mine", "Authorization": "Basic x"}
    caller = Token(liar, "t")
    assert ask(liar, headers=headers, caller=caller).body == b"{}"
    seen = other.requests[0][1]
    assert seen["Accept"] == "a/b"
    assert not {"Authorization", "X-Key", "Cookie"} & set(seen)
    assert liar.requests[-1][1]["Authorization"] == "Bearer t"
    assert liar.requests[-1][1]["X-Key"] == "mine"


def test_challenge_of_a_stranger(liar: Liar, other: Liar) -> None:
    liar.answers_with("/x", lambda talk: talk.say(307, Location=f"{other.url}y"))
    other.answers_with("/y", guarded("t", lambda talk: talk.say(200)))
    caller = Token(liar, "t", "t2")
    assert ask(liar, caller=caller).status == 401
    assert [url for url, _, _ in caller.challenges] == [f"{other.url}y"]
    assert "Authorization" not in other.requests[0][1]


def test_transfer_with_a_caller(liar: Liar) -> None:
    """The token expires in the middle of a download."""
    data = BIG[:100_000]

    def half(talk: Conversation) -> None:
        talk.say(200, data[:50_000], Content_Length=str(len(data)))
        talk.hang_up()

    def rest(talk: Conversation) -> None:
        told = f"bytes 50000-{len(data) - 1}/{len(data)}"
        talk.say(206, data[50_000:], Content_Range=told)

    liar.answers_with("/x", guarded("one", half), guarded("two", rest))
    caller = Token(liar, "one", "two", "three")
    transfer = Transfer(
        Connections(QUICK),
        f"{liar.url}x",
        network=QUICK,
        start=0,
        caller=caller,
        headers={"Accept": "a/b"},
    )
    found = bytearray()
    buffer = memoryview(bytearray(9000))
    while count := transfer.read_into(buffer):
        found += buffer[:count]
    transfer.close()
    assert found == data
    assert len(caller.challenges) == 1
    assert [headers.get("Range") for _, headers in liar.requests] == [
        None,
        "bytes=50000-",
        "bytes=50000-",
    ]
    assert {headers["Accept"] for _, headers in liar.requests} == {"a/b"}


def test_transfer_that_is_refused(liar: Liar) -> None:
    liar.answers_with("/x", guarded("t", lambda talk: talk.say(200)))
    caller = Token(liar, "a", "b", "c")
    transfer = Transfer(
        Connections(QUICK), f"{liar.url}x", network=QUICK, start=0, caller=caller
    )
    with pytest.raises(FetchError, match="answered 401") as caught:
        transfer.begin()
    assert caught.value.status == 401
    assert len(liar.requests) == 2


# --- where it goes -------------------------------------------------------------------


def resolve_to_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    found = socket.getaddrinfo

    def here(host: str, *rest: Any, **more: Any) -> Any:
        del host
        return found("127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", here)


def test_plain_http_is_for_loopback_and_who_is_named(
    liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to_loopback(monkeypatch)
    liar.serves("/x", b"{}")
    host = f"mirror.example:{liar.server_port}"
    request = Request("GET", f"http://{host}/x")
    connections = Connections(QUICK)
    with pytest.raises(FetchError, match="plain http is not used for it") as caught:
        exchange(connections, request, network=QUICK, limit=10)
    assert "plain_http = true" in str(caught.value.hint)
    assert liar.requests == []
    # A redirect is no way around that.
    liar.answers_with("/y", lambda talk: talk.say(307, Location=request.url))
    with pytest.raises(FetchError, match="plain http is not used for it"):
        ask(liar, path="/y")
    named = Network(registries={host: RegistryAccess(plain_http=True)}, tries=1)
    caller = Token(liar, "t")
    caller.origin = f"http://{host}/"
    for network, everywhere in ((named, False), (QUICK, True)):
        liar.requests.clear()
        answer = exchange(
            Connections(network, plain_http=everywhere),
            request,
            network=network,
            limit=10,
            caller=caller,
        )
        assert answer.body == b"{}"
        # Not even a caller's own mistake shows a token to who listens on the way.
        assert "Authorization" not in liar.requests[0][1]
    assert caller.challenges == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1\\@r.example/x",
        "http://me:secret@127.0.0.1/x",
        "http://127.0.0.1 /x",
    ],
)
def test_url_that_can_be_read_in_two_ways(url: str) -> None:
    with pytest.raises(FetchError, match="can be read in two ways") as caught:
        exchange(Connections(QUICK), Request("GET", url), network=QUICK, limit=10)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer secret\r\nX: y"},
        {"Authorization": "Bearer secret\x00"},
        {"Authorization": "Bearer secret\u2028"},
        {"X\r\nY": "secret"},
        {"": "secret"},
    ],
)
def test_header_that_can_not_be_sent(liar: Liar, headers: dict[str, str]) -> None:
    """A hostile token server may have chosen it."""
    with pytest.raises(FetchError, match="can't be sent") as caught:
        ask(liar, headers=headers)
    assert "secret" not in str(caught.value)
    assert liar.requests == []


def test_cookies_are_not_kept(liar: Liar) -> None:
    liar.answers_with("/x", lambda talk: talk.say(200, Set_Cookie="id=1; Path=/"))
    connections = Connections(QUICK)
    for _ in range(2):
        exchange(connections, Request("GET", f"{liar.url}x"), network=QUICK, limit=10)
    assert "Cookie" not in liar.requests[1][1]


# --- connections ---------------------------------------------------------------------


def test_few_connections_serve_many_threads(liar: Liar) -> None:
    """Answers of each kind leave their connection as it was."""
    liar.serves("/x", b"{}" * 100)
    liar.answers_with("/later", *statuses(503, 200))
    liar.answers_with("/moved", lambda talk: talk.say(307, b"there", Location="/x"))
    liar.answers_with("/none", lambda talk: talk.say(404, b"nothing here"))
    connections = Connections(QUICK)

    def work() -> None:
        for number in range(50):
            path = ("x", "later", "moved", "none")[number % 4]
            exchange(
                connections,
                Request("GET", f"{liar.url}{path}"),
                network=QUICK,
                limit=1000,
            )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(liar.requests) >= 200
    assert len(liar.connections) <= 4


def test_connection_with_bytes_left_is_not_used_again(liar: Liar) -> None:
    """What was too much of one answer must not be the next."""

    def more(talk: Conversation) -> None:
        talk.say(200, b"{}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        # Content-Length covers all of it; the second half of this one does not.
        talk.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

    liar.answers_with("/x", more)
    liar.serves("/y", b"good")
    connections = Connections(QUICK)
    request = Request("GET", f"{liar.url}x")
    with pytest.raises(TooLargeError):
        exchange(connections, request, network=QUICK, limit=2)
    exchange(connections, request, network=QUICK, limit=1000)
    time.sleep(0.05)
    request = Request("GET", f"{liar.url}y")
    assert exchange(connections, request, network=QUICK, limit=10).body == b"good"
    assert 2 <= len(liar.connections) <= 3
