"""Sending one blob: in constant memory, and on after a break.

Bytes are hashed as they leave, and the upload is only finished when they are the ones
that were promised. A large blob goes as one streamed PATCH, which every registry takes:
GHCR bounds chunks at 4 MiB, ECR miscounts them. After a break the registry is asked how
much it has; where that leads nowhere, or a proxy takes no body of this size, the rest
goes in chunks. Who can't read his data again gets the error instead.
"""

from __future__ import annotations

import hashlib
import random
import re
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from margo_supplychain.errors import (
    DigestMismatchError,
    FetchError,
    LengthMismatchError,
    StorageError,
    SupplyChainError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.transport.oci_registry.answers import (
    check_digest_header,
    failure,
    location,
    push_failure,
)
from margo_supplychain.transport.request import Body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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
_PIECE: Final = 1 << 18
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
        self._read = _Hashed(what, data, name)
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


class _Hashed:
    """Data that is hashed while it is read, and can be read again from a position."""

    def __init__(self, what: Descriptor, data: BinaryIO, name: str) -> None:
        self._what = what
        self._data = data
        self._name = name
        self.can_rewind = data.seekable()
        self._base = data.tell() if self.can_rewind else 0
        self._hash = hashlib.new(what.digest.algorithm)
        self.position = 0
        self.furthest = 0
        self.failure: SupplyChainError | None = None  # of whoever gives the data
        # Where the chunk began: the hash can be continued from there.
        self._mark = 0, self._hash.copy()
        self._reader: _Chunk | None = None

    def chunk(self) -> BinaryIO:
        """Return a reader of what comes next; the one before is over."""
        self._mark = self.position, self._hash.copy()
        self._retire()
        self._reader = _Chunk(self)
        # typeshed's BinaryIO is nominal; a body only reads.
        return cast("BinaryIO", self._reader)

    def _retire(self) -> None:
        # A thread that is stuck in a request must not read on beside us.
        if self._reader is not None:
            self._reader.end()
            self._reader = None

    def take(self, size: int) -> bytes:
        """Read and hash; as many as there are.

        Raises:
            LengthMismatchError: there are none.
        """
        with self._reading():
            piece = self._data.read(size)
        if size and not piece:
            raise self._wrong_size(self.position)
        self._hash.update(piece)
        self.position += len(piece)
        self.furthest = max(self.furthest, self.position)
        return piece

    def rest(self) -> bytes:
        """Return everything that comes next, which is little."""
        pieces = []
        while self.position < self._what.size:
            pieces.append(self.take(self._what.size - self.position))
        return b"".join(pieces)

    def rewind(self, position: int) -> None:
        """Stand at `position`, which was read before."""
        self._retire()
        begin, state = self._mark
        if position < begin:
            begin, state = 0, hashlib.new(self._what.digest.algorithm)
        with self._reading():
            self._data.seek(self._base + begin)
        self.position, self._hash = begin, state.copy()
        while self.position < position:
            self.take(min(position - self.position, _PIECE))

    def check(self) -> Digest:
        """Return the digest of everything, if it is the promised one.

        Raises:
            LengthMismatchError, DigestMismatchError: it is not.
        """
        self._retire()
        with self._reading():
            is_more = bool(self._data.read(1))
            if self.can_rewind:
                self._data.seek(self._base + self.position)
        if is_more:
            raise self._wrong_size(None)
        found = Digest(self._what.digest.algorithm, self._hash.hexdigest())
        if found != self._what.digest:
            raise DigestMismatchError(
                f"{self._name} has the digest {found}, expected {self._what.digest}",
                subject=self._name,
                expected=str(self._what.digest),
                found=str(found),
                hint="nothing was stored: what is sent changed since it was described",
            )
        return found

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as why:
            raise StorageError(
                f"can't read what is sent: {why.strerror or why}",
                path=str(getattr(self._data, "name", "")),
            ) from why
        except SupplyChainError as why:
            # It may come from another registry: not to be taken for this one's.
            self.failure = why
            raise

    def _wrong_size(self, found: int | None) -> LengthMismatchError:
        has = "more bytes" if found is None else f"{found} bytes"
        return LengthMismatchError(
            f"{self._name} has {has}, expected {self._what.size}",
            subject=self._name,
            expected=self._what.size,
            found=found,
            hint="nothing was stored: what is sent changed since it was described",
        )


class _Chunk:
    """What the body of one request reads; another thread may be in it."""

    def __init__(self, data: _Hashed) -> None:
        self._data: _Hashed | None = data
        self._lock = threading.Lock()

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes; none when it is over."""
        with self._lock:
            return b"" if self._data is None else self._data.take(size)

    def end(self) -> None:
        """Give nothing more."""
        with self._lock:
            self._data = None
