"""Whole processes, what they took, and a registry with something in it.

A measured process says at its end how much memory it had at its peak; what it took of
the processor is the kernel's word for all of it, imports and interpreter included.
"""

from __future__ import annotations

import hashlib
import io
import os
import resource
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.formats import oci
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import Layer, manifest_bytes
from margo_supplychain.transport.opening import open_sink
from tests.world.repository import GENERIC, WASM, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from margo_supplychain.transport.protocols import Sink

ROOT: Final = Path(__file__).resolve().parent.parent.parent
MIB: Final = 1 << 20
_IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - only whether it is there
# Disks differ by more than what is measured.
PLACE: Final = _IN_MEMORY if _IN_MEMORY.is_dir() else None

PEAK: Final = """
for line in open("/proc/self/status"):
    if line.startswith("VmHWM:"):
        print(line.split()[1])
"""
BARE: Final = PEAK
# What an agent does with a device's store; the store is made before.
DEVICE: Final = (
    """\
import sys
from pathlib import Path
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.transport.mirrors import MirroredContent
from margo_supplychain.transport.opening import open_source
from margo_supplychain.verify.policy import Policy
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier

url, state, to = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
source = open_source(url)
verifier = Verifier(
    store=TrustStore.open(state),
    source=source,
    content=MirroredContent(always=[source]),
    policy=Policy.from_toml(b'[policy."*/*"]\\nrequire = ["signed"]\\n'),
)
name, pin = ReleaseName.parse("acme/pump-monitor"), Pin.parse_argument("*")
release = verifier.verify(name, pin)
verifier.fetch(release, to)
"""
    + PEAK
)


class Took(NamedTuple):
    """What a process took: seconds by the clock and of the processor, MiB at its peak.

    `peak` is 0 where the process does not say it.
    """

    clock: float
    processor: float
    peak: float


def run(*command: str | Path) -> Took:
    """Run a process to its end."""
    begun, used = time.perf_counter(), _processor()
    done = subprocess.run(
        [str(one) for one in command],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=True,
    )
    said = done.stdout.split()
    peak = int(said[-1]) / 1024 if said and said[-1].isdigit() else 0.0
    return Took(time.perf_counter() - begun, _processor() - used, peak)


def python(code: str, *arguments: str | Path) -> Took:
    """Run Python code in a fresh interpreter."""
    return run(sys.executable, "-c", code, *arguments)


def in_turns(acts: dict[str, Callable[[], Took]], runs: int) -> dict[str, Took]:
    """Return the medians over `runs` rounds, in which each act has its turn."""
    taken: dict[str, list[Took]] = {name: [] for name in acts}
    names = list(acts)
    for number in range(runs):
        # Nobody always comes after the same one.
        first = number % len(names)
        for name in names[first:] + names[:first]:
            taken[name].append(acts[name]())
    return {
        name: Took(*(statistics.median(one) for one in zip(*each, strict=True)))
        for name, each in taken.items()
    }


def table(found: dict[str, Took], base: str) -> Iterable[str]:
    """Return lines with what each took, by `base`."""
    one = found[base]
    yield f"{'':<24}     CPU  ratio     wall  ratio   peak MiB"
    for name, took in found.items():
        peak = f"{took.peak:8.1f}" if took.peak else ""
        yield (
            f"{name:<24} {took.processor:6.2f} s {took.processor / one.processor:6.2f}"
            f" {took.clock:6.2f} s {took.clock / one.clock:6.2f}   {peak}"
        )


def _processor() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


# --- a registry with a release in it -------------------------------------------------


def write_files(place: Path, sizes: Sequence[int]) -> dict[Path, Descriptor]:
    """Write files of random bytes; return what each is."""
    place.mkdir()
    found = {}
    for number, size in enumerate(sizes):
        hasher = hashlib.sha256()
        path = place / str(number)
        with path.open("wb") as file:
            for _ in range(0, size, MIB):
                piece = os.urandom(min(MIB, size - file.tell()))
                hasher.update(piece)
                file.write(piece)
        digest = Digest("sha256", hasher.hexdigest())
        found[path] = Descriptor(media_type=WASM, digest=digest, size=size)
    return found


def fill(base: str, files: dict[Path, Descriptor]) -> tuple[World, Descriptor]:
    """Put a repository and its one release into a registry.

    Args:
        base: `oci://HOST/PATH`; the repositories `trust` and `pump-monitor` come below.
        files: the release's layers.
    """
    content = open_sink(f"{base}/pump-monitor")
    content.put_blob(oci.EMPTY, io.BytesIO(oci.EMPTY_BYTES))
    for path, what in files.items():
        with path.open("rb") as file:
            content.put_blob(what, file)
    manifest = manifest_bytes(
        artifact_type=GENERIC, layers=[Layer(descriptor=one) for one in files.values()]
    )
    world = World(now=datetime.now(UTC).replace(microsecond=0))
    what = world.add_blob(manifest, oci.MANIFEST)
    content.put_manifest(what, manifest, tag="1.0.0")
    world.release("1.0.0", artifact=what, locations=(f"{base}/pump-monitor",))
    put_trust(open_sink(f"{base}/trust"), world)
    return world, what


def put_trust(trust: Sink, world: World) -> None:
    """Put the trust metadata of a world into its repository, `timestamp` last."""
    files = world.publish()
    for (path, _), data in files.targets.items():
        trust.put_target(path, Descriptor.of(data, "a/b"), io.BytesIO(data))  # type: ignore[arg-type]  # the world's paths are right
    names = sorted(files.metadata, key=lambda one: (one == "timestamp.json", one))
    for name in names:
        trust.put_metadata(name, files.metadata[name])
