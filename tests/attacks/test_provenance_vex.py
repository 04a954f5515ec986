"""Vulnerabilities that are open, and are said not to be in ways that must not count.

The device's owner allows nothing that has been affected for more than 30 days without a
mitigation. The vendor's own documents say that this release is; Mallory lists others
beside them with the application's stolen key, and the vendor is careless at times.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import ClockError, PolicyError
from margo_supplychain.formats.attestation_rules import AttestationRule, PolicyKey
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.predicates import CSAF
from margo_supplychain.formats.release_parts import Image
from tests.attacks.proven import running
from tests.attacks.test_provenance_steps import component
from tests.world.provenance import CYCLONEDX, MANIFEST, OPENVEX, keyid
from tests.world.repository import key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.attacks.proven import Plant
    from tests.world.provenance import Document, Json, Run

CVE = "CVE-2026-0001"
LONG_AGO, LATELY = "2026-09-01T00:00:00Z", "2026-11-20T00:00:00Z"
POLICY = b"""
[policy."*/*"]
require = ["signed", "provenance"]
vex-max-age = "30d"
"""


def vex(*statements: Json, at: str = LONG_AGO) -> Json:
    return {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://acme.example/vex/1",
        "author": "acme",
        "timestamp": at,
        "version": 1,
        "statements": [*statements],
    }


def claim(status: str, **more: Any) -> Json:
    return {"vulnerability": {"name": CVE}, "status": status, **more}


def watched(tmp_path: Path) -> Plant:
    """A plant with the rule, whose 1.1.0 has nothing open."""
    plant = running(tmp_path)
    plant.policy(
        keys=(PolicyKey.of(key("psirt").public_key),),
        attestations=tuple(
            AttestationRule(type=one, keyids=(keyid("psirt"),))
            for one in (OPENVEX, CYCLONEDX, CSAF)
        ),
    )
    plant.device.policy = POLICY
    run = plant.run("1.1.0")
    publish(plant, run, run.statement(OPENVEX, vex(claim("fixed")), "psirt"))
    plant.verified("1.1.0")
    return plant


def publish(plant: Plant, run: Run, *more: Document, **record: Any) -> None:
    """Publish a run with a statement of each type that the publisher demands."""
    types = {one.type for one in more}
    bom = {"bomFormat": "CycloneDX", "specVersion": "1.6"}
    empty = {OPENVEX: vex(), CYCLONEDX: bom, CSAF: csaf()}
    filled = [
        run.statement(one, value, "psirt")
        for one, value in empty.items()
        if one not in types
    ]
    plant.publish(run, [*run.documents().values(), *more, *filled], **record)


def csaf(*vulnerable: Json, **product: Any) -> Json:
    tracking = {"initial_release_date": LONG_AGO, "current_release_date": LATELY}
    names = [{"product_id": "P1", "name": "pump", **product}]
    return {
        "document": {"csaf_version": "2.0", "tracking": tracking},
        "product_tree": {"full_product_names": names},
        "vulnerabilities": [*vulnerable],
    }


def refused(plant: Plant, *documents: tuple[str, Json], match: str = CVE) -> None:
    """Publish 1.2.0 with these statements; expect that the rule says no."""
    run = plant.run("1.2.0")
    publish(plant, run, *(run.statement(*one, "psirt") for one in documents))
    plant.refused_by(PolicyError, match)


def test_affected_is_said_again_with_a_new_date(tmp_path: Path) -> None:
    """An open vulnerability does not grow young by being told once a month."""
    plant = watched(tmp_path)
    old = vex(claim("affected"))
    new = vex(claim("affected"), at=LATELY)
    refused(plant, (OPENVEX, old), (OPENVEX, new))


def test_fresh_scan_after_the_news(tmp_path: Path) -> None:
    """A list of components that a scanner wrote later says nothing of what is open."""
    plant = watched(tmp_path)
    scan = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "metadata": {"timestamp": LATELY},
        "vulnerabilities": [{"id": CVE}],
    }
    refused(plant, (OPENVEX, vex(claim("affected"))), (CYCLONEDX, scan))


def test_good_news_of_before(tmp_path: Path) -> None:
    plant = watched(tmp_path)
    before = vex(claim("fixed"), at="2026-08-01T00:00:00Z")
    refused(plant, (OPENVEX, vex(claim("affected"))), (OPENVEX, before))


def test_good_and_bad_news_of_one_time(tmp_path: Path) -> None:
    plant = watched(tmp_path)
    both = vex(claim("affected"), claim("fixed"))
    refused(plant, (OPENVEX, both))


def test_mitigation_that_is_none(tmp_path: Path) -> None:
    """What tools write where nobody said anything."""
    plant = watched(tmp_path)
    nothing = claim("affected", action_statement="No action statement provided")
    refused(plant, (OPENVEX, vex(nothing)))
    remedy = {"category": "none_available", "details": "-", "product_ids": ["P1"]}
    affected = {
        "cve": CVE,
        "product_status": {"known_affected": ["P1"]},
        "remediations": [remedy],
    }
    refused(plant, (CSAF, csaf(affected)))


def test_not_affected_without_a_reason(tmp_path: Path) -> None:
    plant = watched(tmp_path)
    refused(plant, (OPENVEX, vex(claim("not_affected"))), match="justification")
    harmless = {"cve": CVE, "product_status": {"known_not_affected": ["P1"]}}
    refused(plant, (CSAF, csaf(harmless)), match="justification")


def test_news_about_another_product(tmp_path: Path) -> None:
    """A document that was attested to for this release, and speaks of others alone,
    does not count as one without bad news."""
    plant = watched(tmp_path)
    other = {"@id": f"pkg:oci/pump@sha256%3A{'00' * 32}"}
    elsewhere = claim("affected", products=[other])
    nothing = "says nothing about this release"
    refused(plant, (OPENVEX, vex(elsewhere)), match=nothing)
    affected = {"cve": CVE, "product_status": {"known_affected": ["P1"]}}
    helper = {"purl": f"pkg:oci/pump@sha256%3A{'00' * 32}"}
    said = csaf(affected, product_identification_helper=helper)
    refused(plant, (CSAF, said), match=nothing)


# --- T-191: bad news that is passed over ---------------------------------------------


def other(status: str = "fixed", **more: Any) -> Json:
    """A word about another vulnerability, so that the document says something."""
    return {"vulnerability": {"name": "CVE-2026-0002"}, "status": status, **more}


@pytest.mark.parametrize(
    "name",
    [
        "pkg:oci/pump@sha256%3A{upper}",
        "pkg:oci/pump@sha256%3A{hex}#chart",
        "pkg:oci/pump@sha256:{hex}?tag=1.2.0",
        "registry.example/acme/pump@sha256:{upper}",
        "registry.example/acme/pump:1.2.0@sha256:{hex}",
        "sha256:{upper}",
        "{hex}",
    ],
)
def test_affected_by_a_digest_in_other_clothes(tmp_path: Path, name: str) -> None:
    """The release's own digest, as other tools write it, beside a harmless claim."""
    plant = watched(tmp_path)
    run = plant.run("1.2.0")
    digest = run.artifact.digest.hex
    product = {"@id": name.format(hex=digest, upper=digest.upper())}
    said = vex(other(), claim("affected", products=[product]))
    publish(plant, run, run.statement(OPENVEX, said, "psirt"))
    plant.refused_by(PolicyError, CVE)
    good = vex(other(), claim("fixed", products=[product]))
    publish(plant, run, run.statement(OPENVEX, good, "psirt"))
    plant.verified("1.2.0")


