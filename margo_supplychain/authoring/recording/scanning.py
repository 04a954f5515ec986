"""Which files there are, under which names, and what each is: looked at, not read.

Names are paths from one place, with `/` between their steps. Every file that is there
counts, hidden ones too.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, final

from margo_supplychain.authoring.recording.hashing import identity_of
from margo_supplychain.authoring.recording.naming import check_file_names
from margo_supplychain.authoring.recording.problems import (
    EXCLUDE,
    FOLLOW,
    Problems,
    shown,
)
from margo_supplychain.errors import FormatError
from margo_supplychain.storage.durable import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from margo_supplychain.authoring.recording.exclusions import Exclusions
    from margo_supplychain.authoring.recording.hashing import Identity

UNSEEN: Final = (0, 0, 0, 0, 0, 0)
"""In place of the identity of a file that was found and not looked at."""

MAX_FILES: Final = 400_000  # what an envelope that devices take has room for
_KINDS: Final = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_TRACKED: Final = "--git DIR records the files that git tracks, and the commit"


class Scan(NamedTuple):
    """What was found.

    Args:
        files: what each is, by name, if that was asked for.
        links: of names that are symbolic links, the path from the same place that
            they lead to, no step of which is a link, and what the link itself is.
        missing: names that git tracks and that are not there.
    """

    files: dict[str, Identity]
    links: dict[str, tuple[str, Identity]]
    missing: tuple[str, ...]


@final
class Scanner:
    """Looks at files below one place.

    Args:
        base: the place that names start from.
        exclusions: what is left out.
        follow: whether symbolic links to files below `base` are followed.
    """

    def __init__(self, base: Path, exclusions: Exclusions, *, follow: bool) -> None:
        # As it was typed, too: somebody may name files through a link to the place.
        self._typed = _directory(str(base.absolute()))
        self._base = _directory(os.path.realpath(base))
        self._exclusions = exclusions
        self._follow = follow
        self._problems = Problems()
        self._files: dict[str, Identity] = {}
        self._links: dict[str, tuple[str, Identity]] = {}
        self._direct: dict[str, bool] = {}
        self._look = False
        self._seen = 0

    def scan(
        self, paths: Sequence[str], *, tracked: Iterable[str] = (), look: bool = False
    ) -> Scan:
        """Find all files at and below `paths`, and those that git tracks.

        Args:
            paths: from `base`, or absolute; each must hold a file.
            tracked: names that may be missing.
            look: also look at each, which costs more than to find it.

        Raises:
            FormatError: a path that is not there, lies elsewhere or holds nothing; a
                link, a special file, or too many of them.
            StorageError: a directory can't be read.
        """
        self._look = look
        for path in paths:
            before = self._seen
            self._given(path)
            if self._seen == before:
                self._problems.add(path, "holds no file to record")
        missing = [name for name in tracked if not self._tracked(name)]
        check_file_names(self._files, self._problems)
        self._problems.raise_if_any()
        return Scan(self._files, self._links, tuple(missing))

    def name_of(self, path: str) -> str:
        """Return the name of a path that somebody typed; of `base` itself, the empty.

        Raises:
            FormatError: it lies elsewhere.
        """
        rest = path
        for base in (self._typed, self._base):
            if f"{path}/".startswith(base):
                rest = path[len(base) :]
                break
        steps = [one for one in rest.split("/") if one not in {"", "."}]
        if rest.startswith("/") or ".." in steps:
            raise FormatError(
                f"{shown(path)} does not lie below {shown(self._base)}",
                where=path,
                hint="run the command where all that it records lies below, and name "
                "paths from there, without ..",
            )
        return "/".join(steps)

    def _given(self, path: str) -> None:
        name = self.name_of(path)
        if name and self._exclusions.take_below(name):
            return
        found = _look(self._base + name)
        if found is None:
            raise FormatError(
                f"{shown(path)}: no such file or directory",
                where=path,
                hint="name what is there; products must be there when the command ends",
            )
        if self._is_behind_link(name):
            return
        if stat.S_ISDIR(found.st_mode):
            self._walk(name)
        else:
            self._add(name, found)

    def _walk(self, top: str) -> None:
        directories = [top]
        while directories:
            directory = directories.pop()
            full = Path(self._base + directory)
            with storage_errors(full, "read"), _opened(full) as names:
                self._list(directory, names, directories)

    def _list(
        self, directory: str, entries: Iterator[os.DirEntry[str]], found: list[str]
    ) -> None:
        """Add the files of one directory; its directories go to `found`."""
        prefix = f"{directory}/" if directory else ""
        # This loop runs for every file, twice: nothing is looked up in it that needn't.
        files, identity, look = self._files, identity_of, self._look
        is_excluded = self._exclusions.take if self._exclusions else None
        seen = 0
        for entry in entries:
            name = prefix + entry.name
            if is_excluded is not None and is_excluded(name):
                continue
            # A directory says of itself what kind its entries are.
            if entry.is_file(follow_symlinks=False):
                files[name] = (
                    identity(entry.stat(follow_symlinks=False)) if look else UNSEEN
                )
                seen += 1
            elif not entry.is_dir(follow_symlinks=False):
                self._add(name, entry.stat(follow_symlinks=False))
            elif entry.name == ".git":
                text = "changes with every git command"
                self._problem(name, text, EXCLUDE, _TRACKED)
            else:
                found.append(name)
        self._seen += seen
        if len(files) > MAX_FILES:
            _refuse_more()

    def _tracked(self, name: str) -> bool:
        """Look at a file that git tracks; return whether it is there."""
        if self._exclusions.take_below(name):
            return True
        found = _look(self._base + name)
        if found is None:
            return False
        if self._is_behind_link(name):
            return True
        if stat.S_ISDIR(found.st_mode):
            self._problem(
                name,
                "is a submodule that is not checked out",
                "git submodule update --init brings it",
                EXCLUDE,
            )
        else:
            self._add(name, found)
        return True

    def _is_behind_link(self, name: str) -> bool:
        directory = name.rpartition("/")[0]
        if directory not in self._direct:
            full = self._base + directory
            self._direct[directory] = os.path.realpath(full) == full.rstrip("/")
        if self._direct[directory]:
            return False
        self._problem(name, "lies behind a symbolic link", EXCLUDE)
        return True

    def _problem(self, name: str, text: str, *remedies: str) -> None:
        self._seen += 1
        self._problems.add(name, text, *remedies)

    def _add(self, name: str, found: os.stat_result) -> None:
        mode = found.st_mode
        if stat.S_ISREG(mode):
            self._seen += 1
            self._files[name] = identity_of(found) if self._look else UNSEEN
            if len(self._files) > MAX_FILES:
                _refuse_more()
        elif stat.S_ISLNK(mode):
            self._link(name, identity_of(found))
        else:
            kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
            self._problem(name, f"is {kind}", EXCLUDE)

    def _link(self, name: str, link: Identity) -> None:
        full = self._base + name
        target = shown(str(Path(full).readlink()))
        if not self._follow:
            self._problem(name, f"is a symbolic link to {target}", FOLLOW, EXCLUDE)
            return
        try:
            real = os.path.realpath(full, strict=True)
            found = os.lstat(real)
        except OSError:
            text = f"is a symbolic link that leads nowhere: {target}"
            self._problem(name, text, EXCLUDE)
            return
        if not real.startswith(self._base):
            text = f"is a symbolic link that leads out of {shown(self._base)}: {target}"
            self._problem(name, text, EXCLUDE)
        elif stat.S_ISREG(found.st_mode):
            self._seen += 1
            self._files[name] = identity_of(found) if self._look else UNSEEN
            self._links[name] = (real[len(self._base) :], link)
        else:
            text = f"is a symbolic link to {target}, which is no regular file"
            self._problem(name, text, EXCLUDE)


@contextmanager
def _opened(directory: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
    """List a directory that is none by way of a link."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with os.scandir(descriptor) as entries:
            yield entries
    finally:
        os.close(descriptor)


def _refuse_more() -> NoReturn:
    raise FormatError(
        f"there are more than {MAX_FILES} files to record",
        hint="record an archive of them, or leave some out by --exclude",
    )


def _directory(path: str) -> str:
    return path if path.endswith("/") else f"{path}/"


def _look(full: str) -> os.stat_result | None:
    with storage_errors(Path(full), "read"):
        try:
            return os.lstat(full)
        except (FileNotFoundError, NotADirectoryError):
            return None
