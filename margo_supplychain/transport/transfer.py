"""One file over HTTP: redirects, retries, resumption, and the clocks that end it.

Knows which answers mean "no such file", "not now" and "never", and no bytes' meaning.
Retries are for connections that break, 408, 429 and 5xx, with jitter; a server's
`Retry-After` is honoured or, when too long, obeyed by giving up.
"""

from __future__ import annotations

import random
import re
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

from margo_supplychain.errors import FetchError, TooSlowError
from margo_supplychain.transport.connections import (
    HTTPError,
    NoAnswerError,
    RefusedError,
    SSLError,
)

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

    from margo_supplychain.transport.connections import Connections
    from margo_supplychain.transport.network import Network

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_ABSENT: Final = frozenset({404, 410})
_LATER: Final = frozenset({408, 429, 500, 502, 503, 504})
_RANGE: Final = re.compile(
    r"bytes ([0-9]{1,16})-[0-9]{1,16}/(?:[0-9]{1,16}|\*)", re.ASCII
)
_PIECE: Final = 1 << 18
_FIRST_DELAY: Final = 0.25
_LONGEST_BACK_OFF: Final = 3.0


class Transfer:
    """The requests for one file from byte `start` on.

    Args:
        connections: sends them.
        url: of the file, without credentials.
        network: the limits.
        start: where to begin.
    """

    def __init__(
        self, connections: Connections, url: str, *, network: Network, start: int
    ) -> None:
        self._connections = connections
        self._url = url
        self._network = network
        self._position = start
        self._skip = 0
        self._response: BaseHTTPResponse | None = None
        self._failures = 0
        self._deadline = time.monotonic() + network.deadline
        self._waited = 0.0
        self._came = 0

    def begin(self) -> None:
        """Ask until there is an answer.

        Raises:
            FetchError: no usable answer; `missing` and `unreachable` say more.
            TooSlowError: no answer in time.
        """
        while self._response is None:
            began = time.monotonic()
            try:
                response = self._follow()
            except (HTTPError, OSError) as why:
                # A certificate that is wrong now is wrong in a second.
                again = not isinstance(why, SSLError)
                self._pause(self._no_answer(why, began), why, again=again)
                continue
            if response.status in _LATER:
                response.close()
                failure = self._failure(
                    f"answered {response.status}", status=response.status
                )
                self._pause(failure, None, asked=_retry_after(response))
            else:
                self._accept(response)

    def read_into(self, buffer: memoryview) -> int:
        """Fill `buffer` with what comes next; 0 at the end.

        Raises:
            FetchError: the transfer broke and could not be resumed.
            TooSlowError: the deadline passed, or too few bytes came.
        """
        while True:
            self.begin()
            began = time.monotonic()
            try:
                data = self._read(min(self._skip + len(buffer), _PIECE))
            except (HTTPError, OSError) as why:
                self._count(0, began)
                self.close()
                kind = TooSlowError if isinstance(why, NoAnswerError) else FetchError
                text = f"{self._url} broke off after {self._position} bytes: {why}"
                self._pause(kind(_line(text), url=self._url), why)
                continue
            if data:
                self._count(len(data), began)
            if self._skip:
                if not data:
                    raise self._failure(f"has fewer than {self._position} bytes")
                skipped = min(self._skip, len(data))
                self._skip -= skipped
                data = data[skipped:]
                if not data:
                    continue
            buffer[: len(data)] = data
            self._position += len(data)
            if data:
                self._failures = 0
            return len(data)

    def close(self) -> None:
        """Give the connection back, or end it when bytes are left in it."""
        if self._response is not None:
            # A response that was read to its end has already been given back.
            self._response.close()
            self._response = None

    def _read(self, most: int) -> bytes:
        response = self._response
        if response is None:
            raise RuntimeError("read before begin")
        return response.read1(most, decode_content=False) or b""

    def _follow(self) -> BaseHTTPResponse:
        url = self._url
        for _ in range(self._network.redirects + 1):
            response = self._connections.get(url, start=self._position)
            if response.status not in _REDIRECTS:
                return response
            response.close()
            url = self._redirected(url, response)
        raise self._failure(f"redirects more than {self._network.redirects} times")

    def _redirected(self, url: str, response: BaseHTTPResponse) -> str:
        location = response.headers.get("Location", "")
        try:
            to = urljoin(url, location)
            parts = urlsplit(to)
        except ValueError as why:
            raise self._failure(
                "redirects to what is no URL", status=response.status
            ) from why
        downgrade = urlsplit(url).scheme == "https" and parts.scheme != "https"
        if (
            not location
            or downgrade
            or parts.scheme not in {"http", "https"}
            or "@" in parts.netloc
        ):
            # The whole target is not repeated: it may carry somebody's credentials.
            raise self._failure(
                f"redirects to {parts.scheme or 'no'}://{(parts.hostname or '')[:80]}, "
                "which is not followed",
                status=response.status,
            )
        return parts._replace(fragment="").geturl()

    def _accept(self, response: BaseHTTPResponse) -> None:
        problem = self._problem(response)
        if problem is None:
            self._response = response
            return
        response.close()
        missing = response.status in _ABSENT
        hint = None
        if response.status == 403:
            hint = (
                "if this is a bucket that answers 403 for files it does not have, let "
                "readers list it"
            )
        raise self._failure(problem, status=response.status, missing=missing, hint=hint)

    def _problem(self, response: BaseHTTPResponse) -> str | None:
        """Say what is wrong with an answer; else know how much of it to skip."""
        if response.status in _ABSENT:
            return "does not exist"
        if response.status == 416:
            return f"has fewer than {self._position} bytes"
        if response.status not in {200, 206}:
            return f"answered {response.status}"
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in {"", "identity"}:
            return f"came as {encoding[:40]!r} although identity was asked for"
        # 200: the server ignores ranges (RFC 9110 §14.2) and begins at the beginning.
        self._skip = self._position
        if response.status == 206:
            found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if found is None or not self._position or int(found[1]) != self._position:
                return f"came in part, but not from byte {self._position}"
            self._skip = 0
        return None

    def _no_answer(self, why: Exception, began: float) -> FetchError:
        took = time.monotonic() - began
        # urllib3 counts a refused connection among the timeouts.
        slow = isinstance(why, NoAnswerError) and not isinstance(why, RefusedError)
        if slow or took >= self._network.response_timeout:
            text = f"{self._url} did not answer within {took:.1f} s"
            return TooSlowError(text, url=self._url, unreachable=True)
        return FetchError(
            _line(f"can't reach {self._url}: {why}"), url=self._url, unreachable=True
        )

    def _failure(
        self,
        text: str,
        *,
        status: int | None = None,
        missing: bool = False,
        hint: str | None = None,
    ) -> FetchError:
        return FetchError(
            f"{self._url} {text}",
            url=self._url,
            status=status,
            missing=missing,
            hint=hint,
        )

    def _pause(
        self,
        failure: FetchError,
        why: Exception | None,
        *,
        again: bool = True,
        asked: float | None = None,
    ) -> None:
        """Wait before the next try, or raise `failure` when there is none."""
        self._failures += 1
        back_off = min(_LONGEST_BACK_OFF, _FIRST_DELAY * 2 ** (self._failures - 1))
        # Jitter: devices that lost one server together must not return together.
        delay = back_off * random.uniform(0.5, 1)  # noqa: S311
        delay = max(asked or 0, min(delay, self._network.longest_delay))
        if (
            not again
            or self._failures >= self._network.tries
            or delay > self._network.longest_delay
            or time.monotonic() + delay > self._deadline
        ):
            raise failure from why
        time.sleep(delay)
        self._waited += delay

    def _count(self, came: int, began: float) -> None:
        """Hold the transfer to its deadline and rate; only waiting counts."""
        now = time.monotonic()
        if now > self._deadline:
            raise TooSlowError(
                f"{self._url} took longer than {self._network.deadline:g} s",
                url=self._url,
            )
        # The time that the reader spends on its own is not the server's fault.
        self._waited += now - began
        self._came += came
        if self._waited < self._network.rate_window:
            return
        if self._came < self._waited * self._network.minimum_rate:
            raise TooSlowError(
                f"{self._url} gave {self._came} bytes in {self._waited:.0f} s, "
                f"expected {self._network.minimum_rate} per second",
                url=self._url,
            )
        self._waited = 0.0
        self._came = 0


def _retry_after(response: BaseHTTPResponse) -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        return float(text)
    try:
        # Both times are the server's: its clock may be wrong, and so may ours.
        then = parsedate_to_datetime(text)
        now = parsedate_to_datetime(response.headers.get("Date", ""))
        return max(0.0, (then - now).total_seconds())
    except (TypeError, ValueError):
        return None


def _line(text: str) -> str:
    return " ".join(text.split())[:400]
