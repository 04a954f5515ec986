"""`release.json`: what a build found out, kept beside the blobs until publication.

The draft is deterministic and unsigned. Whoever opens it gets a release only if every
blob that it names by digest is there and intact. `release adopt --write-release` writes
one alone, for the release step to record: its artifact lies elsewhere, and adopting
finds out again what it says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.authoring.release import NO_TIME, Release
from margo_supplychain.errors import (
    FetchError,
    MetadataFormatError,
    StorageError,
    VerificationError,
)
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.fields import Fields, check_format, line
from margo_supplychain.formats.record import MAX_RECORD, ReleaseRecord
from margo_supplychain.formats.times import format_time
from margo_supplychain.storage.content_store import ContentStore
from margo_supplychain.storage.durable import read_file
from margo_supplychain.transport.directory import DirectorySource

if TYPE_CHECKING:
    from pathlib import Path

FORMAT: Final = 1
FILE_NAME: Final = "release.json"
MAX_DRAFT: Final = 2 * MAX_RECORD
MAX_WARNINGS: Final = 1_000


def draft_bytes(release: Release) -> bytes:
    """Return the bytes of a release's `release.json`.

    Raises:
        MetadataFormatError: the record or the draft would be beyond its limits.
    """
    record = release.record(NO_TIME)
    record.to_bytes()  # too much for a record is an error now, not at publication
    inner = record.to_dict()
    del inner["created"]
    value: dict[str, Any] = {
        "format": FORMAT,
        "release": inner,
        "elsewhere": sorted(str(one) for one in release.elsewhere),
        "warnings": list(release.warnings),
    }
    return strict_json.canonical(value | {"checksum": _checksum(value)})


def _checksum(value: dict[str, Any]) -> str:
    # Against hands and scripts, not against whoever can compute it: see `draft_checks`.
    rest = {name: one for name, one in value.items() if name != "checksum"}
    return str(Digest.of(strict_json.canonical(rest)))


def read_draft(output: Path) -> Release | None:
    """Read the draft in `output`; None if there is none. No blob is looked at.

    Raises:
        MetadataFormatError: it is not a draft.
        StorageError: it can't be read.
    """
    try:
        data = read_file(output / FILE_NAME, limit=MAX_DRAFT)
    except FileNotFoundError:
        return None
    return _parse(data, f"{output / FILE_NAME}", output)


def read_adopted(file: Path) -> Release:
    """Read what `release adopt --write-release` wrote; nothing it names is looked at.

    Raises:
        MetadataFormatError: it is none, or was changed since.
        StorageError: it can't be read.
    """
    try:
        data = read_file(file, limit=MAX_DRAFT)
    except FileNotFoundError as why:
        raise StorageError(f"{file} is not there", path=str(file)) from why
    return _parse(data, f"{file}", file.parent)


def _parse(data: bytes, what: str, place: Path) -> Release:
    fields = Fields(strict_json.parse(data, what=what, limit=MAX_DRAFT), what=what)
    check_format(fields, FORMAT)
    inner = fields.object("release")
    if inner.has("created"):
        raise MetadataFormatError(f"{what} has a time, and a draft has none")
    record = ReleaseRecord.from_dict(inner.value | {"created": format_time(NO_TIME)})
    elsewhere = fields.list_of("elsewhere", Digest.parse, limit=MAX_WARNINGS)
    warnings = fields.list_of("warnings", _warning, limit=MAX_WARNINGS)
    checksum = fields.text("checksum")
    fields.done()
    if checksum != _checksum(fields.value):
        raise MetadataFormatError(
            f"{what} was changed since it was built",
            hint="build it again; nothing in it is meant to be edited",
        )
    return Release(
        name=record.name,
        version=record.version,
        artifact=record.artifact,
        artifact_type=record.artifact_type,
        application_version=record.application_version,
        locations=record.locations,
        components=record.components,
        images=record.images,
        closure=record.closure,
        warnings=warnings,
        elsewhere=frozenset(elsewhere),
        source=DirectorySource(place),
    )


def open_draft(output: Path) -> Release:
    """Return the release in `output`, every byte of it checked.

    Raises:
        MetadataFormatError, OciFormatError: it is no finished build.
        DigestMismatchError, LengthMismatchError: somebody changed it since.
        StorageError: a part is missing, or can't be read.
    """
    release = read_draft(output)
    if release is None:
        raise MetadataFormatError(
            f"{output} holds no {FILE_NAME}: it is no finished build",
            hint="build it first: margo-supplychain release build DIR --output "
            f"{output}",
        )
    _check(release, ContentStore.open(output))
    return release


def _check(release: Release, store: ContentStore) -> None:
    named = {one.content.digest for one in release.components}
    if loose := sorted(release.elsewhere - named, key=str):
        raise MetadataFormatError(
            f"{FILE_NAME} says that {loose[0]} lies elsewhere, and names no such "
            "component"
        )
    try:
        for part in release.parts():
            store.verify(part.descriptor)
    except VerificationError as why:
        why.hint = f"{store.directory} was changed since it was built: build it again"
        raise
    except FetchError as why:
        # The directory is the author's own, and no retry brings the file back.
        raise StorageError(
            f"{store.directory} is not complete: {why}",
            path=str(store.directory),
            hint="build it again",
        ) from why


def _warning(text: str) -> str:
    return line(text, what="warning", limit=1_000)
