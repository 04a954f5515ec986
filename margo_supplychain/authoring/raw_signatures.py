"""Signatures that were made elsewhere, in the forms that tools write them.

Metadata holds ECDSA signatures as DER, in hex. Tokens and some clouds give the two
numbers side by side instead (PKCS#11, IEEE P1363).
"""

from __future__ import annotations

import base64
import binascii
from functools import partial
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securesystemslib.signer import Key

MAX_SIGNATURE: Final = 16 * 1024  # bytes; ML-DSA-87 has 4.6 kB
_HINT: Final = "give the file that the key's holder made; nothing was changed"
_SIDE_BY_SIDE: Final = {"ecdsa-sha2-nistp256": 64, "ecdsa-sha2-nistp384": 96}


def encodings(key: Key, signature: bytes | str) -> Iterator[str]:
    """Yield the hex forms that a signature may mean, as metadata would hold them.

    Args:
        key: whose it should be.
        signature: raw bytes; or text, also as bytes: hex or base64.

    Raises:
        RefusedError: empty, too long, or text that is neither.
    """
    given = signature.encode("utf-8") if isinstance(signature, str) else signature
    if not 0 < len(given) <= MAX_SIGNATURE:
        raise RefusedError(
            f"the signature has {len(given)} bytes, expected 1 to {MAX_SIGNATURE}",
            hint=_HINT,
        )
    found = [*_decoded(given)]
    if isinstance(signature, bytes):
        found.append(given)
    if not found:
        raise RefusedError("the signature is neither hex nor base64", hint=_HINT)
    for raw in found:
        yield raw.hex()
        if len(raw) == _SIDE_BY_SIDE.get(key.scheme):
            yield _as_der(raw)


def _decoded(text: bytes) -> Iterator[bytes]:
    """Yield what text may stand for; raw bytes hardly ever look like text."""
    packed = b"".join(text.split())
    for decode in (binascii.unhexlify, partial(base64.b64decode, validate=True)):
        try:
            yield decode(packed)
        except ValueError:
            continue


def _as_der(raw: bytes) -> str:
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    half = len(raw) // 2
    r, s = (int.from_bytes(part, "big") for part in (raw[:half], raw[half:]))
    return encode_dss_signature(r, s).hex()
