"""Vulnerabilities that are open, and are said not to be in ways that must not count.

The device's owner allows nothing that has been affected for more than 30 days without a
mitigation. The vendor's own documents say that this release is; Mallory lists others
beside them with the application's stolen key, and the vendor is careless at times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from margo_supplychain.errors import PolicyError
from margo_supplychain.formats.attestation_rules import AttestationRule, PolicyKey
from margo_supplychain.formats.predicates import CSAF
from tests.attacks.proven import running
from tests.world.provenance import CYCLONEDX, OPENVEX, keyid
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


def publish(plant: Plant, run: Run, *more: Document) -> None:
    """Publish a run with a statement of each type that the publisher demands."""
    types = {one.type for one in more}
    bom = {"bomFormat": "CycloneDX", "specVersion": "1.6"}
    empty = {OPENVEX: vex(), CYCLONEDX: bom, CSAF: csaf()}
    filled = [
        run.statement(one, value, "psirt")
        for one, value in empty.items()
        if one not in types
    ]
    plant.publish(run, [*run.documents().values(), *more, *filled])


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
    affected = {"cve": CVE, "product_status": {"known_affected": ["P2"]}}
    refused(plant, (CSAF, csaf(affected)), match=nothing)
