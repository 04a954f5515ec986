"""CSAF 2.0 documents: what a vendor's advisory says of a release.

https://docs.oasis-open.org/csaf/csaf/v2.0/csaf-v2.0.html, profile 5 (VEX). Products are
named by ids of the document's own. Which of them is the release says its product tree:
by a file's hash, by a package URL with the digest, or by what the attestation calls its
subject; a document with a single product is about the subject. A status that CSAF does
not have, and a product that the tree does not have, are errors, and so is bad news of a
product of which nothing says whether it is the release.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.errors import StatementFormatError
from margo_supplychain.formats.plain_text import quoted
from margo_supplychain.provenance.foreign_json import (
    moment_in,
    object_in,
    objects_in,
    says,
    text_in,
    texts_in,
)
from margo_supplychain.provenance.parts import Placed
from margo_supplychain.provenance.vex import Claim, Status, checked_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from margo_supplychain.formats.statements import Statement
    from margo_supplychain.provenance.parts import Parts

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
_RECOMMENDED: Final = "recommended"
_ALGORITHMS: Final = frozenset({"sha256", "sha384", "sha512"})
# Products that are made of products: how often any of them is looked at, on average.
_LOOKS: Final = 8


class _Products:
    """What the product ids of one document are."""

    def __init__(self, tree: Mapping[str, Any], parts: Parts) -> None:
        place = f"{_WHAT}.product_tree"
        names = [
            *objects_in(tree, "full_product_names", what=place),
            *_branches(tree, place),
        ]
        relations = objects_in(tree, "relationships", what=place)
        made = [object_in(one, "full_product_name", what=place) for one in relations]
        self.parts = parts
        self._own: dict[str, int] = {}
        self._others: set[str] = set()
        self._unclear: set[str] = set()
        for one in (*names, *made):
            self._place(one, place)
        self._join(relations, place)
        is_single = len(names) == 1 and parts.subjects.bit_count() == 1
        if is_single and not any(self._own.values()):
            single = text_in(names[0], "product_id", what=place)
            # check 4.122 (instead: others = self._others): a digest that nobody knows
            # is no subject's
            others = self._others | self._unclear
            if single not in others:
                self._own[single] = parts.subjects
                self._join(relations, place)
        self._groups: dict[str, int] = {}
        for one in objects_in(tree, "product_groups", what=place):
            ids = texts_in(one, "product_ids", what=place)
            bits = self._bits(ids)
            group = text_in(one, "group_id", what=place)
            self._groups[group] = self._groups.get(group, 0) | bits

    def _place(self, value: Mapping[str, Any], what: str) -> None:
        product = text_in(value, "product_id", what=what)
        if not product:
            return
        names, hashes = _names(value, what)
        where = f"{what} {quoted(product)}"
        placed = self.parts.place(names, hashes=hashes, what=where)
        self._own[product] = self._own.get(product, 0) | placed.parts
        if placed.is_elsewhere:
            self._others.add(product)
        if placed.is_unclear:
            self._unclear.add(product)

    def _join(self, relations: Iterable[Mapping[str, Any]], what: str) -> None:
        """Follow products that are made of products, which may be made of such.

        Raises:
            StatementFormatError: there are so many ways that nobody could follow them.
        """
        made_of: dict[str, list[str]] = {}
        in_other: dict[str, list[str]] = {}
        for one in relations:
            full = object_in(one, "full_product_name", what=what)
            made = text_in(full, "product_id", what=what)
            whole = text_in(one, "relates_to_product_reference", what=what)
            part = text_in(one, "product_reference", what=what)
            if made:
                for each in {whole, part}:
                    made_of.setdefault(each, []).append(made)
                in_other.setdefault(whole, []).append(made)
        waiting = deque(one for one, bits in self._own.items() if bits)
        queued = set(waiting)
        left = _LOOKS * (len(waiting) + 2 * sum(map(len, made_of.values())))
        while waiting:
            product = waiting.popleft()
            queued.remove(product)
            for made in made_of.get(product, ()):
                left -= 1
                before = self._own.get(made, 0)
                after = before | self._own[product]
                if after != before:
                    self._own[made] = after
                    if made not in queued:
                        queued.add(made)
                        waiting.append(made)
            if left < 0:
                raise StatementFormatError(
                    f"{what} has more ways from product to product than are followed"
                )
        others = [*self._others]
        while others:
            for made in in_other.get(others.pop(), ()):
                if made not in self._others:
                    self._others.add(made)
                    others.append(made)

    def placed(self, product: str, what: str) -> Placed:
        """Return what a product id is.

        Raises:
            StatementFormatError: the tree does not have it.
        """
        # check 4.56: an id that the tree does not have could be of any product
        if product not in self._own:
            raise StatementFormatError(
                f"{what} names the product {quoted(product)}, which the product tree "
                "does not have"
            )
        return Placed(self._own[product], product in self._others)

    def covered(self, values: Iterable[Mapping[str, Any]], what: str) -> int:
        """Return the parts that flags, threats or remediations are about.

        What names neither products nor groups is about all (CSAF 2.0, 3.2.3).
        """
        found = 0
        for one in values:
            ids = texts_in(one, "product_ids", what=what)
            groups = texts_in(one, "group_ids", what=what)
            if not ids and not groups:
                return -1
            found |= self._bits(ids)
            for each in groups:
                found |= self._groups.get(each, 0)
        return found

    def _bits(self, ids: Iterable[str]) -> int:
        found = 0
        for one in ids:
            found |= self._own.get(one, 0)
        return found


def csaf(statement: Statement, parts: Parts) -> Iterator[Claim]:
    """Yield the claims of a CSAF document about parts of a release.

    Raises:
        StatementFormatError: not CSAF 2.0; it says nothing about any part, or that
            something is affected of which nobody can tell what it is.
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
    tree = object_in(statement.predicate, "product_tree", what=_WHAT)
    products = _Products(tree, parts)
    found = objects_in(statement.predicate, "vulnerabilities", what=_WHAT)
    if statement.predicate.get("vulnerabilities") is None:
        raise StatementFormatError(f"{_WHAT} has no list of vulnerabilities")
    is_about_it = False
    for number, one in enumerate(found):
        where = f"{_WHAT}.vulnerabilities[{number}]"
        name = _id(one, where)
        released = moment_in(one, "release_date", what=where)
        since = first if released is None else min(first, released)
        reasons, remedies = _reasons(one, where), _remedies(one, where)
        explained = products.covered(reasons, where)
        mitigated = products.covered(remedies, where)
        for status, bits in _statuses(one, products, where):
            is_about_it = is_about_it or bool(bits)
            if bits:
                has_reason = not bits & ~explained
                checked_status(status, has_reason=has_reason, what=where)
            for is_mitigated in (False, True):
                alike = bits & (mitigated if is_mitigated else ~mitigated)
                for product in parts.named(alike):
                    yield Claim(name, product, status, since, updated, is_mitigated)
    # check 4.52: an advisory about other products is no news about this one
    if found and not is_about_it:
        raise StatementFormatError(
            f"{_WHAT} says nothing about this release: no product of its tree has the "
            "release's digest or is called like the attestation's subject"
        )


