"""Statements: which digests they are about, and types that nobody has to guess."""

from __future__ import annotations

import json
from typing import Any

import pytest

from margo_supplychain.errors import StatementFormatError
from margo_supplychain.formats import predicates
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.statements import (
    STATEMENT,
    STATEMENT_V01,
    Statement,
    Subject,
    parse_statement,
    statement_bytes,
)

HEX = "ab" * 32
TYPE = "https://example.com/x/v1"


def written(**changes: Any) -> bytes:
    value: dict[str, Any] = {
        "_type": STATEMENT,
        "subject": [{"name": "web", "digest": {"sha256": HEX}}],
        "predicateType": TYPE,
        "predicate": {"score": 9.8},
    }
    value |= changes
    return json.dumps({k: v for k, v in value.items() if v is not None}).encode()


def parse(data: bytes, limit: int = 1 << 20) -> Statement:
    return parse_statement(data, what="it", limit=limit)


@pytest.mark.parametrize("kind", [STATEMENT, STATEMENT_V01])
def test_statement(kind: str) -> None:
    found = parse(written(_type=kind))
    assert found == Statement((Subject("web", {"sha256": HEX}),), TYPE, {"score": 9.8})


def test_subjects_are_matched_by_digest() -> None:
    subject = {"digest": {"sha512": "cd" * 64, "gitCommit": "ab" * 20, "md5": "x"}}
    found = parse(written(subject=[{"digest": {"sha256": HEX}}, subject]))
    assert found.subjects[0].name == ""
    assert found.is_about(Digest("sha256", HEX))
    assert found.is_about(Digest("sha512", "cd" * 64))
    assert not found.is_about(Digest("sha256", "cd" * 32))
    assert not found.is_about(Digest("sha384", "cd" * 48))


def test_predicate_may_be_missing_and_unknown_fields_are_skipped() -> None:
    found = parse(written(predicate=None, extra={"a": 1}))
    assert found.predicate == {}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"_type": None}, "it is of type None, expected https://in-toto.io"),
        ({"_type": "link"}, "it is of type 'link'"),
        ({"_type": ["x"]}, "it is of type"),
        ({"_type": "https://in-toto.io/Statement/v2"}, "it is of type"),
        ({"subject": None}, "has no list of subjects"),
        ({"subject": []}, "has no list of subjects"),
        ({"subject": {"web": HEX}}, "has no list of subjects"),
        ({"subject": ["web"]}, "subject 1 of it is no object"),
        ({"subject": [{"name": 1, "digest": {"sha256": HEX}}]}, "has the name 1"),
        ({"subject": [{"name": "web"}]}, "subject 1 of it has no digest"),
        ({"subject": [{"digest": {}}]}, "has no digest, expected 1 to 32"),
        ({"subject": [{"digest": HEX}]}, "has no digest"),
        (
            {"subject": [{"digest": {"sha256": None}}]},
            "has the 'sha256' None, expected",
        ),
        ({"subject": [{"digest": {"x": ""}}]}, "has the 'x' '', expected text"),
        ({"subject": [{"digest": {"sha256": HEX.upper()}}]}, "expected 64 lower-case"),
        ({"subject": [{"digest": {"sha512": HEX}}]}, "expected 128 lower-case"),
        (
            {"subject": [{"digest": {f"x{n}": HEX for n in range(33)}}]},
            "has no digest, expected 1 to 32",
        ),
        ({"predicateType": None}, "has no predicate type"),
        ({"predicateType": 1}, "has no predicate type"),
        ({"predicateType": ""}, "its predicate type has 0 characters"),
        ({"predicateType": "a b"}, "its predicate type is 'a b'"),
        ({"predicateType": "a" * 257}, "its predicate type has 257 characters"),
        ({"predicate": []}, "has a predicate that is no object"),
    ],
)
def test_what_is_no_statement(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(StatementFormatError, match=problem):
        parse(written(**changes))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"[]", "is not a JSON object"),
        (written()[:-1] + b',"subject":[]}', "names 'subject' twice"),
        (b'{"predicate":NaN}', "holds 'NaN'"),
        (b'{"predicate":1e999}', "holds the number 1e999, which is too large"),
        (b'{"predicate":0.' + b"1" * 100 + b"}", "which is too large"),
        (b'{"predicate":9007199254740993}', "beyond 2\\^53"),
        (b'{"predicate":[' + b"[]," * 5000 + b"1]}", "holds more than"),
        (b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", "nested deeper than 64"),
    ],
)
def test_what_is_no_strict_json(data: bytes, problem: str) -> None:
    with pytest.raises(StatementFormatError, match=problem):
        parse(data)


