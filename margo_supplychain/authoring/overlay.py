"""What a repository would be: staged files in front of a directory.

Serves staged bytes first, so the device's code can judge an edit before anything is
written. Writes nothing.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from margo_supplychain.errors import FetchError, TooLargeError
from margo_supplychain.formats.tuf_metadata import file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.names import TargetPath
    from margo_supplychain.transport.protocols import Source

    Opener = Callable[[], AbstractContextManager[BinaryIO]]


@dataclass(slots=True)
class Staged:
    """What an edit will write, in the order of its parts.

    Args:
        blobs: content by digest, with what opens it.
        attestations: envelopes that records and entries name, by digest.
        targets: target files: path → (descriptor, bytes).
        metadata: versioned metadata files: name → bytes.
        timestamp: the bytes of `timestamp.json`, which come last.
    """

    blobs: dict[Digest, tuple[Descriptor, Opener]] = field(default_factory=dict)
    attestations: dict[Digest, tuple[Descriptor, bytes]] = field(default_factory=dict)
    targets: dict[TargetPath, tuple[Descriptor, bytes]] = field(default_factory=dict)
    metadata: dict[str, bytes] = field(default_factory=dict)
    timestamp: bytes = b""

    def is_empty(self) -> bool:
        """Say whether there is nothing to write."""
        return not (
            self.blobs
            or self.attestations
            or self.targets
            or self.metadata
            or self.timestamp
        )


class Nowhere:
    """A source that holds nothing: what lies behind a repository's first files."""

    def __init__(self, url: str) -> None:
        self.url = url

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        """Say that there is no such file."""
        del limit, tick
        raise self._none(filename)

    def target(
        self,
        path: TargetPath,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[BinaryIO]:
        """Say that there is no such file."""
        del what, start, tick
        raise self._none(path)

    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[BinaryIO]:
        """Say that there is no such content."""
        del start, tick
        raise self._none(str(what.digest))

    def _none(self, what: str) -> FetchError:
        return FetchError(f"{self.url} has no {what}", url=self.url, missing=True)


class Behind:
    """A source as it is; who changes what its metadata is, derives from it.

    Args:
        source: unverified.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def url(self) -> str:
        """What the source is called in messages."""
        return self._source.url

    def target(
        self,
        path: TargetPath,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[BinaryIO]:
        """Open a target file; see `Source.target`."""
        return self._source.target(path, what, start=start, tick=tick)

    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[BinaryIO]:
        """Open content; see `Source.blob`."""
        return self._source.blob(what, start=start, tick=tick)


class Until(Behind):
    """A source as it was when one root was the newest; implements `Source`.

    Args:
        source: unverified.
        newest: the version of that root.
    """

    def __init__(self, source: Source, newest: int) -> None:
        super().__init__(source)
        self._hidden = file_name("root", newest + 1)

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        """Return a metadata file, but not the next root; see `Source.metadata`."""
        if filename == self._hidden:
            raise FetchError(f"no {filename} yet", url=self.url, missing=True)
        return self._source.metadata(filename, limit=limit, tick=tick)


class Overlay:
    """Staged files, then what lies behind; a `Source` and its `ContentSources`."""

    def __init__(self, staged: Staged, directory: Source) -> None:
        self._staged = staged
        self._directory = directory

    @property
    def url(self) -> str:
        """The directory's path."""
        return self._directory.url

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        """Return a metadata file; see `Source.metadata`."""
        if filename == "timestamp.json" and self._staged.timestamp:
            data: bytes | None = self._staged.timestamp
        else:
            data = self._staged.metadata.get(filename)
        if data is None:
            return self._directory.metadata(filename, limit=limit, tick=tick)
        if len(data) > limit:
            raise TooLargeError(
                f"{filename} would have {len(data)} bytes, more than the {limit} that "
                "devices read",
                url=self.url,
            )
        return data

    @contextmanager
    def target(
        self,
        path: TargetPath,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        """Open a target file; see `Source.target`."""
        staged = self._staged.targets.get(path)
        if staged is not None and staged[0].digest == what.digest:
            yield io.BytesIO(staged[1][start:])
            return
        with self._directory.target(path, what, start=start, tick=tick) as stream:
            yield stream

    @contextmanager
    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        """Open content; see `Source.blob`."""
        envelope = self._staged.attestations.get(what.digest)
        if envelope is not None:
            yield io.BytesIO(envelope[1][start:])
            return
        staged = self._staged.blobs.get(what.digest)
        if staged is None or start:
            with self._directory.blob(what, start=start, tick=tick) as stream:
                yield stream
            return
        with staged[1]() as stream:
            yield stream

    def sources(self, locations: Sequence[str]) -> Sequence[Source]:
        """Return itself: what is published here must be complete here."""
        del locations
        return (self,)
