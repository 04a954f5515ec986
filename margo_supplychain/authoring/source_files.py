"""An author's own files, read as bounded, regular files.

A package is made of exactly the files that lie in its directory: a symbolic link could
bring in a key from somewhere else, and a pipe would hang the build, so both are
refused, with every other problem at once.

Example:
    >>> files = read_tree(Path("pump-monitor"), "resources")
    >>> sorted(files)
    ['resources/description.md', 'resources/pump.png']
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.errors import ApplicationFormatError, OciFormatError
from margo_supplychain.formats.titles import safe_title
from margo_supplychain.storage.durable import open_regular, storage_errors

if TYPE_CHECKING:
    from pathlib import Path

MAX_FILE: Final = 64 << 20  # bytes
MAX_TREE: Final = 256 << 20  # bytes of one tree
MAX_FILES: Final = 1_000  # of one tree; an OCI manifest takes 1024 layers
MAX_DEPTH: Final = 32


class SourceFile(NamedTuple):
    """One file's bytes, and whether its owner may execute it."""

    data: bytes
    executable: bool


def read_file(path: Path, *, limit: int, shown: str | None = None) -> SourceFile | None:
    """Read one regular file; None if there is nothing under this name.

    Raises:
        ApplicationFormatError: a symbolic link, a directory, a device, above `limit`.
        StorageError: it can't be read.
    """
    name = shown or path.name
    if path.is_symlink():
        raise ApplicationFormatError(
            f"{name} is a symbolic link", hint="replace it by the file it points to"
        )
    if not path.exists():
        return None
    if not path.is_file():
        raise ApplicationFormatError(f"{name} is not a regular file")
    with storage_errors(path, "read"), open_regular(path, follow=False) as file:
        data = file.read(limit + 1)
        mode = os.fstat(file.fileno()).st_mode
    if len(data) > limit:
        raise ApplicationFormatError(f"{name} has more than {limit} bytes")
    return SourceFile(data, bool(mode & 0o100))


def read_tree(base: Path, below: str = "") -> dict[str, SourceFile]:
    """Read every file of a directory, by its path from `base`, sorted.

    Args:
        base: what paths start from.
        below: the directory in it that is read; empty for `base` itself. One that does
            not exist holds no files.

    Raises:
        ApplicationFormatError: with all problems: links, devices, names that are not
            safe everywhere; or above 1,000 files, 64 MiB each, 256 MiB together.
        StorageError: something can't be read.
    """
    problems: list[str] = []
    names = sorted(_list(base, below, problems))
    if problems:
        raise ApplicationFormatError(
            problems[0],
            problems=problems,
            hint="a package holds regular files with portable names only",
        )
    files: dict[str, SourceFile] = {}
    left = MAX_TREE
    for name in names:
        limit = min(left, MAX_FILE)
        found = read_file(base / name, limit=limit, shown=name)
        if found is None:
            raise ApplicationFormatError(f"{name} vanished while it was read")
        left -= len(found.data)
        files[name] = found
    return files


def refuse_links(base: Path, below: str) -> None:
    """Refuse a path of which any step below `base` is a symbolic link.

    Raises:
        ApplicationFormatError: one is.
    """
    place, shown = base, ""
    for step in below.split("/"):
        place, shown = place / step, f"{shown}/{step}" if shown else step
        if place.is_symlink():
            raise ApplicationFormatError(
                f"{shown} is a symbolic link",
                hint="replace it by the directory it points to",
            )


def refuse_links_in(directory: Path, shown: str) -> None:
    """Refuse a directory that holds a symbolic link anywhere below.

    Raises:
        ApplicationFormatError: it does.
        StorageError: it can't be listed.
    """
    waiting = [directory]
    with storage_errors(directory, "list"):
        while waiting:
            for path in waiting.pop().iterdir():
                if path.is_symlink():
                    raise ApplicationFormatError(
                        f"{shown}/{path.relative_to(directory)} is a symbolic link",
                        hint="replace it by the file it points to",
                    )
                if path.is_dir():
                    waiting.append(path)


def _list(base: Path, below: str, problems: list[str]) -> list[str]:
    names: list[str] = []
    waiting = [below]
    while waiting:
        directory = waiting.pop()
        place = base / directory
        if place.is_symlink():
            problems.append(f"{directory} is a symbolic link")
            continue
        if not os.path.lexists(place):
            continue
        if directory.count("/") > MAX_DEPTH:
            problems.append(f"{directory} is deeper than {MAX_DEPTH}")
            continue
        with storage_errors(place, "list"), os.scandir(place) as entries:
            for entry in entries:
                name = f"{directory}/{entry.name}" if directory else entry.name
                if entry.is_symlink():
                    problems.append(f"{name} is a symbolic link")
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(name)
                else:
                    # What is no regular file is refused when it is read.
                    names.append(_portable(name, problems))
                if len(names) + len(waiting) + len(problems) > MAX_FILES:
                    raise ApplicationFormatError(
                        f"{below or base.name} holds more than {MAX_FILES} files"
                    )
    return names


def _portable(name: str, problems: list[str]) -> str:
    try:
        return safe_title(name, "file")
    except OciFormatError as why:
        problems.append(str(why))
        return name
