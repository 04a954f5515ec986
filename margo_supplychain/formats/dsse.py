"""DSSE envelopes: exact payload bytes, what type they claim, and unverified signatures.

Whose signatures count is for `threshold` to say. What was signed, `pae`, is made of the
very bytes that readers of the payload get; nothing is serialised again to verify. Key
ids are hints and may be missing (DSSE 1.0, envelope.md and protocol.md). Fields that
DSSE does not define are skipped: nothing signs them, and nothing reads them.

Example:
    >>> envelope = Envelope.parse(
    ...     b'{"payloadType":"text/plain","payload":"aGk=",'
    ...     b'"signatures":[{"sig":"AAAA"}]}',
    ...     what="example")
    >>> envelope.payload, envelope.pae
    (b'hi', b'DSSEv1 10 text/plain 2 hi')
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from margo_supplychain.errors import EnvelopeFormatError
from margo_supplychain.formats import strict_json

if TYPE_CHECKING:
    from collections.abc import Mapping

PAYLOAD: Final = "application/vnd.in-toto+json"
"""The payload type of layouts, links and statements, as we write it."""

MAX_ENVELOPE: Final = 64 << 20  # bytes
MAX_SIGNATURES: Final = 64
MAX_SIGNATURE: Final = 16 << 10  # bytes; ML-DSA-87 has 4.6 kB
MAX_KEYID: Final = 1024  # characters
_SPREAD: Final = 1024  # bytes for each JSON value: nearly everything is the payload
_TYPE: Final = re.compile(r"[!-~]{1,255}", re.ASCII)
# in-toto attestation framework 1.2, spec/v1/envelope.md: with or without a predicate,
# which is no reliable sign of the predicate's type.
_IN_TOTO: Final = re.compile(
    r"application/vnd\.in-toto(?:\.[a-z0-9][a-z0-9._-]{0,99})?\+json", re.ASCII
)
_URL_SAFE: Final = str.maketrans("-_", "+/")


class EnvelopeSignature(NamedTuple):
    """One unverified signature.

    Args:
        keyid: whose it may be, a hint; None when the envelope does not say.
        sig: raw bytes.
    """

    keyid: str | None
    sig: bytes


class Envelope(NamedTuple):
    """A well-formed envelope; nothing of it is verified.

    Args:
        payload_type: the media type that was signed with the payload.
        payload: exact bytes.
        signatures: at least one.
    """

    payload_type: str
    payload: bytes
    signatures: tuple[EnvelopeSignature, ...]

    @classmethod
    def parse(cls, data: bytes, *, what: str, limit: int = MAX_ENVELOPE) -> Self:
        """Parse unverified bytes.

        Args:
            data: unverified JSON.
            what: names the envelope in errors.
            limit: most bytes that are looked at.

        Raises:
            EnvelopeFormatError: not strict JSON, above `limit`, without payload or
                signatures, with more than 64, or with what is not base64 (standard or
                URL-safe, padded).
        """
        raw = strict_json.parse(
            data, what=what, limit=limit, error=EnvelopeFormatError, spread=_SPREAD
        )
        _refuse_other_forms(raw, what)
        kind = raw.get("payloadType")
        if not isinstance(kind, str) or _TYPE.fullmatch(kind) is None:
            raise EnvelopeFormatError(
                f"{what} has the payload type {kind!r:.80}, expected a media type or "
                "a URI"
            )
        return cls(
            payload_type=kind,
            payload=_decoded(raw.get("payload"), f"the payload of {what}"),
            signatures=_signatures(raw.get("signatures"), what),
        )

    @property
    def pae(self) -> bytes:
        """What is signed: type and payload, each with its length (protocol.md)."""
        return pae(self.payload_type, self.payload)

    def to_bytes(self) -> bytes:
        """Return the envelope's file; the same envelope always gives the same bytes.

        Raises:
            EnvelopeFormatError: it would not be read back: too large, no signature or
                more than 64.
        """
        if not 0 < len(self.signatures) <= MAX_SIGNATURES:
            raise EnvelopeFormatError(
                f"the envelope would have {len(self.signatures)} signatures, expected "
                f"1 to {MAX_SIGNATURES}"
            )
        data = strict_json.canonical(
            {
                "payload": _encoded(self.payload),
                "payloadType": self.payload_type,
                # An empty key id says as much as none; in-toto-python demands one.
                "signatures": [
                    {"keyid": one.keyid or "", "sig": _encoded(one.sig)}
                    for one in self.signatures
                ],
            }
        )
        if len(data) > MAX_ENVELOPE:
            raise EnvelopeFormatError(
                f"the envelope would have {len(data)} bytes, more than the limit of "
                f"{MAX_ENVELOPE}",
                hint="attest to fewer files, or to an archive of them",
            )
        return data


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding, which is what keys sign."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def is_in_toto(payload_type: str) -> bool:
    """Say whether a payload of this type is JSON with an in-toto `_type`."""
    return _IN_TOTO.fullmatch(payload_type) is not None


def _refuse_other_forms(raw: Mapping[str, Any], what: str) -> None:
    """Say what to do with what other tools write in place of an envelope."""
    if "payload" in raw:
        return
    if "signed" in raw:
        raise EnvelopeFormatError(
            f"{what} is in-toto's older form of metadata (Metablock), expected a DSSE "
            "envelope",
            hint="sign it again as DSSE, as `in-toto-run --use-dsse` does",
        )
    if "dsseEnvelope" in raw:
        raise EnvelopeFormatError(
            f"{what} is a sigstore bundle, expected the DSSE envelope in it",
            hint="take the value of its field dsseEnvelope",
        )
    if "_type" in raw:
        raise EnvelopeFormatError(
            f"{what} is not signed: it is a bare document of in-toto, expected a DSSE "
            "envelope with it",
            hint="let `attest add` sign it; links are signed by `attest run`",
        )


def _signatures(value: object, what: str) -> tuple[EnvelopeSignature, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_SIGNATURES:
        count = f"{len(value)}" if isinstance(value, list) else "no list of"
        raise EnvelopeFormatError(
            f"{what} has {count} signatures, expected 1 to {MAX_SIGNATURES}"
        )
    return tuple(
        _signature(one, f"signature {number} of {what}")
        for number, one in enumerate(value, 1)
    )


def _signature(value: object, what: str) -> EnvelopeSignature:
    if not isinstance(value, dict):
        raise EnvelopeFormatError(f"{what} is no object")
    keyid: Any = value.get("keyid", "")
    if not isinstance(keyid, str) or len(keyid) > MAX_KEYID:
        raise EnvelopeFormatError(
            f"{what} has the key id {keyid!r:.80}, expected text of up to {MAX_KEYID} "
            "characters"
        )
    sig = _decoded(value.get("sig"), what)
    if len(sig) > MAX_SIGNATURE:
        raise EnvelopeFormatError(
            f"{what} has {len(sig)} bytes, more than the limit of {MAX_SIGNATURE}"
        )
    return EnvelopeSignature(keyid=keyid or None, sig=sig)


def _decoded(value: object, what: str) -> bytes:
    """Decode base64 of either alphabet (protocol.md), strictly."""
    if not isinstance(value, str):
        raise EnvelopeFormatError(f"{what} is {value!r:.40}, expected base64")
    if not value:
        raise EnvelopeFormatError(f"{what} is empty")
    text = value
    if "-" in text or "_" in text:
        if "+" in text or "/" in text:
            raise EnvelopeFormatError(f"{what} mixes two alphabets of base64")
        text = text.translate(_URL_SAFE)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as why:
        raise EnvelopeFormatError(f"{what} is not base64") from why
    # The decoder takes any number of `=` behind a whole group.
    if len(text) != (len(data) + 2) // 3 * 4:
        raise EnvelopeFormatError(f"{what} is not base64")
    return data


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
