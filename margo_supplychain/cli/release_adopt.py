"""`release adopt`: what exists becomes a release, and what there is to adopt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from margo_supplychain.cli import describe
from margo_supplychain.cli.arguments import DIGEST_HINT, typed
from margo_supplychain.cli.attestation_files import read_attestations
from margo_supplychain.cli.author import warn
from margo_supplychain.cli.failures import PROGRAM
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.progress import progress
from margo_supplychain.cli.release_publish import publish_releases
from margo_supplychain.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from margo_supplychain.authoring.candidates import Candidate
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.cli.author import Author
    from margo_supplychain.formats.digests import Descriptor, Digest
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
    partial: bool,
    locations: tuple[str, ...],
    attestations: tuple[str, ...],
    write_release: str | None,
) -> Result:
    """Adopt what a reference names by digest, and publish it.

    With `write_release`, write what would be published instead.

    Raises:
        RefusedError: a package's components have no digest, and nobody said that it
            shall be released without them.
    """
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
    given = read_attestations(attestations)
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
    if adopted.unpinned and not partial:
        raise _unpinned(adopted, place, name, version)
    if write_release is not None:
        return _write_release(author, adopted, write_release, given)
    return publish_releases(author, [adopted], given)


def _write_release(
    author: Author, adopted: Release, file: str, attestations: Sequence[bytes]
) -> Result:
    from margo_supplychain.authoring.drafts import draft_bytes
    from margo_supplychain.cli.release_describe import release_data
    from margo_supplychain.storage.durable import write_new_file

    if attestations or author.submission is not None:
        raise click.UsageError(
            "--write-release signs nothing: it takes neither --attestation nor --submit"
        )
    write_new_file(Path(file), draft_bytes(adopted))
    warn(author.invocation, adopted.warnings)
    follow = f"{PROGRAM} attest record --step STEP --release {file}"
    return Result(
        data=release_data(adopted, file),
        lines=[
            f"wrote {file}: {adopted.name} {adopted.version}; nothing is signed",
            f"next: {follow}, then adopt it with --attestation",
        ],
    )


def _unpinned(
    adopted: Release, place: str, name: ReleaseName, version: Version
) -> RefusedError:
    """Return why a package is not released: a version never changes."""
    from margo_supplychain.formats.references import SCHEME

    number = describe.counted(len(adopted.unpinned), "component")
    hint = "give their digests by --components-lock FILE"
    if place.startswith(SCHEME):
        hint += (
            f" (`{PROGRAM} release adopt {_repository(place)} --from-tags --version "
            f"{version} --write-lock components.lock` writes one, to review)"
        )
    return RefusedError(
        f"{name} {version} would be released without {number} for good: "
        f"{', '.join(adopted.unpinned)[:600]}",
        hint=f"{hint}; or say --partial, and devices install none of those profiles",
    )


def _repository(place: str) -> str:
    from margo_supplychain.formats.references import SCHEME, RegistryReference

    if not place.startswith(SCHEME):
        return place
    # A tag before the digest is for people.
    return RegistryReference.parse(place).repository


def list_candidates(
    author: Author,
    url: str,
    name: ReleaseName | None,
    version: Version | None,
    lock: str | None,
) -> Result:
    """List what a registry's tags name, or one version; sign nothing.

    Raises:
        ConflictError: the file of `lock` is there, and holds something else.
    """
    from margo_supplychain.authoring.candidates import find_candidates

    if lock is not None and version is None:
        raise click.UsageError("--write-lock needs --version: whose components?")

    released: dict[Digest, Version] = {}
    if name is not None:
        with author.look() as edit:
            released = {
                entry.artifact: version
                for version, entry in edit.releases(name).items()
            }
    mirrors, network = author.invocation.settings.registries
    found = find_candidates(url, network=network, most=_MOST, mirrored=mirrors.places)
    count = describe.counted(found.tags, "tag")
    lines = [f"{count} in {found.url}; nothing is signed: review, adopt by digest"]
    shown = [one for one in found.candidates if version in {None, one.version}]
    own = name or _likely_name(author, found.url)
    for one in shown:
        lines += _lines(one, found.url, own, released)
    if found.tags > len(shown):
        left = found.tags - len(shown)
        lines.append(f"  and {describe.counted(left, 'more tag')}")
    if found.hidden:
        hidden = describe.counted(found.hidden, "tag")
        lines.append(f"  {hidden} of trust metadata, which is nothing to adopt")
    written = None
    if lock is not None:
        written = _write_lock(lock, shown, f"{found.url} {version}")
        lines.append(f"wrote {written}: review it, then adopt with it")
    return Result(
        data={
            "repository": found.url,
            "tags": found.tags,
            "candidates": [_data(one, released) for one in shown],
            "lock": written,
        },
        lines=lines,
    )


def _lines(
    one: Candidate,
    url: str,
    name: str | ReleaseName,
    released: dict[Digest, Version],
) -> list[str]:
    if one.what is None:
        return [f"  {one.tag}  {one.problem}"]
    facts = [_kind(one.kind, one.what), describe.size(one.size), *one.platforms]
    if one.version is not None:
        facts.append(str(one.version))
    lines = [f"  {one.tag}  {one.what.digest.short}  {', '.join(facts)}"]
    lines += [f"    note: {text}" for text in one.warnings]
    lines += [
        f"    component {part.name}  {part.repository}:{part.revision}  "
        f"{part.problem if part.what is None else part.what.digest.short}"
        for part in one.components
    ]
    known = released.get(one.what.digest)
    if known is not None:
        return [*lines, f"    released as {known}"]
    adopt = f"{PROGRAM} release adopt {url}"
    command = f"{adopt}@{one.what.digest} --name {name}"
    command += f" --version {one.version or 'VERSION'}"
    if one.components:
        command += " --components-lock components.lock"
        if one.version is not None:
            of = f"--from-tags --version {one.version}"
            lines.append(f"    {adopt} {of} --write-lock components.lock")
    return [*lines, f"    {command}"]


def _kind(kind: str | None, what: Descriptor) -> str:
    from margo_supplychain.formats.oci import INDEX

    return "image index" if what.media_type == INDEX else str(kind)


def _likely_name(author: Author, url: str) -> str:
    setting = author.invocation.settings.find("publisher")
    publisher = "PUBLISHER" if setting is None else setting.values[0]
    return f"{publisher}/{url.rpartition('/')[2]}"


def _write_lock(file: str, found: Sequence[Candidate], shown: str) -> str:
    from margo_supplychain.storage.durable import write_new_file

    lock = next((one.lock for one in found if one.lock is not None), None)
    if lock is None:
        raise RefusedError(
            f"{shown} has no component that a tag names now: there is nothing to lock",
            hint="look at the list without --write-lock; it says what was not found",
        )
    write_new_file(Path(file), lock.encode())
    return file


def _data(one: Candidate, released: dict[Digest, Version]) -> dict[str, Any]:
    known = None if one.what is None else released.get(one.what.digest)
    return {
        "tag": one.tag,
        "digest": None if one.what is None else str(one.what.digest),
        "mediaType": None if one.what is None else one.what.media_type,
        "kind": one.kind,
        "platforms": list(one.platforms),
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
