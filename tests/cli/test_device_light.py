"""What a device loads: no click in an agent, no network for files on its own disk."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.cli.plant import Plant
from tests.cli.running import environment

if TYPE_CHECKING:
    from pathlib import Path

# Where python-pkcs11 is installed, securesystemslib.signer brings it in by itself: it
# is an extra, and this says nothing about it.
NEVER: Final = {"click", "urllib3", "requests", "oras", "in_toto", "http", "asyncio"}
# A device verifies what others wrote: none of these is needed to say yes or no.
NOT_TO_VERIFY: Final = NEVER - {"click"} | {"yaml", "importlib.metadata", "getpass"}

AGENT: Final = """
import sys
from pathlib import Path
from margo_supplychain import (
    FixedContent, Pin, Policy, ReleaseName, TrustStore, Verifier, open_source)

root = Path("trust/metadata/1.root.json").read_bytes()
store = TrustStore.create(Path("state/acme"), root=root, publishers=frozenset({"acme"}))
source = open_source("trust")
verifier = Verifier(
    store=TrustStore.open(Path("state/acme")), source=source,
    content=FixedContent([source]),
    policy=Policy.from_toml(b'[policy."acme/*"]\\nrequire = ["signed"]\\n'))
name, pin = ReleaseName.parse("acme/pump-monitor"), Pin.range("^1", grammar="npm")
release = verifier.verify(name, pin)
content = verifier.fetch(release, Path("staging"))
with content.open(release.manifest.digest) as file:
    assert file.read()
verifier.confirm_running(release.manifest.digest)
"""
COMMAND: Final = """
import contextlib, io
from margo_supplychain.cli.main import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    status = main(["device", "verify", "acme/pump-monitor", "--pin", "^1.0",
                   "--state", "device"])
assert (status, out.getvalue()[:9]) == (0, "verified "), out.getvalue()
"""


def loaded_by(code: str, cwd: Path) -> set[str]:
    """Return the modules that a fresh process holds at the end."""
    tell = "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code + tell],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    return set(json.loads(done.stdout))


@pytest.fixture
def plant(place: Path) -> Plant:
    made = Plant(place)
    made.publish("1.0.0", "1.2.0")
    assert made.init().status == 0
    return made


def test_an_agent_loads_neither_command_line_nor_network(plant: Plant) -> None:
    assert loaded_by(AGENT, plant.place) & NEVER == set()


def test_verify_loads_only_what_it_needs(plant: Plant) -> None:
    assert plant.verify().status == 0
    loaded = loaded_by(COMMAND, plant.place)
    assert "click" in loaded
    assert loaded & NOT_TO_VERIFY == set()
    ours = {name for name in loaded if name.startswith("margo_supplychain.")}
    far = ("authoring", "signing", "transport.http", "verify.content", "formats.appl")
    assert {name for name in ours if name.partition(".")[2].startswith(far)} == set()
