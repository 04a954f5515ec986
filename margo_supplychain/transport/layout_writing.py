"""What writing an OCI image layout means, in a directory or for an archive.

Blobs and manifests are stored one by one; the list of manifests is one file, which
`together` writes once for all that is put inside. What is removed goes after the list
that no longer names it.
"""

from __future__ import annotations

import io
from abc import abstractmethod
from collections import Counter
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, Final

from margo_supplychain.errors import FetchError, OciFormatError
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    REFERENCE_NAME,
    Entry,
    Index,
    parse_manifest,
)
from margo_supplychain.formats.registry_form import (
    MAX_WRAPPED,
    TIMESTAMP_TAG,
    TUF_METADATA,
    unwrapped,
)
from margo_supplychain.transport.oci_layout import Layout
from margo_supplychain.transport.tagged import MOST_TAGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from margo_supplychain.formats.oci import Manifest
    from margo_supplychain.transport.oci_layout import Names

_DOCUMENTS: Final = MANIFEST_TYPES | INDEX_TYPES


class WritableLayout(Layout):
    """An OCI image layout that takes blobs and manifests; implements `TaggedWriter`.

    One process at a time; `put_blob` is for several threads, the rest is not.
    """

    def __init__(self) -> None:
        self._together = 0
        self._pending: Names | None = None
        self._unused: dict[Digest, None] = {}
        self._uses: Counter[Digest] | None = None

    @abstractmethod
    def listed(self) -> Names:
        """Return what is listed; nothing where nothing was written yet."""

    @abstractmethod
    def holds(self, what: Descriptor) -> bool:
        """Tell whether content is stored with this size."""

    @abstractmethod
    def store(self, what: Descriptor, data: BinaryIO) -> bool:
        """Store content unless it is there and right; return whether it was not.

        Raises:
            LengthMismatchError, DigestMismatchError: `data` is not `what`.
            StorageError: it can't be written.
        """

    @abstractmethod
    def write(self, names: Names) -> None:
        """Make this the list, durably.

        Raises:
            StorageError: it can't be written.
        """

    @abstractmethod
    def remove(self, digest: Digest) -> None:
        """Remove content.

        Raises:
            StorageError: it can't be removed.
        """

    def names(self, *, tick: Callable[[int], None] | None = None) -> Names:  # noqa: ARG002 - disks don't wait
        """Return what is listed, or will be at the end of `together`."""
        return self.listed() if self._pending is None else self._pending

    def has_blob(self, what: Descriptor) -> bool:
        """Tell whether a blob is stored, or a manifest stored and listed.

        What is not listed is nothing to other tools, and removed by some.
        """
        is_listed = (
            what.media_type not in _DOCUMENTS
            or self.names().listed(what.digest) is not None
        )
        return is_listed and self.holds(what)

    def put_blob(
        self,
        what: Descriptor,
        data: BinaryIO,
        *,
        tick: Callable[[int], None] | None = None,  # noqa: ARG002 - disks don't wait
    ) -> bool:
        """Store a blob; see `TaggedWriter.put_blob`."""
        self._unused.pop(what.digest, None)
        return self.store(what, data)

    def put_manifest(
        self, data: bytes, media_type: str, *, tag: str | None = None
    ) -> Digest:
        """Store and list a manifest; the tag moves to it.

        Raises:
            OciFormatError: it is none.
            StorageError: it can't be written.
        """
        what = Descriptor.of(data, media_type)
        found = parse_manifest(data, what=str(what.digest))
        self.put_blob(what, io.BytesIO(data))
        entry = Entry(
            descriptor=what,
            artifact_type=found.artifact_type,
            annotations={} if tag is None else {REFERENCE_NAME: tag},
        )
        names = self.names()
        before = () if tag is None else names.tagged(tag)
        if names.put(entry):
            self._uses = None
            for one in before:
                self._replaced(one, names)
            for layer in self._layers(what.digest):
                self._unused.pop(layer, None)
            self._list(names)
        return what.digest

    def tags(self, *, most: int = MOST_TAGS) -> Iterator[str]:
        """Yield all tags."""
        return islice(tuple(self.names().tags()), most)

    def delete_manifest(self, digest: Digest) -> None:
        """Remove a manifest, its tags, and layers that no other manifest names."""
        uses = self._count_uses()
        names = self.names()
        times = names.remove(digest)
        if uses is not None and times:
            uses[digest] -= times
            if uses[digest] <= 0:
                self._unused[digest] = None
                for layer in self._layers(digest):
                    uses[layer] -= 1
                    if uses[layer] <= 0:
                        self._unused[layer] = None
        if times:
            self._list(names)

    @contextmanager
    def together(self) -> Iterator[None]:
        """List what is put inside once, at the end; see `Sink.together`."""
        self._together += 1
        try:
            yield
        finally:
            self._together -= 1
            if self._pending is not None:
                self._list(self._pending)

    def _replaced(self, what: Descriptor, names: Names) -> None:
        """Let go of a timestamp that another one replaces; it belongs to no other."""
        if names.listed(what.digest) is not None:
            return
        try:
            found = unwrapped(self.manifest(str(what.digest), limit=MAX_WRAPPED)[0])
        except (FetchError, OciFormatError):
            return
        if (found.kind, found.title) == (TUF_METADATA, f"{TIMESTAMP_TAG}.json"):
            self._unused |= {what.digest: None, found.layer.digest: None}

    def _list(self, names: Names) -> None:
        self._pending = names
        if self._together:
            return
        self._pending = None
        self.write(names)
        unused, self._unused = self._unused, {}
        for digest in unused:
            self.remove(digest)

    def _count_uses(self) -> Counter[Digest] | None:
        """Return how often each content is named; None if that can't be known."""
        if self._uses is None:
            uses: Counter[Digest] = Counter()
            try:
                self._walk((entry.descriptor for entry in self.names()), uses)
            except (FetchError, OciFormatError):
                # What can't be read may name what would be removed.
                return None
            self._uses = uses
        return self._uses

    def _walk(self, found: Iterable[Descriptor], uses: Counter[Digest]) -> None:
        waiting = list(found)
        while waiting:
            what = waiting.pop()
            uses[what.digest] += 1
            if uses[what.digest] > 1 or what.media_type not in _DOCUMENTS:
                continue
            try:
                document = self._parsed(what.digest)
            except FetchError as why:
                if not why.missing:
                    raise
                continue  # an image of one platform has an index of more
            if isinstance(document, Index):
                waiting += [entry.descriptor for entry in document.manifests]
            else:
                waiting += [layer.descriptor for layer in document.layers]

    def _layers(self, digest: Digest) -> list[Digest]:
        document = self._parsed(digest)
        if isinstance(document, Index):
            return []
        return [layer.descriptor.digest for layer in document.layers]

    def _parsed(self, digest: Digest) -> Manifest | Index:
        return parse_manifest(self.manifest(str(digest))[0], what=str(digest))
