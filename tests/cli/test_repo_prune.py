"""`repo prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.running import run, run_json
from tests.cli.vendor import Vendor

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def vendor(place: Path, secret: str) -> Vendor:
    vendor = Vendor(place, secret)
    vendor.application()
    for _ in range(4):
        vendor.must("repo", "refresh")
    return vendor


def test_prune(vendor: Vendor) -> None:
    ran = run("repo", "prune")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith("pruned trust: 0 old metadata files removed, ")
    ran = run("repo", "prune", "--keep", "3")
    assert ran.status == 0
    lines = ran.out.splitlines()
    assert lines[0].startswith("pruned trust: 3 old metadata files removed, ")
    assert lines[1:4] == [
        "  1.snapshot.json",
        "  2.snapshot.json",
        "  3.snapshot.json",
    ]
    result = run_json("repo-prune", "repo", "prune", "--keep", "1")["result"]
    assert result["removed"] == ["1.acme.json", "4.snapshot.json"]
    assert run("repo", "check").status == 0
    vendor.must("repo", "refresh")


def test_many_names(vendor: Vendor) -> None:
    for _ in range(12):
        vendor.must("repo", "refresh")
    ran = run("repo", "prune", "--keep", "1")
    assert "  and 7 more\n" in ran.out


def test_usage(vendor: Vendor) -> None:
    assert run("repo", "prune", "--keep", "0").status == 2
    ran = run("repo", "prune", "--repo", "nowhere")
    assert ran.status == 2
    toml = vendor.place / "margo-supplychain.toml"
    toml.unlink()
    ran = run("repo", "prune", "--repo", "oci://127.0.0.1:9/acme/trust")
    assert ran.status == 2, ran.err
    assert "is not asked for its own first root" in ran.err
