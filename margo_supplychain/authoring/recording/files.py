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
import subprocess
import sys
import tempfile
import time
from bisect import bisect
from contextlib import ExitStack, suppress
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final, NamedTuple, final

from margo_supplychain.authoring.recording import hashing
from margo_supplychain.authoring.recording.exclusions import Exclusions
from margo_supplychain.authoring.recording.hashing import (
    CHANGED_AT,
    SIZE,
    hash_file,
)
from margo_supplychain.authoring.recording.problems import shown
from margo_supplychain.authoring.recording.scanning import Scanner
from margo_supplychain.errors import ConflictError, FormatError, StorageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from margo_supplychain.authoring.recording.hashing import Identity
    from margo_supplychain.authoring.recording.scanning import Scan

MAX_PROCESSES: Final = 8
_PER_FILE: Final = 6_000  # ns to open and close one; a byte takes about one more
_START: Final = 25_000_000  # ns until another process hashes its first file
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
    """

    artifacts: dict[str, dict[str, str]]
    excluded: Mapping[str, int]
    missing: tuple[str, ...] = ()
    followed: tuple[str, ...] = ()


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
    _settle(before)
    digests = _hash_all(
        [
            (before.links[name][0] if name in before.links else name, one)
            for name, one in before.files.items()
        ],
        base=base,
    )
    again = Scanner(base, Exclusions(exclude), follow=follow_symlinks)
    try:
        after = again.scan(paths, tracked=tracked)
    except FormatError as why:
        raise ConflictError(f"changed while it was hashed: {why}", hint=_AGAIN) from why
    _check_same(before, after, digests)
    return Recorded(
        artifacts={
            name: {"sha256": digest.hex()}
            for name, digest in zip(before.files, digests, strict=True)
        },
        excluded=exclusions.counts(),
        missing=before.missing,
        followed=tuple(before.links),
    )


def _settle(scan: Scan) -> None:
    """Wait until a file that changes from now on can be told from what was seen."""
    newest = max((one[CHANGED_AT] for one in scan.files.values()), default=0)
    # The clock that stamps files; nothing is decided by what time it says it is.
    age = time.clock_gettime_ns(time.CLOCK_REALTIME) - newest
    if 0 <= age < _GRAIN:
        time.sleep((_GRAIN - age) / 1e9)


def _check_same(before: Scan, after: Scan, digests: Sequence[bytes]) -> None:
    unread = {
        name for name, digest in zip(before.files, digests, strict=True) if not digest
    }
    if not unread and before == after:
        return
    changed = unread | set(before.missing) ^ set(after.missing)
    for one, other in ((before.files, after.files), (before.links, after.links)):
        changed |= {name for name, _ in one.items() ^ other.items()}
    if changed == unread and before == after:
        raise StorageError(
            f"{_few(changed)} can't be read",
            path=min(changed),
            hint="record as who may read it, or leave it out by --exclude",
        )
    raise ConflictError(f"{_few(changed)} changed while files were hashed", hint=_AGAIN)


def _few(names: Collection[str]) -> str:
    few = ", ".join(shown(name) for name in sorted(names)[:5])
    return f"{few} and {len(names) - 5} more" if len(names) > 5 else few


# --- every core ----------------------------------------------------------------------


def _hash_all(files: Sequence[tuple[str, Identity]], *, base: Path) -> list[bytes]:
    """Return the digest of each, in their order; CHANGED where there is none.

    Args:
        files: paths from `base`, and what was seen there.
        base: a directory.
    """
    costs = [*accumulate(_PER_FILE + one[SIZE] for _, one in files)]
    total = costs[-1] if costs else 0
    shares = _shares(total, len(os.sched_getaffinity(0)))
    # Where the share of each further process begins; ours comes first.
    cuts = [bisect(costs, cost) for cost in shares] + [len(files)]
    with ExitStack() as stack:
        others = [
            (part, stack.enter_context(_Process(part, base)))
            for part in (files[start:end] for start, end in pairwise(cuts))
        ]
        found = _hash_here(files[: cuts[0]], base)
        for part, process in others:
            found += process.answers() or _hash_here(part, base)
    return found


def _shares(total: int, cores: int) -> list[int]:
    """Return after how much of the work each further process takes over."""
    processes = max(1, min(cores, MAX_PROCESSES, total // _START))
    each = (total + (processes - 1) * _START) // processes
    return [each + number * (each - _START) for number in range(processes - 1)]


def _hash_here(files: Sequence[tuple[str, Identity]], base: Path) -> list[bytes]:
    descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return [hash_file(path, one, base=descriptor) for path, one in files]
    finally:
        os.close(descriptor)


@final
class _Process:
    """Another interpreter that hashes a part, if one can be had."""

    def __init__(self, files: Sequence[tuple[str, Identity]], base: Path) -> None:
        self._count = len(files)
        self._process: subprocess.Popen[bytes] | None = None
        with suppress(OSError), tempfile.TemporaryFile() as question:
            question.write(
                hashing.question((os.fsencode(path), one) for path, one in files)
            )
            question.seek(0)
            # Isolated: neither the environment nor the directory says what it imports.
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, our file
                [sys.executable, "-I", "-S", hashing.__file__],
                cwd=base,
                stdin=question,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()

    def answers(self) -> list[bytes]:
        """Return its digests; none at all if it came to grief."""
        if self._process is None or self._process.stdout is None:
            return []
        data = self._process.stdout.read()
        if self._process.wait() != 0 or len(data) != self._count * 33:
            return []
        return hashing.answers(data)
