"""What vendors say of vulnerabilities in a release: one model for three formats.

OpenVEX 0.2 (https://github.com/openvex/spec) and CycloneDX's `vulnerabilities` are read
here, CSAF 2.0 in `provenance.csaf`. Each reader gives claims: one product, one
vulnerability, one status, as of one time. For a product and a vulnerability the latest
claim holds; of two of one time, the worse. What is said of one component in a product
overrules nothing that is said of another, or of all of it: of these the worst holds.
Vulnerabilities are told apart by their main
id: an alias that nobody follows leaves a claim standing, and never hides one.

A document whose claims are all about other products is refused: it was attested to for
this release, and what it says of it nobody could tell. So is one by which something is
affected that could be this release (`provenance.parts`): bad news is not passed over.
What is said as of a time to come overrules nothing that is bad, and is marked.
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
    says,
    text_in,
    texts_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sized
    from datetime import datetime

    from margo_supplychain.formats.statements import Statement
    from margo_supplychain.provenance.parts import Parts

Status = Literal["not_affected", "fixed", "under_investigation", "affected"]
"""From harmless to bad, in the words of the VEX working group."""

_STATUSES: Final[tuple[Status, ...]] = get_args(Status)
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
MAX_CLAIMS: Final = 1 << 18  # of all documents about one release


class Claim(NamedTuple):
    """What one document says of one vulnerability in one product.

    Args:
        id: such as `CVE-2026-1234`.
        product: digest of what it is about.
        status: of the product.
        since: since when the status holds; the beginning of time if nobody said.
        updated: as of when it is said.
        has_mitigation: whether the document says what to do about it.
        within: the component in the product that it is about; empty for all of it.
    """

    id: str
    product: str
    status: Status
    since: datetime
    updated: datetime
    has_mitigation: bool
    within: str = ""


class Vulnerability(NamedTuple):
    """What holds of one vulnerability, after all documents.

    Args:
        id: such as `CVE-2026-1234`.
        status: the latest.
        since: since when it holds without interruption, as far as documents say.
        has_mitigation: whether the latest document says what to do about it.
        products: digests of what it holds for, sorted.
        ahead: the latest time to come that a document gives; None if all have been.
    """

    id: str
    status: Status
    since: datetime
    has_mitigation: bool
    products: tuple[str, ...]
    ahead: datetime | None = None


def require_few(claims: Sized) -> None:
    """Refuse more claims than anybody makes about one release.

    Raises:
        StatementFormatError: there are more.
    """
    if len(claims) > MAX_CLAIMS:
        raise StatementFormatError(
            "the documents say more of vulnerabilities in this release than "
            f"{MAX_CLAIMS} things"
        )


def resolved(
    claims: Iterable[Claim], *, latest: datetime | None = None
) -> tuple[Vulnerability, ...]:
    """Return what holds of each vulnerability, sorted by id.

    Args:
        claims: of all documents, in any order.
        latest: what is said as of a later time is no news yet; None for any time.
    """
    series: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims:
        series.setdefault((claim.id, claim.product), []).append(claim)
    found: dict[tuple[str, Status, datetime, bool, datetime | None], list[str]] = {}
    for (name, product), each in series.items():
        ahead = _ahead(each, latest)
        for outcome in _worst(each, latest):
            found.setdefault((name, *outcome, ahead), []).append(product)
    return tuple(
        sorted(
            (
                Vulnerability(
                    name, status, since, mitigated, tuple(sorted(products)), ahead
                )
                for (name, status, since, mitigated, ahead), products in found.items()
            ),
            key=attrgetter("id", "products"),
        )
    )


def _worst(
    claims: list[Claim], latest: datetime | None
) -> set[tuple[Status, datetime, bool]]:
    """Return what holds of a product, by each component that has the worst status."""
    outcomes = set()
    for each in _by_component(claims):
        # check 4.38 (instead: said = each): what is good as of tomorrow is not news
        said = [one for one in each if not _is_early(one, latest)] or each
        outcomes.add(_latest(said))
    worst = max((one[0] for one in outcomes), key=_STATUSES.index)
    return {one for one in outcomes if one[0] == worst}


def _by_component(claims: list[Claim]) -> list[list[Claim]]:
    """Return the claims about all of a product, and those about each component.

    What is said of all of it is said of each component as well, and not otherwise.

    Raises:
        StatementFormatError: there are so many that nobody could compare them.
    """
    whole = [one for one in claims if not one.within]
    parts: dict[str, list[Claim]] = {}
    for one in claims:
        # check 4.123 (instead: whole = claims): what is mended in one component may be
        # open in another
        if one.within:
            parts.setdefault(one.within, []).append(one)
    if len(whole) * len(parts) > MAX_CLAIMS:
        raise StatementFormatError(
            "the documents say more of the components of one product than "
            f"{MAX_CLAIMS} things"
        )
    return [*([whole] if whole else []), *([*whole, *one] for one in parts.values())]


def _ahead(claims: Iterable[Claim], latest: datetime | None) -> datetime | None:
    times = [
        time
        for one in claims
        for time in (one.updated, *((one.since,) if one.status == "affected" else ()))
        if latest is not None and time > latest
    ]
    return max(times, default=None)


def _is_early(claim: Claim, latest: datetime | None) -> bool:
    is_bad = claim.status == "affected"
    return latest is not None and claim.updated > latest and not is_bad


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


def openvex(statement: Statement, parts: Parts) -> Iterator[Claim]:
    """Yield the claims of an OpenVEX document about parts of a release.

    Statements without products are about the subjects (OpenVEX, ATTESTING.md); those
    that name products are about those.

    Raises:
        StatementFormatError: not OpenVEX; no statement is about any part, or one says
            that something is affected of which nobody can tell what it is.
    """
    what = "the OpenVEX document"
    document = statement.predicate
    context = text_in(document, "@context", what=what)
    if not context.startswith("https://openvex.dev/ns"):
        raise StatementFormatError(f"{what} has the @context {context!r:.80}")
    statements = objects_in(document, "statements", what=what)
    if document.get("statements") is None:
        raise StatementFormatError(f"{what} has no list of statements")
    default = _openvex_times(document, what)
    is_about_it = False
    for number, one in enumerate(statements):
        place = f"{what}.statements[{number}]"
        times = _openvex_times(one, place) or default
        if times is None:
            raise StatementFormatError(
                f"{place} has no timestamp, nor has its document"
            )
        since, updated = times
        status = _openvex_status(one, place)
        name = _openvex_id(one, place)
        mitigated = says(text_in(one, "action_statement", what=place))
        for found, within in _openvex_products(
            one, parts, place, is_bad=status == "affected"
        ):
            is_about_it = is_about_it or bool(found)
            for product in parts.named(found):
                yield Claim(name, product, status, since, updated, mitigated, within)
    # check 4.50: what is said of other products is no news about this one
    if statements and not is_about_it:
        raise StatementFormatError(
            f"{what} says nothing about this release: no product of it has the "
            "release's digest or is called like the attestation's subject"
        )


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
    return checked_status(found, has_reason=says(reason) or says(impact), what=what)


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
    value: Mapping[str, Any], parts: Parts, what: str, *, is_bad: bool
) -> Iterator[tuple[int, str]]:
    """Yield which parts of the release a statement is about, and what in them."""
    products = list_in(value, "products", what=what)
    if not products:
        yield parts.subjects, ""
    place = f"{what}.products"
    for one in products:
        # OpenVEX before 0.2 has identifiers alone.
        names, hashes = (
            ([one.strip()], []) if isinstance(one, str) else _ids(one, place)
        )
        placed = parts.place(names, hashes=hashes, what=place)
        if is_bad:
            name = max((*names, *hashes), key=len)
            parts.require_placed(placed, name=name, what=place)
        for within in _subcomponents(one, place):
            yield placed.parts, within


def _subcomponents(product: object, place: str) -> list[str]:
    """Return what in a product a statement is about; an empty name for all of it.

    Raises:
        StatementFormatError: one without a name, which could be any.
    """
    if not isinstance(product, dict):
        return [""]
    where = f"{place}.subcomponents"
    found = []
    for one in list_in(product, "subcomponents", what=place):
        names, hashes = ([one], []) if isinstance(one, str) else _ids(one, where)
        # The first is the @id; the others are for those that have none.
        name = next((each for each in (*names, *hashes) if says(each)), "")
        # check 4.124: what has no name is not the whole product
        if not name:
            raise StatementFormatError(f"{where} holds one without a name")
        found.append(name)
    return found or [""]


def _ids(value: object, place: str) -> tuple[list[str], list[str]]:
    """Return a product's identifiers and hashes."""
    if not isinstance(value, dict):
        raise StatementFormatError(f"{place} holds what is no product")
    identifiers = object_in(value, "identifiers", what=place)
    hashes = object_in(value, "hashes", what=place)
    names = [text_in(identifiers, kind, what=place) for kind in identifiers]
    return [text_in(value, "@id", what=place), *names], [
        f"{_HASHES[kind]}:{text_in(hashes, kind, what=place)}"
        for kind in _HASHES
        if kind in hashes
    ]


