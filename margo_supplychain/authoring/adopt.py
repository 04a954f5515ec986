"""`release adopt`: an artifact that already exists becomes a release, as it is.

Any OCI artifact: a Margo package, a chart, a Compose archive, an image or image index,
a Wasm module. It is named by digest, every byte of its closure is read and checked, and
none is changed. What is unusual about it becomes a warning; what every device would
refuse is an error.

What is adopted where it lies, in its registry, stays there and is not pushed again. Its
components are looked for where margo.yaml says, by the digests of `components.lock`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.authoring.components import Built
from margo_supplychain.authoring.contents import read_checked
from margo_supplychain.authoring.descriptions import one_line_each
from margo_supplychain.authoring.fetched import FetchedContent
from margo_supplychain.authoring.inspection import inspect
from margo_supplychain.authoring.release import Release
from margo_supplychain.authoring.resolution import ImagePins, Resolution, resolve
from margo_supplychain.errors import (
    ApplicationFormatError,
    DigestMismatchError,
    OciFormatError,
    TooLargeError,
)
from margo_supplychain.formats.application import (
    DESCRIPTION,
    MAX_DESCRIPTION,
    inspect_description,
)
from margo_supplychain.formats.closure import walk
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.locks import ComponentKey, ComponentLock, ImageLock
from margo_supplychain.formats.oci import (
    MANIFEST,
    MARGO_DESCRIPTION,
    MAX_MANIFEST,
    Index,
    Manifest,
    parse_manifest,
)
from margo_supplychain.formats.record import check_location
from margo_supplychain.formats.references import RegistryReference
from margo_supplychain.storage.receive import check_stream
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.oci_layout import LayoutSource
from margo_supplychain.transport.opening import open_source

if TYPE_CHECKING:
    from margo_supplychain.authoring.components import Wanted
    from margo_supplychain.authoring.inspection import Inspection
    from margo_supplychain.authoring.place import Progress
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.versions import Version
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.protocols import Source

_HINT: Final = (
    "a tag can move; name the digest that you reviewed, as in {example} "
    "(index.json of an OCI layout lists digests, and so do "
    "`oras resolve REFERENCE` and `skopeo inspect`)"
)


class Locks(NamedTuple):
    """What was reviewed: digests of components and of images."""

    components: ComponentLock = ComponentLock(components={})
    images: ImageLock = ImageLock(images={})


class _Facts(NamedTuple):
    """What a package or component says beyond its bytes."""

    application_version: str | None
    resolution: Resolution


class _Found(NamedTuple):
    """Where an artifact and its components are looked at.

    Args:
        source: holds the artifact.
        fetched: takes what is read from registries; None for what lies on a disk.
        network: how registries are reached.
        progress: told what is fetched.
    """

    source: Source
    fetched: FetchedContent | None
    network: Network | None
    progress: Progress | None

    @classmethod
    def of(
        cls,
        source: Source,
        artifact: Descriptor,
        *,
        network: Network | None,
        progress: Progress | None,
    ) -> _Found:
        """Read and check every byte of an artifact; fetch it if it is not on a disk."""
        if isinstance(source, (DirectorySource, LayoutSource)):
            for part in walk(artifact, lambda what: read_checked(source, what)):
                what = part.descriptor
                with source.blob(what) as stream:
                    check_stream(what, stream, subject=str(what.digest))
            return cls(source, None, network, progress)
        fetched = FetchedContent()
        shown = f"artifact {artifact.digest.short}"
        fetched.fetch(source, artifact, shown=shown, progress=progress)
        return cls(fetched, fetched, network, progress)

    def component(self, wanted: Wanted, locked: Descriptor | None) -> Built | None:
        """Return a component's content, read where devices will read it.

        None if its digest is not known, or if the artifact itself lies elsewhere: then
        whoever publishes it says where its components are.

        Raises:
            OciFormatError: its repository is none that can be asked.
            FetchError, VerificationError: it is not there, or is other bytes.
        """
        if locked is None or self.fetched is None:
            return None
        shown = f"component {wanted.name}"
        place = RegistryReference.parse(wanted.repository).repository
        there = open_source(place, network=self.network)
        self.fetched.fetch(there, locked, shown=shown, progress=self.progress)
        found = inspect(self.fetched, locked, shown=shown)
        return Built(
            locked,
            images=found.images,
            opaque=found.opaque or found.kind == "artifact",
            gaps=found.gaps,
            warnings=found.warnings,
        )


def adopt(
    source: Source,
    reference: str,
    *,
    name: ReleaseName,
    version: Version,
    locks: Locks,
    locations: tuple[str, ...],
    network: Network | None,
    progress: Progress | None,
) -> Release:
    """Make a release of an artifact in `source`; see `Release.from_artifact`."""
    digest, location = parse_reference(reference)
    if digest.algorithm != "sha256":
        raise OciFormatError(
            f"{digest} is no sha256 digest, and a release is named by one",
            hint="name the same artifact by its sha256 digest",
        )
    artifact = find_artifact(source, digest)
    shown = f"artifact {digest.short}"
    place = _Found.of(source, artifact, network=network, progress=progress)
    found = inspect(place.source, artifact, shown=shown)
    if found.kind == "package":
        facts = _package(place, found, name, version, locks)
    else:
        facts = _bare(found, name, locks.images)
    warnings = list(found.warnings)
    if found.version is not None and found.version != str(version):
        warnings.append(
            f"{shown} calls itself {found.version[:80]}, and will be released as "
            f"{version}"
        )
    components = facts.resolution.components
    tops = {artifact.digest, *(one.content.digest for one in components)}
    in_place = place.fetched is not None and source.url == location
    if in_place and isinstance(found.document, Index):
        warnings.append(
            f"{shown} is an index, and {location} may have no tags for the "
            f"{len(found.document.manifests)} manifests that it names: a clean-up of "
            "what has no tag removes them there. Keep a copy (repo push), and mend it "
            "with repo check --repair --from COPY"
        )
    places = dict.fromkeys((*([location] if location else []), *locations))
    return Release(
        name=name,
        version=version,
        artifact=artifact,
        artifact_type=found.document.artifact_type,
        application_version=facts.application_version,
        locations=tuple(check_location(one) for one in places),
        components=components,
        images=facts.resolution.images,
        closure=facts.resolution.closure,
        warnings=one_line_each((*warnings, *facts.resolution.warnings)),
        elsewhere=facts.resolution.elsewhere,
        source=place.source,
        in_place=frozenset(tops if in_place else ()),
        unpinned=facts.resolution.missing,
    )


def parse_reference(text: str) -> tuple[Digest, str | None]:
    """Return the digest of a reference, and its location if it names one.

    Raises:
        OciFormatError: a tag, or neither of the two forms.
    """
    place, _, digest = text.rpartition("@")
    try:
        found = Digest.parse(digest)
    except OciFormatError as why:
        raise OciFormatError(
            f"reference {text[:200]!r} names no digest",
            hint=_HINT.format(example="oci://registry.example/acme/app@sha256:…"),
        ) from why
    if not place:
        return found, None
    # A tag before the digest is for people; the location has none.
    head, slash, last = place.removeprefix("oci://").rpartition("/")
    if not place.startswith("oci://") or not head or not last:
        raise OciFormatError(
            f"reference {text[:200]!r} is neither sha256:… nor oci://host/path@sha256:…"
        )
    return found, check_location(f"oci://{head}{slash}{last.partition(':')[0]}")


def find_artifact(source: Source, digest: Digest) -> Descriptor:
    """Return the descriptor of a manifest of which only the digest is known.

    Raises:
        FetchError: `source` has no such thing.
        DigestMismatchError: it gives other bytes.
        OciFormatError: it is not a manifest or index.
    """
    # Kind and size are not known yet: ask for as much as a manifest may have.
    what = Descriptor(media_type=MANIFEST, digest=digest, size=MAX_MANIFEST)
    pieces: list[bytes] = []
    try:
        with source.blob(what) as stream:
            while piece := stream.read(1 << 16):
                pieces.append(piece)
    except TooLargeError as why:
        raise OciFormatError(
            f"{digest} is larger than any manifest: name a manifest or index, not a "
            "layer"
        ) from why
    data = b"".join(pieces)
    found = hashlib.new(digest.algorithm, data).hexdigest()
    if found != digest.hex:
        raise DigestMismatchError(
            f"{source.url} gives {digest.algorithm}:{found} for {digest}",
            subject=str(digest),
            expected=str(digest),
            found=f"{digest.algorithm}:{found}",
        )
    document = parse_manifest(data, what=f"artifact {digest.short}")
    return Descriptor(media_type=document.media_type, digest=digest, size=len(data))


def _bare(found: Inspection, name: ReleaseName, lock: ImageLock) -> _Facts:
    pins = ImagePins(lock)
    complete = pins.add(name.name, found.images, opaque=found.opaque, gaps=found.gaps)
    resolution = Resolution(
        components=(),
        images=pins.images(),
        closure="complete" if complete else "partial",
        warnings=pins.warnings(),
        elsewhere=frozenset(),
        missing=(),
    )
    return _Facts(None, resolution)


def _package(
    place: _Found,
    found: Inspection,
    name: ReleaseName,
    version: Version,
    locks: Locks,
) -> _Facts:
    warnings: list[str] = []
    data, files = read_description(place.source, found.document, warnings)
    description, problems = inspect_description(data, files=files)
    warnings += problems
    if description is None:
        warnings.append(
            f"closure is partial: {DESCRIPTION} can't be read, so nothing that it "
            "deploys is signed"
        )
        nothing = Resolution((), (), "partial", tuple(warnings), frozenset(), ())
        return _Facts(None, nothing)
    if description.id != name.name:
        raise ApplicationFormatError(
            f"{DESCRIPTION} has id {description.id}, and {name} ends in another name",
            hint=f"adopt it as {name.publisher}/{description.id}",
        )
    if description.version_text != str(version):
        warnings.append(
            f"metadata.version is {description.version_text}, and will be released as "
            f"{version}"
        )
    # What was not read of a profile would be deployed and not signed.
    profiles = [one for one in description.profiles if one.id not in description.unread]
    warnings += (
        f"closure is partial: profile {one or 'without an id'} can't be read in full, "
        "so it is not part of the release"
        for one in description.unread
    )
    known = locks.components.components
    resolution = resolve(
        profiles,
        build=lambda _profile, wanted: place.component(
            wanted,
            known.get(ComponentKey(wanted.name, wanted.repository, wanted.revision)),
        ),
        components=locks.components,
        images=locks.images,
    )
    warnings += (
        f"closure is partial: component {one} has no digest in components.lock, so its "
        "profile is not part of the release"
        for one in resolution.missing
    )
    return _Facts(
        description.version_text,
        resolution._replace(
            closure="partial" if description.unread else resolution.closure,
            warnings=(*warnings, *description.warnings, *resolution.warnings),
        ),
    )


def read_description(
    source: Source, manifest: Manifest | Index, warnings: list[str]
) -> tuple[bytes, frozenset[str]]:
    """Return a package's margo.yaml, checked by digest, and the names of its files.

    Args:
        source: where the package lies.
        manifest: the package's.
        warnings: takes what is unusual about it.

    Raises:
        ApplicationFormatError: it has none, or one that is too large.
        FetchError, VerificationError: `source` does not give it.
    """
    layers = manifest.layers if isinstance(manifest, Manifest) else ()
    layer = next((one for one in layers if one.title == DESCRIPTION), None)
    if layer is None:
        raise ApplicationFormatError(
            f"the package has no file {DESCRIPTION}: every device would refuse it"
        )
    if layer.descriptor.media_type != MARGO_DESCRIPTION:
        warnings.append(
            f"{DESCRIPTION} has media type {layer.descriptor.media_type}, Margo's is "
            f"{MARGO_DESCRIPTION}"
        )
    if layer.descriptor.size > MAX_DESCRIPTION:
        raise ApplicationFormatError(
            f"{DESCRIPTION} has {layer.descriptor.size} bytes, more than "
            f"{MAX_DESCRIPTION}"
        )
    titles = frozenset(one.title for one in layers if one.title is not None)
    return read_checked(source, layer.descriptor), titles
