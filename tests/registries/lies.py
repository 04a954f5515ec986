"""The lies of a hostile registry, one function each; see `HostileRegistry.lies`."""

from __future__ import annotations

import gzip
import json
import re
from typing import TYPE_CHECKING, Any, Final

from tests.registries.hostile import INDEX, Truth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.registries.hostile import Conversation, Lie

ENDLESS: Final = 1 << 40  # bytes that nobody can keep
# Made before anybody waits for it.
BOMB: Final = gzip.compress(bytes(1 << 26), 1)


# --- bodies --------------------------------------------------------------------------


def tampered(talk: Conversation) -> None:
    """Turn one bit of the body over; headers stay as they are."""
    truth = talk.truth()
    middle = len(truth.body) // 2
    changed = bytes([truth.body[middle] ^ 1])
    body = truth.body[:middle] + changed + truth.body[middle + 1 :]
    talk.tell(truth._replace(body=body))


def truncated(talk: Conversation) -> None:
    """Leave the last byte out, and say so."""
    truth = talk.truth()
    talk.tell(truth._replace(body=truth.body[:-1]))


def cut(talk: Conversation) -> None:
    """Promise everything, and hang up in the middle."""
    truth = talk.truth()
    talk.begin(truth.status, {**truth.headers, "Content-Length": f"{len(truth.body)}"})
    talk.give(truth.body[: len(truth.body) // 2])
    talk.hang_up()


def trailing(talk: Conversation) -> None:
    """Append a byte."""
    truth = talk.truth()
    talk.tell(truth._replace(body=truth.body + b"\0"))


def endless(talk: Conversation) -> None:
    """Go on after the truth, without end."""
    truth = talk.truth()
    talk.begin(truth.status, {**truth.headers, "Content-Length": str(ENDLESS)})
    _pour(talk, truth.body)


def endless_chunks(talk: Conversation) -> None:
    """Likewise, and say no length."""
    truth = talk.truth()
    talk.begin(truth.status, {**truth.headers, "Transfer-Encoding": "chunked"})
    body = truth.body or b" "
    _pour(talk, b"%x\r\n%s\r\n" % (len(body), body))


def _pour(talk: Conversation, beginning: bytes) -> None:
    talk.close_connection = True
    talk.give(beginning)
    piece = b" " * (1 << 16)
    if beginning.endswith(b"\r\n"):
        piece = b"%x\r\n%s\r\n" % (len(piece), piece)
    while not talk.server.over.is_set():
        talk.give(piece)  # raises when the other side has left


def dripping(talk: Conversation) -> None:
    """Tell the truth, a byte now and then."""
    truth = talk.truth()
    talk.begin(truth.status, {**truth.headers, "Content-Length": f"{len(truth.body)}"})
    talk.close_connection = True
    for byte in truth.body:
        talk.give(bytes([byte]))
        if talk.server.over.wait(0.01):
            return


def silent(talk: Conversation) -> None:
    """Say nothing at all."""
    talk.read_body()
    talk.keep_waiting()


def silent_after_headers(talk: Conversation) -> None:
    """Promise everything, and give nothing."""
    truth = talk.truth()
    talk.begin(truth.status, {**truth.headers, "Content-Length": f"{len(truth.body)}"})
    talk.keep_waiting()


def hangs_up(talk: Conversation) -> None:
    """Leave without a word."""
    talk.hang_up()


def no_http(talk: Conversation) -> None:
    """Answer with something else than HTTP."""
    talk.read_body()
    talk.give(b"220 mail.example ESMTP\r\n")
    talk.hang_up()


def length(number: str) -> Lie:
    """Promise another length than comes."""

    def lie(talk: Conversation) -> None:
        truth = talk.truth()
        talk.begin(truth.status, {**truth.headers, "Content-Length": number})
        talk.give(truth.body)
        talk.hang_up()

    return lie


def gzipped(talk: Conversation) -> None:
    """Send the right content, encoded."""
    truth = talk.truth()
    headers = {**truth.headers, "Content-Encoding": "gzip"}
    talk.tell(truth._replace(headers=headers, body=gzip.compress(truth.body)))


def bomb(talk: Conversation) -> None:
    """Send few bytes that would become very many when decoded."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    talk.say(200, BOMB, headers)


def body(data: bytes, **headers: str) -> Lie:
    """Answer 200 with these bytes, whatever was asked."""
    told = {name.replace("_", "-"): text for name, text in headers.items()}

    def lie(talk: Conversation) -> None:
        truth = talk.truth()
        talk.say(200, data, {**truth.headers, **told})

    return lie


def document(value: Any, **headers: str) -> Lie:
    """Likewise, a JSON document."""
    return body(json.dumps(value).encode(), **headers)


# --- headers and statuses ------------------------------------------------------------


def header(name: str, text: str) -> Lie:
    """Tell the truth, but for one header."""

    def lie(talk: Conversation) -> None:
        truth = talk.truth()
        talk.tell(truth._replace(headers={**truth.headers, name: text}))

    return lie


def status(number: int, **headers: str) -> Lie:
    """Answer with this status alone."""
    told = {name.replace("_", "-"): text for name, text in headers.items()}
    return lambda talk: talk.say(number, b"{}", told)


def redirect(to: str, number: int = 307) -> Lie:
    """Send the client to another origin, for the same path there."""
    return lambda talk: talk.say(number, b"", {"Location": to + talk.path})


def cookies(talk: Conversation) -> None:
    """Tell the truth, and set a cookie."""
    header("Set-Cookie", "session=secret; Path=/")(talk)


def then(first: Lie, second: Lie) -> Lie:
    """Lie once in one way, and in another ever after."""
    left = [first]

    def lie(talk: Conversation) -> None:
        (left.pop() if left else second)(talk)

    return lie


# --- ranges --------------------------------------------------------------------------


def start_of(talk: Conversation) -> int:
    """Return from which byte is asked; 0 without a range."""
    found = re.fullmatch(r"bytes=([0-9]+)-.*", talk.headers.get("Range", ""))
    return int(found[1]) if found else 0


def ignores_ranges(talk: Conversation) -> None:
    """Begin at the beginning, whatever is asked; say 200."""
    if "Range" in talk.headers:
        del talk.headers["Range"]
    talk.tell(talk.truth())


def wrong_range(talk: Conversation) -> None:
    """Say 206 for the range, and send the beginning."""
    start = start_of(talk)
    if "Range" in talk.headers:
        del talk.headers["Range"]
    truth = talk.truth()
    part = truth.body[: len(truth.body) - start]
    told = f"bytes 0-{len(part) - 1}/{len(truth.body)}"
    talk.say(206, part, {**truth.headers, "Content-Range": told})


def beginning_as_range(talk: Conversation) -> None:
    """Say that the right range comes, and send the beginning."""
    start = start_of(talk)
    truth = talk.truth()
    del talk.headers["Range"]
    whole = talk.truth().body
    talk.tell(truth._replace(body=whole[: len(whole) - start]))


def not_satisfiable(talk: Conversation) -> None:
    """Refuse each range."""
    talk.say(416, b"", {"Content-Range": "bytes */3"})


# --- lists ---------------------------------------------------------------------------


def many_referrers(count: int, entry: dict[str, Any]) -> Lie:
    """List very many referrers in one answer, and never hold them in memory."""

    def lie(talk: Conversation) -> None:
        one = json.dumps(entry).encode()
        head = b'{"schemaVersion":2,"mediaType":"%s","manifests":[' % INDEX.encode()
        total = len(head) + count * (len(one) + 1) + 1
        talk.begin(200, {"Content-Type": INDEX, "Content-Length": str(total)})
        talk.give(head)
        for piece in _pieces(count, one):
            talk.give(piece)

    return lie


def _pieces(count: int, one: bytes) -> Iterator[bytes]:
    batch = 1000
    for done in range(0, count, batch):
        last = done + batch >= count
        yield b",".join([one] * min(batch, count - done)) + (b"]}" if last else b",")


def pages(make: Callable[[int], dict[str, Any]], *, link: str | None = None) -> Lie:
    """Answer a list with one page after another, without end.

    Args:
        make: the page's document by its number.
        link: where the next page is said to be; a new page of the path by default.
    """
    counted = [0]

    def lie(talk: Conversation) -> None:
        counted[0] += 1
        path = talk.path.partition("?")[0]
        to = link or f"{path}?page={counted[0]}"
        talk.tell(
            Truth(
                200,
                {"Content-Type": INDEX, "Link": f'<{to}>; rel="next"'},
                json.dumps(make(counted[0])).encode(),
            )
        )

    return lie
