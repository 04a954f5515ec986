"""Writes a trust repository under tags, to a registry or an OCI layout.

Only `timestamp` ever moves. A tag by digest (`t.`, `a.`, `c.`) says itself which bytes
it has, so other bytes under it are replaced: whoever takes it first can't keep a
publisher from it. What is tagged is read back and compared: where two publish at once,
one of them learns it. Where there is trust metadata, content never takes a tag that a
file of it may have: a record that wishes for one would decide what devices read. A
registry that refuses the form of OCI 1.1 gets the package's own files in that of 1.0;
manifests of content are never changed.
"""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, BinaryIO, Final

from margo_supplychain.errors import (
    ConflictError,
    FetchError,
    ManifestRefusedError,
    OciFormatError,
    RefusedError,
    StorageError,
    TooLargeError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.names import target_path
from margo_supplychain.formats.oci import (
    EMPTY,
    EMPTY_BYTES,
    INDEX_TYPES,
    MANIFEST,
    MANIFEST_TYPES,
    MAX_MANIFEST,
    Layer,
    manifest_bytes,
)
from margo_supplychain.formats.references import SCHEME
from margo_supplychain.formats.registry_form import (
    ATTESTATION,
    MAX_INLINE,
    TIMESTAMP_TAG,
    TUF_METADATA,
    TUF_TARGET,
    attestation_tag,
    content_tag,
    is_as_tagged,
    is_reserved,
    metadata_file,
    metadata_tag,
    target_tag,
    unwrapped,
    wrapping,
)
from margo_supplychain.formats.titles import safe_title
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.storage.receive import read_exact
from margo_supplychain.transport.locations import metadata_name, removable
from margo_supplychain.transport.tagged import (
    MOST_TAGS,
    Refers,
    TaggedSource,
    TaggedWriter,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from margo_supplychain.formats.names import TargetPath
    from margo_supplychain.formats.registry_form import Form, Wrapped

_MANIFESTS: Final = MANIFEST_TYPES | INDEX_TYPES
# A version of content may have a tag like 1.2.0; a role that a letter begins is one.
_OURS: Final = re.compile(r"timestamp|[1-9][0-9]*\.[A-Za-z].*", re.ASCII)
_FIRST_ROOT: Final = "1.root"
_VERSION: Final = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)
_PERHAPS: Final = re.compile(r"[1-9][0-9]{0,15}\..+", re.ASCII)


class TaggedSink(TaggedSource):
    """Writes a trust repository under tags; implements `Shelf`."""

    def __init__(self, repository: TaggedWriter) -> None:
        super().__init__(repository)
        self._writer = repository
        self._form: Form = "1.1"
        self._has_config = False
        self._holds_trust = False

    def has_blob(self, what: Descriptor) -> bool:
        """Tell whether content is there; see `Sink.has_blob`."""
        return self._writer.has_blob(what)

    def put_blob(self, what: Descriptor, data: BinaryIO) -> None:
        """Store content by digest; a manifest as `put_manifest` does.

        Raises:
            LengthMismatchError, DigestMismatchError: `data` is not `what`.
            OciFormatError: a manifest above 4 MiB.
        """
        if what.media_type not in _MANIFESTS:
            self._writer.put_blob(what, data)
            return
        if what.size > MAX_MANIFEST:
            raise OciFormatError(f"{what.digest} is a manifest above 4 MiB")
        found = read_exact(what, data, subject=str(what.digest))
        self.put_manifest(what, found)

    def put_manifest(
        self, what: Descriptor, data: bytes, *, tag: str | None = None
    ) -> None:
        """Store a manifest whose content is there; see `Sink.put_manifest`.

        Raises:
            LengthMismatchError, DigestMismatchError: `data` is not `what`.
            ConflictError: the tag names other bytes and is not one by their digest, or
                somebody moved it meanwhile.
            RefusedError: the tag is one of the trust metadata that is there.
            ManifestRefusedError: no manifest of this form is taken.
        """
        read_exact(what, io.BytesIO(data), subject=str(what.digest))
        if tag is None:
            if not self._writer.has_blob(what):
                self._writer.put_manifest(data, what.media_type)
            return
        if tag == content_tag(what.digest):
            there = data if self.keeps(tag, what) else None
        else:
            there = self._held(tag, what, data)
            if there is None and is_reserved(tag) and self._is_trust():
                raise RefusedError(
                    f"{self.url} holds trust metadata, and the tag {tag[:160]} is for "
                    f"such: {what.digest.short} can't have it",
                    hint="content has repositories of its own",
                )
        if there is None:
            self._writer.put_manifest(data, what.media_type, tag=tag)
            self._read_back(tag, data)
        elif there != data:
            raise ConflictError(
                f"{self.url} has {Digest.of(there).short} under the tag {tag[:160]}, "
                f"and {what.digest.short} would take it",
                hint="a version is published once: take the next one",
            )

    def put_target(self, path: TargetPath, what: Descriptor, data: BinaryIO) -> None:
        """Store a target file under the tag of its digest; see `Sink.put_target`.

        Raises:
            LengthMismatchError, DigestMismatchError: `data` is not `what`.
            ConflictError: somebody else writes its tag at the same time.
        """
        target_path(path)
        self._put_by_digest(target_tag(what.digest), TUF_TARGET, what, data)

    def put_attestation(self, what: Descriptor, data: BinaryIO) -> None:
        """Store an attestation under the tag of its digest.

        Raises:
            LengthMismatchError, DigestMismatchError: `data` is not `what`.
            ConflictError: somebody else writes its tag at the same time.
        """
        self._put_by_digest(attestation_tag(what.digest), ATTESTATION, what, data)

    def put_referrer(
        self,
        subject: Descriptor,
        what: Descriptor,
        data: BinaryIO,
        *,
        annotations: Mapping[str, str],
    ) -> bool:
        """Let a file refer to a manifest that is there, without any tag.

        Args:
            subject: the manifest.
            what: the file: its type is also that of the artifact around it.
            data: its bytes.
            annotations: of the artifact; lists of referrers repeat them.

        Returns:
            Whether it does; False, and nothing is stored, where nothing lists it.

        Raises:
            LengthMismatchError, DigestMismatchError: `data` is not `what`.
            FetchError, RefusedError: it is not taken.
        """
        writer = self._writer
        if not isinstance(writer, Refers) or not writer.has_referrers(subject.digest):
            return False
        manifest = manifest_bytes(
            artifact_type=what.media_type,
            layers=[Layer(descriptor=what)],
            subject=subject,
            annotations=annotations,
        )
        writer.put_blob(EMPTY, io.BytesIO(EMPTY_BYTES))
        writer.put_blob(what, data)
        writer.put_referrer(manifest, MANIFEST)
        return True

    def put_metadata(self, filename: str, data: bytes) -> None:
        """Store a metadata file; see `Sink.put_metadata`.

        Raises:
            ConflictError: the versioned name exists with other bytes, or somebody
                wrote it meanwhile.
            StorageError, FetchError: not a metadata file's name.
        """
        try:
            tag = metadata_tag(safe_title(metadata_name(filename, url=self.url)))
        except OciFormatError as why:
            raise StorageError(str(why), path=self.url) from why
        layer = Descriptor.of(data, TUF_METADATA)
        there = tag != TIMESTAMP_TAG and self._there(tag, layer)
        self._writer.put_blob(layer, io.BytesIO(data))
        if not there:
            inline = data if len(data) <= MAX_INLINE else None
            self._put_wrapped(tag, layer, inline=inline, title=filename)

    def keeps(self, tag: str, what: Descriptor) -> bool:
        """Say whether a tag by digest is there, and names what it says.

        Args:
            tag: of a target file, an attestation or content.
            what: the digest and size of that.

        Raises:
            FetchError: that can't be found out.
        """
        try:
            manifest = self._manifest(tag)
        except (OciFormatError, TooLargeError):
            return False  # two things at once, or what nobody reads
        except FetchError:
            if self.url.startswith(SCHEME):
                raise
            return False  # a layout that lists it, and lost it
        return manifest is not None and is_as_tagged(manifest, tag, what)

    def is_damaged(self, filename: str) -> bool:
        """Say whether a name is taken, and by what is no metadata file any more.

        Somebody else wrote under the tag, or the bytes behind it are gone.

        Raises:
            FetchError: that can't be found out.
        """
        manifest = self._manifest(metadata_tag(filename))
        if manifest is None:
            return False
        found = _unwrapped(manifest)
        if found is None or found.kind != TUF_METADATA:
            return True
        what = found.layer
        layer = Descriptor(media_type=TUF_METADATA, digest=what.digest, size=what.size)
        return found.inline is None and not self._writer.has_blob(layer)

    def metadata_files(self) -> Iterator[str]:
        """Yield the names of metadata files; see `Shelf.metadata_files`."""
        for tag in self._writer.tags(most=MOST_TAGS):
            name = metadata_file(tag) if _OURS.fullmatch(tag) else self._told(tag)
            if name is not None:
                yield name

    def versions(self, role: str) -> list[int]:
        """Return the versions of a role whose names are taken, by whatever it is.

        Only tags are looked at, and each is what the place says.
        """
        suffix = metadata_tag(file_name(role, 1)).removeprefix("1")
        found = (
            tag.removesuffix(suffix)
            for tag in self._writer.tags(most=MOST_TAGS)
            if tag.endswith(suffix)
        )
        return sorted(int(one) for one in found if _VERSION.fullmatch(one))

    def remove_metadata(self, filename: str) -> None:
        """Remove a metadata file; see `Shelf.remove_metadata`.

        Raises:
            ValueError: it is a root, or the timestamp.
            RefusedError: its tag names something else, or what other tags might, too.
        """
        tag = metadata_tag(removable(filename))
        there = self._manifest(tag)
        if there is None:
            return
        found = _unwrapped(there)
        # Only a manifest that holds the name is no other file's as well: registries
        # delete by digest, and with it every tag.
        if found is None or found.kind != TUF_METADATA or found.title != filename:
            raise RefusedError(
                f"{self.url} has something else under the tag {tag} than {filename}",
                hint="remove it with the tool that wrote it",
            )
        self._writer.delete_manifest(Digest.of(there))

    def remove_damaged(self, filename: str) -> None:
        """Remove what has a metadata file's name and is none; content goes with it.

        Raises:
            RefusedError: it is one after all, or the registry deletes nothing.
        """
        there = self._manifest(metadata_tag(filename))
        if there is None:
            return
        if not self.is_damaged(filename):
            raise RefusedError(f"{self.url} has a metadata file {filename}")
        self._writer.delete_manifest(Digest.of(there))

    def restore_metadata(self, filename: str, data: bytes) -> None:
        """Put a versioned metadata file back; see `Shelf.restore_metadata`.

        Raises:
            ValueError: it is the timestamp.
            ConflictError: somebody wrote it meanwhile.
        """
        tag = metadata_tag(filename)
        if tag == TIMESTAMP_TAG:
            raise ValueError(f"{filename} is no versioned metadata file")
        layer = Descriptor.of(data, TUF_METADATA)
        self._writer.put_blob(layer, io.BytesIO(data))
        inline = data if len(data) <= MAX_INLINE else None
        self._put_wrapped(tag, layer, inline=inline, title=filename)

    def together(self) -> AbstractContextManager[None]:
        """Change nothing: a registry takes one tag at a time."""
        return nullcontext()

    def close(self) -> None:
        """Do nothing: each call was durable when it returned."""

    def _manifest(self, tag: str) -> bytes | None:
        try:
            return self._writer.manifest(tag, limit=MAX_MANIFEST)[0]
        except FetchError as why:
            if why.missing:
                return None
            raise

    def _is_trust(self) -> bool:
        """Say whether trust metadata is here; what has come stays."""
        if not self._holds_trust:
            self._holds_trust = any(
                found is not None and found.kind == TUF_METADATA
                for found in map(self._told_by, (_FIRST_ROOT, TIMESTAMP_TAG))
            )
        return self._holds_trust

    def _told_by(self, tag: str) -> Wrapped | None:
        try:
            manifest = self._manifest(tag)
        except (OciFormatError, TooLargeError):
            return None
        return None if manifest is None else _unwrapped(manifest)

    def _held(self, tag: str, what: Descriptor, data: bytes) -> bytes | None:
        """Return what has a tag that `what` shall have; None if nothing has."""
        try:
            return self._manifest(tag)
        except FetchError:
            if self.url.startswith(SCHEME):
                raise
            # A layout may list just this, and have lost it.
            self._writer.put_manifest(data, what.media_type)
            return self._manifest(tag)

    def _there(self, tag: str, layer: Descriptor) -> bool:
        """Say whether a tag names this file already.

        Raises:
            ConflictError: it names another.
        """
        manifest = self._manifest(tag)
        if manifest is None:
            return False
        found = _unwrapped(manifest)
        if (
            found is None
            or found.kind != layer.media_type
            or (found.layer.digest, found.layer.size) != (layer.digest, layer.size)
        ):
            raise ConflictError(f"{self.url} has other bytes under the tag {tag}")
        return True

    def _put_by_digest(
        self, tag: str, media_type: str, what: Descriptor, data: BinaryIO
    ) -> None:
        layer = Descriptor(media_type=media_type, digest=what.digest, size=what.size)
        self._writer.put_blob(layer, data)
        if not self.keeps(tag, layer):
            self._put_wrapped(tag, layer)

    def _put_wrapped(
        self,
        tag: str,
        layer: Descriptor,
        *,
        inline: bytes | None = None,
        title: str | None = None,
    ) -> None:
        """Wrap a file that is there, and tag it."""
        manifest, config = wrapping(layer, inline=inline, form=self._form, title=title)
        if not self._has_config:
            # The same two bytes in either form.
            self._writer.put_blob(config, io.BytesIO(EMPTY_BYTES))
            self._has_config = True
        try:
            self._writer.put_manifest(manifest, MANIFEST, tag=tag)
        except ManifestRefusedError:
            if self._form == "1.0":
                raise
            self._form = "1.0"
            self._put_wrapped(tag, layer, inline=inline, title=title)
        else:
            self._read_back(tag, manifest)

    def _read_back(self, tag: str, data: bytes) -> None:
        if self._manifest(tag) != data:
            raise ConflictError(
                f"{self.url} has other bytes under the tag {tag[:160]} than were "
                "written just now"
            )

    def _told(self, tag: str) -> str | None:
        """Return the metadata file that the manifest under a tag says it is."""
        manifest = self._manifest(tag) if _PERHAPS.fullmatch(tag) else None
        found = None if manifest is None else _unwrapped(manifest)
        if found is None or found.kind != TUF_METADATA:
            return None
        name = found.title or metadata_file(tag)
        try:
            return name if name is not None and metadata_tag(name) == tag else None
        except OciFormatError:
            return None


def _unwrapped(manifest: bytes) -> Wrapped | None:
    try:
        return unwrapped(manifest)
    except OciFormatError:
        return None
