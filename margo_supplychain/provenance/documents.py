"""What rules ask of statements: builder, sources, SBOM, vulnerabilities, support.

Statements come from `formats.statements`, verified by whoever asks. A predicate that is
not what its type says is an error, never an answer: nothing is dropped that might have
said no.

Formats: SLSA provenance 1 and 0.2 (https://slsa.dev/spec/v1.1/provenance,
https://slsa.dev/provenance/v0.2; `provenance.sources`), CycloneDX 1 (https://cyclonedx.org/specification),
SPDX 2 and 3 (https://spdx.github.io/spdx-spec), OpenVEX and CSAF (`provenance.vex`).

"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from margo_supplychain.errors import StatementFormatError
from margo_supplychain.formats.predicates import (
    PROVENANCE,
    PROVENANCE_V02,
    kind_of,
)
from margo_supplychain.provenance.csaf import csaf
from margo_supplychain.provenance.foreign_json import (
    list_in,
    object_in,
    objects_in,
    parse_moment,
    text_in,
)
from margo_supplychain.provenance.parts import Parts
from margo_supplychain.provenance.sources import repository, sources_of
from margo_supplychain.provenance.vex import (
    Claim,
    Vulnerability,
    cyclonedx,
    openvex,
    require_few,
    resolved,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.statements import Statement

__all__ = [
    "Sbom",
    "Vulnerability",
    "builder_of",
    "repository",
    "sbom_of",
    "sources_of",
    "support_end",
    "vulnerabilities",
]

# https://github.com/CycloneDX/cyclonedx-property-taxonomy/blob/main/cdx/lifecycle.md
_END_OF_SUPPORT: Final = "cdx:lifecycle:milestone:endOfSupport"
_READERS: Final[Mapping[str | None, Callable[[Statement, Parts], Iterator[Claim]]]] = {
    "vex-openvex": openvex,
    "vex-csaf": csaf,
    "sbom-cyclonedx": cyclonedx,
}


class Sbom(NamedTuple):
    """An SBOM that is one.

    Args:
        kind: which standard.
        version: of the standard, as the document has it.
        components: how many it lists; what it is about is not among them.
    """

    kind: Literal["cyclonedx", "spdx"]
    version: str
    components: int


def builder_of(statement: Statement) -> str | None:
    """Return who built the subjects, as SLSA provenance says; None if it does not.

    Raises:
        StatementFormatError: provenance with fields of another type than SLSA says.
    """
    what, predicate = "provenance", statement.predicate
    if statement.predicate_type == PROVENANCE:
        predicate = object_in(predicate, "runDetails", what=what)
    elif statement.predicate_type != PROVENANCE_V02:
        return None
    builder = object_in(predicate, "builder", what=what)
    return text_in(builder, "id", what=f"{what}.builder") or None


def sbom_of(statement: Statement) -> Sbom | None:
    """Return the SBOM that a statement holds; None if its type is none of an SBOM.

    Raises:
        StatementFormatError: the type says SBOM, and the predicate is none.
    """
    kind = kind_of(statement.predicate_type)
    document = statement.predicate
    if kind == "sbom-cyclonedx":
        what = "the CycloneDX document"
        version = text_in(document, "specVersion", what=what)
        # check 4.53: what is called a CycloneDX BOM is one
        if document.get("bomFormat") != "CycloneDX" or not version:
            raise StatementFormatError(
                f"{what} has no bomFormat and specVersion of one"
            )
        count = len(objects_in(document, "components", what=what))
        return Sbom("cyclonedx", version, count)
    if kind == "sbom-spdx":
        return _spdx(document)
    return None


def _spdx(document: Mapping[str, Any]) -> Sbom:
    what = "the SPDX document"
    version = text_in(document, "spdxVersion", what=what)
    if version.startswith("SPDX-2."):
        packages = objects_in(document, "packages", what=what)
        return Sbom("spdx", version.removeprefix("SPDX-"), len(packages))
    context = document.get("@context")
    contexts = context if isinstance(context, list) else [context]
    # https://spdx.github.io/spdx-spec/v3.0.1/serializations
    for one in contexts:
        if isinstance(one, str) and one.startswith("https://spdx.org/rdf/3."):
            elements = list_in(document, "@graph", what=what)
            return Sbom("spdx", one.split("/")[4], len(_packages(elements)))
    raise StatementFormatError(f"{what} is neither SPDX 2 nor SPDX 3 in JSON")


def _packages(elements: Collection[Any]) -> list[Any]:
    return [
        one
        for one in elements
        if isinstance(one, dict) and one.get("type") == "software_Package"
    ]


def vulnerabilities(
    statements: Iterable[Statement],
    digests: Collection[Digest],
    *,
    repositories: Collection[str] = (),
    latest: datetime | None = None,
) -> tuple[Vulnerability, ...]:
    """Return what all statements together say of vulnerabilities in a release.

    Statements that are neither VEX nor a CycloneDX BOM say nothing of any.

    Args:
        statements: whose authors count for this release.
        digests: what the release is: its artifact, components and images.
        repositories: image references and components' repositories: what has another
            digest there may be inside of what the release is.
        latest: what is said as of a later time is no news yet; None for any time.

    Raises:
        StatementFormatError: a document that is not what its type says, says
            `not_affected` without a reason, says nothing about this release, or that
            something is affected of which nobody can tell what it is.
    """
    claims: list[Claim] = []
    for one in statements:
        read = _READERS.get(kind_of(one.predicate_type))
        if read is None:
            continue
        for claim in read(one, Parts(one, digests, repositories)):
            claims.append(claim)
            require_few(claims)
    return resolved(claims, latest=latest)


def support_end(statement: Statement) -> datetime | None:
    """Return when the subjects' support ends, as their SBOM says; None if not.

    CycloneDX alone: properties of the BOM and of what it is about, never of what that
    is made of. Of several, the earliest holds; a date is its beginning, UTC.

    Raises:
        StatementFormatError: the field is there and is no time.
    """
    if kind_of(statement.predicate_type) != "sbom-cyclonedx":
        return None
    ends = [
        parse_moment(text, what=_END_OF_SUPPORT, day=True)
        for text in _cyclonedx_ends(statement.predicate)
    ]
    return min(ends, default=None)


def _cyclonedx_ends(document: Mapping[str, Any]) -> Iterator[str]:
    what = "the CycloneDX document"
    metadata = object_in(document, "metadata", what=what)
    component = object_in(metadata, "component", what=f"{what}.metadata")
    for holder in (metadata, component):
        for one in objects_in(holder, "properties", what=what):
            if text_in(one, "name", what=what) == _END_OF_SUPPORT:
                yield text_in(one, "value", what=what)
