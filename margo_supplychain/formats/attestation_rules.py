"""Parts of a publisher policy: who may attest to a release, and with which keys.

Keys stand in the policy itself, since the publisher's offline key is their authority;
each is named by the id that is computed of it (TUF 4.2), so one id is one key. Shapes
and limits only: who signed what is for `verify` to say.

Example:
    >>> rule = AttestationRule(type="https://cyclonedx.org/bom", keyids=("ab" * 32,))
    >>> rule.covers("https://cyclonedx.org/bom/v1.6"), rule.threshold
    (True, 1)
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Self

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.formats import canonical_json
from margo_supplychain.formats.fields import line, reference, unique
from margo_supplychain.formats.predicates import (
    LINK,
    PROVENANCE,
    PROVENANCE_V02,
    SUMMARY,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securesystemslib.signer import Key

    from margo_supplychain.formats.fields import Fields

MAX_KEYS: Final = 64  # of one rule
MAX_NAMES: Final = 64  # of builders or sources of one rule
MAX_PUBLIC: Final = 16_384  # characters; the largest post-quantum key has 8,000
MAX_SUMMARY_AGE: Final = timedelta(days=3650)
_KEYID: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
# A version at the end of a predicate type, as in-toto's own types have it.
_VERSION: Final = re.compile(r"/v[0-9]+(?:\.[0-9]+)*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyKey:
    """A public key that the policy's rules name.

    Args:
        keyid: computed of the other three.
        keytype, scheme: such as `ecdsa` and `ecdsa-sha2-nistp256`.
        public: the key as TUF metadata has it: PEM, or hex for Ed25519.
    """

    keyid: str
    keytype: str
    scheme: str
    public: str

    def __post_init__(self) -> None:
        line(self.keytype, what="keytype of a key", limit=64)
        line(self.scheme, what="scheme of a key", limit=64)
        if not 0 < len(self.public) <= MAX_PUBLIC or not self.public.isascii():
            raise MetadataFormatError(
                f"key {self.keyid[:12]!r} is not 1 to {MAX_PUBLIC} ASCII characters"
            )
        computed = _keyid(self.keytype, self.scheme, self.public)
        if self.keyid != computed:
            raise MetadataFormatError(
                f"key {self.keyid[:80]!r} has the id {computed}, computed of the key"
            )

    @classmethod
    def of(cls, key: Key) -> Self:
        """Return the policy's form of a key, under the id that is computed of it."""
        public = key.keyval["public"]
        return cls(
            keyid=_keyid(key.keytype, key.scheme, public),
            keytype=key.keytype,
            scheme=key.scheme,
            public=public,
        )

    def to_key(self) -> Key:
        """Return the key that verifies signatures; it may still be unreadable."""
        from securesystemslib.signer import SSlibKey

        return SSlibKey(self.keyid, self.keytype, self.scheme, {"public": self.public})

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """Read one key; refuse unknown fields."""
        key = cls(
            keyid=fields.text("keyid"),
            keytype=fields.text("keytype"),
            scheme=fields.text("scheme"),
            public=fields.text("public"),
        )
        fields.done()
        return key

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "keyid": self.keyid,
            "keytype": self.keytype,
            "scheme": self.scheme,
            "public": self.public,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationRule:
    """A statement that every release must carry, and who may sign it.

    Args:
        type: predicate type; without a version it stands for every version.
        keyids: of the policy's keys: who may sign.
        threshold: how many distinct keys must.
        builders: identities of builders, one of which must have built; for SLSA
            provenance, empty for any.
        sources: all that it may be built from; likewise.
    """

    type: str
    keyids: tuple[str, ...]
    threshold: int = 1
    builders: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        reference(self.type, what="type of an attestation", limit=256)
        what = f"attestation {self.type}"
        # Types without a version stand for those with one.
        if self.covers(LINK) or self.covers(SUMMARY):
            raise MetadataFormatError(
                f"{what} can't be demanded of a record: layouts demand links, and a "
                "summary names the record itself"
            )
        if (self.builders or self.sources) and not self.covers_provenance:
            raise MetadataFormatError(
                f"{what} has no builders and sources: SLSA provenance has"
            )
        _signers(self.keyids, self.threshold, what=what)
        for kind, names in (("builders", self.builders), ("sources", self.sources)):
            if len(names) > MAX_NAMES:
                raise MetadataFormatError(
                    f"{kind} of {what} has {len(names)} names, more than {MAX_NAMES}"
                )
            for one in names:
                reference(one, what=f"{kind} of {what}", limit=512)
            unique(names, what=f"{kind} of {what}")

    @property
    def covers_provenance(self) -> bool:
        """Whether it demands SLSA provenance, of one version or of any."""
        return self.covers(PROVENANCE) or self.covers(PROVENANCE_V02)

    def covers(self, predicate_type: str) -> bool:
        """Say whether a statement of this type is one of those demanded."""
        if predicate_type == self.type:
            return True
        version = predicate_type.removeprefix(self.type)
        return version != predicate_type and _VERSION.fullmatch(version) is not None

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """Read one rule; refuse unknown fields."""
        rule = cls(
            type=fields.text("type"),
            keyids=fields.list_of("keyids", str, limit=MAX_KEYS),
            threshold=fields.integer("threshold"),
            builders=fields.list_of("builders", str, limit=MAX_NAMES),
            sources=fields.list_of("sources", str, limit=MAX_NAMES),
        )
        fields.done()
        return rule

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "type": self.type,
            "keyids": list(self.keyids),
            "threshold": self.threshold,
            "builders": list(self.builders),
            "sources": list(self.sources),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRule:
    """Whose verification summaries stand for the full chain, and for how long.

    Args:
        keyids: of the policy's keys: who may sign a summary.
        threshold: how many distinct keys must.
        max_age: since the summary's verification, whole seconds.
    """

    keyids: tuple[str, ...]
    threshold: int
    max_age: timedelta

    def __post_init__(self) -> None:
        _signers(self.keyids, self.threshold, what="summary")
        if (
            not timedelta(seconds=1) <= self.max_age <= MAX_SUMMARY_AGE
            or self.max_age.microseconds
        ):
            raise MetadataFormatError(
                f"maxAge of summary is {self.max_age}, expected whole seconds from 1 "
                f"to {int(MAX_SUMMARY_AGE.total_seconds())}"
            )

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """Read the rule; refuse unknown fields."""
        seconds = fields.integer("maxAge")
        most = int(MAX_SUMMARY_AGE.total_seconds())
        # Checked here as well: a `timedelta` holds no 2^53 - 1 seconds.
        if not 1 <= seconds <= most:
            raise MetadataFormatError(
                f"{fields.what}.maxAge is {seconds}, expected 1 to {most} seconds"
            )
        rule = cls(
            keyids=fields.list_of("keyids", str, limit=MAX_KEYS),
            threshold=fields.integer("threshold"),
            max_age=timedelta(seconds=seconds),
        )
        fields.done()
        return rule

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "keyids": list(self.keyids),
            "threshold": self.threshold,
            "maxAge": int(self.max_age.total_seconds()),
        }


def _keyid(keytype: str, scheme: str, public: str) -> str:
    value = {"keytype": keytype, "scheme": scheme, "keyval": {"public": public}}
    return hashlib.sha256(canonical_json.encode(value)).hexdigest()


def _signers(keyids: Sequence[str], threshold: int, *, what: str) -> None:
    # Nobody who may sign would be read as anybody.
    if not 1 <= len(keyids) <= MAX_KEYS:
        raise MetadataFormatError(
            f"{what} has {len(keyids)} keyids, expected 1 to {MAX_KEYS}"
        )
    for one in keyids:
        if _KEYID.fullmatch(one) is None:
            raise MetadataFormatError(
                f"keyids of {what} has {one[:80]!r}, not a key id of 64 hex digits"
            )
    unique(keyids, what=f"keyids of {what}")
    if not 1 <= threshold <= len(keyids):
        raise MetadataFormatError(
            f"threshold of {what} is {threshold}, expected 1 to {len(keyids)}"
        )
