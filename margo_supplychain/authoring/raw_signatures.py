"""Signatures that were made elsewhere, in the forms that tools write them.

Metadata holds ECDSA signatures as DER, in hex. Tokens and some clouds give the two
numbers side by side instead (PKCS#11, IEEE P1363).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securesystemslib.signer import Key

MAX_SIGNATURE: Final = 16 * 1024  # bytes; ML-DSA-87 has 4.6 kB
_SIDE_BY_SIDE: Final = {"ecdsa-sha2-nistp256": 64, "ecdsa-sha2-nistp384": 96}


def encodings(key: Key, signature: bytes | str) -> Iterator[str]:
    """Yield the hex forms that a signature may mean, as metadata would hold them.

    Raises:
        RefusedError: empty, too long, or text that is not hex.
    """
    raw = _raw(signature)
    if not 0 < len(raw) <= MAX_SIGNATURE:
        raise RefusedError(
            f"the signature has {len(raw)} bytes, expected 1 to {MAX_SIGNATURE}",
            hint="give the file that the key's holder made; nothing was changed",
        )
    yield raw.hex()
    if len(raw) == _SIDE_BY_SIDE.get(key.scheme):
        from cryptography.hazmat.primitives.asymmetric.utils import (
            encode_dss_signature,
        )

        half = len(raw) // 2
        yield encode_dss_signature(
            int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
        ).hex()


def _raw(signature: bytes | str) -> bytes:
    if isinstance(signature, bytes):
        return signature
    try:
        return bytes.fromhex(signature)
    except ValueError as why:
        raise RefusedError(
            "the signature is not hex",
            hint="give its bytes, or hex digits; nothing was changed",
        ) from why
