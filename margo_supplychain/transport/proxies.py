"""Through which proxy a request goes, and what that one is shown.

A registry's own proxy, else the environment's. Nothing that the environment says
reaches a message: it may hold a password.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from margo_supplychain.transport.broken import BrokenError
from margo_supplychain.transport.network import is_loopback, is_proxy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from margo_supplychain.transport.network import RegistryAccess


class Proxies:
    """The environment's proxies as they were when this was made."""

    def __init__(self) -> None:
        self._given = getproxies()

    def choose(self, url: str, access: RegistryAccess) -> str | None:
        """Return the URL of the proxy for a request; None for none.

        Raises:
            BrokenError: the one that is named can't be used.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        if access.proxy is not None:
            if access.proxy and parts.scheme == "http" and is_loopback(host):
                # Logins go to loopback in clear text since nobody is on the way.
                raise BrokenError(
                    "it speaks plain http on this machine, and a proxy is named for it",
                    is_final=True,
                    hint="leave proxy out for it: a login would go there in clear text",
                )
            return access.proxy or None
        # What is on this machine is no business of a proxy elsewhere, as for curl's
        # users with no_proxy and for everything written in Go.
        if is_loopback(host) or proxy_bypass(host):
            return None
        return self._named(parts.scheme)

    def _named(self, scheme: str) -> str | None:
        name = scheme if self._given.get(scheme) else "all"
        text = self._given.get(name)
        if not text:
            return None
        proxy = text if "://" in text else f"http://{text}"
        if not is_proxy(proxy):
            raise BrokenError(
                f"the proxy that {name}_proxy names is not "
                "http(s)://[USER:PASSWORD@]HOST[:PORT]",
                is_final=True,
                hint=f"correct {name}_proxy in the environment",
            )
        return proxy


def proxy_headers(proxy: str) -> Mapping[str, str]:
    """Return the login that the URL of a proxy holds, as its header."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return dict(urllib3.make_headers(proxy_basic_auth=login))
