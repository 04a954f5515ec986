"""npm's range grammar, strict: from text to comparators, and whether a version passes.

The grammar is the one that npm's `semver` documents (README, "Range Grammar"), with
`includePrerelease` and `loose` off. What is refused here although npm takes it says
something else than it seems to, or says nothing: an empty alternative, a leading `v`
or `=`, white space other than spaces between the parts, a number, pre-release or build
metadata after a wildcard. What is taken here means what it means to npm; the tests
compare the two.

Example:
    >>> alternatives = parse_range("^1.2 || 3.x")
    >>> [admits(alternatives, Version.parse(text)) for text in ("1.9.0", "2.0.0")]
    [True, False]
"""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import FormatError
from margo_supplychain.formats.versions import MAX_NUMBER, Version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    Comparator: TypeAlias = tuple[str, Version]
    Alternatives: TypeAlias = tuple[tuple[Comparator, ...], ...]
    """Any one must pass, and in it every comparator; one without any is `*`."""
    Word: TypeAlias = tuple[str, int]
    """A run of characters without spaces, and its column, from 1."""

MAX_LENGTH: Final = 256
MAX_COMPARATORS: Final = 64
_SIGNS: Final = ("~>", "<=", ">=", "<", ">", "~", "^", "=")
_NUMBER: Final = "(?:0|[1-9][0-9]*|[xX*])"
_PARTIAL: Final = re.compile(rf"{_NUMBER}(?:\.{_NUMBER}){{0,2}}")
COMPLETE: Final = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(?:[-+][0-9A-Za-z.+-]*)?")
"""What is meant as a whole version; `Version` says whether it is one."""

