"""Whether the links of one step say the same, and what they say together.

Links that record the same artifacts with different sets of digest algorithms agree when
each two of them have an algorithm in common for every artifact, and never differ in
one. Which link comes first changes nothing.

Example:
    >>> from margo_supplychain.formats.digests import Digest
    >>> from margo_supplychain.provenance.links import Link
    >>> one, other = (
    ...     Link(name="build", materials={}, products={"pump": digest}, command=())
    ...     for digest in ("00", "11"))
    >>> agreement([(Digest.of(b"1"), one), (Digest.of(b"2"), other)]).difference.text
    'product "pump"'
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.formats.plain_text import quoted
from margo_supplychain.provenance.artifacts import by_algorithm, same, shown_hashes
from margo_supplychain.provenance.engine import Made

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.provenance.artifacts import Hashes
    from margo_supplychain.provenance.links import Link
    from margo_supplychain.provenance.rules import Side

MOST_WAYS: Final = 8  # of writing the same artifacts; each two are compared
_SIDES: Final[tuple[Side, ...]] = ("materials", "products")


class Difference(NamedTuple):
    """What two links of a step say differently.

    Args:
        text: for people.
        found: the two of them, and what each says.
        artifact: which it is about, if it is about one.
    """

    text: str
    found: str
    artifact: str | None = None


class Agreement(NamedTuple):
    """What the links of a step say together.

    Args:
        made: None without links; of links that differ, what the first says.
        difference: what they say differently.
    """

    made: Made | None
    difference: Difference | None


def agreement(links: Sequence[tuple[Digest, Link]]) -> Agreement:
    """Compare the links of one step.

    Args:
        links: those that count, each with its digest, in an order of their own.
    """
    ways: list[tuple[Digest, Made]] = []
    for digest, link in links:
        made = Made(link.materials, link.products)
        if any(made == other for _, other in ways):
            continue
        ways.append((digest, made))
        # Comparing every link with all others would take hours.
        if len(ways) > MOST_WAYS:
            text = f"what they record, in more than {MOST_WAYS} ways"
            return Agreement(ways[0][1], Difference(text, f"{MOST_WAYS + 1} ways"))
    if not ways:
        return Agreement(None, None)
    for one, other in combinations(ways, 2):
        found = _difference(one, other)
        if found is not None:
            return Agreement(ways[0][1], found)
    if len(ways) == 1:
        return Agreement(ways[0][1], None)
    sides = [_together([made.side(side) for _, made in ways]) for side in _SIDES]
    return Agreement(Made(*sides), None)


def _difference(
    one: tuple[Digest, Made], other: tuple[Digest, Made]
) -> Difference | None:
    for side in _SIDES:
        ours, theirs = one[1].side(side), other[1].side(side)
        odd = ours.keys() ^ theirs.keys()
        odd |= {
            name
            for name in ours.keys() & theirs.keys()
            if ours[name] != theirs[name] and not same(ours[name], theirs[name])
        }
        if odd:
            name = min(odd)
            return Difference(
                f"{side[:-1]} {quoted(name)}",
                f"{_says(one[0], ours.get(name))}, {_says(other[0], theirs.get(name))}",
                name,
            )
    return None


def _says(digest: Digest, hashes: Hashes | None) -> str:
    what = "has none" if hashes is None else f"has {shown_hashes(hashes)}"
    return f"link {digest.short} {what}"


def _together(ways: Sequence[Mapping[str, Hashes]]) -> dict[str, Hashes]:
    found: dict[str, Hashes] = {}
    for name in ways[0]:
        digests: dict[str, str] = {}
        for one in ways:
            digests |= by_algorithm(one[name])
        found[name] = (
            digests["sha256"]
            if digests.keys() == {"sha256"}
            else tuple(sorted(f"{key}:{value}" for key, value in digests.items()))
        )
    return found
