"""The clocks that end every transfer, and the pauses between its tries.

Retries are for connections that break, 408, 429 and 5xx, with jitter; a server's
`Retry-After` is honoured or, when too long, obeyed by giving up. One byte per attempt
is no progress, however often it comes.
"""

from __future__ import annotations

import random
import re
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import FetchError, TooSlowError
from margo_supplychain.transport.broken import BrokenError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.request import Body

_FIRST_DELAY: Final = 0.25
_LONGEST_BACK_OFF: Final = 3.0
_LOOK: Final = 1.0  # seconds between two looks at the clock and at the caller


class Attempts:
    """The tries of one file or exchange, together within one deadline.

    Args:
        url: what it is called in errors, without credentials.
        network: the limits.
        body: what is sent: it is held to the minimum rate, and the time for an answer
            begins when it has left.
        tick: called at least every second while something is waited for, with how many
            bytes of `body` have left since, 0 for most; what it raises ends it all.
    """

    def __init__(
        self,
        url: str,
        *,
        network: Network,
        body: Body | None = None,
        tick: Callable[[int], None] | None = None,
    ) -> None:
        self.url = url
        self.answered = False
        self.is_reading = False
        self._network = network
        self._body = body
        self._tick = tick
        self._began = self._since = time.monotonic()
        self._deadline = self._began + network.deadline
        # In this window of the rate; then in this attempt.
        self._waited, self._came = 0.0, 0
        self._spent, self._gained = 0.0, 0
        self._sent, self._told = 0, 0
        self._failures = 0

    @property
    def took(self) -> float:
        """Seconds since the last request."""
        return time.monotonic() - self._began

    def ask(self) -> None:
        """A request begins."""
        self.is_reading = False
        self._began = self._since = time.monotonic()
        self._sent = 0
        if self._body is not None:
            # What the last attempt sent says nothing about this one.
            self._body.sent = 0

    def answer(self) -> None:
        """The request has an answer; its body has left, as far as it will."""
        self.note(0)
        newly = self._newly_sent()
        if self._tick is not None and newly:
            self._tick(newly)

    def wait(self) -> None:
        """Waiting begins: what the reader spent on its own is not the server's."""
        self._since = time.monotonic()

    def begin_anew(self) -> None:
        """Nothing of the last attempt is kept; the next has its own time to answer."""
        self.answered = False
        self._waited, self._came = 0.0, 0

    def gain(self, count: int) -> None:
        """Bytes came that need not come again."""
        self._gained += count

    def look(self) -> float:
        """End what takes too long; return for how long to look away."""
        self.count(0)
        if self._tick is not None:
            self._tick(self._newly_sent())
        left = self._deadline - self._since
        if not self.is_reading:
            to_answer = self._began + self._network.response_timeout - self._since
            if to_answer <= 0:
                raise BrokenError("no answer", is_slow=True)
            left = min(left, to_answer)
        if self.answered or self._is_sending:
            left = min(left, self._network.rate_window - self._waited)
        return min(left, _LOOK)

    def note(self, came: int) -> None:
        """Take note of the time until now, and of `came` bytes in it."""
        now = time.monotonic()
        waited, self._since = now - self._since, now
        self._spent += waited
        is_sending = self._is_sending
        if self._body is not None and self._body.sent > self._sent:
            came += self._body.sent - self._sent
            self._sent = self._body.sent
            self._began = now
        # The first answer has its own time; one that was broken off for has not.
        if self.answered or is_sending:
            self._waited += waited
            self._came += came

    def count(self, came: int) -> None:
        """Hold the transfer to its deadline and rate; only waiting counts.

        Raises:
            TooSlowError: it breaks one of them.
        """
        self.note(came)
        if self._since > self._deadline:
            raise TooSlowError(
                f"{self.url} took longer than {self._network.deadline:g} s",
                url=self.url,
                unreachable=not self.answered,
            )
        if self._waited < self._network.rate_window:
            return
        if self._came < self._waited * self._network.minimum_rate:
            did = "took" if self._is_sending else "gave"
            raise TooSlowError(
                f"{self.url} {did} {self._came} bytes in {self._waited:.0f} s, "
                f"expected {self._network.minimum_rate} per second",
                url=self.url,
            )
        self._waited, self._came = 0.0, 0

    def failure(
        self,
        text: str,
        *,
        status: int | None = None,
        missing: bool = False,
        hint: str | None = None,
    ) -> FetchError:
        """Return the error that says `text` about the URL."""
        return FetchError(
            f"{self.url} {text}",
            url=self.url,
            status=status,
            missing=missing,
            hint=hint,
        )

    def broke(self, why: BrokenError, text: str) -> FetchError:
        """Return the error for an answer that broke off."""
        kind = TooSlowError if why.is_slow else FetchError
        return kind(f"{self.url} {text}: {why}", url=self.url, hint=why.hint)

    def pause(
        self,
        failure: FetchError,
        why: Exception | None,
        *,
        again: bool = True,
        asked: float | None = None,
    ) -> None:
        """Wait before the next try.

        Args:
            failure: raised when there is none.
            why: its cause.
            again: whether there may be one.
            asked: seconds that the server asked for.
        """
        self.count(0)
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

    @property
    def _is_sending(self) -> bool:
        body = self._body
        return body is not None and not self.is_reading and 0 < self._sent < body.size

    def _newly_sent(self) -> int:
        # What is sent again was told before.
        newly = max(0, self._sent - self._told)
        self._told += newly
        return newly

    def _sleep(self, seconds: float) -> None:
        while self._tick is not None and seconds > _LOOK:
            time.sleep(_LOOK)
            seconds -= _LOOK
            self._tick(0)
        time.sleep(seconds)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return for how many seconds a server asks to be left alone."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        return float(text)
    try:
        # Both times are the server's: its clock may be wrong, and so may ours.
        then = parsedate_to_datetime(text)
        now = parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (then - now).total_seconds())
    except (TypeError, ValueError, OverflowError):  # an hour or a zone beyond all time
        return None
