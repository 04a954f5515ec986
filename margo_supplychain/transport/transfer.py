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
from margo_supplychain.transport.connections import BrokenError, read
from margo_supplychain.transport.line import Line

if TYPE_CHECKING:
    from collections.abc import Callable

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
_LOOK: Final = 1.0  # seconds between two looks at the clock and at the caller


class Transfer:
    """The requests for one file from byte `start` on.

    Args:
        connections: sends them.
        url: of the file, without credentials.
        network: the limits.
        start: where to begin.
        tick: called with 0 at least every second while something is waited for; what
            it raises ends the transfer.
    """

    def __init__(
        self,
        connections: Connections,
        url: str,
        *,
        network: Network,
        start: int,
        tick: Callable[[int], None] | None = None,
    ) -> None:
        self._connections = connections
        self._url = url
        self._network = network
        self._position = start
        self._skip = 0
        self._tick = tick
        self._line: Line | None = None
        self._response: BaseHTTPResponse | None = None
        self._asked = url
        self._answered = False
        self._began = self._since = time.monotonic()
        self._deadline = self._began + network.deadline
        # In this window of the rate; then in this attempt.
        self._waited, self._came = 0.0, 0
        self._spent, self._gained = 0.0, 0
        self._failures = 0

    def begin(self) -> None:
        """Ask until there is an answer.

        Raises:
            FetchError: no usable answer; `missing` and `unreachable` say more.
            TooSlowError: no answer in time.
        """
        while self._response is None:
            try:
                response = self._follow()
            except BrokenError as why:
                self.close()
                self._pause(self._no_answer(why), why, again=not why.is_final)
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
            try:
                data = self._read(min(self._skip + len(buffer), _PIECE))
            except BrokenError as why:
                self.close()
                kind = TooSlowError if why.is_slow else FetchError
                text = f"{self._url} broke off after {self._position} bytes: {why}"
                self._pause(kind(text, url=self._url), why)
                continue
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
            self._gained += len(data)
            return len(data)

    def close(self) -> None:
        """Give the connection back, or end it when bytes are left in it."""
        response, self._response = self._response, None
        line, self._line = self._line, None
        if line is None:
            return
        line.end()
        if response is not None and not line.is_stuck:
            # A response that was read to its end has already been given back.
            response.close()

    def _read(self, most: int) -> bytes:
        response, line = self._response, self._line
        if response is None or line is None:
            raise RuntimeError("read before begin")
        # The time that the reader spends on its own is not the server's fault.
        self._since = time.monotonic()
        data = read(response, most, line=line, look=self._look)
        self._count(len(data))
        return data

    def _follow(self) -> BaseHTTPResponse:
        url = self._url
        for _ in range(self._network.redirects + 1):
            if self._line is None:
                self._line = Line()
            self._asked = url
            self._began = self._since = time.monotonic()
            response = self._connections.get(
                url, start=self._position, line=self._line, look=self._look
            )
            self._note(0)
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
            self._answered = True
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

    def _no_answer(self, why: BrokenError) -> FetchError:
        if why.is_slow:
            took = time.monotonic() - self._began
            text = f"{self._url} did not answer within {took:.1f} s"
            return TooSlowError(text, url=self._url, unreachable=True)
        parts = urlsplit(self._asked)
        return FetchError(
            f"can't reach {parts.scheme}://{parts.netloc}: {why}",
            url=self._url,
            unreachable=True,
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
        self._count(0)
        # One byte per attempt is no progress, however often it comes.
        if self._gained and self._gained >= self._spent * self._network.minimum_rate:
            self._failures = 0
        self._spent, self._gained = 0.0, 0
        self._failures += 1
        back_off = min(_LONGEST_BACK_OFF, _FIRST_DELAY * 2 ** (self._failures - 1))
        # Jitter: devices that lost one server together must not return together.
        delay = back_off * random.uniform(0.5, 1)  # noqa: S311 - jitter is no secret
        delay = max(asked or 0, min(delay, self._network.longest_delay))
        if (
            not again
            or self._failures >= self._network.tries
            or delay > self._network.longest_delay
            or time.monotonic() + delay > self._deadline
        ):
            raise failure from why
        self._sleep(delay)
        self._spent += delay

    def _sleep(self, seconds: float) -> None:
        while self._tick is not None and seconds > _LOOK:
            time.sleep(_LOOK)
            seconds -= _LOOK
            self._tick(0)
        time.sleep(seconds)

    def _look(self) -> float:
        """End what takes too long; return for how long to look away."""
        self._count(0)
        if self._tick is not None:
            self._tick(0)
        left = self._deadline - self._since
        if self._response is None:
            to_answer = self._began + self._network.response_timeout - self._since
            if to_answer <= 0:
                raise BrokenError("no answer", is_slow=True)
            left = min(left, to_answer)
        if self._answered:
            left = min(left, self._network.rate_window - self._waited)
        return min(left, _LOOK)

    def _note(self, came: int) -> None:
        now = time.monotonic()
        waited, self._since = now - self._since, now
        self._spent += waited
        # The first answer has its own time; one that was broken off for has not.
        if self._answered:
            self._waited += waited
            self._came += came

    def _count(self, came: int) -> None:
        """Hold the transfer to its deadline and rate; only waiting counts."""
        self._note(came)
        if self._since > self._deadline:
            raise TooSlowError(
                f"{self._url} took longer than {self._network.deadline:g} s",
                url=self._url,
                unreachable=not self._answered,
            )
        if self._waited < self._network.rate_window:
            return
        if self._came < self._waited * self._network.minimum_rate:
            raise TooSlowError(
                f"{self._url} gave {self._came} bytes in {self._waited:.0f} s, "
                f"expected {self._network.minimum_rate} per second",
                url=self._url,
            )
        self._waited, self._came = 0.0, 0


def _retry_after(response: BaseHTTPResponse) -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        return float(text)
    try:
        # Both times are the server's: its clock may be wrong, and so may ours.
        then = parsedate_to_datetime(text)
        now = parsedate_to_datetime(response.headers.get("Date", ""))
        return max(0.0, (then - now).total_seconds())
    except (TypeError, ValueError, OverflowError):  # an hour or a zone beyond all time
        return None
