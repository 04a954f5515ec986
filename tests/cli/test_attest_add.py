"""`attest add` and `attest show`: documents are bound to a release, and shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.recording.documents import KINDS
from margo_supplychain.authoring.release import Release
from margo_supplychain.cli import attest as commands
from margo_supplychain.formats.release_products import component_product
from margo_supplychain.formats.statements import STATEMENT, Subject, statement_bytes
from margo_supplychain.provenance.in_toto_models import layout_payload
from margo_supplychain.signing.envelopes import sign_envelope
from margo_supplychain.signing.keyring import open_keyring
from margo_supplychain.verify.clock import SystemClock
from tests.cli.attesting import said
from tests.cli.running import PASSPHRASE, run, run_json, validate
from tests.cli.vendor import Vendor

if TYPE_CHECKING:
    from pathlib import Path

BOM = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{}, {}]}


@pytest.fixture
def vendor(place: Path, secret: str, monkeypatch: pytest.MonkeyPatch) -> Vendor:
    """A vendor with a key and a build in dist/."""
    monkeypatch.setenv("MARGO_SUPPLYCHAIN_PUBLISHER", "acme")
    made = Vendor(place, secret)
    made.key("ci.key")
    made.build()
    return made


@pytest.fixture
def release(vendor: Vendor) -> Release:
    return Release.from_build(vendor.place / "dist")


def write(vendor: Vendor, document: Any, name: str = "document.json") -> str:
    (vendor.place / name).write_text(json.dumps(document))
    return name


def add(vendor: Vendor, document: Any, *options: str) -> Any:
    file = write(vendor, document)
    return vendor.sign("attest", "add", file, "--key", "ci.key", *options)


def test_the_types_are_those_of_the_library() -> None:
    assert tuple(KINDS) == commands._TYPES


def test_a_document_is_bound_to_the_release(vendor: Vendor, release: Release) -> None:
    ran = add(vendor, BOM, "--type", "cyclonedx", "--release", "dist")
    assert ran.status == 0, ran.err
    keyid = vendor.key_id("ci.key")
    file = f"cyclonedx.{keyid[:8]}.dsse.json"
    assert ran.out.splitlines() == [
        "attested cyclonedx document.json",
        "  type    https://cyclonedx.org/bom/v1.6",
        f"  about   acme/pump-monitor 1.2.0  sha256:{release.artifact.digest.short}",
        f"  signed  by {keyid[:12]}",
        f"  file    {file}",
        "next: margo-supplychain release publish dist --attestation .",
    ]
    assert said(vendor.place / file) == {
        "_type": STATEMENT,
        "subject": [
            {
                "name": "release/manifest",
                "digest": {"sha256": release.artifact.digest.hex},
            }
        ],
        "predicateType": "https://cyclonedx.org/bom/v1.6",
        "predicate": BOM,
    }
    again = add(vendor, BOM, "--type", "cyclonedx", "--release", "dist")
    assert f"file    {file}, which said so already" in again.out


def test_the_document_in_json(vendor: Vendor, release: Release) -> None:
    file = write(vendor, BOM)
    document = vendor.sign_json(
        *("attest-add", "attest", "add", file, "--type", "cyclonedx"),
        *("--release", "dist", "--key", "ci.key", "--output", "statements"),
    )
    assert document["result"]["subject"] == str(release.artifact.digest)
    assert document["result"]["file"].startswith("statements/cyclonedx.")
    assert document["result"]["wasStatement"] is False


def test_a_component_has_documents_of_its_own(vendor: Vendor, release: Release) -> None:
    one = release.components[0]
    options = ("--type", "cyclonedx", "--release", "dist", "--component")
    ran = add(vendor, BOM, *options, f"{one.profile}/{one.name}")
    assert ran.status == 0, ran.err
    (file,) = vendor.place.glob("cyclonedx.*")
    assert file.name.startswith(f"cyclonedx.{one.name}.")
    subject = said(file)["subject"][0]
    assert subject["name"] == component_product(one.profile, one.name)
    assert subject["digest"] == {"sha256": one.content.digest.hex}
    none = add(vendor, BOM, *options, "nobody")
    assert none.status == 2
    assert "1.2.0 has no components 'nobody', expected one" in none.err
    assert f"{one.profile}/{one.name}" in none.err


def test_an_artifact_that_is_known_by_its_digest(vendor: Vendor) -> None:
    digest = f"sha256:{'12' * 32}"
    assert add(vendor, BOM, "--type", "cyclonedx", "--subject", digest).status == 0
    (file,) = vendor.place.glob("cyclonedx.*")
    assert said(file)["subject"][0]["digest"] == {"sha256": "12" * 32}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give either --release or --subject: what is it about?"),
        (
            ("--release", "dist", "--subject", "sha256:00"),
            "give either --release or --subject",
        ),
        (("--subject", "sha256:00", "--component", "x"), "--component goes with"),
        (("--subject", "sha256:00"), "digest 'sha256:00' is not sha256"),
        (("--release", "dist"), "is no in-toto Statement, so it does not say what it"),
        (
            ("--release", "dist", "--type", "spdx"),
            "document.json is no spdx document: spdxVersion is None, expected text",
        ),
        (("--release", "dist", "--type", "vsa"), "is no vsa document: it has 3 fields"),
        (("--release", "gone", "--type", "cyclonedx"), "gone"),
    ],
)
def test_what_is_not_bound(
    vendor: Vendor, options: tuple[str, ...], message: str
) -> None:
    ran = add(vendor, BOM, *options)
    assert ran.status in {2, 4}
    assert message in ran.err
    assert [*vendor.place.glob("*.dsse.json")] == []


def test_a_statement_is_signed_as_it_is(vendor: Vendor, release: Release) -> None:
    digest = release.artifact.digest
    summary = {
        "verifier": {"id": "https://example.com/verifier"},
        "timeVerified": "2026-11-21T10:00:00Z",
        "resourceUri": "margo-supplychain:acme/pump-monitor@1.2.0",
        "verificationResult": "PASSED",
    }
    subject = Subject("whatever they call it", {"sha256": digest.hex})
    data = statement_bytes(
        [subject], "https://slsa.dev/verification_summary/v1", summary
    )
    (vendor.place / "summary.json").write_bytes(data + b"\n")
    ran = vendor.sign(
        *("attest", "add", "summary.json", "--release", "dist", "--key", "ci.key")
    )
    assert ran.status == 0, ran.err
    assert "attested vsa summary.json\n" in ran.out
    assert ", as it is\n" in ran.out
    (file,) = vendor.place.glob("vsa.*")
    assert said(file)["subject"][0]["name"] == "whatever they call it"


# --- show ----------------------------------------------------------------------------


def test_a_link_is_shown_as_unverified(vendor: Vendor, place: Path) -> None:
    (place / "src").mkdir()
    for number in range(10):
        (place / "src" / f"{number}.c").write_text("x")
    vendor.must(
        *("attest", "record", "--step", "build", "--materials", "src"),
        *("--exclude", "*.o", "--key", "ci.key"),
    )
    (file,) = place.glob("build.*")
    lines = run("attest", "show", file.name).out.splitlines()
    assert lines[0] == "UNVERIFIED: no signature was checked, nothing here is known"
    text = "\n".join(lines)
    assert "  step        build\n" in text
    assert "  materials   10\n" in text
    assert "sha256:2d711642b726  src/0.c\n" in text
    assert "and 2 more: --format json lists them\n" in text
    assert '{"materials":{"*.o":0},"products":{"*.o":0}}' in text
    assert f"by {vendor.key_id('ci.key')[:12]}, as the envelope says" in text
    found = run_json("attest-show", "attest", "show", file.name)["result"]
    assert found["verified"] is False
    assert len(found["link"]["materials"]) == 10
    assert found["statement"] is None


def documents() -> list[tuple[str, dict[str, Any], str]]:
    vex = {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "author": "acme",
        "statements": [
            {"status": "fixed"},
            {"status": "fixed"},
            {"status": "affected"},
        ],
    }
    return [
        (
            "slsa-provenance",
            {
                "buildDefinition": {"buildType": "https://example.com/make"},
                "runDetails": {"builder": {"id": "https://example.com/builder"}},
            },
            "builder     https://example.com/builder",
        ),
        ("cyclonedx", BOM, "parts    2"),
        (
            "spdx",
            {"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "packages": [{}]},
            "parts    1",
        ),
        ("openvex", vex, "statuses  2 fixed, 1 affected"),
        (
            "csaf",
            {
                "document": {"csaf_version": "2.0", "category": "csaf_vex"},
                "vulnerabilities": [{}],
            },
            "vulnerabilities  1",
        ),
        (
            "test-result",
            {"result": "PASSED", "configuration": [], "passedTests": ["a", "b"]},
            "passedTests  2",
        ),
        (
            "review",
            {"reviewers": [{"name": "alice"}, {}]},
            "reviewers  alice, somebody",
        ),
    ]


@pytest.mark.parametrize(
    ("name", "document", "line"), documents(), ids=[one[0] for one in documents()]
)
def test_every_kind_is_added_and_shown(
    vendor: Vendor, name: str, document: dict[str, Any], line: str
) -> None:
    ran = add(vendor, document, "--type", name, "--release", "dist")
    assert ran.status == 0, ran.err
    (file,) = vendor.place.glob(f"{name}.*")
    shown = run("attest", "show", file.name).out
    assert shown.startswith("UNVERIFIED")
    assert line in shown
    found = run_json("attest-show", "attest", "show", file.name)["result"]
    assert found["statement"]["kind"] == KINDS[name]


def test_what_nobody_signed_is_shown_too(vendor: Vendor) -> None:
    subject = Subject("x", {"sha256": "00" * 32})
    data = statement_bytes([subject], "https://example.com/own", {})
    (vendor.place / "own.json").write_bytes(data)
    shown = run("attest", "show", "own.json").out
    assert "of a type that no rule is about" in shown
    assert "by nobody: this is no envelope" in shown
    found = run_json("attest-show", "attest", "show", "own.json")["result"]
    assert (found["payloadType"], found["signatures"]) == (None, [])


def test_layouts_and_strangers_are_named(vendor: Vendor) -> None:
    def ask(*, token: str, tries_left: int | None) -> str:
        del token, tries_left
        return PASSPHRASE

    with open_keyring(pin=ask) as keyring:
        signer = keyring.open("ci.key")
        layout = layout_payload([], keys={}, expires=SystemClock().now())
        (vendor.place / "layout.json").write_bytes(
            sign_envelope("application/vnd.in-toto+json", layout, [signer])
        )
        (vendor.place / "text.json").write_bytes(
            sign_envelope("text/plain", b"hello", [signer])
        )
    assert "margo-supplychain layout show layout.json" in (
        run("attest", "show", "layout.json").out
    )
    assert "text/plain: not of in-toto" in run("attest", "show", "text.json").out
    for file in ("layout.json", "text.json"):
        run_json("attest-show", "attest", "show", file)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "is not JSON"),
        ("{}", "has the payload type None, expected a media type"),
        ('{"_type": "song"}', "holds 'song', expected a link, layout or Statement"),
        (
            '{"_type": "link", "name": "x", "products": {"../x": {}}}',
            "names '../x', which is no relative, normalised path",
        ),
    ],
)
def test_what_is_nothing_of_ours(place: Path, data: str, message: str) -> None:
    (place / "file.json").write_text(data)
    ran = run("attest", "show", "file.json")
    assert ran.status == 2
    assert message in ran.err
    validate(run("--format", "json", "attest", "show", "file.json").json, "error")
