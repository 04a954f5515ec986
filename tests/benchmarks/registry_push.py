"""Peak memory of a push, by the size of the blob.

Each push of one blob into Debian's docker-registry on loopback runs in a fresh process,
which says its own `VmHWM` at the end.

    python -m tests.benchmarks.registry_push [--sizes 0 64 1024] [--check]

With `--check`, the exit status is 1 when any process peaks above 60 MiB (oras-py's own
push of 1 GiB: 545 MiB).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Final

from tests.benchmarks.processes import BARE, MIB, PEAK, PLACE, python, write_files
from tests.registries.servers import docker_registry

MOST: Final = 60.0
PUSH: Final = (
    """\
import sys
from pathlib import Path
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.transport.opening import open_sink

url, path, digest = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
what = Descriptor(
    media_type="application/wasm",
    digest=Digest.parse(digest),
    size=path.stat().st_size,
)
with path.open("rb") as file:
    open_sink(url).put_blob(what, file)
"""
    + PEAK
)


def main() -> int:
    parser = argparse.ArgumentParser(description="peak memory of a push")
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 64, 1024])
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    bare = python(BARE)
    print(f"{'blob':>10}   peak in MiB      CPU     wall")
    print(f"{'bare':>10}   {bare.peak:11.1f}")
    peaks = []
    with tempfile.TemporaryDirectory(dir=PLACE) as name:
        place = Path(name)
        files = write_files(place / "files", [size * MIB for size in given.sizes])
        with docker_registry(place / "registry") as registry:
            url = f"oci://{registry.host}/acme/pump-monitor"
            for path, what in files.items():
                took = python(PUSH, url, path, str(what.digest))
                peaks.append(took.peak)
                print(
                    f"{what.size // MIB:6} MiB   {took.peak:11.1f} "
                    f"{took.processor:6.2f} s {took.clock:6.2f} s"
                )
    print(f"most {max(peaks):.1f} MiB (aim {MOST:g})")
    return int(given.check and max(peaks) > MOST)


if __name__ == "__main__":
    raise SystemExit(main())
