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

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self, final

from margo_supplychain.errors import FormatError

if TYPE_CHECKING:
    import semver

MAX_LENGTH: Final = 100
MAX_NUMBER: Final = (1 << 53) - 1  # what JSON and npm's semver hold exactly


@final
@dataclass(frozen=True, slots=True, repr=False)
class Version:
    """A SemVer 2.0 version.

    `==` and `hash` take every character, `<` and the like take SemVer's precedence,
    which ignores build metadata: of 1.0.0+a and 1.0.0+b neither is less, nor are they
    equal.

    Raises:
        FormatError: if not strict SemVer 2.0, longer than 100 characters, or with a
            number above 2^53-1.
    """

    text: str
    _parsed: semver.Version = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parsed", _parse(self.text))

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
        return self._parsed.major

    @property
    def minor(self) -> int:
        """The second number."""
        return self._parsed.minor

    @property
    def patch(self) -> int:
        """The third number."""
        return self._parsed.patch

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Major, minor and patch."""
        return self.major, self.minor, self.patch

    @property
    def prerelease(self) -> tuple[str, ...]:
        """The pre-release identifiers; empty for a final version."""
        text = self._parsed.prerelease
        return tuple(text.split(".")) if text is not None else ()

    @property
    def build(self) -> str | None:
        """The build metadata, without the `+`."""
        return self._parsed.build

    def same_precedence(self, other: Version) -> bool:
        """Tell whether nothing but build metadata differs."""
        return self._parsed.compare(other._parsed) == 0

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self._parsed.compare(other._parsed) < 0

    def __le__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self._parsed.compare(other._parsed) <= 0

    def __gt__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self._parsed.compare(other._parsed) > 0

    def __ge__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self._parsed.compare(other._parsed) >= 0

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Version({self.text!r})"


def _parse(text: str) -> semver.Version:
    if not isinstance(text, str):  # python-semver would take bytes as well
        raise TypeError(f"a version is a str, not {type(text).__name__}")
    # Bounded first: a number of 4,300 digits is a ValueError of Python's own.
    if len(text) > MAX_LENGTH:
        raise FormatError(
            f"version {text[:20]!a}... has {len(text)} characters, above {MAX_LENGTH}"
        )
    # python-semver parses and orders. Importing it costs 2 ms where dataclasses and re
    # are loaded already: less than a second parser to keep right is worth.
    import semver

    try:
        parsed = semver.Version.parse(text)
    except ValueError as why:
        raise FormatError(f"version {text!a} {_defect(text)}") from why
    # Its older releases and its optional native backend read more than ASCII, or a
    # line's end; what is not written back as it came is an alias.
    if not text.isascii() or str(parsed) != text:
        raise FormatError(f"version {text!a} {_defect(text)}")
    numbers = [parsed.major, parsed.minor, parsed.patch]
    if parsed.prerelease is not None:
        # npm compares longer numbers inexactly: two devices could disagree.
        parts = parsed.prerelease.split(".")
        numbers += [int(part) for part in parts if part.isdigit()]
    if max(numbers) > MAX_NUMBER:
        raise FormatError(f"version {text!a} has a number above 2^53-1")
    return parsed


def _defect(text: str) -> str:
    """Say what keeps `text` from being SemVer, for the most frequent mistakes."""
    if text[:1] in ("v", "V") and text[1:2].isdigit():
        return f"begins with {text[0]!r}: expected {text[1:]!a} without it"
    for column, character in enumerate(text, 1):
        if not character.isascii() or not character.isprintable() or character == " ":
            return f"has {character!a} at column {column}: expected SemVer 2.0 in ASCII"
    return "is not SemVer 2.0: expected MAJOR.MINOR.PATCH, as in 1.2.0 or 1.2.0-rc.1"
