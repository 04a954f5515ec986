"""How fast files are recorded, by in-toto's `record_artifacts_as_dict` on one tree.

Both hash the same files, which are in the page cache, and both name them alike; ours
looks at every file once more afterwards. Rounds take turns, so that a busy machine
slows both alike; the fastest round of each counts.

    python -m tests.benchmarks.recording [--files 10000] [--runs 5] [--least 1.5]

With `--least`, the exit status is 1 when the tree of mixed sizes, which is like sources
(half of the files below 4 kB, a mean of 16 kB), is recorded less than so many times as
fast. Two trees of equal sizes say where the time goes.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from in_toto.runlib import record_artifacts_as_dict

from margo_supplychain.authoring.recording.files import record_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Sizes = Callable[[], int]

PER_DIRECTORY: Final = 100
MIXED: Final = "mixed, mean 16 kB"


def trees() -> Iterator[tuple[str, Sizes]]:
    chance = random.Random(6)  # noqa: S311 - the same tree in every run
    yield "all of 1 kB", lambda: 1000
    yield MIXED, lambda: min(int(chance.lognormvariate(8.25, 1.7)), 2_000_000)
    yield "all of 100 kB", lambda: 100_000


def plant(place: Path, files: int, sizes: Sizes) -> int:
    """Write a tree; return its bytes."""
    total = 0
    noise = os.urandom(2_000_000)
    for number in range(files):
        directory = place / "src" / f"{number // PER_DIRECTORY:03}"
        directory.mkdir(parents=True, exist_ok=True)
        size = sizes()
        (directory / f"file-{number}.c").write_bytes(noise[:size])
        total += size
    return total


def seconds(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def measure(files: int, sizes: Sizes, runs: int) -> tuple[int, float, float]:
    """Return the bytes, and the seconds of ours and theirs."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        total = plant(place, files, sizes)

        def ours() -> dict[str, dict[str, str]]:
            return record_files(["src"], base=place).artifacts

        def theirs() -> dict[str, dict[str, str]]:
            found: dict[str, dict[str, str]] = record_artifacts_as_dict(  # type: ignore[no-untyped-call]  # no annotations
                ["src"], base_path=name
            )
            return found

        if ours() != theirs():
            raise SystemExit("the two do not agree")
        rounds = [(seconds(ours), seconds(theirs)) for _ in range(runs)]
    return total, min(one for one, _ in rounds), min(two for _, two in rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description="speed of recording files")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--least", type=float, help="ratio that is good enough")
    given = parser.parse_args()
    print(f"{given.files} files, {len(os.sched_getaffinity(0))} cores")
    ratios = {}
    for kind, sizes in trees():
        total, ours, theirs = measure(given.files, sizes, given.runs)
        ratios[kind] = theirs / ours
        print(
            f"{kind:<18} {total / 1e6:6.0f} MB   ours {ours * 1e3:6.0f} ms   "
            f"in-toto {theirs * 1e3:6.0f} ms   ratio {ratios[kind]:.2f}"
        )
    return int(given.least is not None and ratios[MIXED] < given.least)


if __name__ == "__main__":
    raise SystemExit(main())
