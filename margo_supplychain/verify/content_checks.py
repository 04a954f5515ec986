"""Step 6: what content must be, once its bytes are the signed ones.

Archives are read, never extracted: by the part that they play, whatever a record or a
manifest calls them. The application description in a package must agree with the signed
record. The device runs this on what it fetched (`content`), the author on what it is
about to publish (`check_stored`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import (
    BudgetError,
    DeploymentError,
    LengthMismatchError,
    MalformedError,
)
from margo_supplychain.formats import closure, oci
from margo_supplychain.formats.application import MAX_DESCRIPTION
from margo_supplychain.formats.oci import Manifest
from margo_supplychain.storage.receive import read_exact
from margo_supplychain.verify.description import check_description
from margo_supplychain.verify.remote import remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.record import Component, ReleaseRecord
    from margo_supplychain.storage.content_store import ContentStore
    from margo_supplychain.verify.limits import Limits

NOTHING: Final[frozenset[Digest]] = frozenset()
_TAR_ENDINGS: Final = (".tar", ".tar+gzip", "/tar+gzip", "/gzip", "/x-tar", "+tar")
# Layers of container images hold links and devices by design; the container engine
# that extracts them judges them.
_IMAGE_LAYERS: Final = (
    "application/vnd.oci.image.layer.",
    "application/vnd.docker.image.rootfs.",
)
# profile type, up to its first dot → (type of artifact, types of the deployed layer)
_EXPECTED: Final = {
    "compose": (oci.COMPOSE_COMPONENT, frozenset({oci.COMPOSE_LAYER})),
    "docker-compose": (oci.COMPOSE_COMPONENT, frozenset({oci.COMPOSE_LAYER})),
    "helm": (oci.HELM_CONFIG, oci.HELM_LAYERS),
}


def tops_of(record: ReleaseRecord) -> list[Descriptor]:
    """Return where a release's closure begins: its artifact and its components."""
    named = [record.artifact, *(one.content for one in record.components)]
    return list(dict.fromkeys(named))


def parts_of(
    top: Descriptor,
    read: Callable[[Descriptor], bytes],
    *,
    platforms: frozenset[str] | None = None,
) -> Iterator[closure.Part]:
    """Yield the closure below one top.

    Args:
        top: where it begins.
        read: returns the checked bytes of a manifest.
        platforms: of an index that names platforms, these alone; None for all.

    Raises:
        MalformedError: a manifest is none, or the closure is beyond its limits.
        UnknownTargetError: an index has nothing for any of the platforms.
    """
    if not closure.is_manifest(top):
        yield closure.Part("layer", top)
        return
    with remote(f"closure of {top.digest.short}"):
        yield from closure.walk(top, read, platforms=platforms)


def check_stored(
    record: ReleaseRecord,
    content: ContentStore,
    *,
    limits: Limits,
    elsewhere: frozenset[Digest] = NOTHING,
    hashed: set[Digest] | None = None,
) -> None:
    """Check content that lies in a store as a device checks what it fetched.

    Args:
        record: what is signed, or about to be.
        content: where it lies.
        limits: the device's.
        elsewhere: components that lie in their own repositories and not here.
        hashed: what was found right before and is not hashed again; grows.

    Raises:
        VerificationError: a device would refuse it.
        BudgetError: it is beyond the limits.
        StorageError: a part is not there.
    """
    checks = ContentChecks(record, content, elsewhere=elsewhere)
    known: set[Digest] = set() if hashed is None else hashed
    sizes: dict[Digest, int] = {}
    for top in checks.tops:
        for part in parts_of(top, checks.read):
            what = part.descriptor
            if sizes.setdefault(what.digest, what.size) != what.size:
                raise MalformedError(f"{what.digest} has two sizes at once")
            if what.digest not in known:
                content.verify(what)
                known.add(what.digest)
            checks.add(part)
    if len(sizes) > limits.blobs or sum(sizes.values()) > limits.content:
        raise BudgetError(
            f"the release has {len(sizes)} blobs of {sum(sizes.values())} bytes, more "
            f"than the {limits.blobs} of {limits.content} that devices fetch"
        )
    checks.run()