def test_limit() -> None:
    with pytest.raises(StatementFormatError, match="more than the limit of 100"):
        parse(written(predicate={"a": "b" * 100}), limit=100)


def test_what_is_written_is_read_back() -> None:
    subjects = [Subject("web", {"sha256": HEX}), Subject("", {"gitCommit": "ab"})]
    predicate = {"b": 1.5, "a": [None, True, "é"]}
    data = statement_bytes(subjects, TYPE, predicate)
    assert parse(data) == Statement(tuple(subjects), TYPE, predicate)
    assert statement_bytes(iter(subjects), TYPE, predicate) == data
    assert json.loads(data)["_type"] == "https://in-toto.io/Statement/v1"


def test_what_would_not_be_read_is_not_written() -> None:
    with pytest.raises(StatementFormatError, match="the statement has no list of sub"):
        statement_bytes([], TYPE, {})
    with pytest.raises(StatementFormatError, match="the statement: its predicate type"):
        statement_bytes([Subject("", {"sha256": HEX})], "", {})


@pytest.mark.parametrize(
    ("predicate_type", "kind"),
    [
        ("https://in-toto.io/attestation/link/v0.3", "link"),
        ("https://slsa.dev/provenance/v1", "provenance"),
        ("https://slsa.dev/provenance/v0.2", "provenance"),
        ("https://cyclonedx.org/bom", "sbom-cyclonedx"),
        ("https://cyclonedx.org/bom/v1.4", "sbom-cyclonedx"),
        ("https://cyclonedx.org/bom/v1.7", "sbom-cyclonedx"),
        ("https://spdx.dev/Document", "sbom-spdx"),
        ("https://spdx.dev/Document/v2.3", "sbom-spdx"),
        ("https://spdx.dev/Document/v3", "sbom-spdx"),
        ("https://spdx.dev/Document/v3.0.1", "sbom-spdx"),
        ("https://openvex.dev/ns", "vex-openvex"),
        ("https://openvex.dev/ns/v0.2.0", "vex-openvex"),
        (predicates.CSAF, "vex-csaf"),
        ("https://in-toto.io/attestation/test-result/v0.1", "test-result"),
        ("https://in-toto.io/attestation/human-review/vcs/v0.1", "review"),
        ("http://in-toto.io/attestation/human-review/vcs/v0.1", "review"),
        ("https://in-toto.io/attestation/human-review/crev/v0.1", "review"),
        ("https://slsa.dev/verification_summary/v1", "summary"),
        # What is nearly one of them is none.
        ("https://in-toto.io/Link/v1", None),
        ("https://in-toto.io/attestation/link/v0.3/", None),
        ("https://slsa.dev/provenance/v1.0", None),
        ("https://slsa.dev/provenance/v0.1", None),
        ("https://cyclonedx.org/bom/1.4", None),
        ("https://cyclonedx.org/bom/v2.0", None),
        ("https://cyclonedxXorg/bom/v1.4", None),
        ("https://spdx.dev/Document/v2.3\n", None),
        ("HTTPS://spdx.dev/Document", None),
        ("https://openvex.dev/ns/v0.0.1", None),
        ("https://in-toto.io/attestation/vulns/v0.2", None),
        ("http://slsa.dev/provenance/v1", None),
        ("", None),
    ],
)
def test_kinds(predicate_type: str, kind: str | None) -> None:
    assert predicates.kind_of(predicate_type) == kind
