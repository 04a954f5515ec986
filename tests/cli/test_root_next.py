"""Who is asked next: lost keys, holders without a repository, old proposals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.ceremony import FIRST, adopted, prepared, short, sign, swap
from tests.cli.running import run
from tests.cli.vendor import Vendor, files_below

if TYPE_CHECKING:
    from tests.cli.running import Ran


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the repository once; a test gets a copy."""
    return prepared(tmp_path_factory.mktemp("ceremony"))


@pytest.fixture
def vendor(place: Path, template: Path) -> Vendor:
    shutil.copytree(template, place, dirs_exist_ok=True)
    return Vendor(place, "passphrase")


def lost(vendor: Vendor) -> Ran:
    """Ben's key is lost; he has made a new one, d.key."""
    return run(
        *("root", "propose", "--replace-key", f"{short(vendor, 'b.key')}=d.pub"),
        *("--owner", "d.pub=Ben", "--out", "root-2.json"),
    )


# --- keys that leave -----------------------------------------------------------------


def test_whoever_lost_a_key_is_not_asked_for_it(vendor: Vendor) -> None:
    assert lost(vendor).status == 0
    sign(vendor, "a.key")
    ran = sign(vendor, "d.key")
    assert ran.out == (
        "signed by Ben\n"
        "signed: old root 1 of 2, new root 2 of 2\n"
        "incomplete: old root needs 1 more of Cyd, or of keys that leave: "
        f"Ben ({short(vendor, 'b.key')})\n"
        "next: send root-2.json to Cyd: margo-supplychain root sign root-2.json --key …"
        "\n"
    )
    ran = vendor.sign("root", "finalize", "root-2.json")
    assert "hint: send root-2.json to Cyd: " in ran.err


def test_a_ceremony_that_needs_a_lost_key_says_so(vendor: Vendor) -> None:
    b, c = short(vendor, "b.key"), short(vendor, "c.key")
    ran = run(
        *("root", "propose", "--replace-key", f"{b}=d.pub"),
        *("--replace-key", f"{c}=acme.pub", "--out", "root-2.json"),
    )
    told = (
        "1 of the 2 root keys that leave must sign it: if they are lost, nobody can "
        "adopt this root"
    )
    assert told in ran.out
    ran = run("root", "rehearse", "root-2.json")
    assert ran.status == 0
    lines = ran.out.splitlines()
    assert f"  {told}" in lines
    assert f"  Ben ({b}) signs with a key that leaves: old and new root are" in ran.out
    document = run("--format", "json", "root", "rehearse", "root-2.json").json
    assert document["result"]["leavingKeysNeeded"] == 1
    ran = sign(vendor, "a.key")
    assert (
        f"old root needs 1 more of keys that leave: Ben ({b}), Cyd ({c}); new"
        in ran.out
    )


# --- the next command ----------------------------------------------------------------


def test_the_next_command_has_what_was_typed(vendor: Vendor) -> None:
    swap(vendor)
    shutil.copy(FIRST, "my root.json")
    at = ("--root", "my root.json")
    ran = run("root", "sign", "root-2.json", *at, "--export-payload", "payload")
    assert ran.out.splitlines()[-1] == (
        "next: margo-supplychain root sign root-2.json --root 'my root.json' "
        "--import-signature FILE --key-id ID"
    )
    ran = run("root", "show", "root-2.json", *at)
    assert "root sign root-2.json --root 'my root.json' --key …\n" in ran.out
    for name in ("b.key", "c.key"):
        sign(vendor, name)
    ran = vendor.must("root", "finalize", "root-2.json", "--repo", "trust")
    assert ran.out.endswith("next: margo-supplychain repo check --repo trust\n")


def test_a_holder_sends_a_complete_proposal_back(vendor: Vendor) -> None:
    swap(vendor)
    sign(vendor, "b.key", "--root", FIRST)
    ran = sign(vendor, "c.key", "--root", FIRST)
    back = (
        "next: send root-2.json to whoever proposed it: margo-supplychain root finalize"
        " root-2.json"
    )
    assert ran.out.splitlines()[-1].startswith(back)
    ran = run("root", "status", "root-2.json", "--root", FIRST)
    assert ran.out.splitlines()[-1].startswith(back)
    ran = run("root", "status", "root-2.json")
    assert ran.out.endswith("next: margo-supplychain root finalize root-2.json\n")


