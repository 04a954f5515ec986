"""Peak memory of a fetch, by the size of its largest blob.

Each fetch runs in a fresh process, which says its own `VmHWM` at the end. The same
process without the fetch, and with an empty blob, is the base.

    python -m tests.benchmarks.fetch_memory [--sizes 64 512] [--most 8]

With `--most`, the exit status is 1 when the largest fetch peaks that many MiB above the
smallest.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import Layer, manifest_bytes
from tests.world.on_disk import write_files
from tests.world.repository import GENERIC, WASM, World

ROOT: Final = Path(__file__).resolve().parent.parent.parent
MIB: Final = 1 << 20
# What an agent does, and what the kernel says of its memory.
FETCH: Final = """\
import sys
from pathlib import Path
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.opening import FixedContent
from margo_supplychain.verify.policy import Policy
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier

trust, state, to = map(Path, sys.argv[1:])
root = (trust / "metadata" / "1.root.json").read_bytes()
source = DirectorySource(trust)
verifier = Verifier(
    store=TrustStore.create(state, root=root, publishers=frozenset({"acme"})),
    source=source,
    content=FixedContent([source]),
    policy=Policy.from_toml(b'[policy."*/*"]\\nrequire = ["signed"]\\n'),
)
name = ReleaseName.parse("acme/pump-monitor")
content = verifier.fetch(verifier.verify(name, Pin.parse_argument("*")), to)
for digest in content.digests:
    content.open(digest).close()
for line in Path("/proc/self/status").read_text().splitlines():
    if line.startswith("VmHWM:"):
        print(line.split()[1])
"""


def write_repository(place: Path, size: int) -> Path:
    """Write a repository whose one release has a layer of `size` bytes."""
    world = World(now=datetime.now(UTC).replace(microsecond=0))
    world.add_blob(b"{}", "application/vnd.oci.empty.v1+json")
    large = place / "large"
    with large.open("wb") as file:
        file.truncate(size)  # zeros, which take no room
    with large.open("rb") as file:
        value = hashlib.file_digest(file, "sha256").hexdigest()
    layer = Descriptor(media_type=WASM, digest=Digest("sha256", value), size=size)
    data = manifest_bytes(
        artifact_type=GENERIC, layers=[Layer(descriptor=layer, title="module.wasm")]
    )
    kind = "application/vnd.oci.image.manifest.v1+json"
    world.release("1.0.0", artifact=world.add_blob(data, kind))
    trust = write_files(world.publish(), place / "trust")
    large.rename(trust / "blobs" / "sha256" / value)
    return trust


def peak(size: int) -> int:
    """Return the peak of a fetch in KiB."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        trust = write_repository(place, size)
        done = subprocess.run(
            [sys.executable, "-c", FETCH, trust, place / "state", place / "to"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
        )
        return int(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description="peak memory of a fetch")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--most", type=float, help="MiB that are good enough")
    given = parser.parse_args()
    base = peak(0)
    print(f"{'blob':>10}   peak in MiB   ratio")
    print(f"{'empty':>10}   {base / 1024:11.1f}    1.00")
    found = []
    for size in given.sizes:
        found.append(peak(size * MIB))
        print(f"{size:6} MiB   {found[-1] / 1024:11.1f}    {found[-1] / base:.2f}")
    grown = (max(found) - min(found)) / 1024
    print(f"grown by {grown:.1f} MiB")
    return int(given.most is not None and grown > given.most)


if __name__ == "__main__":
    raise SystemExit(main())
