"""The publisher policy: what a publisher's offline key demands of an application.

A TUF target file, signed by the publisher's own role and read from no other. Knows the
shape and its limits; what a device makes of it is `verify`'s business. Unknown fields
are refused, so a newer demand is never skipped: a newer *format* is a file of its own,
and a device reads the highest that it knows.

Example:
    >>> PublisherPolicy(epoch=1, provenance="none").to_bytes()[:32]
    b'{"attestations":[],"downgradeTo"'
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Self, cast

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.fields import (
    Fields,
    check_format,
    moment,
    unique,
)
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.versions import Version

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from securesystemslib.signer import Key

    from margo_supplychain.formats.attestation_rules import (
        AttestationRule,
        PolicyKey,
        SummaryRule,
    )

FORMAT: Final = 1
MEDIA_TYPE: Final = "application/vnd.margo-supplychain.policy.v1+json"
Provenance = Literal["required", "none"]

MAX_POLICY: Final = 1 << 20  # bytes
MAX_EPOCH: Final = 1_000_000
MAX_LAYOUTS: Final = 1_000
MAX_LAYOUT_NUMBER: Final = 1_000_000
MAX_ALTERNATIVES: Final = 64  # of all current ranges: each is compared with each
MAX_ATTESTATIONS: Final = 64
MAX_KEYS: Final = 256
MAX_FUNCTIONARIES: Final = 1_000
MAX_DIGESTS: Final = 10_000
MAX_ROLE_VERSION: Final = strict_json.MAX_INTEGER
_KEY: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutRule:
    """Which releases an in-toto layout serves.

    Args:
        number: n of `<publisher>/layouts/<name>/<n>.json`.
        digest: of the layout's envelope.
        range: the versions that it serves now; None once it is superseded.
        releases: exactly those that it still serves, once superseded, each by
            `ReleaseRecord.release`.
        expires: replaces the expiry in the layout itself, whose bytes never change.
    """

    number: int
    digest: Digest
    range: Pin | None = None
    releases: tuple[Digest, ...] = ()
    expires: datetime | None = None

    def __post_init__(self) -> None:
        what = f"layout {self.number}"
        _within(self.number, MAX_LAYOUT_NUMBER, what="number of a layout")
        if self.digest.algorithm != "sha256":
            raise MetadataFormatError(
                f"{what} is named by {self.digest.algorithm}, expected sha256"
            )
        _digests(self.releases, what=f"releases of {what}")
        # Neither would be a layout that serves nothing, and could be read as all.
        if (self.range is None) == (not self.releases):
            raise MetadataFormatError(
                f"{what} needs a range, or else releases once it is superseded"
            )
        if self.expires is not None:
            moment(self.expires, what=f"expires of {what}")

    def serves(self, version: Version, release: Digest | None) -> bool:
        """Say whether a release may be made by this layout.

        Args:
            version: its version.
            release: its `ReleaseRecord.release`; None if that is not known.
        """
        if self.range is not None:
            return self.range.admits(version)
        return release in self.releases

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """Read one rule; refuse unknown fields."""
        rule = cls(
            number=fields.integer("number"),
            digest=fields.parsed("digest", Digest.parse),
            range=_range(fields.object("range")) if fields.has("range") else None,
            releases=fields.list_of("releases", Digest.parse, limit=MAX_DIGESTS),
            expires=fields.optional_time("expires"),
        )
        fields.done()
        return rule

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        value: dict[str, Any] = {
            "number": self.number,
            "digest": str(self.digest),
            "releases": _texts(self.releases),
        }
        if self.range is not None:
            value["range"] = {"grammar": self.range.grammar, "text": self.range.text}
        if self.expires is not None:
            value["expires"] = format_time(self.expires)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedFunctionary:
    """A functionary whose links count no more, but for what survives.

    Args:
        key: id of the functionary's key, 64 hex digits.
        survivors: releases that were made before the key was lost, each by
            `ReleaseRecord.release`.
    """

    key: str
    survivors: tuple[Digest, ...] = ()

    def __post_init__(self) -> None:
        if _KEY.fullmatch(self.key) is None:
            raise MetadataFormatError(
                f"revoked functionary {self.key[:80]!r} is not a key id of 64 hex "
                "digits"
            )
        _digests(self.survivors, what=f"survivors of {self.key[:12]}")

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """Read one functionary; refuse unknown fields."""
        revoked = cls(
            key=fields.text("key"),
            survivors=fields.list_of("survivors", Digest.parse, limit=MAX_DIGESTS),
        )
        fields.done()
        return revoked

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"key": self.key, "survivors": _texts(self.survivors)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reinstatement:
    """A withdrawn artifact that the offline key allows again.

    Args:
        artifact: its digest.
        up_to: withdrawals by versions of the application role up to this one are
            void; a later withdrawal counts again.
    """

    artifact: Digest
    up_to: int

    def __post_init__(self) -> None:
        _within(self.up_to, MAX_ROLE_VERSION, what=f"upTo of {self.artifact.short}")

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """Read one reinstatement; refuse unknown fields."""
        one = cls(
            artifact=fields.parsed("artifact", Digest.parse),
            up_to=fields.integer("upTo"),
        )
        fields.done()
        return one

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"artifact": str(self.artifact), "upTo": self.up_to}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherPolicy:
    """What the publisher's offline key says about one application.

    Args:
        epoch: release floors order by (epoch, version).
        provenance: whether a release must prove how it was made.
        layouts: the in-toto layouts and what each serves; the ranges of those that
            have one share no version.
        attestations: statements that every release must carry, one rule for each type.
        keys: of those who may sign statements and summaries.
        summary: whose summaries stand for the full chain; None for nobody's.
        minimum_version: nothing below is current.
        revoked_functionaries: keys whose links count no more.
        reinstated: artifacts whose withdrawal is void.
        downgrade_to: artifacts that pass the release floor, and nothing else.

    Raises:
        MetadataFormatError: a value beyond its limits, or named twice; ranges that
            overlap; a rule that names a key that is not there.
    """

    epoch: int
    provenance: Provenance
    layouts: tuple[LayoutRule, ...] = ()
    attestations: tuple[AttestationRule, ...] = ()
    keys: tuple[PolicyKey, ...] = ()
    summary: SummaryRule | None = None
    minimum_version: Version | None = None
    revoked_functionaries: tuple[RevokedFunctionary, ...] = ()
    reinstated: tuple[Reinstatement, ...] = ()
    downgrade_to: tuple[Digest, ...] = ()

    def __post_init__(self) -> None:
        _within(self.epoch, MAX_EPOCH, what="epoch")
        _provenance(self.provenance)
        for kind, values, limit in (
            ("layouts", self.layouts, MAX_LAYOUTS),
            ("attestations", self.attestations, MAX_ATTESTATIONS),
            ("keys", self.keys, MAX_KEYS),
            ("revokedFunctionaries", self.revoked_functionaries, MAX_FUNCTIONARIES),
            ("reinstated", self.reinstated, MAX_DIGESTS),
        ):
            if len(values) > limit:
                raise MetadataFormatError(
                    f"publisher policy has {len(values)} {kind}, more than {limit}"
                )
        unique((one.number for one in self.layouts), what="layouts")
        self._check_ranges()
        unique((one.type for one in self.attestations), what="attestations")
        self._check_keys()
        unique((r.key for r in self.revoked_functionaries), what="revokedFunctionaries")
        unique((one.artifact for one in self.reinstated), what="reinstated")
        _digests(self.downgrade_to, what="downgradeTo")

    def _check_ranges(self) -> None:
        current = [
            (one.number, one.range) for one in self.layouts if one.range is not None
        ]
        count = sum(found.alternatives for _, found in current)
        if count > MAX_ALTERNATIVES:
            raise MetadataFormatError(
                f"ranges of layouts have {count} alternatives, more than "
                f"{MAX_ALTERNATIVES}"
            )
        for place, (number, found) in enumerate(current):
            for other, taken in current[:place]:
                if found.overlaps(taken):
                    raise MetadataFormatError(
                        f"layouts {other} and {number} serve the same versions: "
                        f"{taken} and {found}"
                    )

    def _check_keys(self) -> None:
        unique((one.keyid for one in self.keys), what="keys")
        known = {one.keyid for one in self.keys}
        used = {keyid for rule in self.attestations for keyid in rule.keyids}
        if self.summary is not None:
            used.update(self.summary.keyids)
        if not used <= known:
            raise MetadataFormatError(
                f"publisher policy names the key {min(used - known)}, which is not "
                "among its keys"
            )

    @property
    def asks_provenance(self) -> bool:
        """Whether a release must show how it was made, or what is said of it."""
        return self.provenance == "required" or bool(self.attestations)

    def keys_of(self, rule: AttestationRule | SummaryRule) -> dict[str, Key]:
        """Return the keys that a rule of it names, by key id."""
        return {
            one.keyid: one.to_key() for one in self.keys if one.keyid in rule.keyids
        }

    def layout(self, number: int) -> LayoutRule | None:
        """Return what is said of one layout."""
        return next((one for one in self.layouts if one.number == number), None)

    def layout_for(
        self, version: Version, release: Digest | None = None
    ) -> LayoutRule | None:
        """Return the layout that serves a release, the current one first."""
        ordered = sorted(self.layouts, key=lambda one: one.range is None)
        return next((one for one in ordered if one.serves(version, release)), None)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse unverified bytes.

        Raises:
            MetadataFormatError: above 1 MiB, another format, an unknown field, a
                wrong type or a value beyond its limits.
        """
        value = strict_json.parse(data, what="publisher policy", limit=MAX_POLICY)
        fields = Fields(value, what="publisher policy")
        check_format(fields, FORMAT)
        policy = cls(
            epoch=fields.integer("epoch"),
            provenance=fields.parsed("provenance", _provenance),
            layouts=tuple(
                LayoutRule.parse(one)
                for one in fields.objects("layouts", limit=MAX_LAYOUTS)
            ),
            **_statements(fields),
            minimum_version=fields.optional("minimumVersion", Version.parse),
            revoked_functionaries=tuple(
                RevokedFunctionary.parse(one)
                for one in fields.objects(
                    "revokedFunctionaries", limit=MAX_FUNCTIONARIES
                )
            ),
            reinstated=tuple(
                Reinstatement.parse(one)
                for one in fields.objects("reinstated", limit=MAX_DIGESTS)
            ),
            downgrade_to=fields.list_of("downgradeTo", Digest.parse, limit=MAX_DIGESTS),
        )
        fields.done()
        return policy

    def to_bytes(self) -> bytes:
        """Return the policy's file; the same policy always gives the same bytes.

        Raises:
            MetadataFormatError: above 1 MiB.
        """
        value: dict[str, Any] = {
            "format": FORMAT,
            "epoch": self.epoch,
            "provenance": self.provenance,
            "layouts": [one.to_dict() for one in self.layouts],
            "attestations": [one.to_dict() for one in self.attestations],
            "revokedFunctionaries": [
                one.to_dict() for one in self.revoked_functionaries
            ],
            "reinstated": [one.to_dict() for one in self.reinstated],
            "downgradeTo": _texts(self.downgrade_to),
        }
        if self.keys:
            value["keys"] = [one.to_dict() for one in self.keys]
        if self.summary is not None:
            value["summary"] = self.summary.to_dict()
        if self.minimum_version is not None:
            value["minimumVersion"] = str(self.minimum_version)
        data = strict_json.canonical(value)
        if len(data) > MAX_POLICY:
            raise MetadataFormatError(
                f"publisher policy would have {len(data)} bytes, more than the limit "
                f"of {MAX_POLICY}",
                hint="drop digests that no device needs any more",
            )
        return data


