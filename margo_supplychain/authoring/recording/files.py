"""Recording files: every one by its sha256, from all cores, noticing what changes.

Files are looked at, hashed, and looked at again: one that came, went, moved or changed
in between ends the recording, since nobody could say what the step had. What a link
can't hold as it is (symbolic links, special files, names that are no UTF-8) is named in
one error, with the option that helps. Nothing is left out unasked.

Example:
    >>> record_files(["src"], base=Path.cwd(), exclude=["*.pyc"])  # doctest: +SKIP
    Recorded(artifacts={'src/main.c': {'sha256': '2c26…'}}, excluded={'*.pyc': 3}, ...)
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, final

from margo_supplychain.authoring.recording import hashing
from margo_supplychain.authoring.recording.exclusions import Exclusions
from margo_supplychain.authoring.recording.hashing import CHANGED_AT, hash_file
from margo_supplychain.authoring.recording.problems import shown
from margo_supplychain.authoring.recording.scanning import Scanner
from margo_supplychain.errors import ConflictError, FormatError, StorageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from margo_supplychain.authoring.recording.hashing import Hashed, Identity
    from margo_supplychain.authoring.recording.scanning import Scan

MAX_PROCESSES: Final = 8
_BATCH: Final = 32  # files
_PER_FILE: Final = 6_000  # ns to open and close one; a byte takes about one more
_WORTH: Final = 50_000_000  # ns; another process needs a third of it to start
_SAMPLE: Final = 256  # files whose sizes say how much work there is
# File systems stamp changes by a clock that stands still for up to 10 ms.
_GRAIN: Final = 20_000_000  # ns
_AGAIN: Final = (
    "nothing was recorded: let nothing write there meanwhile, or leave it out by "
    "--exclude; then run the command again"
)


class Recorded(NamedTuple):
    """What was found.

    Args:
        artifacts: digests by name, as a link has them.
        excluded: for each exclusion, how many files and directories it left out.
        missing: files that git tracks and that were not there.
        followed: symbolic links whose files were recorded.
        seen: what each file was when it was hashed, by name.
    """

    artifacts: dict[str, dict[str, str]]
    excluded: Mapping[str, int]
    missing: tuple[str, ...] = ()
    followed: tuple[str, ...] = ()
    seen: Mapping[str, Identity] = MappingProxyType({})


def record_files(
    paths: Sequence[str],
    *,
    base: Path,
    exclude: Sequence[str] = (),
    follow_symlinks: bool = False,
    tracked: Sequence[str] = (),
) -> Recorded:
    """Record all files at and below `paths`.

    Args:
        paths: files and directories below `base`; each must hold a file.
        base: names are paths from there.
        exclude: patterns of what is left out (see `exclusions`).
        follow_symlinks: record the file that a symbolic link leads to, below `base`,
            under the link's name.
        tracked: names of more files, which may be missing.

    Raises:
        FormatError: a path that is not there or holds nothing; files that can't be
            recorded as they are, all of them.
        ConflictError: files changed while they were hashed.
        StorageError: a directory can't be read.
    """
    exclusions = Exclusions(exclude)
    scanner = Scanner(base, exclusions, follow=follow_symlinks)
    before = scanner.scan(paths, tracked=tracked)
    paths_of = [
        before.links[name][0] if name in before.links else name for name in before.files
    ]
    begun = _clock()
    found = _hash_all(paths_of, base=base)
    changed = _hash_again(found, paths_of, base=base, begun=begun)
    again = Scanner(base, Exclusions(exclude), follow=follow_symlinks)
    try:
        after = again.scan(paths, tracked=tracked, look=True)
    except FormatError as why:
        raise ConflictError(f"changed while it was hashed: {why}", hint=_AGAIN) from why
    files = dict(zip(before.files, found, strict=True))
    names = [*files]
    hashed = _same(before, files, after, changed={names[one] for one in changed})
    return Recorded(
        artifacts={name: {"sha256": one[0].hex()} for name, one in hashed.items()},
        excluded=exclusions.counts(),
        missing=before.missing,
        followed=tuple(before.links),
        seen={name: one[1] for name, one in hashed.items()},
    )


def _clock() -> int:
    """Return the time that stamps files; nothing is decided by what time it says."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME)


def _hash_again(
    found: Sequence[Hashed | None], paths: Sequence[str], *, base: Path, begun: int
) -> set[int]:
    """Hash anew what changed so shortly before that a second change may not show.

    Returns:
        The numbers of those that have changed.
    """
    recent = [
        number
        for number, one in enumerate(found)
        if one is not None and one[1][CHANGED_AT] > begun - _GRAIN
    ]
    if not recent:
        return set()
    time.sleep(_GRAIN / 1e9)
    again = _hash_here([paths[number] for number in recent], base)
    return {
        number
        for number, one in zip(recent, again, strict=True)
        if one != found[number]
    }


