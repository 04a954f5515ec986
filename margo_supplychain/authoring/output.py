"""Where a build goes: an OCI image layout of its own, with `release.json` beside.

The directory belongs to `release build`: building again brings it up to date and
removes what the former build left. A directory with anything else in it, or with
another release, is refused and not touched.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from margo_supplychain.authoring.drafts import FILE_NAME, draft_bytes, read_draft
from margo_supplychain.errors import ApplicationFormatError, FormatError
from margo_supplychain.formats.oci import (
    REFERENCE_NAME,
    Entry,
    index_bytes,
    parse_layout_index,
)
from margo_supplychain.storage.content_store import MAX_INDEX, ContentStore, blob_path
from margo_supplychain.storage.durable import (
    make_directory,
    read_file,
    remove_file,
    storage_errors,
    write_file,
)
from margo_supplychain.storage.lock import DirectoryLock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from margo_supplychain.authoring.contents import Contents
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.formats.digests import Digest

_TIMEOUT: Final = 30.0
_LAYOUT: Final = frozenset({"oci-layout", "index.json", "blobs"})


def check_output(output: Path, *, sources: Sequence[Path]) -> None:
    """Refuse an output that would become part of its own input.

    Raises:
        ApplicationFormatError: if it lies inside one of `sources`, or one inside it.
    """
    place = output.resolve()
    for source in sources:
        inner = source.resolve()
        if place.is_relative_to(inner) or inner.is_relative_to(place):
            raise ApplicationFormatError(
                f"output {output} and {source} lie in one another",
                hint="name an output directory of its own: --output dist",
            )


def write_output(
    output: Path, release: Release, contents: Contents, *, tag: str
) -> None:
    """Write a build: blobs, then `release.json`, then `index.json`.

    A process that is killed in between leaves blobs without a name, or the former
    build; running it again completes it.

    Args:
        output: made if it is not there.
        release: what was built.
        contents: its blobs.
        tag: the package's tag, `metadata.version`.

    Raises:
        ApplicationFormatError: `output` holds something else.
        FetchError, VerificationError: a component's own layout is damaged.
        StorageError: it can't be written.
    """
    draft = draft_bytes(release)
    index = index_bytes(_entries(release, tag))
    _check_holds(output, release)
    make_directory(output)
    with DirectoryLock(output, timeout=_TIMEOUT):
        _check_holds(output, release)
        store = ContentStore.create(output)
        store.clean()
        contents.store(store)
        write_file(output / FILE_NAME, draft)
        write_file(output / "index.json", index)
        _remove_others(output, contents.digests())


def _check_holds(output: Path, release: Release) -> None:
    if not os.path.lexists(output):
        return
    if not output.is_dir():
        raise ApplicationFormatError(f"output {output} is not a directory")
    with storage_errors(output, "list"):
        names = {one.name for one in output.iterdir()}
    others = {one for one in names if not one.startswith(".")} - _LAYOUT - {FILE_NAME}
    hint = "remove it, or name another output directory"
    if others:
        raise ApplicationFormatError(
            f"output {output} holds {', '.join(sorted(others)[:5])[:200]}, which "
            "release build did not write",
            hint=hint,
        )
    if FILE_NAME in names:
        _check_same(output, release, hint)
    elif "index.json" in names and _lists_something(output):
        raise ApplicationFormatError(
            f"output {output} is an OCI image layout that release build did not write",
            hint=hint,
        )


def _check_same(output: Path, release: Release, hint: str) -> None:
    try:
        found = read_draft(output)
    except FormatError as why:
        raise ApplicationFormatError(f"output {output}: {why}", hint=hint) from why
    if found is None:
        return
    held = found[0]
    if (held.name, held.version) != (release.name, release.version):
        raise ApplicationFormatError(
            f"output {output} holds {held.name} {held.version}, not {release.name} "
            f"{release.version}",
            hint=hint,
        )


def _lists_something(output: Path) -> bool:
    # Without `oci-layout` it is what a killed build left before it had begun.
    try:
        data = read_file(output / "index.json", limit=MAX_INDEX)
        return bool(parse_layout_index(data).manifests)
    except FormatError:
        return True


def _entries(release: Release, tag: str) -> list[Entry]:
    entries = [
        Entry(
            descriptor=release.artifact,
            artifact_type=release.artifact_type,
            annotations={REFERENCE_NAME: tag},
        )
    ]
    named: dict[str, Entry] = {}
    for one in release.components:
        if one.content.digest in release.elsewhere:
            continue
        # The whole reference: tags of several repositories meet in one index.
        name = f"{one.repository.removeprefix('oci://')}:{one.revision}"
        named[name] = Entry(descriptor=one.content, annotations={REFERENCE_NAME: name})
    return entries + [named[name] for name in sorted(named)]


def _remove_others(output: Path, kept: frozenset[Digest]) -> None:
    # What an earlier build left could be something that its author took out again.
    wanted = {blob_path(output, digest) for digest in kept}
    for directory in (output / "blobs").iterdir():
        for path in directory.iterdir():
            if path not in wanted:
                remove_file(path)
