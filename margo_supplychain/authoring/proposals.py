"""Root proposals: the partly signed root file itself, passed from hand to hand.

A proposal is the exact file that will be published once enough people signed it. No
server, no state: what is missing stands in the file. Every proposal in memory follows
its trusted root, locks nobody out and holds only signatures that verify, of keys of
the old or the new root. Another payload is another proposal.

Example:
    >>> proposal = RootProposal.parse(data, trusted=trusted)  # doctest: +SKIP
    >>> proposal = proposal.sign(signer)  # doctest: +SKIP
    >>> proposal.old.met, proposal.new.met  # doctest: +SKIP
    (True, False)
"""

from __future__ import annotations

import hashlib
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Never, NoReturn, Self, final

from margo_supplychain import threshold
from margo_supplychain.authoring import consent, difference
from margo_supplychain.authoring.envelopes import (
    check_envelope,
    entries_of,
    with_entries,
)
from margo_supplychain.authoring.holders import known_holders
from margo_supplychain.authoring.proposal_rules import (
    check_issued,
    check_proposal,
    check_returning,
    check_time,
)
from margo_supplychain.authoring.proposing import first_root, keeping_ids, next_root
from margo_supplychain.authoring.raw_signatures import encodings
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    IncompleteError,
    MetadataFormatError,
    RefusedError,
    SignerError,
)
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.tuf_metadata import parse_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from securesystemslib.signer import Key, Signer
    from tuf.api.metadata import Root

    from margo_supplychain.authoring.difference import Difference
    from margo_supplychain.authoring.holders import Holder
    from margo_supplychain.authoring.plan import RootPlan
    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.threshold import ThresholdStatus

_SEAL: Final = object()


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SignedRoot:
    """A root that both thresholds signed; made by `RootProposal.finalize` alone.

    Args:
        root: the file; the first root was signed by its own threshold.
    """

    root: RoleFile[Root]
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            _refuse()

    @property
    def data(self) -> bytes:
        """Exactly the bytes to publish."""
        return self.root.data

    @property
    def version(self) -> int:
        """The root's version."""
        return self.root.version

    def __copy__(self) -> Never:
        _refuse()

    def __deepcopy__(self, memo: object) -> Never:
        _refuse()

    def __reduce__(self) -> Never:
        _refuse()

    def __getstate__(self) -> Never:
        _refuse()

    def __setstate__(self, state: object) -> Never:
        _refuse()

    def __init_subclass__(cls, **_: Any) -> None:
        _refuse()