class ContentChecks:
    """The checks of one release's content, all of which is in a store.

    Args:
        record: verified.
        content: holds every part of the closure.
        elsewhere: but for these components; a device never leaves any out.
        tick: called with the size of each piece that is hashed; may raise to stop.
        platforms: of an index, the entries for these alone are there; None for all.
    """

    def __init__(
        self,
        record: ReleaseRecord,
        content: ContentStore,
        *,
        elsewhere: frozenset[Digest] = NOTHING,
        tick: Callable[[int], None] | None = None,
        platforms: frozenset[str] | None = None,
    ) -> None:
        self._tick = tick
        self._platforms = platforms
        self._record = record
        self._content = content
        self._elsewhere = elsewhere
        self.tops = [one for one in tops_of(record) if one.digest not in elsewhere]
        # By the part that it plays: one record may call the same bytes a file as well.
        self._manifests: dict[Digest, Descriptor] = {}

    def add(self, part: closure.Part) -> None:
        """Take note of one part of the closure."""
        if part.role == "manifest":
            self._manifests[part.descriptor.digest] = part.descriptor

    def read(self, what: Descriptor) -> bytes:
        """Return a manifest's bytes, hashed as they are read."""
        with self._content.open_blob(what.digest) as stream:
            # check 6.5 (instead: return stream.read()): what is parsed was hashed
            return read_exact(what, stream, subject=str(what.digest))

    def run(self) -> None:
        """Check archives, components and the application description."""
        for top in self.tops:
            if not closure.is_manifest(top):
                self._check_layer("", top)
        for what in self._manifests.values():
            self._check_archives(what)
        for component in self._record.components:
            if component.content.digest not in self._elsewhere:
                self._check_component(component)
        self._check_package()

    # --- archives --------------------------------------------------------------------

    def _check_archives(self, what: Descriptor) -> None:
        data = self.read(what)
        with remote(f"manifest {what.digest.short}"):
            manifest = oci.parse_manifest(data)
        if not isinstance(manifest, Manifest):
            for entry in closure.chosen(manifest, self._platforms, what=what):
                if not closure.is_manifest(entry.descriptor):
                    self._check_layer("", entry.descriptor)
            return
        for layer in manifest.layers:
            self._check_layer(manifest.kind, layer.descriptor)

    def _check_layer(self, kind: str, layer: Descriptor) -> None:
        from margo_supplychain.formats import archives

        media_type = layer.media_type
        is_chart = kind == oci.HELM_CONFIG and media_type in oci.HELM_LAYERS
        # Whatever a Compose component calls its layers, they will be extracted.
        is_compose = kind == oci.COMPOSE_COMPONENT or media_type == oci.COMPOSE_LAYER
        is_tar = not media_type.startswith(_IMAGE_LAYERS) and media_type.endswith(
            _TAR_ENDINGS
        )
        if not is_chart and not is_compose and not is_tar:
            return
        with self._content.open_checked(layer, tick=self._tick) as stream:
            # check 6.10 (instead: pass): archives that must not be extracted end here
            if is_compose:
                archives.check_compose_archive(stream)
            elif is_chart:
                archives.check_helm_chart(stream)
            else:
                archives.check_archive(stream)

    def _check_component(self, component: Component) -> None:
        """Refuse a component that its profile would not extract as what it says.

        A device's agent goes by the profile: what it takes for a Compose archive must
        have been checked as one.
        """
        kind, layers = _EXPECTED.get(component.profile_type.partition(".")[0], ("", ()))
        if not kind:
            return
        what = component.content
        found = None
        if closure.is_manifest(what):
            with remote(f"manifest {what.digest.short}"):
                found = oci.parse_manifest(self.read(what))
        # check 6.11: a component is of the type that its profile deploys
        if (
            not isinstance(found, Manifest)
            or found.kind != kind
            or not any(one.descriptor.media_type in layers for one in found.layers)
        ):
            raise DeploymentError(
                f"component {component.name} of profile {component.profile} is "
                f"{found.kind if isinstance(found, Manifest) else what.media_type}, "
                f"expected {kind}",
                part=component.name,
            )

    # --- the application description -------------------------------------------------

    def _check_package(self) -> None:
        record = self._record
        if record.artifact_type != oci.MARGO_APPLICATION:
            return
        with remote(f"package {record.artifact.digest.short}"):
            manifest = oci.parse_manifest(self.read(record.artifact))
        layers = manifest.layers if isinstance(manifest, Manifest) else ()
        found = [
            one.descriptor
            for one in layers
            if one.title == "margo.yaml"
            or one.descriptor.media_type == oci.MARGO_DESCRIPTION
        ]
        package = f"package {record.artifact.digest.short}"
        # check 6.20: a Margo package has a description
        if not any(one.title == "margo.yaml" for one in layers):
            raise DeploymentError(f"{package} has no margo.yaml", part="margo.yaml")
        # check 6.29: and one only, whether an agent goes by title or by media type
        if len(found) != 1:
            raise DeploymentError(
                f"{package} has {len(found)} application descriptions, expected one",
                part="margo.yaml",
            )
        limit = MAX_DESCRIPTION
        # check 6.21: bounded before it is parsed
        if found[0].size > limit:
            raise LengthMismatchError(
                f"margo.yaml has {found[0].size} bytes, more than {limit}",
                subject="margo.yaml",
                expected=limit,
                found=found[0].size,
            )
        check_description(record, self.read(found[0]))
