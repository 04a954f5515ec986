"""urllib3's connections with an end: no server can hold one open by dripping headers.

The only module that imports urllib3; it is itself imported when the first file is
fetched over HTTP.
"""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from margo_supplychain.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from urllib3.response import BaseHTTPResponse

    from margo_supplychain.transport.network import Network

HTTPError = urllib3.exceptions.HTTPError
RefusedError = urllib3.exceptions.NewConnectionError
NoAnswerError = urllib3.exceptions.TimeoutError
SSLError = urllib3.exceptions.SSLError


class Connections:
    """Sends GET requests; decides nothing about the answers.

    Args:
        network: the limits.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._timeout = urllib3.Timeout(
            connect=network.connect_timeout, read=network.read_timeout
        )
        self._pools = _pools(network.response_timeout)
        self._proxies = getproxies()
        self._managers: dict[str | None, urllib3.PoolManager] = {}

    def get(self, url: str, *, start: int) -> BaseHTTPResponse:
        """Ask for `url` from byte `start`; return when its headers are there.

        Raises:
            HTTPError, OSError: from urllib3, without retries.
        """
        headers = {
            "Accept": "*/*",
            # Bytes are hashed as they are: nothing on the way may encode them.
            "Accept-Encoding": "identity",
            "User-Agent": f"margo-supplychain/{__version__}",
        }
        if start:
            headers["Range"] = f"bytes={start}-"
        return self._manager(url).request(
            "GET",
            url,
            headers=headers,
            preload_content=False,
            decode_content=False,
            redirect=False,
            retries=False,
            timeout=self._timeout,
        )

    def _manager(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = self._proxies.get(parts.scheme) or self._proxies.get("all")
        if proxy is not None and proxy_bypass(parts.hostname or ""):
            proxy = None
        manager = self._managers.get(proxy)
        if manager is None:
            manager = self._managers[proxy] = self._new_manager(proxy)
        return manager

    def _new_manager(self, proxy: str | None) -> urllib3.PoolManager:
        options: dict[str, Any] = {}
        if self._network.ca_file is not None:
            options["ca_certs"] = str(self._network.ca_file)
        manager: urllib3.PoolManager
        if proxy is None:
            manager = urllib3.PoolManager(**options)
        else:
            manager = urllib3.ProxyManager(
                proxy, proxy_headers=_proxy_headers(proxy), **options
            )
        manager.pool_classes_by_scheme = self._pools
        return manager


def _proxy_headers(proxy: str) -> dict[str, str]:
    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return dict(urllib3.make_headers(proxy_basic_auth=login))


class _TimedConnection(HTTPConnection):
    """Is cut when the handshake, or the headers, take too long.

    Timeouts of sockets count from byte to byte: one byte now and then resets them.
    """

    response_timeout: float
    _handle: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        opened = super()._new_conn()
        # TLS moves the descriptor to another object; ours stays good until `close`.
        self._handle = opened.dup()
        return opened

    def connect(self) -> None:
        with self._timed():
            super().connect()

    def getresponse(self) -> Any:
        with self._timed():
            return super().getresponse()

    def close(self) -> None:
        super().close()
        if self._handle is not None:
            self._handle.close()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        late = threading.Event()
        timer = threading.Timer(self.response_timeout, self._cut, [late])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
        # http.client takes headers that break off for complete ones.
        if late.is_set():
            raise TimeoutError("the headers took too long")

    def _cut(self, late: threading.Event) -> None:
        late.set()
        if self._handle is not None:
            with suppress(OSError):
                self._handle.shutdown(socket.SHUT_RDWR)


class _TimedTlsConnection(_TimedConnection, HTTPSConnection):
    pass


def _pools(seconds: float) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(_TimedConnection):
        response_timeout = seconds

    class Tls(_TimedTlsConnection):
        response_timeout = seconds

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    return {"http": PlainPool, "https": TlsPool}
