"""Statements about a release: missing, about others, of other types, by other people.

The publisher's policy names who may sign which type. Mallory lists the record with the
application's stolen key; she may have a functionary's key, too.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import (
    BudgetError,
    DigestMismatchError,
    FetchError,
    PolicyError,
)
from margo_supplychain.formats.attestation_rules import AttestationRule, PolicyKey
from margo_supplychain.verify.limits import Limits
from tests.attacks.proven import PUMP, running
from tests.world.provenance import (
    CYCLONEDX,
    MANIFEST,
    OPENVEX,
    PAYLOAD,
    SLSA,
    Document,
    encode,
    envelope,
    keyid,
    payload_of,
    reopened,
    sha256,
)
from tests.world.repository import key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.attacks.proven import Plant
    from tests.world.provenance import Json, Run

BUILDER = "https://ci.acme.example/builder@v1"
SOURCE = "git+https://git.acme.example/pump"


def demand(plant: Plant, *types: str, signers: tuple[str, ...], **rule: Any) -> None:
    """Let the publisher demand statements, each by these signers."""
    plant.policy(
        keys=tuple(PolicyKey.of(key(one).public_key) for one in signers),
        attestations=tuple(
            AttestationRule(
                type=one, keyids=tuple(keyid(name) for name in signers), **rule
            )
            for one in types
        ),
    )


def slsa(builder: str = BUILDER, *sources: str) -> Json:
    """Return SLSA provenance v1 as GitHub and others write it."""
    return {
        "buildDefinition": {
            "buildType": "https://acme.example/build/v1",
            "externalParameters": {},
            "resolvedDependencies": [
                {"uri": one, "digest": {"gitCommit": "0" * 40}} for one in sources
            ],
        },
        "runDetails": {"builder": {"id": builder}},
    }


def publish(plant: Plant, run: Run, *more: Document, **options: Any) -> None:
    """Publish a run with its links and these documents."""
    plant.publish(run, [*run.documents().values(), *more], **options)


def asked(tmp_path: Path) -> Plant:
    """A plant whose publisher demands SLSA provenance by `provenance-ci`."""
    plant = running(tmp_path)
    demand(plant, SLSA, signers=("provenance-ci",))
    run = plant.run("1.1.0")
    publish(plant, run, run.statement(SLSA, slsa(), "provenance-ci"))
    plant.verified("1.1.0")
    return plant


# --- T-238: what was signed as one thing is taken for another ------------------------


def test_predicate_type_of_another_statement(tmp_path: Path) -> None:
    """The same key signs SBOMs and provenance: an SBOM is not provenance, whatever the
    record says that it is."""
    plant = running(tmp_path)
    demand(plant, SLSA, CYCLONEDX, signers=("provenance-ci",))
    run = plant.run("1.1.0")
    sbom = run.statement(CYCLONEDX, {"bomFormat": "CycloneDX"}, "provenance-ci")
    publish(plant, run, sbom, run.statement(SLSA, slsa(), "provenance-ci"))
    plant.verified("1.1.0")

    other = plant.run("1.2.0")
    sbom = other.statement(CYCLONEDX, {"bomFormat": "CycloneDX"}, "provenance-ci")
    again = other.statement(CYCLONEDX, slsa(), "provenance-ci")
    publish(plant, other, sbom, again._replace(type=SLSA))
    error = plant.unattested("predicate-type", CYCLONEDX)
    assert (error.type, error.found, error.wanted) == (SLSA, CYCLONEDX, SLSA)


def test_link_as_a_statement(tmp_path: Path) -> None:
    """A functionary's link is no statement that the publisher asked for."""
    plant = asked(tmp_path)
    run = plant.run("1.2.0")
    link = run.documents()["build"]
    said = Document(SLSA, None, envelope(run.links["build"], "provenance-ci"))
    publish(plant, run, said)
    plant.unattested("envelope", "type")
    publish(plant, run, link._replace(type=SLSA, step=None, data=link.data + b"\n"))
    plant.unattested("signature", SLSA)


