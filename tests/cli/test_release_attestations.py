"""`release publish`, `adopt`, `submit` and `show` with attestations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring import attestations
from margo_supplychain.authoring.drafts import read_adopted
from margo_supplychain.authoring.release import NO_TIME, Release
from margo_supplychain.errors import StorageError
from margo_supplychain.formats.oci import MARGO_APPLICATION
from margo_supplychain.formats.release_products import (
    MANIFEST_PRODUCT,
    release_products,
)
from tests.authoring.proving import run_of as of_release
from tests.cli.running import run, run_json
from tests.cli.vendor import NAME, Vendor, files_below
from tests.world.provenance import CYCLONEDX, encode, envelope, layout, payload_of

if TYPE_CHECKING:
    from tests.world.provenance import Run


@pytest.fixture
def vendor(place: Path, secret: str) -> Vendor:
    """Return a vendor whose policy demands provenance of what is built in dist."""
    found = Vendor(place, secret)
    found.application()
    (place / "layout.json").write_bytes(encode(layout()))
    found.must("layout", "sign", "layout.json", "--key", "offline.key", "--yes")
    found.must(
        *("app", "policy", NAME, "--provenance", "required"),
        *("--layout", "layout.json", "--serves", "*", "--yes"),
    )
    found.build()
    record(found)
    return found


def run_of(vendor: Vendor, dist: str = "dist") -> Run:
    """Return an honest run of the pipeline that made what was built."""
    return of_release(Release.from_build(vendor.place / dist))


def record(vendor: Vendor, dist: str = "dist", links: str = "links") -> None:
    """Write the links of that run into a directory, beside other files."""
    directory = vendor.place / links
    directory.mkdir(exist_ok=True)
    for name, one in run_of(vendor, dist).documents().items():
        (directory / f"{name}.dsse.json").write_bytes(one.data)
    (directory / "README").write_text("links of one run\n")


def bom(vendor: Vendor) -> str:
    path = vendor.place / "bom.dsse.json"
    path.write_bytes(run_of(vendor).statement(CYCLONEDX, {}, "builder").data)
    return path.name


def test_publish_says_what_proves_it(vendor: Vendor) -> None:
    ran = vendor.must(
        *("release", "publish", "dist"),
        *("--attestation", "links", "--attestation", bom(vendor)),
    )
    assert (
        f"  proof    layout 1: links of build, package, test; {CYCLONEDX}\n" in ran.out
    )
    ran = vendor.sign("release", "publish", "dist", "--attestation", "links")
    assert ran.status == 2
    assert "acme/pump-monitor 1.2.0 exists with other attestations" in ran.err
    again = vendor.sign_json("release-publish", "release", "publish", "dist")["result"]
    (one,) = again["releases"]
    assert not again["changed"]
    assert (one["layout"], one["summaries"]) == (1, 0)
    steps = [each.get("step") for each in one["attestations"]]
    assert steps == [None, "build", "package", "test"]


def test_show(vendor: Vendor) -> None:
    vendor.must("release", "publish", "dist", "--attestation", "links")
    ran = run("release", "show", NAME, "1.2.0")
    assert "  layout     1, of those that the publisher lists\n" in ran.out
    assert "  attested   step build  " in ran.out
    shown = run_json("release-show-one", "release", "show", NAME, "1.2.0")["result"]
    assert shown["record"]["layout"] == 1
    assert len(shown["record"]["attestations"]) == 3
    assert shown["summaries"] == []


def test_show_of_many(vendor: Vendor) -> None:
    """A screen holds some of them; JSON has all."""
    made = run_of(vendor)
    for number in range(25):
        one = made.statement(f"https://example.com/check/{number}", {}, "builder")
        (vendor.place / f"links/{number}.dsse.json").write_bytes(one.data)
    vendor.must("release", "publish", "dist", "--attestation", "links")
    shown = run("release", "show", NAME, "1.2.0").out
    assert shown.count("  attested   https://example.com/check/") == 20
    assert "  attested   and 8 more\n" in shown


def test_a_missing_link(vendor: Vendor) -> None:
    """A packager reads which step, and what would satisfy it; nothing was written."""
    (vendor.place / "links/test.dsse.json").unlink()
    before = files_below(vendor.place / "trust")
    publish = ("release", "publish", "dist", "--attestation", "links")
    ran = vendor.sign(*publish)
    assert ran.status == 3
    assert "step" in ran.err
    assert "test" in ran.err
    assert "hint: nothing was written" in ran.err
    said = run("--format", "json", *publish, "--passphrase-file", vendor.secret).json[
        "error"
    ]
    assert said["code"] == "provenance"
    assert said["facts"]["reason"] == "missing-step"
    assert {one["name"] for one in said["facts"]["trace"]["steps"]} == {
        "build",
        "package",
        "test",
    }
    assert files_below(vendor.place / "trust") == before


def test_none_at_all(vendor: Vendor) -> None:
    ran = vendor.sign("release", "publish", "dist")
    assert ran.status == 2
    assert "demands provenance, and no link of a step comes with 1.2.0" in ran.err
    assert "--attestation FILE" in ran.err


def test_a_summary_is_added(vendor: Vendor) -> None:
    """What a verifier says, is signed and published beside the release."""
    vendor.must("release", "publish", "dist", "--attestation", "links")
    ran = run(
        *("device", "init", "--root", "trust/metadata/1.root.json"),
        *("--source", "trust", "--publisher", "acme", "--state", "state"),
    )
    assert ran.status == 0, ran.err
    said = run(
        *("device", "verify", NAME, "--pin", "*", "--state", "state"),
        *("--vsa", "vsa.json"),
    )
    assert said.status == 0, said.err
    statement: dict[str, Any] = json.loads((vendor.place / "vsa.json").read_bytes())
    signed = vendor.place / "vsa.dsse.json"
    signed.write_bytes(envelope(statement, "verifier"))
    ran = vendor.must("release", "publish", "dist", "--attestation", signed.name)
    assert "layout 1: links of build, package, test; 1 summary" in ran.out
    assert "no key that the publisher policy" in ran.err
    assert "  summary    " in run("release", "show", NAME, "1.2.0").out
    (one,) = run_json("release-show", "release", "show", NAME)["result"]["releases"]
    assert len(one["summaries"]) == 1


# --- files ---------------------------------------------------------------------------


def test_files_that_are_none(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = ("release", "publish", "dist", "--attestation")
    ran = vendor.sign(*publish, "absent.dsse.json")
    assert (ran.status, "no such file, expected a signed attestation" in ran.err) == (
        2,
        True,
    )
    (vendor.place / "empty").mkdir()
    ran = vendor.sign(*publish, "empty")
    assert ran.status == 2
    assert "empty: no file *.dsse.json in it" in ran.err
    (vendor.place / "x.dsse.json").write_text("{}")
    ran = vendor.sign(*publish, "x.dsse.json")
    assert ran.status == 2
    assert "payload type" in ran.err
    monkeypatch.setattr(attestations, "MAX_TOGETHER", 1_000)
    ran = vendor.sign(*publish, "links")
    assert ran.status == 2
    assert "names files of more than 1000 bytes together" in ran.err
    monkeypatch.setattr("margo_supplychain.formats.record.MAX_ATTESTATIONS", 1)
    ran = vendor.sign(*publish, "links")
    assert ran.status == 2
    assert "--attestation names more than 1 files" in ran.err


def test_of_two_releases(vendor: Vendor) -> None:
    vendor.build("1.3.0", "dist-2")
    ran = vendor.sign(
        *("release", "publish", "dist", "dist-2", "--attestation", "links")
    )
    assert ran.status == 2
    assert "attestations of 2 releases can't be told apart" in ran.err


# --- adopt and submit ----------------------------------------------------------------


def test_adopt(vendor: Vendor) -> None:
    """What exists already can prove how it was made as well."""
    digest = Release.from_build(vendor.place / "dist").artifact.digest
    adopt = (
        *("release", "adopt", f"dist@{digest}", "--name", NAME, "--version", "1.2.0"),
        "--partial",
    )
    ran = vendor.sign(*adopt)
    assert ran.status == 2
    assert "demands provenance, and no link of a step" in ran.err
    ran = vendor.sign(*adopt, "--attestation", "links")
    assert ran.status == 3
    assert "links that were recorded for exactly this release" in ran.err
    bare = run_of(vendor)
    bare.links["package"]["products"] = {MANIFEST_PRODUCT: {"sha256": digest.hex}}
    # Nothing is known of its components: the record is another than of what was built.
    bare.releases(kind=MARGO_APPLICATION, applicationVersion="1.2.0", closure="partial")
    package = bare.documents()["package"].data
    (vendor.place / "links/package.dsse.json").write_bytes(package)
    ran = vendor.must(*adopt, "--attestation", "links")
    assert "  proof    layout 1: links of build, package, test\n" in ran.out


def test_adopt_what_a_step_recorded(vendor: Vendor) -> None:
    """The release step records what will be adopted, before anybody signs it."""
    digest = Release.from_build(vendor.place / "dist").artifact.digest
    (vendor.place / "images.lock").write_text("format = 1\n")
    adopt = (
        *("release", "adopt", f"dist@{digest}", "--name", NAME, "--version", "1.2.0"),
        *("--partial", "--images-lock", "images.lock"),
    )
    written = run_json("release-build", *adopt, "--write-release", "x.json")["result"]
    assert (written["output"], written["closure"]) == ("x.json", "partial")
    ran = run(*adopt, "--write-release", "x.json")
    assert ran.status == 0
    assert f"wrote x.json: {NAME} 1.2.0; nothing is signed\n" in ran.out
    ran = run(*adopt, "--write-release", "x.json", "--attestation", "links")
    assert ran.status == 2
    assert "takes neither --attestation nor --submit" in ran.err
    wanted = release_products(read_adopted(vendor.place / "x.json").record(NO_TIME))
    ran = vendor.sign(
        *("attest", "record", "--step", "package", "--release", "x.json"),
        *("--key", "ci.key", "--output", "recorded"),
    )
    assert ran.status == 0, ran.err
    (file,) = (vendor.place / "recorded").iterdir()
    said = payload_of(file.read_bytes())
    assert said["products"] == {
        name: {"sha256": one.hex} for name, one in wanted.items()
    }
    # The pipeline's own functionary says the same, and it is published.
    made = run_of(vendor)
    made.links["package"]["products"] = said["products"]
    package = made.documents()["package"].data
    (vendor.place / "links/package.dsse.json").write_bytes(package)
    # Under another version it is another release.
    other = [part if part != "1.2.0" else "1.3.0" for part in adopt]
    ran = vendor.sign(*other, "--attestation", "links")
    assert ran.status == 3
    assert "another version, other images" in ran.err
    vendor.must(*adopt, "--attestation", "links")


def test_what_will_be_adopted_is_not_edited(vendor: Vendor) -> None:
    digest = Release.from_build(vendor.place / "dist").artifact.digest
    adopt = ("release", "adopt", f"dist@{digest}", "--name", NAME, "--partial")
    assert run(*adopt, "--version", "1.2.0", "--write-release", "x.json").status == 0
    path = vendor.place / "x.json"
    path.write_text(path.read_text().replace("1.2.0", "9.9.9"))
    record = ("attest", "record", "--step", "package", "--key", "ci.key")
    ran = vendor.sign(*record, "--release", "x.json")
    assert ran.status == 2
    assert "x.json was changed since it was built" in ran.err
    ran = vendor.sign(*record, "--release", "y.json")
    assert ran.status == 2
    assert "y.json holds no release.json" in ran.err
    with pytest.raises(StorageError, match=r"y\.json is not there"):
        read_adopted(Path("y.json"))


def test_from_tags_takes_none(vendor: Vendor) -> None:
    ran = run(
        *("release", "adopt", "oci://registry.example/x", "--from-tags"),
        *("--attestation", "links"),
    )
    assert ran.status == 2
    del vendor


def test_submit(vendor: Vendor) -> None:
    (vendor.place / "inbox").mkdir()
    submit = ("release", "submit", "dist", "--inbox", "inbox")
    ran = vendor.sign(*submit, "--attestation", "links", "--key", "ci.key")
    assert ran.status == 0, ran.err
    assert "provenance  layout 1: links of build, package, test" in ran.out
    document = vendor.sign_json("release-submit", *submit, "--key", "ci.key")["result"]
    assert not document["changed"]
    (one,) = document["releases"]
    assert one["layout"] == 1
    (handed,) = (vendor.place / "inbox").iterdir()
    ran = vendor.sign(
        *("release", "submit", str(handed), "--inbox", "inbox"),
        *("--attestation", "links"),
    )
    assert ran.status == 2
    assert "it takes no attestation" in ran.err
    ran = vendor.sign("repo", "accept", "inbox", "--key", "ci.key")
    assert ran.status == 0, ran.err
    ran = run("release", "show", NAME, "1.2.0")
    assert "  layout     1," in ran.out