def cyclonedx(statement: Statement, parts: Parts) -> Iterator[Claim]:
    """Yield what a CycloneDX BOM says of vulnerabilities; all of it is the subject's.

    What has no analysis, as scanners list it, is under investigation until somebody
    says anything else, be it long ago: a fresh scan must not hide what is known. One
    vulnerability may stand there for several components: then the worst holds. In other
    documents they are told by their package URLs, or by their references.

    Raises:
        StatementFormatError: fields are of another type than CycloneDX says.
    """
    what = "the CycloneDX document"
    document = statement.predicate
    metadata = object_in(document, "metadata", what=what)
    written = moment_in(metadata, "timestamp", what=f"{what}.metadata")
    called = _cyclonedx_names(document, what)
    claims: list[tuple[Claim, bool]] = []
    newest: dict[str, datetime] = {}
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
        is_looked_at = bool(analysis.get("state"))
        # check 4.54 (instead: as_of = updated): what nobody looked at overrules nothing
        as_of = updated if is_looked_at else EARLIEST
        status = _cyclonedx_status(analysis, place)
        mitigated = _cyclonedx_mitigation(one, analysis, place)
        since = min(known, default=EARLIEST)
        affects = objects_in(one, "affects", what=place)
        for ref in [text_in(each, "ref", what=place) for each in affects] or [""]:
            within = called.get(ref, ref)
            claim = Claim(name, "", status, since, as_of, mitigated, within)
            claims.append((claim, is_looked_at))
            require_few(claims)
        newest[name] = max(newest.get(name, EARLIEST), as_of)
    for claim, is_looked_at in claims:
        # check 4.37 (instead: updated = claim.updated): what is mended in one component
        # may be open in another
        updated = newest[claim.id] if is_looked_at else EARLIEST
        for product in parts.named(parts.subjects):
            yield claim._replace(product=product, updated=updated)