@pytest.mark.parametrize(
    "type_",
    [f"{SLSA}.1", f"{SLSA}/", f"{SLSA}x", SLSA.upper(), f"{SLSA}/v1/evil", f"{SLSA}#"],
)
def test_type_that_looks_like_the_demanded_one(tmp_path: Path, type_: str) -> None:
    """Types are compared as they are; only a version may follow one without."""
    plant = asked(tmp_path)
    run = plant.run("1.2.0")
    publish(plant, run, run.statement(type_, slsa(), "provenance-ci"))
    plant.unattested("missing-attestation", SLSA)


def test_unknown_payload_type_of_a_statement(tmp_path: Path) -> None:
    """The right words, signed for something else than an in-toto statement."""
    plant = asked(tmp_path)
    run = plant.run("1.2.0")
    said = run.said(SLSA, slsa())
    data = envelope(said, "provenance-ci", payload_type="application/json")
    publish(plant, run, Document(SLSA, None, data))
    plant.unattested("payload-type", "application/json")
    forced = reopened(data, lambda raw: raw.update(payloadType=PAYLOAD))
    publish(plant, run, Document(SLSA, None, forced))
    plant.unattested("signature", SLSA)

    kind = "application/vnd.in-toto.provenance+json"
    fine = envelope(said, "provenance-ci", payload_type=kind)
    publish(plant, run, Document(SLSA, None, fine))
    plant.verified("1.2.0")


# --- T-243: statements that prove nothing of this release ----------------------------


def test_missing_statement(tmp_path: Path) -> None:
    """The record leaves out what the offline key demands."""
    plant = asked(tmp_path)
    publish(plant, plant.run("1.2.0"))
    error = plant.unattested("missing-attestation", SLSA)
    assert error.type == SLSA
    plant.policy(provenance="none")
    publish(plant, plant.run("1.3.0"))
    plant.unattested("missing-attestation", SLSA)


@pytest.mark.parametrize(
    "subject",
    [
        {"name": MANIFEST, "digest": sha256("something else")},
        {"name": MANIFEST, "digest": {"md5": "0" * 32}},
        {"name": MANIFEST, "digest": {"sha512": "0" * 128}},
        {"name": "acme/pump-monitor@1.2.0", "digest": {"gitCommit": "0" * 40}},
    ],
    ids=["other", "md5", "sha512", "commit"],
)
def test_statement_about_another_subject(tmp_path: Path, subject: Json) -> None:
    """A good statement about something else, under any name, says nothing here."""
    plant = asked(tmp_path)
    run = plant.run("1.2.0")
    said = run.statement(SLSA, slsa(), "provenance-ci", subject=[subject])
    publish(plant, run, said)
    error = plant.unattested("subject", "something else")
    assert run.artifact.digest.hex in str(error.wanted)


@pytest.mark.parametrize("subject", [[], None, [{"name": "x"}], [{"digest": {}}], "x"])
def test_statement_about_nothing(tmp_path: Path, subject: Any) -> None:
    """About nothing is not about everything."""
    plant = asked(tmp_path)
    run = plant.run("1.2.0")
    publish(plant, run, run.statement(SLSA, slsa(), "provenance-ci", subject=subject))
    plant.unattested("envelope", "subject|digest")


def test_statement_of_another_release(tmp_path: Path) -> None:
    """The statement about 1.1.0 is replayed for 1.2.0."""
    plant = asked(tmp_path)
    old = plant.run("1.1.0").statement(SLSA, slsa(), "provenance-ci")
    publish(plant, plant.run("1.2.0"), old)
    plant.unattested("subject", "something else")


