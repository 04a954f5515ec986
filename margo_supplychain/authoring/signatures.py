"""Signing metadata: the exact bytes of a file, each signature verified as it is made.

Example:
    >>> data = signed_bytes(targets, who, signers)  # doctest: +SKIP
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain import threshold
from margo_supplychain.authoring.roles import RoleSigners
from margo_supplychain.errors import (
    FormatError,
    IncompleteError,
    SignerError,
    ThresholdError,
)
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.tuf_metadata import (
    canonical_payload,
    parse_role,
    parse_targets,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from securesystemslib.signer import Signature, Signer
    from tuf.api.metadata import Signed, Targets

    from margo_supplychain.formats.tuf_metadata import RoleFile, T


_CONTROL: Final = re.compile(rb"[\x00-\x1f]")


class Signers:
    """The private keys at hand, by key material.

    Args:
        signers: opened keys; the same key twice is one.
    """

    def __init__(self, signers: Iterable[Signer]) -> None:
        self._by_material = {threshold.material(one.public_key): one for one in signers}

    @property
    def is_empty(self) -> bool:
        """Whether there are none: then nothing can be signed."""
        return not self._by_material

    def of(self, who: RoleSigners) -> list[tuple[str, Signer]]:
        """Return those that may sign a role, with the key id each has there."""
        found = []
        for keyid, key in who.keys.items():
            signer = self._by_material.get(threshold.material(key))
            if signer is not None:
                found.append((keyid, signer))
        return found

    def suffice(self, who: RoleSigners) -> bool:
        """Say whether the keys at hand meet a role's threshold."""
        return len(self.of(who)) >= who.threshold


def require_complete(roles: Sequence[RoleSigners], signers: Signers) -> None:
    """Refuse to begin when a role would lack signatures.

    Raises:
        IncompleteError: names every role and the keys that are missing.
    """
    lacking, keys = {}, {}
    for who in roles:
        at_hand = {keyid for keyid, _ in signers.of(who)}
        if len(at_hand) < who.threshold:
            missing = ", ".join(
                keyid[:12] for keyid in who.keys if keyid not in at_hand
            )
            more = who.threshold - len(at_hand)
            lacking[who.role] = f"{who.role} needs {more} more of {missing}"
            keys[who.role] = tuple(who.keys)
    if lacking:
        raise IncompleteError(
            "; ".join(lacking.values()),
            roles=keys,
            hint="give the private keys of every role that is signed; nothing was "
            "changed",
        )


def signed_bytes(signed: Signed, who: RoleSigners, signers: Signers) -> bytes:
    """Return a metadata file: compact JSON with sorted keys, signed by all at hand.

    Raises:
        SignerError: a key made a signature that does not verify.
        IncompleteError: fewer signatures than the threshold.
    """
    require_complete([who], signers)
    content: dict[str, Any] = signed.to_dict()
    payload = canonical_payload(content)
    signatures = [
        _sign(payload, keyid, signer, who) for keyid, signer in signers.of(who)
    ]
    by_id = {one.keyid: one for one in signatures}
    status = who.counted(payload, by_id)
    if not status.met:
        raise SignerError(
            f"{who.role} has {len(status.signers)} valid signatures of its own keys, "
            f"expected {who.threshold}",
            hint="nothing was written; check the keys or tokens",
        )
    made = [one.to_dict() for one in signatures]
    if _CONTROL.search(payload) is None:
        # Then canonical JSON is JSON, and need not be written a second time.
        head = strict_json.canonical({"signatures": made, "signed": {}})
        return head.removesuffix(b"{}}\n") + payload + b"}\n"
    return strict_json.canonical({"signatures": made, "signed": content})


def partly_signed(
    signed: Targets, who: RoleSigners, signers: Signers
) -> RoleFile[Targets]:
    """Return a targets role, signed by those at hand: perhaps by too few, or nobody.

    Raises:
        SignerError: a key made a signature that does not verify.
    """
    data = strict_json.canonical({"signatures": [], "signed": signed.to_dict()})
    file = parse_targets(data, role=who.role, limit=len(data))
    return with_signatures(file, who, signers=signers)


