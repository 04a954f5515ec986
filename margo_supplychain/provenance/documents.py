"""What rules ask of statements: builder, sources, SBOM, vulnerabilities, support.

Statements come from `formats.statements`, verified by whoever asks. A predicate that is
not what its type says is an error, never an answer: nothing is dropped that might have
said no.

Formats: SLSA provenance 1 and 0.2 (https://slsa.dev/spec/v1.1/provenance,
https://slsa.dev/provenance/v0.2), CycloneDX 1 (https://cyclonedx.org/specification),
SPDX 2 and 3 (https://spdx.github.io/spdx-spec), OpenVEX and CSAF (`provenance.vex`).

Example:
    >>> repository("git+https://github.com/acme/pump.git@refs/tags/v1")
    'https://github.com/acme/pump'
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
    texts_in,
)
from margo_supplychain.provenance.vex import (
    Claim,
    Vulnerability,
    cyclonedx,
    openvex,
    resolved,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
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
# What build types call the repository that a build was started from: SLSA's own
# example, GitLab's, GitHub's workflow, Google's, and older ones.
_PARAMETERS: Final = (
    "repository",
    "source",
    "workflow",
    "buildConfigSource",
    "configSource",
)
_GIT: Final = "git+"
_SPDX_DOCUMENT: Final = "SPDXRef-DOCUMENT"


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


def sources_of(statement: Statement) -> tuple[str, ...]:
    """Return every source repository that a build took part from, sorted.

    Each as `repository` writes it: where the build was started from, and what it took
    from git besides. Empty for a statement that names none.

    Raises:
        StatementFormatError: provenance with fields of another type than SLSA says.
    """
    what, predicate = "provenance", statement.predicate
    found: list[str] = []
    if statement.predicate_type == PROVENANCE:
        definition = object_in(predicate, "buildDefinition", what=what)
        parameters = object_in(definition, "externalParameters", what=what)
        found += (
            uri for name in _PARAMETERS for uri in _named(parameters.get(name), what)
        )
        taken = objects_in(definition, "resolvedDependencies", what=what)
    elif statement.predicate_type == PROVENANCE_V02:
        invocation = object_in(predicate, "invocation", what=what)
        config = object_in(invocation, "configSource", what=what)
        found.append(text_in(config, "uri", what=f"{what}.configSource"))
        taken = objects_in(predicate, "materials", what=what)
    else:
        return ()
    found += (text_in(one, "uri", what=what) for one in taken if _is_git(one, what))
    return tuple(sorted({repository(one) for one in found if one}))


def _named(value: object, what: str) -> Iterator[str]:
    if isinstance(value, str) and "://" in value:
        yield value
    elif isinstance(value, dict):
        yield text_in(value, "repository", what=what)
        yield text_in(value, "uri", what=what)


def _is_git(value: Mapping[str, Any], what: str) -> bool:
    uri = text_in(value, "uri", what=what)
    digests = object_in(value, "digest", what=what)
    # in-toto's DigestSet: `gitCommit`; `sha1` is what older tools write for a commit.
    is_commit = "gitCommit" in digests or "sha1" in digests
    return uri.startswith(_GIT) or (is_commit and not uri.startswith("pkg:"))


def repository(uri: str) -> str:
    """Return a repository's address as rules compare it.

    Without `git+`, without `@<revision>`, `#<revision>`, a query, `.git` and a slash at
    the end, and with scheme and host in lower case (SPDX's and pip's `git+` URLs).
    """
    plain = uri.strip().removeprefix(_GIT).partition("#")[0].partition("?")[0]
    scheme, colon, rest = plain.partition("://")
    host, slash, path = rest.partition("/")
    if not colon or not slash:
        return plain
    # A revision may hold slashes: refs/heads/main.
    path = path.partition("@")[0].rstrip("/").removesuffix(".git").rstrip("/")
    return f"{scheme.lower()}://{host.lower()}/{path}"


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
    statements: Iterable[Statement], digests: Collection[Digest]
) -> tuple[Vulnerability, ...]:
    """Return what all statements together say of vulnerabilities in a release.

    Statements that are neither VEX nor a CycloneDX BOM say nothing of any.

    Args:
        statements: whose authors count for this release.
        digests: what the release is: its artifact, and its components if these count.

    Raises:
        StatementFormatError: a document that is not what its type says, says
            `not_affected` without a reason, or says nothing about this release.
    """
    claims: list[Claim] = []
    for one in statements:
        kind = kind_of(one.predicate_type)
        if kind == "vex-openvex":
            claims += openvex(one, digests)
        elif kind == "vex-csaf":
            claims += csaf(one, digests)
        elif kind == "sbom-cyclonedx":
            claims += cyclonedx(one, digests)
    return resolved(claims)


def support_end(statement: Statement) -> datetime | None:
    """Return when the subjects' support ends, as their SBOM says; None if not.

    CycloneDX: properties of the BOM and of what it is about. SPDX 2: `validUntilDate`
    of the packages that the document describes (2.3, 7.27); SPDX 3 has no such field.
    Not looked at is what the subjects are made of. Of several, the earliest holds; a
    date is its beginning, UTC.

    Raises:
        StatementFormatError: the field is there and is no time.
    """
    kind = kind_of(statement.predicate_type)
    found: Iterable[tuple[str, str]] = ()
    if kind == "sbom-cyclonedx":
        found = _cyclonedx_ends(statement.predicate)
    elif kind == "sbom-spdx":
        found = _spdx_ends(statement.predicate)
    ends = [parse_moment(text, what=name, day=True) for name, text in found]
    return min(ends, default=None)


def _cyclonedx_ends(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    what = "the CycloneDX document"
    metadata = object_in(document, "metadata", what=what)
    component = object_in(metadata, "component", what=f"{what}.metadata")
    for holder in (metadata, component):
        for one in objects_in(holder, "properties", what=what):
            if text_in(one, "name", what=what) == _END_OF_SUPPORT:
                yield _END_OF_SUPPORT, text_in(one, "value", what=what)


def _spdx_ends(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    what = "the SPDX document"
    described = {*texts_in(document, "documentDescribes", what=what)}
    for one in objects_in(document, "relationships", what=what):
        element, kind, other = (
            text_in(one, name, what=what)
            for name in ("spdxElementId", "relationshipType", "relatedSpdxElement")
        )
        if (element, kind) == (_SPDX_DOCUMENT, "DESCRIBES"):
            described.add(other)
        elif (kind, other) == ("DESCRIBED_BY", _SPDX_DOCUMENT):
            described.add(element)
    for one in objects_in(document, "packages", what=what):
        text = text_in(one, "validUntilDate", what=what)
        if text and text_in(one, "SPDXID", what=what) in described:
            yield "validUntilDate", text