def _same(
    before: Scan,
    found: Mapping[str, Hashed | None],
    after: Scan,
    *,
    changed: set[str],
) -> dict[str, Hashed]:
    """Return all of them, if every file is what it was when it was hashed."""
    hashed = {name: one for name, one in found.items() if one is not None}
    changed |= {name for name, _ in before.links.items() ^ after.links.items()}
    changed |= set(before.missing) ^ set(after.missing)
    if len(hashed) == len(found) == len(after.files) and not changed:
        seen = after.files
        if all(one[1] == seen.get(name) for name, one in hashed.items()):
            return hashed
    raise _refusal(before, hashed, after, changed)


def _refusal(
    before: Scan, hashed: Mapping[str, Hashed], after: Scan, changed: set[str]
) -> ConflictError | StorageError:
    unread = before.files.keys() - hashed.keys()
    changed |= before.files.keys() ^ after.files.keys()
    changed |= {name for name, one in hashed.items() if one[1] != after.files.get(name)}
    if not changed:
        return StorageError(
            f"{_few(unread)} can't be read",
            path=min(unread),
            hint="record as who may read it, let nothing write there meanwhile, or "
            "leave it out by --exclude",
        )
    return ConflictError(
        f"{_few(changed | unread)} changed while files were hashed", hint=_AGAIN
    )


def _few(names: Collection[str]) -> str:
    few = ", ".join(shown(name) for name in sorted(names)[:5])
    return f"{few} and {len(names) - 5} more" if len(names) > 5 else few


# --- every core ----------------------------------------------------------------------


def _hash_all(paths: Sequence[str], *, base: Path) -> list[Hashed | None]:
    """Return what each file is, in their order; None for what is none any more.

    Args:
        paths: from `base`.
        base: a directory.
    """
    with _directory(base) as directory:
        processes = _processes(paths, directory)
        if not processes:
            return [hash_file(path, base=directory) for path in paths]
        batch = max(
            min(_BATCH, len(paths) // (16 * (processes + 1))),
            -(-len(paths) // hashing.MAX_BATCHES),
        )
        found: dict[int, Hashed | None] = {}
        with _work(len(paths), batch) as pipe, ExitStack() as stack:
            others = [_Process(paths, base, pipe, batch) for _ in range(processes)]
            for other in others:
                stack.enter_context(other)
            for number in hashing.take(pipe, len(paths), batch):
                found[number] = hash_file(paths[number], base=directory)
            for other in others:
                found |= other.answers()
        # What a process took along when it came to grief.
        return [
            found[number] if number in found else hash_file(path, base=directory)
            for number, path in enumerate(paths)
        ]


def _hash_here(paths: Sequence[str], base: Path) -> list[Hashed | None]:
    with _directory(base) as directory:
        return [hash_file(path, base=directory) for path in paths]


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _processes(paths: Sequence[str], base: int) -> int:
    """Return how many more processes are worth their start."""
    sample = paths[:: max(1, len(paths) // _SAMPLE)]
    total = 0
    for path in sample:
        with suppress(OSError):
            total += os.stat(path, dir_fd=base, follow_symlinks=False).st_size
    work = len(paths) * (_PER_FILE + total // max(1, len(sample)))
    cores = min(len(os.sched_getaffinity(0)), MAX_PROCESSES, len(paths))
    return max(0, min(cores, work // _WORTH) - 1)


@contextmanager
def _work(count: int, batch: int) -> Iterator[int]:
    """Give a pipe with the number of every batch; whoever reads one has taken it."""
    taking, giving = os.pipe()
    try:
        try:
            hashing.fill(giving, count, batch)
        finally:
            os.close(giving)
        yield taking
    finally:
        os.close(taking)


@final
class _Process:
    """Another interpreter that takes part, if one can be had."""

    def __init__(self, paths: Sequence[str], base: Path, pipe: int, batch: int) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        with suppress(OSError), tempfile.TemporaryFile() as names:
            names.write(os.fsencode("\0".join(paths)))
            names.seek(0)
            # Isolated: neither the environment nor the directory says what it imports.
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, our file
                [sys.executable, "-I", "-S", hashing.__file__, str(pipe), str(batch)],
                cwd=base,
                stdin=names,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(pipe,),
            )

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()

    def answers(self) -> dict[int, Hashed | None]:
        """Return what it has hashed; nothing if it came to grief."""
        if self._process is None or self._process.stdout is None:
            return {}
        data = self._process.stdout.read()
        if self._process.wait() != 0:
            return {}
        try:
            return dict(hashing.answers(data))
        except struct.error:
            return {}
