"""Sending one blob: in constant memory, and on after a break.

Bytes are hashed as they leave, and the upload is only finished when they are the ones
that were promised. A large blob goes as one streamed PATCH, which every registry takes:
GHCR bounds chunks at 4 MiB, ECR miscounts them. After a break the registry is asked how
much it has; where that leads nowhere, or a proxy takes no body of this size, the rest
goes in chunks. Who can't read his data again gets the error instead.
"""

from __future__ import annotations

import random
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Final

from margo_supplychain.errors import (
    DigestMismatchError,
    FetchError,
    LengthMismatchError,
    SupplyChainError,
)
from margo_supplychain.transport.oci_registry.answers import (
    check_digest_header,
    failure,
    location,
    push_failure,
)
from margo_supplychain.transport.oci_registry.hashed_data import HashedData
from margo_supplychain.transport.request import Body

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from margo_supplychain.errors import RefusedError
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.transport.exchange import Answer
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.oci_registry.authorization import Access
    from margo_supplychain.transport.oci_registry.client import RegistryClient
    from margo_supplychain.transport.oci_registry.tokens import Tick

SMALL: Final = 1 << 20  # sent with one PUT, from memory
CHUNK: Final = 4 << 20  # where the whole doesn't pass
_LARGEST_CHUNK: Final = 1 << 30
_LOOK: Final = 1.0  # seconds between two looks at the caller's patience
_OCTETS: Final = {"Content-Type": "application/octet-stream"}
_DONE: Final = frozenset({200, 201, 204})
_GOES_ON: Final = frozenset({200, 201, 202, 204})  # 201: ECR
# What a registry may answer in the midst of an upload that is worth resuming.
_BROKEN: Final = frozenset({401, 404, 408, 416, 429, 500, 502, 503, 504})
_NOT_OURS: Final = (LengthMismatchError, DigestMismatchError)
_RANGE: Final = re.compile(r"(?:bytes=)?0-([0-9]{1,16})", re.ASCII)


