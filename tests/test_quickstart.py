"""`sh examples/quickstart.sh`, with the package that these tests use."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import environment
from tests.fixtures import PACKAGES
from tests.house.tree import ROOT
from tests.registries.servers import docker_registry

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = ROOT / "examples" / "quickstart.sh"
USAGE = "sh examples/quickstart.sh [--keep] [--registry HOST:PORT]"


def quickstart(
    tmp_path: Path, *options: str, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run the script without a terminal, in a temporary directory of its own."""
    variables = {"MARGO_SUPPLYCHAIN_PYTHON": sys.executable, "TMPDIR": str(tmp_path)}
    return subprocess.run(
        ["sh", str(SCRIPT), *options],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        start_new_session=True,
        env=environment(**(variables | changes)),
    )


def test_the_device_takes_the_release_and_refuses_the_older_one(
    tmp_path: Path,
) -> None:
    # Somebody else's defaults do not reach it.
    ran = quickstart(tmp_path, MARGO_SUPPLYCHAIN_REPO="elsewhere")
    assert (ran.returncode, ran.stderr) == (0, "")
    steps = [
        "created trust: root v1, publisher acme\n",
        "added acme/pump-monitor: releases are signed by ",
        "built acme/pump-monitor 1.1.0 from pump-monitor/margo.yaml (Margo v1)\n",
        "published acme/pump-monitor 1.1.0\n",
        "published acme/pump-monitor 1.2.0\n",
        "verified trust: no problem found\n",
        "verified acme/pump-monitor 1.2.0\n",
        "fetched acme/pump-monitor 1.2.0",
        "confirmed acme/pump-monitor 1.2.0",
        "$ mv ../copy-of-1.1.0 ../vendor/trust\n",
        "rejected acme/pump-monitor ^1.0\n",
        "error: timestamp v3 is older than trusted v4 [rollback]\n",
        "(exit status 3)\n",
        "runs       acme/pump-monitor 1.2.0",
    ]
    in_this_order(steps, ran.stdout)
    assert "Traceback" not in ran.stdout
    assert list(tmp_path.iterdir()) == []


def in_this_order(steps: list[str], text: str) -> None:
    at = 0
    for step in steps:
        found = text.find(step, at)
        assert found != -1, f"{step!r} is not in\n{text[at:]}"
        at = found + len(step)


def test_the_same_in_a_registry_whose_owner_is_the_attacker(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with docker_registry(tmp_path / "registry") as registry:
        ran = quickstart(scratch, "--registry", registry.host)
        assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
        ours = re.escape(f"{registry.host}/quickstart-") + "[0-9]+-[0-9]+"
        trust = re.search(rf"oci://{ours}/trust\b", ran.stdout)
        assert trust is not None
        repository = trust[0].removeprefix(f"oci://{registry.host}/")
        steps = [
            "added acme/pump-monitor: releases are signed by ",
            f"$ margo-supplychain repo push {trust[0]}\n",
            "published acme/pump-monitor 1.1.0\n",
            f"repoint_tag.py {registry.host}/{repository} timestamp\nsha256:",
            "published acme/pump-monitor 1.2.0\n",
            f"verified {trust[0]}: no problem found\n",
            f"--source {trust[0]} ",
            "verified acme/pump-monitor 1.2.0\n",
            "fetched acme/pump-monitor 1.2.0",
            "confirmed acme/pump-monitor 1.2.0",
            # The tag moved, and nobody was impressed.
            f"{repository.removesuffix('trust')}pump-monitor 1.2.0 sha256:",
            "fetched acme/pump-monitor 1.2.0",
            f"{registry.host}/{repository} timestamp sha256:",
            "rejected acme/pump-monitor ^1.0\n",
            "error: timestamp v3 is older than trusted v4 [rollback]\n",
            f"hint: {trust[0]} serves an old copy; do not install, report it",
            "(exit status 3)\n",
            "runs       acme/pump-monitor 1.2.0",
            f"left in the registry: {registry.host}/quickstart-",
        ]
        in_this_order(steps, ran.stdout)
        assert "Traceback" not in ran.stdout
        assert list(scratch.iterdir()) == []
        # What is left there is in nobody's way.
        assert quickstart(scratch, f"--registry={registry.host}").returncode == 0


def test_a_registry_that_does_not_answer_is_named(tmp_path: Path) -> None:
    ran = quickstart(tmp_path, "--registry", "127.0.0.1:1")
    assert ran.returncode == 4
    assert "127.0.0.1:1" in ran.stdout.splitlines()[-2]
    assert list(tmp_path.iterdir()) == []


def test_a_registry_that_wants_a_login_is_refused_at_once(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with docker_registry(tmp_path / "registry", auth="basic") as registry:
        ran = quickstart(scratch, "--registry", registry.host)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"quickstart: {registry.host} wants a login; take a" in ran.stderr
    assert list(scratch.iterdir()) == []


def test_what_it_prints_can_be_typed(tmp_path: Path) -> None:
    """Each command works as it stands there: the private key's safe is kept, too."""
    ran = quickstart(tmp_path, "--keep")
    assert ran.returncode == 0
    typed = re.findall(r"^\$ (.*)$", ran.stdout, re.MULTILINE)
    assert len([one for one in typed if one.startswith("margo-supplychain ")]) >= 12
    assert "margo-supplychain device verify acme/pump-monitor --pin '^1.0'" in typed
    kept = next(tmp_path.iterdir())
    assert ran.stdout.endswith(f"kept: {kept}\n")
    assert (kept / "safe").stat().st_mode & 0o077 == 0
    assert (kept / "vendor" / "passphrase").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("options", "python", "status", "message"),
    [
        (["--help-me"], sys.executable, 2, f"usage: {USAGE}\n"),
        (["--registry"], sys.executable, 2, f"usage: {USAGE}\n"),
        (["--keep", "127.0.0.1:5000"], sys.executable, 2, f"usage: {USAGE}\n"),
        ([], "/nonexistent/python", 1, "has no margo_supplychain"),
    ],
)
def test_it_says_why_it_can_not_begin(
    tmp_path: Path, options: list[str], python: str, status: int, message: str
) -> None:
    ran = quickstart(tmp_path, *options, MARGO_SUPPLYCHAIN_PYTHON=python)
    assert ran.returncode == status
    assert message in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_its_package_is_one_that_the_tests_know() -> None:
    def files(directory: Path) -> dict[str, bytes]:
        return {
            path.relative_to(directory).as_posix(): path.read_bytes()
            for path in directory.rglob("*")
            if path.is_file()
        }

    example = ROOT / "examples" / "pump-monitor"
    assert files(example) == files(PACKAGES / "pump-monitor")