def with_signatures(
    file: RoleFile[T],
    who: RoleSigners,
    *,
    signers: Signers | None = None,
    files: Sequence[RoleFile[T]] = (),
) -> RoleFile[T]:
    """Return a partly signed file with more signatures; what is signed stays.

    Signatures that none of the role's keys made are left out, in whatever file.

    Args:
        file: what is signed.
        who: the role's keys.
        signers: keys that sign it now, as far as they are keys of the role.
        files: more copies of it, whose signatures count as well.

    Raises:
        SignerError: a key made a signature that does not verify.
    """
    found: dict[str, Signature] = {}
    given_by = [file.metadata.signatures, *(one.metadata.signatures for one in files)]
    for given in given_by:
        status = who.counted(file.payload, given)
        found |= {keyid: given[keyid] for keyid in status.keyids}
    for keyid, signer in (signers or Signers(())).of(who):
        found[keyid] = _sign(file.payload, keyid, signer, who)
    content: dict[str, Any] = strict_json.parse(
        file.data, what=who.role, limit=len(file.data)
    )
    content["signatures"] = [found[keyid].to_dict() for keyid in sorted(found)]
    data = strict_json.canonical(content)
    return parse_role(data, role=who.role, limit=len(data))


def with_own_signature(file: RoleFile[T], signer: Signer) -> RoleFile[T]:
    """Return a partly signed file with one more signature, under the key's own id.

    For somebody who can't know the role's keys: nothing that others signed is dropped
    or counted. Whether the key is one of them is for others to say.

    Raises:
        SignerError: the key made a signature that does not verify.
    """
    key = signer.public_key
    made = _sign(
        file.payload, key.keyid, signer, RoleSigners(file.role, {key.keyid: key}, 1)
    )
    content: dict[str, Any] = strict_json.parse(
        file.data, what=file.role, limit=len(file.data)
    )
    found = {one["keyid"]: one for one in content["signatures"]}
    found[key.keyid] = made.to_dict()
    content["signatures"] = [found[keyid] for keyid in sorted(found)]
    data = strict_json.canonical(content)
    return parse_role(data, role=file.role, limit=len(data))


def same_but_for_expiry(
    found: bytes, ours: Signed, who: RoleSigners, *, now: datetime
) -> datetime | None:
    """Return when a file expires that says what we would sign, if it verifies.

    Args:
        found: unverified, whatever a place has under the name of `ours`.
        ours: what would be signed, with its version and expiry.
        who: the role's keys.
        now: when.

    Returns:
        None unless a threshold of the role's keys signed it, every field but the
        expiry is ours, and it lasts nearly as long: what expires soon is no renewal.
    """
    file = signed_by(found, who)
    if file is None:
        return None
    theirs: dict[str, Any] = strict_json.parse(found, what=who.role, limit=len(found))[
        "signed"
    ]
    expected: dict[str, Any] = ours.to_dict()
    theirs.pop("expires")
    expected.pop("expires")
    least = ours.expires - (ours.expires - now) / 10
    return file.expires if theirs == expected and least <= file.expires else None


def signed_by(data: bytes, who: RoleSigners) -> RoleFile[Any] | None:
    """Return the metadata in `data` if a threshold of a role's keys signed it.

    Args:
        data: unverified; whoever asks has bounded its size.
        who: the role and its keys.
    """
    try:
        file = parse_role(data, role=who.role, limit=max(len(data), 1))
        status = who.status(file)
    except (FormatError, ThresholdError):
        return None
    return file if status.met else None


def _sign(payload: bytes, keyid: str, signer: Signer, who: RoleSigners) -> Signature:
    from securesystemslib.exceptions import (
        UnverifiedSignatureError,
        VerificationError,
    )
    from securesystemslib.signer import Signature

    made = signer.sign(payload)
    # The delegator's name for the key counts, not the signer's own.
    signature = Signature(keyid, made.signature, made.unrecognized_fields)
    try:
        who.keys[keyid].verify_signature(signature, payload)
    except (UnverifiedSignatureError, VerificationError) as why:
        raise SignerError(
            f"key {keyid[:12]} made a signature of {who.role} that does not verify",
            hint="nothing was written; check the machine or token, do not go on",
        ) from why
    return signature
