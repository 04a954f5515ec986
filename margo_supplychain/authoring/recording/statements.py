"""Binding a document to a release: a Statement about the digest of its manifest.

A document of a known kind becomes the predicate of a Statement v1. A document that is a
Statement already keeps its bytes, whoever wrote it, if it is about this very artifact.
Nothing is believed here: whoever signs says that the document belongs to the release.

Example:
    >>> bound = bind(sbom, about=subject_of(release), name="cyclonedx",
    ...     what="bom.json")  # doctest: +SKIP
    >>> bound.predicate_type  # doctest: +SKIP
    'https://cyclonedx.org/bom/v1.6'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from margo_supplychain.authoring.recording.documents import KINDS, type_of
from margo_supplychain.errors import FormatError, StatementFormatError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.predicates import kind_of
from margo_supplychain.formats.release_products import (
    MANIFEST_PRODUCT,
    component_product,
)
from margo_supplychain.formats.statements import (
    SPREAD,
    STATEMENTS,
    Subject,
    parse_statement,
    statement_bytes,
    statement_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from margo_supplychain.authoring.release import Release
    from margo_supplychain.formats.digests import Digest

MAX_DOCUMENT: Final = 47 << 20  # bytes: in base64 it fits into an envelope
SUFFIX: Final = ".dsse.json"
# By any of them devices may find an artifact; of one, we know one.
_COMPARED: Final = frozenset({"sha256", "sha384", "sha512"})


class About(NamedTuple):
    """What a document shall be about.

    Args:
        digest: of a manifest.
        name: what the Statement calls it.
        label: what errors and people call it.
        component: of a component, its name for a file.
    """

    digest: Digest
    name: str
    label: str
    component: str | None = None


class Bound(NamedTuple):
    """A Statement that is ready to be signed.

    Args:
        payload: its bytes.
        name: one of `KINDS`.
        predicate_type: what it says.
        was_statement: whether the document was one before.
    """

    payload: bytes
    name: str
    predicate_type: str
    was_statement: bool


def about_release(release: Release, component: str | None = None) -> About:
    """Return the artifact of a release, or one of its components.

    Args:
        release: what a build left.
        component: a name, or PROFILE/NAME where profiles differ.

    Raises:
        FormatError: the release has no such component, or several.
    """
    label = f"{release.name} {release.version}"
    if component is None:
        return About(release.artifact.digest, MANIFEST_PRODUCT, label)
    found = {
        one.content.digest: one
        for one in release.components
        if component in {one.name, f"{one.profile}/{one.name}"}
    }
    if len(found) != 1:
        names = sorted({f"{one.profile}/{one.name}" for one in release.components})
        raise FormatError(
            f"{label} has {len(found) or 'no'} components {component!r:.80}, expected "
            "one",
            hint="name one of its components: " + (", ".join(names[:10]) or "none"),
        )
    (one,) = found.values()
    name = component_product(one.profile, one.name)
    return About(one.content.digest, name, f"{one.name} of {label}", one.name)


def about_digest(digest: Digest) -> About:
    """Return an artifact that is known by its digest alone."""
    return About(digest, MANIFEST_PRODUCT, str(digest))


def bind(data: bytes, *, about: About, name: str | None, what: str) -> Bound:
    """Return a document as a Statement about an artifact.

    Args:
        data: unverified JSON.
        about: the artifact.
        name: one of `KINDS`; a Statement says itself what it is.
        what: names the document in errors.

    Raises:
        StatementFormatError: not strict JSON, not of that kind, or a Statement about
            something else.
    """
    document = strict_json.parse(
        data,
        what=what,
        limit=MAX_DOCUMENT,
        error=StatementFormatError,
        spread=SPREAD,
        fractions=True,
    )
    if document.get("_type") in STATEMENTS:
        return _statement(data, document, about, name, what)
    if "payloadType" in document and "signatures" in document:
        raise StatementFormatError(
            f"{what} is signed already: an envelope",
            hint="give it to `release publish --attestation` as it is",
        )
    if name is None:
        raise StatementFormatError(
            f"{what} is no in-toto Statement, so it does not say what it is",
            hint="--type says it: " + ", ".join(KINDS),
        )
    predicate_type = type_of(document, name, what=what)
    subject = Subject(about.name, {about.digest.algorithm: about.digest.hex})
    payload = statement_bytes([subject], predicate_type, document)
    return Bound(payload, name, predicate_type, was_statement=False)


def _statement(
    data: bytes,
    document: Mapping[str, Any],
    about: About,
    name: str | None,
    what: str,
) -> Bound:
    found = statement_of(document, what=what)
    kind = kind_of(found.predicate_type)
    known = {one: other for other, one in KINDS.items()}
    if kind is None or kind not in known:
        raise StatementFormatError(
            f"{what} is a Statement of type {found.predicate_type}, which no rule is "
            "about",
            hint="`attest run` and `attest record` write links"
            if kind == "link"
            else "expected one of " + ", ".join(KINDS),
        )
    if name is not None and KINDS[name] != kind:
        raise StatementFormatError(
            f"{what} is a Statement of type {found.predicate_type}, and --type says "
            f"{name}",
            hint=f"--type {known[kind]}, or none: a Statement says what it is",
        )
    if not found.is_about(about.digest):
        first = found.subjects[0]
        shown = ", ".join(f"{key}:{value}" for key, value in first.digests.items())
        raise StatementFormatError(
            f"{what} is about {first.name or 'an artifact'!r:.80} ({shown[:160]}), not "
            f"about {about.label} ({about.digest})",
            hint="it was made for another artifact: make it anew for this one",
        )
    this = (about.digest.algorithm, about.digest.hex)
    of_others = [
        one
        for one in found.subjects
        if any(said != this and said[0] in _COMPARED for said in one.digests.items())
        or this not in one.digests.items()
    ]
    if of_others:
        # Whoever signs it would vouch for all of them, having been shown one.
        raise StatementFormatError(
            f"{what} is about more than {about.label} ({about.digest}), such as "
            f"{of_others[0].name or 'an artifact'!r:.80}",
            hint="sign one Statement for each artifact: subjects may have several "
            "names, but this digest alone",
        )
    return Bound(data, known[kind], found.predicate_type, was_statement=True)


def unread(bound: Bound, release: Release, *, what: str) -> list[str]:
    """Return what devices miss in a document whose policy asks for one of its kind.

    Args:
        bound: the Statement about it.
        release: what it shall be about.
        what: names the document.
    """
    from margo_supplychain.provenance import documents
    from margo_supplychain.provenance.sources import sources_of

    parts = [
        release.artifact.digest,
        *(one.content.digest for one in release.components),
    ]
    parts += [one.digest for one in release.images if one.digest is not None]
    repositories = [one.repository for one in release.components]
    repositories += [one.reference for one in release.images]
    try:
        statement = parse_statement(bound.payload, what=what, limit=MAX_DOCUMENT)
        # Their own readers: each passes over what is not of its kind.
        documents.builder_of(statement)
        sources_of(statement)
        documents.sbom_of(statement)
        documents.support_end(statement)
        documents.vulnerabilities([statement], parts, repositories=repositories)
    except FormatError as why:
        return [
            f"{what}: devices whose policy asks for such a document refuse it: {why}"
        ]
    return []


def file_name(bound: Bound, about: About, keyid: str) -> str:
    """Return the name of the file for a signed Statement."""
    of = "" if about.component is None else f".{quote(about.component, safe='')[:100]}"
    return f"{bound.name}{of}.{keyid[:8]}{SUFFIX}"
