"""urllib3's connections, each on a line that can be cut, and its errors in one shape.

Certificates and proxies are chosen by the origin of each request, so nothing of one
registry reaches another.

With `wire`, `direct`, `response`, `proxies` and `broken` the only module that imports
urllib3; all of them are themselves imported when the first file is fetched over HTTP.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import urllib3

from margo_supplychain.transport import tls
from margo_supplychain.transport.broken import BrokenError, broken
from margo_supplychain.transport.line import Line
from margo_supplychain.transport.network import is_loopback
from margo_supplychain.transport.proxies import Proxies, proxy_headers
from margo_supplychain.transport.quiet import quiet
from margo_supplychain.transport.request import Body
from margo_supplychain.transport.response import Response
from margo_supplychain.transport.wire import pools
from margo_supplychain.version import __version__

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from urllib3.response import BaseHTTPResponse

    from margo_supplychain.transport.network import Network, RegistryAccess
    from margo_supplychain.transport.request import Request

    Key = tuple[RegistryAccess, str | None, str]

_MOST_IDLE: Final = 8  # connections to one server that wait for the next request
_HEADER: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TWO_WAYS: Final = re.compile(r"[\\@\x00-\x20\x7f]")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)


class Connections:
    """Sends requests; decides nothing about the answers. Thread-safe.

    Args:
        network: the limits, and how each registry is reached.
        plain_http: whether http:// goes to everybody; else only to loopback and to
            registries that the network names for it.
    """

    def __init__(self, network: Network, *, plain_http: bool = False) -> None:
        self._network = network
        self._plain_http = plain_http
        self._timeout = urllib3.Timeout(
            connect=network.connect_timeout, read=network.read_timeout
        )
        # urllib3 picks the connection, and picks it in the thread that asks.
        self._here = threading.local()
        self._pools = pools(self._here, patience=network.read_timeout)
        self._proxies = Proxies()
        self._lock = threading.Lock()
        self._managers: dict[Key, urllib3.PoolManager] = {}

    def send(self, request: Request, *, look: Callable[[], float]) -> Response:
        """Ask, and return when the headers of the answer are there.

        Args:
            request: nothing in it is looked at but where it goes. Of a body that was
                not sent to its end, more may be read as long as the line is stuck.
            look: see `Line.call`.

        Raises:
            BrokenError: there is no answer; nothing was tried twice.
            FetchError: a file that TLS needs can't be used.
            StorageError: the body can't be read.
        """
        self._check(request)
        body = Body.of(request.body) if isinstance(request.body, bytes) else None
        body = body or request.body  # type: ignore[assignment]  # no longer bytes
        line = Line()

        def ask() -> BaseHTTPResponse:
            here = self._here
            here.line, here.body = line, body
            try:
                with quiet():
                    return self._ask(request, body)
            except (urllib3.exceptions.HTTPError, OSError) as why:
                raise broken(why) from why
            finally:
                # The thread lives longer than the line.
                del here.line, here.body

        try:
            response = line.call(ask, look=look, drop=lambda late: late.close())
        except BaseException as why:
            line.end()
            if line.is_stuck and body is not None and isinstance(why, BrokenError):
                # Who is stuck may go on reading the body: it can't be sent again.
                raise BrokenError(str(why), is_slow=why.is_slow, is_final=True) from why
            raise
        return Response(
            response, request.url, line=line, patience=self._network.read_timeout
        )

    def _check(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if _TWO_WAYS.search(parts.netloc):
            # urllib3 would go to one host, and credentials are chosen for the other.
            raise BrokenError("its URL can be read in two ways", is_final=True)
        is_open = (
            parts.scheme == "https"
            or self._plain_http
            or is_loopback(parts.hostname or "")
            or self._network.access(request.url).plain_http
        )
        if not is_open:
            raise BrokenError(
                "plain http is not used for it",
                is_final=True,
                hint="use https; a registry that has none must be named for it with "
                "plain_http = true",
            )
        for name, text in request.headers.items():
            if not _NAME.fullmatch(name) or not _HEADER.fullmatch(text):
                # Not repeated: it may be a token.
                raise BrokenError(f"{name[:40]!r} can't be sent", is_final=True)

    def _ask(self, request: Request, body: Body | None) -> BaseHTTPResponse:
        headers = {
            "Accept": "*/*",
            # Bytes are hashed as they are: nothing on the way may encode them.
            "Accept-Encoding": "identity",
            "User-Agent": f"margo-supplychain/{__version__}",
            **request.headers,
        }
        if body is not None:
            body.begin()
            headers["Content-Length"] = str(body.size)
        return self._manager(request.url).request(
            request.method,
            request.url,
            body=body,
            headers=headers,
            preload_content=False,
            decode_content=False,
            redirect=False,
            retries=False,
            timeout=self._timeout,
        )

    def _manager(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        access = self._network.access(url)
        proxy = self._proxies.choose(url, access)
        # Registries with equal access still differ in their names: urllib3 keeps
        # connections by host and port.
        key = (access, proxy, parts.scheme)
        with self._lock:
            manager = self._managers.get(key)
            if manager is None:
                manager = self._managers[key] = self._new_manager(*key, url=url)
        return manager

    def _new_manager(
        self, access: RegistryAccess, proxy: str | None, scheme: str, *, url: str
    ) -> urllib3.PoolManager:
        options: dict[str, Any] = {"maxsize": _MOST_IDLE}
        if scheme == "https":
            options["ssl_context"] = tls.context(self._network, access, url=url)
        manager: urllib3.PoolManager
        if proxy is None:
            manager = urllib3.PoolManager(**options)
        else:
            manager = urllib3.ProxyManager(
                proxy,
                proxy_headers=proxy_headers(proxy),
                proxy_ssl_context=self._to_proxy(proxy, url),
                **options,
            )
        manager.pool_classes_by_scheme = self._pools
        return manager

    def _to_proxy(self, proxy: str, url: str) -> ssl.SSLContext | None:
        is_tls = urlsplit(proxy).scheme == "https"
        return tls.proxy_context(self._network, url=url) if is_tls else None
