"""What a build gave: the package, its components and images, with sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from margo_supplychain.authoring.contents import read_checked
from margo_supplychain.cli import describe
from margo_supplychain.cli.output import Result
from margo_supplychain.formats.application import MAX_DESCRIPTION, inspect_description
from margo_supplychain.formats.closure import walk
from margo_supplychain.formats.oci import Manifest, parse_manifest
from margo_supplychain.storage import durable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from margo_supplychain.authoring.release import Release
    from margo_supplychain.formats.application import ApplicationDescription
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.record import Image

_GENERATIONS = {"v1": "Margo v1", "v1-alpha1": "Margo v1-alpha1"}
_MANY = 6  # components in one line


def describe_build(
    release: Release, *, directory: Path, output: str, is_vendor: bool
) -> Result:
    """Return what to print after `release build`.

    Args:
        release: what was built.
        directory: from what.
        output: where to.
        is_vendor: whether another publishes what is handed in.
    """
    file = directory / "margo.yaml"
    found = _description(file)
    generation = "Margo" if found is None else _GENERATIONS[found.generation]
    digest = release.artifact.digest
    rows = [
        ("package", f"{digest.algorithm}:{digest.short}  {_package(release)}"),
        ("components", _components(release, found)),
        ("images", images_text(release.images, release.closure)),
    ]
    follow = "margo-supplychain release publish"
    if is_vendor:
        follow = "margo-supplychain release submit"
    lines = [
        f"built {release.name} {release.version} from {file} ({generation})",
        *describe.table(rows),
        f"next: {follow} {output}",
    ]
    return Result(data=release_data(release, output), lines=lines)


def release_data(release: Release, output: str) -> dict[str, Any]:
    """Return a release that is not signed yet, and where it was written, for JSON."""
    return {
        "name": str(release.name),
        "version": str(release.version),
        "applicationVersion": release.application_version,
        "artifact": str(release.artifact.digest),
        "size": release.artifact.size,
        "closure": release.closure,
        "components": [
            one.to_dict() | {"included": one.content.digest not in release.elsewhere}
            for one in release.components
        ],
        "images": [one.to_dict() for one in release.images],
        "locations": list(release.locations),
        "warnings": list(release.warnings),
        "output": output,
    }


def images_text(images: Iterable[Image], closure: str) -> str:
    """Return how many images are pinned, and whether that is all."""
    found = list(images)
    pinned = sum(one.digest is not None for one in found)
    if not found:
        what = "none named"
    elif pinned == len(found):
        what = f"{pinned} pinned by images.lock"
    else:
        what = f"{pinned} of {len(found)} pinned by images.lock"
    return f"{what}: closure {closure}"


def _description(file: Path) -> ApplicationDescription | None:
    data = durable.read_file(file, limit=MAX_DESCRIPTION)
    found, _ = inspect_description(data, files=None)
    return found


def _package(release: Release) -> str:
    document = parse_manifest(
        read_checked(release.source, release.artifact), what="package"
    )
    count = len(document.layers) if isinstance(document, Manifest) else 0
    return (
        f"{describe.counted(count, 'layer')}, "
        f"{describe.size(_size(release, release.artifact))}, reproducible"
    )


def _components(release: Release, description: ApplicationDescription | None) -> str:
    # A record sorts them; their author looks for them as margo.yaml has them.
    profiles = () if description is None else description.profiles
    named = [(each.id, one.name) for each in profiles for one in each.components]
    places = {one: place for place, one in enumerate(named)}
    found: dict[str, str] = {}
    for one in sorted(
        release.components,
        key=lambda one: places.get((one.profile, one.name), len(places)),
    ):
        if one.content.digest in release.elsewhere:
            size = "in its own repository"
        else:
            size = describe.size(_size(release, one.content))
        found[f"{one.name} ({one.profile_type}, {size})"] = one.name
    shown = list(found)[:_MANY]
    if len(found) > _MANY:
        shown.append(f"and {len(found) - _MANY} more")
    return f"{len(found)}: {', '.join(shown)}"


def _size(release: Release, top: Descriptor) -> int:
    parts: Any = walk(top, lambda what: read_checked(release.source, what))
    return sum(part.descriptor.size for part in parts)
