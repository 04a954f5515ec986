"""What git knows of the sources: tracked files, the commit, and whether they differ.

Files are recorded by their content in the working tree, as any file. `git/commit`
names the commit; `git/dirty` is there only when the working tree holds something else,
so a layout that does not allow it refuses what was built from unknown sources.

What the commit holds is told by its objects, and what lies there by its bytes. git
itself only finds the objects, and new files that it does not ignore.

Example:
    >>> found = look_at(Path("."), base=Path.cwd())  # doctest: +SKIP
    >>> found.commit, found.tracked[:2]  # doctest: +SKIP
    ('1d5f…', ('Makefile', 'src/main.c'))
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.authoring.recording.git_files import (
    CHANGED,
    GONE,
    compare,
    is_direct,
)
from margo_supplychain.authoring.recording.git_objects import (
    SUBMODULE,
    ask,
    read_commit,
)
from margo_supplychain.authoring.recording.problems import shown
from margo_supplychain.errors import FormatError
from margo_supplychain.formats.release_products import DIRTY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from margo_supplychain.authoring.recording.hashing import Identity

COMMIT: Final = "git/commit"
NEW: Final = "?"


class WorkingTree(NamedTuple):
    """What git says of one directory.

    Args:
        tracked: names of its files from the place where the recording stands.
        commit: id of the commit that is checked out.
        commit_sha256: of the commit object, header included: in a repository that
            counts by sha256 it is the id.
        differing: status and name of each file that is not as the commit has it, and
            of each that git neither tracks nor ignores; of the whole working tree.
        seen: what each file of the commit was when it was compared, by name.
    """

    tracked: tuple[str, ...]
    commit: str
    commit_sha256: str
    differing: tuple[tuple[str, str], ...]
    seen: Mapping[str, Identity]

    def materials(self, *, recorded: Collection[str]) -> dict[str, dict[str, str]]:
        """Return what a link says of it beside the files.

        Args:
            recorded: names of files that the link holds anyway.
        """
        found = {
            COMMIT: {"sha256": self.commit_sha256, "gitCommit": self.commit},
        }
        dirty = self.dirty(recorded)
        if dirty:
            text = "".join(f"{status} {name}\0" for status, name in dirty)
            digest = sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
            found[DIRTY] = {"sha256": digest}
        return found

    def dirty(self, recorded: Collection[str]) -> tuple[tuple[str, str], ...]:
        """Return what differs, but for new files that the link records by digest."""
        return tuple(
            (status, name)
            for status, name in self.differing
            if status != NEW or name not in recorded
        )


class _Found(NamedTuple):
    """The same of one working tree and its submodules, by paths from its top."""

    tracked: list[str]
    commit: str
    body: bytes
    differing: list[tuple[str, str]]
    seen: dict[str, Identity]


def look_at(directory: Path, *, base: Path) -> WorkingTree:
    """Compare the working tree that a directory belongs to with its commit.

    Args:
        directory: its tracked files are listed, and those of its submodules.
        base: names are paths from there; the directory lies below.

    Raises:
        FormatError: git is not there or refuses, there is no commit, or the directory
            lies elsewhere.
    """
    top = _top(os.fspath(directory))
    found = _look(top)
    inside = _from(base, os.path.realpath(directory))
    start = f"{os.path.realpath(base)}/{inside}".rstrip("/") + "/"
    prefix = os.path.realpath(base).rstrip("/") + "/"
    size = len(found.body)

    def name(path: str) -> str:
        full = f"{top}/{path}"
        if full.startswith(prefix):
            return full[len(prefix) :]
        slash = "/" if path.endswith("/") else ""  # of another repository in the tree
        return os.path.relpath(full, prefix) + slash

    return WorkingTree(
        tracked=tuple(
            name(path) for path in found.tracked if f"{top}/{path}".startswith(start)
        ),
        commit=found.commit,
        commit_sha256=sha256(b"commit %d\0%b" % (size, found.body)).hexdigest(),
        differing=tuple(
            sorted({(status, name(path)) for status, path in found.differing})
        ),
        seen={name(path): one for path, one in found.seen.items()},
    )


def _top(directory: str) -> str:
    """Return the top of a working tree, which has to be where its `.git` lies.

    Settings may name another one; and git takes files of a commit, if they look like
    it, for a repository with settings of its own.
    """
    said = os.fsdecode(ask(directory, "rev-parse", "--show-toplevel"))
    top = os.path.realpath(said.removesuffix("\n"))
    found = os.path.realpath(directory)
    while not os.path.lexists(f"{found}/.git") and found != "/":
        found = str(Path(found).parent)
    if top != found:
        raise FormatError(
            f"{shown(directory)} is in the working tree {shown(top)} by its settings, "
            f"and in {shown(found)} by its place",
            where=directory,
            hint="give --git a directory below the one that has .git in it",
        )
    return top


def _look(top: str) -> _Found:
    commit = ask(top, "rev-parse", "--verify", "HEAD^{commit}").decode().strip()
    body, entries = read_commit(top, commit)
    modules = {path: one.id for path, one in entries.items() if one.mode == SUBMODULE}
    files = {path: one for path, one in entries.items() if path not in modules}
    differing, seen = compare(top, files)
    found = _Found([*entries], commit, body, differing, seen)
    known: dict[str, bool] = {"": True}
    known_modules = set()
    for path, wanted in modules.items():
        full = f"{top}/{path}"
        if not is_direct(top, path, known):
            found.differing.append((GONE, path))
        elif os.path.lexists(f"{full}/.git"):
            known_modules.add(f"{path}/")
            _add(found, path, _look(_top(full)), wanted)
    found.differing.extend(
        (NEW, path)
        for path in _untracked(top)
        if path not in files and path not in known_modules
    )
    return found


def _add(found: _Found, path: str, module: _Found, wanted: str) -> None:
    """Add what a submodule is that is checked out."""
    found.tracked.remove(path)
    found.tracked.extend(f"{path}/{one}" for one in module.tracked)
    found.differing.extend((kind, f"{path}/{one}") for kind, one in module.differing)
    found.seen.update({f"{path}/{one}": what for one, what in module.seen.items()})
    if module.commit != wanted:
        found.differing.append((CHANGED, path))


def _untracked(top: str) -> Iterator[str]:
    """Yield all files that git does not ignore, as if it tracked none.

    Other repositories in the tree are one path each, which ends with a slash.
    """
    # Its own index could name files that no commit has.
    nothing = f"{top}/.no-index-{token_hex(16)}"
    listed = ask(top, "ls-files", "-z", "--others", "--exclude-standard", index=nothing)
    return (os.fsdecode(one) for one in listed.split(b"\0") if one)


def _from(base: Path, path: str) -> str:
    start = os.path.realpath(base)
    if path == start:
        return ""
    if not path.startswith(start.rstrip("/") + "/"):
        raise FormatError(
            f"{shown(path)} does not lie below {shown(start)}",
            where=path,
            hint="run the command where all that it records lies below",
        )
    return path[len(start.rstrip("/")) + 1 :]
