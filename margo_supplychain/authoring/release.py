"""A release before it is signed: what it is, and where its bytes lie.

Made from a package directory (`release build`), from what a build left behind
(`release publish`), or from an artifact that already exists (`release adopt`). Every
part is named by digest and size; no tag is ever read again. It is not trusted and
signs nothing: publishing does, with the record that it gives.

Example:
    >>> release = Release.from_package(
    ...     Path("pump-monitor"), publisher="acme", output=Path("dist"))
    >>> release.artifact.digest.short, release.closure
    ('0efd1feea313', 'complete')
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO, Final, final

from margo_supplychain.authoring.contents import read_checked
from margo_supplychain.formats.closure import walk
from margo_supplychain.formats.record import ReleaseRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from margo_supplychain.authoring.place import Progress
    from margo_supplychain.formats.closure import Part
    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.locks import ComponentLock, ImageLock
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.record import (
        AttestationReference,
        Closure,
        Component,
        Image,
    )
    from margo_supplychain.formats.versions import Version
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.protocols import Source

# A build knows no time, or it could not be repeated; publishing sets it.
NO_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Release:
    """One release that can be published; made by its three class methods.

    Args:
        name: publisher and application or artifact.
        version: what pins are resolved against.
        artifact: the OCI manifest or index that will be signed.
        artifact_type: its `artifactType`, if it has one.
        application_version: `metadata.version` as margo.yaml writes it.
        locations: hints where devices find the content, `oci://…`.
        components: of a Margo package, each by digest.
        images: container images that the components name.
        closure: `complete` when every component and image is named by digest.
        warnings: what its author should know, one line each.
        elsewhere: components that `source` does not hold; `components.lock` pins them.
        source: where the bytes lie.
        in_place: what was found where devices will look for it; a registry is not
            given it again.
        unpinned: components of an adopted package that no digest is known of: they
            and their profiles will never be part of this version.
    """

    name: ReleaseName
    version: Version
    artifact: Descriptor
    artifact_type: str | None
    application_version: str | None
    locations: tuple[str, ...]
    components: tuple[Component, ...]
    images: tuple[Image, ...]
    closure: Closure
    warnings: tuple[str, ...]
    elsewhere: frozenset[Digest]
    source: Source
    in_place: frozenset[Digest] = frozenset()
    unpinned: tuple[str, ...] = ()

    @classmethod
    def from_package(
        cls,
        directory: Path,
        *,
        publisher: str,
        output: Path,
        version: Version | None = None,
        locations: Sequence[str] = (),
    ) -> Release:
        """Build a package directory into an OCI image layout.

        The same input gives the same bytes. Building again into the same `output`
        brings it up to date; one that holds another release or other files is refused.

        Args:
            directory: holds margo.yaml; see `authoring.packages` for the rest.
            publisher: whose release it will be.
            output: an OCI image layout, made if it is not there.
            version: needed if `metadata.version` is no SemVer version.
            locations: hints where devices will find the content.

        Raises:
            ApplicationFormatError: the directory or `output` is not fit; `problems`
                lists everything that is wrong. Nothing was written.
            StorageError: files can't be read or written.
        """
        from margo_supplychain.authoring.packages import build_package

        build_package(
            directory,
            publisher=publisher,
            output=output,
            version=version,
            locations=tuple(locations),
        )
        # What was just written is what is used: read it back, every byte checked.
        return cls.from_build(output)

    @classmethod
    def from_build(cls, output: Path) -> Release:
        """Open what `from_package` left in `output`, and check every byte of it.

        Raises:
            MetadataFormatError, OciFormatError: it is no finished build, or its
                `release.json` was changed.
            DigestMismatchError, LengthMismatchError: somebody changed it since.
            StorageError, FetchError: a part is missing, or can't be read.
        """
        from margo_supplychain.authoring.draft_checks import check_draft
        from margo_supplychain.authoring.drafts import open_draft

        release = open_draft(output)
        check_draft(release)
        return release

    @classmethod
    def from_artifact(
        cls,
        source: Source,
        reference: str,
        *,
        name: ReleaseName,
        version: Version,
        components: ComponentLock | None = None,
        images: ImageLock | None = None,
        locations: Sequence[str] = (),
        network: Network | None = None,
        progress: Progress | None = None,
    ) -> Release:
        """Adopt an artifact that lies in `source`, without changing a byte.

        Args:
            source: an OCI layout or registry.
            reference: `sha256:…`, or `oci://host/path@sha256:…`; never a tag. What
                `source` itself has under that URL stays there: publishing in a registry
                does not push it again.
            name: what it will be released as.
            version: what pins are resolved against.
            components: digests of the components of a Margo package.
            images: digests of the container images.
            locations: more hints where devices will find the content.
            network: limits and credentials, for components in their own registries.
            progress: told what is being fetched.

        Raises:
            OciFormatError: a tag, or not a manifest or index.
            FetchError: a part of the artifact is missing.
            DigestMismatchError, LengthMismatchError: a part is other bytes.
        """
        from margo_supplychain.authoring.adopt import Locks, adopt

        locks = Locks()
        return adopt(
            source,
            reference,
            name=name,
            version=version,
            locks=Locks(components or locks.components, images or locks.images),
            locations=tuple(locations),
            network=network,
            progress=progress,
        )

    def parts(self) -> Iterator[Part]:
        """Yield every blob that `source` holds of this release, once each.

        Parts come before the manifests that name them, so who copies in this order
        leaves no manifest without its blobs. Components that lie elsewhere are left
        out: they are named in the record by digest, and lie in their own repositories.

        Raises:
            OciFormatError, FetchError, VerificationError: as `formats.closure.walk`.
        """
        seen: set[Digest] = set()
        for top in self.tops():
            for part in self.parts_of(top):
                if part.descriptor.digest not in seen:
                    seen.add(part.descriptor.digest)
                    yield part

    def parts_of(self, top: Descriptor) -> Iterator[Part]:
        """Yield one manifest that `source` holds and all that it names; see `parts`."""
        return walk(top, lambda what: read_checked(self.source, what))

    def open(self, what: Descriptor) -> AbstractContextManager[BinaryIO]:
        """Open one of `parts`; who copies it checks its digest."""
        return self.source.blob(what)

    def record(
        self,
        created: datetime,
        *,
        layout: int | None = None,
        attestations: Sequence[AttestationReference] = (),
    ) -> ReleaseRecord:
        """Return the record that will be signed.

        Args:
            created: now, aware; cut to whole seconds.
            layout: number of the in-toto layout.
            attestations: statements about this release.
        """
        return ReleaseRecord(
            name=self.name,
            version=self.version,
            application_version=self.application_version,
            created=created.astimezone(UTC).replace(microsecond=0),
            artifact=self.artifact,
            artifact_type=self.artifact_type,
            locations=self.locations,
            components=self.components,
            images=self.images,
            closure=self.closure,
            layout=layout,
            attestations=tuple(attestations),
        )

    def tops(self) -> Iterator[Descriptor]:
        """Yield the manifests that `source` holds: components, then the artifact."""
        for component in self.components:
            if component.content.digest not in self.elsewhere:
                yield component.content
        yield self.artifact
