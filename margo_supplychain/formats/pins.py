"""Pins: which versions somebody agrees to.

A pin is exact, exact with the digest of the artifact, or a range in a grammar that it
names: the same text means different things to npm, Cargo and Helm. Whether there is a
release inside the pin is for `verify` to say.

Example:
    >>> pin = Pin.range("^1.2", grammar="npm")
    >>> pin.admits(Version.parse("1.9.0")), pin.why_not(Version.parse("2.0.0"))
    (True, 'outside the pin')
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self, final

from margo_supplychain.errors import FormatError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.npm_ranges import (
    COMPLETE,
    admits,
    names_prerelease,
    parse_range,
)
from margo_supplychain.formats.versions import Version

if TYPE_CHECKING:
    from margo_supplychain.formats.npm_ranges import Alternatives

Grammar = Literal["npm"]


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Pin:
    """Versions that are agreed to; made by `exact`, `range` or `parse_argument`.

    Attributes:
        text: the range, or the version with `@` and the digest when there is one.
        grammar: the range's grammar; None for an exact pin.
        version: the exact pin's version.
        digest: the exact pin's artifact. `admits` sees versions only: who has the
            artifact asks `admits_artifact` as well.

    Raises:
        FormatError: if the text is empty or not what it should be.
    """

    text: str
    grammar: Grammar | None
    version: Version | None = field(init=False, compare=False)
    digest: Digest | None = field(init=False, compare=False)
    _alternatives: Alternatives = field(init=False, compare=False)

    def __post_init__(self) -> None:
        version = digest = None
        alternatives: Alternatives = ()
        if self.grammar is None:
            version_text, at, digest_text = self.text.partition("@")
            version = Version.parse(version_text)
            digest = Digest.parse(digest_text) if at else None
        elif self.grammar == "npm":
            alternatives = parse_range(self.text)
        else:
            raise ValueError(f"range grammar {self.grammar!r} is not 'npm'")
        object.__setattr__(self, "version", version)
        object.__setattr__(self, "digest", digest)
        object.__setattr__(self, "_alternatives", alternatives)

    @classmethod
    def exact(cls, version: Version, digest: Digest | None = None) -> Self:
        """Agree to one version, build metadata included, and to one artifact."""
        text = str(version) if digest is None else f"{version}@{digest}"
        return cls(text=text, grammar=None)

    @classmethod
    def range(cls, text: str, *, grammar: Grammar) -> Self:
        """Agree to the versions of a range.

        The empty text, which is everything to npm, is refused; `*` is everything but
        pre-releases. Build metadata in a range is ignored, as npm does.
        """
        return cls(text=text, grammar=grammar)

    @classmethod
    def parse_argument(cls, text: str) -> Self:
        """Parse what a person types: `1.2.0`, `1.2.0@sha256:...` or an npm range.

        A complete version is an exact pin: `1.2.0+a` isn't `1.2.0+b`, as it would be
        in the range `=1.2.0+a`.
        """
        version_text, at, _ = text.partition("@")
        if COMPLETE.fullmatch(version_text) is not None:
            return cls(text=text, grammar=None)
        if at:
            raise FormatError(
                f"pin {text[:240]!a} has a digest, which goes with a complete version: "
                "expected 1.2.0@sha256:..."
            )
        return cls(text=text, grammar="npm")

    def admits(self, version: Version) -> bool:
        """Tell whether `version` is agreed to."""
        if self.version is not None:
            return self.version == version
        return admits(self._alternatives, version)

    def overlaps(self, other: Self) -> bool:
        """Tell whether two ranges share a version.

        Raises:
            ValueError: one of them is no range.
        """
        from margo_supplychain.formats.npm_overlap import overlap

        if self.grammar is None or other.grammar is None:
            raise ValueError("an exact pin overlaps nothing but its own version")
        return overlap(self._alternatives, other._alternatives) is not None

    @property
    def alternatives(self) -> int:
        """How many alternatives a range has: what `overlaps` costs."""
        return len(self._alternatives)

    def admits_artifact(self, digest: Digest) -> bool:
        """Tell whether the artifact is: any, unless the pin has a digest."""
        return self.digest is None or self.digest == digest

    def why_not(self, version: Version) -> str | None:
        """Say to a person why `version` is not admitted; None when it is."""
        if self.admits(version):
            return None
        if self.version is not None:
            if self.version.same_precedence(version):
                return "other build metadata than the pin's"
            return "outside the pin"
        release = ".".join(map(str, version.numbers))
        if (
            version.prerelease
            and admits(self._alternatives, Version.parse(release))
            and not names_prerelease(self._alternatives, version)
        ):
            return f"pre-release, and the pin names none of {release}"
        return "outside the pin"

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        if self.grammar is None:
            return f"Pin.exact({self.text!r})"
        return f"Pin.range({self.text!r}, grammar={self.grammar!r})"
