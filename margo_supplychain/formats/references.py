"""References to repositories and manifests in OCI registries, spelt out in full.

The names and tags of the distribution specification behind a host that is always said:
no default registry, no default tag, no user name. Knows no network, and not whether
anything is there.

Example:
    >>> found = RegistryReference.parse("oci://registry.example:5000/acme/pump:1.2.0")
    >>> found.host, found.path, found.tag
    ('registry.example:5000', 'acme/pump', '1.2.0')
    >>> found.parent.child("trust").repository
    'oci://registry.example:5000/acme/trust'
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Self

from margo_supplychain.errors import OciFormatError
from margo_supplychain.formats.digests import Digest

SCHEME: Final = "oci://"
MAX_NAME: Final = 255
MAX_HOST: Final = 253  # RFC 1035 §2.3.4, as text
_MAX_TEXT: Final = 1024
# distribution-spec, "Pulling manifests": <name> and <reference> as a tag.
_STEP: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME: Final = re.compile(rf"{_STEP}(?:/{_STEP})*", re.ASCII)
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST: Final = re.compile(
    rf"(?P<name>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]{{2,45}}\])(?::(?P<port>[0-9]{{1,5}}))?",
    re.ASCII,
)


class RegistryReference(NamedTuple):
    """A repository of a registry, and perhaps a tag and a digest in it.

    `host` is in lower case, with its port if one was written; `path` is the
    repository's name there. Made by `parse` or from another reference; the constructor
    checks nothing.
    """

    host: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `oci://host[:port]/path[:tag][@sha256:…]`.

        Raises:
            OciFormatError: anything else, whatever other tools make of it.
        """
        if len(text) > _MAX_TEXT:
            raise OciFormatError(
                f"reference {text[:160]!r}… has {len(text)} characters, more than "
                f"{_MAX_TEXT}"
            )
        if not text.startswith(SCHEME):
            raise OciFormatError(
                f"reference {text[:160]!r} does not begin with {SCHEME}",
                hint="write oci://HOST/REPOSITORY; no registry is assumed",
            )
        host, slash, rest = text.removeprefix(SCHEME).partition("/")
        if "@" in host:
            # Not repeated in the message: it would end up in a log.
            raise OciFormatError(
                "an oci:// reference holds a user name or password",
                hint="write it without, and run `docker login HOST`",
            )
        if not slash:
            raise OciFormatError(f"reference {text[:160]!r} names no repository")
        rest, at, digest = rest.partition("@")
        path, colon, tag = rest.partition(":")
        return cls(
            registry_host(host),
            repository_name(path),
            registry_tag(tag) if colon else None,
            Digest.parse(digest) if at else None,
        )

    @property
    def repository(self) -> str:
        """The repository alone: `oci://host/path`."""
        return f"{SCHEME}{self.host}/{self.path}"

    @property
    def parent(self) -> Self:
        """The repository one step up, without tag and digest.

        Raises:
            OciFormatError: there is no step above the first.
        """
        above, slash, _ = self.path.rpartition("/")
        if not slash:
            raise OciFormatError(
                f"{self.repository} has nothing above it: expected a path of at least "
                "two steps, as in oci://host/acme/trust"
            )
        return type(self)(self.host, above)

    def child(self, name: str) -> Self:
        """Return the repository `name` below this one, without tag and digest.

        Raises:
            OciFormatError: the name is not in the grammar, or the whole is too long.
        """
        return type(self)(self.host, repository_name(f"{self.path}/{name}"))

    def __str__(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        digest = "" if self.digest is None else f"@{self.digest}"
        return f"{self.repository}{tag}{digest}"


def registry_host(text: str) -> str:
    """Return `text` if it is a registry's host: `name[:port]`, IPv6 in brackets.

    Raises:
        OciFormatError: if it is not, or not in the one spelling that we take.
    """
    found = _HOST.fullmatch(text)
    if found is None or len(found["name"]) > MAX_HOST:
        upper = text != text.lower() and _HOST.fullmatch(text.lower()) is not None
        raise OciFormatError(
            f"registry {text[:80]!r} is not a host in lower case, as registry.example "
            "or [::1]:5000",
            hint="write it in lower case" if upper else None,
        )
    port = found["port"]
    if port is not None and (port[0] == "0" or int(port) > 65535):
        raise OciFormatError(f"registry {text[:80]!r} has the port {port}")
    if text.startswith("["):
        _check_ipv6(found["name"][1:-1], text)
    return text


def _check_ipv6(address: str, text: str) -> None:
    # Few references need it, and it takes longer to import than all of this.
    from ipaddress import IPv6Address

    try:
        spelt = str(IPv6Address(address))
    except ValueError as why:
        raise OciFormatError(
            f"registry {text[:80]!r} is not an IPv6 address in brackets"
        ) from why
    if spelt != address:
        # One host in two spellings would have two sets of credentials.
        raise OciFormatError(f"registry {text[:80]!r} is not spelt [{spelt}]")


def repository_name(text: str) -> str:
    """Return `text` if it is a repository's name in its registry.

    Raises:
        OciFormatError: if it is not (distribution-spec, <name>), or above 255
            characters.
    """
    if len(text) > MAX_NAME:
        raise OciFormatError(
            f"repository {text[:80]!r}… has {len(text)} characters, more than "
            f"{MAX_NAME}"
        )
    if _NAME.fullmatch(text) is None:
        raise OciFormatError(
            f"repository {text!r} is not a name: steps of a-z and 0-9, joined by one "
            "of . _ __ - and separated by /"
        )
    return text


def registry_tag(text: str) -> str:
    """Return `text` if it is a tag.

    Raises:
        OciFormatError: if it is not (distribution-spec, <reference> as a tag).
    """
    if _TAG.fullmatch(text) is None:
        raise OciFormatError(
            f"tag {text[:160]!r} is not one: 1 to 128 of A-Za-z0-9._- that do not "
            "begin with . or -"
        )
    return text
