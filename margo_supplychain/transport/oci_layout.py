"""An OCI image layout on disk as a source of content by digest.

It has no metadata and no targets. `resolve` turns a tag into a descriptor for authors,
who then sign that; a device never asks for a tag.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, BinaryIO

from margo_supplychain.errors import FetchError, OciFormatError, StorageError
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import (
    MAX_MANIFEST,
    REFERENCE_NAME,
    parse_manifest,
)
from margo_supplychain.storage.content_store import blob_path, read_layout_index
from margo_supplychain.transport.bounded import read_at_most
from margo_supplychain.transport.local_files import open_content, open_untrusted

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from margo_supplychain.formats.names import TargetPath


class LayoutSource:
    """Unverified content of an OCI image layout; implements `Source`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def url(self) -> str:
        """The layout's path, as `oci-layout:PATH`."""
        return f"oci-layout:{self.directory}"

    def metadata(
        self,
        filename: str,
        *,
        limit: int,  # noqa: ARG002 - the protocol has it
        tick: Callable[[int], None] | None = None,  # noqa: ARG002 - the protocol has it
    ) -> bytes:
        """Raise FetchError: a layout holds no metadata."""
        raise self._none(f"metadata {filename[:160]!r}")

    def target(
        self,
        path: TargetPath,
        what: Descriptor,  # noqa: ARG002 - the protocol has it
        *,
        start: int = 0,  # noqa: ARG002 - the protocol has it
        tick: Callable[[int], None] | None = None,  # noqa: ARG002 - the protocol has it
    ) -> AbstractContextManager[BinaryIO]:
        """Raise FetchError: a layout holds no targets."""
        raise self._none(f"target {path[:160]!r}")

    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,  # noqa: ARG002 - files don't wait
    ) -> AbstractContextManager[BinaryIO]:
        """Open content by digest; see `Source.blob`."""
        place = blob_path(self.directory, what.digest)
        return open_content(place, what, start=start, root=self.directory)

    def resolve(self, reference: str) -> Descriptor:
        """Return the descriptor of a manifest or index, for those who sign it.

        Args:
            reference: a tag (`org.opencontainers.image.ref.name` in `index.json`), or
                `@sha256:…`.

        Raises:
            FetchError: not there, or no layout there.
            OciFormatError: not a layout, a tag that names two things, or content that
                is no manifest or is not what its digest says.
        """
        try:
            entries = read_layout_index(self.directory).manifests
        except StorageError as why:
            raise FetchError(str(why), url=self.url) from why
        except OciFormatError as why:
            if self.directory.is_dir():
                raise
            raise FetchError(
                f"{self.directory} is not a directory", url=self.url, unreachable=True
            ) from why
        if reference.startswith("@"):
            digest = Digest.parse(reference[1:])
            for entry in entries:
                if entry.descriptor.digest == digest:
                    return entry.descriptor
            return self._unlisted(digest)
        found = {
            entry.descriptor
            for entry in entries
            if entry.annotations.get(REFERENCE_NAME) == reference
        }
        if len(found) > 1:
            raise OciFormatError(
                f"{self.url} has {len(found)} manifests tagged {reference[:160]!r}",
                hint="name the one you mean by digest: @sha256:…",
            )
        for descriptor in found:
            return descriptor
        raise self._none(f"tag {reference[:160]!r}")

    def _unlisted(self, digest: Digest) -> Descriptor:
        # A component's manifest is often listed only inside another index.
        place = blob_path(self.directory, digest)
        with open_untrusted(place, root=self.directory) as file:
            data = read_at_most(file, MAX_MANIFEST, url=str(place))
        if hashlib.new(digest.algorithm, data).hexdigest() != digest.hex:
            raise OciFormatError(
                f"{place} does not have the digest that it is named by"
            )
        found = parse_manifest(data, what=str(digest))
        return Descriptor(media_type=found.media_type, digest=digest, size=len(data))

    def _none(self, what: str) -> FetchError:
        return FetchError(f"{self.url} has no {what}", url=self.url, missing=True)