def test_only_a_first_root_is_for_a_new_repository(vendor: Vendor) -> None:
    swap(vendor)
    shutil.rmtree("trust")
    Path("margo-supplychain.toml").unlink()
    ran = run("root", "finalize", "root-2.json")
    assert ran.status == 2
    assert "error: --repo is missing" in ran.err
    assert "repo init" not in ran.err


def test_one_file_is_no_files(vendor: Vendor) -> None:
    swap(vendor)
    ran = run("root", "merge", "root-2.json", "--out", "merged.json")
    assert ran.out.startswith("merged 1 file into merged.json\n")


# --- old proposals -------------------------------------------------------------------


@pytest.mark.parametrize("command", ["status", "show", "rehearse"])
def test_an_adopted_proposal_is_called_so(vendor: Vendor, command: str) -> None:
    adopted(vendor)
    ran = run("root", command, "root-2.json")
    assert ran.status == 2
    assert "root v2 is adopted already: nobody must sign it any more" in ran.err


def test_another_root_was_faster(vendor: Vendor) -> None:
    run("root", "propose", "--out", "slow.json")
    adopted(vendor)
    for arguments in (
        ("root", "status", "slow.json"),
        ("root", "merge", "slow.json", "--out", "merged.json"),
    ):
        ran = run(*arguments)
        assert ran.status == 2
        assert "another root v2 is adopted: that one has sha256 " in ran.err
    ran = vendor.sign("root", "finalize", "slow.json")
    assert "hint: it is void: propose what it changes anew" in ran.err


def test_an_unsigned_copy_of_what_stands_asks_nobody(vendor: Vendor) -> None:
    swap(vendor)
    shutil.copy("root-2.json", "copy.json")
    for name in ("b.key", "c.key"):
        sign(vendor, name)
    vendor.must("root", "finalize", "root-2.json")
    before = files_below(vendor.place / "trust")
    ran = run("root", "finalize", "copy.json")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith("unchanged: root v2 is adopted in trust\n")
    assert files_below(vendor.place / "trust") == before


def test_an_adopted_root_that_others_follow(vendor: Vendor) -> None:
    adopted(vendor)
    run("root", "propose", "--out", "root-3.json")
    for name in ("b.key", "c.key"):
        sign(vendor, name, file="root-3.json")
    vendor.must("root", "finalize", "root-3.json")
    ran = run("root", "status", "root-2.json")
    assert "root v2 is adopted already, and root v3 now: nobody must sign" in ran.err


# --- what is typed -------------------------------------------------------------------


def test_an_owner_of_a_key_that_stands(vendor: Vendor) -> None:
    ran = run("root", "propose", "--owner", "a.pub=Ada B", "--owner", "ci.key=robot")
    assert ran.status == 0, ran.err
    assert f"holder     {short(vendor, 'a.key')} Ada B (was Ada)" in ran.out
    signed = json.loads(Path("root-2.json").read_bytes())["signed"]
    assert signed["x-holders"][vendor.key_id("ci.key")]["name"] == "robot"


def test_a_plan_with_a_publisher(vendor: Vendor) -> None:
    plan = run("root", "show", "--as-plan").out
    Path("plan.toml").write_text(f'publisher = "acme"\n{plan}')
    ran = run("root", "propose", "--plan", "plan.toml")
    assert ran.status == 2
    assert "plan.toml.publisher is acme, and the profile of this repository" in ran.err
    assert "hint: leave it out: publishers are added by `publisher add`" in ran.err


def test_a_root_that_is_none_is_named(vendor: Vendor) -> None:
    swap(vendor)
    ran = sign(vendor, "a.key", "--root", FIRST, "--root", "a.pub")
    assert ran.status == 2
    assert "error: a.pub: root is not JSON" in ran.err
