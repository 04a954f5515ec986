"""One file over HTTP, resumed where it broke off.

Knows which answers mean "no such file", "not now" and "never", and no bytes' meaning.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from margo_supplychain.transport.asking import Asking
from margo_supplychain.transport.attempts import Attempts
from margo_supplychain.transport.broken import BrokenError
from margo_supplychain.transport.encodings import encoding_problem
from margo_supplychain.transport.request import ANONYMOUS, NO_HEADERS, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from margo_supplychain.transport.connections import Connections
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.request import Caller
    from margo_supplychain.transport.response import Response

_ABSENT: Final = frozenset({404, 410})
_RANGE: Final = re.compile(
    r"bytes ([0-9]{1,16})-[0-9]{1,16}/([0-9]{1,16}|\*)", re.ASCII
)


class Transfer:
    """The requests for one file from byte `start` on.

    Args:
        connections: sends them.
        url: of the file, without credentials.
        network: the limits.
        start: where to begin.
        tick: called with 0 at least every second while something is waited for; what
            it raises ends the transfer.
        caller: credentials; asked once about each 401.
        headers: of each request, for the file's own origin.
        size: of the whole file, where that is known: an answer that ends before it
            without saying that there is no more is gone on with.
    """

    def __init__(
        self,
        connections: Connections,
        url: str,
        *,
        network: Network,
        start: int,
        tick: Callable[[int], None] | None = None,
        caller: Caller = ANONYMOUS,
        headers: Mapping[str, str] = NO_HEADERS,
        size: int | None = None,
    ) -> None:
        self._position = start
        self._skip = 0
        self._size = size
        self._total: int | None = None  # as the current part says
        self._attempts = Attempts(url, network=network, tick=tick)
        self._asking = Asking(
            connections,
            Request("GET", url, headers),
            network=network,
            attempts=self._attempts,
            caller=caller,
        )
        self._response: Response | None = None

    def begin(self) -> None:
        """Ask until there is an answer.

        Raises:
            FetchError: no usable answer; `missing` and `unreachable` say more.
            TooSlowError: no answer in time.
        """
        self._begin()

    def read_into(self, buffer: memoryview) -> int:
        """Fill `buffer` with what comes next; 0 at the end.

        Raises:
            FetchError: the transfer broke and could not be resumed.
            TooSlowError: the deadline passed, or too few bytes came.
        """
        while len(buffer):
            response = self._begin()
            into = buffer[: self._skip] if self._skip else buffer
            try:
                self._attempts.wait()
                count = response.read_into(into, look=self._attempts.look)
                self._attempts.count(count)
                if not count and not self._is_whole(response):
                    raise BrokenError("it ended without saying that there is no more")
            except BrokenError as why:
                self.close()
                text = f"broke off after {self._position} bytes"
                self._attempts.pause(self._attempts.broke(why, text), why)
                continue
            if self._skip:
                if not count:
                    raise self._attempts.failure(
                        f"has fewer than {self._position} bytes"
                    )
                self._skip -= count
                continue
            self._position += count
            self._attempts.gain(count)
            return count
        return 0

    def close(self) -> None:
        """Give the connection back, or end it when bytes are left in it."""
        response, self._response = self._response, None
        if response is not None:
            response.close()

    def _is_whole(self, response: Response) -> bool:
        """Say whether an answer that ended did so on purpose, right or wrong."""
        if self._size is not None and self._position - self._skip >= self._size:
            return True
        if response.status == 206 and (self._total, self._size) != (None, None):
            # A server may give less than was asked for (RFC 9110 §15.3.7).
            return self._total is not None and self._position >= self._total
        return response.tells_its_end

    def _begin(self) -> Response:
        if self._response is None:
            ranged = {"Range": f"bytes={self._position}-"} if self._position else {}
            response = self._asking.answer(ranged)
            self._check(response)
            self._response = response
        return self._response

    def _check(self, response: Response) -> None:
        problem = self._problem(response)
        if problem is None:
            return
        response.discard()
        hint = None
        if response.status == 403:
            hint = (
                "if this is a bucket that answers 403 for files it does not have, let "
                "readers list it"
            )
        raise self._attempts.failure(
            problem,
            status=response.status,
            missing=response.status in _ABSENT,
            hint=hint,
        )

    def _problem(self, response: Response) -> str | None:
        """Say what is wrong with an answer; else know how much of it to skip."""
        if response.status in _ABSENT:
            return "does not exist"
        if response.status == 416:
            return f"has fewer than {self._position} bytes"
        if response.status not in {200, 206}:
            return f"answered {response.status}"
        problem = encoding_problem(response.headers)
        if problem is not None:
            return problem
        # 200: the server ignores ranges (RFC 9110 §14.2) and begins at the beginning.
        self._skip = self._position
        if response.status == 206:
            found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if found is None or not self._position or int(found[1]) != self._position:
                return f"came in part, but not from byte {self._position}"
            self._skip = 0
            self._total = None if found[2] == "*" else int(found[2])
        return None
