"""`sh examples/hsm/ceremony.sh`, with the package that these tests use."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import environment
from tests.house.tree import ROOT
from tests.softhsm import soft_module
from tests.test_quickstart import in_this_order

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = ROOT / "examples" / "hsm" / "ceremony.sh"


def ceremony(
    tmp_path: Path, *options: str, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run the script without a terminal, in a temporary directory of its own."""
    variables = {
        "MARGO_SUPPLYCHAIN_PYTHON": sys.executable,
        "SOFTHSM2_MODULE": str(soft_module()),
        "TMPDIR": str(tmp_path),
    }
    return subprocess.run(
        ["sh", str(SCRIPT), *options],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        start_new_session=True,
        env=environment(**(variables | changes)),
    )


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Play it once, with what it left; somebody else's defaults do not reach it."""
    place = tmp_path_factory.mktemp("ceremony")
    ran = ceremony(
        place,
        "--keep",
        MARGO_SUPPLYCHAIN_REPO="elsewhere",
        MARGO_SUPPLYCHAIN_PKCS11_MODULE="/nonexistent/module.so",
        SOFTHSM2_CONF="/nonexistent/softhsm2.conf",
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr
    (kept,) = place.iterdir()
    assert ran.stdout.endswith(f"kept: {kept}\n")
    return ran.stdout, kept


def test_two_of_three_make_a_root_and_replace_a_key(played: tuple[str, Path]) -> None:
    text, _ = played
    in_this_order(
        [
            "ada$ margo-supplychain key generate --uri 'pkcs11:token=root-a;",
            "(ecdsa P-256, never-extractable)",
            "ben$ margo-supplychain key generate",
            "cyd$ margo-supplychain key generate",
            "proposed root v1: ../stick/root-1.json\n",
            "root v1, the first\n",
            "signed by Ada\nsigned: root 1 of 2\n",
            "incomplete: root needs 1 more of Ben, Cyd\n",
            "(exit status 5)\n",
            "signed by Cyd\nsigned: root 1 of 2\n",
            "merged 2 files into root-1.json\nsigned: root 2 of 2\n",
            "created trust: root v1, publisher acme\n",
            "published acme/pump-monitor 1.2.0\n",
            "device$ margo-supplychain device init --root root.json",
            "verified acme/pump-monitor 1.2.0\n",
            "confirmed acme/pump-monitor 1.2.0",
            "proposed root v2: ../stick/root-2.json\nroot v1 -> v2",
            "leaves",
            "office$ margo-supplychain root rehearse ../stick/root-2.json\n",
            "ada$ margo-supplychain root sign ../stick/root-2.json --root",
            "signed by Ada\nsigned: old root 1 of 2, new root 1 of 2\n",
            "office$ margo-supplychain root finalize ../stick/root-2.json",
            "[incomplete]\n",
            "(exit status 5)\n",
            "signed by Ben\nsigned: old root 2 of 2, new root 2 of 2\n",
            "adopted root v2 in trust\n",
            "verified trust: no problem found\n",
            "published acme/pump-monitor 1.3.0\n",
            "device$ margo-supplychain device verify acme/pump-monitor",
            "verified acme/pump-monitor 1.3.0\n",
            "root v2",
            "confirmed acme/pump-monitor 1.3.0",
        ],
        text,
    )
    assert "Traceback" not in text


def test_nobody_reaches_the_token_of_somebody_else(played: tuple[str, Path]) -> None:
    _, kept = played
    tokens = {
        one.name: [path.name for path in (one / ".softhsm" / "tokens").iterdir()]
        for one in kept.iterdir()
        if (one / ".softhsm" / "tokens").is_dir()
    }
    assert set(tokens) == {"ada", "ben", "cyd"}
    assert all(len(found) == 1 for found in tokens.values())
    for one in ("ada", "ben", "cyd"):
        for file in ("pin", ".softhsm"):
            assert (kept / one / file).stat().st_mode & 0o077 == 0
    # What went from hand to hand holds no secret.
    on_stick = b"".join(path.read_bytes() for path in (kept / "stick").iterdir())
    assert b"PRIVATE" not in on_stick
    for one in ("ada", "ben", "cyd"):
        assert (kept / one / "pin").read_bytes().strip() not in on_stick


def test_what_it_prints_can_be_typed(played: tuple[str, Path]) -> None:
    text, _ = played
    typed = re.findall(r"^(\w+)\$ (.*)$", text, re.MULTILINE)
    assert {who for who, _ in typed} == {"ada", "ben", "cyd", "office", "device"}
    commands = [what for _, what in typed if what.startswith("margo-supplychain ")]
    assert len(commands) >= 20
    assert "margo-supplychain device verify acme/pump-monitor --pin '^1.0'" in commands


def test_it_says_why_it_can_not_begin(tmp_path: Path) -> None:
    ran = ceremony(tmp_path, "--help-me")
    assert ran.returncode == 2
    assert ran.stderr == "usage: sh examples/hsm/ceremony.sh [--keep]\n"
    ran = ceremony(tmp_path, MARGO_SUPPLYCHAIN_PYTHON="/nonexistent/python")
    assert ran.returncode == 1
    assert "has no margo_supplychain" in ran.stderr
    ran = ceremony(tmp_path, SOFTHSM2_MODULE="/nonexistent/module.so")
    assert ran.returncode == 1
    assert "no module /nonexistent/module.so; say where it is" in ran.stderr
    assert list(tmp_path.iterdir()) == []
