"""One request, until it has an answer: redirects, one challenge, and tries.

Credentials are asked for anew for each URL on the way, so they stay at their origin;
whoever is redirected elsewhere takes nothing along but what kind of answer is wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

from margo_supplychain.errors import FetchError, TooSlowError
from margo_supplychain.transport.attempts import retry_after
from margo_supplychain.transport.broken import BrokenError
from margo_supplychain.transport.network import is_loopback
from margo_supplychain.transport.request import ANONYMOUS, NO_HEADERS, Body, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from margo_supplychain.transport.attempts import Attempts
    from margo_supplychain.transport.connections import Connections
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.request import Caller
    from margo_supplychain.transport.response import Response

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_FOLLOWING: Final = frozenset({"GET", "HEAD"})
_LATER: Final = frozenset({408, 429, 500, 502, 503, 504})
# All that another origin may see of a request's own headers.
_HARMLESS: Final = frozenset({"accept", "range"})
_USUAL_PORTS: Final = {"https": 443, "http": 80}


class Asking:
    """What is asked, by whom, and how often.

    Args:
        connections: sends it.
        request: with headers that may be shown to its own origin.
        network: the limits.
        attempts: its clocks.
        caller: credentials.
        repeat: whether it may be sent again when nothing is known of its effect.
        redirects: whether they are followed, too.
    """

    def __init__(
        self,
        connections: Connections,
        request: Request,
        *,
        network: Network,
        attempts: Attempts,
        caller: Caller = ANONYMOUS,
        repeat: bool = True,
        redirects: bool = True,
    ) -> None:
        self._connections = connections
        self._request = request
        self._network = network
        self._attempts = attempts
        self._caller = caller
        self._repeat = repeat
        self._follows = redirects and request.method in _FOLLOWING
        self._asked = request.url

    def answer(self, more: Mapping[str, str] = NO_HEADERS) -> Response:
        """Ask until there is an answer that stays.

        Args:
            more: headers of this time.

        Raises:
            FetchError: no answer; `unreachable` says more.
            TooSlowError: no answer in time.
        """
        while True:
            try:
                response = self._attempt(more)
            except BrokenError as why:
                again = self._repeat and not why.is_final
                self._attempts.pause(self._no_answer(why), why, again=again)
                continue
            if response.status not in _LATER:
                self._attempts.answered = self._attempts.is_reading = True
                return response
            response.discard()
            failure = self._attempts.failure(
                f"answered {response.status}", status=response.status
            )
            asked = retry_after(response.headers)
            self._attempts.pause(failure, None, again=self._repeat, asked=asked)

    def _attempt(self, more: Mapping[str, str]) -> Response:
        url = self._request.url
        hops = 0
        is_challenged = False
        while True:
            response = self._send(url, more)
            try:
                if response.status == 401 and not is_challenged:
                    is_challenged = True
                    if not self._is_convinced(url, response):
                        return response
                elif response.status in _REDIRECTS and self._follows:
                    hops += 1
                    url = self._redirected(url, response, hops)
                else:
                    return response
                response.discard()
            except BaseException:
                response.close()
                raise

    def _send(self, url: str, more: Mapping[str, str]) -> Response:
        headers = {**self._request.headers, **more}
        if not _same_origin(url, self._request.url):
            headers = {
                name: text
                for name, text in headers.items()
                if name.lower() in _HARMLESS
            }
        if _may_show(url):
            headers |= self._caller.headers(url)
        self._asked = url
        self._attempts.ask()
        request = Request(self._request.method, url, headers, self._request.body)
        response = self._connections.send(request, look=self._attempts.look)
        try:
            self._attempts.answer()
        except BaseException:
            response.close()
            raise
        return response

    def _is_convinced(self, url: str, response: Response) -> bool:
        """Say whether the caller has something new to show after a 401."""
        body = self._request.body
        if isinstance(body, Body) and not body.is_replayable:
            return False
        # The connection is free for whoever fetches a token from the same server.
        response.keep(look=self._attempts.look)
        return _may_show(url) and self._caller.challenged(
            url, response.status, response.headers
        )

    def _redirected(self, url: str, response: Response, hops: int) -> str:
        location = response.headers.get("Location", "")
        if hops > self._network.redirects:
            text = f"redirects more than {self._network.redirects} times"
            raise self._attempts.failure(text, status=response.status)
        try:
            to = urljoin(url, location)
            parts = urlsplit(to)
            _origin(to)
            _check_host(parts.netloc)
        except ValueError as why:
            raise self._attempts.failure(
                "redirects to what is no URL", status=response.status
            ) from why
        downgrade = urlsplit(url).scheme == "https" and parts.scheme != "https"
        if (
            not location
            or downgrade
            or parts.scheme not in _USUAL_PORTS
            or "@" in parts.netloc
        ):
            # The whole target is not repeated: it may carry somebody's credentials.
            raise self._attempts.failure(
                f"redirects to {parts.scheme or 'no'}://{(parts.hostname or '')[:80]}, "
                "which is not followed",
                status=response.status,
            )
        return parts._replace(fragment="").geturl()

    def _no_answer(self, why: BrokenError) -> FetchError:
        url = self._request.url
        if why.is_slow:
            text = f"{url} did not answer within {self._attempts.took:.1f} s"
            return TooSlowError(text, url=url, unreachable=True)
        parts = urlsplit(self._asked)
        host = parts.netloc.rpartition("@")[2]
        return FetchError(
            f"can't reach {parts.scheme}://{host}: {why}",
            url=url,
            unreachable=True,
            hint=why.hint,
        )


def _check_host(netloc: str) -> None:
    # Names beyond ASCII have a form in it (RFC 3490). What else stands here is meant
    # for a terminal, or is read as another host by somebody.
    if not (netloc.isascii() and netloc.isprintable()):
        raise ValueError("no host")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _USUAL_PORTS.get(parts.scheme)


def _same_origin(one: str, other: str) -> bool:
    return _origin(one) == _origin(other)


def _may_show(url: str) -> bool:
    """Say whether credentials may travel to `url`, if they are for it."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")
