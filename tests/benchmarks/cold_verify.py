"""A cold `device verify` of a local repository, measured by `import tuf.ngclient`.

Fresh processes one after the other, in turns, so that a busy machine slows both alike;
compiled modules are warm for both. Prints medians and their ratio, by the clock and by
processor time, which says more on a machine that does other things:

    known     the device refreshed before: its memory and copies are current
    first     the first verification after `device init`: everything is fetched and kept

    python -m tests.benchmarks.cold_verify [--runs 21] [--most 1.0]

With `--most`, the exit status is 1 when the ratio of `known` is above it.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from tests.world.on_disk import write_files
from tests.world.repository import World

ROOT: Final = Path(__file__).resolve().parent.parent.parent
YARDSTICK: Final = ("-c", "import tuf.ngclient")
# What the console script does.
PROGRAM: Final = (
    "-c",
    "from margo_supplychain.cli.main import main; raise SystemExit(main())",
)
VERIFY: Final = ("device", "verify", "acme/pump-monitor", "--pin", "^1.0", "--state")


class Seconds(NamedTuple):
    """What a process took."""

    clock: float
    processor: float


class Bench:
    """A repository, a device that knows it, and one that is new to it."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MARGO_SUPPLYCHAIN_", "PYTHON"))
        } | {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(place / "compiled")}
        now = datetime.now(UTC).replace(microsecond=0)
        world = World(now=now - timedelta(hours=3))
        for version in ("1.0.0", "1.2.0", "2.0.0"):
            world.release(version)
        write_files(world.publish(), place / "trust")
        root = str(place / "trust" / "metadata" / "1.root.json")
        for state in ("known", "pristine"):
            given = ("--root", root, "--publisher", "acme", "--state", state)
            self._seconds(*PROGRAM, "device", "init", *given)
        self.known()
        self.yardstick()

    def yardstick(self) -> Seconds:
        """Import python-tuf's client and end."""
        return self._seconds(*YARDSTICK)

    def known(self) -> Seconds:
        """Verify on a device that is up to date."""
        return self._seconds(*PROGRAM, *VERIFY, "known")

    def first(self) -> Seconds:
        """Verify for the first time on a device."""
        shutil.rmtree(self._place / "first", ignore_errors=True)
        shutil.copytree(self._place / "pristine", self._place / "first")
        return self._seconds(*PROGRAM, *VERIFY, "first")

    def _seconds(self, *arguments: str) -> Seconds:
        begun = time.perf_counter()
        used = _processor()
        subprocess.run(
            [sys.executable, *arguments],
            cwd=self._place,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return Seconds(time.perf_counter() - begun, _processor() - used)


def _processor() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(runs: int) -> dict[str, Seconds]:
    """Return the median seconds of each, over `runs` rounds."""
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name))
        kinds = {
            "import tuf.ngclient": bench.yardstick,
            "known": bench.known,
            "first": bench.first,
        }
        taken: dict[str, list[Seconds]] = {kind: [] for kind in kinds}
        for _ in range(runs):
            for kind, act in kinds.items():
                taken[kind].append(act())
    return {
        kind: Seconds(
            *(statistics.median(column) for column in zip(*each, strict=True))
        )
        for kind, each in taken.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="cost of a cold device verify")
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--most", type=float, help="highest ratio that is good enough")
    given = parser.parse_args()
    medians = measure(given.runs)
    yardstick = medians["import tuf.ngclient"]
    for kind, taken in medians.items():
        said = (
            f"{name} {mine * 1000:6.1f} ms, ratio {mine / theirs:.2f}"
            for name, mine, theirs in zip(
                Seconds._fields, taken, yardstick, strict=True
            )
        )
        print(f"{kind:<20} {'   '.join(said)}")
    limit = given.most
    return int(limit is not None and medians["known"].clock > limit * yardstick.clock)


if __name__ == "__main__":
    raise SystemExit(main())
