"""`publisher add`: several publishers in one repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.running import run
from tests.cli.vendor import Vendor, files_below

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def operator(place: Path, secret: str) -> Vendor:
    """Somebody with a repository of the profile standard."""
    found = Vendor(place, secret)
    for name in ("root.key", "targets.key", "acme.key", "ci.key", "bolt.key"):
        found.key(name)
    found.must(
        *("repo", "init", "trust", "--profile", "standard", "--publisher", "acme"),
        *("--root-key", "root.key", "--targets-key", "targets.key"),
        *("--publisher-key", "acme.key", "--online-key", "ci.key"),
    )
    return found


def test_a_second_publisher_and_its_application(operator: Vendor) -> None:
    bolt = operator.key_id("bolt.key")[:12]
    (operator.place / "root.key").unlink()  # nobody asks for it
    (operator.place / "acme.key").unlink()
    ran = operator.must("publisher", "add", "bolt", "--publisher-key", "bolt.key")
    assert ran.out == (
        "added publisher bolt: 1 of 1 keys must sign\n"
        f"  keys    {bolt}\n"
        "  signed  targets v3, bolt v1, snapshot v3, timestamp v3\n"
        "next: margo-supplychain app add bolt/NAME --release-key ci.pub\n"
    )
    ran = operator.must("publisher", "add", "bolt", "--publisher-key", "bolt.key")
    assert ran.out.startswith("unchanged publisher bolt: ")
    assert "  signed  nothing, it is so already\n" in ran.out
    operator.must(
        *("app", "add", "bolt/torque", "--release-key", "ci.pub"),
        *("--key", "bolt.key", "--key", "ci.key"),
    )
    assert run("repo", "check").status == 0


def test_document(operator: Vendor) -> None:
    document = operator.sign_json(
        "publisher-add", "publisher", "add", "bolt", "--publisher-key", "bolt.key"
    )
    assert document["result"]["keyIds"] == [operator.key_id("bolt.key")]
    assert set(document["result"]["signed"]) == {
        "targets",
        "bolt",
        "snapshot",
        "timestamp",
    }


def test_thresholds(operator: Vendor) -> None:
    operator.key("more.key")
    add = (
        *("publisher", "add", "bolt", "--publisher-key", "bolt.key"),
        *("--publisher-key", "more.pub"),
    )
    ran = operator.sign(*add)
    assert ran.status == 2
    assert ran.err.startswith("error: --publisher-threshold is missing: 2 keys are gi")
    before = files_below(operator.place / "trust")
    ran = operator.sign(*add, "--publisher-threshold", "2")
    assert ran.status == 5  # whoever holds more.key has not signed
    more = operator.key_id("more.key")[:12]
    assert ran.err.startswith(f"error: bolt needs 1 more of {more} [incomplete]\n")
    assert files_below(operator.place / "trust") == before
    ran = operator.must(*add, "--publisher-threshold", "1")
    assert ran.out.startswith("added publisher bolt: 1 of 2 keys must sign\n")


def test_refusals(operator: Vendor) -> None:
    before = files_below(operator.place / "trust")
    for name, key, status, message in (
        ("acme", "bolt.key", 2, "acme exists with other keys or another threshold"),
        ("Bolt", "bolt.key", 2, "invalid value for 'name': publisher 'Bolt' is not a"),
        ("targets", "bolt.key", 2, "invalid value for 'name': publisher 'targets' is"),
        ("bolt", "absent.key", 2, "absent.key: no such file"),
        ("bolt", "margo-supplychain.toml", 2, "margo-supplychain.toml is not a public"),
    ):
        ran = operator.sign("publisher", "add", name, "--publisher-key", key)
        assert ran.status == status
        assert ran.err.lower().startswith(f"error: {message}".lower()), ran.err
    assert files_below(operator.place / "trust") == before


def test_a_simple_repository_has_no_publishers(place: Path, secret: str) -> None:
    vendor = Vendor(place, secret)
    vendor.init("simple")
    ran = vendor.sign("publisher", "add", "bolt", "--publisher-key", "offline.key")
    assert ran.status == 2
    assert ran.err.startswith(
        "error: a repository of the profile simple has no publishers"
    )