@pytest.mark.parametrize(
    "products",
    [
        [{"@id": "pkg:oci/pump-monitor@1.2.0"}],
        [{"@id": "pkg:oci/pump-monitor"}],
        [{"@id": MANIFEST.upper()}],
        [{"hashes": {"sha-512": "0" * 128}}],
        [{"@id": MANIFEST}, {"@id": "the web part"}],
        [{}],
    ],
)
def test_affected_by_a_name_that_nobody_knows(
    tmp_path: Path, products: list[Json]
) -> None:
    """It may be this release, or a part of it: what can't be told is no yes, whatever
    else the document says."""
    plant = watched(tmp_path)
    said = vex(other(), claim("affected", products=products))
    refused(plant, (OPENVEX, said), match="could be a part of this release")


def test_affected_before_this_release(tmp_path: Path) -> None:
    """Another release, by its digest, is no part of this one: the usual document about
    several releases is taken for what it says of this."""
    plant = watched(tmp_path)
    run = plant.run("1.2.0")
    ours = {"@id": f"pkg:oci/pump@{run.artifact.digest}"}
    theirs = {"@id": f"pkg:oci/pump@sha256%3A{'00' * 32}"}
    said = vex(claim("affected", products=[theirs]), claim("fixed", products=[ours]))
    publish(plant, run, run.statement(OPENVEX, said, "psirt"))
    plant.verified("1.2.0")


