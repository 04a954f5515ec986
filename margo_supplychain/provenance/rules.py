"""Artifact rules of a layout, and their patterns, as in-toto's specification has them.

A rule looks at the names that no earlier rule of its list has consumed. Patterns are
`fnmatch`'s: `*` matches any run of characters, `/` included, `?` any one, `[a-z]` and
`[!a-z]` one of a set; case counts. What in-toto's implementations read differently is
refused: a backslash, `[^`, and sets that are not plainly written (`patterns`). REQUIRE
takes a name, never a pattern.

Example:
    >>> rule = ArtifactRule.parse("match *.whl WITH products FROM build".split())
    >>> rule.text, rule.select({"dist/a.whl", "dist/a.log"})
    ('MATCH *.whl WITH PRODUCTS FROM build', ['dist/a.whl'])
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self, cast

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.provenance.patterns import Pattern, pieces_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Kind = Literal["CREATE", "DELETE", "MODIFY", "ALLOW", "DISALLOW", "REQUIRE", "MATCH"]
Side = Literal["materials", "products"]

MAX_PATTERN: Final = 512  # characters of a pattern, name or prefix
_BELOW: Final = 32  # what it takes to cut a directory off a name, in characters
_PLAIN_KINDS: Final = ("CREATE", "DELETE", "MODIFY", "ALLOW", "DISALLOW", "REQUIRE")


class ArtifactRule(NamedTuple):
    """One rule of a step's expected materials or products.

    Args:
        kind: what it does.
        pattern: which names it is about; REQUIRE's is one name.
        source_prefix: of MATCH: names below this directory, without it.
        side: of MATCH: which list of the other step.
        prefix: of MATCH: the directory in the other step's list.
        step: of MATCH: the other step.
    """

    kind: Kind
    pattern: str
    source_prefix: str = ""
    side: Side | None = None
    prefix: str = ""
    step: str | None = None

    @classmethod
    def parse(cls, rule: Sequence[object]) -> Self:
        """Read an unverified rule, a list of strings; key words in any case.

        Raises:
            MetadataFormatError: not one of in-toto's forms, or a pattern or prefix
                that its implementations don't read alike.
        """
        # check 4.60: a rule is words
        if not all(isinstance(one, str) for one in rule):
            raise MetadataFormatError("a rule is not a list of strings")
        words = [str(one) for one in rule]
        shown = " ".join(words)[:160]
        kind = words[0].upper() if words else ""
        if kind in _PLAIN_KINDS and len(words) == 2:
            found = cls(cast("Kind", kind), words[1])
        elif kind == "MATCH" and len(words) in (6, 8, 10):
            found = cls._match(words, shown)
        else:
            raise MetadataFormatError(
                f"rule {shown!r} is none of: CREATE, DELETE, MODIFY, ALLOW, DISALLOW "
                "<pattern>; REQUIRE <name>; MATCH <pattern> [IN <directory>] WITH "
                "MATERIALS|PRODUCTS [IN <directory>] FROM <step>"
            )
        # check 4.61: a text of a rule that no name can equal would prove nothing
        _check_text(found.pattern, shown)
        if kind != "REQUIRE":
            pieces_of(found.pattern)
        return found

    @classmethod
    def _match(cls, words: list[str], shown: str) -> Self:
        rest = words[2:]
        source = prefix = ""
        if rest[0].upper() == "IN":
            source, rest = _directory(rest[1], shown), rest[2:]
        if len(rest) == 6 and rest[2].upper() == "IN":
            prefix = _directory(rest[3], shown)
            rest = rest[:2] + rest[4:]
        marks = [one.upper() for one in rest[:3]]
        # check 4.62: what is read as a MATCH has each of its words
        if (
            len(rest) != 4
            or marks[::2] != ["WITH", "FROM"]
            or marks[1] not in ("MATERIALS", "PRODUCTS")
        ):
            raise MetadataFormatError(
                f"rule {shown!r} is not MATCH <pattern> [IN <directory>] WITH "
                "MATERIALS|PRODUCTS [IN <directory>] FROM <step>"
            )
        side = cast("Side", marks[1].lower())
        return cls("MATCH", words[1], source, side, prefix, rest[3])

    @property
    def text(self) -> str:
        """The rule as people and in-toto's command line write it."""
        return " ".join(f'"{one}"' if " " in one else one for one in self.to_list())

    def to_list(self) -> list[str]:
        """Return the rule as a layout holds it."""
        words = [self.kind, self.pattern]
        if self.side is not None and self.step is not None:
            if self.source_prefix:
                words += ["IN", self.source_prefix]
            words += ["WITH", self.side.upper()]
            if self.prefix:
                words += ["IN", self.prefix]
            words += ["FROM", self.step]
        return words

    def select(self, names: Collection[str]) -> list[str]:
        """Return those of `names` that the rule is about, with their prefix."""
        if self.kind == "REQUIRE":
            return [self.pattern] if self.pattern in names else []
        pattern = Pattern.of(self.pattern)
        if not self.source_prefix:
            return pattern.select(names)
        start = self.source_prefix + "/"
        cut = len(start)
        below = [one[cut:] for one in names if one.startswith(start)]
        return [start + one for one in pattern.select(below)]

    @property
    def is_name(self) -> bool:
        """Whether it is about one name at most."""
        return self.kind == "REQUIRE" or Pattern.of(self.pattern).is_plain

    def cost(self, names: Collection[str]) -> int:
        """Return how many characters `select` looks at, at most."""
        if self.kind == "REQUIRE":
            return 1
        below = _BELOW * len(names) if self.source_prefix else 0
        return below + Pattern.of(self.pattern).cost(names)

    def partner(self, name: str) -> str:
        """Return what a MATCH calls an artifact in the other step's list."""
        path = name[len(self.source_prefix) + 1 :] if self.source_prefix else name
        return f"{self.prefix}/{path}" if self.prefix else path


def _directory(text: str, rule: str) -> str:
    # A slash at the end changes nothing (in-toto adds one).
    found = text.removesuffix("/")
    _check_text(found, rule)
    # check 4.66: names are normalised, so nothing lies below such a directory
    if "\\" in found or any(one in ("", ".", "..") for one in found.split("/")):
        raise MetadataFormatError(
            f"rule {rule!r} has the directory {text[:80]!r}, expected one like a/b"
        )
    return found


def _check_text(text: str, rule: str) -> None:
    if not 0 < len(text) <= MAX_PATTERN:
        raise MetadataFormatError(
            f"rule {rule!r} has a text of {len(text)} characters, expected 1 to "
            f"{MAX_PATTERN}"
        )
    if not text.isprintable() or not unicodedata.is_normalized("NFC", text):
        raise MetadataFormatError(
            f"rule {rule!r} has a text that is not printable in Unicode's form NFC"
        )