@pytest.mark.parametrize(
    "signer", ["mallory", "builder", "acme", PUMP.role, "snapshot", "timestamp"]
)
def test_statement_by_somebody_else(tmp_path: Path, signer: str) -> None:
    """Neither a functionary nor any of TUF's keys signs statements, unless named."""
    plant = asked(tmp_path)
    run = plant.run("1.2.0")
    publish(plant, run, run.statement(SLSA, slsa(), signer))
    plant.unattested("signature", "0 of the keys")
    claimed = envelope(run.said(SLSA, slsa()), (signer, keyid("provenance-ci")))
    publish(plant, run, Document(SLSA, None, claimed))
    plant.unattested("signature", "0 of the keys")


def test_key_of_another_type(tmp_path: Path) -> None:
    """Who may sign SBOMs may not sign provenance, though the policy holds his key."""
    plant = running(tmp_path)
    names = ("provenance-ci", "sbom-ci")
    plant.policy(
        keys=tuple(PolicyKey.of(key(one).public_key) for one in names),
        attestations=(
            AttestationRule(type=SLSA, keyids=(keyid("provenance-ci"),)),
            AttestationRule(type=CYCLONEDX, keyids=(keyid("sbom-ci"),)),
        ),
    )
    run = plant.run("1.1.0")
    sbom = run.statement(CYCLONEDX, {"bomFormat": "CycloneDX"}, "sbom-ci")
    publish(plant, run, sbom, run.statement(SLSA, slsa(), "provenance-ci"))
    plant.verified("1.1.0")
    other = plant.run("1.2.0")
    sbom = other.statement(CYCLONEDX, {"bomFormat": "CycloneDX"}, "sbom-ci")
    publish(plant, other, sbom, other.statement(SLSA, slsa(), "sbom-ci"))
    plant.unattested("signature", "0 of the keys")


def test_statement_by_one_of_two_who_signs_twice(tmp_path: Path) -> None:
    """Two must sign. Mallory has the key of one, and signs under both ids, or in two
    envelopes: they are not added up."""
    plant = running(tmp_path)
    demand(plant, SLSA, signers=("reviewer-a", "reviewer-b"), threshold=2)
    run = plant.run("1.1.0")
    publish(plant, run, run.statement(SLSA, slsa(), "reviewer-a", "reviewer-b"))
    plant.verified("1.1.0")

    other = plant.run("1.2.0")
    said = other.said(SLSA, slsa())
    twice = envelope(said, "reviewer-a", ("reviewer-a", keyid("reviewer-b")))
    publish(plant, other, Document(SLSA, None, twice))
    plant.unattested("signature", "1 of the keys")
    one = other.statement(SLSA, slsa(), "reviewer-a")
    two = other.statement(SLSA, {**slsa(), "x": 1}, "reviewer-a")
    publish(plant, other, one, two)
    plant.unattested("signature", "1 of the keys")


def test_tampered_statement(tmp_path: Path) -> None:
    """What it says was changed after it was signed; or a mirror changed its bytes."""
    plant = asked(tmp_path)
    run = plant.run("1.2.0")
    old = plant.run("1.1.0").statement(SLSA, slsa(), "provenance-ci").data

    def change(raw: Json) -> None:
        said = payload_of(old)
        said["subject"][0]["digest"]["sha256"] = run.artifact.digest.hex
        raw["payload"] = base64.b64encode(encode(said)).decode()

    publish(plant, run, Document(SLSA, None, reopened(old, change)))
    plant.unattested("signature", "0 of the keys")

    good = run.statement(SLSA, slsa(), "provenance-ci")
    publish(plant, run, good)
    name = str(good.what.digest)
    whole = plant.device.source.files.blobs[name]
    plant.device.source.files.blobs[name] = whole[:-2] + b" }"
    plant.refused_by(DigestMismatchError, "attestation")
    del plant.device.source.files.blobs[name]
    plant.refused_by(FetchError, "no such blob")
    plant.device.source.files.blobs[name] = whole
    plant.verified("1.2.0")


