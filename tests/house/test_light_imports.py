"""The package costs nothing until it is used: a device pays at every start."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.attacks.proven import PROVEN, running
from tests.world import World
from tests.world.device import SIGNED
from tests.world.on_disk import write_files

HEAVY = {
    "asyncio",
    "click",
    "cryptography",
    "http",
    "in_toto",
    "oras",
    "requests",
    "securesystemslib",
    "semver",
    "tuf",
    "urllib3",
    "yaml",
}


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after `code`."""
    return {name.partition(".")[0] for name in loaded(code)}


def loaded(code: str) -> set[str]:
    """Return all modules that a fresh interpreter holds after `code`."""
    package = importlib.util.find_spec("margo_supplychain")
    assert package is not None
    assert package.submodule_search_locations
    # The same package that these tests use: the wheel's, or the working tree's.
    where = Path(next(iter(package.submodule_search_locations))).parent
    print_modules = "import json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{code}\n{print_modules}"],
        env=os.environ | {"PYTHONPATH": str(where)},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return set(json.loads(done.stdout))


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = loaded_by("import margo_supplychain")
    assert "margo_supplychain" in loaded
    assert loaded & HEAVY == set()


def test_importing_the_errors_loads_nothing_heavy() -> None:
    assert loaded_by("import margo_supplychain.errors") & HEAVY == set()


# --- a whole verification ------------------------------------------------------------

VERIFY: Final = """
import sys
RUNS = ("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn")

def refuse(event, arguments):
    if event.startswith(RUNS):
        raise RuntimeError(f"a verification runs {{arguments!r}}")

sys.addaudithook(refuse)
from datetime import UTC, datetime
from pathlib import Path
from margo_supplychain import (
    FixedContent, Pin, Policy, ReleaseName, TrustStore, Verifier, open_source)

class Clock:
    def now(self):
        return datetime(2026, 11, 21, 10, 30, tzinfo=UTC)

where = Path({where!r})
store = TrustStore.create(
    where / "state", root=(where / "trust/metadata/1.root.json").read_bytes(),
    publishers=frozenset({{"acme"}}))
source = open_source(str(where / "trust"))
verifier = Verifier(
    store=store, source=source, content=FixedContent([source]), clock=Clock(),
    policy=Policy.from_toml({policy!r}))
name, pin = ReleaseName.parse("acme/pump-monitor"), Pin.range("*", grammar="npm")
release = verifier.verify(name, pin)
proven = next(one for one in release.report.steps if one.number == 4)
assert proven.facts["provenance"] == {tier!r}, proven
content = verifier.fetch(release, where / "staging")
with content.open(release.manifest.digest) as file:
    assert file.read()
"""
# Judging runs nothing and needs no client of registries. (securesystemslib itself loads
# `subprocess`, and never uses it here.)
NEVER: Final = {"asyncio", "click", "in_toto", "oras", "requests"}


def modules_of(directory: Path, policy: bytes, tier: str) -> set[str]:
    return loaded(VERIFY.format(where=str(directory), policy=policy, tier=tier))


def test_verification_without_provenance_loads_none_of_it(tmp_path: Path) -> None:
    world = World()
    world.release("1.0.0")
    write_files(world.publish(), tmp_path / "trust")
    found = modules_of(tmp_path, SIGNED, "none")
    assert {name.partition(".")[0] for name in found} & NEVER == set()
    ours = "margo_supplychain."
    assert not {name for name in found if name.startswith(f"{ours}provenance")}
    assert not found & {f"{ours}verify.proof", f"{ours}verify.attested"}
    assert not found & {f"{ours}formats.dsse", f"{ours}formats.statements"}


def test_verification_with_provenance_loads_no_tool(tmp_path: Path) -> None:
    plant = running(tmp_path)
    plant.publish(plant.run("1.1.0"))
    write_files(plant.world.files, tmp_path / "trust")
    found = modules_of(tmp_path, PROVEN, "full")
    assert {name.partition(".")[0] for name in found} & NEVER == set()
    assert "margo_supplychain.provenance.chain" in found
    far = ("in_toto_models", "lint", "documents")
    assert not found & {f"margo_supplychain.provenance.{one}" for one in far}
