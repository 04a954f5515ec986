"""A cold `device verify` of a local repository, measured by `import tuf.ngclient`.

Fresh processes one after the other, in turns, so that a busy machine slows both alike;
compiled modules are warm for both. Prints medians and their ratio:

    known     the device refreshed before: its memory and copies are current
    first     the first verification after `device init`: everything is fetched and kept

    python -m tests.benchmarks.cold_verify [--runs 21] [--most 1.0]

With `--most`, the exit status is 1 when the ratio of `known` is above it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

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

    def yardstick(self) -> float:
        """Seconds of a process that imports python-tuf's client and ends."""
        return self._seconds(*YARDSTICK)

    def known(self) -> float:
        """Seconds of a verification by a device that is up to date."""
        return self._seconds(*PROGRAM, *VERIFY, "known")

    def first(self) -> float:
        """Seconds of a device's first verification."""
        shutil.rmtree(self._place / "first", ignore_errors=True)
        shutil.copytree(self._place / "pristine", self._place / "first")
        return self._seconds(*PROGRAM, *VERIFY, "first")

    def _seconds(self, *arguments: str) -> float:
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, *arguments],
            cwd=self._place,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return time.perf_counter() - begun


def measure(runs: int) -> dict[str, float]:
    """Return the median seconds of each, over `runs` rounds."""
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name))
        kinds = {
            "import tuf.ngclient": bench.yardstick,
            "known": bench.known,
            "first": bench.first,
        }
        taken: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(runs):
            for kind, act in kinds.items():
                taken[kind].append(act())
    return {kind: statistics.median(each) for kind, each in taken.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description="cost of a cold device verify")
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--most", type=float, help="highest ratio that is good enough")
    given = parser.parse_args()
    medians = measure(given.runs)
    yardstick = medians["import tuf.ngclient"]
    for kind, seconds in medians.items():
        print(f"{kind:<20} {seconds * 1000:6.1f} ms   ratio {seconds / yardstick:.2f}")
    return int(given.most is not None and medians["known"] > given.most * yardstick)


if __name__ == "__main__":
    raise SystemExit(main())