def _branches(value: Mapping[str, Any], what: str) -> Iterator[Mapping[str, Any]]:
    # The parser bounds the nesting.
    for one in objects_in(value, "branches", what=what):
        if "product" in one:
            yield object_in(one, "product", what=what)
        yield from _branches(one, what)


def _names(value: Mapping[str, Any], what: str) -> tuple[list[str], list[str]]:
    """Return a product's identifiers and hashes."""
    helper = object_in(value, "product_identification_helper", what=what)
    names = [text_in(value, name, what=what) for name in ("product_id", "name")]
    names.append(text_in(helper, "purl", what=what))
    found = []
    for one in objects_in(helper, "hashes", what=what):
        for each in objects_in(one, "file_hashes", what=what):
            algorithm = text_in(each, "algorithm", what=what).lower()
            if algorithm in _ALGORITHMS:
                found.append(f"{algorithm}:{text_in(each, 'value', what=what)}")
    return names, found


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
) -> Iterator[tuple[Status, int]]:
    """Yield each status, and the parts of the release that have it.

    Raises:
        StatementFormatError: one that is none, or about what could be the release.
    """
    listed = object_in(value, "product_status", what=what)
    place = f"{what}.product_status"
    for name in listed:
        status = _STATUSES.get(name)
        # check 4.39: what is misspelt may be the one that matters
        if status is None and name != _RECOMMENDED:
            raise StatementFormatError(f"{place} has {quoted(name)}, which is none")
        bits = 0
        for one in texts_in(listed, name, what=place):
            placed = products.placed(one, place)
            if status == "affected":
                products.parts.require_placed(placed, name=one, what=place)
            bits |= placed.parts
        if status is not None:
            yield status, bits


def _reasons(value: Mapping[str, Any], what: str) -> list[Mapping[str, Any]]:
    """Return flags and impacts; the VEX profile demands one of them (4.5)."""
    impacts = [
        one
        for one in objects_in(value, "threats", what=what)
        if text_in(one, "category", what=what) == "impact"
        and says(text_in(one, "details", what=what))
    ]
    return [*objects_in(value, "flags", what=what), *impacts]


def _remedies(value: Mapping[str, Any], what: str) -> list[Mapping[str, Any]]:
    return [
        one
        for one in objects_in(value, "remediations", what=what)
        if text_in(one, "category", what=what) in _REMEDIES
        and says(text_in(one, "details", what=what))
    ]
