"""Versions: strict SemVer 2.0, bounded, with one spelling each.

A version of a release comes from outside and decides what a device installs, so two
texts never mean one version: no leading `v`, no spaces, no digits but ASCII's, no
leading zeros. Build metadata does not order (SemVer 2.0, item 10), but 1.0.0+a and
1.0.0+b are two versions.

Example:
    >>> rc, final = Version.parse("1.2.0-rc.1"), Version.parse("1.2.0+linux")
    >>> rc < final, final.tag
    (True, '1.2.0_linux')
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Self, final

from margo_supplychain.errors import FormatError

MAX_LENGTH: Final = 100
MAX_NUMBER: Final = (1 << 53) - 1  # what JSON and npm's semver hold exactly
_NUMBER: Final = r"(0|[1-9][0-9]*)"
_IDENTIFIER: Final = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
# The grammar of SemVer 2.0.
_SEMVER: Final = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    rf"(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?",
    re.ASCII,
)
_FINAL: Final = (1,)


@final
@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Version:
    """A SemVer 2.0 version.

    `==` and `hash` take every character, `<` and the like take SemVer's precedence,
    which ignores build metadata: of 1.0.0+a and 1.0.0+b neither is less, nor are they
    equal.

    Args:
        text: the version.
        numbers: major, minor and patch.
        prerelease: the pre-release identifiers; empty for a final version.
        build: the build metadata, without the `+`.

    Raises:
        FormatError: if not strict SemVer 2.0, longer than 100 characters, or with a
            number above 2^53-1.
    """

    text: str
    numbers: tuple[int, int, int] = field(init=False)
    prerelease: tuple[str, ...] = field(init=False)
    build: str | None = field(init=False)
    _precedence: tuple[object, ...] = field(init=False)

    def __post_init__(self) -> None:
        numbers, prerelease, build = _parse(self.text)
        # SemVer 2.0, item 11: numbers order below words, more identifiers above
        # fewer, and a final version above its pre-releases.
        words = tuple(
            (0, int(one), "") if one.isdigit() else (1, 0, one) for one in prerelease
        )
        order = (0, words) if words else _FINAL
        for name, value in (
            ("numbers", numbers),
            ("prerelease", prerelease),
            ("build", build),
            ("_precedence", (numbers, order)),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `1.2.0-rc.1+linux`, and no other spelling of it."""
        return cls(text)

    @classmethod
    def parse_tag(cls, text: str) -> Self:
        """Parse the form of tags and target paths: `_` in the place of `+`."""
        if "+" in text:
            raise FormatError(
                f"version tag {text[:120]!a} has '+', which no tag holds: expected '_'"
            )
        return cls(text.replace("_", "+", 1))

    @property
    def tag(self) -> str:
        """The version with `_` for `+`, as OCI tags and target paths need it."""
        return self.text.replace("+", "_")

    @property
    def major(self) -> int:
        """The first number."""
        return self.numbers[0]

    @property
    def minor(self) -> int:
        """The second number."""
        return self.numbers[1]

    @property
    def patch(self) -> int:
        """The third number."""
        return self.numbers[2]

    def same_precedence(self, other: Version) -> bool:
        """Tell whether nothing but build metadata differs."""
        return self._precedence == other._precedence

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self._precedence < other._precedence

    def __le__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self._precedence <= other._precedence

    def __gt__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self._precedence > other._precedence

    def __ge__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self._precedence >= other._precedence

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Version({self.text!r})"


def _parse(text: str) -> tuple[tuple[int, int, int], tuple[str, ...], str | None]:
    if not isinstance(text, str):
        raise TypeError(f"a version is a str, not {type(text).__name__}")
    # Bounded first: a number of 4,300 digits is a ValueError of Python's own.
    if len(text) > MAX_LENGTH:
        raise FormatError(
            f"version {text[:20]!a}... has {len(text)} characters, above {MAX_LENGTH}"
        )
    found = _SEMVER.fullmatch(text)
    if found is None:
        raise FormatError(f"version {text!a} {_defect(text)}")
    numbers = (int(found[1]), int(found[2]), int(found[3]))
    prerelease = tuple(found[4].split(".")) if found[4] is not None else ()
    # npm compares longer numbers inexactly: two devices could disagree.
    most = max(*numbers, *(int(one) for one in prerelease if one.isdigit()))
    if most > MAX_NUMBER:
        raise FormatError(f"version {text!a} has a number above 2^53-1")
    return numbers, prerelease, found[5]


def _defect(text: str) -> str:
    """Say what keeps `text` from being SemVer, for the most frequent mistakes."""
    if text[:1] in ("v", "V") and text[1:2].isdigit():
        return f"begins with {text[0]!r}: expected {text[1:]!a} without it"
    for column, character in enumerate(text, 1):
        if not character.isascii() or not character.isprintable() or character == " ":
            return f"has {character!a} at column {column}: expected SemVer 2.0 in ASCII"
    return "is not SemVer 2.0: expected MAJOR.MINOR.PATCH, as in 1.2.0 or 1.2.0-rc.1"
