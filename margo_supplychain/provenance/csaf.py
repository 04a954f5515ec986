"""CSAF 2.0 documents: what a vendor's advisory says of a release.

https://docs.oasis-open.org/csaf/csaf/v2.0/csaf-v2.0.html, profile 5 (VEX). Products are
named by ids of the document's own. Which of them is the release says its product tree:
by a file's hash, by a package URL with the digest, or by what the attestation calls its
subject; a document with a single product is about the subject.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.errors import StatementFormatError
from margo_supplychain.provenance.foreign_json import (
    moment_in,
    object_in,
    objects_in,
    text_in,
    texts_in,
)
from margo_supplychain.provenance.vex import (
    Claim,
    Status,
    checked_status,
    same_product,
    subjects_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.statements import Statement

_WHAT: Final = "the CSAF document"
# CSAF 2.0, 3.2.3.9, and the groups of 6.1.6; `recommended` says nothing of a status.
_STATUSES: Final[Mapping[str, Status]] = {
    "known_not_affected": "not_affected",
    "fixed": "fixed",
    "first_fixed": "fixed",
    "under_investigation": "under_investigation",
    "known_affected": "affected",
    "first_affected": "affected",
    "last_affected": "affected",
}
# 3.2.3.12.1: `none_available` and `no_fix_planned` help nobody.
_REMEDIES: Final = frozenset({"workaround", "mitigation", "vendor_fix"})
_ALGORITHMS: Final = frozenset({"sha256", "sha384", "sha512"})


class _Products:
    """Whose the product ids of one document are."""

    def __init__(self, tree: Mapping[str, Any], subjects: Mapping[str, Any]) -> None:
        place = f"{_WHAT}.product_tree"
        names = [
            *objects_in(tree, "full_product_names", what=place),
            *_branches(tree, place),
        ]
        relations = objects_in(tree, "relationships", what=place)
        self._groups = {
            text_in(one, "group_id", what=place): {
                *texts_in(one, "product_ids", what=place)
            }
            for one in objects_in(tree, "product_groups", what=place)
        }
        self._ids = {
            product: _ids(product, called, names, relations)
            for product, called in subjects.items()
        }
        if not any(self._ids.values()) and len(names) == 1 and len(subjects) == 1:
            single = text_in(names[0], "product_id", what=place)
            self._ids = {
                product: _related({single}, relations, place) for product in subjects
            }

    def of(self, ids: Collection[str]) -> list[str]:
        """Return the digests that any of some product ids is of."""
        return [each for each, own in self._ids.items() if own.intersection(ids)]

    def covers(self, value: Mapping[str, Any], product: str, what: str) -> bool:
        """Say whether a flag, threat or remediation is about a product.

        What names neither products nor groups is about all (CSAF 2.0, 3.2.3).
        """
        ids = {*texts_in(value, "product_ids", what=what)}
        groups = texts_in(value, "group_ids", what=what)
        ids = ids.union(*(self._groups.get(one, ()) for one in groups))
        return not (ids or groups) or bool(self._ids[product] & ids)


def csaf(statement: Statement, digests: Collection[Digest]) -> list[Claim]:
    """Return the claims of a CSAF document about products of `digests`.

    Raises:
        StatementFormatError: not CSAF 2.0, or it says nothing about any of `digests`.
    """
    document = object_in(statement.predicate, "document", what=_WHAT)
    version = text_in(document, "csaf_version", what=f"{_WHAT}.document")
    if version != "2.0":
        raise StatementFormatError(
            f"{_WHAT} is of version {version!r:.40}, expected 2.0"
        )
    place = f"{_WHAT}.document.tracking"
    tracking = object_in(document, "tracking", what=f"{_WHAT}.document")
    updated = moment_in(tracking, "current_release_date", what=place)
    first = moment_in(tracking, "initial_release_date", what=place)
    if updated is None or first is None:
        raise StatementFormatError(f"{place} has no release dates")
    products = _Products(
        object_in(statement.predicate, "product_tree", what=_WHAT),
        subjects_of(statement, digests),
    )
    claims: list[Claim] = []
    found = objects_in(statement.predicate, "vulnerabilities", what=_WHAT)
    for number, one in enumerate(found):
        where = f"{_WHAT}.vulnerabilities[{number}]"
        released = moment_in(one, "release_date", what=where)
        claims += (
            Claim(
                id=_id(one, where),
                product=product,
                status=checked_status(
                    status,
                    has_reason=_has_reason(one, products, product, where),
                    what=where,
                ),
                since=first if released is None else min(first, released),
                updated=updated,
                has_mitigation=_has_remedy(one, products, product, where),
            )
            for product, status in _statuses(one, products, where)
        )
    # check 4.52: an advisory about other products is no news about this one
    if found and not claims:
        raise StatementFormatError(
            f"{_WHAT} says nothing about this release: no product of its tree has the "
            "release's digest or is called like the attestation's subject"
        )
    return claims


def _branches(value: Mapping[str, Any], what: str) -> Iterator[Mapping[str, Any]]:
    # The parser bounds the nesting.
    for one in objects_in(value, "branches", what=what):
        if "product" in one:
            yield object_in(one, "product", what=what)
        yield from _branches(one, what)


def _ids(
    product: str,
    called: Collection[str],
    names: Collection[Mapping[str, Any]],
    relations: Collection[Mapping[str, Any]],
) -> set[str]:
    place = f"{_WHAT}.product_tree"
    found = {
        text_in(one, "product_id", what=place)
        for one in names
        if any(same_product(each, product, called) for each in _names(one, place))
    }
    return _related(found, relations, place)


def _names(value: Mapping[str, Any], what: str) -> Iterator[str]:
    yield text_in(value, "product_id", what=what)
    yield text_in(value, "name", what=what)
    helper = object_in(value, "product_identification_helper", what=what)
    yield text_in(helper, "purl", what=what)
    for one in objects_in(helper, "hashes", what=what):
        for each in objects_in(one, "file_hashes", what=what):
            algorithm = text_in(each, "algorithm", what=what).lower()
            if algorithm in _ALGORITHMS:
                yield f"{algorithm}:{text_in(each, 'value', what=what).lower()}"


def _related(
    ids: set[str], relations: Collection[Mapping[str, Any]], what: str
) -> set[str]:
    """Return `ids` with those of what is part of them, or has them as a part."""
    found = {*ids}
    pairs = [
        (
            {
                text_in(one, "product_reference", what=what),
                text_in(one, "relates_to_product_reference", what=what),
            },
            text_in(
                object_in(one, "full_product_name", what=what), "product_id", what=what
            ),
        )
        for one in relations
    ]
    # A product that is made of products may be made of such.
    while more := {made for parts, made in pairs if parts & found} - found:
        found |= more
    return found - {""}


def _id(value: Mapping[str, Any], what: str) -> str:
    others = [
        text_in(one, "text", what=what) for one in objects_in(value, "ids", what=what)
    ]
    found = next(filter(None, [text_in(value, "cve", what=what), *others]), "")
    if not found:
        raise StatementFormatError(f"{what} has neither cve nor ids")
    return found


def _statuses(
    value: Mapping[str, Any], products: _Products, what: str
) -> Iterator[tuple[str, Status]]:
    listed = object_in(value, "product_status", what=what)
    for name, status in _STATUSES.items():
        for product in products.of(texts_in(listed, name, what=what)):
            yield product, status


def _has_reason(
    value: Mapping[str, Any], products: _Products, product: str, what: str
) -> bool:
    """Say whether a flag or an impact is there, as the VEX profile demands (4.5)."""
    flags = objects_in(value, "flags", what=what)
    impacts = [
        one
        for one in objects_in(value, "threats", what=what)
        if text_in(one, "category", what=what) == "impact"
    ]
    return any(products.covers(one, product, what) for one in (*flags, *impacts))


def _has_remedy(
    value: Mapping[str, Any], products: _Products, product: str, what: str
) -> bool:
    return any(
        text_in(one, "category", what=what) in _REMEDIES
        and products.covers(one, product, what)
        for one in objects_in(value, "remediations", what=what)
    )
