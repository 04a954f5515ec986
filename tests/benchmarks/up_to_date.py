"""What a device that is up to date asks its registry: two requests, and how long.

A device that has verified before verifies again, through a relay that counts.

    python -m tests.benchmarks.up_to_date [--runs 9] [--check]

With `--check`, the exit status is 1 for more than two requests.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Final

from margo_supplychain.verify.trust_store import TrustStore
from tests.benchmarks.processes import (
    DEVICE,
    PLACE,
    Took,
    fill,
    python,
    write_files,
)
from tests.registries.between import Between
from tests.registries.servers import docker_registry

MOST: Final = 2
VERIFY: Final = DEVICE.replace("verifier.fetch(release, to)\n", "")
YARDSTICK: Final = "import tuf.ngclient"


def main() -> int:
    parser = argparse.ArgumentParser(description="a device that is up to date")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=PLACE) as name:
        place = Path(name)
        files = write_files(place / "files", [100])
        with (
            docker_registry(place / "registry") as registry,
            Between(to=registry.host) as between,
        ):
            world, _ = fill(f"oci://{registry.host}/acme", files)
            root = world.files.metadata["1.root.json"]
            state = place / "state"
            TrustStore.create(state, root=root, publishers=frozenset({"acme"}))

            def verify() -> Took:
                url = f"oci://{between.host}/acme/trust"
                return python(VERIFY, url, state, place / "to")

            # The first one fetches; the manifest lies beyond the relay.
            verify()
            between.passed.clear()
            verify()
            asked = [f"{one.method} {one.path}: {one.status}" for one in between.passed]
            device = [verify() for _ in range(given.runs)]
            yardstick = [python(YARDSTICK) for _ in range(given.runs)]
    print("\n".join(asked))
    clock = statistics.median(one.clock for one in device)
    base = statistics.median(one.clock for one in yardstick)
    print(
        f"{len(asked)} requests (aim {MOST}); {clock * 1000:.0f} ms as a process, "
        f"{clock / base:.2f} of `{YARDSTICK}`"
    )
    return int(given.check and len(asked) > MOST)


if __name__ == "__main__":
    raise SystemExit(main())