@pytest.mark.parametrize("of", ["component", "image"])
def test_affected_part_of_the_release(tmp_path: Path, of: str) -> None:
    """The chart or the image is affected; of the package nobody says so."""
    plant = watched(tmp_path)
    run = plant.run("1.2.0")
    content = plant.world.artifact(b"web 1.2.0")
    web = component("web", content)
    image = Image(component="web", reference="x.example/y:1", digest=Digest.of(b"y"))
    run.releases(components=[web], images=[image])
    digest = content.digest if of == "component" else image.digest
    part = {"@id": f"pkg:oci/web@{digest}"}
    for status in ("affected", "fixed"):
        said = vex(other(), claim(status, products=[part]))
        publish(
            plant,
            run,
            run.statement(OPENVEX, said, "psirt"),
            components=(web,),
            images=(image,),
        )
        if status == "affected":
            plant.refused_by(PolicyError, CVE)
    plant.verified("1.2.0")


def test_affected_library_beside_one_that_is_mended(tmp_path: Path) -> None:
    """One list has the vulnerability twice: later mended in one library, open in
    another."""
    plant = watched(tmp_path)
    states = (("exploitable", LONG_AGO), ("resolved", LATELY))
    listed = [
        {
            "id": CVE,
            "analysis": {"state": state, "firstIssued": LONG_AGO, "lastUpdated": when},
            "affects": [{"ref": f"library of {when}"}],
        }
        for state, when in states
    ]
    bom = {"bomFormat": "CycloneDX", "specVersion": "1.6", "vulnerabilities": listed}
    refused(plant, (CYCLONEDX, bom))


def test_affected_component_of_a_product(tmp_path: Path) -> None:
    """A day later something else in the product is said not to be affected."""
    plant = watched(tmp_path)
    said = []
    for status, when, part in (
        ("affected", LONG_AGO, "pkg:deb/debian/openssl@1"),
        ("fixed", LATELY, "pkg:npm/openssl-wrapper@2"),
    ):
        product = {"@id": MANIFEST, "subcomponents": [{"@id": part}]}
        said.append(claim(status, timestamp=when, products=[product]))
    refused(plant, (OPENVEX, vex(*said)))


@pytest.mark.parametrize("stamp", [{}, {"timestamp": "2026-08-01T00:00:00Z"}])
def test_affected_library_without_a_date(tmp_path: Path, stamp: Json) -> None:
    """Whoever looked said no date; of the other library somebody did."""
    plant = watched(tmp_path)
    fixed = {"state": "resolved", "lastUpdated": LATELY}
    listed = [
        {"id": CVE, "analysis": {"state": "exploitable"}, "affects": [{"ref": "a"}]},
        {"id": CVE, "analysis": fixed, "affects": [{"ref": "b"}]},
    ]
    bom = {"bomFormat": "CycloneDX", "specVersion": "1.6", "metadata": stamp}
    refused(plant, (CYCLONEDX, {**bom, "vulnerabilities": listed}))


