"""One question and its whole answer, which is small.

For everything that is not a download: what a registry says about itself, and what is
sent there. Bytes are unverified; every status but those for which it pays to try again
is an answer, and what it means is the asker's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.errors import TooLargeError
from margo_supplychain.transport.asking import Asking
from margo_supplychain.transport.attempts import Attempts
from margo_supplychain.transport.broken import BrokenError
from margo_supplychain.transport.encodings import encoding_problem
from margo_supplychain.transport.request import ANONYMOUS, Body, Caller, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from margo_supplychain.transport.connections import Connections
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.response import Response

__all__ = ["ANONYMOUS", "Answer", "Body", "Caller", "Request", "exchange"]

# RFC 9110 §9.2.2: doing it twice is doing it once.
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_MOST_OF_ERROR: Final = 1 << 16
_PIECE: Final = 1 << 16


class Answer(NamedTuple):
    """What a server said; `headers` don't distinguish capitals.

    `url` is the one that was asked last. After a redirect it may hold somebody's
    signature: not for messages.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


def exchange(
    connections: Connections,
    request: Request,
    *,
    network: Network,
    limit: int,
    caller: Caller = ANONYMOUS,
    repeat: bool | None = None,
    redirects: bool = True,
    tick: Callable[[int], None] | None = None,
) -> Answer:
    """Ask, and read the whole answer.

    Args:
        connections: sends it.
        request: what is asked, with headers that may be shown to its own origin.
        network: the limits.
        limit: most bytes of an answer that says yes (2xx); of any other, what is
            beyond 64 KiB is left out.
        caller: credentials.
        repeat: whether it may be sent again when a connection breaks, or at 408, 429
            and 5xx; when left out, whether its method may be and its body can be.
        redirects: whether GET and HEAD follow them; others never do.
        tick: called with the size of each piece that went or came, and with 0 at least
            every second while something is waited for; what it raises ends the call.

    Raises:
        FetchError: no answer, or one of 408, 429 and 5xx to the last try.
        TooLargeError: the answer is larger than `limit`.
        TooSlowError: it took too long.
        StorageError: the body could not be read.
    """
    body = request.body
    if isinstance(body, bytes):
        request = request._replace(body=(body := Body.of(body)))
    if repeat is None:
        repeat = request.method in _IDEMPOTENT
    repeat = repeat and (body is None or body.is_replayable)
    attempts = Attempts(request.url, network=network, body=body, tick=tick)
    asking = Asking(
        connections,
        request,
        network=network,
        attempts=attempts,
        caller=caller,
        repeat=repeat,
        redirects=redirects,
    )
    while True:
        attempts.begin_anew()
        response = asking.answer()
        try:
            data = _read(response, limit, attempts=attempts, tick=tick)
            is_yes = 200 <= response.status < 300
            if is_yes and request.method == "GET" and not response.tells_its_end:
                # Anybody on the way may have cut it; that is no false answer.
                raise BrokenError(f"{len(data)} bytes that don't say where they end")
        except BrokenError as why:
            failure = attempts.broke(why, "broke off in its answer")
            attempts.pause(failure, why, again=repeat)
        else:
            return Answer(response.status, response.headers, data, response.url)
        finally:
            response.close()


def _read(
    response: Response,
    limit: int,
    *,
    attempts: Attempts,
    tick: Callable[[int], None] | None,
) -> bytes:
    is_yes = 200 <= response.status < 300
    problem = encoding_problem(response.headers)
    if is_yes and problem is not None:
        raise attempts.failure(problem, status=response.status)
    most = limit if is_yes else _MOST_OF_ERROR
    found = bytearray()
    buffer = memoryview(bytearray(min(most + 1, _PIECE)))
    while True:
        attempts.wait()
        count = response.read_into(buffer, look=attempts.look)
        attempts.count(count)
        if not count:
            return bytes(found)
        if len(found) + count > most:
            if is_yes:
                raise TooLargeError(
                    f"{attempts.url} answered more than {limit} bytes", url=attempts.url
                )
            return bytes(found + buffer[: most - len(found)])
        found += buffer[:count]
        if tick is not None:
            tick(count)
