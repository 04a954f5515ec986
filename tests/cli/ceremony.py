"""Three holders of a root at the command line, and one who takes a place of theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.cli.running import PASSPHRASE, Ran, run
from tests.cli.vendor import Vendor

if TYPE_CHECKING:
    from pathlib import Path

KEYS: Final = ("a.key", "b.key", "c.key", "d.key", "targets.key", "acme.key", "ci.key")
INIT: Final = (
    *("repo", "init", "trust", "--profile", "standard", "--publisher", "acme"),
    *("--root-key", "a.key", "--root-key", "b.key", "--root-key", "c.pub"),
    *("--root-threshold", "2", "--targets-key", "targets.key"),
    *("--publisher-key", "acme.key", "--online-key", "ci.key"),
    *("--owner", "a.key=Ada", "--owner", "b.key=Ben", "--owner", "c.pub=Cyd"),
)
FIRST: Final = "trust/metadata/1.root.json"


def prepared(place: Path) -> Path:
    """Make everybody's keys and the repository in a directory; tests take copies."""
    secret = place / "passphrase"
    secret.write_text(PASSPHRASE + "\n")
    secret.chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        vendor = Vendor(place, secret.name)
        for name in KEYS:
            vendor.key(name)
        vendor.must(*INIT)
    return place


def short(vendor: Vendor, name: str) -> str:
    return vendor.key_id(name)[:12]


def swap(vendor: Vendor, *options: str) -> Ran:
    """Propose that Dan takes Ada's place."""
    return run(
        *("root", "propose", "--replace-key", f"{short(vendor, 'a.key')}=d.pub"),
        *("--owner", "d.pub=Dan", "--out", "root-2.json", *options),
    )


def sign(vendor: Vendor, name: str, *options: str, file: str = "root-2.json") -> Ran:
    return vendor.sign("root", "sign", file, "--key", name, "--yes", *options)


def adopted(vendor: Vendor) -> None:
    assert swap(vendor).status == 0
    for name in ("a.key", "b.key", "d.key"):
        sign(vendor, name)
    vendor.must("root", "finalize", "root-2.json")