class Upload:
    """The requests that bring one blob to a registry.

    Args:
        client: of the registry.
        access: to push to the repository.
        begin: opens a session; returns the registry's 202.
        is_there: says whether the registry has the blob.
        what: digest and size that are promised.
        data: read from where it stands now.
        name: of the blob, in errors.
        network: the limits.
        tick: called with how many bytes have left, and with 0 while waiting.
    """

    def __init__(
        self,
        client: RegistryClient,
        access: Access,
        *,
        begin: Callable[[], Answer],
        is_there: Callable[[], bool],
        what: Descriptor,
        data: BinaryIO,
        name: str,
        network: Network,
        tick: Tick,
    ) -> None:
        self._client = client
        self._access = access
        self._begin = begin
        self._is_there = is_there
        self._what = what
        self._read = HashedData(what, data, name)
        self._name = name
        self._network = network
        self._tick = tick
        self._told = 0
        self._failures = 0
        self._stored = 0
        self._least = 0
        self._chunk: int | None = None
        self._was_resumed = False
        self._where = ""
        self._is_finishing = False

    def send(self, opened: Answer) -> None:
        """Send everything, and finish.

        Args:
            opened: the registry's 202.

        Raises:
            LengthMismatchError, DigestMismatchError: the data is not what was promised.
            FetchError, RefusedError: the registry does not take it.
        """
        self._take(opened)
        try:
            while not self._has_sent():
                pass
        except SupplyChainError as why:
            if isinstance(why, _NOT_OURS) or why is self._read.failure:
                with suppress(FetchError):
                    self._client.ask("DELETE", self._where, self._access, repeat=False)
            raise

    def _has_sent(self) -> bool:
        self._is_finishing = False
        try:
            self._send_rest()
            self._finish()
        except FetchError as why:
            if why is self._read.failure:
                raise
            # Perhaps only the answer was lost.
            if self._is_finishing and why.status in {None, 404} and self._is_there():
                return True
            self._recover(why)
            return False
        return True

    def _take(self, answer: Answer) -> None:
        self._where = location(answer, origin=self._client.origin, what=self._name)
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        if re.fullmatch(r"[0-9]{1,10}", least, re.ASCII):
            self._least = min(int(least), _LARGEST_CHUNK)

    def _send_rest(self) -> None:
        while (left := self._what.size - self._read.position) > 0:
            if not self._is_long:
                return
            size = left
            if self._chunk is not None:
                size = min(left, max(self._chunk, self._least))
            start = self._read.position
            headers = dict(_OCTETS)
            if size < self._what.size:
                headers["Content-Range"] = f"{start}-{start + size - 1}"
            body = Body(self._read.chunk(), size=size, replayable=False)
            answer = self._ask("PATCH", self._where, body, headers, start=start)
            if answer.status not in _GOES_ON:
                raise self._failure(answer)
            self._take(answer)
            self._stored, self._failures = self._read.position, 0

    def _finish(self) -> None:
        start = self._read.position
        body = self._read.rest()
        digest = self._read.check()
        separator = "&" if "?" in self._where else "?"
        url = f"{self._where}{separator}digest={self._what.digest}"
        self._is_finishing = True
        answer = self._ask("PUT", url, Body.of(body), _OCTETS, start=start)
        if answer.status not in _DONE:
            raise self._failure(answer)
        check_digest_header(answer, digest, what=self._name)

    def _ask(
        self,
        method: str,
        url: str,
        body: Body,
        headers: Mapping[str, str],
        *,
        start: int,
    ) -> Answer:
        def tick(_: int) -> None:
            if self._tick is not None:
                # What is sent again was told before.
                newly = max(0, start + body.sent - self._told)
                self._told += newly
                self._tick(newly)

        try:
            answer = self._client.ask(
                method,
                url,
                self._access,
                body=body,
                headers=headers,
                repeat=False,
                tick=tick,
            )
        except FetchError as why:
            if why is self._read.failure:
                raise
            raise self._renamed(why) from why
        tick(0)
        return answer

    def _failure(self, answer: Answer) -> FetchError | RefusedError:
        is_last = self._chunk is not None or not self._is_long
        if answer.status == 413 and (is_last or not self._read.can_rewind):
            return push_failure(answer, host=self._client.host, what=self._name)
        found = failure(answer, host=self._client.host, what=self._name)
        found.missing = False  # what is not there is the session, not the blob
        return found

    def _renamed(self, why: FetchError) -> FetchError:
        # The URL of a session is long, and whoever knows it may go on with it.
        return type(why)(
            str(why).replace(why.url, self._name),
            url=self._name,
            status=why.status,
            unreachable=why.unreachable,
            hint=why.hint,
        )

    # --- after a failure -------------------------------------------------------------

    def _recover(self, why: FetchError) -> None:
        """Stand where the registry stands, or raise `why`."""
        self._failures += 1
        if (
            not self._read.can_rewind
            or self._failures >= self._network.tries
            or not self._is_worth_it(why)
        ):
            raise why
        self._sleep(min(0.25 * 2**self._failures, 3.0, self._network.longest_delay))
        position = self._position(why)
        if position is None:
            self._take(self._begin())
            position = 0
        self._was_resumed = position > 0
        self._read.rewind(position)
        if position > self._stored:
            self._stored, self._failures = position, 0
        else:
            # The same again would end the same way.
            self._chunk = CHUNK

    def _is_worth_it(self, why: FetchError) -> bool:
        if why.status is None or why.status in _BROKEN:
            return True
        # A registry that counts wrongly notices it at the end.
        return why.status == 413 or (why.status == 400 and self._was_resumed)

    def _position(self, why: FetchError) -> int | None:
        """Return how much the registry has; None when it must be begun anew."""
        if not self._is_long or why.status in {400, 416}:
            return None
        try:
            # May be repeated, and renews a token.
            answer = self._client.ask(
                "GET", self._where, self._access, tick=waiting(self._tick)
            )
        except FetchError as again:
            raise self._renamed(again) from why
        if answer.status in {401, 403}:
            raise self._failure(answer)
        there = _RANGE.fullmatch(answer.headers.get("Range", ""))
        if answer.status not in _GOES_ON or there is None:
            return None
        # "0-0" is written for no bytes as well as for one.
        position = int(there[1]) + 1 if int(there[1]) else 0
        if position > self._read.furthest:
            return None
        if answer.headers.get("Location"):
            self._take(answer)
        return position

    @property
    def _is_long(self) -> bool:
        return self._what.size > SMALL

    def _sleep(self, seconds: float) -> None:
        # Jitter: authors that lost one registry together must not return together.
        left = seconds * random.uniform(0.5, 1)  # noqa: S311 - jitter is no secret
        while left > 0:
            time.sleep(min(left, _LOOK))
            left -= _LOOK
            if self._tick is not None:
                self._tick(0)


def waiting(tick: Tick) -> Tick:
    """Return `tick` for a request whose bytes are not the blob's."""
    return None if tick is None else lambda _: tick(0)
