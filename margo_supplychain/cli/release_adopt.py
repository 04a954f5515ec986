"""`release adopt`: what exists becomes a release, and what there is to adopt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from margo_supplychain.cli import describe
from margo_supplychain.cli.arguments import DIGEST_HINT, typed
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.progress import progress
from margo_supplychain.cli.release_publish import publish_releases

if TYPE_CHECKING:
    from margo_supplychain.authoring.candidates import Candidate
    from margo_supplychain.cli.author import Author
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.locks import ComponentLock, ImageLock
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.versions import Version

_MOST: Final = 50  # tags; each costs a request or two


def adopt_one(
    author: Author,
    reference: str,
    name: ReleaseName,
    version: Version,
    *,
    components_lock: str | None,
    images_lock: str | None,
    locations: tuple[str, ...],
) -> Result:
    """Adopt what a reference names by digest, and publish it."""
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.references import SCHEME
    from margo_supplychain.transport.opening import open_source

    place, _, digest = reference.rpartition("@")
    if not place:
        raise click.UsageError(
            f"{reference!r:.200} is not PLACE@sha256:…: a tag can move, so name the "
            "digest that you reviewed (index.json of a layout lists it; of a registry, "
            "--from-tags does)"
        )
    with typed(f"{DIGEST_HINT}, as index.json of the layout lists it"):
        Digest.parse(digest)
    is_registry = place.startswith(SCHEME)
    with progress(author.invocation) as tell:
        adopted = Release.from_artifact(
            open_source(_repository(place), network=author.network),
            reference if is_registry else digest,
            name=name,
            version=version,
            components=_component_lock(components_lock),
            images=_image_lock(images_lock),
            locations=locations,
            network=author.network,
            progress=tell,
        )
    return publish_releases(author, [adopted])


def _repository(place: str) -> str:
    from margo_supplychain.formats.references import SCHEME, RegistryReference

    if not place.startswith(SCHEME):
        return place
    # A tag before the digest is for people.
    return RegistryReference.parse(place).repository


def list_candidates(author: Author, url: str, name: ReleaseName | None) -> Result:
    """List what a registry's tags name; sign nothing."""
    from margo_supplychain.authoring.candidates import find_candidates

    released: dict[Digest, Version] = {}
    if name is not None:
        with author.look() as edit:
            released = {
                entry.artifact: version
                for version, entry in edit.releases(name).items()
            }
    found = find_candidates(url, network=author.network, most=_MOST)
    count = describe.counted(found.tags, "tag")
    lines = [f"{count} in {found.url}; nothing is signed: review, adopt by digest"]
    for one in found.candidates:
        lines += _lines(one, found.url, name, released)
    if found.tags > len(found.candidates):
        left = found.tags - len(found.candidates)
        lines.append(f"  and {describe.counted(left, 'more tag')}")
    return Result(
        data={
            "repository": found.url,
            "tags": found.tags,
            "candidates": [_data(one, released) for one in found.candidates],
        },
        lines=lines,
    )


def _lines(
    one: Candidate,
    url: str,
    name: ReleaseName | None,
    released: dict[Digest, Version],
) -> list[str]:
    if one.what is None:
        return [f"  {one.tag}  {one.problem}"]
    size = describe.size(one.size)
    version = "no SemVer version" if one.version is None else str(one.version)
    lines = [f"  {one.tag}  {one.what.digest.short}  {one.kind}, {size}, {version}"]
    lines += [f"    note: {text}" for text in one.warnings]
    lines += [
        f"    component {part.name}  {part.repository}:{part.revision}  "
        f"{part.problem if part.what is None else part.what.digest.short}"
        for part in one.components
    ]
    known = released.get(one.what.digest)
    if known is not None:
        return [*lines, f"    released as {known}"]
    shown = name or f"PUBLISHER/{url.rpartition('/')[2]}"
    command = f"margo-supplychain release adopt {url}@{one.what.digest} --name {shown}"
    command += f" --version {one.version or 'VERSION'}"
    if one.components:
        command += " --components-lock components.lock"
    return [*lines, f"    {command}"]


def _data(one: Candidate, released: dict[Digest, Version]) -> dict[str, Any]:
    known = None if one.what is None else released.get(one.what.digest)
    return {
        "tag": one.tag,
        "digest": None if one.what is None else str(one.what.digest),
        "mediaType": None if one.what is None else one.what.media_type,
        "kind": one.kind,
        "size": one.size,
        "version": None if one.version is None else str(one.version),
        "releasedAs": None if known is None else str(known),
        "problem": one.problem,
        "warnings": list(one.warnings),
        "components": [
            {
                "name": part.name,
                "repository": part.repository,
                "revision": part.revision,
                "digest": None if part.what is None else str(part.what.digest),
                "problem": part.problem,
            }
            for part in one.components
        ],
        "componentsLock": one.lock,
    }


def _component_lock(file: str | None) -> ComponentLock | None:
    from margo_supplychain.formats.locks import ComponentLock

    return None if file is None else ComponentLock.parse(_read_lock(file))


def _image_lock(file: str | None) -> ImageLock | None:
    from margo_supplychain.formats.locks import ImageLock

    return None if file is None else ImageLock.parse(_read_lock(file))


def _read_lock(file: str) -> bytes:
    from margo_supplychain.cli.files import read_named
    from margo_supplychain.formats.locks import MAX_LOCK

    return read_named(Path(file), limit=MAX_LOCK, what="a lock file")
