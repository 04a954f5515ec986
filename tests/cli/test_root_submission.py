"""`root sign`, `root merge` and `root status` of what a vendor's holders hand in."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring.submission_changes import RoleChange, Row
from margo_supplychain.cli.submission_describe import change_lines
from tests.cli.running import run, validate
from tests.cli.test_release_submit import NAME, Market

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def market(place: Path, secret: str, monkeypatch: pytest.MonkeyPatch) -> Market:
    """The vendor bolt needs both of its keys, and one has signed bolt.tar."""
    market = Market(place, secret, monkeypatch)
    market.add_bolt(
        *("--publisher-key", "bolt/second.pub", "--publisher-threshold", "2"),
        *("--owner", "bolt/offline.pub=Olga", "--owner", "bolt/second.pub=Sven"),
    )
    assert market.add_application("--out", "bolt.tar").status == 5
    return market


def test_who_has_signed_a_submission(market: Market) -> None:
    ran = run("root", "status", "bolt.tar")
    assert ran.status == 5
    lines = ran.out.splitlines()
    assert lines[0] == "submission of bolt"
    assert lines[1].startswith("  sha256  ")
    assert lines[-3:-1] == [
        "  bolt  1 of 2  signed Olga",
        "incomplete: bolt needs 1 more of Sven",
    ]
    assert lines[-1].startswith("next: send bolt.tar to one of them: ")
    document = run("--format", "json", "root", "status", "bolt.tar").json
    validate(document, "root-submission")
    assert not document["result"]["complete"]


def test_a_submission_is_signed_and_handed_in(market: Market) -> None:
    ran = market.bolt.sign("root", "sign", "bolt.tar", "--key", "release.key", "--yes")
    assert ran.status == 2
    assert "may sign none of bolt" in ran.err
    ran = market.bolt.sign("root", "sign", "bolt.tar", "--key", "second.key", "--yes")
    assert ran.err.startswith("submission of bolt\n")
    assert f"    + application {NAME}: signed by " in ran.err
    assert f"    + policy of {NAME}: epoch 1, provenance none\n" in ran.err
    assert ran.out.startswith("signed by Sven: bolt\n")
    assert (ran.status, ran.out.splitlines()[-2:]) == (
        0,
        [
            "complete: bolt v1 has every signature it needs",
            "next: margo-supplychain release submit bolt.tar",
        ],
    )
    document = run("--format", "json", "root", "status", "bolt.tar").json
    validate(document, "root-submission")
    ran = market.bolt.sign("root", "sign", "bolt.tar", "--key", "second.key", "--yes")
    assert ran.out.startswith("unchanged: signed before\n")
    market.bolt.must("release", "submit", "bolt.tar")
    market.accept()
    assert run("app", "show", NAME).status == 0


def test_submissions_signed_apart_come_together(market: Market) -> None:
    shutil.copy("bolt.tar", "other.tar")
    market.bolt.must(
        *("root", "sign", "other.tar", "--key", "second.key", "--yes"),
        *("--out", "signed.tar"),
    )
    ran = run("root", "merge", "bolt.tar", "signed.tar", "--out", "both.tar")
    assert ran.status == 0
    assert "complete: bolt v1 has every signature it needs\n" in ran.out
    market.bolt.must("release", "submit", "both.tar")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sign", "bolt.tar", "--export-payload", "x"), "is signed by --key alone"),
        (
            ("sign", "bolt.tar", "--key-id", "0" * 12, "--import-signature", "x"),
            "is signed by --key alone",
        ),
        (("merge", "bolt.tar", "1.root.json", "--out", "x"), "root is not"),
        (("status", "cut.tar"), "ends early"),
    ],
)
def test_what_is_no_submission(
    market: Market, arguments: tuple[str, ...], message: str
) -> None:
    whole = (market.bolt.place / "bolt.tar").read_bytes()
    (market.bolt.place / "cut.tar").write_bytes(whole[:1000])
    ran = run("root", *arguments)
    assert ran.status == 2
    assert message in ran.err


def test_a_file_that_was_cut_is_asked_for_again(market: Market) -> None:
    whole = (market.bolt.place / "bolt.tar").read_bytes()
    (market.bolt.place / "cut.tar").write_bytes(whole[:-600])
    for words in (("root", "show"), ("release", "submit")):
        ran = run(*words, "cut.tar")
        assert ran.status == 2
        assert "ask whoever sent it for it again; nothing was changed" in ran.err


def test_whose_keys_count_is_said_by_the_repository(market: Market) -> None:
    (market.bolt.place / "margo-supplychain.toml").write_text('publisher = "bolt"\n')
    ran = run("root", "status", "bolt.tar")
    assert ran.status == 2
    assert "it says which keys sign a submission" in ran.err
    ran = run(
        *("root", "merge", "bolt.tar", "bolt.tar", "--out", "x"),
        *("--root", "1.root.json"),
    )
    assert ran.status == 2
    assert "let its holders sign one file one after the other" in ran.err


def test_show(market: Market) -> None:
    ran = run("root", "show", "bolt.tar")
    assert ran.status == 0
    assert f"    + application {NAME}: signed by " in ran.out
    assert "  bolt  1 of 2  signed Olga\n" in ran.out
    document = run("--format", "json", "root", "show", "bolt.tar").json
    validate(document, "root-submission")
    result = document["result"]
    (role,) = result["changes"]
    assert (role["role"], role["before"], role["version"]) == ("bolt", 0, 1)
    assert {one["change"] for one in role["changes"]} == {"added"}
    market.bolt.must("root", "sign", "bolt.tar", "--key", "second.key", "--yes")
    again = run("--format", "json", "root", "show", "bolt.tar").json["result"]
    assert again["sha256"] == result["sha256"]


def test_a_holder_with_a_key_and_a_root(market: Market) -> None:
    """Nothing of the repository is at hand; what could not be checked is said."""
    apart = market.bolt.place / "apart"
    apart.mkdir()
    for name in ("second.key", "bolt.tar", "1.root.json"):
        shutil.copy(name, apart)
    offline = ("--root", "1.root.json")
    market.at(apart)
    ran = market.bolt.sign(
        "root", "sign", "bolt.tar", *offline, "--key", "second.key", "--yes"
    )
    assert ran.status == 5
    assert f"    = application {NAME}: signed by " in ran.err
    assert f"    = policy of {NAME}: epoch 1, provenance none\n" in ran.err
    assert "not checked: which keys of the publisher count" in ran.err
    assert ": bolt\n" in ran.out
    assert "  bolt  not counted  signed " in ran.out
    assert ran.out.endswith(
        "next: send bolt.tar back to whoever has the repository: margo-supplychain "
        "root status bolt.tar\n"
    )
    document = run("--format", "json", "root", "status", "bolt.tar", *offline).json
    validate(document, "root-submission")
    assert document["result"]["complete"] is None
    # A signature that counts nowhere is dropped where the keys are known.
    ran = market.bolt.sign(
        *("root", "sign", "bolt.tar", *offline, "--yes"),
        *("--key", "../release.key", "--out", "three.tar"),
    )
    assert ran.status == 5
    market.at_bolt()
    ran = run("root", "merge", "bolt.tar", "apart/three.tar", "--out", "both.tar")
    assert (ran.status, ran.err) == (0, "")
    assert "  bolt  2 of 2  signed Olga, Sven\n" in ran.out
    market.bolt.must("release", "submit", "both.tar")
    market.accept()


def test_who_signs_sees_every_row() -> None:
    """A flood of rows hides none from who signs; elsewhere it is said how many."""
    rows = tuple(Row("said", f"row {number}") for number in range(201))
    change = RoleChange("acme", None, 2, datetime(2027, 1, 1, tzinfo=UTC), rows)
    shown = list(change_lines([change]))
    assert shown[-1] == "    and 1 more: --format json lists them"
    shown = list(change_lines([change], most=None))
    assert shown[-2:] == ["    = row 200", "    201 lines of acme: read all of them"]
