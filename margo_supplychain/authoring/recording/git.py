"""What git knows of the sources: tracked files, the commit, and whether they differ.

Files are recorded by their content in the working tree, as any file. `git/commit`
names the commit; `git/dirty` is there only when the working tree holds something else,
so a layout that does not allow it refuses what was built from unknown sources.

git itself is asked, without its optional writes and without the file system monitor
that a repository's configuration may start.

Example:
    >>> found = look_at(Path("."), base=Path.cwd())  # doctest: +SKIP
    >>> found.commit, found.tracked[:2]  # doctest: +SKIP
    ('1d5f…', ('Makefile', 'src/main.c'))
"""

from __future__ import annotations

import os
import shutil
import subprocess
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.authoring.recording.problems import shown
from margo_supplychain.errors import FormatError
from margo_supplychain.formats.release_products import DIRTY

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

COMMIT: Final = "git/commit"
_HINT: Final = (
    "give --git a directory inside a working tree with a commit, below the current "
    "directory"
)


class WorkingTree(NamedTuple):
    """What git says of one directory.

    Args:
        tracked: names of its files from the place where the recording stands.
        commit: id of the commit that is checked out.
        commit_sha256: of the commit object, header included: in a repository that
            counts by sha256 it is the id.
        differing: status and name of each file that is not as the commit has it, and
            of each that git neither tracks nor ignores; of the whole working tree.
    """

    tracked: tuple[str, ...]
    commit: str
    commit_sha256: str
    differing: tuple[tuple[str, str], ...]

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
            if status != _NEW or name not in recorded
        )


_NEW: Final = "?"


def look_at(directory: Path, *, base: Path) -> WorkingTree:
    """Ask git about the working tree that a directory belongs to.

    Args:
        directory: its tracked files are listed, and those of its submodules.
        base: names are paths from there; the directory lies below.

    Raises:
        FormatError: git is not there or refuses, there is no commit, or the directory
            lies elsewhere.
    """
    top = _text(_git(directory, "rev-parse", "--show-toplevel")).removesuffix("\n")
    commit = _text(_git(directory, "rev-parse", "--verify", "HEAD^{commit}")).strip()
    body = _git(directory, "cat-file", "commit", commit)
    inside = _from(base, os.path.realpath(directory))
    listed = _split(
        _git(directory, "ls-files", "-z", "-v", "--recurse-submodules", "--", ".")
    )
    prefix = f"{inside}/" if inside else ""
    tracked = [(one[0], prefix + one[2:]) for one in listed]
    status = _git(directory, "status", "-z", "--porcelain=v1", "--untracked-files=all")
    differing = [
        (kind, _name(base, top, path)) for kind, path in _porcelain(_split(status))
    ]
    # Lower case: somebody told git not to look (`update-index --assume-unchanged`).
    differing += [(tag, name) for tag, name in tracked if tag.islower()]
    return WorkingTree(
        tracked=tuple(dict.fromkeys(name for _, name in tracked)),
        commit=commit,
        commit_sha256=sha256(b"commit %d\0%b" % (len(body), body)).hexdigest(),
        differing=tuple(sorted(set(differing))),
    )


def _porcelain(records: list[str]) -> list[tuple[str, str]]:
    """Return status and path of each record of `git status --porcelain=v1 -z`."""
    found = []
    rest = iter(records)
    for record in rest:
        status, path = record[:2], record[3:]
        if status[0] in "RC":
            next(rest, None)  # where it was before
        found.append((_NEW if status == "??" else status.strip(), path))
    return found


def _name(base: Path, top: str, path: str) -> str:
    """Return a path of the working tree as the recording names it; else as git does."""
    try:
        return _from(base, f"{os.path.realpath(top)}/{path}")
    except FormatError:
        return f"../{path}"


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


def _split(data: bytes) -> list[str]:
    return [os.fsdecode(one) for one in data.split(b"\0") if one]


def _text(data: bytes) -> str:
    return os.fsdecode(data)


def _git(directory: Path, *arguments: str) -> bytes:
    program = shutil.which("git")
    if program is None:
        raise FormatError(
            "git is not installed, and --git asks it",
            hint="install it, or name what the step takes by --materials",
        )
    # Variables of git's own, as hooks have them, would lead it elsewhere.
    kept = {name: one for name, one in os.environ.items() if name[:4] != "GIT_"}
    ran = subprocess.run(  # noqa: S603 - found on PATH; what follows is no option
        [program, "-c", "core.fsmonitor=false", "-C", os.fspath(directory), *arguments],
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env=kept | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
    )
    if ran.returncode != 0:
        said = " ".join(ran.stderr.decode("utf-8", "replace").split())[:300]
        raise FormatError(
            f"git {arguments[0]} fails in {shown(os.fspath(directory))}: {said}",
            where=os.fspath(directory),
            hint=_HINT,
        )
    return ran.stdout
