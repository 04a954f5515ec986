"""Types of statements: which predicate type says what.

Types are compared as they stand: no type is guessed from a document, a prefix or a
media type. Sources, looked at in November 2026:

- https://github.com/in-toto/attestation/tree/main/spec/predicates (link, test-result,
  cyclonedx, spdx2, spdx3). Documents carry their version in the type or not, and
  both customs are taken: `https://cyclonedx.org/bom` and `…/bom/v1.6`.
- https://slsa.dev/spec/v1.1/provenance and https://slsa.dev/spec/v1.1/verification_summary
- https://github.com/openvex/spec/blob/main/ATTESTING.md: the type is OpenVEX's JSON-LD
  context, `https://openvex.dev/ns`.
- Reviews: in-toto's spec/predicates/human-review-vcs.md and human-review-crev.md, which
  call their types tentative; the former's examples write `http:`, which is taken, too.
- CSAF: nobody has defined a predicate type (OASIS CSAF 2.0, in-toto and cosign name
  none). Ours is the address of OASIS's JSON schema for CSAF 2.0, which says what the
  predicate is, as OpenVEX's context does.

Example:
    >>> kind_of("https://cyclonedx.org/bom/v1.6"), kind_of("https://example.com/x")
    ('sbom-cyclonedx', None)
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal[
    "link",
    "provenance",
    "sbom-cyclonedx",
    "sbom-spdx",
    "vex-openvex",
    "vex-csaf",
    "test-result",
    "review",
    "summary",
]

LINK: Final = "https://in-toto.io/attestation/link/v0.3"
PROVENANCE: Final = "https://slsa.dev/provenance/v1"
PROVENANCE_V02: Final = "https://slsa.dev/provenance/v0.2"
CYCLONEDX: Final = "https://cyclonedx.org/bom"
SPDX: Final = "https://spdx.dev/Document"
OPENVEX: Final = "https://openvex.dev/ns"
CSAF: Final = "https://docs.oasis-open.org/csaf/csaf/v2.0/csaf_json_schema.json"
TEST_RESULT: Final = "https://in-toto.io/attestation/test-result/v0.1"
REVIEW: Final = "https://in-toto.io/attestation/human-review/vcs/v0.1"
REVIEW_CREV: Final = "https://in-toto.io/attestation/human-review/crev/v0.1"
SUMMARY: Final = "https://slsa.dev/verification_summary/v1"

_KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        LINK: "link",
        PROVENANCE: "provenance",
        PROVENANCE_V02: "provenance",
        CYCLONEDX: "sbom-cyclonedx",
        SPDX: "sbom-spdx",
        OPENVEX: "vex-openvex",
        CSAF: "vex-csaf",
        TEST_RESULT: "test-result",
        REVIEW: "review",
        REVIEW.replace("https:", "http:"): "review",
        REVIEW_CREV: "review",
        SUMMARY: "summary",
    }
)
# Documents of these standards bring their own version along.
_VERSIONED: Final[tuple[tuple[re.Pattern[str], Kind], ...]] = (
    (
        re.compile(rf"{re.escape(CYCLONEDX)}/v1\.[0-9]{{1,2}}", re.ASCII),
        "sbom-cyclonedx",
    ),
    (
        re.compile(rf"{re.escape(SPDX)}/v[23](?:\.[0-9]{{1,2}}){{0,2}}", re.ASCII),
        "sbom-spdx",
    ),
    (
        re.compile(rf"{re.escape(OPENVEX)}/v0\.2(?:\.[0-9]{{1,2}})?", re.ASCII),
        "vex-openvex",
    ),
)


def kind_of(predicate_type: str) -> Kind | None:
    """Return what a statement of this type says; None for a type that has no rules."""
    found = _KINDS.get(predicate_type)
    if found is not None:
        return found
    for pattern, kind in _VERSIONED:
        if pattern.fullmatch(predicate_type) is not None:
            return kind
    return None
