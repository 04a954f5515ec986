"""What a newcomer reads where links are forgotten, mislaid or not good enough."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.release import Release
from tests.authoring.proving import run_of as of_release
from tests.cli.running import run
from tests.cli.vendor import NAME, Vendor
from tests.world.provenance import CYCLONEDX, encode, layout

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world.provenance import Run

PUBLISH = ("release", "publish", "dist")


@pytest.fixture
def vendor(place: Path, secret: str) -> Vendor:
    """Return a vendor who tries a layout out: it serves releases below 1.5.0."""
    found = Vendor(place, secret)
    found.application()
    (place / "layout.json").write_bytes(encode(layout()))
    found.must("layout", "sign", "layout.json", "--key", "offline.key", "--yes")
    found.must(
        "app", "policy", NAME, "--layout", "layout.json", "--serves", "<1.5.0", "--yes"
    )
    found.build()
    record(found)
    return found


def run_of(vendor: Vendor, dist: str = "dist") -> Run:
    """Return an honest run of the pipeline that made what was built."""
    return of_release(Release.from_build(vendor.place / dist))


def record(vendor: Vendor, dist: str = "dist", links: str = "links") -> None:
    """Write the links of that run into a directory."""
    directory = vendor.place / links
    directory.mkdir(exist_ok=True)
    for name, one in run_of(vendor, dist).documents().items():
        (directory / f"{name}.dsse.json").write_bytes(one.data)


def test_forgotten_links_are_said_at_once(vendor: Vendor) -> None:
    ran = vendor.must(*PUBLISH)
    assert (
        "note: layout 1 serves 1.2.0 of acme/pump-monitor, but no links come with it, "
        "and a record never changes: devices that demand provenance will refuse it"
    ) in ran.err
    ran = vendor.sign(*PUBLISH, "--attestation", "links")
    assert ran.status == 2
    assert "1.2.0 exists with other attestations: its record has none" in ran.err


def test_other_attestations_are_named(vendor: Vendor) -> None:
    ran = vendor.must(*PUBLISH, "--attestation", "links")
    assert "no links come with it" not in ran.err
    bom = run_of(vendor).statement(CYCLONEDX, {}, "builder").data
    (vendor.place / "links/bom.dsse.json").write_bytes(bom)
    ran = vendor.sign(*PUBLISH, "--attestation", "links")
    assert ran.status == 2
    assert "its record has links of build, package, test" in ran.err


def test_a_version_in_no_range(vendor: Vendor) -> None:
    vendor.build("1.6.0", "dist-2")
    record(vendor, "dist-2", "links-2")
    ran = vendor.sign("release", "publish", "dist-2", "--attestation", "links-2")
    assert ran.status == 2
    assert (
        "no layout of acme/pump-monitor serves 1.6.0: layout 1 serves <1.5.0" in ran.err
    )


def test_what_a_shell_makes_of_a_star(vendor: Vendor) -> None:
    ran = vendor.sign(*PUBLISH, "--attestation", "links/a.dsse.json", "b.dsse.json")
    assert ran.status == 2
    assert "b.dsse.json is no DIST but an attestation: give --attestation a" in ran.err
    ran = vendor.sign(*PUBLISH, "--attestation", "nolinks")
    assert ran.status == 2
    assert "nolinks: no such file or directory, expected signed attest" in ran.err


def test_a_bad_link_is_named_by_its_file(vendor: Vendor) -> None:
    link = vendor.place / "links/test.dsse.json"
    said = json.loads(link.read_text())
    sig = said["signatures"][0]["sig"]
    said["signatures"][0]["sig"] = ("A" if sig[0] != "A" else "B") + sig[1:]
    link.write_text(json.dumps(said))
    ran = vendor.sign(*PUBLISH, "--attestation", "links")
    assert ran.status == 3
    assert "hint: look at links/test.dsse.json; nothing was written" in ran.err
    # A rule that fails is about a step, whose links are named.
    made = run_of(vendor)
    made.links["test"]["products"]["other"] = {"sha256": "0" * 64}
    link.write_bytes(made.documents()["test"].data)
    ran = vendor.sign(*PUBLISH, "--attestation", "links")
    assert ran.status == 3
    assert "hint: look at links/test.dsse.json; nothing was written" in ran.err


def test_what_follows_names_the_directory(vendor: Vendor) -> None:
    key = ("--key", "ci.key", "--output", "links")
    (vendor.place / "bom.json").write_text(
        '{"bomFormat": "CycloneDX", "specVersion": "1.6"}'
    )
    add = ("attest", "add", "bom.json", "--type", "cyclonedx", "--release", "dist")
    ran = vendor.must(*add, *key)
    assert "next: margo-supplychain release publish dist --attestation links\n" in (
        ran.out
    )
    record = ("attest", "record", "--step", "package")
    ran = vendor.must(*record, "--release", "dist", *key)
    assert "next: margo-supplychain release publish dist --attestation links\n" in (
        ran.out
    )


# --- what devices refuse from now on -------------------------------------------------


def policy(vendor: Vendor, *options: str) -> list[str]:
    """Change the policy; return what is noted."""
    ran = vendor.must("app", "policy", NAME, *options)
    return [
        line.removeprefix("note: ")
        for line in ran.err.splitlines()
        if line.startswith("note: ")
    ]


@pytest.fixture
def two(vendor: Vendor) -> Vendor:
    """Return one with 1.2.0 and its links, and 1.3.0 without any."""
    vendor.must(*PUBLISH, "--attestation", "links")
    vendor.publish("1.3.0")
    return vendor


def test_what_a_demand_bars_is_said_when_it_is_made(two: Vendor) -> None:
    bars = (
        "devices refuse 1.3.0 of acme/pump-monitor from now on: published without links"
    )
    assert policy(two, "--provenance", "required") == [bars]
    # It was so before: the next change says what that one does.
    assert bars not in policy(two, "--minimum-version", "1.1.0")


def test_statements_that_are_missing_or_do_not_count(vendor: Vendor) -> None:
    bom = run_of(vendor).statement(CYCLONEDX, {}, "builder").data
    (vendor.place / "links/bom.dsse.json").write_bytes(bom)
    vendor.must(*PUBLISH, "--attestation", "links")
    vendor.publish("1.3.0")
    found = policy(vendor, "--attestation", "cyclonedx=offline.pub")
    missing, uncounted = [one for one in found if one.startswith("devices refuse")]
    assert missing == (
        "devices refuse 1.3.0 of acme/pump-monitor from now on: no "
        "https://cyclonedx.org/bom was published with it"
    )
    assert uncounted == (
        "devices refuse 1.2.0 of acme/pump-monitor from now on: no "
        "https://cyclonedx.org/bom of it counts"
    )
    found = policy(vendor, "--attestation", "cyclonedx=ci.pub")
    assert [one for one in found if one.startswith("devices refuse")] == []


def test_a_revocation_names_what_falls_with_it(two: Vendor) -> None:
    keyid = json.loads((two.place / "links/test.dsse.json").read_text())["signatures"][
        0
    ]["keyid"]
    falls = (
        "devices that demand provenance refuse 1.2.0 of acme/pump-monitor from now on: "
        "a revoked functionary did a step"
    )
    revoke = ("--revoke-functionary", keyid)
    assert falls not in policy(two, *revoke, "--survivor", "1.2.0")
    assert falls in policy(two, *revoke, "--survivor", "none")
    found = policy(two, "--provenance", "required")
    assert (
        "devices refuse 1.2.0 of acme/pump-monitor from now on: a revoked functionary "
        "did a step"
    ) in found


def test_a_layout_that_goes_or_ends(two: Vendor) -> None:
    ended = "devices that demand provenance refuse 1.2.0 of acme/pump-monitor from now "
    ended += "on: layout 1 "
    assert f"{ended}ended 2020-01-01" in policy(two, "--layout-expires", "1=2020-01-01")
    assert not any(ended in one for one in policy(two, "--layout-expires", "1=none"))
    gone = policy(two, "--drop-layout", "1")
    assert f"{ended.removesuffix(' ')}, by which it was made, is gone" in gone
    assert "devices refuse 1.3.0, 1.2.0 of acme/pump-monitor" not in gone
    assert [
        one.partition(" of ")[0]
        for one in policy(two, "--provenance", "required")
        if one.startswith("devices refuse")
    ] == ["devices refuse 1.3.0", "devices refuse 1.2.0"]


def test_versions_that_lose_their_layout(vendor: Vendor) -> None:
    (vendor.place / "second.json").write_bytes(encode(layout(readme="second")))
    vendor.must("layout", "sign", "second.json", "--key", "offline.key", "--yes")
    given = ("--layout", "second.json", "--serves")
    found = policy(vendor, *given, "^1.2", "--yes")
    (gap,) = [one for one in found if "has no layout now" in one]
    assert gap == (
        "what is in <1.5.0 and not in ^1.2, from 0.0.0 of acme/pump-monitor on, has no "
        "layout now, so no links can be published with it: if it shall have one, list "
        "the file of layout 1 again, with a --serves that ends where the other begins"
    )
    # All that was served before is served by it.
    again = policy(vendor, *given, ">=1.0.0", "--yes")
    assert not any("has no layout now" in one for one in again)


# --- layouts -------------------------------------------------------------------------


def test_a_plan_is_no_layout_yet(vendor: Vendor) -> None:
    for name in ("builder", "other"):
        vendor.key(f"{name}.key")
    ran = run(
        *("layout", "build", "--template", "two-builders-agree"),
        *("--by", "build=builder.pub,other.pub", "--by", "package=ci.pub"),
    )
    assert ran.status == 0, ran.err
    hint = "hint: name what `layout build` made of the plan: layout build FILE\n"
    assert hint in run("layout", "show", "layout.toml").err
    assert hint in vendor.sign("layout", "sign", "layout.toml", "--yes").err
    given = ("--layout", "layout.toml", "--serves", "^2.0")
    assert hint in vendor.sign("app", "policy", NAME, *given).err


def test_a_layout_that_ends_before_its_releases(vendor: Vendor) -> None:
    vendor.key("builder.key")
    run(
        *("layout", "build", "--template", "build-test-package"),
        *("--by", "build=builder.pub", "--by", "test=ci.pub", "--by", "package=ci.pub"),
    )
    path = vendor.place / "layout.toml"
    text = path.read_text()
    path.write_text(
        text.replace("expires =", 'supported-until = "2099-01-01"\nexpires =')
    )
    ran = run("layout", "build", "layout.toml")
    assert ran.status == 2
    assert ran.err.startswith("error: the layout expires at ")
    assert "before the support of its releases ends at 2099-01-01" in ran.err


# --- documents -----------------------------------------------------------------------


def test_what_devices_will_not_read_is_said_at_the_desk(vendor: Vendor) -> None:
    """A package URL is no digest: nobody could tell that it is this release."""
    vex: dict[str, Any] = {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "timestamp": "2026-01-01T00:00:00Z",
        "statements": [
            {
                "vulnerability": {"name": "CVE-2026-1"},
                "products": [{"@id": "pkg:oci/other"}],
                "status": "fixed",
            }
        ],
    }
    path = vendor.place / "vex.json"
    path.write_text(json.dumps(vex))
    add = ("attest", "add", "vex.json", "--type", "openvex", "--key", "ci.key")
    ran = vendor.must(*add, "--release", "dist")
    assert ran.err.startswith(
        "note: vex.json: devices whose policy asks for such a document refuse it: "
    )
    assert "says nothing about this release" in ran.err
    digest = Release.from_build(vendor.place / "dist").artifact.digest
    found = vendor.sign_json("attest-add", *add, "--release", "dist")["result"]
    assert len(found["notes"]) == 1
    # Who knows the digest alone doesn't know of what parts a release is made.
    assert "refuse it" not in vendor.must(*add, "--subject", str(digest)).err
    del vex["statements"][0]["products"]
    path.write_text(json.dumps(vex))
    found = vendor.sign_json("attest-add", *add, "--release", "dist", "--force")
    assert found["result"]["notes"] == []


def test_provenance_and_boms_are_read_at_the_desk_as_well(vendor: Vendor) -> None:
    """A policy may ask for them, too: each is read as devices do."""
    slsa = {
        "buildDefinition": {"buildType": "x", "externalParameters": 3},
        "runDetails": {"builder": {"id": "https://example.com/builder"}},
    }
    end = {"name": "cdx:lifecycle:milestone:endOfSupport", "value": "soon"}
    bom = {"bomFormat": "CycloneDX", "specVersion": "1.6"}
    for name, document, message in (
        ("slsa-provenance", slsa, "externalParameters"),
        ("cyclonedx", bom | {"components": [1]}, "components"),
        ("cyclonedx", bom | {"metadata": {"properties": [end]}}, "endOfSupport"),
        ("cyclonedx", bom, None),
    ):
        (vendor.place / "x.json").write_text(json.dumps(document))
        add = ("attest", "add", "x.json", "--type", name, "--key", "ci.key", "--force")
        ran = vendor.must(*add, "--release", "dist")
        assert ("refuse it: " in ran.err) == (message is not None)
        assert (message or "") in ran.err
