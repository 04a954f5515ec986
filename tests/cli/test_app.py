"""`app add`, `app policy`, `app show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.running import run, run_json
from tests.cli.vendor import NAME, Vendor, date, files_below

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def vendor(place: Path, secret: str) -> Vendor:
    found = Vendor(place, secret)
    found.init()
    return found


def add(vendor: Vendor, *options: str) -> None:
    vendor.must("app", "add", NAME, "--release-key", "ci.pub", *options)


def test_add(vendor: Vendor) -> None:
    ci = vendor.key_id("ci.key")[:12]
    ran = vendor.must("app", "add", NAME, "--release-key", "ci.pub")
    assert ran.out == (
        f"added {NAME}: releases are signed by {ci}\n"
        "  policy  epoch 1, provenance none\n"
        "  signed  acme v2, acme.pump-monitor v1, snapshot v2, timestamp v2\n"
        "next: margo-supplychain release build DIR --output dist\n"
    )
    # The private key's public half is meant where it lies beside.
    ran = vendor.must("app", "add", NAME, "--release-key", "ci.key")
    assert ran.out.startswith(f"unchanged {NAME}: ")


def test_add_with_demands(vendor: Vendor) -> None:
    document = vendor.sign_json(
        *("app", "app", "add", NAME, "--release-key", "ci.pub"),
        *("--provenance", "required", "--minimum-version", "1.2.0"),
    )
    policy = document["result"]["policy"]
    (warning,) = document["result"]["warnings"]
    assert warning.startswith(f"provenance of {NAME} is required, and no layout is cu")
    assert (policy["provenance"], policy["minimumVersion"]) == ("required", "1.2.0")
    vendor.build()
    ran = vendor.sign("release", "publish", "dist")
    assert ran.status == 2
    assert "demands provenance" in ran.err


def test_only_the_offline_key_adds(vendor: Vendor) -> None:
    (vendor.place / "offline.key").unlink()
    before = files_below(vendor.place / "trust")
    ran = vendor.sign("app", "add", NAME, "--release-key", "ci.pub")
    assert ran.status == 5
    assert "error: acme needs 1 more of " in ran.err
    assert files_below(vendor.place / "trust") == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NAME,), "--release-key is missing: who signs its releases?"),
        (("pump-monitor", "--release-key", "ci.pub"), "invalid value for 'PUBLISHER/"),
        ((NAME, "--release-key", "absent.pub"), "absent.pub: no such file"),
        (
            ("bolt/x", "--release-key", "ci.pub"),
            "there is no publisher bolt here",
        ),
        (
            (NAME, "--release-key", "ci.pub", "--minimum-version", "v1"),
            "invalid value for '--minimum-version': version 'v1' begins with 'v'",
        ),
        (
            (NAME, "--release-key", "ci.pub", "--release-threshold", "2"),
            "--release-threshold is 2, and 1 keys are given",
        ),
    ],
)
def test_add_refuses(vendor: Vendor, arguments: tuple[str, ...], message: str) -> None:
    before = files_below(vendor.place / "trust")
    ran = vendor.sign("app", "add", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {message}"), ran.err
    assert files_below(vendor.place / "trust") == before


def test_an_unknown_publisher_is_found_before_anybody_types(vendor: Vendor) -> None:
    ran = run("app", "add", "bolt/x", "--release-key", "ci.pub")
    assert ran.status == 2
    assert ran.err.startswith("error: there is no publisher bolt here [refused]\n")


def test_an_offline_key_that_releases_is_said_aloud(vendor: Vendor) -> None:
    ran = vendor.must("app", "add", NAME, "--release-key", "offline.pub")
    assert "note: key " in ran.err
    assert "is also an offline key" in ran.err


def test_simple_takes_no_release_key(place: Path, secret: str) -> None:
    vendor = Vendor(place, secret)
    vendor.init("simple")
    ran = vendor.sign("app", "add", NAME, "--release-key", "ci.pub")
    assert ran.status == 2
    assert "has no keys of its own" in ran.err
    ran = vendor.must("app", "add", NAME)
    assert ran.out.startswith(
        f"added {NAME}: releases are signed by the key of targets"
    )
    assert run("app", "show", NAME).status == 0


def test_policy_without_changes_shows_it_and_opens_no_key(vendor: Vendor) -> None:
    add(vendor)
    ran = run("app", "policy", NAME)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == f"{NAME}\n  policy  epoch 1, provenance none\n"
    assert run_json("app", "app", "policy", NAME)["result"]["changed"] is False
    ran = run("app", "policy", "acme/other")
    assert ran.status == 2
    assert ran.err.startswith("error: there is no application acme/other here")


def test_policy_changes(vendor: Vendor) -> None:
    add(vendor)
    ran = vendor.must("app", "policy", NAME, "--minimum-version", "1.1.0")
    assert ran.out == (
        f"changed the policy of {NAME}\n"
        "  policy  epoch 1, provenance none, minimum 1.1.0\n"
        "  signed  acme v3, snapshot v3, timestamp v3\n"
        f"next: margo-supplychain app show {NAME}\n"
    )
    ran = vendor.must("app", "policy", NAME, "--minimum-version", "1.1.0")
    assert ran.out.startswith(f"unchanged the policy of {NAME}\n")
    vendor.must("app", "policy", NAME, "--epoch", "2", "--minimum-version", "2.0.0")
    ran = vendor.must("app", "policy", NAME, "--minimum-version", "none")
    assert "  policy  epoch 2, provenance none\n" in ran.out
    for options, message in (
        (("--epoch", "1"), "the epoch of acme/pump-monitor would fall from 2 to 1"),
        (("--epoch", "3"), "a higher epoch of acme/pump-monitor needs a minimum"),
        (("--epoch", "0"), "invalid value for '--epoch'"),
        (("--reinstate", "1.0.0"), "there is no release acme/pump-monitor 1.0.0"),
        (("--reinstate", "sha256:00"), "invalid value for '--reinstate': digest"),
        (("--downgrade-to", "1.0.0"), "there is no release acme/pump-monitor 1.0.0"),
        (("--reinstate", f"sha256:{'0' * 64}"), "there is no release acme/pump-moni"),
        (("--downgrade-to", f"sha256:{'0' * 64}"), "no release of acme/pump-monitor"),
    ):
        ran = vendor.sign("app", "policy", NAME, *options)
        assert ran.status == 2
        assert ran.err.startswith(f"error: {message}"), ran.err


def test_reinstating_and_downgrading_by_version_and_digest(vendor: Vendor) -> None:
    add(vendor)
    vendor.publish("1.0.0")
    vendor.publish("1.1.0")
    listed = run_json("release-show", "release", "show", NAME)["result"]["releases"]
    newest = listed[0]["artifact"]
    vendor.must("release", "withdraw", NAME, "1.1.0", "--reason", "leaks")
    ran = vendor.must("app", "policy", NAME, "--reinstate", newest)
    short = newest.removeprefix("sha256:")[:12]
    assert f"  reinstated  1.1.0 ({short}) up to role v4\n" in ran.out
    ran = vendor.must("app", "policy", NAME, "--downgrade-to", "1.0.0")
    oldest = listed[1]["artifact"].removeprefix("sha256:")[:12]
    assert f"  downgrade to  1.0.0 ({oldest})\n" in ran.out
    ran = vendor.must(
        "app", "policy", NAME, "--downgrade-to", "1.0.0", "--downgrade-to", newest
    )
    assert ran.out.count("  downgrade to  ") == 2
    ran = vendor.must("app", "policy", NAME, "--downgrade-to", "none")
    assert "downgrade to" not in ran.out
    ran = vendor.sign("app", "policy", NAME, "--reinstate", "1.0.0")
    assert ran.status == 2
    assert ran.err.startswith("error: acme/pump-monitor 1.0.0 is not withdrawn")


def test_show(vendor: Vendor) -> None:
    add(vendor)
    ci = vendor.key_id("ci.key")[:12]
    vendor.publish("1.0.0")
    vendor.publish("1.1.0")
    vendor.must("release", "withdraw", NAME, "1.0.0", "--reason", "leaks")
    ran = run("app", "show", NAME)
    assert ran.out == (
        f"{NAME}\n"
        "  policy    epoch 1, provenance none\n"
        "  releases  2 releases, newest 1.1.0, 1 withdrawn\n"
        f"  role      acme.pump-monitor v4 by {ci}, until {date(180)}, in 180 days\n"
        f"next: margo-supplychain release show {NAME}\n"
    )
    document = run_json("app-show", "app", "show", NAME)
    assert document["result"]["role"]["keyIds"] == [vendor.key_id("ci.key")]
    assert document["result"]["releases"] == {
        "count": 2,
        "withdrawn": 1,
        "newest": "1.1.0",
    }
    assert run("app", "show", "acme/other").status == 2


def test_an_application_of_another_machine_is_signed_with_its_first_release(
    vendor: Vendor,
) -> None:
    vendor.key("release.key")
    (vendor.place / "release.key").rename(vendor.place / "elsewhere")
    vendor.must("app", "add", NAME, "--release-key", "release.pub")
    ran = run("app", "show", NAME)
    assert "  role      acme.pump-monitor not signed yet by " in ran.out
    assert "  releases  0 releases\n" in ran.out
    status = run("repo", "status")
    assert status.status == 0
    assert "signed with its first release\n" in status.out


def test_two_of_two_release_keys(vendor: Vendor) -> None:
    first, second = vendor.key_id("ci.key")[:12], vendor.key("second.key")
    ran = vendor.must(
        *("app", "add", NAME, "--release-key", "ci.pub"),
        *("--release-key", "second.pub", "--release-threshold", "2"),
    )
    assert f"releases are signed by 2 of {first}, {second}\n" in ran.out
    ran = run("app", "show", NAME)
    assert f"not signed yet by {first} and {second}\n" in ran.out
    vendor.build()
    ran = vendor.sign("release", "publish", "dist")
    assert ran.status == 5
    assert f"acme.pump-monitor needs 1 more of {second}" in ran.err


def test_provenance_can_be_demanded_later(vendor: Vendor) -> None:
    add(vendor)
    ran = vendor.must("app", "policy", NAME, "--provenance", "required")
    assert "  policy  epoch 1, provenance required\n" in ran.out
    assert (
        f"note: provenance of {NAME} is required, and no layout is current" in ran.err
    )
    ran = vendor.must("app", "policy", NAME, "--provenance", "none")
    assert f"note: devices no longer demand provenance of {NAME}: " in ran.err


def test_next_command_names_another_publisher(place: Path, secret: str) -> None:
    vendor = Vendor(place, secret)
    vendor.init()
    ran = vendor.must(
        *("app", "add", NAME, "--release-key", "ci.pub", "--repo", "trust"),
    )
    assert "--publisher" not in ran.out
    toml = place / "margo-supplychain.toml"
    toml.write_text(toml.read_text().replace('"acme"', '"bolt"'))
    ran = vendor.must("app", "add", "acme/other", "--release-key", "ci.pub")
    assert ran.out.endswith("release build DIR --output dist --publisher acme\n")


def test_a_lost_policy_is_given_in_full(vendor: Vendor) -> None:
    add(vendor)
    place = vendor.place / "trust/targets/acme/policies/pump-monitor"
    for file in place.iterdir():
        file.write_bytes(b"damaged")
    ran = vendor.sign("app", "policy", NAME, "--minimum-version", "1.0.0")
    assert ran.status == 3
    assert f"app policy {NAME} --epoch N --provenance none" in ran.err
    given = ("--epoch", "2", "--provenance", "none", "--minimum-version", "1.0.0")
    ran = vendor.must("app", "policy", NAME, *given)
    assert "was damaged or lost" in ran.err
    vendor.publish()
