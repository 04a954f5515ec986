"""Artifact rules of a layout, and their patterns, as in-toto's specification has them.

A rule looks at the names that no earlier rule of its list has consumed. Patterns are
`fnmatch`'s: `*` matches any run of characters, `/` included, `?` any one, `[a-z]` and
`[!a-z]` one of a set; case counts. What in-toto's implementations read differently is
refused: a backslash, `[^`, and sets that are not plainly written. Matching never goes
back over a name, whatever the pattern. REQUIRE takes a name, never a pattern.

Example:
    >>> rule = ArtifactRule.parse("match *.whl WITH products FROM build".split())
    >>> rule.text, rule.select({"dist/a.whl", "dist/a.log"})
    ('MATCH *.whl WITH PRODUCTS FROM build', ['dist/a.whl'])
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self, cast

from margo_supplychain.errors import MetadataFormatError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Kind = Literal["CREATE", "DELETE", "MODIFY", "ALLOW", "DISALLOW", "REQUIRE", "MATCH"]
Side = Literal["materials", "products"]

MAX_PATTERN: Final = 512  # characters of a pattern, name or prefix
MAX_STARS: Final = 32
_PLAIN_KINDS: Final = ("CREATE", "DELETE", "MODIFY", "ALLOW", "DISALLOW", "REQUIRE")
_SPECIAL: Final = re.compile(r"[*?\[]")
# Go refuses `]` and `-` at the ends of a set and reversed ranges, Python gives each of
# them a meaning; `[^` is a negation to one of them alone.
_PART: Final = re.compile(
    r"(?P<star>\*+)|(?P<any>\?)|(?P<text>[^*?\[]+)"
    r"|\[(?P<not>!?)(?P<set>(?:[^]\-^!](?:-[^]\-^!])?)+)\]|(?P<wrong>\[)"
)
_ITEM: Final = re.compile(r"(.)(?:-(.))?", re.DOTALL)


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
            translate(found.pattern)
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
        if not self.source_prefix:
            return select(self.pattern, names)
        start = self.source_prefix + "/"
        cut = len(start)
        below = [one[cut:] for one in names if one.startswith(start)]
        return [start + one for one in select(self.pattern, below)]

    def partner(self, name: str) -> str:
        """Return what a MATCH calls an artifact in the other step's list."""
        path = name[len(self.source_prefix) + 1 :] if self.source_prefix else name
        return f"{self.prefix}/{path}" if self.prefix else path


def select(pattern: str, names: Collection[str]) -> list[str]:
    """Return those of `names` that a pattern matches as a whole."""
    if pattern == "*":
        return list(names)
    special = _SPECIAL.search(pattern)
    if special is None:
        return [pattern] if pattern in names else []
    if special.start() == len(pattern) - 1 and special[0] == "*":
        start = pattern[:-1]
        return [one for one in names if one.startswith(start)]
    match = re.compile(translate(pattern)).fullmatch
    return [one for one in names if match(one)]


def translate(pattern: str) -> str:
    """Return a pattern as a regular expression that never goes back over a name.

    What stands between two stars is taken at its first place and kept (an atomic
    group): the leftmost place leaves the most to what follows.

    Raises:
        MetadataFormatError: a backslash, a set that is not plainly written, too many
            stars.
    """
    # check 4.63: Go escapes with a backslash, Python doesn't
    if "\\" in pattern:
        raise MetadataFormatError(f"pattern {pattern[:80]!r} has a backslash")
    # check 4.64: bounded work for each name
    if pattern.count("*") > MAX_STARS:
        raise MetadataFormatError(
            f"pattern {pattern[:80]!r} has more than {MAX_STARS} stars"
        )
    pieces = [""]
    for part in _PART.finditer(pattern):
        if part["star"]:
            pieces.append("")
        elif part["any"]:
            pieces[-1] += "."
        elif part["text"]:
            pieces[-1] += re.escape(part["text"])
        else:
            pieces[-1] += _set(part, pattern)
    first, *rest = pieces
    if not rest:
        return f"(?s:{first})"
    middle = "".join(f"(?>.*?{one})" for one in rest[:-1])
    return f"(?s:{first}{middle}.*{rest[-1]})"


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
