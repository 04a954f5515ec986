"""What a registry asks for with a 401, and whom its password may be shown to.

Pure rules over unverified headers. A realm is trusted with a registry's password when
whoever runs the registry could have it anyway: the same host, a domain above it, or
what the device's owner has named.

Example:
    >>> found = parse_challenges('Bearer realm="https://h/token",service="s"')
    >>> found[0].scheme, found[0].realm
    ('bearer', 'https://h/token')
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from margo_supplychain.transport.network import is_loopback

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from urllib.parse import SplitResult

MAX_HEADER: Final = 8 << 10
_MAX_CHALLENGES: Final = 8
_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# RFC 9110 §11.2; values without quotes may be URLs, as some servers write them.
_PARAMETER: Final = re.compile(
    rf'({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",=;\\]+))(?=\s*(?:,|$))', re.ASCII
)
_SCHEME: Final = re.compile(rf"({_WORD})(?=\s|,|$)", re.ASCII)
_TOKEN68: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))", re.ASCII)
_BETWEEN: Final = re.compile(r"[\s,]*")
# One word per value: what oras-py's own parser reads can't differ from what we read.
_PLAIN: Final = re.compile(r"[\x20-\x7e]{0,2048}", re.ASCII)

# Where the password goes although the names don't tell that both are one company's.
_KNOWN_TOKEN_HOSTS: Final = {"registry-1.docker.io": "auth.docker.io"}


class Challenge(NamedTuple):
    """One way in that a server offers; `scheme` in lower case."""

    scheme: str
    realm: str
    service: str | None
    scopes: tuple[str, ...]


def parse_challenges(text: str) -> tuple[Challenge, ...]:
    """Parse an unverified `WWW-Authenticate` header (RFC 9110 §11.6.1).

    Raises:
        ValueError: it is not one, or above 8 KiB; says what is wrong.
    """
    if len(text) > MAX_HEADER:
        raise ValueError(f"has {len(text)} characters, more than {MAX_HEADER}")
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while position < len(text):
        position = _end(_BETWEEN.match(text, position), position)
        if position == len(text):
            break
        if parameter := _PARAMETER.match(text, position):
            if not found:
                raise ValueError("begins with a parameter")
            _add(found[-1][1], parameter)
            position = parameter.end()
        elif scheme := _SCHEME.match(text, position):
            found.append((scheme[1].lower(), {}))
            position = scheme.end()
        elif token := _TOKEN68.match(text, position):
            position = token.end()
        else:
            raise ValueError(f"is not readable at character {position}")
        if len(found) > _MAX_CHALLENGES:
            raise ValueError(f"holds more than {_MAX_CHALLENGES} challenges")
    return tuple(
        Challenge(
            scheme,
            given.get("realm", ""),
            given.get("service"),
            tuple(given.get("scope", "").split()),
        )
        for scheme, given in found
    )


def _add(given: dict[str, str], parameter: re.Match[str]) -> None:
    name = parameter[1].lower()
    value = parameter[3] or re.sub(r"\\(.)", r"\1", parameter[2] or "")
    if name not in {"realm", "service", "scope"}:
        return
    if name in given:
        raise ValueError(f"names {name} twice")
    if _PLAIN.fullmatch(value) is None or '"' in value:
        raise ValueError(f"has a {name} that is not plain text of at most 2048")
    given[name] = value


def _end(match: re.Match[str] | None, position: int) -> int:
    return position if match is None else match.end()


def choose(challenges: Sequence[Challenge]) -> Challenge | None:
    """Return the way in that shows least: a token before the password itself."""
    for scheme in ("bearer", "basic"):
        for one in challenges:
            if one.scheme == scheme:
                return one
    return None


def check_scopes(challenge: Challenge, names: Collection[str]) -> None:
    """Refuse to ask for a token about anything but these repositories.

    Raises:
        ValueError: says what the challenge asks for instead.
    """
    for scope in challenge.scopes:
        kind, _, rest = scope.partition(":")
        name, _, _ = rest.rpartition(":")
        if kind != "repository" or name not in names:
            raise ValueError(
                f"asks for a token for {scope[:160]!r}, expected one for repository "
                f"{' or '.join(sorted(names))}"
            )


def realm_may_see_password(
    realm: str, *, registry: str, token_host: str | None
) -> bool:
    """Say whether a token server may be shown the registry's user and password.

    Args:
        realm: unverified URL of the token server.
        registry: the registry's own URL.
        token_host: `host` or `host:port` that the owner has named for it.

    Raises:
        ValueError: nobody may ask there: no https (loopback excepted), credentials or
            a fragment in the URL; says so.
    """
    parts, host = _split(realm)
    own = _host(registry)
    if parts.scheme == "http" and not (is_loopback(host) and is_loopback(own)):
        raise ValueError(f"takes tokens from http://{host[:80]}, expected https")
    if token_host is not None:
        return token_host in {parts.netloc.lower(), host, f"[{host}]"}
    if host == own or _KNOWN_TOKEN_HOSTS.get(own) == host:
        return True
    # Who runs a domain runs what is below it; siblings may belong to two people.
    above = "." in host and not is_loopback(host) and not host[-1].isdigit()
    return above and own.endswith(f".{host}")


def _split(realm: str) -> tuple[SplitResult, str]:
    try:
        parts = urlsplit(realm)
        port = parts.port
    except ValueError as why:
        raise ValueError("names a realm that is no URL") from why
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError("names a realm that is no https URL")
    if "@" in parts.netloc or "#" in realm or " " in realm:
        raise ValueError("names a realm with credentials, a fragment or a blank")
    return parts, parts.hostname.lower()


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").lower()
