"""Signing payloads as DSSE envelopes, by one key or by several, at once or in turn.

What is signed is the pre-authentication encoding of the exact payload bytes; whoever
adds a signature keeps them.

Example:
    >>> data = sign_envelope(PAYLOAD, statement, [signer])  # doctest: +SKIP
    >>> data = add_signatures(data, [second])  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.errors import SignerError
from margo_supplychain.formats.dsse import Envelope, EnvelopeSignature
from margo_supplychain.signing.checked import public_half
from margo_supplychain.threshold import distinct_signers, material

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securesystemslib.signer import Signer


def sign_envelope(
    payload_type: str, payload: bytes, signers: Sequence[Signer]
) -> bytes:
    """Return the DSSE envelope of a payload that all of `signers` signed.

    Args:
        payload_type: such as `application/vnd.in-toto+json`.
        payload: exact bytes.
        signers: at least one, of distinct keys.

    Raises:
        EnvelopeFormatError: it would not be read back: too large, an empty payload.
        SignerError: no signer, two signers of one key, or one that can't sign.
    """
    _check_distinct(signers)
    return _signed(Envelope(payload_type, payload, ()), signers)


def add_signatures(envelope: bytes, signers: Sequence[Signer]) -> bytes:
    """Return an envelope with the signatures of `signers` added; its payload stays.

    A key that has signed already keeps its signature. One that does not verify is
    replaced if it names the key of a signer; others stay as they are.

    Args:
        envelope: unverified bytes of an envelope.
        signers: at least one, of distinct keys.

    Raises:
        EnvelopeFormatError: not an envelope, or one that would not be read back.
        SignerError: no signer, two signers of one key, or one that can't sign.
    """
    _check_distinct(signers)
    found = Envelope.parse(envelope, what="the envelope")
    keys = {one.public_key.keyid: one.public_key for one in signers}
    already = distinct_signers(found.pae, found.signatures, keys)
    missing = [one for one in signers if material(one.public_key) not in already]
    if not missing:
        return envelope  # byte for byte: it may be pinned by digest
    replaced = {one.public_key.keyid for one in missing}
    kept = tuple(one for one in found.signatures if one.keyid not in replaced)
    return _signed(found._replace(signatures=kept), missing)


def _signed(envelope: Envelope, signers: Sequence[Signer]) -> bytes:
    pae = envelope.pae
    made = tuple(
        EnvelopeSignature(keyid=signature.keyid, sig=bytes.fromhex(signature.signature))
        for signature in (one.sign(pae) for one in signers)
    )
    signed = envelope._replace(signatures=(*envelope.signatures, *made))
    data = signed.to_bytes()
    # What devices can't read must not be published.
    Envelope.parse(data, what="the envelope")
    return data


def _check_distinct(signers: Sequence[Signer]) -> None:
    if not signers:
        raise SignerError("no key is given to sign with")
    seen: dict[str, str] = {}
    for one in signers:
        found, keyid = material(public_half(one)), one.public_key.keyid
        if found in seen:
            raise SignerError(
                f"key {keyid[:12]} is given twice, also as {seen[found][:12]}: it "
                "counts once",
                hint="give each key once; another person signs with another key",
            )
        seen[found] = keyid
