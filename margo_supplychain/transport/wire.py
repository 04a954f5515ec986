"""The seams in urllib3 and http.client through which sockets are reached.

- Connections tell the line of their thread which socket they use, so that it is cut.
- A body is sent in such pieces that progress is seen.
- Each answer (`http.client.HTTPConnection.response_class`) remembers the socket that it
  reads, also when the connection has let go of it ("Connection: close").

`tests/transport/test_seams.py` says what a new urllib3 or Python must still do.
"""

from __future__ import annotations

import socket
import ssl
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any, Final

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    import threading

# One record of TLS: OpenSSL sends what it is given to the end before it says anything.
_RECORD: Final = 1 << 14
# What the kernel takes and keeps counts as sent. Without this it may be megabytes: a
# slow link would then seem to stand still for longer than is borne.
_UNSENT: Final = 1 << 16


class Heard(HTTPResponse):
    """An answer of http.client that knows its socket."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.wire = sock


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
        opened = super()._new_conn()
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        # TLS moves the descriptor to another object; ours stays good until `close`.
        self._handle = opened.dup()
        self._hold(self._handle)
        return opened

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
