"""Blobs on their way into a release, and the reading of those that are there.

`Contents` holds what a build made or found, by digest, and writes nothing until all of
it is known to be right.

Example:
    >>> contents = Contents()
    >>> contents.add(b"{}", "application/vnd.oci.empty.v1+json").digest.short
    '44136fa355b3'
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from margo_supplychain.errors import FetchError, VerificationError
from margo_supplychain.formats.closure import walk
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.storage.receive import check_stream, read_exact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.storage.content_store import ContentStore
    from margo_supplychain.transport.protocols import Source


def read_checked(source: Source, what: Descriptor) -> bytes:
    """Read a small blob, exactly `what`.

    Raises:
        FetchError: the source can't give it.
        LengthMismatchError, DigestMismatchError: it gives something else.
    """
    with source.blob(what) as stream:
        return read_exact(what, stream, subject=str(what.digest))


def is_whole(source: Source, what: Descriptor) -> bool:
    """Say whether a source gives exactly `what`, by hashing all of it."""
    try:
        with source.blob(what) as stream:
            check_stream(what, stream, subject=str(what.digest))
    except (FetchError, VerificationError):
        return False
    return True


class Contents:
    """Blobs by digest, in memory or in a source that is read when they are stored."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, tuple[Descriptor, bytes | Source]] = {}

    def add(self, data: bytes, media_type: str) -> Descriptor:
        """Take bytes in and return their descriptor."""
        what = Descriptor.of(data, media_type)
        self._blobs.setdefault(what.digest, (what, data))
        return what

    def add_from(self, source: Source, top: Descriptor) -> None:
        """Take in a manifest and all that it names, each checked when it is stored.

        Raises:
            OciFormatError: not a manifest or index, or beyond a limit of closures.
            FetchError, VerificationError: a manifest is missing or is other bytes.
        """
        for part in walk(top, lambda what: read_checked(source, what)):
            what = part.descriptor
            self._blobs.setdefault(what.digest, (what, source))

    def digests(self) -> frozenset[Digest]:
        """Return the digest of everything that was taken in."""
        return frozenset(self._blobs)

    @contextmanager
    def open(self, digest: Digest) -> Iterator[BinaryIO]:
        """Open a blob that was taken in; its bytes are not checked here."""
        what, place = self._blobs[digest]
        if isinstance(place, bytes):
            yield io.BytesIO(place)
        else:
            with place.blob(what) as stream:
                yield stream

    def store(self, store: ContentStore) -> None:
        """Put everything into `store`, checked on its way, parts before wholes.

        What is there already is read again, and replaced if it is damaged: the caller
        holds the store's lock.

        Raises:
            FetchError, VerificationError: a source gives too little or other bytes.
            StorageError: the disk is full, and the like.
        """
        for what, _ in self._blobs.values():
            if not store.keep_intact(what):
                with self.open(what.digest) as stream:
                    store.put(what, stream)
