"""What an OCI artifact is, told by its bytes: a package, chart, archive, image, ...

Reads what lies in a source, checked by digest, and changes nothing. What is unusual
becomes a warning: who adopts an artifact signs its bytes as they are.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from margo_supplychain.authoring.contents import read_checked
from margo_supplychain.errors import (
    ApplicationFormatError,
    OciFormatError,
    UnsafeArchiveError,
)
from margo_supplychain.formats.archives import check_compose_archive, check_helm_chart
from margo_supplychain.formats.compose import parse_compose
from margo_supplychain.formats.oci import (
    COMPONENT_VERSION,
    COMPOSE_COMPONENT,
    COMPOSE_LAYER,
    DOCKER_MANIFEST,
    HELM_CONFIG,
    HELM_LAYERS,
    MARGO_APPLICATION,
    Index,
    Manifest,
    parse_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from margo_supplychain.formats.compose import ImageReference
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.oci import Layer
    from margo_supplychain.transport.protocols import Source

Kind = Literal["package", "compose", "helm", "image", "artifact"]
MAX_ARCHIVE: Final = 256 << 20  # bytes of a component that is looked into
IMAGE_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
"""The config of a container image; Docker's own comes with Docker's manifest type."""


class Inspection(NamedTuple):
    """What was found.

    Args:
        kind: what it is.
        document: its manifest or index.
        version: what it says of itself, where that is defined.
        images: image references that it names.
        opaque: it may name images that nothing but its author can list.
        gaps: why it may run others, whoever lists them.
        warnings: what is unusual about it.
    """

    kind: Kind
    document: Manifest | Index
    version: str | None = None
    images: tuple[ImageReference, ...] = ()
    opaque: bool = False
    gaps: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def inspect(source: Source, what: Descriptor, *, shown: str) -> Inspection:
    """Say what `what` is.

    Args:
        source: where it lies.
        what: its manifest or index.
        shown: what it is called in warnings.

    Raises:
        OciFormatError: not a manifest or index.
        FetchError, DigestMismatchError, LengthMismatchError: `source` does not give it.
    """
    document = parse_manifest(read_checked(source, what), what=shown)
    kind = kind_of(document)
    if isinstance(document, Index):
        return Inspection(kind, document)
    if kind == "compose":
        return _compose(source, document, shown)
    if kind == "helm":
        return _helm(source, document, shown)
    return Inspection(kind, document)


def kind_of(manifest: Manifest | Index) -> Kind:
    """Say what a manifest or index is of."""
    if isinstance(manifest, Index):
        return "image"
    if manifest.artifact_type == MARGO_APPLICATION:
        return "package"
    if manifest.artifact_type == COMPOSE_COMPONENT:
        return "compose"
    # Helm itself marks the config, Margo's proposal the artifact.
    if HELM_CONFIG in (manifest.artifact_type, manifest.config.media_type):
        return "helm"
    if (
        manifest.media_type == DOCKER_MANIFEST
        or manifest.config.media_type == IMAGE_CONFIG
    ):
        return "image"
    return "artifact"


def _compose(source: Source, manifest: Manifest, shown: str) -> Inspection:
    warnings: list[str] = []
    layer = manifest.layers[0]
    if len(manifest.layers) != 1 or layer.descriptor.media_type != COMPOSE_LAYER:
        warnings.append(f"{shown} is not one layer of type {COMPOSE_LAYER}")
        return Inspection("compose", manifest, opaque=True, warnings=tuple(warnings))
    version = layer.annotations.get(COMPONENT_VERSION)
    if version is None:
        # The specification wants it on the layer; its own example sets the manifest's.
        version = manifest.annotations.get(COMPONENT_VERSION)
        warnings.append(f"{shown} has no {COMPONENT_VERSION} on its layer")
    with _refused(shown):
        archive = check_compose_archive(_archive(source, layer, shown))
    top = f"{archive.top}/"
    files = {one.name.removeprefix(top) for one in archive.members}
    try:
        named = parse_compose(archive.main, files=files, what=f"{shown}:compose.yaml")
    except ApplicationFormatError as why:
        warnings += why.problems or [str(why)]
        return Inspection(
            "compose", manifest, version, opaque=True, warnings=tuple(warnings)
        )
    return Inspection(
        "compose",
        manifest,
        version,
        images=named.images,
        gaps=named.gaps,
        warnings=(*warnings, *named.warnings),
    )


def _helm(source: Source, manifest: Manifest, shown: str) -> Inspection:
    layer = chart_layer(manifest)
    version = manifest.annotations.get("org.opencontainers.image.version")
    if layer is None:
        warning = f"{shown} has not exactly one chart layer"
        return Inspection("helm", manifest, version, opaque=True, warnings=(warning,))
    with _refused(shown):
        check_helm_chart(_archive(source, layer, shown))
    return Inspection("helm", manifest, version, opaque=True)


@contextmanager
def _refused(shown: str) -> Iterator[None]:
    # Signing it would be of no use: every device refuses such an archive.
    try:
        yield
    except UnsafeArchiveError as why:
        raise ApplicationFormatError(
            f"{shown}: {why}", hint="every device would refuse it; correct the archive"
        ) from why


def _archive(source: Source, layer: Layer, shown: str) -> io.BytesIO:
    # The bytes whose digest was checked are the ones that are looked into: a source
    # may answer the second time with something else.
    if layer.descriptor.size > MAX_ARCHIVE:
        raise OciFormatError(
            f"{shown} has an archive of {layer.descriptor.size} bytes, more than "
            f"{MAX_ARCHIVE}"
        )
    return io.BytesIO(read_checked(source, layer.descriptor))


def chart_layer(manifest: Manifest) -> Layer | None:
    """Return the one layer that holds the chart; None if there is not exactly one."""
    found = [
        layer for layer in manifest.layers if layer.descriptor.media_type in HELM_LAYERS
    ]
    return found[0] if len(found) == 1 else None


def sole_manifest(index: Index, *, shown: str) -> Descriptor:
    """Return the one entry of a layout's `index.json`.

    Raises:
        OciFormatError: there are more or none. A tag would not be enough to choose.
    """
    if len(index.manifests) != 1:
        raise OciFormatError(
            f"{shown} lists {len(index.manifests)} manifests, expected exactly one"
        )
    return index.manifests[0].descriptor
