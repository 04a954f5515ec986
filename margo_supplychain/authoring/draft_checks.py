"""What a draft claims, derived again from the bytes that it names.

`release.json` is not signed and lies where people and scripts work. Everything in it
that follows from the package and its components is found out once more, by the code
that built it, before anybody signs it. What cannot be found out again are the digests
from images.lock and hints; a checksum tells that nobody changed those by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from margo_supplychain.authoring.components import Built
from margo_supplychain.authoring.contents import read_checked
from margo_supplychain.authoring.descriptions import signed_version
from margo_supplychain.authoring.inspection import inspect
from margo_supplychain.authoring.resolution import resolve
from margo_supplychain.errors import (
    ApplicationFormatError,
    FetchError,
    MetadataFormatError,
)
from margo_supplychain.formats import oci
from margo_supplychain.formats.application import DESCRIPTION, parse_description
from margo_supplychain.formats.locks import (
    ComponentKey,
    ComponentLock,
    ImageLock,
    LockedImage,
)

if TYPE_CHECKING:
    from margo_supplychain.authoring.components import Wanted
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.formats.application import ApplicationDescription
    from margo_supplychain.formats.record import Component, Image

_HINT: Final = "release.json was changed since it was built: build it again"


def check_draft(release: Release) -> None:
    """Refuse a draft that says anything but what its bytes say.

    Raises:
        MetadataFormatError: it does.
        FormatError, FetchError, VerificationError: the bytes are not fit themselves.
    """
    description = _description(release)
    name, version = description.id, description.version_text
    _compare("name", release.name.name, name)
    _compare("applicationVersion", release.application_version, version)
    try:
        signed_version(description, release.version)
    except ApplicationFormatError as why:
        raise MetadataFormatError(f"release.json: {why}", hint=_HINT) from why
    known = {(one.profile, one.name): one for one in release.components}
    found = resolve(
        description.profiles,
        build=lambda profile, wanted: _built(
            release, known.get((profile, wanted.name)), wanted
        ),
        components=_components(release),
        images=ImageLock(images=_images(release.images)),
    )
    _compare("components", found.missing, ())
    _compare("components", release.components, found.components)
    _compare("images", release.images, found.images)
    _compare("closure", release.closure, found.closure)
    here = {one.content.digest for one in release.components if _has(release, one)}
    _compare("elsewhere", release.elsewhere, found.elsewhere - here)


def _description(release: Release) -> ApplicationDescription:
    data = read_checked(release.source, release.artifact)
    manifest = oci.parse_manifest(data, what=f"package {release.artifact.digest.short}")
    _compare("artifactType", release.artifact_type, manifest.artifact_type)
    layers = manifest.layers if isinstance(manifest, oci.Manifest) else ()
    main = next((one for one in layers if one.title == DESCRIPTION), None)
    if main is None or release.artifact_type != oci.MARGO_APPLICATION:
        raise MetadataFormatError(
            f"release.json names {release.artifact.digest.short}, which is no package "
            f"with a {DESCRIPTION}",
            hint=_HINT,
        )
    files = {one.title for one in layers if one.title is not None}
    return parse_description(read_checked(release.source, main.descriptor), files=files)


def _built(release: Release, one: Component | None, wanted: Wanted) -> Built | None:
    if one is None or one.content.digest in release.elsewhere:
        return None
    found = inspect(release.source, one.content, shown=f"component {wanted.name}")
    return Built(
        one.content,
        images=found.images,
        opaque=found.opaque or found.kind == "artifact",
        gaps=found.gaps,
    )


def _has(release: Release, one: Component) -> bool:
    try:
        read_checked(release.source, one.content)
    except FetchError:
        return False
    return True


def _components(release: Release) -> ComponentLock:
    return ComponentLock(
        components={
            ComponentKey(one.name, one.repository, one.revision): one.content
            for one in release.components
            if one.content.digest in release.elsewhere
        }
    )


def _images(images: tuple[Image, ...]) -> dict[str, LockedImage]:
    """Return what images.lock must have said."""
    locked: dict[str, LockedImage] = {}
    for one in images:
        if one.digest is None:
            continue
        known = locked.get(one.reference)
        if known is not None and (known.digest, known.platforms) != (
            one.digest,
            one.platforms,
        ):
            raise MetadataFormatError(
                f"release.json pins {one.reference} twice and not alike", hint=_HINT
            )
        before = () if known is None else known.components
        locked[one.reference] = LockedImage(
            digest=one.digest,
            platforms=one.platforms,
            components=(*before, one.component),
        )
    return locked


def _compare(field: str, said: object, found: object) -> None:
    if said != found:
        raise MetadataFormatError(
            f"release.json has other {field} than its bytes: {said!r:.120}, found "
            f"{found!r:.120}",
            hint=_HINT,
        )
