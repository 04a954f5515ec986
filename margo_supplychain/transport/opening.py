"""From what a person or a configuration writes to a source or a sink.

    PATH, file:PATH       a trust repository as files, or else an OCI image layout
    oci-layout:PATH       an OCI image layout
    https://…, http://…   a trust repository behind a web server

Nothing is fetched yet; that somebody answers there shows with the first file.

Example:
    >>> open_source("https://updates.example.org/acme").url
    'https://updates.example.org/acme/'
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import FormatError
from margo_supplychain.transport.directory import DirectorySink, DirectorySource

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.protocols import Sink, Source

# One letter is a Windows drive, and `./a:b` is a path.
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)


def open_source(
    url: str | os.PathLike[str], *, network: Network | None = None
) -> Source:
    """Return the source for a URL or path.

    Args:
        url: as above; a path object is always a path.
        network: limits of what comes over the network; `Network()` if it is left out.

    Raises:
        FormatError: no kind of URL that is known here.
        TypeError: neither text nor a path.
    """
    url = _text(url)
    scheme, rest = _split(url)
    if scheme in {"http", "https"}:
        # urllib.parse is not for those who read files.
        from margo_supplychain.transport.http import HttpSource
        from margo_supplychain.transport.network import DEFAULT_NETWORK

        return HttpSource.of(url, network=network or DEFAULT_NETWORK)
    if scheme == "oci-layout":
        from margo_supplychain.transport.oci_layout import LayoutSource

        return LayoutSource(_path(rest, url))
    path = _path(rest, url)
    if (path / "oci-layout").is_file() and not (path / "metadata").is_dir():
        from margo_supplychain.transport.oci_layout import LayoutSource

        return LayoutSource(path)
    return DirectorySource(path)


def open_sink(
    url: str | os.PathLike[str],
    *,
    network: Network | None = None,  # noqa: ARG001 - registries will use it
) -> Sink:
    """Return the sink for a path.

    Args:
        url: a path or `file:` URL of a directory, made when the first file comes.
        network: for registries, which come with a later release.

    Raises:
        FormatError: no kind of URL that can be written.
        TypeError: neither text nor a path.
    """
    url = _text(url)
    scheme, rest = _split(url)
    if scheme != "file":
        raise FormatError(
            f"{scheme}: URLs can be read, not written",
            hint="publish to a directory and let a web server show it",
        )
    return DirectorySink(_path(rest, url))


class FixedContent:
    """The same sources whatever the record's hints say; implements `ContentSources`.

    Args:
        sources: best first.

    Raises:
        ValueError: if there are none.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        if not sources:
            raise ValueError("content needs at least one source")
        self._sources = tuple(sources)

    def sources(self, locations: Sequence[str]) -> Sequence[Source]:  # noqa: ARG002 - the protocol has it
        """Return the sources to try, best first."""
        return self._sources


def _text(url: object) -> str:
    if isinstance(url, str):
        return url
    path = url.__fspath__() if hasattr(url, "__fspath__") else None
    if not isinstance(path, str):
        raise TypeError(
            f"a source or sink is a str or a path, not {type(url).__name__}"
        )
    # `a:b` would be a URL; the path of that name is not.
    return path if path.startswith("/") else f"./{path}"


def _split(url: str) -> tuple[str, str]:
    """Return the kind of URL and what follows it; a bare path is a `file`."""
    found = _SCHEME.fullmatch(url)
    if found is None:
        return "file", url
    scheme, rest = found[1].lower(), found[2]
    if scheme == "oci":
        raise FormatError(
            "oci:// registries come with a later release",
            hint="use a directory, an OCI image layout or an https URL",
        )
    if scheme not in {"file", "http", "https", "oci-layout"}:
        raise FormatError(
            f"{scheme[:40]}: is no kind of source; expected a path, file:, "
            "oci-layout: or https:",
            hint="write ./ in front of a path that holds a colon",
        )
    if scheme == "file" and rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in {"", "localhost"} or not slash:
            raise FormatError(f"file URL names the host {host[:80]!r}, expected none")
        rest = slash + path
    if scheme == "file":
        from urllib.parse import unquote

        rest = unquote(rest)
    return scheme, rest


def _path(text: str, url: str) -> Path:
    if not text or "\0" in text:
        raise FormatError(f"{url[:160]!r} names no directory")
    return Path(text)