@pytest.mark.parametrize(
    "payload", [b"{}", b"[]", b"x", b'{"_type":' * 60_000, b"[" * 200_000]
)
def test_statement_that_breaks_a_reader(tmp_path: Path, payload: bytes) -> None:
    """Signed by the right key, and no statement: a plain no."""
    plant = asked(tmp_path)
    run = plant.run("1.2.0")
    publish(plant, run, Document(SLSA, None, envelope(payload, "provenance-ci")))
    plant.unattested("envelope", "attestation")


def test_statement_that_says_a_thing_twice(tmp_path: Path) -> None:
    """One reader takes the first subject, another the last."""
    plant = asked(tmp_path)
    run = plant.run("1.2.0")
    text = encode(run.said(SLSA, slsa()))
    twice = text.replace(b'"subject":', b'"subject":[],"subject":', 1)
    publish(plant, run, Document(SLSA, None, envelope(twice, "provenance-ci")))
    plant.unattested("envelope", "subject")


def test_rubbish_beside_a_good_statement(tmp_path: Path) -> None:
    """What counts for nothing takes nothing away: neither rubbish nor another's words
    beside the good statement stop a release."""
    plant = asked(tmp_path)
    run = plant.run("1.2.0")
    publish(
        plant,
        run,
        run.statement(SLSA, slsa("https://mallory.example"), "mallory"),
        Document(SLSA, None, b"{}"),
        run.statement(SLSA, slsa(), "provenance-ci"),
    )
    plant.verified("1.2.0")


# --- T-244: statements that say what the rules forbid --------------------------------


@pytest.mark.parametrize(
    ("builder", "sources"),
    [
        ("https://ci.mallory.example/builder", (SOURCE,)),
        (f"{BUILDER}/", (SOURCE,)),
        (BUILDER.upper(), (SOURCE,)),
        (BUILDER, ()),
        (BUILDER, ("git+https://git.mallory.example/pump",)),
        (BUILDER, (SOURCE, "git+https://git.mallory.example/pump")),
        (BUILDER, (f"{SOURCE}-fork",)),
    ],
)
def test_built_by_or_from_somebody_else(
    tmp_path: Path, builder: str, sources: tuple[str, ...]
) -> None:
    """Signed as demanded, but by another builder or from another repository."""
    plant = running(tmp_path)
    demand(
        plant,
        SLSA,
        signers=("provenance-ci",),
        builders=(BUILDER,),
        sources=(SOURCE,),
    )
    run = plant.run("1.1.0")
    publish(plant, run, run.statement(SLSA, slsa(BUILDER, SOURCE), "provenance-ci"))
    plant.verified("1.1.0")

    other = plant.run("1.2.0")
    bad = other.statement(SLSA, slsa(builder, *sources), "provenance-ci")
    publish(plant, other, bad)
    plant.unattested("statement-rule", "allows")
    # A good one beside it does not outvote it.
    good = other.statement(SLSA, slsa(BUILDER, SOURCE), "provenance-ci")
    for both in ((good, bad), (bad, good)):
        publish(plant, other, *both)
        plant.unattested("statement-rule", "allows")


# --- T-194: another source that looks like ours, or like none ------------------------

