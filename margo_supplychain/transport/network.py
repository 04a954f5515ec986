"""How long and how often the network is tried, and how each registry is reached.

Each limit may be changed; none can be removed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from margo_supplychain.errors import OciFormatError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_ORIGIN: Final = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9._-]{0,253})|\[[0-9a-f:.]{2,45}\])(?::([0-9]{1,5}))?",
    re.ASCII,
)
_LOOPBACK: Final = re.compile(r"localhost|::1|127(?:\.[0-9]{1,3}){3}", re.ASCII)
_USUAL_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAccess:
    """How one registry is reached; nothing of it is used for any other origin.

    Args:
        ca_file: certificates to trust instead of the network's or the system's, PEM.
        certificate: what this client shows of itself (mutual TLS), PEM.
        private_key: of `certificate`, PEM without a passphrase; left out when it
            stands in the same file.
        proxy: URL of the proxy to go through instead of the environment's; empty for
            none at all. It may hold credentials, so it is never shown.
        plain_http: it speaks no TLS. Credentials go there on loopback only.
        token_host: `host` or `host:port` that its tokens come from, and so may see
            its password, where that is neither its own host nor a domain above it.

    Raises:
        ValueError: a key without a certificate, a proxy that is no http(s) URL, or a
            token host that is no host.
    """

    ca_file: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    plain_http: bool = False
    token_host: str | None = None

    def __post_init__(self) -> None:
        if self.private_key is not None and self.certificate is None:
            raise ValueError("private_key is given without its certificate")
        if self.proxy and not is_proxy(self.proxy):
            # Not repeated in the message: it may hold credentials.
            raise ValueError("proxy is not http(s)://[USER:PASSWORD@]HOST[:PORT]")
        if self.token_host is not None and _ORIGIN.fullmatch(self.token_host) is None:
            raise ValueError(f"token_host {self.token_host[:80]!r} is no host")


_PLAIN: Final = RegistryAccess()


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Limits of one source; times in seconds.

    Args:
        connect_timeout: to reach the server.
        read_timeout: without a single byte.
        response_timeout: for one answer: from looking its server up to the last header.
        deadline: for one file, everything together.
        minimum_rate: bytes per second, over each `rate_window` of waiting after the
            first answer.
        rate_window: how long a slow stretch is borne.
        tries: attempts without progress, the first included; progress is the minimum
            rate, pauses included.
        longest_delay: a server that asks for a longer pause is not asked again.
        redirects: how many in a row are followed.
        ca_file: certificates to trust instead of the system's.
        registries: what is particular about one registry, by its `host` or
            `host:port` as in an oci:// URL.
        docker_config: the file with the registries' credentials; Docker's own if it
            is left out.
        anonymous: credentials go to none but those that `registries` names.

    Raises:
        ValueError: a limit that limits nothing, or lets nothing pass; a registry that
            is no host.
    """

    connect_timeout: float = 10
    read_timeout: float = 60
    response_timeout: float = 60
    deadline: float = 6 * 3600
    minimum_rate: int = 1024
    rate_window: float = 30
    tries: int = 5
    longest_delay: float = 30
    redirects: int = 5
    ca_file: Path | None = None
    # A mapping has no hash; equal networks still have equal ones.
    registries: Mapping[str, RegistryAccess] = field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )
    docker_config: Path | None = None
    anonymous: bool = False

    def __post_init__(self) -> None:
        for name in (
            "connect_timeout",
            "read_timeout",
            "response_timeout",
            "deadline",
            "minimum_rate",
            "rate_window",
            "tries",
        ):
            value = getattr(self, name)
            if not isfinite(value) or value <= 0:
                raise ValueError(f"{name} is {value}, expected a number above 0")
        if not isfinite(self.longest_delay) or self.longest_delay < 0:
            raise ValueError(
                f"longest_delay is {self.longest_delay}, expected 0 or more"
            )
        if not 0 <= self.redirects <= 20:
            raise ValueError(f"redirects is {self.redirects}, expected 0 to 20")
        if self.registries:
            object.__setattr__(self, "registries", _by_origin(self.registries))

    def may_log_in(self, host: str) -> bool:
        """Say whether credentials go to a registry's `host` or `host:port`."""
        if not self.anonymous:
            return True
        usual = f":{_USUAL_PORTS['https']}"
        bare = host.removesuffix(usual)
        return bare in self.registries or f"{bare}{usual}" in self.registries

    def access(self, url: str) -> RegistryAccess:
        """Return what `registries` says about the origin of an http(s) URL."""
        if not self.registries:
            return _PLAIN
        parts = urlsplit(url)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        usual = _USUAL_PORTS.get(parts.scheme)
        port = parts.port or usual
        found = self.registries.get(f"{host}:{port}")
        if found is None and port == usual:
            found = self.registries.get(host)
        return found or _PLAIN


DEFAULT_NETWORK: Final = Network()


def is_loopback(host: str) -> bool:
    """Say whether a host, without port and brackets, is this machine by its name."""
    return _LOOPBACK.fullmatch(host.lower()) is not None


def _by_origin(given: Mapping[str, RegistryAccess]) -> Mapping[str, RegistryAccess]:
    # Only those who name registries need their grammar.
    from margo_supplychain.formats.references import registry_host

    found: dict[str, RegistryAccess] = {}
    for name, access in given.items():
        try:
            # A spelling that no reference has would match nothing, and what the owner
            # says of it, as whom to trust, would silently not be used.
            origin = registry_host(name.lower())
        except OciFormatError as why:
            raise ValueError(
                f"registry {name[:80]!r} is not HOST or HOST:PORT as in an oci:// URL"
            ) from why
        if origin in found:
            raise ValueError(f"registry {name!r} is there twice")
        found[origin] = access
    return MappingProxyType(found)


def is_proxy(text: str) -> bool:
    """Say whether a text is http(s)://[USER:PASSWORD@]HOST[:PORT]."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in _USUAL_PORTS
        and bool(parts.hostname)
        and port != 0
        and parts.path in {"", "/"}
        and not parts.query
        and not parts.fragment
        and text.isprintable()
        and " " not in text
    )
