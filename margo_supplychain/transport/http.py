"""A trust repository behind a web server: plain TUF, with an OCI layout beside.

GET only, no cookies, no credentials. Unverified bytes come back within limits of size,
time and rate; a transfer that breaks is resumed where it stopped. 404 and 410 mean that
there is no such file, 403 does not: somebody may just have closed the door.

Example:
    >>> HttpSource.of("https://updates.example.org/acme").url
    'https://updates.example.org/acme/'
"""

from __future__ import annotations

import io
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, BinaryIO, Final, Self
from urllib.parse import quote, urlsplit

from margo_supplychain.errors import FetchError, FormatError
from margo_supplychain.transport.bounded import BoundedStream, read_at_most
from margo_supplychain.transport.locations import (
    hashed_target,
    metadata_name,
    target_steps,
)
from margo_supplychain.transport.network import DEFAULT_NETWORK, Network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import TargetPath
    from margo_supplychain.transport.connections import Connections

# What RFC 3986 lets stand in a path step; `%` only where a name is already encoded.
_IN_STEP: Final = "!$&'()*+,;=:@~"


class HttpSource:
    """Unverified bytes of a TUF repository behind URLs; implements `Source`.

    Thread-safe. Nothing is asked for before it is needed.

    Args:
        metadata_url: what metadata file names are appended to.
        targets_url: what `<dir>/<HASH>.<file>` is appended to.
        content_url: where `blobs/` of an OCI layout lies; without it the source has
            no content.
        network: timeouts and limits.

    Raises:
        FormatError: not an http or https URL, or one with credentials or a query.
    """

    def __init__(
        self,
        metadata_url: str,
        targets_url: str,
        *,
        content_url: str | None = None,
        network: Network = DEFAULT_NETWORK,
    ) -> None:
        self._metadata_url = base_url(metadata_url)
        self._targets_url = base_url(targets_url)
        self._content_url = None if content_url is None else base_url(content_url)
        self._network = network
        self._connections: Connections | None = None

    @classmethod
    def of(cls, url: str, *, network: Network = DEFAULT_NETWORK) -> Self:
        """Return the source for a trust repository served as it lies on disk."""
        base = base_url(url)
        return cls(
            f"{base}metadata/", f"{base}targets/", content_url=base, network=network
        )

    @property
    def url(self) -> str:
        """The repository's URL, or that of its metadata; it holds no credentials."""
        return self._content_url or self._metadata_url

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        """Return a metadata file; see `Source.metadata`."""
        name = metadata_name(filename, url=self._metadata_url)
        url = self._metadata_url + quote(name, safe=_IN_STEP + "%")
        with self._open(url, left=limit, size=None, start=0, tick=tick) as stream:
            return read_at_most(stream, limit, url=url, tick=tick)

    def target(
        self,
        path: TargetPath,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[BinaryIO]:
        """Open a target file; see `Source.target`."""
        steps = hashed_target(path, what, url=self._targets_url)
        return self._open_target(steps, what, start=start, tick=tick)

    def plain_target(
        self, path: TargetPath, what: Descriptor
    ) -> AbstractContextManager[BinaryIO]:
        """Open a target file of a repository without consistent snapshots."""
        steps = target_steps(path, url=self._targets_url)
        return self._open_target(steps, what, start=0, tick=None)

    def _open_target(
        self,
        steps: list[str],
        what: Descriptor,
        *,
        start: int,
        tick: Callable[[int], None] | None,
    ) -> AbstractContextManager[BinaryIO]:
        url = self._targets_url + "/".join(quote(one, safe=_IN_STEP) for one in steps)
        return self._open_sized(url, what, start=start, tick=tick)

    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[BinaryIO]:
        """Open content of the layout beside; see `Source.blob`."""
        if self._content_url is None:
            raise FetchError(
                f"{self.url} has no content beside its metadata",
                url=self.url,
                missing=True,
            )
        url = f"{self._content_url}blobs/{what.digest.algorithm}/{what.digest.hex}"
        return self._open_sized(url, what, start=start, tick=tick)

    def _open_sized(
        self,
        url: str,
        what: Descriptor,
        *,
        start: int,
        tick: Callable[[int], None] | None,
    ) -> AbstractContextManager[BinaryIO]:
        if start and start >= what.size:
            # Nothing is left, and a range that begins at the end is refused (416).
            return nullcontext(io.BytesIO())
        left = what.size - start
        return self._open(url, left=left, size=what.size, start=start, tick=tick)

    @contextmanager
    def _open(
        self,
        url: str,
        *,
        left: int,
        size: int | None,
        start: int,
        tick: Callable[[int], None] | None,
    ) -> Iterator[BinaryIO]:
        # urllib3 and http.client cost more start-up than a whole local verification.
        from margo_supplychain.transport.connections import Connections
        from margo_supplychain.transport.transfer import Transfer

        if self._connections is None:
            self._connections = Connections(self._network, plain_http=True)
        transfer = Transfer(
            self._connections,
            url,
            network=self._network,
            start=start,
            tick=tick,
            size=size,
        )
        try:
            transfer.begin()
            read_into = transfer.read_into
            yield BoundedStream(read_into, left=left, url=url).as_binary()
        finally:
            transfer.close()


def base_url(text: str) -> str:
    """Return `text` as a URL to append to: it ends in a slash.

    Raises:
        FormatError: not http or https, no host, credentials, a query or a fragment.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as why:
        raise FormatError(f"a URL is not one: {why}") from why
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise FormatError(f"{parts.scheme[:16]!r} URL is not http(s)://HOST/…")
    if "@" in parts.netloc:
        # Not repeated in the message: it would end up in a log.
        raise FormatError(
            f"the URL of {parts.hostname} holds credentials",
            hint="give it without; a URL is seen by other processes and kept in logs",
        )
    if parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise FormatError(
            f"the URL of {parts.hostname} has a query, a fragment or a blank"
        )
    return text if text.endswith("/") else f"{text}/"
