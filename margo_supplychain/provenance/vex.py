"""What vendors say of vulnerabilities in a release: one model for three formats.

OpenVEX 0.2 (https://github.com/openvex/spec) and CycloneDX's `vulnerabilities` are read
here, CSAF 2.0 in `provenance.csaf`. Each reader gives claims: one product, one
vulnerability, one status, as of one time. For a product and a vulnerability the latest
claim holds; of two of one time, the worse. Vulnerabilities are told apart by their main
id: an alias that nobody follows leaves a claim standing, and never hides one.

A document whose claims are all about other products is refused: it was attested to for
this release, and what it says of it nobody could tell.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

from margo_supplychain.errors import StatementFormatError
from margo_supplychain.formats.times import EARLIEST
from margo_supplychain.provenance.foreign_json import (
    list_in,
    moment_in,
    object_in,
    objects_in,
    text_in,
    texts_in,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.statements import Statement

Status = Literal["not_affected", "fixed", "under_investigation", "affected"]
"""From harmless to bad, in the words of the VEX working group."""

_STATUSES: Final[tuple[Status, ...]] = get_args(Status)
# What go-vex and vexctl write where nobody said anything.
_NO_ACTION: Final = "no action statement provided"
_CYCLONEDX: Final[Mapping[str, Status]] = {
    "resolved": "fixed",
    "resolved_with_pedigree": "fixed",
    "exploitable": "affected",
    "in_triage": "under_investigation",
    "false_positive": "not_affected",
    "not_affected": "not_affected",
}
_RESPONSES: Final = frozenset({"update", "rollback", "workaround_available"})
_HASHES: Final = {"sha-256": "sha256", "sha-384": "sha384", "sha-512": "sha512"}


class Claim(NamedTuple):
    """What one document says of one vulnerability in one product.

    Args:
        id: such as `CVE-2026-1234`.
        product: digest of what it is about.
        status: of the product.
        since: since when the status holds; the beginning of time if nobody said.
        updated: as of when it is said.
        has_mitigation: whether the document says what to do about it.
    """

    id: str
    product: str
    status: Status
    since: datetime
    updated: datetime
    has_mitigation: bool


class Vulnerability(NamedTuple):
    """What holds of one vulnerability, after all documents.

    Args:
        id: such as `CVE-2026-1234`.
        status: the latest.
        since: since when it holds without interruption, as far as documents say.
        has_mitigation: whether the latest document says what to do about it.
        products: digests of what it holds for, sorted.
    """

    id: str
    status: Status
    since: datetime
    has_mitigation: bool
    products: tuple[str, ...]


def resolved(claims: Iterable[Claim]) -> tuple[Vulnerability, ...]:
    """Return what holds of each vulnerability, sorted by id.

    Args:
        claims: of all documents, in any order.
    """
    series: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims:
        series.setdefault((claim.id, claim.product), []).append(claim)
    found: dict[tuple[str, Status, datetime, bool], list[str]] = {}
    for (name, product), each in series.items():
        found.setdefault((name, *_latest(each)), []).append(product)
    return tuple(
        sorted(
            (
                Vulnerability(name, status, since, mitigated, tuple(sorted(products)))
                for (name, status, since, mitigated), products in found.items()
            ),
            key=attrgetter("id", "products"),
        )
    )


def _latest(claims: list[Claim]) -> tuple[Status, datetime, bool]:
    """Return status, since when it holds, and whether there is a mitigation."""
    newest = max(one.updated for one in claims)
    status = max(
        (one.status for one in claims if one.updated == newest), key=_STATUSES.index
    )
    # What a worse claim as of the same time overrules has never held.
    held = [one for one in claims if one.updated < newest or one.status == status]
    others = [one.updated for one in held if one.status != status]
    lasting = [one for one in held if not others or one.updated > max(others)]
    # Of what is said twice as of one time, nothing is to be relied on.
    mitigated = all(one.has_mitigation for one in lasting if one.updated == newest)
    return status, min(one.since for one in lasting), mitigated


def subjects_of(
    statement: Statement, digests: Collection[Digest]
) -> dict[str, frozenset[str]]:
    """Return which of `digests` a statement is about, and by what names."""
    found: dict[str, set[str]] = {}
    for one in statement.subjects:
        for digest in digests:
            if one.digests.get(digest.algorithm) == digest.hex:
                found.setdefault(str(digest), set()).add(one.name)
    return {product: frozenset(names - {"", "_"}) for product, names in found.items()}


def openvex(statement: Statement, digests: Collection[Digest]) -> list[Claim]:
    """Return the claims of an OpenVEX document about products of `digests`.

    Statements without products are about the subjects (OpenVEX, ATTESTING.md); those
    that name products are about those subjects that are among them, by name or digest.

    Raises:
        StatementFormatError: not OpenVEX, or no statement is about any of `digests`.
    """
    what = "the OpenVEX document"
    document = statement.predicate
    context = text_in(document, "@context", what=what)
    if not context.startswith("https://openvex.dev/ns"):
        raise StatementFormatError(f"{what} has the @context {context!r:.80}")
    subjects = subjects_of(statement, digests)
    claims: list[Claim] = []
    statements = objects_in(document, "statements", what=what)
    for number, one in enumerate(statements):
        place = f"{what}.statements[{number}]"
        times = (_openvex_times(one, place), _openvex_times(document, what))
        known = [each for each in times if each is not None]
        if not known:
            raise StatementFormatError(
                f"{place} has no timestamp, nor has its document"
            )
        since, updated = known[0]
        status = _openvex_status(one, place)
        action = text_in(one, "action_statement", what=place).lower().rstrip(".")
        claims += (
            Claim(
                id=_openvex_id(one, place),
                product=product,
                status=status,
                since=since,
                updated=updated,
                has_mitigation=action not in ("", _NO_ACTION),
            )
            for product in _openvex_products(one, subjects, place)
        )
    # check 4.50: what is said of other products is no news about this one
    if statements and not claims:
        raise StatementFormatError(
            f"{what} says nothing about this release: no product of it has the "
            "release's digest or is called like the attestation's subject"
        )
    return claims


def _openvex_times(
    value: Mapping[str, Any], what: str
) -> tuple[datetime, datetime] | None:
    since = moment_in(value, "timestamp", what=what)
    updated = moment_in(value, "last_updated", what=what)
    if since is None:
        return None if updated is None else (updated, updated)
    return since, since if updated is None else max(since, updated)


def _openvex_id(value: Mapping[str, Any], what: str) -> str:
    found = value.get("vulnerability")
    if isinstance(found, dict):
        where = f"{what}.vulnerability"
        found = text_in(found, "name", what=where) or text_in(found, "@id", what=where)
    # OpenVEX before 0.2 has the id here.
    if not isinstance(found, str) or not found:
        raise StatementFormatError(f"{what} names no vulnerability")
    return found


def _openvex_status(value: Mapping[str, Any], what: str) -> Status:
    found = text_in(value, "status", what=what)
    reason = text_in(value, "justification", what=what)
    impact = text_in(value, "impact_statement", what=what)
    return checked_status(found, has_reason=bool(reason or impact), what=what)


def checked_status(found: str, *, has_reason: bool, what: str) -> Status:
    """Return a status, if it is one and a reason is there where one must be.

    Raises:
        StatementFormatError: it is none, or `not_affected` without a reason.
    """
    for status in _STATUSES:
        if found == status:
            # check 4.51: whoever says that nothing is wrong says why
            if status == "not_affected" and not has_reason:
                raise StatementFormatError(
                    f"{what} says not_affected without a justification"
                )
            return status
    raise StatementFormatError(
        f"{what} has the status {found!r:.40}, expected one of {', '.join(_STATUSES)}"
    )


def _openvex_products(
    value: Mapping[str, Any], subjects: Mapping[str, frozenset[str]], what: str
) -> list[str]:
    products = list_in(value, "products", what=what)
    if not products:
        return [*subjects]
    named: set[str] = set()
    for one in products:
        # OpenVEX before 0.2 has identifiers alone.
        named |= {one} if isinstance(one, str) else _openvex_names(one, what)
    return [
        product
        for product, names in subjects.items()
        if any(same_product(one, product, names) for one in named)
    ]


def _openvex_names(value: object, what: str) -> set[str]:
    if not isinstance(value, dict):
        raise StatementFormatError(f"{what}.products holds what is no product")
    place = f"{what}.products"
    identifiers = object_in(value, "identifiers", what=place)
    hashes = object_in(value, "hashes", what=place)
    return {
        text_in(value, "@id", what=place),
        *(text_in(identifiers, kind, what=place) for kind in identifiers),
        *(
            f"{_HASHES[kind]}:{text_in(hashes, kind, what=place).lower()}"
            for kind in _HASHES
            if kind in hashes
        ),
    }


def same_product(name: str, product: str, names: Collection[str]) -> bool:
    """Say whether an identifier is of a product.

    Args:
        name: unverified: a name, a digest, or a package URL with a digest as version.
        product: digest of the product.
        names: what the statement calls it.
    """
    # Package URLs of the type `oci` have the digest as version, percent-encoded.
    version = name.partition("?")[0].rpartition("@")[2].replace("%3A", ":")
    return name in names or product in (name, version.replace("%3a", ":"))


def cyclonedx(statement: Statement, digests: Collection[Digest]) -> list[Claim]:
    """Return what a CycloneDX BOM says of vulnerabilities; all of it is the subject's.

    What has no analysis, as scanners list it, is under investigation until somebody
    says anything else, be it long ago: a fresh scan must not hide what is known.

    Raises:
        StatementFormatError: fields are of another type than CycloneDX says.
    """
    what = "the CycloneDX document"
    document = statement.predicate
    metadata = object_in(document, "metadata", what=what)
    written = moment_in(metadata, "timestamp", what=f"{what}.metadata")
    products = [*subjects_of(statement, digests)]
    claims: list[Claim] = []
    for number, one in enumerate(objects_in(document, "vulnerabilities", what=what)):
        place = f"{what}.vulnerabilities[{number}]"
        name = text_in(one, "id", what=place)
        if not name:
            raise StatementFormatError(f"{place} has no id")
        analysis = object_in(one, "analysis", what=place)
        times = [
            moment_in(analysis, "firstIssued", what=place),
            moment_in(one, "published", what=place),
            written,
        ]
        known = [each for each in times if each is not None]
        updated = moment_in(analysis, "lastUpdated", what=place) or written or EARLIEST
        # check 4.54 (instead: as_of = updated): what nobody looked at overrules nothing
        as_of = updated if analysis.get("state") else EARLIEST
        status = _cyclonedx_status(analysis, place)
        mitigated = _cyclonedx_mitigation(one, analysis, place)
        claims += (
            Claim(
                id=name,
                product=product,
                status=status,
                since=min(known, default=EARLIEST),
                updated=as_of,
                has_mitigation=mitigated,
            )
            for product in products
        )
    return claims


def _cyclonedx_status(analysis: Mapping[str, Any], what: str) -> Status:
    state = text_in(analysis, "state", what=what)
    reason = text_in(analysis, "justification", what=what)
    detail = text_in(analysis, "detail", what=what)
    status = _CYCLONEDX.get(state or "in_triage", state)
    return checked_status(status, has_reason=bool(reason or detail), what=what)


def _cyclonedx_mitigation(
    value: Mapping[str, Any], analysis: Mapping[str, Any], what: str
) -> bool:
    responses = texts_in(analysis, "response", what=what)
    return bool(
        _RESPONSES.intersection(responses)
        or text_in(value, "workaround", what=what)
        or text_in(value, "recommendation", what=what)
    )
