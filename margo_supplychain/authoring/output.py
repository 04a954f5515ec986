"""Where a build goes: an OCI image layout of its own, with `release.json` beside.

The directory belongs to `release build`: building again brings it up to date and
removes what the former build put there, as its `release.json` says. Nothing else is
ever removed. A directory with anything else in it, with links, or with another release
is refused and not touched.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from margo_supplychain.authoring.contents import read_checked
from margo_supplychain.authoring.drafts import FILE_NAME, draft_bytes, read_draft
from margo_supplychain.errors import (
    ApplicationFormatError,
    FormatError,
    SupplyChainError,
)
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.closure import MAX_PARTS, walk
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.fields import Fields
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

_TIMEOUT: Final = 30.0
_LAYOUT: Final = frozenset({"oci-layout", "index.json", "blobs"})
# Lists what a build puts there and replaces, for as long as it runs.
_JOURNAL: Final = ".build.json"
_MAX_JOURNAL: Final = 4 << 20  # bytes
_HINT: Final = "remove it, or name another output directory"


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
    build; running it again completes it, since `.build.json` says what is whose.

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
    _check_holds(output, release, contents)
    make_directory(output)
    with DirectoryLock(output, timeout=_TIMEOUT):
        _check_holds(output, release, contents)
        store = ContentStore.create(output)
        store.clean()
        before = _journal(output) | _former(output)
        journal = sorted(str(one) for one in before | contents.digests())
        write_file(output / _JOURNAL, strict_json.canonical({"digests": journal}))
        contents.store(store)
        write_file(output / FILE_NAME, draft)
        write_file(output / "index.json", index)
        _remove(output, before - contents.digests())
        remove_file(output / _JOURNAL)


def _check_holds(output: Path, release: Release, contents: Contents) -> None:
    if not os.path.lexists(output):
        return
    _require_directory(output, f"output {output}")
    with storage_errors(output, "list"):
        names = {one.name for one in output.iterdir()}
    others = {one for one in names if not one.startswith(".")} - _LAYOUT - {FILE_NAME}
    if others:
        raise ApplicationFormatError(
            f"output {output} holds {', '.join(sorted(others)[:5])[:200]}, which "
            "release build did not write",
            hint=_HINT,
        )
    if FILE_NAME in names:
        _check_same(output, release)
    elif "index.json" in names and _lists_something(output):
        raise ApplicationFormatError(
            f"output {output} is an OCI image layout that release build did not write",
            hint=_HINT,
        )
    _check_blobs(
        output, None if FILE_NAME in names else contents.digests() | _journal(output)
    )


def _require_directory(path: Path, shown: str) -> None:
    with storage_errors(path, "read"):
        mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        # What would be written and removed lies somewhere else then.
        raise ApplicationFormatError(f"{shown} is a symbolic link", hint=_HINT)
    if not stat.S_ISDIR(mode):
        raise ApplicationFormatError(f"{shown} is not a directory", hint=_HINT)


def _check_blobs(output: Path, ours: frozenset[Digest] | None) -> None:
    """Refuse links among the blobs, and blobs that no build put there.

    Args:
        output: the layout.
        ours: what a killed build may have left; None beside a `release.json`, which
            says what may be removed.
    """
    place = output / "blobs"
    if not os.path.lexists(place):
        return
    _require_directory(place, str(place))
    known = None if ours is None else {blob_path(output, one) for one in ours}
    with storage_errors(place, "list"):
        for directory in place.iterdir():
            _require_directory(directory, str(directory))
            for path in directory.iterdir():
                if known is not None and path not in known and not _is_temporary(path):
                    raise ApplicationFormatError(
                        f"output {output} holds the blob {path.name[:80]}, which no "
                        f"{FILE_NAME} says that release build wrote",
                        hint=_HINT,
                    )


def _check_same(output: Path, release: Release) -> None:
    try:
        found = read_draft(output)
    except FormatError as why:
        raise ApplicationFormatError(f"output {output}: {why}", hint=_HINT) from why
    if found is None:
        return
    if (found.name, found.version) != (release.name, release.version):
        raise ApplicationFormatError(
            f"output {output} holds {found.name} {found.version}, not {release.name} "
            f"{release.version}",
            hint=_HINT,
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


def _journal(output: Path) -> frozenset[Digest]:
    """Return what builds that were killed put there, and had not removed yet."""
    try:
        data = read_file(output / _JOURNAL, limit=_MAX_JOURNAL)
    except FileNotFoundError:
        return frozenset()
    what = str(output / _JOURNAL)
    fields = Fields(strict_json.parse(data, what=what, limit=_MAX_JOURNAL), what=what)
    return frozenset(fields.list_of("digests", Digest.parse, limit=4 * MAX_PARTS))


def _former(output: Path) -> frozenset[Digest]:
    """Return what the former build put there, as far as it can be read."""
    release = read_draft(output)
    found: set[Digest] = set()
    if release is None:
        return frozenset()
    for top in release.tops():
        found.add(top.digest)
        # What a damaged manifest named stays: nobody knows whose it is.
        with suppress(SupplyChainError):
            for part in walk(top, lambda what: read_checked(release.source, what)):
                found.add(part.descriptor.digest)
    return frozenset(found)


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".tmp-")


def _remove(output: Path, digests: frozenset[Digest]) -> None:
    for digest in sorted(digests, key=str):
        path = blob_path(output, digest)
        if path.is_file() and not path.is_symlink():
            remove_file(path)