def _cyclonedx_names(document: Mapping[str, Any], what: str) -> dict[str, str]:
    """Return what references mean: package URLs, and nothing for the subject itself."""
    found: dict[str, str] = {}
    waiting = [*objects_in(document, "components", what=what)]
    while waiting:
        one = waiting.pop()
        waiting += objects_in(one, "components", what=what)
        ref, purl = (text_in(one, name, what=what) for name in ("bom-ref", "purl"))
        if ref and purl:
            found[ref] = purl
    metadata = object_in(document, "metadata", what=what)
    subject = object_in(metadata, "component", what=what)
    found[text_in(subject, "bom-ref", what=what)] = ""
    return found


def _cyclonedx_status(analysis: Mapping[str, Any], what: str) -> Status:
    state = text_in(analysis, "state", what=what)
    reason = text_in(analysis, "justification", what=what)
    detail = text_in(analysis, "detail", what=what)
    status = _CYCLONEDX.get(state or "in_triage", state)
    return checked_status(status, has_reason=says(reason) or says(detail), what=what)


def _cyclonedx_mitigation(
    value: Mapping[str, Any], analysis: Mapping[str, Any], what: str
) -> bool:
    responses = texts_in(analysis, "response", what=what)
    return bool(
        _RESPONSES.intersection(responses)
        or says(text_in(value, "workaround", what=what))
        or says(text_in(value, "recommendation", what=what))
    )
