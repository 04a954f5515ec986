"""Reports as verification summaries: what they name, and of what there are none."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.reports import (
    FUNCTIONARIES,
    Report,
    Step,
    Verdict,
    resource_of,
)
from margo_supplychain.formats.versions import Version
from margo_supplychain.version import __version__

FOUND: dict[str, Any] = {
    "release": "acme/pump@1.2.0",
    "record path": "acme/releases/pump/1.2.0",
    "record": "11" * 32,
    "artifact": f"sha256:{'22' * 32}",
    "publisher policy": {"path": "acme/policies/pump/1.json", "sha256": "33" * 32},
}
PROOF: dict[str, Any] = {
    "provenance": "full",
    "layout": 2,
    "layout path": "acme/layouts/pump/2.json",
    "layout digest": f"sha256:{'44' * 32}",
    "steps": [
        {
            "name": "build",
            "functionaries": ["aa" * 32],
            "links": [f"sha256:{'55' * 32}"],
        }
    ],
    "key ids": ["bb" * 32],
    "statements": [
        {
            "type": "https://slsa.dev/provenance/v1",
            "digest": f"sha512:{'66' * 64}",
            "signers": [],
        }
    ],
}


def report(
    verdict: Verdict = "verified",
    proof: dict[str, Any] | None = None,
    found: dict[str, Any] | None = None,
) -> Report:
    steps = (
        Step(3, "record", "passed", FOUND if found is None else found),
        Step(4, "provenance", "passed", PROOF if proof is None else proof),
    )
    time = datetime(2026, 11, 21, 10, tzinfo=UTC)
    return Report("acme/pump ^1", verdict, "verified", time, steps)


def predicate(made: Report, **options: Any) -> dict[str, Any]:
    said = json.loads(made.to_vsa(**options))
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "https://slsa.dev/verification_summary/v1"
    digest = {"sha256": "22" * 32}
    assert said["subject"] == [{"name": "release/manifest", "digest": digest}]
    found: dict[str, Any] = said["predicate"]
    return found


def test_a_yes() -> None:
    assert predicate(report(), verifier="https://site.example") == {
        "verifier": {
            "id": "https://site.example",
            "version": {"margo-supplychain": __version__},
        },
        "timeVerified": "2026-11-21T10:00:00Z",
        "resourceUri": "margo-supplychain:acme/pump@1.2.0",
        "policy": {
            "uri": "margo-supplychain:acme/policies/pump/1.json",
            "digest": {"sha256": "33" * 32},
        },
        "inputAttestations": [
            {
                "uri": "margo-supplychain:acme/releases/pump/1.2.0",
                "digest": {"sha256": "11" * 32},
            },
            {
                "uri": "margo-supplychain:acme/layouts/pump/2.json",
                "digest": {"sha256": "44" * 32},
            },
            {
                "uri": "margo-supplychain:acme/layouts/pump/2.json#build",
                "digest": {"sha256": "55" * 32},
            },
            {
                "uri": "https://slsa.dev/provenance/v1",
                "digest": {"sha512": "66" * 64},
            },
        ],
        "verificationResult": "PASSED",
        "verifiedLevels": ["SLSA_BUILD_LEVEL_UNEVALUATED", "MARGO_PROVENANCE"],
        FUNCTIONARIES: ["aa" * 32, "bb" * 32],
    }
    name, version = ReleaseName.parse("acme/pump"), Version.parse("1.2.0")
    assert predicate(report())["resourceUri"] == resource_of(name, version)


def test_a_yes_without_provenance_claims_none() -> None:
    found = predicate(report(proof={"provenance": "none"}))
    assert found["verifiedLevels"] == ["SLSA_BUILD_LEVEL_UNEVALUATED"]
    assert len(found["inputAttestations"]) == 1
    assert found[FUNCTIONARIES] == []


def test_a_no() -> None:
    found = predicate(report("rejected", proof={"provenance": "not proven"}))
    assert found["verificationResult"] == "FAILED"
    assert found["verifiedLevels"] == ["FAILED"]


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (report("inconclusive"), "nothing was decided"),
        (report("rejected", found={}), "no release was looked at"),
        (report()._replace(steps=()), "no release was looked at"),
        (report(proof={"provenance": "summary"}), "by a summary of somebody else"),
    ],
)
def test_nothing_to_sum_up(made: Report, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        made.to_vsa()


def test_facts_of_a_step() -> None:
    assert report().facts(3) == FOUND
    assert report().facts(6) == {}
