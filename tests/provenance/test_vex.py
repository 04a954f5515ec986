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


def test_digest_that_may_be_inside_of_an_image() -> None:
    """One product with a digest of its own is not the subject, nor is it elsewhere."""
    for name in (f"x.example/web@{OTHER}", f"pkg:oci/web@{OTHER}", str(OTHER)):
        tree = {"full_product_names": [product(1, purl=name)]}
        for status, problem in (
            ("known_affected", "could be a part of this release"),
            ("fixed", "says nothing about this release"),
        ):
            with pytest.raises(StatementFormatError, match=problem):
                vulnerabilities(
                    [csaf(listed(status, "P1"), tree=tree)],
                    DIGESTS,
                    repositories=["oci://x.example/acme/web:1"],
                )
        named = openvex(
            claim("fixed", products=[{"@id": "pump", "identifiers": {"purl": name}}])
        )
        with pytest.raises(StatementFormatError, match="digest of something else"):
            vulnerabilities([named], DIGESTS, repositories=["x.example/web"])


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
        ({"action_statement": "None"}, False),
        ({"action_statement": "n/a"}, False),
        ({"action_statement": "\u200b"}, False),
        ({"action_statement": "-- ! --"}, False),
        ({"action_statement": "none of the ports may be open: close 80"}, True),
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
        [" pump ", f"pkg:oci/x@{OTHER}"],
        [{"@id": str(OTHER)}, {"identifiers": {"purl": "pump"}}],
        [{"hashes": {"sha-256": OURS.hex}}],
        [{"hashes": {"md5": "x", "sha-256": OURS.hex.upper()}}],
        [{"@id": f"pkg:oci/pump@sha256%3A{OURS.hex}?repository_url=x&tag=1"}],
        [{"@id": f"pkg:oci/pump@sha256%3a{OURS.hex}"}],
        [{"@id": f"pkg:oci/pump@{OURS}"}],
        [{"@id": OURS.hex}],
        [{"@id": f"pkg:oci/pump@sha256%3A{OURS.hex.upper()}"}],
        [{"@id": f"pkg:oci/pump@SHA256:{OURS.hex}#sub/path"}],
        [{"@id": f"pkg:oci/pump@1.0?checksum=sha256:{OURS.hex}"}],
        [{"@id": f"registry.example/acme/pump@{OURS}"}],
        [{"@id": "pump", "hashes": {"sha-256": OTHER.hex}}],
        [{"@id": str(OURS), "subcomponents": [{"@id": "pkg:pypi/x"}]}],
    ],
)
def test_openvex_products(products: Any) -> None:
    assert found(openvex(claim(products=products))) == (holds(),)


