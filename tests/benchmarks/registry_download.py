"""A verified download from a registry, by hashing, and beside skopeo.

A device verifies a release and fetches its four large blobs from Debian's
docker-registry on loopback, as a whole process from the interpreter's start on. It is
measured by a process that reads, hashes and writes the same bytes from disk with
hashlib, and beside `skopeo copy`. Rounds take turns, so that a busy machine slows all
alike; files are in memory for all, where the system lets them.

    python -m tests.benchmarks.registry_download [--size 256] [--runs 5] [--check]

With `--check`, the exit status is 1 above 1.4 times the processor time of hashing,
above skopeo's wall time, or above 40 MiB more than a bare interpreter.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from margo_supplychain.verify.trust_store import TrustStore
from tests.benchmarks.processes import (
    BARE,
    DEVICE,
    MIB,
    PEAK,
    PLACE,
    fill,
    in_turns,
    python,
    run,
    table,
    write_files,
)
from tests.registries.servers import docker_registry

if TYPE_CHECKING:
    from tests.benchmarks.processes import Took

BLOBS: Final = 4
MOST_PROCESSOR: Final = 1.4
MOST_CLOCK: Final = 1.0
MOST_MEMORY: Final = 40.0
HASHING: Final = (
    """\
import hashlib, os, sys
to, files = sys.argv[1], sys.argv[2:]
os.mkdir(to)
buffer = memoryview(bytearray(1 << 20))
for path in files:
    hasher = hashlib.sha256()
    name = os.path.join(to, os.path.basename(path))
    with open(path, "rb", 0) as source, open(name, "wb", 0) as target:
        while count := source.readinto(buffer):
            hasher.update(buffer[:count])
            target.write(buffer[:count])
    hasher.hexdigest()
"""
    + PEAK
)


class Bench:
    """A registry with one release, and a device that trusts its repository."""

    def __init__(self, place: Path, host: str, size: int) -> None:
        self._to = place / "to"
        self._host = host
        self._files = write_files(place / "files", [size * MIB] * BLOBS)
        self._base = f"oci://{host}/acme"
        world, _ = fill(self._base, self._files)
        self._state = place / "state"
        root = world.files.metadata["1.root.json"]
        TrustStore.create(self._state, root=root, publishers=frozenset({"acme"}))

    def _fresh(self) -> Path:
        shutil.rmtree(self._to, ignore_errors=True)
        return self._to

    def device(self) -> Took:
        """Verify and fetch."""
        return python(DEVICE, f"{self._base}/trust", self._state, self._fresh())

    def hashing(self) -> Took:
        """Read, hash and write the same files."""
        return python(HASHING, self._fresh(), *self._files)

    def skopeo(self) -> Took:
        """Copy the same artifact into a layout."""
        return run(
            *("skopeo", "copy", "--quiet", "--src-tls-verify=false"),
            *("--insecure-policy",),
            f"docker://{self._host}/acme/pump-monitor:1.0.0",
            f"oci:{self._fresh()}:1.0.0",
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="a verified download")
    parser.add_argument("--size", type=int, default=256, help="MiB of each blob")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=PLACE) as name:
        place = Path(name)
        with docker_registry(place / "registry") as registry:
            bench = Bench(place, registry.host, given.size)
            bench.device()  # compiles what is not compiled yet
            found = in_turns(
                {
                    "hashing": bench.hashing,
                    "device": bench.device,
                    "skopeo copy": bench.skopeo,
                    "bare interpreter": lambda: python(BARE),
                },
                given.runs,
            )
    print("\n".join(table(found, "hashing")))
    processor = found["device"].processor / found["hashing"].processor
    clock = found["device"].clock / found["skopeo copy"].clock
    memory = found["device"].peak - found["bare interpreter"].peak
    print(
        f"processor {processor:.2f} of hashing (aim {MOST_PROCESSOR}), wall "
        f"{clock:.2f} of skopeo (aim {MOST_CLOCK}), {memory:.1f} MiB above a bare "
        f"interpreter (aim {MOST_MEMORY:g})"
    )
    good = processor <= MOST_PROCESSOR and clock <= MOST_CLOCK and memory <= MOST_MEMORY
    return int(given.check and not good)


if __name__ == "__main__":
    raise SystemExit(main())
