"""Verifying a chain of two steps with many artifacts each, beside in_toto_verify.

Both read the same DSSE files from one directory, each in a fresh process, in turns;
what is timed is the verification alone, without imports. The ratio is of processor
time; the peak is each process's own `VmHWM`, interpreter and imports included. Then
eight threads verify eight different releases at once, and must agree with one alone.

    python -m tests.benchmarks.provenance [--artifacts 100000] [--runs 5] [--most 0.5]

With `--most`, the exit status is 1 when the ratio is above it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.provenance.chain import (
    ChainResult,
    LinkFile,
    ReleaseFacts,
    verify_chain,
)
from margo_supplychain.provenance.layouts import read_layout
from tests.benchmarks.processes import PLACE, ROOT
from tests.world.provenance import CLOSED, envelope, keyid, layout, link, step
from tests.world.repository import key

NOW: Final = datetime(2027, 1, 1, tzinfo=UTC)
ARTIFACT: Final = Digest.of(b"{}")
STEPS: Final = {"build": "builder", "package": "packager"}
THREADS: Final = 8
# The end of each process: processor seconds of the verification, peak in KiB.
SAID: Final = """
took = time.process_time() - begun
for line in open("/proc/self/status"):
    if line.startswith("VmHWM:"):
        print(took, line.split()[1])
"""
OURS: Final = (
    """\
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.dsse import Envelope
from margo_supplychain.provenance.chain import LinkFile, ReleaseFacts, verify_chain
from margo_supplychain.provenance.layouts import read_layout
from margo_supplychain.threshold import distinct_signers
from securesystemslib.signer import SSlibKey
import cryptography.hazmat.primitives.asymmetric.ec, json

place = Path(sys.argv[1])
links = [one for one in sorted(place.glob("*.link"))]

def files():
    for one in links:
        data = one.read_bytes()
        yield LinkFile(one.name.partition(".")[0], Digest.of(data), data)

begun = time.process_time()
layout, envelope = read_layout((place / "root.layout").read_bytes(), what="layout")
boss = json.loads((place / "boss.json").read_bytes())
public = SSlibKey.from_dict(boss.pop("keyid"), boss)
assert distinct_signers(envelope.pae, envelope.signatures, {public.keyid: public})
release = ReleaseFacts(Digest.of(b"{}"), {})
found = verify_chain(
    layout, files(), release, now=datetime(2027, 1, 1, tzinfo=UTC),
    expires=layout.expires, revoked={},
)
assert not found.findings, found.findings
"""
    + SAID
)
THEIRS: Final = (
    """\
import json, sys, time
from pathlib import Path
from in_toto.models.metadata import Metadata
from in_toto.verifylib import in_toto_verify
import cryptography.hazmat.primitives.asymmetric.ec

place = Path(sys.argv[1])
begun = time.process_time()
layout = Metadata.load(str(place / "root.layout"))
boss = json.loads((place / "boss.json").read_bytes())
in_toto_verify(layout, {boss["keyid"]: boss}, link_dir_path=str(place))
"""
    + SAID
)
BARE: Final = "import time\nbegun = time.process_time()\n" + SAID


class Took(NamedTuple):
    """Processor seconds of a verification, MiB of its process at the peak."""

    seconds: float
    peak: float


def artifacts(count: int, seed: str) -> dict[str, dict[str, str]]:
    """Return so many files as a link names them."""
    return {
        f"out/module-{number % 97}/part-{number}.o": {
            "sha256": hashlib.sha256(f"{seed} {number}".encode()).hexdigest()
        }
        for number in range(count)
    }


def release(count: int, seed: str) -> tuple[bytes, dict[str, bytes]]:
    """Return a layout's envelope and the link of each step."""
    built = artifacts(count, seed)
    matched = ("MATCH", "*", "WITH", "PRODUCTS", "FROM", "build")
    steps = [
        step(
            "build",
            "builder",
            materials=[("ALLOW", "src/*"), CLOSED],
            products=[("CREATE", "*"), CLOSED],
        ),
        step(
            "package",
            "packager",
            materials=[matched, CLOSED],
            products=[("REQUIRE", "release/manifest"), ("CREATE", "*"), CLOSED],
        ),
    ]
    made = {"release/manifest": {"sha256": ARTIFACT.hex}}
    links = {
        "build": link("build", materials={}, products=built),
        "package": link("package", materials=built, products=made),
    }
    data = envelope(layout(steps, functionaries=STEPS.values()), "boss")
    return data, {name: envelope(one, STEPS[name]) for name, one in links.items()}