@pytest.mark.parametrize(
    "products",
    [
        [{"@id": "else"}],
        [{"hashes": {"sha-256": OTHER.hex}}],
        [{"@id": f"pkg:oci/pump@sha256%3A{OTHER.hex}"}],
        [{"@id": f"pkg:oci/pump@sha256%3A{'0' * 64}"}, "else"],
        [{"@id": f"registry.example/acme/pump:1@SHA256:{'AB' * 32}"}],
        [f"sha256:{'0' * 64}"],
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


@pytest.mark.parametrize(
    "products",
    [
        [{}],
        [{"@id": ""}],
        ["_"],
        ["PUMP"],
        ["pump", "unknown"],
        [{"hashes": {"sha-512": OTHER.hex}}],
        [{"hashes": {"sha-256": "0" * 64}}],
        [{"@id": "pkg:oci/pump@1.1.0"}],
        [{"@id": "pkg:oci/pump@1.1.0?checksum=sha256:" + "0" * 64}],
        [{"@id": f"pkg:oci/pump@sha512:{OTHER.hex * 2}"}],
        [{"@id": f"pkg:oci/pump@sha256:{OTHER.hex}00"}],
        [{"@id": f"pkg:oci/pump@sha256:{OTHER.hex[:-1]}"}],
    ],
)
def test_openvex_about_what_nobody_can_tell(products: Any) -> None:
    """Bad news of it is refused; good news is none about this release."""
    subjects = (subject(OURS, "pump"), subject(OTHER, "else"), subject(PART, "_"))
    known = claim("fixed", products=[{"@id": "pump"}])
    with pytest.raises(StatementFormatError, match="which could be a part of this rel"):
        found(openvex(known, claim(products=products), subjects=subjects))
    if "pump" not in products:
        good = claim("not_affected", products=products)
        assert found(openvex(known, good, subjects=subjects)) == (holds("fixed"),)


@pytest.mark.parametrize(
    "product",
    [
        {"@id": "pump", "identifiers": {"purl": f"pkg:oci/pump@{OTHER}"}},
        {"@id": "pump", "hashes": {"sha-256": PART.hex}},
    ],
)
@pytest.mark.parametrize("status", ["affected", "fixed"])
def test_openvex_product_with_anothers_digest(
    product: dict[str, Any], status: str
) -> None:
    with pytest.raises(StatementFormatError, match="has the digest of something else"):
        found(openvex(claim(status, products=[product])))


def test_openvex_about_a_part_that_is_no_subject() -> None:
    one = openvex(claim(products=[{"@id": f"pkg:oci/web@{PART}"}]))
    assert found(one) == (holds("affected", None, False, PART),)


def test_openvex_about_components_of_a_product() -> None:
    def within(status: str, number: int, *names: Any) -> dict[str, Any]:
        one = {"@id": str(OURS), "subcomponents": [*names]}
        return claim(status, timestamp=at(number), products=[one])

    one, other = "pkg:deb/openssl@1", {"identifiers": {"purl": "pkg:npm/openssl@2"}}
    bad = within("affected", 1, {"@id": one})
    for good in (within("fixed", 2, other), within("not_affected", 3, other)):
        assert found(openvex(bad, good)) == (holds(),)
        assert found(openvex(bad), openvex(good)) == (holds(),)
    assert found(openvex(bad, within("fixed", 2, other, one))) == (
        holds("fixed", day(2)),
    )
    assert found(openvex(bad, within("fixed", 2))) == (holds("fixed", day(2)),)
    whole = within("affected", 1)
    assert found(openvex(whole, within("fixed", 2, one))) == (holds(),)
    with pytest.raises(StatementFormatError, match="one without a name"):
        found(openvex(within("fixed", 1, {})))


def test_openvex_about_more_components_than_anybody_compares() -> None:
    products = [{"@id": str(OURS), "subcomponents": [str(n) for n in range(600)]}]
    said = [claim("fixed", products=products), *([claim("fixed")] * 600)]
    with pytest.raises(StatementFormatError, match="components of one product"):
        found(openvex(*said))


def test_openvex_without_a_list_of_statements() -> None:
    for one in (openvex(statements=None), openvex()):
        value = dict(one.predicate)
        if value["statements"] is not None:
            del value["statements"]
        with pytest.raises(StatementFormatError, match="has no list of statements"):
            found(one._replace(predicate=value))


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


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        # What is good as of a time to come overrules nothing.
        ([("affected", 1), ("fixed", 9)], ("affected", 1, 9)),
        ([("affected", 1), ("under_investigation", 9)], ("affected", 1, 9)),
        ([("fixed", 1), ("affected", 9)], ("affected", 9, 9)),
        ([("affected", 1), ("affected", 9)], ("affected", 1, 9)),
        ([("fixed", 9)], ("fixed", 9, 9)),
        ([("affected", 8), ("fixed", 9)], ("affected", 8, 9)),
        ([("affected", 1), ("fixed", 5)], ("fixed", 5, None)),
    ],
)
def test_what_is_said_as_of_a_time_to_come(
    series: list[tuple[str, int]], expected: tuple[str, int, int | None]
) -> None:
    statement = openvex(*(claim(one, timestamp=at(number)) for one, number in series))
    (one,) = vulnerabilities([statement], DIGESTS, latest=day(5))
    status, since, ahead = expected
    assert (one.status, one.since) == (status, day(since))
    assert one.ahead == (None if ahead is None else day(ahead))


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


def related(part: str, whole: str, made: int) -> dict[str, Any]:
    return {
        "product_reference": part,
        "relates_to_product_reference": whole,
        "full_product_name": product(made),
    }


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
        ("mitigation: none", ["P1"], False),
        ("none_available", ["P1"], False),
        ("no_fix_planned", ["P1"], False),
    ],
)
def test_csaf_mitigation(category: str, ids: list[str] | None, expected: bool) -> None:
    category, _, details = category.partition(": ")
    remedy = {"category": category, "details": details or "x", "product_ids": ids}
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
        {"full_product_names": [product(1, purl=f"pkg:oci/p@{OTHER}"), product(2)]},
        {"full_product_names": [product(1, purl=f"pkg:oci/p@{OTHER}")]},
        {
            "full_product_names": [product(3, purl=f"pkg:oci/p@{OTHER}"), product(4)],
            "relationships": [
                related("P4", "P3", 5),
                related("P9", "P5", 1),
                related("P9", "P1", 5),
            ],
        },
    ],
)
def test_csaf_about_other_products(tree: dict[str, Any]) -> None:
    with pytest.raises(StatementFormatError, match="says nothing about this release"):
        found(csaf(listed(), tree=tree))
    more = {**tree, "branches": [{"product": product(7, hashes=OUR_HASH)}]}
    both = csaf(listed(), listed("fixed", "P7"), tree=more)
    assert found(both) == (holds("fixed"),)


