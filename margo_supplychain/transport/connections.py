"""urllib3's connections, each on a line that can be cut, and its errors in one shape.

The only module that imports urllib3; it is itself imported when the first file is
fetched over HTTP.
"""

from __future__ import annotations

import re
import ssl
import threading
from http.client import HTTPException, IncompleteRead
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from margo_supplychain.version import __version__

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from urllib3.response import BaseHTTPResponse

    from margo_supplychain.transport.line import Line
    from margo_supplychain.transport.network import Network

_ON_TLS: Final = re.compile(r"\[[A-Z0-9_: ]{1,80}\] | \(_ssl\.c:[0-9]{1,6}\)", re.ASCII)


class BrokenError(Exception):
    """A connection gave nothing, or nothing more.

    Args:
        text: why, for people.
        is_slow: it took too long.
        is_final: the next attempt would end the same way.
    """

    def __init__(
        self, text: str, *, is_slow: bool = False, is_final: bool = False
    ) -> None:
        super().__init__(text)
        self.is_slow = is_slow
        self.is_final = is_final


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
        # urllib3 picks the connection, and picks it in the thread that asks.
        self._here = threading.local()
        self._pools = _pools(self._here)
        self._proxies = getproxies()
        self._managers: dict[str | None, urllib3.PoolManager] = {}

    def get(
        self, url: str, *, start: int, line: Line, look: Callable[[], float]
    ) -> BaseHTTPResponse:
        """Ask for `url` from byte `start`; return when its headers are there.

        Args:
            line: does it.
            look: see `Line.call`.

        Raises:
            BrokenError: there is no answer; nothing was tried twice.
        """

        def ask() -> BaseHTTPResponse:
            self._here.line = line
            try:
                return self._ask(url, start)
            except (urllib3.exceptions.HTTPError, OSError) as why:
                raise _broken(why) from why

        return line.call(ask, look=look, drop=lambda response: response.close())

    def _ask(self, url: str, start: int) -> BaseHTTPResponse:
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


def read(
    response: BaseHTTPResponse, most: int, *, line: Line, look: Callable[[], float]
) -> bytes:
    """Return the next bytes of a response, as many as came; none at its end.

    Raises:
        BrokenError: the connection ended before the response did.
    """

    def take() -> bytes:
        try:
            return response.read1(most, decode_content=False) or b""
        except (urllib3.exceptions.HTTPError, OSError) as why:
            raise _broken(why) from why

    return line.call(take, look=look)


# --- errors --------------------------------------------------------------------------


def _broken(why: Exception) -> BrokenError:
    # urllib3 counts a refused connection among the timeouts.
    is_slow = isinstance(why, urllib3.exceptions.TimeoutError) and not isinstance(
        why, urllib3.exceptions.NewConnectionError
    )
    return BrokenError(
        _reason(why),
        is_slow=is_slow,
        # A certificate that is wrong now is wrong in a second.
        is_final=isinstance(why, urllib3.exceptions.SSLError),
    )


def _reason(why: BaseException) -> str:
    """Say what happened, without the objects of urllib3 that stand around it."""
    inner = why
    while (deeper := _inside(inner)) is not None:
        inner = deeper
    if isinstance(inner, IncompleteRead):
        return "the connection ended early"
    if isinstance(inner, HTTPException) and not isinstance(inner, OSError):
        return "the answer is not HTTP"
    text = (isinstance(inner, OSError) and inner.strerror) or str(inner)
    if isinstance(inner, ssl.SSLError):
        text = _ON_TLS.sub("", text)
    text = " ".join(text.split())[:200] or type(inner).__name__
    return text[:1].lower() + text[1:]


def _inside(why: BaseException) -> BaseException | None:
    around = (*why.args, getattr(why, "original_error", None), why.__cause__)
    return next((one for one in around if isinstance(one, BaseException)), None)


# --- lines ---------------------------------------------------------------------------


class _LineConnection(HTTPConnection):
    """Tells the line of its thread which socket it reads."""

    here: threading.local
    _handle: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        opened = super()._new_conn()
        # TLS moves the descriptor to another object; ours stays good until `close`.
        self._handle = opened.dup()
        self._hold()
        return opened

    def getresponse(self) -> Any:
        # Another line may have opened the connection.
        self._hold()
        return super().getresponse()

    def close(self) -> None:
        super().close()
        if self._handle is not None:
            self._handle.close()

    def _hold(self) -> None:
        if self._handle is not None:
            self.here.line.hold(self._handle)


class _LineTlsConnection(_LineConnection, HTTPSConnection):
    pass


def _pools(local: threading.local) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(_LineConnection):
        here = local

    class Tls(_LineTlsConnection):
        here = local

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    return {"http": PlainPool, "https": TlsPool}
