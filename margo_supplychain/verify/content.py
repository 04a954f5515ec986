"""Step 6: every byte of a release, streamed, checked and kept by digest.

Content goes into an OCI image layout; a blob has a name there only when its size and
digest were right. Archives are read, never extracted; the application description in
the package must agree with the signed record. Memory does not grow with a blob.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import (
    BudgetError,
    DeploymentError,
    FetchError,
    LengthMismatchError,
    MalformedError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.formats import closure, oci
from margo_supplychain.formats.oci import Manifest
from margo_supplychain.storage.content_store import ContentStore, blob_path
from margo_supplychain.storage.durable import read_file, remove_file
from margo_supplychain.storage.lock import DirectoryLock
from margo_supplychain.verify.artifact import first_of
from margo_supplychain.verify.workflow import remote

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from margo_supplychain.formats.application import ApplicationDescription
    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.record import Component, ReleaseRecord
    from margo_supplychain.transport.protocols import Source
    from margo_supplychain.verify.limits import Budget, Limits

LOCK_TIMEOUT: Final = 30.0  # seconds to wait for another fetch into one directory
_TAR_ENDINGS: Final = (".tar", ".tar+gzip", "/gzip", "/x-tar", "+tar")
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


class Fetch:
    """One fetch: a record, where its content may lie, and where it goes.

    Args:
        record: verified.
        sources: where to try, best first.
        to: directory of the layout to fill; made if need be.
    """

    def __init__(
        self,
        record: ReleaseRecord,
        sources: Sequence[Source],
        to: Path,
        *,
        limits: Limits,
        budget: Budget,
    ) -> None:
        self._record = record
        self._sources = sources
        self._limits = limits
        self._budget = budget
        self._to = to
        self._total = 0
        self.content = ContentStore.create(to, mode=0o700)
        self.digests: dict[Digest, Descriptor] = {}

    def run(self) -> None:
        """Fetch and check the whole closure; list it only when all of it is right.

        One fetch at a time works in a directory: what a killed one left is removed, and
        would else fill a small device.
        """
        with DirectoryLock(self.content.directory, timeout=LOCK_TIMEOUT):
            self.content.clean()
            self._run()

    def _run(self) -> None:
        # By the part that it plays: one record may call the same bytes a file as well.
        manifests: dict[Digest, Descriptor] = {}
        for top in self._tops():
            for part in self._walk(top):
                self._get(part.descriptor)
                if part.role == "manifest":
                    manifests[part.descriptor.digest] = part.descriptor
            if not closure.is_manifest(top):
                self._check_layer("", top)
        for what in manifests.values():
            self._check_archives(what)
        for component in self._record.components:
            self._check_component(component)
        self._check_description()
        self._list()

    def _tops(self) -> list[Descriptor]:
        record = self._record
        named = [record.artifact, *(one.content for one in record.components)]
        return list(dict.fromkeys(named))

    def _walk(self, top: Descriptor) -> list[closure.Part]:
        if not closure.is_manifest(top):
            return [closure.Part("layer", top)]
        with remote(f"closure of {top.digest.short}"):
            return list(closure.walk(top, self._manifest))

    def _manifest(self, what: Descriptor) -> bytes:
        self._get(what)
        path = blob_path(self.content.directory, what.digest)
        return read_file(path, limit=self._limits.manifest)

    def _get(self, what: Descriptor) -> None:
        known = self.digests.get(what.digest)
        if known is not None:
            # check 6.4: the same bytes have one size
            if known.size != what.size:
                raise MalformedError(
                    f"{what.digest} has the sizes {known.size} and {what.size} at once"
                )
            return
        # check 6.1: bounded number of blobs
        if len(self.digests) >= self._limits.blobs:
            raise BudgetError(f"the release has more than {self._limits.blobs} blobs")
        self._total += what.size
        # check 6.2: bounded size in all
        if self._total > self._limits.content:
            raise BudgetError(f"the release has more than {self._limits.content} bytes")
        if not self._is_here(what):
            self._fetch(what)
        self.digests[what.digest] = what

    def _is_here(self, what: Descriptor) -> bool:
        if not self.content.has(what):
            return False
        try:
            # check 6.3 (instead: pass): what lies there already is hashed again
            self.content.verify(what)
        except VerificationError:
            remove_file(blob_path(self.content.directory, what.digest))
            return False
        return True

    def _fetch(self, what: Descriptor) -> None:
        problems: list[SupplyChainError] = []
        done = 0

        def tick(size: int) -> None:
            nonlocal done
            done += size
            self._budget.check()
            self._budget.spend(size)
            self._budget.report(str(what.digest), done, what.size)

        for source in self._sources:
            self._budget.check()
            done = 0
            try:
                with source.blob(what) as stream:
                    self.content.put(what, stream, tick=tick)
            except (FetchError, VerificationError) as why:
                problems.append(why)
            else:
                return
        raise first_of(problems, what)

    # --- archives --------------------------------------------------------------------

    def _check_archives(self, what: Descriptor) -> None:
        data = self._manifest(what)
        with remote(f"manifest {what.digest.short}"):
            manifest = oci.parse_manifest(data)
        if not isinstance(manifest, Manifest):
            for entry in manifest.manifests:
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
        with self.content.open_blob(layer.digest) as stream:
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
                found = oci.parse_manifest(self._manifest(what))
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

    def _check_description(self) -> None:
        record = self._record
        if record.artifact_type != oci.MARGO_APPLICATION:
            return
        with remote(f"package {record.artifact.digest.short}"):
            manifest = oci.parse_manifest(self._manifest(record.artifact))
        layer = None
        if isinstance(manifest, Manifest):
            layer = next(
                (one for one in manifest.layers if one.title == "margo.yaml"), None
            )
        # check 6.20: a Margo package has a description
        if layer is None:
            raise DeploymentError(
                f"package {record.artifact.digest.short} has no margo.yaml",
                part="margo.yaml",
            )
        from margo_supplychain.formats import application

        limit = application.MAX_DESCRIPTION
        # check 6.21: bounded before it is parsed
        if layer.descriptor.size > limit:
            raise LengthMismatchError(
                f"margo.yaml has {layer.descriptor.size} bytes, more than {limit}",
                subject="margo.yaml",
                expected=limit,
                found=layer.descriptor.size,
            )
        path = blob_path(self.content.directory, layer.descriptor.digest)
        found, problems = application.inspect_description(read_file(path, limit=limit))
        if found is None:
            # Adopted as it was, with the warning at signing; its digest is signed.
            if record.application_version is None and not record.components:
                return
            raise DeploymentError(
                f"margo.yaml can't be read: {problems[0] if problems else 'empty'}",
                part="margo.yaml",
            )
        self._compare("id", found.id, record.name.name)
        self._compare(
            "metadata.version", found.version_text, record.application_version
        )
        self._compare_profiles(found)

    def _compare_profiles(self, found: ApplicationDescription) -> None:
        signed: dict[str, list[tuple[str, str, str]]] = {}
        for one in self._record.components:
            group = signed.setdefault(one.profile, [])
            group.append((one.name, one.repository, one.revision))
        described = {
            profile.id: sorted(
                (one.name, one.repository or "", one.revision or "")
                for one in profile.components
            )
            for profile in found.profiles
        }
        for profile, components in signed.items():
            # check 6.22: the description deploys what is signed, and nothing else
            self._compare(
                f"components of {profile}", described.get(profile), sorted(components)
            )
        missing = sorted(described.keys() - signed.keys())
        # check 6.23: a profile that nobody signed is no part of a complete release
        if missing and self._record.closure == "complete":
            raise DeploymentError(
                f"margo.yaml has the profile {missing[0]}, the signed record has not, "
                "and calls itself complete",
                part=missing[0],
            )

    def _compare(self, part: str, found: object, signed: object) -> None:
        if found != signed:
            raise DeploymentError(
                f"margo.yaml says {part} {found!r:.160}, the signed record "
                f"{signed!r:.160}",
                part=part,
            )

    def _list(self) -> None:
        record = self._record
        self.content.add_reference(
            record.artifact,
            name=f"{record.name}:{record.version.tag}",
            artifact_type=record.artifact_type,
        )
