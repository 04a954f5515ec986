"""Vulnerabilities: OpenVEX, CSAF and CycloneDX say the same things in their ways."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from margo_supplychain.errors import StatementFormatError
from margo_supplychain.formats import predicates
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.statements import Statement, Subject
from margo_supplychain.formats.times import EARLIEST
from margo_supplychain.provenance.documents import Vulnerability, vulnerabilities

OURS, PART, OTHER = (Digest.of(one) for one in (b"ours", b"part", b"other"))
DIGESTS = (OURS, PART)
CVE = "CVE-2026-1234"


def day(number: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number - 1)


def subject(digest: Digest, name: str = "") -> Subject:
    return Subject(name, {digest.algorithm: digest.hex})


def holds(
    status: str = "affected",
    since: datetime | None = None,
    mitigated: bool = False,
    *products: Digest,
) -> Vulnerability:
    names = tuple(sorted(str(one) for one in products or (OURS,)))
    return Vulnerability(CVE, status, since or day(1), mitigated, names)  # type: ignore[arg-type] # a status


def found(*statements: Statement) -> tuple[Vulnerability, ...]:
    return vulnerabilities(statements, DIGESTS)


# --- OpenVEX -------------------------------------------------------------------------


def claim(status: str = "affected", **changes: Any) -> dict[str, Any]:
    if status == "not_affected":
        changes = {"justification": "component_not_present", **changes}
    return {"vulnerability": {"name": CVE}, "status": status, **changes}


def openvex(
    *statements: Any, at: str = "2026-01-01T00:00:00Z", **changes: Any
) -> Statement:
    subjects = changes.pop("subjects", (subject(OURS, "pump"),))
    document = {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://openvex.dev/docs/public/x",
        "author": "acme",
        "timestamp": at,
        "version": 1,
        "statements": [*statements],
        **changes,
    }
    return Statement(subjects, predicates.OPENVEX, document)


@pytest.mark.parametrize(
    "status", ["affected", "not_affected", "fixed", "under_investigation"]
)
def test_openvex(status: str) -> None:
    assert found(openvex(claim(status))) == (holds(status),)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"action_statement": "update the firmware"}, True),
        ({"action_statement": ""}, False),
        ({"action_statement": "  "}, False),
        ({"action_statement": "No action statement provided"}, False),
        ({"action_statement": "no action statement provided."}, False),
        ({}, False),
    ],
)
def test_openvex_mitigation(changes: dict[str, str], expected: bool) -> None:
    assert found(openvex(claim(**changes))) == (holds(mitigated=expected),)


def test_openvex_names_of_vulnerabilities() -> None:
    name: Any
    for name in (CVE, {"name": CVE}, {"@id": CVE, "name": ""}, {"name": f" {CVE} "}):
        assert found(openvex(claim(vulnerability=name))) == (holds(),)
    for name in (None, "", {}, {"description": "x"}, 1, [CVE]):
        with pytest.raises(StatementFormatError, match="names no vulnerability"):
            found(openvex(claim(vulnerability=name)))


@pytest.mark.parametrize(
    "products",
    [
        None,
        [],
        [{"@id": "pump"}],
        ["pump", "else"],
        [{"@id": "else"}, {"identifiers": {"purl": "pump"}}],
        [{"hashes": {"sha-256": OURS.hex}}],
        [{"hashes": {"md5": "x", "sha-256": OURS.hex.upper()}}],
        [{"@id": f"pkg:oci/pump@sha256%3A{OURS.hex}?repository_url=x&tag=1"}],
        [{"@id": f"pkg:oci/pump@sha256%3a{OURS.hex}"}],
        [{"@id": f"pkg:oci/pump@{OURS}"}],
        [{"@id": str(OURS), "subcomponents": [{"@id": "pkg:pypi/x"}]}],
    ],
)
def test_openvex_products(products: Any) -> None:
    assert found(openvex(claim(products=products))) == (holds(),)


@pytest.mark.parametrize(
    "products",
    [
        [{"@id": "else"}],
        [{}],
        [{"@id": ""}],
        ["_"],
        [{"hashes": {"sha-256": OTHER.hex}}],
        [{"hashes": {"sha-512": OURS.hex}}],
        [{"@id": f"pkg:oci/pump@sha256%3A{OTHER.hex}"}],
        [{"@id": OURS.hex}],
    ],
)
def test_openvex_about_other_products(products: Any) -> None:
    """It is ignored beside others, but it is no VEX about this release."""
    fixed = claim("fixed", products=[{"@id": "pump"}])
    affected = claim(products=products)
    subjects = (subject(OURS, "pump"), subject(OTHER, "else"), subject(PART, "_"))
    assert found(openvex(affected, fixed, subjects=subjects)) == (holds("fixed"),)
    with pytest.raises(StatementFormatError, match="says nothing about this release"):
        found(openvex(affected, subjects=subjects))


def test_openvex_without_statements_says_that_nothing_is_known() -> None:
    assert found(openvex()) == ()


def test_openvex_about_other_subjects_alone() -> None:
    with pytest.raises(StatementFormatError, match="says nothing about this release"):
        found(openvex(claim(), subjects=(subject(OTHER, "pump"),)))


def test_openvex_about_parts_of_the_release() -> None:
    subjects = (subject(OURS, "pump"), subject(PART, "web"), subject(OTHER, "else"))
    everything = openvex(claim(), subjects=subjects)
    assert found(everything) == (holds("affected", None, False, OURS, PART),)
    one = openvex(claim(products=[{"@id": "web"}]), subjects=subjects)
    assert found(one) == (holds("affected", None, False, PART),)


@pytest.mark.parametrize(
    ("statement", "document", "since"),
    [
        ({"timestamp": "2026-01-05T00:00:00Z"}, {}, day(5)),
        ({"timestamp": "2026-01-05T02:00:00.123456789+02:00"}, {}, None),
        ({"last_updated": "2026-01-07T00:00:00Z"}, {}, day(7)),
        ({}, {"timestamp": None, "last_updated": "2026-01-07t00:00:00z"}, day(7)),
    ],
)
def test_openvex_times(
    statement: dict[str, str], document: dict[str, Any], since: datetime | None
) -> None:
    if since is None:
        since = datetime(2026, 1, 5, 0, 0, 0, 123456, tzinfo=UTC)
    assert found(openvex(claim(**statement), **document)) == (holds(since=since),)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            openvex(claim("exploited")),
            "has the status 'exploited', expected one of",
        ),
        (openvex({"vulnerability": CVE}), "has the status ''"),
        (
            openvex({"vulnerability": CVE, "status": 1}),
            "statements.0..status is no text",
        ),
        (
            openvex(claim("not_affected", justification="")),
            "says not_affected without a justification",
        ),
        (openvex(claim("not_affected", justification=1)), "justification is no text"),
        (openvex("x"), "statements holds what is no object"),
        (openvex(statements={}), "statements is no list"),
        (openvex(claim(), timestamp=None), "has no timestamp, nor has its document"),
        (openvex(claim(), at="2026-01-01"), "timestamp is '2026-01-01', not a time"),
        (openvex(claim(), at="2026-13-01T00:00:00Z"), "which is no time"),
        (openvex(claim(), at="0001-01-01T00:00:00+01:00"), "which is no time"),
        (openvex(claim(), **{"@context": "https://example.com"}), "has the @context"),
        (openvex(claim(products=[1])), "products holds what is no product"),
        (openvex(claim(products={})), "products is no list"),
        (openvex(claim(products=[{"hashes": []}])), "products.hashes is no object"),
        (openvex(claim(products=[{"@id": 1}])), "products.@id is no text"),
    ],
)
def test_what_is_no_openvex(statement: Statement, problem: str) -> None:
    with pytest.raises(StatementFormatError, match=problem):
        found(statement)


def test_openvex_impact_is_a_reason() -> None:
    one = claim("not_affected", justification=None, impact_statement="not built in")
    assert found(openvex(one)) == (holds("not_affected"),)


# --- what holds ----------------------------------------------------------------------


def at(number: int) -> str:
    return f"2026-01-{number:02}T00:00:00Z"


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ([("affected", 1), ("fixed", 2)], ("fixed", 2)),
        ([("fixed", 1), ("affected", 2)], ("affected", 2)),
        # Saying it again does not make it younger.
        ([("affected", 1), ("affected", 9)], ("affected", 1)),
        ([("affected", 1), ("fixed", 2), ("affected", 3), ("affected", 4)], None),
        # Of one time, the worse.
        ([("fixed", 2), ("affected", 2)], ("affected", 2)),
        ([("not_affected", 2), ("under_investigation", 2)], None),
        ([("affected", 1), ("fixed", 2), ("affected", 2)], ("affected", 1)),
    ],
)
def test_the_latest_holds(
    series: list[tuple[str, int]], expected: tuple[str, int] | None
) -> None:
    status, since = (
        expected or {4: ("affected", 3), 2: ("under_investigation", 2)}[len(series)]
    )
    claims = [claim(one, timestamp=at(number)) for one, number in series]
    for order in permutations(claims):
        # In one document or in several.
        assert found(openvex(*order)) == (holds(status, day(since)),)
        assert found(*map(openvex, order)) == (holds(status, day(since)),)


def test_update_of_an_older_statement_is_newer() -> None:
    updated = claim("affected", timestamp=at(1), last_updated=at(9))
    fixed = claim("fixed", timestamp=at(5))
    assert found(openvex(updated, fixed)) == (holds("affected", day(1)),)


def test_mitigation_of_the_latest_counts() -> None:
    old = claim(timestamp=at(1), action_statement="turn it off")
    new = claim(timestamp=at(2))
    assert found(openvex(old, new)) == (holds(since=day(1)),)
    assert found(openvex({**old, "timestamp": at(3)}, new)) == (
        holds(since=day(2), mitigated=True),
    )
    # Said twice as of one time, it is not to be relied on.
    assert found(openvex({**old, "timestamp": at(2)}, new)) == (holds(since=day(2)),)


def test_products_and_vulnerabilities_are_apart() -> None:
    subjects = (subject(OURS, "pump"), subject(PART, "web"))
    statement = openvex(
        claim(),
        claim("fixed", products=[{"@id": "web"}], timestamp=at(5)),
        claim("fixed", vulnerability={"name": "CVE-1", "aliases": [CVE]}),
        subjects=subjects,
    )
    assert found(statement) == (
        Vulnerability(
            "CVE-1", "fixed", day(1), False, tuple(sorted(map(str, DIGESTS)))
        ),
        *sorted(
            [holds(), holds("fixed", day(5), False, PART)],
            key=lambda one: one.products,
        ),
    )


# --- CSAF ----------------------------------------------------------------------------


def product(number: int, **helper: Any) -> dict[str, Any]:
    value: dict[str, Any] = {"product_id": f"P{number}", "name": f"product {number}"}
    if helper:
        value["product_identification_helper"] = helper
    return value


OUR_HASH = [
    {"file_hashes": [{"algorithm": "sha256", "value": OURS.hex}], "filename": "x"}
]


def csaf(
    *vulnerable: Any, tree: dict[str, Any] | None = None, **changes: Any
) -> Statement:
    subjects = changes.pop("subjects", (subject(OURS, "pump"),))
    tracking = {
        "current_release_date": "2026-01-09T00:00:00Z",
        "initial_release_date": "2026-01-01T00:00:00Z",
        **changes.pop("tracking", {}),
    }
    document = {"category": "csaf_vex", "csaf_version": "2.0", "tracking": tracking}
    if tree is None:
        names = [product(1, hashes=OUR_HASH), product(2)]
        tree = {"full_product_names": names}
    value = {
        "document": document | changes,
        "product_tree": tree,
        "vulnerabilities": [*vulnerable],
    }
    return Statement(subjects, predicates.CSAF, value)


def listed(status: str = "known_affected", *ids: str, **changes: Any) -> dict[str, Any]:
    names = list(ids or ("P1",))
    return {"cve": CVE, "product_status": {status: names}, **changes}


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("known_affected", "affected"),
        ("first_affected", "affected"),
        ("last_affected", "affected"),
        ("fixed", "fixed"),
        ("first_fixed", "fixed"),
        ("under_investigation", "under_investigation"),
    ],
)
def test_csaf(name: str, status: str) -> None:
    assert found(csaf(listed(name))) == (holds(status),)


@pytest.mark.parametrize(
    "reason",
    [
        {"flags": [{"label": "component_not_present", "product_ids": ["P1"]}]},
        {"flags": [{"label": "component_not_present"}]},
        {"flags": [{"label": "component_not_present", "group_ids": ["G1"]}]},
        {"threats": [{"category": "impact", "details": "x", "product_ids": ["P1"]}]},
    ],
)
def test_csaf_not_affected(reason: dict[str, Any]) -> None:
    tree = {
        "full_product_names": [product(1, hashes=OUR_HASH), product(2)],
        "product_groups": [{"group_id": "G1", "product_ids": ["P1", "P2"]}],
    }
    one = listed("known_not_affected", **reason)
    assert found(csaf(one, tree=tree)) == (holds("not_affected"),)


@pytest.mark.parametrize(
    "reason",
    [
        {},
        {"flags": []},
        {"flags": [{"label": "component_not_present", "product_ids": ["P2"]}]},
        {"flags": [{"label": "component_not_present", "group_ids": ["G2"]}]},
        {"threats": [{"category": "exploit_status", "product_ids": ["P1"]}]},
    ],
)
def test_csaf_not_affected_without_a_reason(reason: dict[str, Any]) -> None:
    with pytest.raises(StatementFormatError, match="not_affected without a justific"):
        found(csaf(listed("known_not_affected", **reason)))


@pytest.mark.parametrize(
    ("category", "ids", "expected"),
    [
        ("workaround", ["P1"], True),
        ("mitigation", ["P2", "P1"], True),
        ("vendor_fix", None, True),
        ("vendor_fix", ["P2"], False),
        ("none_available", ["P1"], False),
        ("no_fix_planned", ["P1"], False),
    ],
)
def test_csaf_mitigation(category: str, ids: list[str] | None, expected: bool) -> None:
    remedy = {"category": category, "details": "x", "product_ids": ids}
    one = listed(remediations=[remedy])
    assert found(csaf(one)) == (holds(mitigated=expected),)


def test_csaf_ids_and_times() -> None:
    other = {"ids": [{"system_name": "acme", "text": CVE}]}
    one = {**listed(release_date="2025-12-31T00:00:00Z"), "cve": None, **other}
    assert found(csaf(one)) == (holds(since=day(0)),)
    late = listed(release_date="2026-02-01T00:00:00Z")
    assert found(csaf(late)) == (holds(),)
    # The document's last release says as of when it holds.
    fixed = openvex(claim("fixed"), at="2026-01-08T00:00:00Z")
    assert found(csaf(listed()), fixed) == (holds(),)


@pytest.mark.parametrize(
    "tree",
    [
        {"full_product_names": [product(1)]},
        {"full_product_names": [product(1, purl=f"pkg:oci/p@{OURS}"), product(2)]},
        {"full_product_names": [{"product_id": "P1", "name": "pump"}, product(2)]},
        {
            "branches": [
                {"branches": [{"product": product(1, hashes=OUR_HASH)}]},
                {"product": product(2)},
            ]
        },
        {
            "full_product_names": [product(3, hashes=OUR_HASH), product(4)],
            "relationships": [
                {
                    "product_reference": "P4",
                    "relates_to_product_reference": "P3",
                    "full_product_name": product(5),
                },
                {
                    "product_reference": "P5",
                    "relates_to_product_reference": "P9",
                    "full_product_name": product(1),
                },
            ],
        },
    ],
)
def test_csaf_products(tree: dict[str, Any]) -> None:
    assert found(csaf(listed(), tree=tree)) == (holds(),)


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"full_product_names": [product(1), product(2)]},
        {"full_product_names": [product(1, cpe="cpe:/a:x"), product(2)]},
        {"full_product_names": [product(1, purl=f"pkg:oci/p@{OTHER}"), product(2)]},
        {"full_product_names": [product(2, hashes=OUR_HASH), product(1)]},
        {
            "full_product_names": [
                product(
                    1,
                    hashes=[{"file_hashes": [{"algorithm": "x", "value": OURS.hex}]}],
                ),
                product(2),
            ]
        },
    ],
)
def test_csaf_about_other_products(tree: dict[str, Any]) -> None:
    with pytest.raises(StatementFormatError, match="says nothing about this release"):
        found(csaf(listed(), tree=tree))


def test_csaf_with_one_product_and_two_subjects_is_about_neither() -> None:
    subjects = (subject(OURS), subject(PART))
    tree = {"full_product_names": [product(1)]}
    with pytest.raises(StatementFormatError, match="says nothing about this release"):
        found(csaf(listed(), tree=tree, subjects=subjects))


def test_csaf_without_vulnerabilities_says_that_nothing_is_known() -> None:
    assert found(csaf()) == ()


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (csaf(listed(), csaf_version="2.1"), "is of version '2.1', expected 2.0"),
        (csaf(listed(), tracking={"current_release_date": None}), "no release dates"),
        (csaf(listed(), tracking={"initial_release_date": None}), "no release dates"),
        (csaf(listed(cve=None)), "has neither cve nor ids"),
        (csaf(listed(product_status=[])), "product_status is no object"),
        (
            csaf({"cve": CVE, "product_status": {"fixed": [1]}}),
            "fixed holds what is no",
        ),
        (csaf("x"), "vulnerabilities holds what is no object"),
        (csaf(listed(), tree={"branches": [1]}), "branches holds what is no object"),
    ],
)
def test_what_is_no_csaf(statement: Statement, problem: str) -> None:
    with pytest.raises(StatementFormatError, match=problem):
        found(statement)


# --- CycloneDX -----------------------------------------------------------------------


def analysed(state: str | None, **changes: Any) -> dict[str, Any]:
    names = ("justification", "detail", "response", "firstIssued", "lastUpdated")
    analysis = {name: changes.pop(name) for name in names if name in changes}
    return {"id": CVE, "analysis": {"state": state, **analysis}, **changes}


def cyclonedx(*listed_: Any, stamp: str | None = "2026-01-01T00:00:00Z") -> Statement:
    value = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "metadata": {"timestamp": stamp},
        "vulnerabilities": [*listed_],
    }
    return Statement((subject(OURS, "pump"),), predicates.CYCLONEDX, value)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("exploitable", "affected"),
        ("in_triage", "under_investigation"),
        ("resolved", "fixed"),
        ("resolved_with_pedigree", "fixed"),
        ("not_affected", "not_affected"),
        ("false_positive", "not_affected"),
    ],
)
def test_cyclonedx(state: str, status: str) -> None:
    one = analysed(state, justification="code_not_reachable")
    assert found(cyclonedx(one)) == (holds(status),)
    assert found(cyclonedx(analysed(state, detail="see there"))) == (holds(status),)


@pytest.mark.parametrize("one", [{"id": CVE}, analysed(None), analysed("")])
def test_cyclonedx_without_an_analysis_overrules_nothing(one: dict[str, Any]) -> None:
    """A fresh scan does not hide what is known."""
    late = cyclonedx(one, stamp="2026-02-01T00:00:00Z")
    assert found(late) == (holds("under_investigation", day(32)),)
    for status in ("affected", "fixed"):
        assert found(openvex(claim(status)), late) == (holds(status),)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"response": ["update"]}, True),
        ({"response": ["will_not_fix", "workaround_available"]}, True),
        ({"response": ["can_not_fix"]}, False),
        ({"workaround": "turn it off"}, True),
        ({"recommendation": "update"}, True),
        ({"workaround": ""}, False),
        ({}, False),
    ],
)
def test_cyclonedx_mitigation(changes: dict[str, Any], expected: bool) -> None:
    one = analysed("exploitable", **changes)
    assert found(cyclonedx(one)) == (holds(mitigated=expected),)


def test_cyclonedx_times() -> None:
    one = analysed("exploitable", firstIssued=at(3), published=at(2))
    assert found(cyclonedx(one, stamp=at(4))) == (holds(since=day(2)),)
    unknown = analysed("exploitable")
    assert found(cyclonedx(unknown, stamp=None)) == (holds(since=EARLIEST),)
    updated = analysed("resolved", lastUpdated=at(9))
    assert found(openvex(claim(), at=at(8)), cyclonedx(updated, stamp=at(1))) == (
        holds("fixed"),
    )


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            cyclonedx({"analysis": {"state": "resolved"}}),
            "vulnerabilities.0. has no id",
        ),
        (cyclonedx(analysed("broken")), "has the status 'broken'"),
        (cyclonedx(analysed("not_affected")), "not_affected without a justification"),
        (cyclonedx(analysed("false_positive")), "not_affected without a justification"),
        (cyclonedx(analysed("exploitable", response="update")), "response is no list"),
        (cyclonedx(analysed("exploitable", response=[1])), "response holds what is no"),
        (cyclonedx({"id": CVE, "analysis": []}), "analysis is no object"),
        (cyclonedx("x"), "vulnerabilities holds what is no object"),
    ],
)
def test_what_is_no_cyclonedx_analysis(statement: Statement, problem: str) -> None:
    with pytest.raises(StatementFormatError, match=problem):
        found(statement)
