"""Whether two npm ranges share a version: exact, and never says "no" wrongly.

And what one has that others lack.

A range is a union of alternatives, an alternative an interval of SemVer's order, of
which it takes the final versions, and the pre-releases of what a comparator names. Both
kinds have a lowest version above any bound, so two alternatives share a version exactly
if they share one of these.

Example:
    >>> from margo_supplychain.formats.npm_ranges import parse_range
    >>> overlap(parse_range("^1.2"), parse_range(">=1.9 <3"))
    Version('1.9.0')
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.errors import FormatError
from margo_supplychain.formats.npm_ranges import admits
from margo_supplychain.formats.versions import Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from margo_supplychain.formats.npm_ranges import Alternatives, Comparator


def overlap(one: Alternatives, other: Alternatives) -> Version | None:
    """Return a version that both ranges admit, or None if there is none.

    A version that would be too long to be one may be returned as its neighbour: better
    an overlap that nobody can use than one that nobody saw.
    """
    for first in one:
        for second in other:
            found = _shared(first, second)
            if found is not None:
                return found
    return None


def left_over(one: Alternatives, others: Sequence[Alternatives]) -> Version | None:
    """Return the lowest final version that a range admits, and none of the others.

    What is left over begins where an alternative of the one begins, or behind the end
    of one of the others.
    """
    found = {(0, 0, 0)}
    for alternatives in (one, *others):
        for _, bound in (each for part in alternatives for each in part):
            major, minor, patch = bound.numbers
            found |= {(major, minor, patch), (major, minor, patch + 1)}
    for numbers in sorted(found):
        try:
            version = Version.parse(".".join(map(str, numbers)))
        except FormatError:
            continue  # beyond what a version can be
        if admits(one, version) and not any(admits(each, version) for each in others):
            return version
    return None


def _shared(
    first: tuple[Comparator, ...], second: tuple[Comparator, ...]
) -> Version | None:
    both = (*first, *second)
    lower = [(sign, bound) for sign, bound in both if not sign.startswith("<")]
    for numbers in (None, *sorted(_named(first) & _named(second))):
        try:
            lowest = _lowest(lower, numbers)
        except FormatError:
            return lower[0][1]  # beyond what a version can be
        if (
            lowest is not None
            and admits((first,), lowest)
            and admits((second,), lowest)
        ):
            return lowest
    return None


def _named(comparators: Iterable[Comparator]) -> set[tuple[int, ...]]:
    return {bound.numbers for _, bound in comparators if bound.prerelease}


def _lowest(
    lower: Sequence[Comparator], numbers: tuple[int, ...] | None
) -> Version | None:
    """Return the lowest final version above the bounds, or pre-release of `numbers`."""
    if numbers is None:
        finals = [_final_above(sign, bound) for sign, bound in lower]
        return Version.parse(".".join(map(str, max(finals, default=(0, 0, 0)))))
    text = ".".join(map(str, numbers))
    found = Version.parse(f"{text}-0")
    for sign, bound in lower:
        if not bound.prerelease and bound.numbers >= numbers:
            return None
        if bound.numbers != numbers:
            continue  # above all of them, which `admits` sees, or below
        # Nothing lies between a pre-release and the same with a 0 behind it.
        after = ".0" if sign == ">" else ""
        found = max(found, Version.parse(f"{text}-{'.'.join(bound.prerelease)}{after}"))
    return found


def _final_above(sign: str, bound: Version) -> tuple[int, ...]:
    major, minor, patch = bound.numbers
    if sign == ">" and not bound.prerelease:
        return (major, minor, patch + 1)
    return bound.numbers
