"""How fast content is checked, by `hashlib.file_digest` on the same file.

`check_stream` reads and hashes; `receive` also writes, syncs and names the file, and is
measured by a plain copy with a sync plus the digest. Rounds take turns, so that a busy
machine slows all alike; the file is in the page cache for all.

    python -m tests.benchmarks.hashing [--size 256] [--runs 7] [--least 0.9]

With `--least`, the exit status is 1 when `check_stream` reaches less of the speed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.storage.receive import check_stream, receive

if TYPE_CHECKING:
    from collections.abc import Callable

MIB: Final = 1 << 20


class Bench:
    """One file, and what is done with it."""

    def __init__(self, place: Path, size: int) -> None:
        self._place = place
        self._file = place / "content"
        with self._file.open("wb") as file:
            for _ in range(size):
                file.write(os.urandom(MIB))
        digest = Digest("sha256", self._digest())
        kind = "application/octet-stream"
        self._what = Descriptor(media_type=kind, digest=digest, size=size * MIB)

    def _digest(self) -> str:
        with self._file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def file_digest(self) -> None:
        self._digest()

    def check_stream(self) -> None:
        with self._file.open("rb") as file:
            check_stream(self._what, file, subject="content")

    def copy_and_digest(self) -> None:
        target = self._place / "copy"
        shutil.copyfile(self._file, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
        self._digest()
        target.unlink()

    def receive(self) -> None:
        target = self._place / "received"
        with self._file.open("rb") as file:
            receive(target, self._what, file, subject="content")
        target.unlink()


def seconds(act: Callable[[], None]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def measure(size: int, runs: int) -> dict[str, float]:
    """Return the median seconds of each, over `runs` rounds after one to warm up."""
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), size)
        acts = (
            bench.file_digest,
            bench.check_stream,
            bench.copy_and_digest,
            bench.receive,
        )
        taken: dict[str, list[float]] = {act.__name__: [] for act in acts}
        for number in range(runs + 1):
            for act in acts:
                found = seconds(act)
                if number:
                    taken[act.__name__].append(found)
    return {what: statistics.median(each) for what, each in taken.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description="speed of checking content")
    parser.add_argument("--size", type=int, default=256, help="MiB")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--least", type=float, help="share that is good enough")
    given = parser.parse_args()
    found = measure(given.size, given.runs)
    pairs = (("check_stream", "file_digest"), ("receive", "copy_and_digest"))
    shares = {}
    for mine, base in pairs:
        shares[mine] = found[base] / found[mine]
        print(
            f"{mine:<13} {given.size / found[mine]:7.0f} MiB/s   "
            f"{base:<15} {given.size / found[base]:7.0f} MiB/s   "
            f"share {shares[mine]:.2f}"
        )
    return int(given.least is not None and shares["check_stream"] < given.least)


if __name__ == "__main__":
    raise SystemExit(main())
