"""Asking git, so that a working tree decides nothing of it and starts nothing.

What a commit holds is read from its objects. Each is hashed here: neither replaced
objects nor an object store that somebody wrote to can say that it is another one.

Example:
    >>> body, entries = read_commit("/work", "1d5f…")  # doctest: +SKIP
    >>> entries["src/main.c"]  # doctest: +SKIP
    Entry(mode=33188, id='2c26…')
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.authoring.recording.problems import shown
from margo_supplychain.authoring.recording.scanning import MAX_FILES
from margo_supplychain.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PATIENCE: Final = 300.0  # seconds for one command of git's
MAX_PATH: Final = 4096  # bytes; no file system has longer ones
DIRECTORY: Final = 0o040000
SUBMODULE: Final = 0o160000
_HINT: Final = (
    "give --git a directory inside a working tree with a commit, below the current "
    "directory"
)
_OPTIONS: Final = (
    "--no-replace-objects",
    *("-c", "core.fsmonitor=false"),
    # A repository that a commit holds as plain files would bring its own settings.
    *("-c", "safe.bareRepository=explicit"),
)
_ENVIRONMENT: Final = {
    "GIT_OPTIONAL_LOCKS": "0",
    # Objects that are missing are not fetched: settings say by which command.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}


class Entry(NamedTuple):
    """What a commit holds under one path.

    Args:
        mode: as git writes it.
        id: of a blob, or of a submodule's commit.
    """

    mode: int
    id: str


def ask(
    directory: str, *arguments: str, given: bytes = b"", index: str | None = None
) -> bytes:
    """Return what a command of git's prints.

    Args:
        directory: where it runs.
        arguments: its name and what follows.
        given: what it reads.
        index: a file in place of the working tree's own index.

    Raises:
        FormatError: git is not there, refuses, or does not come to an end.
    """
    program = shutil.which("git")
    if program is None:
        raise FormatError(
            "git is not installed, and --git asks it",
            hint="install it, or name what the step takes by --materials",
        )
    # Variables of git's own, as hooks have them, would lead it elsewhere.
    kept = {name: one for name, one in os.environ.items() if name[:4] != "GIT_"}
    if index is not None:
        kept["GIT_INDEX_FILE"] = index
    try:
        ran = subprocess.run(  # noqa: S603 - found on PATH; what follows is no option
            [program, *_OPTIONS, "-C", directory, *arguments],
            check=False,
            capture_output=True,
            input=given,
            env=kept | _ENVIRONMENT,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired as why:
        raise FormatError(
            f"git {arguments[0]} does not end in {shown(directory)}: it was stopped "
            f"after {PATIENCE:g} s",
            where=directory,
            hint="look for a pipe in place of a file that git reads, such as "
            ".gitignore or .git/info/exclude",
        ) from why
    if ran.returncode != 0:
        said = " ".join(ran.stderr.decode("utf-8", "replace").split())[:300]
        raise FormatError(
            f"git {arguments[0]} fails in {shown(directory)}: {said}",
            where=directory,
            hint=_HINT,
        )
    return ran.stdout


def digest_of(kind: str, size: int, like: str) -> hashlib._Hash:
    """Return the beginning of an object's id; its bytes are to follow.

    Args:
        kind: blob, tree or commit.
        size: of the object in bytes.
        like: an id of the same repository: its length tells the algorithm.
    """
    algorithm = "sha1" if len(like) == 40 else "sha256"
    header = f"{kind} {size}\0".encode()
    return hashlib.new(algorithm, header, usedforsecurity=False)


def read_commit(directory: str, commit: str) -> tuple[bytes, dict[str, Entry]]:
    """Return the bytes of a commit, and all its files and submodules by path.

    Args:
        directory: inside the working tree.
        commit: its id.

    Raises:
        FormatError: an object is missing, damaged or not what its id says; there are
            too many, or one has a path that leads elsewhere.
    """
    body = _read(directory, [commit], "commit")[commit]
    tree = body.partition(b"\n")[0].removeprefix(b"tree ").decode("ascii", "replace")
    entries: dict[str, Entry] = {}
    level = {"": tree}
    while level:
        trees = _read(directory, dict.fromkeys(level.values()), "tree")
        below: dict[str, str] = {}
        for path, one in level.items():
            for name, entry in _parsed(trees[one], commit):
                full = f"{path}/{name}" if path else name
                if entry.mode == DIRECTORY:
                    below[full] = entry.id
                else:
                    entries[full] = entry
                # A tree may hold itself many times over by very few objects.
                if len(entries) + len(below) > MAX_FILES or len(full) > MAX_PATH:
                    raise FormatError(
                        f"commit {commit} has more than {MAX_FILES} files, or longer "
                        f"paths than {MAX_PATH} characters",
                        hint="no link has room for them: leave out --git",
                    )
        level = below
    return body, entries


def _parsed(tree: bytes, commit: str) -> Iterator[tuple[str, Entry]]:
    """Yield what a tree holds: `mode name`, NUL and the id's bytes, again and again."""
    size = len(commit) // 2
    at = 0
    while at < len(tree):
        end = tree.find(b"\0", at)
        mode, _, name = tree[at:end].partition(b" ")
        at = end + 1 + size
        # Such a path would lead out of the tree, or into what is git's own.
        odd = name.lower() in {b"", b".", b"..", b".git"} or b"/" in name
        if end < 0 or odd or at > len(tree) or not mode.isdigit():
            raise FormatError(f"commit {commit} holds a tree that is none of git's")
        yield os.fsdecode(name), Entry(int(mode, 8), tree[end + 1 : at].hex())


def _read(directory: str, ids: Iterable[str], kind: str) -> Mapping[str, bytes]:
    ids = list(ids)
    given = "".join(f"{one}\n" for one in ids).encode()
    data = ask(directory, "cat-file", "--batch", given=given)
    found = {}
    at = 0
    for one in ids:
        end = data.find(b"\n", at)
        header = data[at:end].decode("ascii", "replace").split()
        if header[:2] != [one, kind] or len(header) != 3:
            raise FormatError(
                f"git does not have the {kind} {one}",
                where=directory,
                hint="git fetch --refetch brings what a partial clone left out",
            )
        at = end + 1 + int(header[2])
        body = data[end + 1 : at]
        at += 1
        digest = digest_of(kind, len(body), one)
        digest.update(body)
        if digest.hexdigest() != one:
            raise FormatError(
                f"the {kind} that git gives is not {one}, as its bytes say",
                where=directory,
                hint="git fsck tells what is damaged; clone it anew",
            )
        found[one] = body
    return found