@pytest.mark.parametrize(
    "tree",
    [
        {"full_product_names": [product(1), product(2)]},
        {"full_product_names": [product(1, cpe="cpe:/a:x"), product(2)]},
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
        {
            "full_product_names": [product(3, purl=f"pkg:oci/p@{OTHER}"), product(4)],
            "relationships": [related("P3", "P4", 1)],
        },
    ],
)
def test_csaf_about_what_nobody_can_tell(tree: dict[str, Any]) -> None:
    with pytest.raises(StatementFormatError, match='"P1" is affected, which could be'):
        found(csaf(listed(), tree=tree))


def test_csaf_about_what_the_tree_does_not_have() -> None:
    fixed = {"cve": "CVE-1", "product_status": {"fixed": ["P1"]}}
    for name in ("P9", "p1", "P1 ", "", "CSAFPID-9"):
        for status in ("known_affected", "fixed", "recommended"):
            with pytest.raises(StatementFormatError, match="tree does not have"):
                found(csaf(fixed, listed(status, name)))
    with pytest.raises(StatementFormatError, match='names the product "P1", which the'):
        found(csaf(listed(), tree={}))


def test_csaf_status_that_is_none() -> None:
    fixed = {"cve": "CVE-1", "product_status": {"fixed": ["P1"]}}
    for name in ("known_affected ", "Known_Affected", "affected", ""):
        with pytest.raises(StatementFormatError, match="which is none"):
            found(csaf(fixed, listed(name)))
    both = {"known_affected": ["P1"], "recommended": ["P2"]}
    assert found(csaf(listed(product_status=both))) == (holds(),)


def test_csaf_product_of_a_relationship_has_identifiers() -> None:
    made = related("P2", "P9", 1)
    made["full_product_name"] = product(1, hashes=OUR_HASH)
    tree = {"full_product_names": [product(2), product(3)], "relationships": [made]}
    assert found(csaf(listed(), tree=tree)) == (holds(),)


def test_csaf_product_that_is_made_of_two_parts() -> None:
    web = [{"file_hashes": [{"algorithm": "sha256", "value": PART.hex}]}]
    tree = {
        "full_product_names": [product(1, hashes=OUR_HASH), product(2, hashes=web)],
        "relationships": [related("P1", "P2", 3), related("P3", "", 3)],
    }
    both = holds("affected", None, False, OURS, PART)
    assert found(csaf(listed("known_affected", "P3"), tree=tree)) == (both,)


def test_csaf_relationships_and_groups_without_a_name_join_nothing() -> None:
    nameless = {"product_reference": "P1", "relates_to_product_reference": "P2"}
    tree = {
        "full_product_names": [product(1, hashes=OUR_HASH), {"name": "nobody"}],
        "relationships": [nameless],
    }
    assert found(csaf(listed(), tree=tree)) == (holds(),)


def test_csaf_with_one_product_and_two_subjects_is_about_neither() -> None:
    subjects = (subject(OURS), subject(PART))
    tree = {"full_product_names": [product(1)]}
    with pytest.raises(StatementFormatError, match="which could be a part of this rel"):
        found(csaf(listed(), tree=tree, subjects=subjects))
    with pytest.raises(StatementFormatError, match="says nothing about this release"):
        found(csaf(listed("fixed"), tree=tree, subjects=subjects))


def test_csaf_of_two_parts_of_which_one_has_a_remedy() -> None:
    web = [{"file_hashes": [{"algorithm": "SHA256", "value": PART.hex.upper()}]}]
    tree = {
        "full_product_names": [product(1, hashes=OUR_HASH), product(2, hashes=web)],
        "product_groups": [
            {"group_id": "G", "product_ids": ["P1"]},
            {"group_id": "G", "product_ids": ["P9"]},
        ],
    }
    remedy = {"category": "mitigation", "details": "off", "group_ids": ["G", "H"]}
    one = listed("known_affected", "P1", "P2", remediations=[remedy])
    assert found(csaf(one, tree=tree)) == tuple(
        sorted(
            [holds(mitigated=True), holds("affected", None, False, PART)],
            key=lambda one: one.products,
        )
    )
    flag = {"flags": [{"label": "component_not_present", "product_ids": ["P1"]}]}
    with pytest.raises(StatementFormatError, match="not_affected without a justific"):
        found(csaf(listed("known_not_affected", "P1", "P2", **flag), tree=tree))