def _refuse() -> NoReturn:
    raise TypeError("SignedRoot is made only by RootProposal.finalize")


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RootProposal:
    """A root that is not yet signed by everybody, and the root that it follows.

    Args:
        root: the exact, partly signed file.
        trusted: the verified root before it; None for a first root.

    Attributes:
        old: who signed of the trusted root's keys; None for a first root.
        new: who signed of the proposed root's own keys.

    Raises:
        MetadataFormatError: something stands around what is signed (`check_envelope`).
        RefusedError: it would lock somebody out (`check_proposal`); a signature does
            not verify, or is of a key that is in neither root.
    """

    root: RoleFile[Root]
    trusted: RoleFile[Root] | None
    old: ThresholdStatus | None = field(init=False)
    new: ThresholdStatus = field(init=False)

    def __post_init__(self) -> None:
        check_proposal(self.root, self.trusted)
        given = len(self.root.metadata.signatures)
        if given > threshold.MAX_SIGNATURES:
            raise RefusedError(
                f"{self.root.label} has {given} signatures, more than "
                f"{threshold.MAX_SIGNATURES}",
                hint="ask whoever proposed it for the file; nothing was changed",
            )
        check_envelope(self.root)
        # Frozen: counted once, when the signatures are known.
        old = None if self.trusted is None else _count(self.root, self.trusted)
        object.__setattr__(self, "old", old)
        object.__setattr__(self, "new", _count(self.root, self.root))
        self._check_signatures()

    # --- making and reading -----------------------------------------------------------

    @classmethod
    def first(cls, plan: RootPlan, *, now: datetime) -> Self:
        """Propose the first root of a repository.

        Raises:
            RefusedError: it would lock somebody out.
        """
        return cls._made(first_root(plan, now), None, now)

    @classmethod
    def following(cls, trusted: bytes, plan: RootPlan, *, now: datetime) -> Self:
        """Propose the root after a trusted one.

        Args:
            trusted: the root that stands, verified by the caller.
            plan: the whole of what the next one shall say. What other tools wrote into
                the trusted root is carried along.
            now: when; signatures last from here.

        Raises:
            RefusedError: it would lock somebody out.
        """
        before = parse_root(trusted, limit=LIMITS.root)
        plan = keeping_ids(plan, before.signed)
        return cls._made(next_root(trusted, plan, now), before, now)

    @classmethod
    def _made(
        cls, signed: dict[str, Any], trusted: RoleFile[Root] | None, now: datetime
    ) -> Self:
        data = strict_json.canonical({"signatures": [], "signed": signed})
        proposal = cls(root=parse_root(data, limit=LIMITS.root), trusted=trusted)
        proposal.check_time(now)
        return proposal

    @classmethod
    def parse(cls, data: bytes, *, trusted: bytes | None) -> Self:
        """Parse a proposal that somebody handed over.

        Args:
            data: unverified.
            trusted: the root that it must follow, verified by the caller; None for a
                first root.

        Raises:
            MetadataFormatError: no root, or not one that this package reads.
            RefusedError: see the class.
        """
        before = None if trusted is None else parse_root(trusted, limit=LIMITS.root)
        return cls(root=parse_root(data, limit=LIMITS.root), trusted=before)

    # --- what it says -----------------------------------------------------------------

    @property
    def data(self) -> bytes:
        """The exact file."""
        return self.root.data

    @property
    def version(self) -> int:
        """The proposed root's version."""
        return self.root.version

    @property
    def payload(self) -> bytes:
        """The bytes that every signature covers."""
        return self.root.payload

    @property
    def digest(self) -> str:
        """What makes it this proposal: sha256 hex of the payload."""
        return hashlib.sha256(self.root.payload).hexdigest()

    @property
    def keys(self) -> Mapping[str, Key]:
        """The keys that may sign it, by key id: those of the old and the new root."""
        found: dict[str, Key] = {}
        for file in (self.trusted, self.root):
            if file is not None:
                for keyid in file.signed.roles["root"].keyids:
                    if keyid in file.signed.keys:
                        found.setdefault(keyid, file.signed.keys[keyid])
        return found

    @property
    def signed_by(self) -> frozenset[str]:
        """The key ids whose signatures it holds."""
        found = self.root.metadata.signatures
        return frozenset(one for one in found if found[one].signature)

    @property
    def holders(self) -> Mapping[str, Holder]:
        """Who holds the keys; those of the trusted root as that one names them.

        So no proposal can rename who must consent.
        """
        before = {} if self.trusted is None else known_holders(self.trusted.signed)
        return {**known_holders(self.root.signed), **before}

    def ids_of(self, key: Key) -> list[str]:
        """Return the ids under which a key may sign it; two, if each root has its own.

        Raises:
            RefusedError: the key is in neither root.
        """
        wanted = threshold.material(key)
        found = [
            keyid
            for keyid, one in self.keys.items()
            if threshold.material(one) == wanted
        ]
        if not found:
            raise self._foreign(key.keyid)
        return found

    def difference(self) -> Difference:
        """Return what it changes of the trusted root."""
        return difference.between(self.trusted, self.root)

    def check_time(self, now: datetime) -> None:
        """Refuse a proposal that nobody could use any more, or that comes too early.

        Raises:
            RefusedError: it has expired; or was issued more than an hour after `now`.
        """
        check_time(self.root, now)
        check_issued(self.root, now, self.trusted)

    def check_returning(self, earlier: Iterable[Root]) -> None:
        """Refuse keys that left before; see `proposal_rules.check_returning`."""
        check_returning(self.root, earlier)

    # --- signing ----------------------------------------------------------------------

    def sign(self, signer: Signer) -> Self:
        """Return it with a signature more; with the same ones if the key has signed.

        Raises:
            RefusedError: the key is in neither root.
            SignerError: the key made a signature that does not verify.
        """
        keyids = self.ids_of(signer.public_key)
        if self.signed_by.issuperset(keyids):
            return self
        made = signer.sign(self.payload).signature
        if not self._verifies(keyids[0], made):
            raise SignerError(
                f"key {keyids[0][:12]} made a signature of {self.root.label} that does "
                "not verify",
                hint="nothing was written; check the machine or token, do not go on",
            )
        return self._with([{"keyid": one, "sig": made} for one in keyids])

    def with_signature(self, keyid: str, signature: bytes | str) -> Self:
        """Return it with a signature that was made elsewhere, of `payload`.

        Args:
            keyid: whose; a key of the old or the new root.
            signature: raw bytes, or hex. Of ECDSA keys also r and s side by side, as
                tokens make them.

        Raises:
            RefusedError: the key is in neither root, or the signature does not verify.
        """
        key = self.keys.get(keyid)
        if key is None:
            raise self._foreign(keyid)
        for one in encodings(key, signature):
            if self._verifies(keyid, one):
                keyids = self.ids_of(key)
                return self._with([{"keyid": each, "sig": one} for each in keyids])
        raise RefusedError(
            f"the signature of key {keyid[:12]} does not verify",
            hint="it must cover exactly the bytes of `root sign --export-payload`, "
            f"sha256 {self.digest}; nothing was changed",
        )

    def merge(self, other: Self) -> Self:
        """Return it with the signatures of another copy, too.

        Raises:
            RefusedError: the other is another proposal: somebody signed other bytes.
        """
        if other.payload != self.payload:
            raise RefusedError(
                f"these are two proposals: {self.root.label} with sha256 {self.digest} "
                f"and {other.root.label} with sha256 {other.digest}",
                hint="signatures count for the exact bytes alone: ask whoever proposed "
                "it which one it is, and sign that; nothing was changed",
            )
        return self._with(entries_of(other.data))

    def finalize(self) -> SignedRoot:
        """Return the root, signed by the old and the new root's thresholds.

        Raises:
            IncompleteError: which of them lacks how many signatures, and of whom.
        """
        lacking = self.lacking()
        if lacking:
            raise IncompleteError(
                "; ".join(lacking),
                hint=f"hand root v{self.version} to them: `root sign`",
            )
        return SignedRoot(root=self.root, seal=_SEAL)

    def lacking(self) -> tuple[str, ...]:
        """Return what is missing, for people: `new root needs 1 more of holder B`."""
        return consent.lacking(self)

    # --- inside -----------------------------------------------------------------------

    def _foreign(self, keyid: str) -> RefusedError:
        roots = self.root.label
        if self.trusted is not None:
            roots = f"{self.trusted.label} or {roots}"
        return RefusedError(
            f"key {keyid[:12]!r} is no root key of {roots}",
            hint="only those keys sign this change: `root status` lists them",
        )

    def _verifies(self, keyid: str, signature: str) -> bool:
        from securesystemslib.signer import Signature

        given = {keyid: Signature(keyid, signature)}
        return threshold.count(
            self.payload, given, self.keys, [keyid], 1, role="root"
        ).met

    def _check_signatures(self) -> None:
        unmet = set(self.new.missing)
        if self.old is not None:
            unmet = (unmet | set(self.old.missing)) - self._counted()
        # Of tuf-on-ci's placeholders (a key id without a signature), too: nothing
        # stands in a proposal that none of its signers put there.
        for keyid in sorted(self.root.metadata.signatures):
            if keyid not in self.keys:
                raise self._foreign(keyid)
        for keyid in sorted(self.signed_by):
            if keyid in unmet:
                raise RefusedError(
                    f"the signature of key {keyid[:12]} in {self.root.label} does not "
                    "verify: it was changed, or made for another proposal",
                    hint=f"this one has sha256 {self.digest}: compare it with whoever "
                    "proposed it, and ask for the file again",
                )

    def _counted(self) -> set[str]:
        found = set(self.new.keyids)
        if self.old is not None:
            found.update(self.old.keyids)
        return found

    def _with(self, entries: Iterable[Mapping[str, Any]]) -> Self:
        """Return it with more signatures; the same set gives the same bytes."""
        data = with_entries(self.data, entries)
        root = parse_root(data, limit=LIMITS.root)
        if root.payload != self.payload:
            raise MetadataFormatError(f"{root.label} can't be written unchanged")
        return type(self)(root=root, trusted=self.trusted)


def _count(file: RoleFile[Root], by: RoleFile[Root]) -> ThresholdStatus:
    """Count who of a root's keys signed a file."""
    role = by.signed.roles["root"]
    return threshold.count(
        file.payload,
        file.metadata.signatures,
        by.signed.keys,
        role.keyids,
        role.threshold,
        role="root",
    )