@pytest.mark.parametrize(
    "name",
    [
        "pkg:oci/web@sha256%3A{child}?repository_url=x.example/acme/web&arch=arm64",
        "pkg:oci/WEB@sha256:{child}",
        "pkg:oci/pump@sha256:{child}?repository_url=mirror.example/acme/web",
        "x.example:5000/acme/web:1.2.0@sha256:{child}",
        "sha256:{child}",
    ],
)
def test_affected_platform_of_an_image(tmp_path: Path, name: str) -> None:
    """The record names an index; the document one of the manifests inside."""
    plant = watched(tmp_path)
    run = plant.run("1.2.0")
    image = Image(
        component="web", reference="x.example/acme/web:1", digest=Digest.of(b"index")
    )
    run.releases(images=[image])
    child = name.format(child=Digest.of(b"arm64").hex)
    said = vex(other(), claim("affected", products=[{"@id": child}]))
    publish(plant, run, run.statement(OPENVEX, said, "psirt"), images=(image,))
    plant.refused_by(PolicyError, "could be a part of this release")
    advisory = csaf({"cve": CVE, "product_status": {"known_affected": ["P1"]}})
    names = [
        {"product_id": "P1", "name": child},
        {"product_id": "P2", "name": MANIFEST},
    ]
    advisory["product_tree"]["full_product_names"] = names
    publish(plant, run, run.statement(CSAF, advisory, "psirt"), images=(image,))
    plant.refused_by(PolicyError, "could be a part of this release")
    away = {"@id": f"pkg:oci/pump@{Digest.of(b'old')}"}
    good = vex(other(), claim("affected", products=[away]))
    publish(plant, run, run.statement(OPENVEX, good, "psirt"), images=(image,))
    plant.verified("1.2.0")


@pytest.mark.parametrize(
    ("status", "ids", "match"),
    [
        ("known_affected ", ["P1"], "which is none"),
        ("Known_Affected", ["P1"], "which is none"),
        ("affected", ["P1"], "which is none"),
        ("known_affected", ["P1 "], "product tree does not have"),
        ("known_affected", ["p1"], "product tree does not have"),
        ("known_affected", ["P1", "CSAFPID-9"], "product tree does not have"),
    ],
)
def test_affected_in_an_advisory_that_is_misspelt(
    tmp_path: Path, status: str, ids: list[str], match: str
) -> None:
    """Beside a good entry of the same document."""
    plant = watched(tmp_path)
    good = {"cve": "CVE-2026-0002", "product_status": {"fixed": ["P1"]}}
    bad = {"cve": CVE, "product_status": {status: ids}}
    refused(plant, (CSAF, csaf(good, bad)), match=match)


def test_affected_product_of_an_advisory_that_nobody_knows(tmp_path: Path) -> None:
    """The tree has the release, and something of which it has a name alone."""
    plant = watched(tmp_path)
    said = csaf({"cve": CVE, "product_status": {"known_affected": ["P2"]}})
    said["product_tree"]["full_product_names"] = [
        {"product_id": "P1", "name": MANIFEST},
        {"product_id": "P2", "name": "pump 1.2.0"},
    ]
    refused(plant, (CSAF, said), match="could be a part of this release")


# --- T-192: words that say nothing, and times that never come ------------------------


def only(plant: Plant, run: Run, type_: str, predicate: Json) -> None:
    """Publish a run whose one statement about vulnerabilities is this."""
    plant.policy(
        attestations=(AttestationRule(type=type_, keyids=(keyid("psirt"),)),),
    )
    said = run.statement(type_, predicate, "psirt")
    plant.publish(run, [*run.documents().values(), said])


