"""What can carry untrusted bytes, and what can take them.

A `Source` decides nothing: every byte it returns is unverified, and every caller gives
it the limit. Implementations raise `FetchError` (with `missing=True` only when the
source really answered that there is no such thing, and `unreachable=True` when the
source as a whole gave no answer), `TooLargeError` or `TooSlowError`, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import TargetPath


class Source(Protocol):
    """Where untrusted bytes come from.

    Who has a deadline, or may be cancelled, gives `tick`: a source that waits for
    others calls it at least every second while it waits; what it raises ends the call,
    or the stream, and is raised to its reader. A source that never waits need not.
    """

    @property
    def url(self) -> str:
        """What the source is called in messages; holds no credentials."""

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        """Return a metadata file: `3.root.json`, `timestamp.json`, `7.acme.json`.

        Args:
            filename: as the TUF specification names it, role names percent-encoded.
            limit: most bytes to read; one more is `TooLargeError`.
            tick: called with the size of each piece, and with 0 while waiting.
        """

    def target(
        self,
        path: TargetPath,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[BinaryIO]:
        """Open a TUF target file from byte `start`, by its path and digest.

        Args:
            path: from trusted metadata.
            what: the digest and size that are signed.
            start: what the reader already has.
            tick: called with 0 while waiting, here and later in the stream; the reader
                counts the bytes.
        """

    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[BinaryIO]:
        """Open an OCI blob or manifest from byte `start`, by its digest.

        Args:
            what: the digest and size that are signed.
            start: what the reader already has.
            tick: as of `target`.
        """


class Sink(Source, Protocol):
    """Where an author's bytes go; each call is durable when it returns.

    An archive can be read by others only after `close`.
    """

    def has_blob(self, what: Descriptor) -> bool:
        """Tell whether content of this digest and size is there; it isn't re-read.

        A hint: what a registry says of itself is not proven.
        """

    def put_blob(self, what: Descriptor, data: BinaryIO) -> None:
        """Store content by digest; does nothing when it is there."""

    def put_manifest(
        self, what: Descriptor, data: bytes, *, tag: str | None = None
    ) -> None:
        """Store a manifest or index whose content is there, and name it.

        Args:
            what: its media type, digest and size.
            data: its exact bytes.
            tag: a name that never moves; files in directories have none.

        Raises:
            ConflictError: the tag names other bytes.
        """

    def put_target(self, path: TargetPath, what: Descriptor, data: BinaryIO) -> None:
        """Store a target file under its path and digest."""

    def put_metadata(self, filename: str, data: bytes) -> None:
        """Store a metadata file; a versioned name never changes its bytes.

        Raises:
            ConflictError: the versioned name exists with other bytes.
        """

    def together(self) -> AbstractContextManager[None]:
        """Allow what is put inside to become durable, and visible, only at the end.

        Each call is quicker then where all names are kept in one file.
        """

    def close(self) -> None:
        """Finish what can only be written as a whole; the sink is not used again."""


class Shelf(Sink, Protocol):
    """A sink that can be looked through and cleared out."""

    def metadata_files(self) -> Iterator[str]:
        """Yield the names of the metadata files that are there, in no order.

        They are what the place calls them: nothing was read or verified.
        """

    def remove_metadata(self, filename: str) -> None:
        """Remove a metadata file that nobody needs; one that is not there is fine.

        Raises:
            ValueError: it is a root, or the timestamp.
        """

    def restore_metadata(self, filename: str, data: bytes) -> None:
        """Put back the bytes that signed metadata names, whatever has their name now.

        For a file that was damaged, or that a racing publisher overwrote: the only way
        in which a versioned name gets other bytes.

        Raises:
            ValueError: it is the timestamp, which `put_metadata` moves.
        """


class ContentSources(Protocol):
    """Where content lies: the record's hints, mapped by the device's owner."""

    def sources(self, locations: Sequence[str]) -> Sequence[Source]:
        """Return the sources to try, best first; never empty."""
