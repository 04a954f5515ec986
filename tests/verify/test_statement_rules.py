"""A device's rules about provenance and statements: what each finds, and misses."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from margo_supplychain.errors import ClockError, FormatError, PolicyError
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import MANIFEST
from margo_supplychain.formats.predicates import (
    CYCLONEDX,
    OPENVEX,
    PROVENANCE,
    SPDX,
    kind_of,
)
from margo_supplychain.formats.release_parts import (
    AttestationReference,
    Component,
    Image,
)
from margo_supplychain.formats.statements import Statement, Subject
from margo_supplychain.verify.attested import ProvenStatement
from margo_supplychain.verify.clock import Moment
from margo_supplychain.verify.policy import Policy, ProvenanceDemand
from margo_supplychain.verify.proof import Proof
from margo_supplychain.verify.statement_rules import (
    Builder,
    Provenance,
    Read,
    Sbom,
    Source,
    Supported,
    VexMaxAge,
    _few,
)
from tests.verify.proving import (
    NAME,
    PROVEN,
    PUMP,
    Yard,
    demand,
    signer,
)
from tests.verify.test_policy import facts
from tests.world.device import SIGNED
from tests.world.provenance import envelope
from tests.world.repository import key

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.formats.reports import Violation
    from margo_supplychain.verify.policy import Facts, Rule

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
DAY = timedelta(days=1)
ARTIFACT = Descriptor.of(b"{}", MANIFEST).digest
BUILDER = "https://ci.acme.example/builder"
SOURCE = "https://git.acme.example/pump"


def said(type_: str, predicate: dict[str, Any]) -> ProvenStatement:
    subject = Subject("release/manifest", {"sha256": ARTIFACT.hex})
    return ProvenStatement(
        type=type_,
        kind=kind_of(type_),
        statement=Statement((subject,), type_, predicate),
        digest=Digest.of(json.dumps(predicate).encode()),
        signers=frozenset({"a key"}),
    )


def built(builder: str | None = BUILDER, *sources: str) -> ProvenStatement:
    run = {} if builder is None else {"builder": {"id": builder}}
    taken = [{"uri": f"git+{one}@refs/tags/v1"} for one in sources]
    return said(
        PROVENANCE,
        {"runDetails": run, "buildDefinition": {"resolvedDependencies": taken}},
    )


def bom(**more: Any) -> ProvenStatement:
    return said(CYCLONEDX, {"bomFormat": "CycloneDX", "specVersion": "1.6", **more})


def ending(when: str) -> ProvenStatement:
    milestone = {"name": "cdx:lifecycle:milestone:endOfSupport", "value": when}
    return bom(metadata={"properties": [milestone]})


def vex(status: str = "affected", since: str = "2026-11-01", **more: Any) -> Any:
    claim = {
        "vulnerability": {"name": "CVE-2026-0001"},
        "status": status,
        "timestamp": f"{since}T00:00:00Z",
        **more,
    }
    document = {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://acme.example/vex/1",
        "author": "acme",
        "timestamp": "2026-11-20T00:00:00Z",
        "version": 1,
        "statements": [claim],
    }
    return said(OPENVEX, document)


def about(*statements: ProvenStatement, moment: Moment | None = None) -> Facts:
    """Return facts of which these statements count."""
    proof = Proof("full", 1, statements, {})
    found = moment if moment is not None else Moment(NOW)
    return facts(proof=proof, moment=found)


def texts(found: tuple[Violation, ...]) -> list[str]:
    assert not any(one.inconclusive for one in found)
    return [f"{one.rule}: {one.text}" for one in found]


def holding(*types: str) -> Facts:
    """Return facts of a release with statements that count for nobody."""
    found = about()
    pins = tuple(
        AttestationReference(
            type=type_, step=None, digest=Digest.of(type_.encode()), size=2
        )
        for type_ in types
    )
    return found._replace(record=replace(found.record, attestations=pins))


# --- provenance ----------------------------------------------------------------------


def test_required_is_proven_by_a_layout_alone() -> None:
    rule = Provenance(ProvenanceDemand(required=True))
    assert rule.violations(about()) == ()
    bare = Proof("full", None, (), {})
    for lacking in (facts(), facts(proof=bare)):
        assert texts(rule.violations(lacking)) == [
            "provenance: how the release was made is not proven"
        ]
    assert Provenance(ProvenanceDemand()).violations(facts()) == ()


# --- builder and source --------------------------------------------------------------


def test_builder() -> None:
    rule = Builder((BUILDER, "https://other.example"))
    assert rule.violations(about(built(), built("https://other.example"))) == ()
    missing = (
        "builder: no statement that counts names a builder, allowed: "
        f"{', '.join(rule.names)}; the release has none"
    )
    for nobody in (about(), about(bom()), facts()):
        assert texts(rule.violations(nobody)) == [missing]
    assert texts(rule.violations(holding(PROVENANCE, CYCLONEDX)))[0].endswith(
        "; the release has one, and the publisher's policy names nobody whose "
        "statements of its type count"
    )
    assert "has none" in texts(rule.violations(holding(CYCLONEDX)))[0]
    assert "built by nobody, allowed" in texts(rule.violations(about(built(None))))[0]
    found = texts(rule.violations(about(built(), built("https://mallory.example"))))
    assert found == [
        f'builder: built by "https://mallory.example", allowed: {", ".join(rule.names)}'
    ]


def test_source() -> None:
    rule = Source((f"git+{SOURCE}.git",))
    assert rule.violations(about(built(BUILDER, SOURCE))) == ()
    missing = (
        f"source: no statement that counts names a source, allowed: {rule.names[0]}"
    )
    for nothing in (about(), facts()):
        assert texts(rule.violations(nothing)) == [f"{missing}; the release has none"]
    for nothing in (about(built()), about(built(), bom())):
        assert texts(rule.violations(nothing)) == [missing]
    # Each statement says what it was built from, and nothing else than is allowed.
    found = texts(rule.violations(about(built(BUILDER, SOURCE), built())))
    assert found == [missing]
    other = "https://mallory.example/pump"
    found = texts(rule.violations(about(built(BUILDER, SOURCE, other))))
    assert found == [f'source: built from "{other}", allowed: {SOURCE}']


# --- SBOM ----------------------------------------------------------------------------


def test_sbom() -> None:
    one, both = Sbom.of(("cyclonedx",)), Sbom.of(("cyclonedx", "spdx"))
    spdx = said(f"{SPDX}/v2.3", {"spdxVersion": "SPDX-2.3", "packages": [{}]})
    full = bom(components=[{"name": "lib"}])
    assert one.violations(about(full)) == ()
    assert one.violations(about(bom(), full)) == ()
    assert texts(one.violations(about(bom(), bom(components=None)))) == [
        "sbom: no statement that counts lists a component"
    ]
    assert both.violations(about(spdx)) == ()
    assert texts(one.violations(about(spdx, built()))) == [
        "sbom: no statement that counts is cyclonedx; the release has none"
    ]
    assert texts(both.violations(facts())) == [
        "sbom: no statement that counts is cyclonedx or spdx; the release has none"
    ]
    assert (one.id, one.demands.kinds) == ("sbom", frozenset({"sbom-cyclonedx"}))


def test_a_document_that_is_none_says_nothing_good() -> None:
    rule = Read(Sbom.of(("cyclonedx",)))
    (found,) = texts(rule.violations(about(said(CYCLONEDX, {}))))
    assert found.startswith("sbom: the CycloneDX document has no bomFormat")
    assert rule.violations(about(bom(components=[{}]))) == ()


# --- VEX -----------------------------------------------------------------------------


def test_vex_names_what_affects_for_too_long() -> None:
    rule = VexMaxAge(30 * DAY)
    assert rule.violations(about(vex())) == ()
    assert rule.violations(about(vex(since="2026-10-23"))) == ()
    (found,) = texts(rule.violations(about(vex(since="2026-10-21"))))
    assert found == (
        "vex-max-age: CVE-2026-0001 affects it without mitigation since "
        "2026-10-21T00:00:00Z, at most 30 days allowed"
    )
    for harmless in (
        vex("fixed", "2020-01-01"),
        vex("under_investigation", "2020-01-01"),
        vex(since="2020-01-01", action_statement="turn it off"),
    ):
        assert rule.violations(about(harmless)) == ()


def test_nothing_said_is_not_nothing_found() -> None:
    rule = VexMaxAge(30 * DAY)
    missing = "vex-max-age: no statement that counts speaks of vulnerabilities"
    assert texts(rule.violations(about(bom()))) == [missing]
    for silent in (facts(), about(), about(built())):
        assert texts(rule.violations(silent)) == [f"{missing}; the release has none"]
    assert rule.violations(about(bom(vulnerabilities=[]))) == ()
    (found,) = texts(rule.violations(about(bom(vulnerabilities=None))))
    assert found.endswith("speaks of vulnerabilities")
    others: tuple[Any, ...] = ({}, "", 0, False)
    for odd in others:
        (found,) = texts(Read(rule).violations(about(bom(vulnerabilities=odd))))
        assert found.endswith("vulnerabilities is no list")
    analysis = {"state": "exploitable", "firstIssued": "2026-01-01T00:00:00Z"}
    worse = bom(vulnerabilities=[{"id": "CVE-2026-0002", "analysis": analysis}])
    assert "CVE-2026-0002" in texts(rule.violations(about(worse)))[0]


def test_parts_of_the_release_count() -> None:
    """The artifact, its components and its images; whoever the subjects are."""
    web, image = Digest.of(b"web"), Digest.of(b"image")
    known = about()
    component = Component(
        name="web",
        profile="a",
        profile_type="helm",
        repository="oci://registry.example/web",
        revision="1.0.0",
        content=Descriptor(media_type=MANIFEST, digest=web, size=3),
    )
    images = (
        Image(component="web", reference="x:1", digest=image),
        Image(component="web", reference="x:2", digest=None),
    )
    record = replace(
        known.record, components=(component,), images=images, closure="partial"
    )
    rule = VexMaxAge(DAY)
    for digest in (web, image):
        one = vex(products=[{"@id": f"pkg:oci/x@{digest}"}])
        other = vex("fixed")
        found = rule.violations(about(one, other)._replace(record=record))
        assert "CVE-2026-0001 affects it" in texts(found)[0]


def test_what_holds_from_tomorrow_decides_nothing() -> None:
    rule = VexMaxAge(30 * DAY)
    for later in (vex(since="2099-01-01"), vex("fixed", since="2099-01-01")):
        (found,) = rule.violations(about(later))
        assert found.inconclusive
        assert found.text == (
            "what is said of CVE-2026-0001 holds as of "
            "2099-01-01T00:00:00Z, which is still to come"
        )
    # It overrules nothing that is known today.
    no, unclear = rule.violations(
        about(vex(since="2026-01-01"), vex("fixed", since="2099-01-01"))
    )
    assert (no.inconclusive, unclear.inconclusive) == (False, True)
    assert "since 2026-01-01T00:00:00Z" in no.text
    # A clock may be a little behind.
    soon = vex("fixed", timestamp="2026-11-21T10:59:00Z")
    assert rule.violations(about(soon)) == ()
    for moment in (BEHIND, ABSURD):
        assert rule.violations(about(vex("fixed"), moment=moment)) == ()
        late = vex("fixed", since="2027-01-01")
        (found,) = rule.violations(about(late, moment=moment))
        assert found.inconclusive


@pytest.mark.parametrize("moment", [None, Moment(NOW - 365 * DAY)])
def test_nothing_is_good_without_any_time(moment: Moment | None) -> None:
    proof = Proof("full", 1, (vex("fixed"),), {})
    (found,) = VexMaxAge(DAY).violations(facts(proof=proof, moment=moment))
    assert found.inconclusive


def test_many_vulnerabilities_make_few_lines() -> None:
    def many(count: int, since: str = "2026-01-01") -> Any:
        one = vex(since=since)
        (claim,) = one.statement.predicate["statements"]
        names = [{"name": f"CVE-2026-{number:07}"} for number in range(count)]
        named = [{**claim, "vulnerability": name} for name in names]
        one.statement.predicate["statements"][:] = named
        return one

    rule = VexMaxAge(30 * DAY)
    assert len(rule.violations(about(many(5)))) == 5
    found = texts(rule.violations(about(many(20_000))))
    assert len(found) == 6
    assert found[-1] == "vex-max-age: and 19995 more like these"
    later = rule.violations(about(many(7, "2099-01-01")))
    assert [one.inconclusive for one in later] == [True] * 6
    (found_,) = texts(
        rule.violations(about(vex(since="2026-01-01", vulnerability="C" * 8_000_000)))
    )
    assert len(found_) < 300
    # Those that are a no come first.
    mixed = _few("vex-max-age", [*later, *rule.violations(about(many(2)))])
    assert [one.inconclusive for one in mixed] == [False, False, *[True] * 4]


# --- support -------------------------------------------------------------------------


def test_support_has_an_end_that_lies_ahead() -> None:
    rule = Supported()
    assert rule.violations(about(ending("2026-11-22"))) == ()
    assert texts(rule.violations(about(ending("2026-11-21T10:00:00Z")))) == [
        "supported: its support ended 2026-11-21T10:00:00Z"
    ]
    missing = "supported: no statement that counts says when support ends"
    assert texts(rule.violations(about(bom()))) == [missing]
    for silent in (facts(), about()):
        assert texts(rule.violations(silent)) == [f"{missing}; the release has none"]
    two = about(ending("2030-01-01"), ending("2026-01-01"))
    assert texts(rule.violations(two)) == [
        "supported: its support ended 2026-01-01T00:00:00Z"
    ]


# --- clocks --------------------------------------------------------------------------

BEHIND = Moment(clock=NOW - 365 * DAY, floor=NOW)
ABSURD = Moment(clock=NOW + 5_000 * DAY, floor=NOW)


@pytest.mark.parametrize("moment", [BEHIND, ABSURD])
def test_a_clock_that_nobody_believes_decides_nothing(moment: Moment) -> None:
    """What has not passed by what is signed may have passed by now."""
    for rule, statement in (
        (VexMaxAge(30 * DAY), vex()),
        (Supported(), ending("2027-01-01")),
    ):
        (found,) = rule.violations(about(statement, moment=moment))
        assert found.inconclusive
        assert "the clock can't tell whether" in found.text
    for rule, statement in (
        (VexMaxAge(30 * DAY), vex(since="2026-10-01")),
        (Supported(), ending("2026-11-01")),
    ):
        (found,) = rule.violations(about(statement, moment=moment))
        assert not found.inconclusive
    assert VexMaxAge(DAY).violations(about(vex("fixed"), moment=moment)) == ()


def test_without_any_time() -> None:
    proof = Proof("full", 1, (ending("2020-01-01"),), {})
    (found,) = Supported().violations(facts(proof=proof))
    assert found.inconclusive


# --- reading -------------------------------------------------------------------------


def read(text: str, *, require: str = '["signed"]') -> tuple[Rule, ...]:
    table = f'[policy."acme/*"]\nrequire = {require}\n{text}\n'
    return Policy.from_toml(table.encode()).rules_for(PUMP)


def asked(text: str, *, require: str = '["signed"]') -> ProvenanceDemand:
    table = f'[policy."acme/*"]\nrequire = {require}\n{text}\n'
    return Policy.from_toml(table.encode()).demand_for(PUMP)


def pem() -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = key("site").public_key
    found = public._crypto_key()
    data: bytes = found.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return json.dumps([data.decode()])


def test_all_that_a_policy_may_say_of_statements() -> None:
    rules = read(
        f"""
        builder = ["{BUILDER}", "{BUILDER}"]
        source = ["{SOURCE}"]
        sbom = ["spdx", "cyclonedx"]
        vex-max-age = "30d"
        supported = true
        """
    )
    assert [one.id for one in rules] == [
        "signed",
        "builder",
        "source",
        "sbom",
        "vex-max-age",
        "supported",
    ]
    wrapped = [cast("Read", one).rule for one in rules[1:]]
    assert wrapped == [
        Builder((BUILDER,)),
        Source((SOURCE,)),
        Sbom.of(("spdx", "cyclonedx")),
        VexMaxAge(30 * DAY),
        Supported(),
    ]


def test_what_the_rules_of_a_policy_demand() -> None:
    assert asked("") == ProvenanceDemand()
    assert not asked("").asks
    found = asked("", require='["provenance", "signed"]')
    assert found == ProvenanceDemand(required=True)
    assert found.asks
    assert asked('sbom = ["spdx"]').kinds == {"sbom-spdx"}
    assert asked('sbom = ["spdx"]').asks
    found = asked('supported = true\nvex-max-age = "1d"\nprovenance = "full"')
    assert found.kinds == {"sbom-cyclonedx", "vex-openvex", "vex-csaf"}
    assert (found.required, found.tier) == (False, "full")
    found = asked(
        f'provenance = "summary"\nsummary-keys = {pem()}\nsummary-max-age = "2d"'
    )
    assert (found.tier, found.summary_age) == ("summary", 2 * DAY)
    assert [one.keyid for one in found.summary_keys] == [signer("site").keyid]
    assert asked('provenance = "summary"').summary_age is None
    denied = Policy.from_toml(PROVEN.replace(b"*/*", b"bolt/*"))
    assert denied.demand_for(PUMP) == ProvenanceDemand()
    with pytest.raises(PolicyError, match="names no pattern"):
        denied.rules_for(PUMP)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('provenance = "some"', "provenance is 'some', expected 'full' or 'summary'"),
        ("provenance = 1", "provenance is 1, expected"),
        ('summary-max-age = "1d"', "summary-max-age goes with provenance = "),
        ('provenance = "full"\nsummary-keys = ["x"]', "summary-keys goes with"),
        ('provenance = "summary"\nsummary-keys = ["x"]', "needs a summary-max-age"),
        (
            'provenance = "summary"\nsummary-max-age = "0d"',
            "summary-max-age is 0d, expected a time above 0",
        ),
        (
            'provenance = "summary"\nsummary-max-age = "1d"\nsummary-keys = ["x"]',
            "summary-keys has 'x', expected a public key as PEM",
        ),
        (
            'provenance = "summary"\nsummary-max-age = "1d"\nsummary-keys = []',
            "expected a list of 1 to 64 texts",
        ),
        ("builder = []", "builder is \\[\\], expected a list of 1 to 64 texts"),
        ('builder = "x"', "builder is 'x', expected a list"),
        ('builder = [""]', "expected a list of 1 to 64 texts"),
        ("source = [1]", "source is \\[1\\], expected a list"),
        ('sbom = ["swid"]', "sbom has 'swid', expected cyclonedx or spdx"),
        ('vex-max-age = "soon"', "'soon'"),
        ('vex-max-age = "0s"', "vex-max-age is 0s, expected a time above 0"),
        ("supported = false", "supported is False, expected true"),
        ("slsa = 3", "unknown key 'slsa'"),
    ],
)
def test_what_a_policy_may_not_say(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read(text)


def test_a_rule_that_is_unknown() -> None:
    with pytest.raises(FormatError, match="signed, closure-complete or provenance"):
        read("", require='["signed", "slsa"]')


# --- from end to end -----------------------------------------------------------------


def test_rules_look_at_statements_that_count(tmp_path: Path) -> None:
    """Of the type that the publisher demands; no chain need be demanded for it."""
    yard = Yard(tmp_path)
    yard.policy(
        provenance="none", keys=(signer("attester"),), attestations=(demand(CYCLONEDX),)
    )
    run = yard.run("1.0.0")
    predicate = dict(ending("2027-01-01").statement.predicate, components=[{}])
    yard.publish(run, [run.statement(CYCLONEDX, predicate, "attester")])
    yard.device.policy = SIGNED + b'supported = true\nsbom = ["cyclonedx"]\n'
    (found,) = yard.facts()["statements"]
    assert found["type"] == CYCLONEDX
    yard.device.clock.advance(hours=-2)
    with pytest.raises(ClockError, match="the clock can't tell whether its support"):
        yard.verify()
    yard.device.clock.advance(hours=2)
    yard.device.policy += f'builder = ["{BUILDER}"]\n'.encode()
    with pytest.raises(PolicyError, match="builder: no statement that counts") as why:
        yard.verify()
    assert [one.rule for one in why.value.violations] == ["builder"]
    assert why.value.report is not None
    assert why.value.report.subject == f"{NAME} *"


def test_rules_of_a_device_that_takes_summaries(tmp_path: Path) -> None:
    """A summary holds no statement: those that rules look at are read all the same."""
    yard = Yard(tmp_path)
    yard.policy(
        keys=(signer("attester"),), attestations=(demand(CYCLONEDX), demand(PROVENANCE))
    )
    run = yard.run("1.0.0")
    predicate = dict(ending("2027-01-01").statement.predicate)
    sbom = run.statement(CYCLONEDX, predicate, "attester")
    slsa = run.statement(PROVENANCE, {}, "attester")
    yard.publish(run, [sbom, slsa])
    summary = envelope(json.loads(yard.verify().report.to_vsa()), "site")
    for one in (yard.device.state / "attestations").iterdir():
        one.unlink()
    for each in (*run.documents().values(), slsa):
        del yard.device.source.files.blobs[str(each.what.digest)]
    policy = (
        PROVEN + b'provenance = "summary"\nsummary-max-age = "1d"\nsupported = true\n'
    )
    yard.device.policy = policy + f"summary-keys = {pem()}\n".encode()
    facts = yard.facts(summary)
    assert facts["provenance"] == "summary"
    assert [one["type"] for one in facts["statements"]] == [CYCLONEDX]
