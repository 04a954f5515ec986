"""Documents in which any one value is something else: read, or refused in one way."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import StatementFormatError
from margo_supplychain.formats import predicates
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.statements import Statement, Subject, statement_of
from margo_supplychain.provenance.documents import (
    builder_of,
    sbom_of,
    sources_of,
    support_end,
    vulnerabilities,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = Digest.of(b"ours")
TIME = "2026-01-01T00:00:00Z"
HOSTILE: tuple[Any, ...] = (
    None,
    True,
    0,
    -1.5,
    "",
    "x",
    "\ud800",
    TIME,
    "2026-01-01",
    [],
    [None],
    [[]],
    ["x"],
    [{}],
    {},
    {"": {}},
    {"x": []},
)

DOCUMENTS: dict[str, dict[str, Any]] = {
    predicates.PROVENANCE: {
        "buildDefinition": {
            "externalParameters": {
                "repository": "https://example.com/a",
                "source": {"uri": "https://example.com/a", "repository": "x://y/z"},
                "workflow": {"repository": "https://example.com/a"},
            },
            "resolvedDependencies": [{"uri": "git+x://y/z", "digest": {"sha1": "a"}}],
        },
        "runDetails": {"builder": {"id": "https://example.com/builder"}},
    },
    predicates.PROVENANCE_V02: {
        "builder": {"id": "https://example.com/builder"},
        "invocation": {"configSource": {"uri": "https://example.com/a"}},
        "materials": [{"uri": "git+https://x/y", "digest": {"gitCommit": "a"}}],
    },
    predicates.CYCLONEDX: {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "components": [{"name": "a"}],
        "metadata": {
            "timestamp": TIME,
            "properties": [
                {"name": "cdx:lifecycle:milestone:endOfSupport", "value": TIME}
            ],
            "component": {"properties": [{"name": "a", "value": "b"}]},
        },
        "vulnerabilities": [
            {
                "id": "CVE-1",
                "published": TIME,
                "workaround": "x",
                "recommendation": "x",
                "analysis": {
                    "state": "not_affected",
                    "justification": "x",
                    "detail": "x",
                    "response": ["update"],
                    "firstIssued": TIME,
                    "lastUpdated": TIME,
                },
            }
        ],
    },
    predicates.SPDX: {
        "spdxVersion": "SPDX-2.3",
        "@context": ["https://spdx.org/rdf/3.0.1/spdx-context.jsonld"],
        "@graph": [{"type": "software_Package"}],
        "packages": [{"SPDXID": "A"}],
    },
    predicates.OPENVEX: {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "timestamp": TIME,
        "last_updated": TIME,
        "statements": [
            {
                "vulnerability": {"name": "CVE-1", "@id": "x"},
                "timestamp": TIME,
                "last_updated": TIME,
                "products": [
                    {
                        "@id": "pump",
                        "identifiers": {"purl": "pkg:oci/x@y"},
                        "hashes": {"sha-256": OURS.hex},
                    }
                ],
                "status": "not_affected",
                "justification": "x",
                "impact_statement": "x",
                "action_statement": "x",
            }
        ],
    },
    predicates.CSAF: {
        "document": {
            "csaf_version": "2.0",
            "tracking": {"initial_release_date": TIME, "current_release_date": TIME},
        },
        "product_tree": {
            "full_product_names": [
                {
                    "product_id": "P1",
                    "name": "pump",
                    "product_identification_helper": {
                        "purl": "pkg:oci/x@y",
                        "hashes": [
                            {"file_hashes": [{"algorithm": "sha256", "value": "x"}]}
                        ],
                    },
                }
            ],
            "branches": [{"branches": [{"product": {"product_id": "P2"}}]}],
            "relationships": [
                {
                    "product_reference": "P1",
                    "relates_to_product_reference": "P2",
                    "full_product_name": {"product_id": "P3"},
                }
            ],
            "product_groups": [{"group_id": "G", "product_ids": ["P1"]}],
        },
        "vulnerabilities": [
            {
                "cve": "CVE-1",
                "ids": [{"text": "x"}],
                "release_date": TIME,
                "product_status": {"known_not_affected": ["P1"], "fixed": ["P3"]},
                "flags": [{"product_ids": ["P1"], "group_ids": ["G"]}],
                "threats": [{"category": "impact", "product_ids": ["P1"]}],
                "remediations": [{"category": "mitigation", "group_ids": ["G"]}],
            }
        ],
    },
}


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in JSON."""
    yield before
    inner = value if isinstance(value, dict) else {}
    if isinstance(value, list):
        inner = dict(enumerate(value))
    for key, one in inner.items():
        yield from places(one, (*before, key))


def replaced(document: dict[str, Any], place: tuple[Any, ...], value: object) -> Any:
    changed = copy.deepcopy({"root": document})
    at: Any = changed
    path = ("root", *place)
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = copy.deepcopy(value)
    return changed["root"]


def about(kind: str, predicate: Any) -> Statement:
    subject = {"name": "pump", "digest": {"sha256": OURS.hex}}
    raw = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [subject],
        "predicateType": kind,
        "predicate": predicate,
    }
    return statement_of(raw, what="the statement")


def read_all(statement: Statement) -> list[object]:
    """Ask everything that rules ask; what is refused is refused in one way."""
    answers: list[object] = []
    for ask in (builder_of, sources_of, sbom_of, support_end):
        try:
            answers.append(ask(statement))
        except StatementFormatError as why:
            answers.append(str(why))
    try:
        answers.append(vulnerabilities([statement], [OURS]))
    except StatementFormatError as why:
        answers.append(str(why))
    return answers


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_the_documents_are_good(kind: str) -> None:
    answers = read_all(about(kind, DOCUMENTS[kind]))
    assert not any(isinstance(one, str) and " is no " in one for one in answers)
    assert any(answers)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_any_value_replaced(kind: str) -> None:
    document = DOCUMENTS[kind]
    for place in places(document):
        for value in HOSTILE:
            try:
                statement = about(kind, replaced(document, place, value))
            except StatementFormatError:
                continue
            read_all(statement)


def test_names_of_subjects_are_no_patterns() -> None:
    subject = Subject("*", {"sha256": OURS.hex})
    document = {
        **DOCUMENTS[predicates.OPENVEX],
        "statements": [
            {"vulnerability": "CVE-1", "status": "fixed", "products": ["pump"]}
        ],
    }
    statement = Statement((subject,), predicates.OPENVEX, document)
    with pytest.raises(StatementFormatError, match="says nothing about this release"):
        vulnerabilities([statement], [OURS])