def _statements(fields: Fields) -> dict[str, Any]:
    """Return what the policy says of statements; most policies say nothing."""
    rules = list(fields.objects("attestations", limit=MAX_ATTESTATIONS))
    keys: list[Fields] = []
    if fields.has("keys"):
        keys.extend(fields.objects("keys", limit=MAX_KEYS))
    summary = fields.object("summary") if fields.has("summary") else None
    if not rules and not keys and summary is None:
        return {}
    from margo_supplychain.formats.attestation_rules import (
        AttestationRule,
        PolicyKey,
        SummaryRule,
    )

    return {
        "attestations": tuple(AttestationRule.parse(one) for one in rules),
        "keys": tuple(PolicyKey.parse(one) for one in keys),
        "summary": None if summary is None else SummaryRule.parse(summary),
    }


def _range(fields: Fields) -> Pin:
    grammar = fields.text("grammar")
    if grammar != "npm":
        raise MetadataFormatError(
            f"{fields.what}.grammar is {grammar[:40]!r}, expected 'npm'"
        )
    found = fields.parsed("text", lambda text: Pin.range(text, grammar="npm"))
    fields.done()
    return found


def _provenance(text: str) -> Provenance:
    if text not in ("required", "none"):
        raise MetadataFormatError(
            f"provenance is {text[:40]!r}, expected 'required' or 'none'"
        )
    return cast("Provenance", text)


def _within(value: int, most: int, *, what: str) -> None:
    if not 1 <= value <= most:
        raise MetadataFormatError(f"{what} is {value}, expected 1 to {most}")


def _digests(values: Sequence[Digest], *, what: str) -> None:
    if len(values) > MAX_DIGESTS:
        raise MetadataFormatError(
            f"{what} has {len(values)} digests, more than {MAX_DIGESTS}"
        )
    unique(values, what=what)


def _texts(digests: Sequence[Digest]) -> list[str]:
    return [str(one) for one in digests]
