"""A release of many small blobs over a line with some delay: round trips, connections.

A relay between the device and Debian's docker-registry counts what passes, and lets
each answer wait. The device verifies the release first; then it fetches, four blobs at
once and one at a time.

    python -m tests.benchmarks.small_blobs [--blobs 200] [--delay 10] [--check]

With `--check`, the exit status is 1 above one round trip for each blob, above four
connections, or when four at once is not twice as fast as one at a time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.transport.mirrors import MirroredContent
from margo_supplychain.transport.network import Network
from margo_supplychain.transport.opening import open_sink, open_source
from margo_supplychain.verify.limits import Limits
from margo_supplychain.verify.policy import Policy
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.benchmarks.processes import PLACE, fill, put_trust, write_files
from tests.registries.between import Between
from tests.registries.servers import docker_registry

if TYPE_CHECKING:
    from margo_supplychain.formats.digests import Descriptor

POLICY: Final = b'[policy."*/*"]\nrequire = ["signed"]\n'
MOST_CONNECTIONS: Final = 4


class Found(NamedTuple):
    """What one fetch cost."""

    requests: int
    connections: int
    seconds: float


def fetch(place: Path, between: Between, root: bytes, *, parallel: int) -> Found:
    """Verify and fetch on a new device; return what fetching cost."""
    # Equal networks share their connections, and each fetch shall open its own.
    network = Network(tries=parallel)
    source = open_source(f"oci://{between.host}/acme/trust", network=network)
    place.mkdir()
    verifier = Verifier(
        store=TrustStore.create(
            place / "state", root=root, publishers=frozenset({"acme"})
        ),
        source=source,
        content=MirroredContent(network=network, always=[source]),
        policy=Policy.from_toml(POLICY),
        limits=Limits(parallel=parallel),
    )
    name, pin = ReleaseName.parse("acme/pump-monitor"), Pin.parse_argument("*")
    release = verifier.verify(name, pin)
    requests, connections = len(between.passed), between.connections
    begun = time.perf_counter()
    verifier.fetch(release, place / "to")
    return Found(
        len(between.passed) - requests,
        # One was opened before, and is used again.
        between.connections - connections + 1,
        time.perf_counter() - begun,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="a release of many small blobs")
    parser.add_argument("--blobs", type=int, default=200)
    parser.add_argument("--delay", type=float, default=10, help="ms of each answer")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()

    def wait(path: str, body: bytes) -> bytes:
        del path
        time.sleep(given.delay / 1000)
        return body

    with tempfile.TemporaryDirectory(dir=PLACE) as name:
        place = Path(name)
        files: dict[Path, Descriptor] = write_files(
            place / "files", [100 + number for number in range(given.blobs)]
        )
        with (
            docker_registry(place / "registry") as registry,
            Between(to=registry.host, change=wait) as between,
        ):
            base = f"oci://{registry.host}/acme"
            world, what = fill(base, files)
            # Devices come through the relay.
            world.release(
                "1.0.1",
                artifact=what,
                locations=(f"oci://{between.host}/acme/pump-monitor",),
            )
            put_trust(open_sink(f"{base}/trust"), world)
            root = world.files.metadata["1.root.json"]
            found = {
                parallel: fetch(
                    place / f"device-{parallel}", between, root, parallel=parallel
                )
                for parallel in (1, 4)
            }
    print(f"{'at once':>8} {'requests':>9} {'connections':>12} {'seconds':>8}")
    for parallel, one in found.items():
        print(f"{parallel:8} {one.requests:9} {one.connections:12} {one.seconds:8.2f}")
    blobs = given.blobs + 1  # the layers and the config; the manifest is here
    faster = found[1].seconds / found[4].seconds
    print(
        f"{blobs} blobs beyond the manifest; four at once is {faster:.1f} times as fast"
    )
    good = (
        found[4].requests <= blobs
        and found[4].connections <= MOST_CONNECTIONS
        and faster >= 2
    )
    return int(given.check and not good)


if __name__ == "__main__":
    raise SystemExit(main())
