"""From what a person or a configuration writes to a source or a sink.

    PATH, file:PATH       a directory: an OCI image layout if it has `oci-layout` and no
                          `metadata`, else a trust repository as files;
                          or a file: an OCI image layout in a tar
    oci-layout:PATH       an OCI image layout
    oci-archive:PATH      an OCI image layout in a tar
    oci://HOST/PATH       a repository of an OCI registry
    https://…, http://…   a trust repository behind a web server, which can't be written

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
    from margo_supplychain.transport.oci_registry import RegistryRepository
    from margo_supplychain.transport.protocols import Shelf, Source

# One letter is a Windows drive, and `./a:b` is a path.
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)

_SCHEMES: Final = {"file", "http", "https", "oci", "oci-archive", "oci-layout"}


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
    if scheme == "oci":
        from margo_supplychain.transport.tagged import TaggedSource

        return TaggedSource(_registry(url, network))
    path = _path(rest, url, is_file=scheme == "oci-archive")
    kind = _kind(path) if scheme == "file" else scheme
    if kind == "oci-layout":
        from margo_supplychain.transport.oci_layout import LayoutSource

        return LayoutSource(path)
    if kind == "oci-archive":
        from margo_supplychain.transport.layout_archive import ArchiveSource

        return ArchiveSource(path)
    return DirectorySource(path)


def open_sink(url: str | os.PathLike[str], *, network: Network | None = None) -> Shelf:
    """Return the sink for a URL or path; a new path is made when the first file comes.

    Args:
        url: as above; a path object is always a path.
        network: limits of what goes over the network; `Network()` if it is left out.

    Raises:
        FormatError: no kind of URL that can be written.
        TypeError: neither text nor a path.
    """
    url = _text(url)
    scheme, rest = _split(url)
    if scheme in {"http", "https"}:
        raise FormatError(
            f"{scheme}: URLs can be read, not written",
            hint="publish to a directory and let a web server show it, or to oci://",
        )
    if scheme == "oci":
        from margo_supplychain.transport.tagged_sink import TaggedSink

        return TaggedSink(_registry(url, network))
    path = _path(rest, url, is_file=scheme == "oci-archive")
    kind = _kind(path) if scheme == "file" else scheme
    if kind == "oci-layout":
        from margo_supplychain.transport.layout_sink import LayoutSink

        return LayoutSink(path)
    if kind == "oci-archive":
        from margo_supplychain.transport.archive_sink import ArchiveSink

        return ArchiveSink(path)
    return DirectorySink(path)


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
    if scheme not in _SCHEMES:
        raise FormatError(
            f"{scheme[:40]}: is no kind of source; expected a path, file:, "
            "oci-layout:, oci-archive:, oci:// or https://",
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


def _path(text: str, url: str, *, is_file: bool = False) -> Path:
    path = Path(text)
    if not text or "\0" in text or (is_file and path.name in ("", "..")):
        raise FormatError(f"{url[:160]!r} names no {'file' if is_file else 'path'}")
    return path


def _kind(path: Path) -> str:
    """Return what a path is by what lies there."""
    if path.is_file():
        return "oci-archive"
    is_layout = (path / "oci-layout").is_file() and not (path / "metadata").is_dir()
    return "oci-layout" if is_layout else "file"


def _registry(url: str, network: Network | None) -> RegistryRepository:
    # Only those who ask a registry load a client of one.
    from margo_supplychain.formats.references import RegistryReference
    from margo_supplychain.transport.network import DEFAULT_NETWORK
    from margo_supplychain.transport.oci_registry import RegistryRepository

    reference = RegistryReference.parse(url)
    if reference.tag is not None or reference.digest is not None:
        raise FormatError(
            f"{url[:160]!r} names one manifest, expected a repository",
            hint=f"write {reference.repository}",
        )
    return RegistryRepository(reference, network=network or DEFAULT_NETWORK)
