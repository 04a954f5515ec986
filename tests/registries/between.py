"""Stands between a client and a registry: counts what passes, and may change it.

As a relay it has an address of its own for one registry. As a proxy it is told where to
go by each request, and opens TLS with certificates of its own authority, as inspecting
proxies of companies do.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import ssl
import threading
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.registries.certificates import Authority

_TIMEOUT: Final = 60
_PIECE: Final = 1 << 20
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "proxy-authorization", "te"}
)


class Passed(NamedTuple):
    """A request that passed; `headers` are the client's, by lower-case name."""

    method: str
    path: str
    status: int
    headers: dict[str, str]


class Between(http.server.ThreadingHTTPServer):
    """Passes requests on, in the order and on the connections in which they come.

    Args:
        to: the registry ("127.0.0.1:PORT") of a relay; None for a proxy.
        authority: signs the certificates that a proxy shows.
        upstream_ca: certificates to trust on the other side.
        change: is given path and body of each answer, and returns the body to pass on.

    Attributes:
        change_sent: likewise for the bodies of requests.
        passed: every request, when its answer's headers are there.
        connections: how many clients opened.
        tunnels: the headers of each CONNECT.
    """

    daemon_threads = True

    def __init__(
        self,
        *,
        to: str | None = None,
        authority: Authority | None = None,
        upstream_ca: Path | None = None,
        change: Callable[[str, bytes], bytes] | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.to = to
        self.change = change
        self.change_sent: Callable[[str, bytes], bytes] | None = None
        self.passed: list[Passed] = []
        self.connections = 0
        self.tunnels: list[dict[str, str]] = []
        self.upstream_context = ssl.create_default_context(
            cafile=None if upstream_ca is None else str(upstream_ca)
        )
        self._authority = authority
        self.context_for = cache(self._context_for)

    @property
    def host(self) -> str:
        """Its own address."""
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        """Its own address, as proxies are configured."""
        return f"http://{self.host}"

    def count(self, method: str, part: str = "") -> int:
        """Return how many requests of a method had `part` in their path."""
        return sum(one.method == method and part in one.path for one in self.passed)

    def _context_for(self, host: str) -> ssl.SSLContext:
        if self._authority is None:
            raise RuntimeError("this proxy opens no TLS")
        return self._authority.server_context(hosts=(host,))

    def get_request(self) -> tuple[socket.socket, Any]:
        """Count a connection."""
        self.connections += 1
        return super().get_request()

    def handle_error(self, *_: Any) -> None:
        """Stay silent: clients may leave early."""

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Conversation(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Answers are small writes; waiting to join them would cost 40 ms each.
    disable_nagle_algorithm = True
    server: Between
    # Behind a CONNECT: "host:port" of what was asked for.
    _tunnel: str | None = None
    _upstream: tuple[str, http.client.HTTPConnection] | None = None

    def do_CONNECT(self) -> None:
        headers = {name.lower(): text for name, text in self.headers.items()}
        self.server.tunnels.append(headers)
        self.send_response(200)
        self.end_headers()
        host = self.path.rpartition(":")[0]
        context = self.server.context_for(host)
        self.connection = context.wrap_socket(self.connection, server_side=True)
        self._tunnel = self.path
        self.rfile = self.connection.makefile("rb", -1)
        self.wfile = self.connection.makefile("wb", 0)
        # `handle` goes on with what comes through the tunnel, also after HTTP/1.0.
        self.close_connection = False

    def _pass_on(self) -> None:
        where, path = self._target()
        upstream = self._connection(where)
        # Without these defaults of http.client only the client's own headers pass.
        upstream.putrequest(
            self.command, path, skip_host=True, skip_accept_encoding=True
        )
        pieces = self._body()
        if self.server.change_sent is not None and "Content-Length" in self.headers:
            changed = self.server.change_sent(path, b"".join(pieces))
            self.headers.replace_header("Content-Length", str(len(changed)))
            pieces = iter([changed])
        for name, value in self.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                upstream.putheader(name, value)
        upstream.endheaders()
        for piece in pieces:
            upstream.send(piece)
        answer = upstream.getresponse()
        headers = {name.lower(): text for name, text in self.headers.items()}
        self.server.passed.append(Passed(self.command, path, answer.status, headers))
        self._answer(path, answer)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._pass_on
        raise AttributeError(name)

    def _answer(self, path: str, answer: http.client.HTTPResponse) -> None:
        change = self.server.change
        body = None
        if change is not None and self.command != "HEAD":
            body = change(path, answer.read())
        chunked = body is None and answer.chunked
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() == "transfer-encoding" and not chunked:
                continue
            if name.lower() == "content-length" and body is not None:
                continue
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body is not None:
            self.wfile.write(body)
            return
        while piece := answer.read(_PIECE):
            self.wfile.write(
                b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece
            )
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") == "chunked":
            # Passed on as it is, sizes and all.
            while size := int((line := self.rfile.readline()).split(b";")[0], 16):
                yield line + self.rfile.read(size + 2)
            yield line + self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", 0))
        while left and (piece := self.rfile.read(min(left, _PIECE))):
            left -= len(piece)
            yield piece

    def _target(self) -> tuple[str, str]:
        if self._tunnel is not None:
            return f"https://{self._tunnel}", self.path
        parts = urlsplit(self.path)
        path = parts._replace(scheme="", netloc="").geturl()
        return f"http://{self.server.to or parts.netloc}", path

    def _connection(self, where: str) -> http.client.HTTPConnection:
        if self._upstream is not None and self._upstream[0] == where:
            return self._upstream[1]
        parts = urlsplit(where)
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                parts.netloc, timeout=_TIMEOUT, context=self.server.upstream_context
            )
        else:
            connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT)
        self._upstream = where, connection
        return connection

    def finish(self) -> None:
        """End both sides."""
        if self._upstream is not None:
            self._upstream[1].close()
        with contextlib.suppress(OSError):
            super().finish()
            if self._tunnel is not None:
                self.connection.close()

    def log_message(self, *_: object) -> None:
        """Stay silent."""
