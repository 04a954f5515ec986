"""`publisher`: several publishers in one repository, their keys, and who must act."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import Terminal, run, run_json
from tests.cli.vendor import Vendor, date, files_below

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


@pytest.fixture
def vendors(operator: Vendor) -> Vendor:
    """The same operator, with the publisher bolt and its application torque."""
    operator.must(
        *("publisher", "add", "bolt", "--publisher-key", "bolt.key"),
        *("--owner", "bolt.key=holder B"),
    )
    operator.must(
        *("app", "add", "bolt/torque", "--release-key", "ci.pub"),
        *("--owner", "ci.pub=build machine", "--key", "bolt.key", "--key", "ci.key"),
    )
    return operator


# --- add -----------------------------------------------------------------------------


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


def test_public_keys_alone(operator: Vendor) -> None:
    """Two of three: the operator has none of the private keys."""
    for name in ("a.key", "b.key", "c.key"):
        operator.key(name)
        (operator.place / name).unlink()
    keys = ("a.pub", "b.pub", "c.pub")
    ran = operator.must(
        *("publisher", "add", "bolt", "--publisher-threshold", "2"),
        *(part for one in keys for part in ("--publisher-key", one)),
        *("--owner", "a.pub=holder A", "--owner", "b.pub=holder B"),
    )
    ids = [operator.key_id(one)[:12] for one in keys]
    assert ran.out == (
        "added publisher bolt: 2 of 3 keys must sign\n"
        f"  keys    {ids[0]} holder A; {ids[1]} holder B; {ids[2]}\n"
        "  role    signed with its first submission\n"
        "  signed  targets v3, snapshot v3, timestamp v3\n"
        "next: bolt signs: margo-supplychain app add bolt/NAME --release-key ci.pub "
        "--submit INBOX\n"
    )
    assert run("repo", "check").status == 0
    ran = run("repo", "status", "--within", "1h")
    assert ran.status == 0
    assert (
        "  bolt                 -        0 of 2  -           signed with its first su"
        in (ran.out)
    )
    ran = run("publisher", "show", "bolt")
    assert ran.out == (
        "bolt\n"
        "  role          not signed yet: signed with its first submission, by 2 of "
        f"holder A, holder B, {ids[2]}\n"
        "  threshold     2 of 3 keys must sign\n"
        f"  key           {ids[0]}  holder A\n"
        f"  key           {ids[1]}  holder B\n"
        f"  key           {ids[2]}  holder not named\n"
        "  applications  none\n"
        "next: margo-supplychain repo status\n"
    )


def test_what_a_public_key_file_records_is_signed(operator: Vendor) -> None:
    """Where a vendor's key lies and how it is kept comes with its `.pub` file; nobody
    looks for the token here."""
    operator.key("hsm.key")
    path = operator.place / "hsm.pub"
    recorded = b"uri: pkcs11:token=vendor;object=k\ncustody: never-extractable\n"
    path.write_bytes(recorded + path.read_bytes())
    ran = operator.must(
        *("publisher", "add", "bolt", "--publisher-key", "hsm.pub"),
        *("--owner", "hsm.pub=holder B"),
    )
    text = "holder B, token vendor, never-extractable\n"
    assert f"{operator.key_id('hsm.key')[:12]} {text}" in ran.out
    assert "signed with its first submission" in ran.out
    assert text in run("publisher", "show", "bolt").out


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
    ran = operator.must(*add, "--publisher-threshold", "1")
    assert ran.out.startswith("added publisher bolt: 1 of 2 keys must sign\n")


def test_the_same_key_twice_is_refused(operator: Vendor) -> None:
    """Two of three keys was meant; two of two would be signed."""
    operator.key("more.key")
    shutil.copy(operator.place / "bolt.pub", operator.place / "copy.pub")
    bolt = operator.key_id("bolt.key")[:12]
    before = files_below(operator.place / "trust")
    for command, option in (
        (("publisher", "add", "bolt"), "--publisher-key"),
        (("publisher", "rotate", "acme"), "--publisher-key"),
        (("app", "add", "acme/torque"), "--release-key"),
    ):
        both = (*command, option, "more.pub", option, "bolt.pub")
        kind = "--" if command[1] == "rotate" else f"{option[:-3]}"
        needed = (f"{kind}threshold", "2")
        ran = operator.sign(*both, option, "bolt.pub", *needed)
        assert ran.status == 2
        assert ran.err.startswith(
            f"error: {option} bolt.pub is given twice: it counts once [usage]\n"
        )
        ran = operator.sign(*both, option, "copy.pub", *needed)
        assert ran.status == 2
        assert ran.err.startswith(
            f"error: bolt.pub and copy.pub are the same key, {bolt}: it counts once"
        )
    assert files_below(operator.place / "trust") == before


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
    ran = operator.sign(
        *("publisher", "add", "bolt", "--publisher-key", "bolt.key"),
        *("--owner", "other.key=holder B"),
    )
    assert ran.status == 2
    assert ran.err.startswith("error: --owner 'other.key=holder B' is not KEY=NAME wit")
    assert files_below(operator.place / "trust") == before


def test_a_simple_repository_has_no_publishers(place: Path, secret: str) -> None:
    vendor = Vendor(place, secret)
    vendor.init("simple")
    for command in (
        ("publisher", "add", "bolt", "--publisher-key", "offline.key"),
        ("publisher", "rotate", "bolt", "--publisher-key", "offline.key"),
        ("publisher", "remove", "bolt", "--yes"),
    ):
        ran = vendor.sign(*command)
        assert ran.status == 2
        assert ran.err.startswith(
            "error: a repository of the profile simple has no publishers"
        )
    assert run("publisher", "show").status == 2


# --- rotate --------------------------------------------------------------------------


def test_rotate_with_the_new_key_at_hand(vendors: Vendor) -> None:
    new = vendors.key("bolt-2.key")
    old = vendors.key_id("bolt.key")[:12]
    ran = vendors.must("publisher", "rotate", "bolt", "--publisher-key", "bolt-2.key")
    assert ran.out == (
        "rotated bolt: 1 of 1 keys must sign\n"
        f"  keys    {new}\n"
        f"  left    {old}: never to return\n"
        "  signed  targets v4, bolt v3, snapshot v5, timestamp v5\n"
        "next: margo-supplychain publisher show bolt\n"
    )
    ran = vendors.must("publisher", "rotate", "bolt", "--publisher-key", "bolt-2.key")
    assert ran.out.startswith("unchanged bolt: ")
    ran = vendors.sign("publisher", "rotate", "bolt", "--publisher-key", "bolt.key")
    assert ran.status == 2
    assert ran.err == (
        f"error: key {old} left the role bolt before [refused]\n"
        "hint: a key that left never returns: make a new one with `key generate`\n"
    )
    assert run("repo", "check").status == 0


def test_rotate_a_stolen_key(vendors: Vendor) -> None:
    """The operator has the public key alone; the vendor signs later, elsewhere."""
    new = vendors.key("bolt-2.key")
    (vendors.place / "bolt-2.key").rename(vendors.place / "elsewhere.key")
    (vendors.place / "bolt-2.pub").rename(vendors.place / "elsewhere.pub")
    rotate = ("publisher", "rotate", "bolt", "--publisher-key", "elsewhere.pub")
    before = files_below(vendors.place / "trust")
    ran = vendors.sign(*rotate)
    assert ran.status == 2
    assert ran.err.startswith(
        f"error: bolt is not signed by 1 of {new}, which are not at hand either: "
        "devices would refuse it [refused]\nhint: a lost key: name it beside the new"
    )
    assert files_below(vendors.place / "trust") == before
    document = vendors.sign_json("publisher-rotate", *rotate, "--cut-off")
    result = document["result"]
    assert (result["changed"], result["refused"]) == (True, True)
    assert result["left"] == [vendors.key_id("bolt.key")]
    assert set(result["signed"]) == {"targets", "snapshot", "timestamp"}

    assert run("repo", "check").status == 0
    ran = run("repo", "status", "--within", "1h")
    assert ran.status == 5
    assert "margo-supplychain repo refresh --role bolt" in ran.out
    assert "devices refuse it until they sign" in ran.out
    ran = run("publisher", "show", "bolt")
    assert f"{new} must sign: margo-supplychain repo refresh --role bolt" in ran.out
    ran = vendors.must(
        *("repo", "refresh", "--role", "bolt", "--key", "elsewhere.key"),
        *("--key", "ci.key"),
    )
    assert "note: bolt goes on from v2, the last file by the keys that were" in ran.err
    assert run("repo", "status", "--within", "1h").status == 0


def test_cut_off_says_what_to_do_next(vendors: Vendor) -> None:
    vendors.key("ci-2.key")
    ran = vendors.must(
        *("publisher", "rotate", "bolt/torque", "--release-key", "ci-2.pub"),
        *("--cut-off", "--key", "bolt.key", "--key", "ci.key"),
    )
    assert ran.out.startswith("cut off bolt.torque: 1 of 1 keys must sign\n")
    assert ran.out.endswith(
        "next: whoever holds the new keys signs: margo-supplychain repo refresh "
        "--role bolt.torque, after a look at what it lists\n"
    )
    assert "devices refuse bolt.torque from now on" in ran.err
    vendors.must(
        *("repo", "refresh", "--role", "bolt.torque"),
        *("--key", "ci-2.key", "--key", "ci.key"),
    )
    assert run("repo", "check").status == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("bolt",),
        ("bolt", "--release-key", "ci.pub"),
        ("bolt/torque", "--publisher-key", "bolt.key"),
        ("bolt", "--publisher-key", "bolt.key", "--release-key", "ci.pub"),
    ],
)
def test_rotate_takes_the_keys_of_its_kind(
    vendors: Vendor, arguments: tuple[str, ...]
) -> None:
    ran = vendors.sign("publisher", "rotate", *arguments)
    assert ran.status == 2
    assert ran.err.startswith(f"error: {arguments[0]} takes --")


def test_rotate_of_nobody(vendors: Vendor) -> None:
    ran = vendors.sign("publisher", "rotate", "zeta", "--publisher-key", "bolt.key")
    assert ran.status == 2
    assert ran.err.startswith("error: there is no role zeta here [refused]\n")


# --- remove --------------------------------------------------------------------------


def test_remove(vendors: Vendor) -> None:
    bolt = vendors.key_id("bolt.key")[:12]
    ran = vendors.must("publisher", "remove", "bolt", "--yes")
    assert ran.out == (
        "removed bolt\n"
        f"  keys    {bolt}: never to return\n"
        "  signed  targets v4, snapshot v5, timestamp v5\n"
        "next: margo-supplychain publisher show\n"
    )
    assert ran.err == (
        "note: devices will refuse bolt; what they run of it keeps running, and can't "
        "be withdrawn any more\n"
        "note: that is 1 application: bolt/torque\n"
        "note: its keys never return to it, also if it is added again\n"
    )
    assert run("repo", "check").status == 0
    ran = run("publisher", "show")
    assert "removed: bolt\n" in ran.out
    ran = run("publisher", "show", "bolt")
    assert ran.status == 2
    assert ran.err.startswith("error: bolt is no longer a publisher here: it was remo")
    ran = vendors.must("publisher", "remove", "bolt", "--yes")
    assert ran.out.startswith("unchanged: no longer delegated: bolt\n")
    ran = vendors.sign("publisher", "remove", "zeta", "--yes")
    assert ran.status == 2


def test_remove_an_application(vendors: Vendor) -> None:
    document = vendors.sign_json(
        *("publisher-remove", "publisher", "remove", "bolt/torque", "--yes"),
        *("--key", "bolt.key", "--key", "ci.key"),
    )
    assert document["result"]["role"] == "bolt.torque"
    assert document["result"]["left"] == [vendors.key_id("ci.key")]
    assert run("repo", "check").status == 0
    vendors.key("ci-2.key")
    vendors.must(
        *("app", "add", "bolt/torque", "--release-key", "ci-2.pub"),
        *("--key", "bolt.key", "--key", "ci.key"),
    )


def test_remove_asks(vendors: Vendor) -> None:
    before = files_below(vendors.place / "trust")
    remove = ("publisher", "remove", "bolt", "--passphrase-file", vendors.secret)
    terminal = Terminal(*remove, cwd=vendors.place)
    assert terminal.answer([("remove bolt? [y/N] ", "n\n")]) == 2
    assert "the answer was no" in terminal.text
    assert files_below(vendors.place / "trust") == before
    terminal = Terminal(*remove, cwd=vendors.place)
    assert terminal.answer([("remove bolt? [y/N] ", "y\n")]) == 0
    assert "removed bolt" in terminal.text


# --- show ----------------------------------------------------------------------------


def test_show(vendors: Vendor) -> None:
    ran = run("publisher", "show")
    assert ran.status == 0
    acme, bolt = (vendors.key_id(one)[:12] for one in ("acme.key", "bolt.key"))
    year, half = (f"{date(days)}, in {days} days" for days in (365, 180))
    assert ran.out == (
        "acme\n"
        f"  role          v1 until {year}\n"
        "  threshold     1 of 1 keys must sign\n"
        f"  key           {acme}  holder not named\n"
        "  applications  none\n"
        "bolt\n"
        f"  role       v2 until {year}\n"
        "  threshold  1 of 1 keys must sign\n"
        f"  key        {bolt}  holder B\n"
        f"  torque     v1 until {half}, by build machine\n"
        "next: margo-supplychain publisher show acme\n"
    )
    document = run_json("publisher-show", "publisher", "show", "bolt")["result"]
    (found,) = document["publishers"]
    assert found["keys"] == [
        {
            "keyId": vendors.key_id("bolt.key"),
            "holder": "holder B",
            "custody": None,
            "place": None,
        }
    ]
    assert [one["name"] for one in found["applications"]] == ["bolt/torque"]
    assert found["applications"][0]["keys"][0]["keyId"] == (vendors.key_id("ci.key"))
    ran = run("publisher", "show", "zeta")
    assert ran.status == 2
    assert ran.err.startswith("error: there is no publisher zeta here [refused]\n")


def test_show_of_nobody(operator: Vendor) -> None:
    operator.must("publisher", "remove", "acme", "--yes")
    assert run("publisher", "show").out == (
        "removed: acme\nno publisher here yet\nnext: margo-supplychain repo status\n"
    )


def test_show_of_many_applications(operator: Vendor) -> None:
    for number in range(22):
        operator.must("app", "add", f"acme/app-{number}", "--release-key", "ci.pub")
    ran = run("publisher", "show", "acme")
    assert ran.out.count("  app-") == 20
    assert "and 2 applications more\n" in ran.out


def test_show_says_who_must_act(vendors: Vendor) -> None:
    ran = run("publisher", "show", "bolt", "--within", "400d")
    assert "; holder B must sign: margo-supplychain repo refresh --role bolt\n" in (
        ran.out
    )
