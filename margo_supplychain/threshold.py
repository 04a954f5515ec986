"""The one place that counts signatures.

A threshold is met by distinct keys, and two keys are distinct when their *material*
differs: the same key under a second key id, in another encoding or with another scheme
counts once (TUF 5.3.4, 5.4.2, 5.5.3; CVE-2020-15093 and its relatives). Knows nothing
of versions, times or paths.

Example:
    >>> material(key_a) == material(key_a_under_another_id)  # doctest: +SKIP
    True
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Signature, SSlibKey

from margo_supplychain.errors import KeyFormatError, ThresholdError
from margo_supplychain.formats import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from securesystemslib.signer import Key

MAX_SIGNATURES: Final = 256  # per file; bounds the work that a hostile file can ask for
MAX_ATTEMPTS: Final = (
    1024  # to verify signatures of one payload with one of several keys
)
MAX_HASHED: Final = 1 << 30  # bytes that such attempts hash, in all
# PKCS#11, JOSE and DSSE's own example put the two numbers side by side (IEEE P1363).
_SIDE_BY_SIDE: Final = {"ecdsa-sha2-nistp256": 64, "ecdsa-sha2-nistp384": 96}


class ThresholdStatus(NamedTuple):
    """Who signed a payload, and how many must.

    Args:
        role: the role that the keys were counted for.
        needed: the threshold, from 1.
        signers: the material of each distinct key with a valid signature.
        keyids: key ids with a valid signature, one per material.
        missing: key ids of the role without a valid signature.
    """

    role: str
    needed: int
    signers: frozenset[str]
    keyids: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def met(self) -> bool:
        """Whether enough distinct keys signed."""
        return len(self.signers) >= self.needed

    def require(self, subject: str) -> None:
        """Raise `ThresholdError` about `subject` unless the threshold is met."""
        if not self.met:
            raise ThresholdError(
                f"{subject} has {len(self.signers)} of {self.needed} required "
                f"signatures (missing: {_shortened(self.missing)})",
                role=self.role,
                needed=self.needed,
                valid=len(self.signers),
                missing=self.missing,
            )


def _shortened(keyids: Iterable[str]) -> str:
    return ", ".join(one[:12] for one in list(keyids)[:8]) or "none"


def material(key: Key) -> str:
    """Return what makes a key distinct: sha256 hex over its SubjectPublicKeyInfo.

    Raises:
        KeyFormatError: if the key can't be read, or is of a kind that is never counted
            (only keys whose verification runs in this process are).
    """
    if not isinstance(key, SSlibKey):
        raise KeyFormatError(f"key {key.keyid[:12]} is of type {key.keytype!r:.40}")
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        # Re-encoding folds PEM layout, point compression and scheme together.
        spki = key._crypto_key().public_bytes(  # noqa: SLF001 - no public reader
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
    # The loader raises ValueError, TypeError, binascii.Error or UnsupportedAlgorithm.
    except Exception as why:
        raise KeyFormatError(f"key {key.keyid[:12]} can't be read") from why
    return hashlib.sha256(spki).hexdigest()


def keyid_matches(keyid: str, key: Key) -> bool:
    """Say whether a key id is the one computed from its key (TUF 4.2).

    Both customs are taken: with and without fields that TUF does not define.
    """
    return keyid in computed_keyids(key)


def computed_keyids(key: Key) -> tuple[str, ...]:
    """Return the ids that are computed of a key, by either custom."""
    plain = {"keytype": key.keytype, "scheme": key.scheme, "keyval": key.keyval}
    forms = [plain]
    if key.unrecognized_fields:
        forms.append({**key.unrecognized_fields, **plain})
    return tuple(
        hashlib.sha256(canonical_json.encode(form)).hexdigest() for form in forms
    )


def count(
    payload: bytes,
    signatures: Mapping[str, Signature],
    keys: Mapping[str, Key],
    keyids: Iterable[str],
    threshold: int,
    *,
    role: str,
) -> ThresholdStatus:
    """Count the distinct keys of a role that validly signed `payload`.

    Args:
        payload: the exact signed bytes.
        signatures: by key id, unverified.
        keys: the delegator's keys by key id.
        keyids: which of them the role has.
        threshold: how many distinct ones must sign, from 1.
        role: for messages.

    Raises:
        ThresholdError: for a threshold below 1 or more signatures than the limit.
            Not for a threshold that is not met: see `ThresholdStatus.require`.
    """
    # check 1.1: a threshold below one would be met by nothing (TUF 4.3)
    if threshold < 1:
        raise ThresholdError(
            f"{role} has a threshold of {threshold}, expected 1 or more",
            role=role,
            needed=threshold,
            valid=0,
        )
    # check 1.2: bounded work for a hostile file
    if len(signatures) > MAX_SIGNATURES:
        raise ThresholdError(
            f"{role} has {len(signatures)} signatures, more than {MAX_SIGNATURES}",
            role=role,
            needed=threshold,
            valid=0,
        )
    signers: dict[str, str] = {}
    missing: list[str] = []
    for keyid in dict.fromkeys(keyids):
        key = keys.get(keyid)
        signature = signatures.get(keyid)
        found = None
        if key is not None and signature is not None:
            found = _verified_material(key, signature, payload)
        if found is None:
            missing.append(keyid)
        else:
            # check 1.6 (instead: signers[keyid] = keyid): one material counts once
            signers.setdefault(found, keyid)
    return ThresholdStatus(
        role=role,
        needed=threshold,
        signers=frozenset(signers),
        keyids=tuple(signers.values()),
        missing=tuple(missing),
    )


def _verified_material(key: Key, signature: Signature, payload: bytes) -> str | None:
    try:
        found = material(key)
        key.verify_signature(signature, payload)
    except (KeyFormatError, UnverifiedSignatureError, VerificationError):
        return None
    return found


def distinct_signers(
    payload: bytes,
    signatures: Sequence[tuple[str | None, bytes]],
    keys: Mapping[str, Key],
) -> dict[str, str]:
    """Return the distinct keys that validly signed `payload`: material → key id.

    For DSSE, where key ids are hints: a signature counts for whichever of `keys`
    verifies it, the one that it names is tried first. Several signatures may name one
    key id; one that does not verify takes nothing from another. ECDSA signatures may be
    DER or the two numbers side by side.

    Args:
        payload: the exact signed bytes, such as DSSE's PAE.
        signatures: key id or None, and raw bytes; unverified.
        keys: by key id; whose id stands for a material that has several is the one
            that the signature names, else the first.

    Raises:
        ThresholdError: more signatures than `MAX_SIGNATURES`. Attempts beyond
            `MAX_ATTEMPTS` and `MAX_HASHED` are not made: what is left does not count.
    """
    # check 4.40: bounded work for a hostile envelope
    if len(signatures) > MAX_SIGNATURES:
        raise ThresholdError(
            f"the envelope has {len(signatures)} signatures, more than "
            f"{MAX_SIGNATURES}",
            role="envelope",
            needed=1,
            valid=0,
        )
    left = min(MAX_ATTEMPTS, MAX_HASHED // max(len(payload), 1))
    signers: dict[str, str] = {}
    counted: set[int] = set()
    for number, keyid, found in _pairs(signatures, keys):
        if number in counted or found in signers:
            continue
        key = keys[keyid]
        for form in _signature_forms(key, signatures[number][1]):
            # check 4.41: the same, where any key may have made any signature
            if left <= 0:
                return signers
            left -= 1
            if _verifies(key, form, payload):
                # check 4.42 (instead: signers[keyid] = keyid): one material counts once
                signers[found] = keyid
                counted.add(number)
                break
    return signers


def _pairs(
    signatures: Sequence[tuple[str | None, bytes]], keys: Mapping[str, Key]
) -> Iterator[tuple[int, str, str]]:
    """Yield which signature may be by which key: first as named, then all others."""
    materials: dict[str, str] = {}
    for keyid, key in keys.items():
        try:
            materials[keyid] = material(key)
        except KeyFormatError:
            continue
    for number, (named, _) in enumerate(signatures):
        if named is not None and named in materials:
            yield number, named, materials[named]
    # Two ids of one key may be of two schemes: each id is tried.
    for number, (named, _) in enumerate(signatures):
        for keyid, found in materials.items():
            if keyid != named:
                yield number, keyid, found


def _signature_forms(key: Key, signature: bytes) -> Iterator[str]:
    """Yield the hex forms that a signature may mean, as `Key` takes them."""
    yield signature.hex()
    if len(signature) == _SIDE_BY_SIDE.get(key.scheme):
        from cryptography.hazmat.primitives.asymmetric.utils import (
            encode_dss_signature,
        )

        half = len(signature) // 2
        r, s = signature[:half], signature[half:]
        yield encode_dss_signature(
            int.from_bytes(r, "big"), int.from_bytes(s, "big")
        ).hex()


def _verifies(key: Key, signature: str, payload: bytes) -> bool:
    try:
        key.verify_signature(Signature(key.keyid, signature), payload)
    except (UnverifiedSignatureError, VerificationError):
        return False
    return True


def still_met(
    signers: Iterable[str], keys: Mapping[str, Key], keyids: Iterable[str], needed: int
) -> bool:
    """Say whether earlier signers, by material, would meet a role's threshold today."""
    today = set()
    for keyid in keyids:
        key = keys.get(keyid)
        if key is not None:
            try:
                today.add(material(key))
            except KeyFormatError:
                continue
    return needed >= 1 and len(today.intersection(signers)) >= needed


def repeated_material(
    keys: Mapping[str, Key], keyids: Iterable[str]
) -> tuple[str, str] | None:
    """Return two key ids of a role that are the same key, or None."""
    seen: dict[str, str] = {}
    for keyid in keyids:
        key = keys.get(keyid)
        if key is None:
            continue
        try:
            found = material(key)
        except KeyFormatError:
            continue
        if found in seen:
            return seen[found], keyid
        seen[found] = keyid
    return None
