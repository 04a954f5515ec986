"""Asking a token server for one token, through checked requests.

What oras-py's back ends are given instead of a session of requests: one realm, one
method, no redirects, a bounded and strict answer, and a login only where the caller
has said that the realm may see it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

from margo_supplychain.errors import FetchError, FormatError
from margo_supplychain.formats import strict_json
from margo_supplychain.transport.exchange import exchange
from margo_supplychain.transport.request import NO_HEADERS, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from margo_supplychain.transport.connections import Connections
    from margo_supplychain.transport.exchange import Answer
    from margo_supplychain.transport.network import Network

    Tick = Callable[[int], None] | None

_MAX_ANSWER: Final = 64 << 10
_LONGEST_LIFE: Final = 24 * 3600
_USUAL_LIFE: Final = 60  # of a token without one (distribution's token specification)
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,16384}", re.ASCII)


class Asked(NamedTuple):
    """A registry that asks who we are, for one repository."""

    host: str
    url: str
    path: str
    network: Network
    connections: Connections
    tick: Tick

    def failure(
        self, text: str, *, status: int = 401, hint: str | None = None
    ) -> FetchError:
        """Return the error that says what keeps us out."""
        where = f"oci://{self.host}/{self.path}"
        return FetchError(f"{where} {text}", url=where, status=status, hint=hint)


class TokenSession:
    """Asks one realm for a token, as `requests.Session` would; nothing else.

    Args:
        realm: a checked URL.
        asked: whom the token is for.
        has_login: a user and password will be shown.
        ask: takes a URL of the realm and headers as keyword; sends the request.
    """

    def __init__(
        self,
        realm: str,
        asked: Asked,
        *,
        has_login: bool,
        ask: Callable[..., Answer],
    ) -> None:
        self.lifetime = _USUAL_LIFE
        self._realm = realm
        self._asked = asked
        self._has_login = has_login
        self._ask = ask

    def get(self, url: str, **kwargs: Any) -> TokenAnswer:
        """Return the token server's checked answer; see `request`."""
        return self.request("GET", url, **kwargs)

    def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str],
        headers: Mapping[str, str] = NO_HEADERS,
        verify: bool = True,
    ) -> TokenAnswer:
        """Return the token server's checked answer.

        Raises:
            FetchError: it refuses, or its answer is none.
        """
        if method != "GET" or url != self._realm or verify is not True:
            raise NotImplementedError("oras-py asks for something else than a token")
        # One parameter for each scope, as distribution's token specification says.
        query = urlencode(
            [
                (name, one)
                for name, value in params.items()
                for one in (value.split(" ") if name == "scope" else [value])
            ]
        )
        separator = "&" if "?" in url else "?"
        shown = {n: text for n, text in headers.items() if n == "Authorization"}
        answer = self._ask(f"{url}{separator}{query}", headers=shown)
        return TokenAnswer(self._token(answer))

    def _token(self, answer: Answer) -> str:
        asked, host = self._asked, urlsplit(self._realm).netloc[:80]
        if answer.status != 200:
            with_what = "this login" if self._has_login else "a client without login"
            raise asked.failure(
                f"gives no token: {host} answered {answer.status} to {with_what}",
                status=answer.status,
                hint=login_hint(asked.host) if answer.status in {401, 403} else None,
            )
        try:
            members = strict_json.parse(answer.body, what="it", limit=_MAX_ANSWER)
        except FormatError:
            # Without the reason: it may repeat a part of the token.
            members = {}
        token = members.get("token") or members.get("access_token")
        seconds = members.get("expires_in", _USUAL_LIFE)
        if not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
            raise asked.failure(f"gives no token: {host} sent JSON with none, or none")
        if type(seconds) is not int:
            raise asked.failure(f"gives no token: {host} sent one with no lifetime")
        self.lifetime = min(max(seconds, 1), _LONGEST_LIFE)
        return token


def ask_realm(url: str, shown: Mapping[str, str], asked: Asked) -> Answer:
    """Return a token server's answer, whatever its status.

    Args:
        url: of the realm, with the query.
        shown: headers that the realm may see.
        asked: whom the token is for.

    Raises:
        FetchError: no answer; TooLargeError: above 64 KiB.
    """
    return exchange(
        asked.connections,
        Request("GET", url, {"Accept": "application/json"}),
        network=asked.network,
        limit=_MAX_ANSWER,
        caller=_Once(url, shown),
        redirects=False,
        tick=asked.tick,
    )


class TokenAnswer:
    """What oras-py's back ends read of a token server's answer."""

    status_code = 200
    text = ""  # oras-py logs it

    def __init__(self, token: str) -> None:
        self._token = token

    def json(self) -> dict[str, str]:
        """Return the token alone."""
        return {"token": self._token}


class _Once:
    """A caller who shows something to one origin, and has nothing more to show."""

    def __init__(self, url: str, shown: Mapping[str, str]) -> None:
        self._origin = urlsplit(url)[:2]
        self._shown = shown

    def headers(self, url: str) -> Mapping[str, str]:
        """Return what that origin may see; nothing for any other."""
        return self._shown if urlsplit(url)[:2] == self._origin else NO_HEADERS

    def challenged(self, url: str, status: int, headers: Mapping[str, str]) -> bool:
        """Return False."""
        del url, status, headers
        return False


def login_hint(host: str) -> str:
    """Say what helps against a 401 or 403."""
    return f"run `docker login {host}` with a user who may do this"