_PASSES: Final[Mapping[str, Callable[[Version, Version], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": Version.same_precedence,
}


def parse_range(text: str) -> Alternatives:
    """Parse an npm range.

    Raises:
        FormatError: if not a range, longer than 256 characters, with more than 64
            comparators, or with a number above 2^53-1; it says where.
    """
    if len(text) > MAX_LENGTH:
        raise FormatError(
            f"range {text[:20]!a}... has {len(text)} characters, above {MAX_LENGTH}"
        )
    if not text.strip():
        raise FormatError(f"range {text!a} is empty: expected '*' for every release")
    if text != text.strip():
        raise FormatError(f"range {text!a} has white space around it")
    alternatives = []
    words_seen = 0
    start = 0
    for part in text.split("||"):
        words = [
            (found[0], start + found.start() + 1)
            for found in re.finditer("[^ ]+", part)
        ]
        if not words:
            raise _refusal(
                text, start + 1, "nothing on one side of '||': expected a range"
            )
        words_seen += len(words)
        if words_seen > MAX_COMPARATORS:
            raise FormatError(f"range {text!a} has more than {MAX_COMPARATORS} parts")
        alternatives.append(_parse_alternative(text, words))
        start += len(part) + len("||")
    # npm: one alternative that is `*` is all there is, so `* || 1.0.0-rc.1` does not
    # admit 1.0.0-rc.1.
    return ((),) if () in alternatives else tuple(alternatives)


def admits(alternatives: Alternatives, version: Version) -> bool:
    """Tell whether `version` passes, by npm's rules.

    A pre-release passes only where a comparator of the same alternative names a
    pre-release of the same major.minor.patch: who asks for ^1.2.3-rc.1 has agreed to
    1.2.3-rc.2, but not to 1.3.0-rc.1.
    """
    return any(
        all(_PASSES[sign](version, bound) for sign, bound in comparators)
        and (not version.prerelease or names_prerelease([comparators], version))
        for comparators in alternatives
    )


def names_prerelease(
    alternatives: Iterable[Sequence[Comparator]], version: Version
) -> bool:
    """Tell whether a pre-release of the version's major.minor.patch is named.

    The bound <2.0.0-0, which ^1 stands for, names none: nothing is below it.
    """
    return any(
        bound.prerelease
        and bound.numbers == version.numbers
        and (sign, bound.prerelease) != ("<", ("0",))
        for comparators in alternatives
        for sign, bound in comparators
    )


def _refusal(text: str, column: int, defect: str) -> FormatError:
    return FormatError(
        f"range {text!a} at column {column}: {defect}", where=f"column {column}"
    )


def _parse_alternative(text: str, words: Sequence[Word]) -> tuple[Comparator, ...]:
    comparators: list[Comparator] = []
    for sign, (word, column) in _signed_words(text, words):
        try:
            comparators += _expand(sign, word)
        except FormatError as why:
            raise _refusal(text, column, str(why)) from why
    # npm: >=0.0.0 is `*`, which counts only where it stands alone.
    return tuple(
        (sign, bound)
        for sign, bound in comparators
        if sign != ">=" or bound.prerelease or bound.numbers != (0, 0, 0)
    )


def _signed_words(text: str, words: Sequence[Word]) -> Iterator[tuple[str, Word]]:
    """Yield operators with what they stand before; spaces may lie in between."""
    hyphen = next((column for word, column in words if word == "-"), None)
    if hyphen is not None:
        if len(words) != 3 or words[1] != ("-", hyphen):
            raise _refusal(text, hyphen, "'-' needs one version on each side")
        yield ">=", words[0]
        yield "<=", words[2]
        return
    waiting: Word | None = None
    for word, column in words:
        sign = next((sign for sign in _SIGNS if word.startswith(sign)), "")
        if waiting is not None:
            if sign:
                raise _refusal(text, column, f"{sign!a} after {waiting[0]!a}")
            yield waiting[0], (word, column)
            waiting = None
        elif sign == word:
            waiting = word, column
        else:
            yield sign or "=", (word[len(sign) :], column + len(sign))
    if waiting is not None:
        raise _refusal(text, waiting[1], f"no version after {waiting[0]!a}")


def _parse_partial(text: str) -> tuple[int, ...]:
    """Return the numbers before the first wildcard."""
    if text[0] in "vV":
        raise FormatError(f"{text!a} begins with {text[0]!r}: expected it without")
    if _PARTIAL.fullmatch(text) is None:
        raise FormatError(f"{text!a} is no version: expected 1.2.3, 1.2 or 1.x")
    parts = ["x" if part in "xX*" else part for part in text.split(".")]
    numbers = parts[: parts.index("x")] if "x" in parts else parts
    if any(part != "x" for part in parts[len(numbers) :]):
        raise FormatError(f"{text!a} has a number after a wildcard")
    return tuple(int(part) for part in numbers)


def _expand(sign: str, text: str) -> list[Comparator]:
    """Return what an operator and a version stand for (npm's "desugaring")."""
    version = Version.parse(text) if COMPLETE.fullmatch(text) is not None else None
    numbers = version.numbers if version is not None else _parse_partial(text)
    if not numbers:
        # Nothing is above or below every version; 0.0.0-0 is the lowest there is.
        return [("<", Version.parse("0.0.0-0"))] if sign in ("<", ">") else []
    last = len(numbers) - 1
    lowest = version if version is not None else _version(numbers)
    if sign == "^":  # up to the next change of the leftmost number that is not 0
        leftmost = next((n for n, number in enumerate(numbers) if number), last)
        return [(">=", lowest), ("<", _below_next(numbers, leftmost))]
    if sign in ("~", "~>"):  # up to the next minor, or major when that is all there is
        return [(">=", lowest), ("<", _below_next(numbers, min(last, 1)))]
    if version is not None or sign == ">=":
        return [(sign, lowest)]
    if sign == "=":
        return [(">=", lowest), ("<", _below_next(numbers, last))]
    if sign == "<":  # not even a pre-release of the bound
        return [("<", _version(numbers, "-0"))]
    if sign == "<=":  # all that begin with these numbers
        return [("<", _below_next(numbers, last))]
    return [(">=", _version(_next(numbers, last)))]


def _next(numbers: Sequence[int], place: int) -> tuple[int, ...]:
    return (*numbers[:place], numbers[place] + 1)


def _below_next(numbers: Sequence[int], place: int) -> Version:
    """Return the lowest pre-release of the next version that differs at `place`."""
    return _version(_next(numbers, place), "-0")


def _version(numbers: Sequence[int], suffix: str = "") -> Version:
    # A bound past the limit is an error, to npm as well.
    if max(numbers) > MAX_NUMBER:
        raise FormatError(f"{max(numbers)} is above 2^53-1")
    padded = (*numbers, 0, 0)[:3]
    return Version.parse(".".join(map(str, padded)) + suffix)
