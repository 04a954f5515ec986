"""One client for each registry: its origin, connections, logins and tokens.

Example:
    >>> client = registry_client("registry.example:5000", network=Network())
    >>> client.origin
    'https://registry.example:5000'
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from margo_supplychain.formats.references import registry_host
from margo_supplychain.transport.connections import Connections
from margo_supplychain.transport.exchange import exchange
from margo_supplychain.transport.network import is_loopback
from margo_supplychain.transport.oci_registry.authorization import (
    Access,
    Authorization,
    Speaker,
)
from margo_supplychain.transport.request import NO_HEADERS, Request
from margo_supplychain.transport.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.transport.exchange import Answer
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.oci_registry.tokens import Tick
    from margo_supplychain.transport.request import Body

MAX_ANSWER: Final = 1 << 20  # of anything that is neither a manifest nor a blob
_MOST_CLIENTS: Final = 32
_MOST_AUTHORIZATIONS: Final = 1024
_MOST_HELD: Final = 4096  # blobs of which is known who has them


class RegistryClient:
    """Asks one registry, and shows it what each repository asks for; thread-safe.

    Args:
        host: `host[:port]`, as an oci:// URL has it.
        network: the limits, how registries are reached, and Docker's configuration.

    Raises:
        OciFormatError: the host is none.
    """

    def __init__(self, host: str, *, network: Network) -> None:
        self.host = registry_host(host)
        is_plain = _is_plain(self.host, network)
        name, _, port = self.host.rpartition(":")
        usual = "80" if is_plain else "443"
        # One spelling of an origin, as URLs are compared.
        address = name if port == usual and name else self.host
        self._network = network
        self._connections = Connections(network)
        self.origin = f"{'http' if is_plain else 'https'}://{address}"
        self._lock = threading.Lock()
        self._authorizations: OrderedDict[Access, Authorization] = OrderedDict()
        self._holders: OrderedDict[Digest, str] = OrderedDict()

    def ask(
        self,
        method: str,
        url: str,
        access: Access,
        *,
        body: bytes | Body | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
        limit: int = MAX_ANSWER,
        repeat: bool | None = None,
        tick: Tick = None,
    ) -> Answer:
        """Return the registry's answer, whatever its status; see `exchange`.

        Args:
            url: of this origin.
            access: what the request is about.

        Raises:
            ValueError: the URL is another origin's.
            FetchError: no answer, or no login for it.
        """
        return exchange(
            self._connections,
            Request(method, self._own(url), headers, body),
            network=self._network,
            caller=self._speaker(access, tick),
            limit=limit,
            repeat=repeat,
            tick=tick,
        )

    def transfer(
        self,
        url: str,
        access: Access,
        *,
        start: int = 0,
        size: int | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
        tick: Tick = None,
    ) -> Transfer:
        """Return a transfer of one file, not begun yet; see `Transfer`."""
        return Transfer(
            self._connections,
            self._own(url),
            network=self._network,
            start=start,
            tick=tick,
            caller=self._speaker(access, tick),
            headers=headers,
            size=size,
        )

    def _own(self, url: str) -> str:
        if not url.startswith(f"{self.origin}/"):
            raise ValueError(f"{url[:160]!r} is not a URL of {self.origin}")
        return url

    def remember(self, blob: Digest, path: str) -> None:
        """Take note that a repository has a blob, as the registry says."""
        with self._lock:
            self._holders[blob] = path
            self._holders.move_to_end(blob)
            while len(self._holders) > _MOST_HELD:
                self._holders.popitem(last=False)

    def holders(self, blob: Digest) -> tuple[str, ...]:
        """Return the repositories that a blob may be mounted from; most often none."""
        with self._lock:
            found = self._holders.get(blob)
        return () if found is None else (found,)

    def _speaker(self, access: Access, tick: Tick) -> Speaker:
        with self._lock:
            found = self._authorizations.pop(access, None)
            if found is None:
                found = Authorization(
                    self.host,
                    self.origin,
                    access,
                    network=self._network,
                    connections=self._connections,
                )
            self._authorizations[access] = found
            while len(self._authorizations) > _MOST_AUTHORIZATIONS:
                self._authorizations.popitem(last=False)
        return Speaker(found, url=self.origin, tick=tick)


class _Clients:
    """The clients of this process, the least used forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple[str, Network], RegistryClient] = OrderedDict()

    def get(self, host: str, network: Network) -> RegistryClient:
        with self._lock:
            key = (host, network)
            client = self._found.pop(key, None)
            if client is None:
                client = RegistryClient(host, network=network)
            self._found[key] = client
            while len(self._found) > _MOST_CLIENTS:
                self._found.popitem(last=False)
            return client


_CLIENTS: Final = _Clients()


def registry_client(host: str, *, network: Network) -> RegistryClient:
    """Return the client of a registry: one for each host and equal `network`.

    Raises:
        OciFormatError: the host is none.
    """
    return _CLIENTS.get(host, network)


def _is_plain(host: str, network: Network) -> bool:
    """Say whether a registry speaks http: told so, or on loopback without TLS."""
    access = network.access(f"https://{host}/")
    if access.plain_http:
        return True
    name = urlsplit(f"https://{host}/").hostname or ""
    return is_loopback(name) and access.ca_file is None and access.certificate is None