SOURCE_POLICY = f"""
[policy."*/*"]
require = ["signed", "provenance"]
source = ["{SOURCE}"]
""".encode()
EVIL = "git.mallory.example/pump.git"
GIT = {"gitCommit": "0" * 40}
DEPENDENCIES: dict[str, Json] = {
    "up behind the revision": {"uri": f"{SOURCE}@/../../evil/pump.git@refs/heads/main"},
    "up, encoded": {"uri": f"{SOURCE}@/%2e%2e/evil/pump.git"},
    "git without a commit": {"uri": f"git://{EVIL}", "digest": {}},
    "ssh with sha256": {"uri": f"ssh://git@{EVIL}", "digest": sha256("x")},
    "capitals and a tree": {"uri": f"GIT+https://{EVIL}", "digest": {"gitTree": "0"}},
    "scp": {"uri": "git@git.mallory.example:pump.git"},
    "a tarball": {"uri": "https://mallory.example/x.tar.gz", "digest": sha256("x")},
    "a package that is a repository": {"uri": "pkg:github/mallory/pump@v1"},
    "no address": {"name": "pump", "digest": GIT},
    "another address to load it": {"uri": SOURCE, "downloadLocation": f"git://{EVIL}"},
    "called an image": {"uri": f"docker:https://{EVIL}", "digest": {}},
    "a package, encoded": {"uri": "pkg:%67ithub/mallory/pump", "digest": {}},
    "two revisions": {"uri": f"{SOURCE}@x/evil.git@main"},
    "a proposal": {"uri": f"{SOURCE}@refs/pull/66/head"},
}
PARAMETERS: dict[str, Json] = {
    "scp as a parameter": {"repository": "git@git.mallory.example:pump.git"},
    "scp, deeper": {"workflow": {"repository": "git@git.mallory.example:pump.git"}},
    "a list": {"source": [f"https://{EVIL}"]},
    "url": {"source": {"url": f"https://{EVIL}"}},
    "an object of another shape": {"source": {"where": f"https://{EVIL}"}},
    "another name": {"sourceToBuild": {"repository": "https://mallory.example/pump"}},
    "any name": {"gitRepo": "https://mallory.example/pump"},
    "no name at all": {"x": [{"y": f"https://{EVIL}"}]},
    "a path that is none": {"workflow": {"path": "https://mallory.example/a.yml"}},
    "no scheme": {"source_repo": "git.mallory.example/pump"},
    "owner and name": {"inputs": {"source": {"owner": "mallory", "name": "pump"}}},
    "a name that says nothing": {"inputs": {"target": "https://mallory.example/pump"}},
    "an address as a name": {"inputs": {f"https://{EVIL}": "main"}},
    "two in one query": {"source": f"{SOURCE}?ref=a;repo=evil"},
    "up as a parameter": {
        "source": "https://git.acme.example/pump@/../../evil/pump.git"
    },
}


UNREADABLE = {
    "up behind the revision",
    "up, encoded",
    "no address",
    "a list",
    "an object of another shape",
    "two revisions",
    "a proposal",
    "up as a parameter",
}


@pytest.mark.parametrize("trick", [*DEPENDENCIES, *PARAMETERS])
@pytest.mark.parametrize("who", ["publisher", "owner"])
def test_source_that_looks_like_ours_or_like_none(
    tmp_path: Path, trick: str, who: str
) -> None:
    """Beside the honest source, the statement names another in a way that a hasty
    reader takes for the same, or passes over: by whoever's rule, it is not allowed."""
    plant = running(tmp_path)
    rule: Json = {"sources": (SOURCE,)} if who == "publisher" else {}
    demand(plant, SLSA, signers=("provenance-ci",), **rule)
    if who == "owner":
        plant.device.policy = SOURCE_POLICY
    run = plant.run("1.1.0")
    honest = slsa(BUILDER, f"{SOURCE}@refs/heads/main")
    publish(plant, run, run.statement(SLSA, honest, "provenance-ci"))
    plant.verified("1.1.0")

    other = plant.run("1.2.0")
    said = slsa(BUILDER, f"{SOURCE}@refs/heads/main")
    definition = said["buildDefinition"]
    if trick in DEPENDENCIES:
        taken = {"digest": GIT, **DEPENDENCIES[trick]}
        definition["resolvedDependencies"].append(taken)
    definition["externalParameters"] = PARAMETERS.get(trick, {})
    publish(plant, other, other.statement(SLSA, said, "provenance-ci"))
    if who == "owner":
        plant.refused_by(PolicyError, "source: ")
    else:
        reason = "envelope" if trick in UNREADABLE else "statement-rule"
        plant.unattested(reason, "provenance|source")


