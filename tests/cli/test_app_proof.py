"""`app policy` and provenance: layouts, statements, summaries, functionaries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.layouts import LayoutFile
from margo_supplychain.authoring.recording.documents import KINDS
from margo_supplychain.cli import app_proof
from margo_supplychain.cli.layout_describe import words
from margo_supplychain.formats.predicates import kind_of
from margo_supplychain.signing import keys
from margo_supplychain.threshold import material
from tests.cli.running import run, run_json
from tests.cli.vendor import NAME, Vendor, date, files_below

if TYPE_CHECKING:
    from pathlib import Path

TO_STRANGE = ("unsigned.json", "--out", "strange.json")
CYCLONEDX = "https://cyclonedx.org/bom"
BY = (
    *("--by", "build=builder.pub", "--by", "test=tester.pub"),
    *("--by", "package=packer.pub"),
)


@pytest.fixture
def vendor(place: Path, secret: str) -> Vendor:
    """A vendor with an application and a signed layout, `layout.json`."""
    found = Vendor(place, secret)
    found.application()
    for name in ("builder", "tester", "packer"):
        found.key(f"{name}.key")
    for arguments in (
        ("layout", "build", "--template", "build-test-package", *BY),
        ("layout", "build", "layout.toml"),
    ):
        ran = run(*arguments)
        assert ran.status == 0, ran.err
    found.must("layout", "sign", "layout.json", "--yes")
    return found


def policy(vendor: Vendor, *options: str) -> dict[str, Any]:
    """Change the policy; return it as it is signed."""
    document = vendor.sign_json("app", "app", "policy", NAME, *options)
    assert document["ok"] is True, document
    found: dict[str, Any] = document["result"]["policy"]
    return found


def refused(vendor: Vendor, message: str, *options: str) -> str:
    """Run a command that must change nothing; return what it says."""
    before = files_below(vendor.place / "trust")
    ran = vendor.sign("app", "policy", NAME, *options)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {message}"), ran.err
    assert files_below(vendor.place / "trust") == before
    return ran.err


def shown_of(vendor: Vendor) -> str:
    """Return `layout.json` in words."""
    file = LayoutFile.parse((vendor.place / "layout.json").read_bytes(), what="it")
    return "".join(f"{line}\n" for line in words(file))


def ids_of(vendor: Vendor, name: str) -> list[str]:
    """Return the ids under which a functionary is revoked."""
    path = vendor.place / f"{name}.pub"
    key = keys.parse_public_key(path.read_bytes(), what=name)
    return [key.keyid, material(key)]


# --- layouts -------------------------------------------------------------------------


def test_a_layout_is_demanded(vendor: Vendor) -> None:
    ran = vendor.must(
        *("app", "policy", NAME, "--provenance", "required"),
        *("--layout", "layout.json", "--serves", "^1.0", "--yes"),
    )
    # Whoever lists it is shown what is demanded from now on.
    assert ran.err == shown_of(vendor)
    assert ran.out == (
        f"changed the policy of {NAME}\n"
        "  policy    epoch 1, provenance required\n"
        "  layout 1  serves ^1.0\n"
        "  signed    acme v3, snapshot v3, timestamp v3\n"
        f"next: margo-supplychain app show {NAME}\n"
    )
    ran = vendor.must(
        *(
            "app",
            "policy",
            NAME,
            "--layout",
            "layout.json",
            "--serves",
            "^1.0",
            "--yes",
        ),
    )
    assert ran.out.startswith(f"unchanged the policy of {NAME}\n")
    document = run_json("app-show", "app", "show", NAME)
    assert [one["number"] for one in document["result"]["layouts"]] == [1]
    shown = run("app", "show", NAME).out
    assert f"  layout 1  serves ^1.0, until {date(730)}, in 730 days\n" in shown
    for file in (vendor.place / "trust/targets/acme/layouts/pump-monitor").iterdir():
        file.write_bytes(b"damaged")
    shown = run("app", "show", NAME).out
    assert "  layout 1  serves ^1.0\n" in shown
    (rule,) = document["result"]["policy"]["layouts"]
    assert rule["range"] == {"grammar": "npm", "text": "^1.0"}


def test_when_a_layout_ends(vendor: Vendor) -> None:
    given = ("--layout", "layout.json", "--serves", "^1.0", "--yes")
    found = policy(vendor, *given, "--layout-expires", "2030-01-01")
    assert found["layouts"][0]["expires"] == "2030-01-01T00:00:00Z"
    ran = vendor.must("app", "policy", NAME, "--layout-expires", "1=2031-01-01")
    assert "  layout 1  serves ^1.0, until 20" in ran.out
    assert f"note: layout 1 of {NAME} ends 2031-01-01\n" in ran.err
    vendor.must("app", "policy", NAME, "--layout-expires", "1=2020-01-01")
    assert "serves ^1.0, expired 20" in run("app", "show", NAME).out
    found = policy(vendor, "--layout-expires", "1=none")
    assert "expires" not in found["layouts"][0]
    refused(vendor, "there is no layout 2", "--layout-expires", "2=2031-01-01")
    refused(
        vendor, "--layout-expires '2031-01-01' is not", "--layout-expires", "2031-01-01"
    )
    refused(
        vendor,
        "--layout-expires is 'soon', expected a date",
        *("--layout-expires", "1=soon"),
    )
    refused(
        vendor,
        "--layout-expires is given twice for one layout",
        *given,
        *("--layout-expires", "2031-01-01", "--layout-expires", "2032-01-01"),
    )


def test_a_superseded_layout_is_said_aloud(vendor: Vendor) -> None:
    policy(vendor, "--layout", "layout.json", "--serves", "^1.0", "--yes")
    ran = vendor.must(
        *(
            "app",
            "policy",
            NAME,
            "--layout",
            "layout.json",
            "--serves",
            "^1.5",
            "--yes",
        ),
    )
    assert ran.err.startswith(
        shown_of(vendor) + f"note: layout 1 of {NAME}, which served ^1.0, is dropped: "
        "layout 2 takes its place, and nothing was made by it\n"
    )
    assert "  layout 2  serves ^1.5\n" in ran.out


def test_a_layout_is_dropped_and_comes_back_under_its_number(vendor: Vendor) -> None:
    given = ("--layout", "layout.json", "--serves", "^1.0", "--yes")
    policy(vendor, *given)
    ran = vendor.must("app", "policy", NAME, "--drop-layout", "1")
    assert ran.err == (
        f"note: layout 1 of {NAME} is dropped: devices refuse what was made by it\n"
    )
    assert "layout" not in ran.out
    refused(vendor, "there is no layout 1", "--drop-layout", "1")
    (rule,) = policy(vendor, *given)["layouts"]
    assert rule["number"] == 1


def test_layouts_that_are_refused(vendor: Vendor) -> None:
    both = "--layout and --serves go together: which versions are made by it?"
    refused(vendor, both, "--layout", "layout.json")
    refused(vendor, both, "--serves", "^1.0")
    ran = run("layout", "build", "layout.toml", "--out", "unsigned.json")
    assert ran.status == 0
    serve = ("--serves", "^1.0")
    refused(vendor, "absent.json: no such file", "--layout", "absent.json", *serve)
    refused(vendor, "layout.toml is not JSON", "--layout", "layout.toml", *serve)
    # Nobody is asked here, and nobody said that they have read it.
    ran = vendor.sign("app", "policy", NAME, "--layout", "layout.json", *serve)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(shown_of(vendor))
    assert "error: there is no terminal to ask for confirmation" in ran.err
    document = run_json("app-show", "app", "show", NAME)
    assert document["result"]["layouts"] == []
    # Listed by a stranger's signature alone, it would be nobody's word.
    vendor.sign("layout", "sign", *TO_STRANGE, "--key", "builder.key", "--yes")
    ran = vendor.sign(
        "app", "policy", NAME, "--layout", "strange.json", *serve, "--yes"
    )
    assert ran.status == 2
    assert "error: the layout is signed by 0 of 1 keys of acme [refused]" in ran.err
    refused(
        vendor,
        "invalid value for '--serves': ",
        *("--layout", "layout.json", "--serves", "1.0.0@sha256:00", "--yes"),
    )
    refused(
        vendor, "nobody has signed unsigned.json", "--layout", "unsigned.json", *serve
    )


# --- statements ----------------------------------------------------------------------


def test_statements_are_demanded(vendor: Vendor) -> None:
    builder, tester = (vendor.key_id(f"{one}.key") for one in ("builder", "tester"))
    found = policy(vendor, "--attestation", "cyclonedx=builder.pub,tester.pub")
    assert found["attestations"] == [
        {
            "type": CYCLONEDX,
            "keyids": [builder, tester],
            "threshold": 1,
            "builders": [],
            "sources": [],
        }
    ]
    assert [one["keyid"] for one in found["keys"]] == [builder, tester]
    ran = vendor.must(
        *("app", "policy", NAME, "--attestation", "slsa-provenance=builder.pub"),
        *(
            "--builder",
            "https://ci.example/runner",
            "--source",
            "https://git.example/p",
        ),
    )
    assert (
        f"  statement  slsa-provenance by {builder[:12]}, built by https://ci.example/runner,"
        " from https://git.example/p\n"
    ) in ran.out
    assert f"  statement  cyclonedx by 1 of {builder[:12]}, {tester[:12]}\n" in ran.out
    # What is not named stays; keys that nothing needs any more go.
    found = policy(vendor, "--attestation", f"{CYCLONEDX}=none", "--builder", "none")
    assert found["attestations"] == [
        {
            "type": "https://slsa.dev/provenance",
            "keyids": [builder],
            "threshold": 1,
            "builders": [],
            "sources": ["https://git.example/p"],
        }
    ]
    assert [one["keyid"] for one in found["keys"]] == [builder]
    found = policy(
        vendor,
        *("--attestation", "https://example.com/x=builder.pub"),
        *("--attestation", "https://example.com/x=tester.pub"),
        *("--attestation-threshold", "2"),
    )
    assert found["attestations"][1]["threshold"] == 2
    assert found["attestations"][1]["keyids"] == [builder, tester]


def test_a_threshold_stays_unless_somebody_lowers_it(vendor: Vendor) -> None:
    two = "cyclonedx=builder.pub,tester.pub"

    def threshold(*options: str) -> int:
        (rule,) = policy(vendor, *options)["attestations"]
        return int(rule["threshold"])

    assert threshold("--attestation", two, "--attestation-threshold", "2") == 2
    assert threshold("--attestation", two) == 2
    ran = vendor.must("app", "policy", NAME, "--attestation", f"{two},packer.pub")
    builder, packer = (ids_of(vendor, one)[0][:12] for one in ("builder", "packer"))
    assert f"  statement  cyclonedx by 2 of {builder}" in ran.out
    assert f"note: {CYCLONEDX} of {NAME} counts by {packer} as well\n" in ran.err
    refused(
        vendor,
        "--attestation-threshold is missing: cyclonedx needs 2 of 3 signatures, and",
        *("--attestation", "cyclonedx=builder.pub,tester.pub"),
    )
    refused(
        vendor,
        "--attestation-threshold 2 is more than the key of spdx: give it for one that",
        *("--attestation", two, "--attestation", "spdx=builder.pub"),
        *("--attestation-threshold", "2"),
    )
    lower = ("--attestation-threshold", "1")
    ran = vendor.must("app", "policy", NAME, "--attestation", two, *lower)
    assert (
        f"{CYCLONEDX} of {NAME} needs 1 of 2 signatures, and needed 2 of 3" in ran.err
    )
    assert threshold("--attestation", "cyclonedx=packer.pub") == 1


def test_an_online_key_that_states_is_said_aloud(vendor: Vendor) -> None:
    ran = vendor.must("app", "policy", NAME, "--attestation", "review=ci.pub")
    assert "human-review/vcs is an online key of this repository: whoever" in ran.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--attestation", "review"), "--attestation 'review' is not TYPE=KEY.pub"),
        (
            ("--attestation", "sbom=a.pub"),
            "--attestation 'sbom' is no type: expected a",
        ),
        (
            ("--attestation", "link=a.pub"),
            "--attestation link: links are demanded by a",
        ),
        (("--attestation", "vsa=a.pub"), "--attestation vsa: summaries are signed by"),
        (("--attestation", "review=absent.pub"), "absent.pub: no such file"),
        (("--attestation-threshold", "2"), "--attestation-threshold goes with --attes"),
        (
            ("--attestation", "review=tester.pub", "--attestation-threshold", "2"),
            "--attestation-threshold 2 is more than the key of review",
        ),
        (("--builder", "https://x"), "no SLSA provenance is demanded that could name"),
        (("--source", "https://x"), "no SLSA provenance is demanded that could name"),
    ],
)
def test_statements_that_are_refused(
    vendor: Vendor, options: tuple[str, ...], message: str
) -> None:
    refused(vendor, message, *options)


def test_short_names_are_types_that_devices_know() -> None:
    for name, type_ in app_proof.TYPES.items():
        known = [
            kind_of(f"{type_}{version}")
            for version in ("", "/v1", "/v0.1", "/v1.6", "/v2.3", "/v0.2.0")
        ]
        # The names that `attest add` has for them.
        assert KINDS[name] in known, name


# --- summaries -----------------------------------------------------------------------


def test_summaries_are_allowed(vendor: Vendor) -> None:
    tester, packer = (vendor.key_id(f"{one}.key") for one in ("tester", "packer"))
    ran = vendor.must(
        *("app", "policy", NAME, "--summary-key", "tester.pub"),
        *("--summary-max-age", "30d"),
    )
    assert f"  summary  by {tester[:12]}, at most 30 days old\n" in ran.out
    found = policy(vendor, "--summary-max-age", "7d")
    assert found["summary"] == {
        "keyids": [tester],
        "threshold": 1,
        "maxAge": 7 * 86_400,
    }
    both = ("--summary-key", "tester.pub", "--summary-key", "packer.pub")
    refused(vendor, "--summary-threshold is missing: 2 keys are given", *both)
    found = policy(vendor, *both, "--summary-threshold", "2")
    assert found["summary"]["keyids"] == [tester, packer]
    assert found["summary"]["threshold"] == 2
    missing = "--summary-threshold is missing: a summary needs 2 of 2 signatures, and"
    refused(vendor, missing, "--summary-key", "tester.pub")
    found = policy(vendor, *both, "--summary-key", "builder.pub")
    assert (len(found["summary"]["keyids"]), found["summary"]["threshold"]) == (3, 2)
    ran = vendor.must("app", "policy", NAME, "--summary-max-age", "400d")
    assert f"note: a summary of {NAME} counts for 400 days, and counted" in ran.err
    found = policy(vendor, "--summary-key", "none")
    assert "summary" not in found
    assert "keys" not in found


def test_a_functionary_that_vouches_is_said_aloud(vendor: Vendor) -> None:
    given = ("--summary-key", "tester.pub", "--summary-max-age", "30d")
    ran = vendor.must("app", "policy", NAME, *given)
    assert ran.err == ""
    vendor.must("app", "policy", NAME, "--summary-key", "none")
    policy(vendor, "--layout", "layout.json", "--serves", "^1.0", "--yes")
    ran = vendor.must("app", "policy", NAME, *given)
    assert "is a functionary and signs summaries, which stand for the whole" in ran.err
    ran = vendor.must("app", "policy", NAME, "--summary-max-age", "7d")
    assert ran.err == ""


def test_summaries_that_are_refused(vendor: Vendor) -> None:
    need = "summaries need --summary-key and --summary-max-age: who vouches"
    refused(vendor, need, "--summary-key", "tester.pub")
    refused(vendor, need, "--summary-max-age", "30d")
    refused(
        vendor,
        "--summary-key none goes alone",
        *("--summary-key", "none", "--summary-key", "tester.pub"),
    )
    ci = vendor.key_id("ci.key")[:12]
    refused(
        vendor,
        f"key {ci} is an online key of this repository: its summaries would stand",
        *("--summary-key", "ci.pub", "--summary-max-age", "30d"),
    )


# --- functionaries -------------------------------------------------------------------


def test_a_functionary_is_revoked(vendor: Vendor) -> None:
    vendor.publish("1.0.0")
    policy(vendor, "--layout", "layout.json", "--serves", "^2.0", "--yes")
    ran = vendor.must(
        *("app", "policy", NAME, "--revoke-functionary", "tester.pub"),
        *("--survivor", "1.0.0"),
    )
    keyid, found = ids_of(vendor, "tester")
    artifact = run_json("release-show", "release", "show", NAME)["result"]["releases"][
        0
    ]["artifact"]
    document = policy(vendor, "--provenance", "none")
    (release,) = document["revokedFunctionaries"][0]["survivors"]
    assert release != artifact
    short = release.removeprefix("sha256:")[:12]
    assert (
        f"  revoked   {keyid[:12]}, {found[:12]}: 1.0.0 ({short}) survive\n" in ran.out
    )
    # By its artifact, or as the policy names it, it is the same release.
    for digest in (artifact, release):
        for before in ("none", "1.0.0"):
            again = ("--revoke-functionary", "tester.pub", "--survivor")
            policy(vendor, *again, before)
            document = policy(vendor, *again, digest)
            assert document["revokedFunctionaries"][0]["survivors"] == [release]
    refused(
        vendor,
        f"there is no release {NAME} sha256:{'ab' * 32}",
        *("--revoke-functionary", "tester.pub"),
        *("--survivor", f"sha256:{'ab' * 32}"),
    )
    # Again, and by its id, says the same; other survivors replace those before.
    ran = vendor.must("app", "policy", NAME, "--revoke-functionary", keyid[:8])
    assert ran.out.startswith(f"unchanged the policy of {NAME}\n")
    document = policy(vendor, "--revoke-functionary", keyid, "--survivor", "none")
    assert document["revokedFunctionaries"] == [
        {"key": keyid, "survivors": []},
        {"key": found, "survivors": []},
    ]
    builder = ids_of(vendor, "builder")
    document = policy(vendor, "--revoke-functionary", builder[0][:12])
    assert [one["key"] for one in document["revokedFunctionaries"][2:]] == builder
    ran = run("app", "show", NAME)
    assert f"{builder[1][:12]}: nothing survives\n" in ran.out


def test_functionaries_that_are_refused(vendor: Vendor) -> None:
    refused(vendor, "--survivor goes with --revoke-func", "--survivor", "1.0.0")
    said = refused(
        vendor,
        "no functionary's key id begins with 0123456789ab",
        *("--revoke-functionary", "0123456789ab"),
    )
    assert "hint: functionaries of the layouts here: none\n" in said
    refused(
        vendor,
        f"there is no release {NAME} 1.0.0",
        *("--revoke-functionary", "tester.pub", "--survivor", "1.0.0"),
    )
    refused(vendor, "absent.pub: no such file", "--revoke-functionary", "absent.pub")
    # Of a layout that is gone, the id is all that is left.
    gone = "ab" * 32
    document = policy(vendor, "--revoke-functionary", gone)
    assert document["revokedFunctionaries"] == [{"key": gone, "survivors": []}]


def test_a_lost_policy_with_layouts_is_given_in_full(vendor: Vendor) -> None:
    policy(vendor, "--layout", "layout.json", "--serves", "^1.0", "--yes")
    (vendor.place / "first.json").write_bytes(
        (vendor.place / "layout.json").read_bytes()
    )
    for file in (vendor.place / "trust/targets/acme/policies/pump-monitor").iterdir():
        file.write_bytes(b"damaged")
    found = policy(vendor, "--epoch", "1", "--provenance", "none")
    assert found["layouts"] == []
    # The same bytes get their number back, which records name; no other ones do.
    vendor.must("layout", "sign", "layout.json", "--key", "builder.key", "--yes")
    found = policy(vendor, "--layout", "layout.json", "--serves", "^2.0", "--yes")
    assert [one["number"] for one in found["layouts"]] == [2]
    found = policy(vendor, "--layout", "first.json", "--serves", "^1.0", "--yes")
    assert [one["number"] for one in found["layouts"]] == [2, 1]


def test_a_layout_that_ends_is_a_duty(vendor: Vendor) -> None:
    policy(
        vendor,
        *("--layout", "layout.json", "--serves", "^1.0", "--yes"),
        *("--layout-expires", f"{date(3)}"),
    )
    ran = run("repo", "status")
    assert ran.status == 5
    said = (
        f", in [0-9]+ (?:days|h): margo-supplychain app policy {NAME} --layout-expires"
    )
    assert re.search(f"{said} 1=DATE \\(layout 1 of {NAME} ends 20", ran.out), ran.out
    policy(vendor, "--layout-expires", "1=none")
    assert "layout" not in run("repo", "status").out
