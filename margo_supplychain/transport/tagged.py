"""A trust repository where manifests have tags: a registry, a layout, a layout's tar.

Each metadata file, target file and attestation is wrapped in a manifest of its own
(`formats.registry_form`); a small metadata file comes with one request. Content is
found by its digest. As everywhere in transport, what is returned is unverified.

`TaggedSink` never moves a tag but `timestamp`, and reads back what it tagged, so that
two who publish at once notice it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, runtime_checkable

from margo_supplychain.errors import FetchError, OciFormatError, TooLargeError
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import MAX_MANIFEST, parse_manifest
from margo_supplychain.formats.registry_form import (
    MAX_WRAPPED,
    TUF_METADATA,
    TUF_TARGET,
    metadata_tag,
    unwrapped,
)
from margo_supplychain.transport.bounded import read_at_most
from margo_supplychain.transport.locations import metadata_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from margo_supplychain.formats.names import TargetPath
    from margo_supplychain.formats.registry_form import Wrapped

MOST_TAGS: Final = 100_000


class Tagged(Protocol):
    """Manifests by tag or digest, and blobs by digest.

    Raises `FetchError` as a `Source` does, and `OciFormatError` for what is no layout.
    """

    @property
    def url(self) -> str:
        """What it is called in messages; holds no credentials."""

    def manifest(
        self,
        reference: str,
        *,
        limit: int = MAX_MANIFEST,
        tick: Callable[[int], None] | None = None,
    ) -> tuple[bytes, str]:
        """Return a manifest's exact bytes, and a hint at its media type.

        Args:
            reference: a tag, or a digest; then the bytes are compared with it.
            limit: most bytes to read.
            tick: as of `Source.metadata`.

        Raises:
            FetchError: `missing` only if there is no such tag or digest.
        """

    def open_blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[BinaryIO]:
        """Open a blob or manifest by its digest; see `Source.blob`."""


class TaggedWriter(Tagged, Protocol):
    """Takes blobs and manifests, and gives manifests tags."""

    def has_blob(self, what: Descriptor) -> bool:
        """Tell whether a blob or manifest is there; a hint."""

    def put_blob(
        self,
        what: Descriptor,
        data: BinaryIO,
        *,
        tick: Callable[[int], None] | None = None,
    ) -> bool:
        """Store a blob unless it is there; return whether bytes travelled.

        Raises:
            LengthMismatchError, DigestMismatchError: `data` is not `what`.
        """

    def put_manifest(
        self, data: bytes, media_type: str, *, tag: str | None = None
    ) -> Digest:
        """Store a manifest; the tag moves to it.

        Raises:
            ManifestRefusedError: no manifest of this form is taken.
        """

    def tags(self, *, most: int = MOST_TAGS) -> Iterator[str]:
        """Yield all tags."""

    def delete_manifest(self, digest: Digest) -> None:
        """Remove a manifest and its tags."""


@runtime_checkable
class Refers(Protocol):
    """Lists what refers to a manifest, without a tag: registries that have the API."""

    def has_referrers(self, subject: Digest) -> bool:
        """Say whether what refers to a manifest is listed without anybody's help.

        Raises:
            FetchError: that can't be found out.
        """

    def put_referrer(self, data: bytes, media_type: str) -> Digest:
        """Store a manifest that has a subject, and let the registry list it.

        Raises:
            FetchError, RefusedError: it is not taken.
        """


class TaggedSource:
    """Unverified bytes of a trust repository under tags; implements `Source`."""

    def __init__(self, repository: Tagged) -> None:
        self._tagged = repository

    @property
    def url(self) -> str:
        """The repository's URL."""
        return self._tagged.url

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        """Return a metadata file, in one request if it is small.

        See `Source.metadata`.
        """
        tag = self._tag(filename)
        found = self._wrapped(tag, tick)
        if found.layer.size > limit:
            raise TooLargeError(
                f"{self.url} says that {filename} has {found.layer.size} bytes, more "
                f"than the limit of {limit}",
                url=self.url,
            )
        if found.inline is not None:
            return found.inline
        # A media type of the registry's choice must not lead elsewhere.
        what = _retyped(found.layer, TUF_METADATA)
        try:
            with self._tagged.open_blob(what, tick=tick) as stream:
                return read_at_most(stream, limit, url=self.url, tick=tick)
        except FetchError as why:
            if not why.missing:
                raise
            # The file exists; a copy that is half done must not say otherwise.
            raise FetchError(
                f"{self.url} names {filename}, and does not hold its bytes",
                url=why.url,
                status=why.status,
            ) from why

    def target(
        self,
        path: TargetPath,  # noqa: ARG002 - its bytes are found by their digest
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[BinaryIO]:
        """Open a target file by its digest; see `Source.target`."""
        blob = _retyped(what, TUF_TARGET)
        return self._tagged.open_blob(blob, start=start, tick=tick)

    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[BinaryIO]:
        """Open content by digest; see `Source.blob`."""
        return self._tagged.open_blob(what, start=start, tick=tick)

    def resolve(self, reference: str) -> Descriptor:
        """Return the descriptor of a manifest or index, for those who sign it.

        Args:
            reference: a tag, or `@sha256:…`.

        Raises:
            FetchError: not there, or not of the digest.
            OciFormatError: no manifest, no digest, or a tag that names two things.
        """
        if reference.startswith("@"):
            digest = Digest.parse(reference[1:])
            data, _ = self._tagged.manifest(str(digest), limit=MAX_MANIFEST)
        else:
            data, _ = self._tagged.manifest(reference, limit=MAX_MANIFEST)
            digest = Digest.of(data)
        found = parse_manifest(data, what=f"{self.url} {reference[:160]}")
        return Descriptor(media_type=found.media_type, digest=digest, size=len(data))

    def _tag(self, filename: str) -> str:
        try:
            return metadata_tag(metadata_name(filename, url=self.url))
        except OciFormatError as why:
            raise FetchError(str(why), url=self.url) from why

    def _wrapped(self, tag: str, tick: Callable[[int], None] | None = None) -> Wrapped:
        try:
            data, _ = self._tagged.manifest(tag, limit=MAX_WRAPPED, tick=tick)
            found = unwrapped(data, what=f"{self.url} {tag}")
        except OciFormatError as why:
            raise FetchError(str(why), url=self.url) from why
        if found.kind != TUF_METADATA:
            raise FetchError(
                f"{self.url} {tag} is {found.kind}, expected {TUF_METADATA}",
                url=self.url,
            )
        return found


def _retyped(what: Descriptor, media_type: str) -> Descriptor:
    return Descriptor(media_type=media_type, digest=what.digest, size=what.size)
