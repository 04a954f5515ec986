"""The seams in urllib3 and http.client through which sockets are reached.

- Connections tell the line of their thread which socket they use, so that it is cut.
- A body is sent in such pieces that progress is seen.
- Each answer (`http.client.HTTPConnection.response_class`) remembers the socket that it
  reads, also when the connection has let go of it ("Connection: close").

- An answer ends where it says: interim answers are no answers, chunk sizes are numbers,
  and a connection with more behind the answer is of no use.

`tests/transport/test_direct.py` and `test_framing.py` say what a new urllib3 or Python
must still do.
"""

from __future__ import annotations

import re
import socket
import ssl
import sys
from contextlib import nullcontext, suppress
from http.client import HTTPException, HTTPResponse, IncompleteRead
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING, Any, Final

from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from margo_supplychain.transport.broken import BrokenError
from margo_supplychain.transport.line import shut
from margo_supplychain.transport.watchdog import Watched

if TYPE_CHECKING:
    import threading

# One record of TLS: OpenSSL sends what it is given to the end before it says anything.
_RECORD: Final = 1 << 14
# What the kernel takes and keeps counts as sent. Without this it may be megabytes: a
# slow link would then seem to stand still for longer than is borne.
_UNSENT: Final = 1 << 16
_MOST_ADDRESSES: Final = 8
_MOST_INTERIM: Final = 8
_MOST_OF_LINE: Final = 4096
# `int` would also take signs, blanks, underscores and "0x".
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\r?\n", re.DOTALL)


class Heard(HTTPResponse):
    """An answer of http.client that knows its socket."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        # Of TLS inside of TLS it is none of Python's sockets.
        self.wire: Any = sock

    @property
    def tells_its_end(self) -> bool:
        """Whether a body that was cut differs from a whole one."""
        return bool(self.chunked) or self.length is not None

    def begin(self) -> None:
        """Read the headers of the answer; http.client takes 102 and above for one."""
        for _ in range(_MOST_INTERIM):
            super().begin()
            if not 100 < self.status < 200:
                return
            if self.status == 101:
                # What follows is no HTTP, and nobody has asked for that.
                raise HTTPException("switched protocols")
            self.headers = self.msg = None  # type: ignore[assignment]  # as at first
        raise HTTPException("too many interim answers")

    def _read_next_chunk_size(self) -> int:
        line = self.fp.readline(_MOST_OF_LINE)
        if not line:
            raise IncompleteRead(b"")
        found = _CHUNK.fullmatch(line)
        if found is None:
            raise HTTPException("no size of a chunk")
        return int(found[1], 16)

    def _close_conn(self) -> None:
        # Each end of an answer comes by here.
        if not self.will_close and self._has_more():
            # It would be taken for the next answer. Who is shut is not used again.
            shut(self.wire)
        super()._close_conn()  # type: ignore[misc]  # typeshed knows nothing of it

    def _has_more(self) -> bool:
        if not isinstance(self.wire, socket.socket):
            return False
        # In the file's buffer, in that of TLS or of the kernel: whatever is there now.
        # What comes later is found by urllib3 before the next request.
        patience = self.wire.gettimeout()
        is_tls = isinstance(self.wire, ssl.SSLSocket)
        with suppress(OSError, ValueError):
            self.wire.settimeout(0)
            try:
                with Watched(self.wire) if is_tls else nullcontext():
                    return bool(self.fp.peek(1))
            except BrokenError:
                return True
            finally:
                self.wire.settimeout(patience)
        return False


class _LineConnection(HTTPConnection):
    here: threading.local  # .line, and .body or None
    patience: float
    _handle: socket.socket | None = None

    def response_class(  # type: ignore[override]  # http.client only calls it
        self, sock: socket.socket, *args: Any, **options: Any
    ) -> Heard:
        """Hold the socket as long as the answer is read."""
        self._hold(sock)
        return Heard(sock, *args, **options)

    def _new_conn(self) -> socket.socket:
        opened = self._connected()
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        # TLS moves the descriptor to another object; ours stays good until `close`.
        self._handle = opened.dup()
        self._hold(self._handle)
        return opened

    def _connected(self) -> socket.socket:
        """Connect as urllib3 does, but to few addresses, and on the line."""
        try:
            opened = self._first_that_takes(_addresses(self._dns_host, self.port))
        except socket.gaierror as why:
            raise exceptions.NameResolutionError(self.host, self, why) from why
        except TimeoutError as why:
            raise exceptions.ConnectTimeoutError(self, "timed out") from why
        except OSError as why:
            raise exceptions.NewConnectionError(self, str(why)) from why
        sys.audit("http.client.connect", self, self.host, self.port)
        return opened

    def _first_that_takes(self, addresses: list[Any]) -> socket.socket:
        failure = OSError("the name has no address")
        for family, kind, protocol, _, address in addresses:
            opened = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    opened.setsockopt(*option)
                opened.settimeout(self.timeout)
                # Before it is waited for: a line that is cut leaves nothing behind.
                self._hold(opened)
                if not self.here.line.is_cut:
                    opened.connect(address)
            except OSError as why:
                opened.close()
                failure = why
            except BaseException:
                opened.close()
                raise
            else:
                if not self.here.line.is_cut:
                    return opened
                opened.close()
            if self.here.line.is_cut:
                raise ConnectionAbortedError("nobody waits any more")
        try:
            raise failure
        finally:
            # An error that its own traceback holds would keep sockets open.
            del failure

    def request(self, *args: Any, **options: Any) -> None:
        # Another line may have opened the connection.
        self._hold(self._handle)
        super().request(*args, **options)

    def send(self, data: Any) -> None:
        """Send all of `data`; the line's owner hears of each part that has left."""
        if self.sock is None:
            self.connect()
        # For each part; urllib3 has left the shorter patience for connecting.
        self.sock.settimeout(self.patience)
        body = self.here.body
        left = memoryview(data)
        most = _RECORD if isinstance(self.sock, ssl.SSLSocket) else len(left)
        while left:
            count = self.sock.send(left[:most])
            left = left[count:]
            if body is not None:
                body.note(count)

    def close(self) -> None:
        super().close()
        if self._handle is not None:
            self._handle.close()

    def _hold(self, handle: Any) -> None:
        # What urllib3 makes of TLS inside of TLS is no socket; `_handle` is below it.
        if isinstance(handle, socket.socket):
            self.here.line.hold(handle)


def _addresses(host: str, port: int) -> list[Any]:
    """Look a name up; the families take turns, so that a broken one is no end."""
    try:
        host.encode("idna")
    except UnicodeError as why:
        raise exceptions.LocationParseError(f"{host[:80]!r} is no host") from why
    found = socket.getaddrinfo(host.strip("[]"), port, 0, socket.SOCK_STREAM)
    families: dict[int, list[Any]] = {}
    for one in dict.fromkeys(found):
        families.setdefault(one[0], []).append(one)
    turns = chain.from_iterable(zip_longest(*families.values()))
    return list(islice((one for one in turns if one is not None), _MOST_ADDRESSES))


class _LineTlsConnection(_LineConnection, HTTPSConnection):
    pass


def pools(
    local: threading.local, *, patience: float
) -> dict[str, type[HTTPConnectionPool]]:
    """Return urllib3's pools by scheme, with connections that know their line."""
    to_send = patience

    class Plain(_LineConnection):
        here = local
        patience = to_send

    class Tls(_LineTlsConnection):
        here = local
        patience = to_send

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    return {"http": PlainPool, "https": TlsPool}
