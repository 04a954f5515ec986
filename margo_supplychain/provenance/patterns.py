"""Patterns of artifact rules: `fnmatch`'s, matched in time that is linear in a name.

`*` matches any run of characters, `/` included, `?` any one, `[a-z]` and `[!a-z]` one
of a set; case counts. Between two stars stands a part of fixed length, which is taken
at its leftmost place and kept: that leaves the most to what follows, so nothing ever
goes back over a name. A part that is text alone is searched for by a table of its own
overlaps (`re` makes one); with `?` or sets it is compared at each place, and so it is
short.

Example:
    >>> Pattern.of("dist/*.wh?").select(["dist/a.whl", "dist/a.log"])
    ['dist/a.whl']
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.errors import MetadataFormatError

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_STARS: Final = 32
MAX_WILD: Final = 32  # characters of a part between stars that has `?` or sets
# Go refuses `]` and `-` at the ends of a set and reversed ranges, Python gives each of
# them a meaning; `[^` is a negation to one of them alone.
_PART: Final = re.compile(
    r"(?P<star>\*+)|(?P<any>\?)|(?P<text>[^*?\[]+)"
    r"|\[(?P<not>!?)(?P<set>(?:[^]\-^!](?:-[^]\-^!])?)+)\]|(?P<wrong>\[)"
)
_ITEM: Final = re.compile(r"(.)(?:-(.))?", re.DOTALL)
# What a name costs, in characters that are looked at: a call, and each part's.
_EACH: Final = 16


class _Piece(NamedTuple):
    """What stands between two stars, or at an end: matches `size` characters."""

    expression: str = ""
    size: int = 0
    is_wild: bool = False


class Pattern(NamedTuple):
    """A pattern that was taken apart.

    Args:
        text: as the layout has it.
        pieces: what stands around its stars; one if it has none.
        compiled: the same, each as a regular expression.
        least: characters of the shortest name that matches.
        factor: how often a character of a name is looked at, at most.
    """

    text: str
    pieces: tuple[_Piece, ...]
    compiled: tuple[re.Pattern[str], ...]
    least: int
    factor: int

    @classmethod
    def of(cls, text: str) -> Pattern:
        """Return a pattern taken apart; each of a layout once.

        Raises:
            MetadataFormatError: see `pieces_of`.
        """
        return _compiled(text)

    @property
    def is_plain(self) -> bool:
        """Whether it is one name."""
        return len(self.pieces) == 1 and not self.pieces[0].is_wild

    def cost(self, names: Collection[str]) -> int:
        """Return how many characters `select` looks at, at most; about 10 ns each."""
        if self.is_plain:
            return 1
        each = _EACH * len(self.pieces) * len(names)
        if self.factor:
            each += self.factor * sum(map(len, names))
        return each

    def select(self, names: Collection[str]) -> list[str]:
        """Return those of `names` that it matches as a whole."""
        if self.text == "*":
            return list(names)
        first, last = self.pieces[0], self.pieces[-1]
        if self.is_plain:
            return [self.text] if self.text in names else []
        if len(self.pieces) != 2 or first.is_wild or last.is_wild:
            return [one for one in names if self._matches(one)]
        start, end = self.text.partition("*")[0], self.text.rpartition("*")[2]
        least = self.least
        if not end:
            return [one for one in names if one.startswith(start)]
        return [
            one
            for one in names
            if one.endswith(end) and one.startswith(start) and len(one) >= least
        ]

    def _matches(self, name: str) -> bool:
        end = len(name) - self.pieces[-1].size
        if len(name) < self.least or self.compiled[-1].match(name, end) is None:
            return False
        if len(self.pieces) == 1:
            return end == 0
        if self.compiled[0].match(name) is None:
            return False
        at = self.pieces[0].size
        for one in self.compiled[1:-1]:
            found = one.search(name, at, end)
            if found is None:
                return False
            at = found.end()
        return True


@lru_cache(maxsize=2048)
def _compiled(text: str) -> Pattern:
    pieces = pieces_of(text)
    factor = 0
    for one in pieces[1:-1]:
        factor = max(factor, one.size if one.is_wild else 1)
    return Pattern(
        text,
        pieces,
        tuple(re.compile(one.expression, re.DOTALL) for one in pieces),
        sum(one.size for one in pieces),
        factor,
    )


def pieces_of(pattern: str) -> tuple[_Piece, ...]:
    """Return what stands around the stars of an unverified pattern.

    Raises:
        MetadataFormatError: a backslash, a set that is not plainly written, too many
            stars, a long part with `?` or sets between two of them.
    """
    # check 4.63: Go escapes with a backslash, Python doesn't
    if "\\" in pattern:
        raise MetadataFormatError(f"pattern {pattern[:80]!r} has a backslash")
    # check 4.64: bounded work for each name
    if pattern.count("*") > MAX_STARS:
        raise MetadataFormatError(
            f"pattern {pattern[:80]!r} has more than {MAX_STARS} stars"
        )
    pieces = [_Piece()]
    for part in _PART.finditer(pattern):
        expression, size, is_wild = pieces[-1]
        if part["star"]:
            pieces.append(_Piece())
        elif part["any"]:
            pieces[-1] = _Piece(f"{expression}.", size + 1, is_wild=True)
        elif text := part["text"]:
            pieces[-1] = _Piece(expression + re.escape(text), size + len(text), is_wild)
        else:
            one = _set(part, pattern)
            pieces[-1] = _Piece(expression + one, size + 1, is_wild=True)
    # check 4.110: bounded work for each character of a name
    if any(one.is_wild and one.size > MAX_WILD for one in pieces[1:-1]):
        raise MetadataFormatError(
            f"pattern {pattern[:80]!r} has more than {MAX_WILD} characters between two "
            "stars, with ? or [ ] among them"
        )
    return tuple(pieces)


def _set(part: re.Match[str], pattern: str) -> str:
    items = _ITEM.findall(part["set"] or "")
    # check 4.65: Go and Python read such sets differently
    if part["wrong"] or any(last and last < first for first, last in items):
        raise MetadataFormatError(
            f"pattern {pattern[:80]!r} has a set that is not like [abc], [a-z] or "
            "[!a-z]"
        )
    ranges = (
        f"{re.escape(first)}-{re.escape(last)}" if last else re.escape(first)
        for first, last in items
    )
    return f"[{'^' if part['not'] else ''}{''.join(ranges)}]"