@pytest.mark.parametrize(
    ("type_", "predicate", "match"),
    [
        (CYCLONEDX, {"vulnerabilities": None}, "speaks of vulnerabilities"),
        (CYCLONEDX, {"vulnerabilities": {}}, "is no list"),
        (OPENVEX, {"statements": None}, "has no list of statements"),
        (CSAF, {"vulnerabilities": None}, "has no list of vulnerabilities"),
    ],
)
def test_document_that_does_not_speak(
    tmp_path: Path, type_: str, predicate: Json, match: str
) -> None:
    """A list that is not there is no empty list."""
    plant = watched(tmp_path)
    bom = {"bomFormat": "CycloneDX", "specVersion": "1.6"}
    whole = {CYCLONEDX: bom, OPENVEX: vex(), CSAF: csaf()}[type_]
    run = plant.run("1.2.0")
    only(plant, run, type_, {**whole, **predicate})
    plant.refused_by(PolicyError, match)
    only(plant, run, type_, {**whole, **{name: [] for name in predicate}})
    plant.verified("1.2.0")


@pytest.mark.parametrize(
    "action", ["none", "N/A", "None.", "\u200b", "-", "no fix", "?"]
)
def test_mitigation_in_empty_words(tmp_path: Path, action: str) -> None:
    plant = watched(tmp_path)
    refused(plant, (OPENVEX, vex(claim("affected", action_statement=action))))


def test_times_to_come(tmp_path: Path) -> None:
    """What is affected since 2099 is never old, and what is fixed as of 2099 is never
    overruled: the one decides nothing, and the other overrules nothing."""
    plant = watched(tmp_path)
    late = "2099-01-01T00:00:00Z"
    run = plant.run("1.2.0")
    for status in ("affected", "fixed"):
        only(plant, run, OPENVEX, vex(claim(status, timestamp=late)))
        error = plant.refused_by(ClockError, "which is still to come")
        assert error.report is not None
        assert error.report.verdict == "inconclusive"
    both = vex(claim("affected"), claim("fixed", timestamp=late))
    only(plant, run, OPENVEX, both)
    plant.refused_by(PolicyError, f"{CVE} affects it without mitigation since 2026-09")


# --- T-193: documents that take for ever, or whose refusal does ----------------------


def test_advisory_whose_products_are_a_chain(tmp_path: Path) -> None:
    """Each product is made of one that is listed behind it; and a flag names a large
    group many times. Neither takes longer than reading does."""
    plant = watched(tmp_path)
    said = csaf({"cve": CVE, "product_status": {"known_affected": ["P30000"]}})
    said["product_tree"]["relationships"] = [
        {
            "product_reference": f"P{one - 1}",
            "relates_to_product_reference": "",
            "full_product_name": {"product_id": f"P{one}"},
        }
        for one in range(30_000, 1, -1)
    ]
    group = {"group_id": "G", "product_ids": [f"P{one}" for one in range(2, 30_000)]}
    said["product_tree"]["product_groups"] = [group]
    remedy = {"category": "mitigation", "details": "x", "group_ids": ["G"] * 30_000}
    said["vulnerabilities"][0]["remediations"] = [remedy]
    before = time.process_time()
    run = plant.run("1.2.0")
    only(plant, run, CSAF, said)
    plant.verified("1.2.0")
    # The square of it takes minutes.
    assert time.process_time() - before < 15
    remedy["group_ids"] = ["H"]
    only(plant, run, CSAF, said)
    plant.refused_by(PolicyError, CVE, newer=True)


def test_refusal_of_any_length(tmp_path: Path) -> None:
    """A document about 5,000 open vulnerabilities, one with a name of a megabyte, fills
    neither a screen nor a log."""
    plant = watched(tmp_path)
    many = [
        {"vulnerability": {"name": f"CVE-2026-{one:07}"}, "status": "affected"}
        for one in range(5_000)
    ]
    long = {"vulnerability": {"name": "C" * (1 << 20)}, "status": "affected"}
    run = plant.run("1.2.0")
    only(plant, run, OPENVEX, vex(*many, long))
    error = plant.refused_by(PolicyError, "4996 more")
    assert error.report is not None
    assert len(str(error)) < 2_000
    assert len(error.report.to_json()) < 20_000
    only(plant, run, OPENVEX, vex(long))
    assert len(str(plant.refused_by(PolicyError, "1048576 characters"))) < 1_000