def write(place: Path, count: int) -> None:
    """Write what both verify."""
    data, links = release(count, "one")
    (place / "root.layout").write_bytes(data)
    public = key("boss").public_key
    boss = {"keyid": public.keyid, **public.to_dict()}
    (place / "boss.json").write_text(json.dumps(boss), "utf-8")
    for name, one in links.items():
        (place / f"{name}.{keyid(STEPS[name])[:8]}.link").write_bytes(one)


def run(code: str, place: Path) -> Took:
    """Verify in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(place)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=True,
    )
    seconds, peak = done.stdout.split()
    return Took(float(seconds), int(peak) / 1024)


def compare(count: int, runs: int) -> float:
    """Print what both took; return the ratio of the medians."""
    acts = {"in_toto_verify": THEIRS, "verify_chain": OURS, "(interpreter)": BARE}
    taken: dict[str, list[Took]] = {name: [] for name in acts}
    with tempfile.TemporaryDirectory(dir=PLACE) as name:
        place = Path(name)
        write(place, count)
        for _ in range(runs):
            for what, code in acts.items():
                taken[what].append(run(code, place))
    found = {
        what: Took(*(statistics.median(one) for one in zip(*each, strict=True)))
        for what, each in taken.items()
    }
    base = found["in_toto_verify"].seconds
    print(f"2 steps, {count} artifacts each, medians of {runs}")
    print(f"{'':<16}      CPU  ratio   peak MiB")
    for what, took in found.items():
        ratio = took.seconds / base
        print(f"{what:<16} {took.seconds:6.3f} s  {ratio:5.2f}   {took.peak:8.1f}")
    return found["verify_chain"].seconds / base


def verify(data: bytes, links: dict[str, bytes]) -> ChainResult:
    """Verify one release."""
    found, _ = read_layout(data, what="layout")
    files = (
        LinkFile(name, Descriptor.of(one, "a/b").digest, one)
        for name, one in links.items()
    )
    facts = ReleaseFacts(ARTIFACT, {})
    return verify_chain(found, files, facts, now=NOW, expires=found.expires, revoked={})


def at_once(count: int) -> None:
    """Verify different releases in eight threads, half of them with a wrong link."""
    releases: list[tuple[bytes, dict[str, bytes]]] = []
    for number in range(THREADS):
        data, links = release(count, f"release {number}")
        if number % 2:
            links["build"] = releases[0][1]["build"]
        releases.append((data, links))
    begun = time.perf_counter()
    alone = [verify(*one) for one in releases]
    between = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(lambda one: verify(*one), releases))
    done = time.perf_counter()
    same = together == alone
    proven = sum(not one.findings for one in together)
    print(
        f"{THREADS} releases of {count} artifacts: one after the other "
        f"{between - begun:.2f} s, {THREADS} threads {done - between:.2f} s, "
        f"{proven} proven, results {'the same' if same else 'DIFFERENT'}"
    )
    if not same or proven != THREADS // 2:
        raise SystemExit(1)


def main() -> int:
    parser = argparse.ArgumentParser(description="a chain of many artifacts")
    parser.add_argument("--artifacts", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--most", type=float, help="the ratio that is good enough")
    given = parser.parse_args()
    ratio = compare(given.artifacts, given.runs)
    at_once(given.artifacts // 20)
    return int(given.most is not None and ratio > given.most)


if __name__ == "__main__":
    raise SystemExit(main())