def test_csaf_without_a_list_of_vulnerabilities() -> None:
    for value in ({**csaf().predicate, "vulnerabilities": None}, {}):
        predicate = value or {
            name: one for name, one in csaf().predicate.items() if name[0] != "v"
        }
        with pytest.raises(StatementFormatError, match="no list of vulnerabilities"):
            found(csaf()._replace(predicate=predicate))


# --- large documents -----------------------------------------------------------------


def test_csaf_chain_of_products_is_followed_once() -> None:
    """Of 100,000 products each is made of the one that is listed behind it."""
    count = 100_000
    chain = [related(f"P{one}", "", one + 1) for one in range(1, count)]
    names = [product(1, hashes=OUR_HASH)]
    tree = {"full_product_names": names, "relationships": chain[::-1]}
    assert found(csaf(listed("known_affected", f"P{count}"), tree=tree)) == (holds(),)


def test_csaf_products_with_too_many_ways() -> None:
    """Each of many parts goes all the way by itself."""
    parts = [Digest.of(bytes([one])) for one in range(100)]
    names = [
        product(one, purl=f"pkg:oci/p@{part}") for one, part in enumerate(parts, 1)
    ]
    steps = [related(f"P{one}", "", one - 1) for one in range(2, 101)]
    loop = [related(f"P{one}", "", one + 1) for one in range(1001, 3000)]
    ends = [related("P1", "", 1001), related("P3000", "", 1001)]
    tree = {"full_product_names": names, "relationships": steps + loop + ends}
    with pytest.raises(StatementFormatError, match="more ways from product to product"):
        vulnerabilities([csaf(listed(), tree=tree)], parts)


def test_csaf_flag_that_names_a_large_group_often() -> None:
    count = 20_000
    others = [f"P{one}" for one in range(2, count)]
    tree = {
        "full_product_names": [product(1, hashes=OUR_HASH), product(2)],
        "product_groups": [{"group_id": "G", "product_ids": others}],
    }
    flag = {"label": "component_not_present", "group_ids": ["G"] * count}
    with pytest.raises(StatementFormatError, match="not_affected without a justific"):
        found(csaf(listed("known_not_affected", flags=[flag]), tree=tree))


def test_documents_that_say_more_than_anybody_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("margo_supplychain.provenance.vex.MAX_CLAIMS", 3)
    subjects = (subject(OURS, "pump"), subject(PART, "web"))
    one = openvex(claim(), subjects=subjects)
    assert len(found(openvex(claim()), one)) == 1
    with pytest.raises(StatementFormatError, match="release than 3 things"):
        found(one, one)


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


def test_cyclonedx_of_several_components_the_worst_holds() -> None:
    """One is resolved, and later; the other is not."""
    bad = analysed("exploitable", lastUpdated=at(2), affects=[{"ref": "a"}])
    good = analysed("resolved", lastUpdated=at(9), affects=[{"ref": "b"}])
    for both in ((bad, good), (good, bad)):
        assert found(cyclonedx(*both)) == (holds(),)
    scanned = {"id": CVE, "affects": [{"ref": "b"}]}
    assert found(cyclonedx(scanned, good)) == (holds("fixed"),)
    # Of components that nobody names, one may be the other.
    for one in (bad, good):
        del one["affects"]
    assert found(cyclonedx(bad, good)) == (holds(),)


def test_cyclonedx_without_a_date_is_not_without_an_answer() -> None:
    bad = analysed("exploitable")
    good = analysed("resolved", lastUpdated=at(9))
    for both in ((bad, good), (good, bad)):
        (one,) = found(cyclonedx(*both, stamp=None))
        assert one.status == "affected"


def test_cyclonedx_documents_about_different_components() -> None:
    bad = analysed("exploitable", lastUpdated=at(2), affects=[{"ref": "a"}])
    good = analysed("resolved", lastUpdated=at(9), affects=[{"ref": "b"}])
    zlib, curl = "pkg:generic/zlib@1", "pkg:generic/curl@1"

    def listing(value: dict[str, Any], ref: str, purl: str) -> Statement:
        statement = cyclonedx(value)
        inner = {"bom-ref": ref, "purl": purl}
        outer = {"bom-ref": "z", "components": [inner]}
        statement.predicate["components"] = [outer]  # type: ignore[index] # a dict
        return statement

    before = listing(bad, "a", zlib)
    assert found(before, cyclonedx(good)) == (holds(),)
    assert found(before, listing(good, "b", curl)) == (holds(),)
    # The same component, under another reference; and the subject itself.
    assert found(before, listing(good, "b", zlib)) == (holds("fixed"),)
    whole = cyclonedx(good)
    whole.predicate["metadata"]["component"] = {"bom-ref": "b"}
    assert found(before, whole) == (holds("fixed"),)


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
