"""What an application role's list says about a release: the `custom` of a TUF target.

Kept small, because a device reads it for every release of an application; the record
itself is fetched for the one that is chosen.

Example:
    >>> ReleaseEntry.parse({"artifact": f"sha256:{'0' * 64}", "profiles": []}, "x")
    ReleaseEntry(artifact=..., profiles=(), withdrawn=None, summaries=())
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.fields import Fields, line, moment, unique
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.versions import Version

if TYPE_CHECKING:
    from datetime import datetime

MAX_PROFILES: Final = 1_000
MAX_SUMMARIES: Final = 8
MAX_SUMMARY: Final = 1 << 20  # bytes
PROFILE_DIGITS: Final = 16
_HEX_DIGITS: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """A publisher takes a release back.

    Args:
        reason: one line for people.
        since: when it was withdrawn; informs, decides nothing.
        use: the version to use instead.
    """

    reason: str
    since: datetime
    use: Version | None = None

    def __post_init__(self) -> None:
        line(self.reason, what="reason of a withdrawal", limit=500)
        moment(self.since, what="since")


class AttestationPin(NamedTuple):
    """A signed statement by the digest and size of its envelope."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseEntry:
    """What an application role says about one release: the target's `custom`.

    Args:
        artifact: digest of the release's artifact; the record must agree.
        profiles: fingerprints of its deployment profiles; they narrow a search and
            decide nothing.
        withdrawn: set when the publisher took the release back.
        summaries: verification summaries of the release. They name the record's
            digest, so the record can't name theirs; where a summary counts, its
            signature decides and not this list.
    """

    artifact: Digest
    profiles: tuple[str, ...] = ()
    withdrawn: Withdrawal | None = None
    summaries: tuple[AttestationPin, ...] = ()

    def __post_init__(self) -> None:
        if self.artifact.algorithm != "sha256":
            raise MetadataFormatError(
                f"artifact is named by {self.artifact.algorithm}, expected sha256"
            )
        if len(self.profiles) > MAX_PROFILES:
            raise MetadataFormatError(
                f"release has {len(self.profiles)} profiles, more than {MAX_PROFILES}"
            )
        for one in self.profiles:
            if len(one) != PROFILE_DIGITS or not _HEX_DIGITS.issuperset(one):
                raise MetadataFormatError(
                    f"profile {one[:80]!r} is not {PROFILE_DIGITS} hex digits"
                )
        if list(self.profiles) != sorted(set(self.profiles)):
            raise MetadataFormatError("profiles are not sorted and distinct")
        if self.summaries:
            self._check_summaries()

    def _check_summaries(self) -> None:
        if len(self.summaries) > MAX_SUMMARIES:
            raise MetadataFormatError(
                f"release has {len(self.summaries)} summaries, more than "
                f"{MAX_SUMMARIES}"
            )
        for one in self.summaries:
            if not 0 < one.size <= MAX_SUMMARY:
                raise MetadataFormatError(
                    f"summary {one.digest.short} has size {one.size}, expected 1 to "
                    f"{MAX_SUMMARY}"
                )
        unique((one.digest for one in self.summaries), what="summaries")

    @classmethod
    def parse(cls, custom: object, what: str) -> Self:
        """Parse the unverified `custom` of a release's target.

        Args:
            what: names the target in errors.

        Raises:
            MetadataFormatError: an unknown field, a wrong type or value.
        """
        fields = Fields(custom, what=f"custom of {what}")
        withdrawn = None
        if fields.has("withdrawn"):
            inner = fields.object("withdrawn")
            withdrawn = Withdrawal(
                reason=inner.text("reason"),
                since=inner.time("since"),
                use=inner.optional("use", Version.parse),
            )
            inner.done()
        entry = cls(
            artifact=fields.parsed("artifact", Digest.parse),
            profiles=fields.list_of("profiles", str, limit=MAX_PROFILES),
            withdrawn=withdrawn,
            summaries=_summaries(fields) if fields.has("summaries") else (),
        )
        fields.done()
        return entry

    def to_custom(self) -> dict[str, Any]:
        """Return the entry as the JSON-ready `custom` of a TUF target."""
        value: dict[str, Any] = {
            "artifact": str(self.artifact),
            "profiles": list(self.profiles),
        }
        if self.withdrawn is not None:
            value["withdrawn"] = {
                "reason": self.withdrawn.reason,
                "since": format_time(self.withdrawn.since),
            }
            if self.withdrawn.use is not None:
                value["withdrawn"]["use"] = str(self.withdrawn.use)
        if self.summaries:
            value["summaries"] = [
                {"digest": str(one.digest), "size": one.size} for one in self.summaries
            ]
        return value


def _summaries(fields: Fields) -> tuple[AttestationPin, ...]:
    found = []
    for one in fields.objects("summaries", limit=MAX_SUMMARIES):
        found.append(
            AttestationPin(
                digest=one.parsed("digest", Digest.parse), size=one.integer("size")
            )
        )
        one.done()
    return tuple(found)
