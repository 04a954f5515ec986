"""Mirrors that don't answer: how long one is waited for while others could be asked.

A server may accept a connection and say nothing. Alone it is given the owner's whole
patience; while others follow in a list, two short tries, and then nothing for a while,
whichever of its repositories is asked: it would cost the same again for each.

Example:
    >>> from margo_supplychain.transport.network import Network
    >>> impatient(Network()).response_timeout
    10
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, Final, final

from margo_supplychain.errors import FetchError, TooSlowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import TargetPath
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.protocols import Source

PATIENCE: Final = 10  # seconds until a mirror answers
TRIES: Final = 2
LONGEST_DELAY: Final = 5
HOLD: Final = 120.0  # seconds for which a host that did not answer is not asked again


def impatient(network: Network) -> Network:
    """Return the limits for those after whom others are asked; never above `network`.

    Args:
        network: the owner's.
    """
    return replace(
        network,
        connect_timeout=min(network.connect_timeout, PATIENCE),
        response_timeout=min(network.response_timeout, PATIENCE),
        tries=min(network.tries, TRIES),
        longest_delay=min(network.longest_delay, LONGEST_DELAY),
    )


@final
class Silence:
    """Hosts that did not answer a moment ago, and why. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: dict[str, tuple[float, FetchError]] = {}

    def of(self, host: str) -> FetchError | None:
        """Return why a host is not asked now; None if it is."""
        with self._lock:
            found = self._hosts.get(host)
            if found is None or found[0] < time.monotonic():
                return None
            return found[1]

    def add(self, host: str, why: FetchError) -> None:
        """Take note of a host that did not answer."""
        with self._lock:
            self._hosts[host] = (time.monotonic() + HOLD, why)

    def end(self, host: str) -> None:
        """Take note of a host that answered."""
        with self._lock:
            self._hosts.pop(host, None)


@final
class Impatient:
    """A source after which others are asked; implements `Source`.

    Args:
        source: opened with `impatient` limits.
        host: whose silence counts for all that lies there.
        silence: shared by everything that asks the same mirrors.
    """

    def __init__(self, source: Source, *, host: str, silence: Silence) -> None:
        self._source = source
        self._host = host
        self._silence = silence

    @property
    def url(self) -> str:
        """The source's URL."""
        return self._source.url

    @property
    def is_held(self) -> bool:
        """Whether its host is not asked now."""
        return self._silence.of(self._host) is not None

    def release(self) -> None:
        """Let the host be asked again: nobody else had an answer."""
        self._silence.end(self._host)

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        """Return a metadata file; see `Source.metadata`."""
        with self._asked():
            return self._source.metadata(filename, limit=limit, tick=tick)

    @contextmanager
    def target(
        self,
        path: TargetPath,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        """Open a target file; see `Source.target`."""
        with ExitStack() as stack:
            with self._asked():
                stream = stack.enter_context(
                    self._source.target(path, what, start=start, tick=tick)
                )
            yield stream

    @contextmanager
    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        """Open content by digest; see `Source.blob`."""
        with ExitStack() as stack:
            with self._asked():
                stream = stack.enter_context(
                    self._source.blob(what, start=start, tick=tick)
                )
            yield stream

    @contextmanager
    def _asked(self) -> Iterator[None]:
        before = self._silence.of(self._host)
        if before is not None:
            raise type(before)(
                str(before),
                url=before.url,
                status=before.status,
                unreachable=before.unreachable,
                hint=before.hint,
            )
        try:
            yield
        except FetchError as why:
            if why.unreachable or isinstance(why, TooSlowError):
                self._silence.add(self._host, why)
            raise
