"""What the requests about one repository show of us, and to whom.

One login or token for each repository and kind of request of one registry. It goes to
the registry's own origin, over https or to loopback, and nowhere else.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from margo_supplychain.transport.network import is_loopback
from margo_supplychain.transport.oci_registry.challenges import (
    Challenge,
    check_scopes,
    choose,
    parse_challenges,
)
from margo_supplychain.transport.oci_registry.tokens import Asked
from margo_supplychain.transport.request import NO_HEADERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from margo_supplychain.transport.connections import Connections
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.oci_registry.oras_seams import Shown
    from margo_supplychain.transport.oci_registry.tokens import Tick

Actions = Literal["pull", "pull,push", "delete"]
_EARLY: Final = 0.9  # of its lifetime, a token is good enough to begin with
_LOOK: Final = 0.5  # seconds between two looks at the caller's patience


class Access(NamedTuple):
    """What requests are about: a repository, what is done, and what is mounted."""

    path: str
    actions: Actions
    mounted: str | None = None

    @property
    def scope(self) -> str:
        """The scope to ask a token for, whatever else a challenge would like."""
        scope = f"repository:{self.path}:{self.actions}"
        return scope if self.mounted is None else f"{scope} {self._other}"

    @property
    def names(self) -> set[str]:
        """The repositories that a challenge may be about."""
        return {self.path} if self.mounted is None else {self.path, self.mounted}

    @property
    def _other(self) -> str:
        return f"repository:{self.mounted}:pull"


class Authorization:
    """The login or token for one `Access`; thread-safe.

    Args:
        host: of the registry, as its oci:// URL has it.
        url: its origin.
        access: what it is for.
        network: the limits, and Docker's configuration.
        connections: to ask a token server with.
    """

    def __init__(
        self,
        host: str,
        url: str,
        access: Access,
        *,
        network: Network,
        connections: Connections,
    ) -> None:
        self._host = host
        self._url = url
        self._access = access
        self._network = network
        self._connections = connections
        self._lock = threading.Lock()
        self._shown: Shown | None = None
        # When a token is too old, and how to ask for the next one.
        self._renewal: tuple[float, Challenge] | None = None

    def value(self, tick: Tick) -> str | None:
        """Return the value of `Authorization`; a token that is too old is renewed.

        Raises:
            FetchError: it can't be renewed.
        """
        with _Held(self._lock, tick):
            if self._renewal is not None and time.monotonic() > self._renewal[0]:
                self._renew(self._renewal[1], tick)
            return None if self._shown is None else self._shown.value

    def answer(self, text: str, given: str | None, tick: Tick) -> bool:
        """Answer a challenge; True if there is something that was not shown yet.

        Args:
            text: the unverified `WWW-Authenticate` header.
            given: what the refused request has shown.
            tick: called with 0 while waiting.

        Raises:
            FetchError: the challenge is none, or can't be answered.
        """
        with _Held(self._lock, tick):
            if self._shown is not None and self._shown.value != given:
                return True  # another thread was quicker
            asked = self._asked(tick)
            try:
                offered = parse_challenges(text)
                challenge = choose(offered)
                if challenge is not None:
                    check_scopes(challenge, self._access.names)
            except ValueError as why:
                raise asked.failure(f"sent a challenge that {why}") from why
            if challenge is None:
                return self._no_way(asked, offered)
            host = urlsplit(self._url).hostname or ""
            if self._url.startswith("http:") and not is_loopback(host):
                raise asked.failure(
                    "asks for a login over plain http, where everybody could read it",
                    hint="give the registry a certificate, or let it be read by all",
                )
            self._renew(challenge, tick)
            return self._shown is not None and self._shown.value != given

    def _no_way(self, asked: Asked, offered: tuple[Challenge, ...]) -> bool:
        if offered:
            names = ", ".join(one.scheme[:20] for one in offered)
            raise asked.failure(
                f"asks for a login by {names}; only Basic and Bearer are supported"
            )
        return False

    def _renew(self, challenge: Challenge, tick: Tick) -> None:
        # Whatever happens now, what was there is of no use any more.
        self._shown, self._renewal = None, None
        # Only now: what it loads costs as much as a whole verification.
        from margo_supplychain.transport.oci_registry.oras_seams import (
            HardenedRegistry,
        )

        registry = HardenedRegistry(self._asked(tick))
        if challenge.scheme == "basic":
            self._shown = registry.show_login(challenge)
            return
        self._shown = registry.show_token(challenge, self._access.scope)
        too_old = time.monotonic() + self._shown.seconds * _EARLY
        self._renewal = too_old, challenge

    def _asked(self, tick: Tick) -> Asked:
        return Asked(
            self._host,
            self._url,
            self._access.path,
            self._network,
            self._connections,
            tick,
        )


class Speaker:
    """The `Caller` of one request, or of one transfer.

    Args:
        authorization: what it shows.
        url: the registry's origin; nobody else is shown anything.
        tick: called with 0 while a login or token is waited for.
    """

    def __init__(
        self, authorization: Authorization, *, url: str, tick: Tick = None
    ) -> None:
        self._authorization = authorization
        self._origin = f"{url}/"
        self._tick = tick
        self._given: str | None = None

    def headers(self, url: str) -> Mapping[str, str]:
        """Return the registry's login or token for the registry's own URLs."""
        if not url.startswith(self._origin):
            return NO_HEADERS
        self._given = self._authorization.value(self._tick)
        return NO_HEADERS if self._given is None else {"Authorization": self._given}

    def challenged(self, url: str, status: int, headers: Mapping[str, str]) -> bool:
        """Answer a challenge of the registry itself."""
        text = headers.get("WWW-Authenticate")
        if status != 401 or text is None or not url.startswith(self._origin):
            return False
        return self._authorization.answer(text, self._given, self._tick)


class _Held:
    """A lock that is waited for with an eye on the caller's patience."""

    def __init__(self, lock: threading.Lock, tick: Tick) -> None:
        self._lock = lock
        self._tick = tick

    def __enter__(self) -> None:
        while not self._lock.acquire(timeout=_LOOK):
            if self._tick is not None:
                self._tick(0)

    def __exit__(self, *_: object) -> None:
        self._lock.release()
