"""Documents that can be bound to a release: is this one of that kind, and which type?

Only shapes are looked at, so that no scan report is signed as an SBOM by mistake; what
a document says is for policies to judge. Sources: SLSA v1.1 provenance; CycloneDX 1.x
JSON; SPDX 2.x JSON and 3.0 JSON-LD; OpenVEX 0.2; CSAF 2.0; in-toto's test-result and
human-review/vcs predicates.

Example:
    >>> type_of({"bomFormat": "CycloneDX", "specVersion": "1.6"}, "cyclonedx", what="x")
    'https://cyclonedx.org/bom/v1.6'
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.errors import StatementFormatError
from margo_supplychain.formats import predicates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from margo_supplychain.formats.predicates import Kind

KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "slsa-provenance": "provenance",
        "cyclonedx": "sbom-cyclonedx",
        "spdx": "sbom-spdx",
        "openvex": "vex-openvex",
        "csaf": "vex-csaf",
        "test-result": "test-result",
        "review": "review",
        "vsa": "summary",
    }
)
"""What people type, and what it is called elsewhere in this package."""

_RESULTS: Final = frozenset({"PASSED", "WARNED", "FAILED"})


class _Mismatch(Exception):  # noqa: N818 - never leaves this module
    """Why a document is not of its kind."""


def type_of(document: Mapping[str, Any], name: str, *, what: str) -> str:
    """Return the predicate type of a document that is no Statement yet.

    Args:
        document: parsed JSON, unverified.
        name: one of `KINDS`.
        what: names it in errors.

    Raises:
        StatementFormatError: it is not of that kind.
    """
    try:
        found = _TYPES[name](document)
    except _Mismatch as why:
        raise StatementFormatError(
            f"{what} is no {name} document: {why}",
            hint="--type says what it is: " + ", ".join(KINDS),
        ) from None
    if predicates.kind_of(found) != KINDS[name]:
        raise StatementFormatError(
            f"{what} is a {name} document of a version that nobody has rules for: "
            f"{found}"
        )
    return found


def _text(document: Mapping[str, Any], *path: str) -> str:
    value: Any = document
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    if not isinstance(value, str) or not value:
        raise _Mismatch(f"{'.'.join(path)} is {value!r:.60}, expected text")
    return value


def _list(document: Mapping[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    if not isinstance(value, list):
        raise _Mismatch(f"{name} is {value!r:.60}, expected a list")
    return value


def _provenance(document: Mapping[str, Any]) -> str:
    _text(document, "buildDefinition", "buildType")
    _text(document, "runDetails", "builder", "id")
    return predicates.PROVENANCE


def _cyclonedx(document: Mapping[str, Any]) -> str:
    if document.get("bomFormat") != "CycloneDX":
        found = document.get("bomFormat")
        raise _Mismatch(f"bomFormat is {found!r:.60}, expected CycloneDX as JSON")
    return f"{predicates.CYCLONEDX}/v{_text(document, 'specVersion')}"


def _spdx(document: Mapping[str, Any]) -> str:
    if "@graph" in document:
        contexts = document.get("@context")
        values = contexts if isinstance(contexts, list) else [contexts]
        if any(isinstance(one, str) and "spdx.org/rdf/3." in one for one in values):
            _list(document, "@graph")
            return f"{predicates.SPDX}/v3"
        raise _Mismatch(f"@context is {contexts!r:.60}, expected that of SPDX 3")
    version = _text(document, "spdxVersion")
    if not version.startswith("SPDX-2."):
        raise _Mismatch(
            f"spdxVersion is {version!r:.60}, expected SPDX-2.2 or SPDX-2.3"
        )
    _text(document, "SPDXID")
    return f"{predicates.SPDX}/v{version.removeprefix('SPDX-')}"


def _openvex(document: Mapping[str, Any]) -> str:
    _list(document, "statements")
    return _text(document, "@context")


def _csaf(document: Mapping[str, Any]) -> str:
    version = _text(document, "document", "csaf_version")
    if version != "2.0":
        raise _Mismatch(f"document.csaf_version is {version!r:.60}, expected 2.0")
    _text(document, "document", "category")
    return predicates.CSAF


def _test_result(document: Mapping[str, Any]) -> str:
    if document.get("result") not in _RESULTS:
        raise _Mismatch(
            f"result is {document.get('result')!r:.60}, expected PASSED, WARNED or "
            "FAILED"
        )
    _list(document, "configuration")
    return predicates.TEST_RESULT


def _review(document: Mapping[str, Any]) -> str:
    if not _list(document, "reviewers"):
        raise _Mismatch("reviewers is empty")
    return predicates.REVIEW


def _summary(document: Mapping[str, Any]) -> str:
    raise _Mismatch(
        f"it has {len(document)} fields and is no Statement; `device verify --vsa` "
        "writes one"
    )


_TYPES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = MappingProxyType(
    {
        "slsa-provenance": _provenance,
        "cyclonedx": _cyclonedx,
        "spdx": _spdx,
        "openvex": _openvex,
        "csaf": _csaf,
        "test-result": _test_result,
        "review": _review,
        "vsa": _summary,
    }
)
