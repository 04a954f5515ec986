"""Documents and Statements: what is bound to a release, and what is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.recording.documents import KINDS, type_of
from margo_supplychain.authoring.recording.statements import (
    About,
    about_digest,
    bind,
    file_name,
)
from margo_supplychain.errors import FormatError, StatementFormatError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.predicates import kind_of
from margo_supplychain.formats.statements import Subject, statement_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

DIGEST = Digest.of(b"a release")
ABOUT = about_digest(DIGEST)
SLSA = {
    "buildDefinition": {"buildType": "https://example.com/make"},
    "runDetails": {"builder": {"id": "https://example.com/builder"}},
}
VALID: list[tuple[str, dict[str, Any], str]] = [
    ("slsa-provenance", SLSA, "https://slsa.dev/provenance/v1"),
    (
        "cyclonedx",
        {"bomFormat": "CycloneDX", "specVersion": "1.7"},
        "https://cyclonedx.org/bom/v1.7",
    ),
    (
        "spdx",
        {"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT"},
        "https://spdx.dev/Document/v2.3",
    ),
    (
        "spdx",
        {"@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld", "@graph": []},
        "https://spdx.dev/Document/v3",
    ),
    (
        "openvex",
        {"@context": "https://openvex.dev/ns/v0.2.0", "statements": []},
        "https://openvex.dev/ns/v0.2.0",
    ),
    (
        "csaf",
        {"document": {"csaf_version": "2.0", "category": "csaf_vex"}},
        "https://docs.oasis-open.org/csaf/csaf/v2.0/csaf_json_schema.json",
    ),
    (
        "test-result",
        {"result": "FAILED", "configuration": []},
        "https://in-toto.io/attestation/test-result/v0.1",
    ),
    (
        "review",
        {"reviewers": [{"name": "alice"}]},
        "https://in-toto.io/attestation/human-review/vcs/v0.1",
    ),
]


@pytest.mark.parametrize(("name", "document", "wanted"), VALID)
def test_types_of_documents(
    name: str, document: Mapping[str, Any], wanted: str
) -> None:
    assert type_of(document, name, what="x") == wanted
    assert kind_of(wanted) == KINDS[name]


@pytest.mark.parametrize(("name", "document", "wanted"), VALID)
def test_no_document_is_of_another_kind(
    name: str, document: Mapping[str, Any], wanted: str
) -> None:
    for other in KINDS.keys() - {name}:
        with pytest.raises(StatementFormatError, match=f"x is no {other} document: "):
            type_of(document, other, what="x")


@pytest.mark.parametrize(
    ("name", "document", "message"),
    [
        ("cyclonedx", {"bomFormat": "CycloneDX"}, "specVersion is None, expected text"),
        (
            "cyclonedx",
            {"bomFormat": "CycloneDX", "specVersion": "2.0"},
            "of a version that nobody has rules for: https://cyclonedx.org/bom/v2.0",
        ),
        ("spdx", {"spdxVersion": "SPDX-1.2"}, "expected SPDX-2.2 or SPDX-2.3"),
        ("spdx", {"spdxVersion": "SPDX-2.3"}, "SPDXID is None"),
        ("spdx", {"@graph": [], "@context": ["https://schema.org"]}, "of SPDX 3"),
        ("openvex", {"statements": {}}, "statements is {}, expected a list"),
        (
            "openvex",
            {"statements": [], "@context": "https://openvex.dev/ns/v1.0"},
            "nobody has rules for",
        ),
        ("csaf", {"document": {"csaf_version": "2.1"}}, "csaf_version is '2.1', exp"),
        ("csaf", {"document": {"csaf_version": "2.0"}}, "document.category is None"),
        ("test-result", {"result": "GREAT"}, "result is 'GREAT', expected PASSED"),
        ("test-result", {"result": "PASSED"}, "configuration is None, expected a"),
        ("review", {"reviewers": []}, "reviewers is empty"),
        ("slsa-provenance", {"buildDefinition": {"buildType": 3}}, "buildType is 3"),
        ("slsa-provenance", SLSA | {"runDetails": []}, "runDetails.builder.id is None"),
    ],
)
def test_shapes_that_are_wrong(
    name: str, document: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(StatementFormatError) as why:
        type_of(document, name, what="x")
    assert message in str(why.value)


def statement(
    type_: str = "https://cyclonedx.org/bom", *, digest: Digest = DIGEST
) -> bytes:
    subject = Subject("x", {digest.algorithm: digest.hex})
    return statement_bytes([subject], type_, {})


def test_a_statement_keeps_its_bytes() -> None:
    data = b"  " + statement().replace(b",", b" , ")
    bound = bind(data, about=ABOUT, name=None, what="x")
    assert bound.payload == data
    assert (bound.name, bound.was_statement) == ("cyclonedx", True)
    assert bind(data, about=ABOUT, name="cyclonedx", what="x") == bound


def test_fractions_are_kept() -> None:
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "score": 9.8}
    bound = bind(json.dumps(document).encode(), about=ABOUT, name="cyclonedx", what="x")
    assert json.loads(bound.payload)["predicate"] == document


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (statement(digest=Digest.of(b"x")), None, "x is about 'x' (sha256:2d711642b7"),
        (statement(), "spdx", "type https://cyclonedx.org/bom, and --type says spdx"),
        (statement("https://example.com/x"), None, "which no rule is about"),
        (
            statement("https://in-toto.io/attestation/link/v0.3"),
            None,
            "which no rule is about",
        ),
        (b'{"payloadType": "x", "signatures": []}', None, "x is signed already"),
        (b"{}", None, "x is no in-toto Statement, so it does not say what it is"),
        (b"[]", "spdx", "x is not a JSON object"),
        (b'{"a": 1, "a": 2}', "spdx", "x names 'a' twice"),
        (b'{"_type": "https://in-toto.io/Statement/v1"}', None, "x has no list of sub"),
    ],
)
def test_what_is_not_bound(data: bytes, name: str | None, message: str) -> None:
    with pytest.raises(StatementFormatError) as why:
        bind(data, about=ABOUT, name=name, what="x")
    assert message in str(why.value)
    assert isinstance(why.value, FormatError)


OTHER = Subject("y", {"sha256": "bb" * 32})


@pytest.mark.parametrize(
    "more",
    [
        [OTHER],
        [Subject("x", {"sha1": "bb" * 20})],
        [Subject("x", {"sha256": DIGEST.hex, "sha512": "bb" * 64})],
    ],
)
def test_a_statement_about_more_than_this(more: list[Subject]) -> None:
    """Whoever signs it is shown one artifact."""
    same = Subject("x", {"sha256": DIGEST.hex, "sha1": "00" * 20})
    type_ = "https://cyclonedx.org/bom"
    assert bind(
        statement_bytes([same, same], type_, {}), about=ABOUT, name=None, what="x"
    ).was_statement
    data = statement_bytes([same, *more], type_, {})
    with pytest.raises(StatementFormatError, match=r"^x is about more than sha256:"):
        bind(data, about=ABOUT, name=None, what="x")


def test_links_are_made_by_recording() -> None:
    data = statement("https://in-toto.io/attestation/link/v0.3")
    with pytest.raises(StatementFormatError, match="no rule is about") as why:
        bind(data, about=ABOUT, name=None, what="x")
    assert why.value.hint == "`attest run` and `attest record` write links"


def test_names_of_files() -> None:
    bound = bind(statement(), about=ABOUT, name=None, what="x")
    assert file_name(bound, ABOUT, "0011223344") == "cyclonedx.00112233.dsse.json"
    odd = About(DIGEST, "x", "x", component="../web app")
    assert file_name(bound, odd, "0011223344") == (
        "cyclonedx...%2Fweb%20app.00112233.dsse.json"
    )
