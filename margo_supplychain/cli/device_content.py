"""What `device fetch` brought: where each component lies, by verified digest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain.cli import describe
from margo_supplychain.cli.device_evidence import (
    descriptor_data,
    explained,
    fresh_text,
    images_data,
    out_of_reach,
    shown,
)
from margo_supplychain.formats import oci
from margo_supplychain.formats.reports import Step
from margo_supplychain.storage.content_store import blob_path
from margo_supplychain.verify.trace import TITLES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.record import Image
    from margo_supplychain.verify.results import VerifiedContent

_CONTENT: Final = 6  # step of the plan, see verify.verifier


class Piece(NamedTuple):
    """One thing to install: a chart, a Compose archive, any file of an artifact.

    Args:
        owner: `<profile>/<component>`, or None for the artifact itself.
        kind: the profile's type, such as `helm`; None for the artifact itself.
        title: the file's name, if the manifest gives one.
    """

    owner: str | None
    kind: str | None
    title: str | None
    what: Descriptor
    path: Path


def pieces_of(content: VerifiedContent) -> tuple[Piece, ...]:
    """Return what lies in the layout: each component's layers, else the artifact's."""
    record = content.release.record
    if not record.components:
        return _pieces(content, record.artifact, None, None)
    found: list[Piece] = []
    for one in record.components:
        owner = f"{one.profile}/{one.name}"
        found += _pieces(content, one.content, owner, one.profile_type)
    return tuple(found)


def lines_of(
    content: VerifiedContent, served: Sequence[str], *, explain: bool, options: str
) -> list[str]:
    """Return what `device fetch` prints.

    Args:
        content: what was fetched.
        served: URLs of those who had it.
        explain: whether each step is told.
        options: those that the next command needs, too.
    """
    release = content.release
    size = describe.size(sum(one.size for one in content.digests.values()))
    lines = [
        f"fetched {release.name} {release.version}, every byte verified",
        (
            f"  package  {shown(release.manifest.digest)}, "
            f"{len(content.digests)} blobs, {size} in {content.content.directory}"
        ),
    ]
    lines.append(f"  fresh    {fresh_text(release)}")
    reason = out_of_reach(release.report)
    if reason is not None:
        lines.append(f"  source   out of reach: {reason}")
    if content.platforms is not None:
        lines.append(f"  platforms  {', '.join(sorted(content.platforms))} alone")
    for one in pieces_of(content):
        said = [one.owner, one.kind, one.title]
        name = ", ".join(each for each in said if each is not None)
        lines.append(f"  {name or 'content'}, {describe.size(one.what.size)}")
        lines.append(f"    {one.path}")
    lines += [f"  image {_image(one)}" for one in release.record.images]
    if explain:
        facts: dict[str, Any] = {"blobs": len(content.digests)}
        if content.platforms is not None:
            facts["platforms"] = sorted(content.platforms)
        facts["from"] = list(served)
        step = Step(
            number=_CONTENT,
            title=TITLES[_CONTENT],
            outcome="passed",
            facts=facts,
        )
        report = release.report
        every = report._replace(steps=(*report.steps, step))
        lines.extend(f"  {one}" for one in explained(every))
    lines.append(
        "next: install by digest; once it runs, margo-supplychain device confirm "
        f"{release.name}"
        f"{'' if release.slot == 'default' else f' --slot {release.slot}'}{options}"
    )
    return lines


def data_of(content: VerifiedContent, served: Sequence[str]) -> dict[str, Any]:
    """Return what `device fetch` gives to programs.

    Args:
        content: what was fetched.
        served: URLs of those who had it.
    """
    release = content.release
    return {
        "name": str(release.name),
        "version": str(release.version),
        "slot": release.slot,
        "directory": str(content.content.directory),
        "package": {
            **descriptor_data(release.manifest),
            "path": str(blob_path(content.content.directory, release.manifest.digest)),
        },
        "content": [
            {
                "component": one.owner,
                "type": one.kind,
                "title": one.title,
                **descriptor_data(one.what),
                "path": str(one.path),
            }
            for one in pieces_of(content)
        ],
        "images": images_data(release),
        "platforms": None if content.platforms is None else sorted(content.platforms),
        "blobs": len(content.digests),
        "servedBy": list(served),
        "freshness": release.freshness.name.lower(),
        "outOfReach": out_of_reach(release.report),
        "report": release.report.to_dict(),
    }


def _image(image: Image) -> str:
    digest = "not pinned" if image.digest is None else shown(image.digest)
    platforms = f", {', '.join(image.platforms)}" if image.platforms else ""
    return f"{image.reference} of {image.component}, {digest}{platforms}"


def _pieces(
    content: VerifiedContent, top: Descriptor, owner: str | None, kind: str | None
) -> tuple[Piece, ...]:
    directory = content.content.directory
    whole = Piece(owner, kind, None, top, blob_path(directory, top.digest))
    if top.media_type not in oci.MANIFEST_TYPES:
        return (whole,)  # a multi-platform index: whoever installs it chooses
    with content.open(top.digest) as file:
        manifest = oci.parse_manifest(file.read())
    if not isinstance(manifest, oci.Manifest):
        return (whole,)
    return tuple(
        Piece(
            owner,
            kind,
            layer.title,
            layer.descriptor,
            blob_path(directory, layer.descriptor.digest),
        )
        for layer in manifest.layers
        if layer.descriptor.media_type not in (oci.EMPTY_TYPE, oci.HELM_PROVENANCE)
    ) or (whole,)