VEX_POLICY = b"""
[policy."*/*"]
require = ["signed", "provenance"]
vex-max-age = "30d"
"""
SBOM_POLICY = b"""
[policy."*/*"]
require = ["signed", "provenance"]
sbom = ["cyclonedx"]
"""


def vex(status: str, **more: Any) -> Json:
    return {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://acme.example/vex/1",
        "author": "acme",
        "timestamp": "2026-09-01T00:00:00Z",
        "version": 1,
        "statements": [
            {"vulnerability": {"name": "CVE-2026-0001"}, "status": status, **more}
        ],
    }


def test_affected_for_too_long(tmp_path: Path) -> None:
    """The vendor's own VEX says that it is affected, since long, with no way out. What
    Mallory takes out of the record does not make it clean."""
    plant = running(tmp_path)
    demand(plant, OPENVEX, signers=("psirt",))
    plant.device.policy = VEX_POLICY
    run = plant.run("1.1.0")
    publish(plant, run, run.statement(OPENVEX, vex("fixed"), "psirt"))
    plant.verified("1.1.0")

    other = plant.run("1.2.0")
    said = other.statement(OPENVEX, vex("affected"), "psirt")
    publish(plant, other, said)
    plant.refused_by(PolicyError, "CVE-2026-0001")
    publish(plant, other)
    plant.unattested("missing-attestation", OPENVEX)
    clean = plant.run("1.1.0").statement(OPENVEX, vex("fixed"), "psirt")
    publish(plant, other, clean)
    plant.unattested("subject", "something else")


def test_no_vex_for_a_device_that_asks(tmp_path: Path) -> None:
    """The device's owner asks for VEX; the publisher names nobody who may sign one:
    what nobody vouches for is not there."""
    plant = running(tmp_path)
    plant.device.policy = VEX_POLICY
    run = plant.run("1.1.0")
    publish(plant, run, run.statement(OPENVEX, vex("fixed"), "builder"))
    plant.refused_by(PolicyError, "vex-max-age: ")


def test_no_sbom_for_a_device_that_asks(tmp_path: Path) -> None:
    """The same for an SBOM; and one of another kind is not the one asked for."""
    plant = running(tmp_path)
    plant.device.policy = SBOM_POLICY
    publish(plant, plant.run("1.1.0"))
    plant.refused_by(PolicyError, "sbom: ")

    spdx = "https://spdx.dev/Document/v2.3"
    demand(plant, spdx, signers=("sbom-ci",))
    run = plant.run("1.2.0")
    publish(plant, run, run.statement(spdx, {"spdxVersion": "SPDX-2.3"}, "sbom-ci"))
    plant.refused_by(PolicyError, "sbom: ")

    demand(plant, CYCLONEDX, signers=("sbom-ci",))
    run = plant.run("1.3.0")
    bom = {"bomFormat": "CycloneDX", "specVersion": "1.6"}
    for empty in (bom, {**bom, "components": []}):
        publish(plant, run, run.statement(CYCLONEDX, empty, "sbom-ci"))
        plant.refused_by(PolicyError, "sbom: no statement that counts lists")
    full = {**bom, "components": [{"type": "library", "name": "x"}]}
    publish(plant, run, run.statement(CYCLONEDX, full, "sbom-ci"))
    plant.verified("1.3.0")


def test_statements_above_the_limit(tmp_path: Path) -> None:
    """Statements and links are bounded together, and by what the record says."""
    plant = asked(tmp_path)
    run = plant.run("1.2.0")
    said = run.statement(SLSA, {**slsa(), "x": "x" * 4000}, "provenance-ci")
    publish(plant, run, said)
    sizes = [one.what.size for one in (*run.documents().values(), said)]
    for limit in ({"attestations": sum(sizes) - 1}, {"attestation": max(sizes) - 1}):
        plant.device.limits = replace(Limits(), **limit)
        plant.refused_by(BudgetError, "attestation")
        assert str(said.what.digest) not in plant.device.source.asked
    plant.device.limits = Limits()
    plant.verified("1.2.0")
