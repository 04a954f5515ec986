"""`device init`: a root that arrived out of band becomes a trust store.

Order: everything is checked, then `device.toml` is written, then the store is made. A
failure puts the file back and removes what was begun; after a power cut in between, the
same command finishes its work, because a table without a store is no trust yet.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.cli.arguments import typed
from margo_supplychain.cli.device_directory import STORES
from margo_supplychain.cli.device_settings import (
    FILE_NAME,
    DeviceSettings,
    parse_settings,
    read_settings,
    render_policy,
    render_repository,
    render_start,
    repository_name,
)
from margo_supplychain.cli.files import read_named
from margo_supplychain.cli.registry_settings import local_path, locate
from margo_supplychain.errors import (
    DigestMismatchError,
    FormatError,
    MetadataFormatError,
    StateLostError,
    SupplyChainError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.names import publisher_name
from margo_supplychain.storage.durable import (
    make_directory,
    remove_file,
    write_file,
)
from margo_supplychain.storage.lock import DirectoryLock
from margo_supplychain.verify.limits import Limits
from margo_supplychain.verify.trust_store import TrustStore

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK_TIMEOUT: Final = 30.0
_HOST_AND_PORT: Final = re.compile(r"[A-Za-z0-9.-]+:[0-9]{1,5}/", re.ASCII)
_FIRST_ROOT: Final = "1.root.json"


class Initialised(NamedTuple):
    """What `device init` made.

    Args:
        root: version of the trusted root.
        policies: patterns that were added to the policy.
    """

    store: Path
    file: Path
    root: int
    policies: tuple[str, ...]


def root_from_file(path: Path) -> bytes:
    """Return the bytes of a root file that arrived out of band.

    Raises:
        FormatError: there is none, or it is above the limit for a root.
    """
    return read_named(path, limit=Limits().root, what="a root")


def root_from_source(state: Path, source: str, sha256: str) -> bytes:
    """Fetch the first root, and take it only if it is the one that is named.

    Args:
        state: the device's directory; its `device.toml`, if it has one already, says
            how registries are reached and mirrored.
        source: where from.
        sha256: digest that arrived out of band; the only thing that is trusted here.

    Raises:
        FormatError: not a digest, or not a source.
        DigestMismatchError: the source has another root.
        FetchError: it has none, or can't be reached.
    """
    from margo_supplychain.transport.mirrors import NO_MIRRORS, open_mirrored_source

    with typed("give all 64 digits that `sha256sum 1.root.json` prints"):
        expected = Digest.parse(f"sha256:{sha256.removeprefix('sha256:')}")
    before = _existing(state / FILE_NAME)
    mirrors, network = (NO_MIRRORS, None) if before is None else before.registries
    opened = open_mirrored_source(source, mirrors, network=network)
    data = opened.metadata(_FIRST_ROOT, limit=Limits().root)
    found = Digest.of(data)
    if found != expected:
        raise DigestMismatchError(
            f"{_FIRST_ROOT} of {opened.url} is {found}, expected {expected}",
            subject=_FIRST_ROOT,
            expected=str(expected),
            found=str(found),
            hint="do not trust it: compare both with who gave you the digest",
        )
    return data


def check_source(source: str) -> str | None:
    """Check what a source is called before it is written down; nobody is asked.

    Returns:
        What to say about a path where nothing lies; None where nothing is wrong.

    Raises:
        FormatError: no path or URL of a repository, or a registry without its scheme.
    """
    from margo_supplychain.transport.opening import open_source

    is_there = os.path.lexists(source)
    if not is_there and _HOST_AND_PORT.match(source) is not None:
        raise FormatError(
            f"source {source[:160]!r} is no path that is there",
            where=source,
            hint=f"write oci://{source[:160]} for a registry",
        )
    path = local_path(source)
    open_source(source)
    if path is None or os.path.lexists(path):
        return None
    return (
        f"{source} does not exist; a registry is oci://HOST/PATH, a web server https://"
    )


def source_beside(root: Path) -> str | None:
    """Return the repository that a root file lies in, if it lies in one."""
    folder = root.absolute().parent
    return str(folder.parent) if folder.name == "metadata" else None


def initialise(
    state: Path, *, root: bytes, source: str, publishers: frozenset[str], name: str
) -> Initialised:
    """Make a store and say in `device.toml` where its repository lies.

    Args:
        state: the device's directory; made if need be.
        root: exact bytes, trusted because of how they arrived.
        source: where the repository is; relative to the current directory.
        publishers: whom it may speak for.
        name: what this device calls it.

    Raises:
        FormatError: the root is none, or `device.toml` has the name already.
        AmbiguousRoleError: another store here claims one of the publishers.
        StorageError: there is a store already, or the disk refuses.
    """
    for one in publishers:
        publisher_name(one)
    repository_name(name)
    _require_root(root, publishers)
    store = state / STORES / name
    file = state / FILE_NAME
    with _all_or_nothing(store, state):
        make_directory(state)
        with DirectoryLock(state, timeout=_LOCK_TIMEOUT):
            before = _existing(file)
            data, added = _extended(
                before,
                file,
                name=name,
                source=_whole(locate(source, Path.cwd())),
                publishers=publishers,
                stored=store.exists(),
            )
            with _restored(file, before):
                if before is None or data != before.data:
                    write_file(file, data, mode=_mode(file))
                version = (
                    TrustStore.create(store, root=root, publishers=publishers)
                    .status()
                    .root
                )
    return Initialised(store=store, file=file, root=version, policies=added)


def _require_root(root: bytes, publishers: frozenset[str]) -> None:
    try:
        TrustStore.unsafe_without_memory(root=root, publishers=publishers)
    except FormatError as why:
        # The user named the file: wrong input, not a hostile source.
        raise MetadataFormatError(
            f"this is no root to start from: {why}",
            hint="take the root file that the repository's operator gives out",
        ) from why


def _whole(source: str) -> str:
    """Return a path without `..`, as people read it; a URL as it is."""
    if source.startswith("/") and ".." in Path(source).parts:
        return str(Path(source).resolve())
    return source


def _existing(file: Path) -> DeviceSettings | None:
    try:
        return read_settings(file, begun=True)
    except StateLostError:
        return None


def _extended(
    before: DeviceSettings | None,
    file: Path,
    *,
    name: str,
    source: str,
    publishers: frozenset[str],
    stored: bool,
) -> tuple[bytes, tuple[str, ...]]:
    """Return the file with the repository, and the patterns that were added."""
    table = render_repository(name, source)
    if before is None:
        patterns = tuple(f"{one}/*" for one in sorted(publishers))
        text = render_start(table, [render_policy(one) for one in sorted(publishers)])
        return text.encode(), patterns
    known = before.repositories.get(name)
    if known is not None:
        if stored or known.source != source:
            raise FormatError(
                f"{file} has a [repository.{name}] already, from {known.source}",
                where=str(file),
                hint=f"edit its `source` in {file} if that is wrong; give this one "
                "another --name if it is another repository",
            )
        table = ""  # an earlier run ended before it made the store
    missing = sorted(one for one in publishers if f"{one}/*" not in before.patterns)
    added = table + "".join(render_policy(one) for one in missing)
    gap = b"" if before.data.endswith(b"\n") or not added else b"\n"
    data = before.data + gap + added.encode()
    # Appending to a file that a person wrote: what comes out must still be one.
    parse_settings(data, file)
    return data, tuple(f"{one}/*" for one in missing)


@contextmanager
def _restored(file: Path, before: DeviceSettings | None) -> Iterator[None]:
    """Put `device.toml` back if the block fails."""
    try:
        yield
    except BaseException:
        with suppress(SupplyChainError):  # the first error says more
            if before is None:
                remove_file(file)
            else:
                write_file(file, before.data, mode=_mode(file))
        raise


def _mode(file: Path) -> int:
    # The owner may have closed the file to others.
    return stat.S_IMODE(file.stat().st_mode) if file.exists() else 0o644


@contextmanager
def _all_or_nothing(store: Path, state: Path) -> Iterator[None]:
    """Remove the directories that the block made, if it fails."""
    made = [one for one in (store, store.parent, state) if not os.path.lexists(one)]
    made += [one for one in state.parents if not os.path.lexists(one)]
    try:
        yield
    except BaseException:
        with suppress(SupplyChainError, OSError):
            for directory in made:
                _remove_directory(directory)
        raise


def _remove_directory(directory: Path) -> None:
    if not directory.is_dir():
        return
    for one in directory.iterdir():
        if not one.is_dir():
            remove_file(one)
    directory.rmdir()
