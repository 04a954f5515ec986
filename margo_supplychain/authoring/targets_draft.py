"""The next `targets` under a proposed root, signed by holders who sit apart.

As a root proposal it is the partly signed file itself, passed from hand to hand beside
that proposal: nothing but what is signed. It hands `targets` over to other keys, or to
more of them, and changes nothing else: `root finalize` compares it with what stands.

    signed by the new root's keys   it can be adopted with that root
    and by the old one's as well    no device ever meets a state that it refuses

Example:
    >>> draft = repository.draft_targets(proposal)  # doctest: +SKIP
    >>> draft = draft.sign(signer)  # doctest: +SKIP
    >>> draft.new.met, draft.old.met  # doctest: +SKIP
    (True, False)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Self, final

from margo_supplychain import threshold
from margo_supplychain.authoring.acceptance_rules import LONGEST, shortest
from margo_supplychain.authoring.draft_form import require_plain
from margo_supplychain.authoring.envelopes import check_signatures
from margo_supplychain.authoring.evidence import require_who
from margo_supplychain.authoring.holders import known_holders, named
from margo_supplychain.authoring.plan import DEFAULT_PERIODS
from margo_supplychain.authoring.role_signing import MOST_TAKEN
from margo_supplychain.authoring.roles import RoleSigners, signers_of
from margo_supplychain.authoring.settings import signed_periods
from margo_supplychain.authoring.signatures import (
    Signers,
    partly_signed,
    with_signatures,
)
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    IncompleteError,
    MetadataFormatError,
    RefusedError,
)
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.tuf_metadata import parse_targets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime, timedelta

    from securesystemslib.signer import Signer
    from tuf.api.metadata import Root, Targets

    from margo_supplychain.authoring.holders import Holder
    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.threshold import ThresholdStatus

ROLE: Final = "targets"
AGAIN: Final = (
    "draft it again (margo-supplychain root draft) and have it signed; nothing was "
    "changed"
)
_FREE: Final = frozenset(("version", "expires"))


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TargetsDraft:
    """A file of `targets` that is signed for a proposed root, perhaps not by all yet.

    Args:
        file: what is signed.
        trusted: the root that stands, verified by the caller.
        proposed: the root that it shall go with.

    Attributes:
        old, new: who has signed it, as each root counts.

    Raises:
        MetadataFormatError: a signature is not written as every client reads it.
        RefusedError: a signature does not verify, or is of a key that neither root
            gives to targets: somebody changed it.
    """

    file: RoleFile[Targets]
    trusted: RoleFile[Root]
    proposed: RoleFile[Root]
    old: ThresholdStatus = field(init=False)
    new: ThresholdStatus = field(init=False)

    def __post_init__(self) -> None:
        check_signatures(self.file)
        for name, root in (("old", self.trusted), ("new", self.proposed)):
            object.__setattr__(
                self, name, require_who(root.signed, ROLE).status(self.file)
            )
        valid = {*self.old.keyids, *self.new.keyids}
        for keyid in self.file.metadata.signatures:
            if keyid not in valid:
                raise self._refused(keyid)

    # --- making and reading -----------------------------------------------------------

    @classmethod
    def following(
        cls,
        standing: RoleFile[Targets],
        *,
        version: int,
        trusted: RoleFile[Root],
        proposed: RoleFile[Root],
        now: datetime,
    ) -> Self:
        """Return what stands as the next version, signed by nobody yet.

        Args:
            standing: verified.
            version: the first one that is free.
            trusted, proposed: see the class.
            now: when; signatures last from here, as long as the proposed root says.
        """
        from tuf.api.metadata import Targets

        signed = Targets.from_dict(_said(standing))
        signed.version = version
        signed.expires = now + _period(proposed.signed)
        who = require_who(proposed.signed, ROLE)
        file = partly_signed(signed, who, Signers(()))
        return cls(file=file, trusted=trusted, proposed=proposed)

    @classmethod
    def parse(
        cls, data: bytes, *, trusted: RoleFile[Root], proposed: RoleFile[Root]
    ) -> Self:
        """Parse a draft that somebody handed over.

        Args:
            data: unverified.
            trusted, proposed: see the class.

        Raises:
            MetadataFormatError: it is no targets file.
            RefusedError: see the class.
        """
        file = parse_targets(data, role=ROLE, limit=LIMITS.targets)
        given = len(file.metadata.signatures)
        if given > threshold.MAX_SIGNATURES:
            raise RefusedError(
                f"{file.label} has {given} signatures, more than "
                f"{threshold.MAX_SIGNATURES}",
                hint=AGAIN,
            )
        return cls(file=file, trusted=trusted, proposed=proposed)

    # --- what it says -----------------------------------------------------------------

    @property
    def data(self) -> bytes:
        """The exact file."""
        return self.file.data

    @property
    def digest(self) -> str:
        """What makes it this draft: sha256 hex of what is signed."""
        return hashlib.sha256(self.file.payload).hexdigest()

    @property
    def signed_by(self) -> frozenset[str]:
        """The key ids whose signatures it holds."""
        return frozenset(self.file.metadata.signatures)

    @property
    def holders(self) -> Mapping[str, Holder]:
        """Who holds the keys; those of the trusted root as that one names them."""
        before = known_holders(self.trusted.signed)
        return {**known_holders(self.proposed.signed), **before}

    def publishers(self) -> Iterator[RoleSigners]:
        """Yield to whom it delegates, and by which keys."""
        signed = self.file.signed
        delegations = signed.delegations
        for name in sorted((delegations and delegations.roles) or {}):
            found = signers_of(signed, name)
            if found is not None:
                yield found

    def changes(self, standing: RoleFile[Targets]) -> tuple[str, ...]:
        """Return what it would change besides version and expiry: nothing, or refused.

        Args:
            standing: verified.
        """
        before, after = _said(standing), _said(self.file)
        found = [
            f"publisher {name}" for name in _differing(_roles(before), _roles(after))
        ]
        names = set(_differing(before, after)) - _FREE
        if found:
            names.discard("delegations")
        return (*found, *sorted(names))

    def lacking(self) -> tuple[str, ...]:
        """Return what is missing, for people; a hand-over without a gap is optional."""
        if self.new.met:
            return ()
        needed = self.new.needed - len(self.new.signers)
        missing = [named(keyid, self.holders) for keyid in self.new.missing]
        text = f"{self.file.label} under root v{self.proposed.version} needs {needed}"
        return (f"{text} more of {', '.join(dict.fromkeys(missing))}",)

    # --- signing ----------------------------------------------------------------------

    def sign(
        self, signer: Signer, *, standing: RoleFile[Targets] | None = None
    ) -> Self:
        """Return it with this key's signature; as it is if the key has signed.

        Args:
            signer: the private key.
            standing: what it is compared with, verified; without it, nothing is signed
                that a screen does not show (`draft_form`).

        Raises:
            RefusedError: neither root gives the key to targets, or it changes or may
                hide something.
            SignerError: the key made a signature that does not verify.
        """
        who, signers = self._who(), Signers([signer])
        keyids = {keyid for keyid, _ in signers.of(who)}
        if not keyids:
            raise self._refused(signer.public_key.keyid)
        if keyids <= self.signed_by:
            return self
        self.require_signable(standing)
        return replace(self, file=with_signatures(self.file, who, signers=signers))

    def require_signable(self, standing: RoleFile[Targets] | None) -> None:
        """Refuse what a holder should not sign, whatever it is compared with.

        Args:
            standing: see `sign`.

        Raises:
            RefusedError: it changes what stands, or may hide something.
        """
        if standing is None:
            require_plain(self.file)
        else:
            self.require_follows(standing)

    def merge(self, other: Self) -> Self:
        """Return it with the signatures of another copy, too.

        Raises:
            RefusedError: the other one says something else.
        """
        if other.file.payload != self.file.payload:
            raise RefusedError(
                f"these are two drafts of targets: sha256 {self.digest} and "
                f"{other.digest}",
                hint="somebody drafted it anew or changed it: compare what each says; "
                "nothing was changed",
            )
        return self.with_signatures_of(other.file)

    def with_signatures_of(self, copy: RoleFile[Targets]) -> Self:
        """Return it with the signatures of a copy that count; what else is there goes.

        Args:
            copy: of the same payload; unverified.
        """
        if len(copy.metadata.signatures) > threshold.MAX_SIGNATURES:
            return self
        try:
            check_signatures(copy)
        except MetadataFormatError:
            return self  # a form of them that some clients don't read
        file = with_signatures(self.file, self._who(), files=[copy])
        return replace(self, file=file)

    # --- whether it can be adopted ----------------------------------------------------

    def require_complete(self) -> None:
        """Refuse a draft that the new root's keys have not signed.

        Raises:
            IncompleteError: names the holders who are missing.
        """
        if lacking := self.lacking():
            raise IncompleteError(
                "; ".join(lacking),
                hint="send it and the proposal to one of them: margo-supplychain root "
                "sign FILE --proposal PROPOSAL --key …; nothing was changed",
            )

    def require_lasting(self, now: datetime) -> None:
        """Refuse a draft that has expired or soon will, or that would last for ever.

        It waits for its holders and for those of root, and stands for a while then.

        Raises:
            RefusedError: it does.
        """
        expires = self.file.expires
        if expires <= now:
            raise RefusedError(
                f"{self.file.label} expired at {format_time(expires)}, before anybody "
                "adopted it",
                hint=AGAIN,
            )
        period = _period(self.proposed.signed)
        if expires < now + shortest(period):
            raise RefusedError(
                f"{self.file.label} lasts until {format_time(expires)} and no longer: "
                "devices would refuse it soon after they have seen it",
                hint=AGAIN,
            )
        if expires > now + LONGEST * period:
            raise RefusedError(
                f"{self.file.label} lasts until {format_time(expires)}, more than "
                f"{LONGEST} times the {period.days} days that root gives targets",
                hint=AGAIN,
            )

    def require_follows(self, standing: RoleFile[Targets]) -> None:
        """Refuse a draft that does not hand over exactly what stands.

        Args:
            standing: verified.

        Raises:
            RefusedError: it is older or far ahead, or says something else.
        """
        version, before = self.file.version, standing.version
        if not before < version <= before + MOST_TAKEN:
            raise RefusedError(
                f"{self.file.label} does not follow {standing.label}, which stands",
                hint=AGAIN,
            )
        changed = self.changes(standing)
        if changed:
            raise RefusedError(
                f"{self.file.label} does not say the same as {standing.label}, which "
                f"stands: {', '.join(changed)[:400]}",
                hint="with a root targets is handed over and nothing else changes; "
                f"find out who changed it, then {AGAIN}",
            )

    # --- inside -----------------------------------------------------------------------

    def _who(self) -> RoleSigners:
        """Return the keys of both roots; each counts its own."""
        old = require_who(self.trusted.signed, ROLE)
        new = require_who(self.proposed.signed, ROLE)
        return RoleSigners(ROLE, {**new.keys, **old.keys}, new.threshold)

    def _refused(self, keyid: str) -> RefusedError:
        if keyid in self._who().keys:
            return RefusedError(
                f"the signature of key {keyid[:12]} does not verify: it covers "
                f"something else than {self.file.label} as it is here",
                hint="it was changed after it was signed, or exchanged: ask whoever "
                "sent it; nothing was changed",
            )
        return RefusedError(
            f"key {keyid[:12]} is no key of targets in root v{self.trusted.version} "
            f"or root v{self.proposed.version}",
            hint="its own proposal goes with each draft (--proposal, --with); nothing "
            "was changed",
        )


def _period(root: Root) -> timedelta:
    return signed_periods(root).get("targets", DEFAULT_PERIODS["targets"])


def _said(file: RoleFile[Targets]) -> dict[str, Any]:
    parsed = strict_json.parse(file.data, what=ROLE, limit=LIMITS.targets)
    found: dict[str, Any] = parsed["signed"]
    return found


def _roles(said: dict[str, Any]) -> dict[str, Any]:
    """Return each delegation with the keys that it names."""
    delegations = said.get("delegations") or {}
    keys = delegations.get("keys", {})
    return {
        one["name"]: (one, [keys.get(keyid) for keyid in one["keyids"]])
        for one in delegations.get("roles") or ()
    }


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    # As bytes: to Python 1 is True, and what is not there is null.
    names = sorted({*before, *after})
    return [one for one in names if _bytes(before, one) != _bytes(after, one)]


def _bytes(said: Mapping[str, Any], name: str) -> bytes | None:
    return strict_json.canonical(said[name]) if name in said else None
