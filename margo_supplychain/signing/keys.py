"""Public keys: from a file's bytes to a key with a recomputed id, and back.

Knows encodings and which schemes the product accepts; reads no file and holds no
secret. A key id that stands in a file is never believed: it is computed from the key,
after the key was brought into its one normal form, so the same key has the same id
however it was written.

Example:
    >>> key = parse_public_key(Path("offline.pub").read_bytes(), what="offline.pub")
    >>> key.scheme, short_id(key)
    ('ecdsa-sha2-nistp256', '4f1a09c2e77b')
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)
from securesystemslib.signer import Key, SSlibKey

from margo_supplychain.errors import KeyFormatError
from margo_supplychain.formats import strict_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

MAX_PUBLIC_KEY: Final = 16 * 1024  # bytes; an 8192-bit RSA key in PEM has 1.4 kB
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192  # verifying grows with the square; nobody uses more
MIN_RSA_EXPONENT: Final = 1 << 16  # FIPS 186-5, A.1.1

ECDSA_P256: Final = "ecdsa-sha2-nistp256"
ECDSA_P384: Final = "ecdsa-sha2-nistp384"
ED25519: Final = "ed25519"
RSA_PSS: Final = "rsassa-pss-sha256"
SCHEMES: Final = (ECDSA_P256, ECDSA_P384, ED25519, RSA_PSS)

# TUF metadata of before 2020 names the scheme where the key type belongs.
_KEY_TYPES: Final = {
    ECDSA_P256: ("ecdsa", ECDSA_P256),
    ECDSA_P384: ("ecdsa", ECDSA_P384),
    ED25519: ("ed25519",),
    RSA_PSS: ("rsa",),
}
_HINT: Final = (
    "give a public key as PEM (`openssl pkey -pubout`) or as a TUF key object; "
    f"schemes: {', '.join(SCHEMES)}"
)


def parse_public_key(data: bytes, *, what: str) -> SSlibKey:
    """Parse unverified bytes as one public key: PEM, TUF key object (JSON) or DER.

    Args:
        data: unverified bytes of a file.
        what: names the file in errors.

    Raises:
        KeyFormatError: above 16 KiB, a private key, a certificate, several keys, or a
            key of a scheme or size that the product does not use.
    """
    if len(data) > MAX_PUBLIC_KEY:
        raise KeyFormatError(
            f"{what} has {len(data)} bytes, more than the limit of {MAX_PUBLIC_KEY}",
            hint=_HINT,
        )
    text = data.strip()
    if text.startswith(b"{"):
        return _from_tuf_object(data, what)
    if b"-----BEGIN " in text:
        return _from_pem(text, what)
    # DER opens with SEQUENCE; anything else is not worth a parser's message.
    if data[:1] == b"\x30":
        return key_of(_load(load_der_public_key, data, what), what=what)
    raise KeyFormatError(f"{what} is not a public key", hint=_HINT)


def key_of(public_key: PublicKeyTypes, *, what: str) -> SSlibKey:
    """Return the key in its normal form, with the key id computed from it.

    Raises:
        KeyFormatError: the type, curve or size is not one that the product uses.
    """
    if isinstance(public_key, EllipticCurvePublicKey):
        if not isinstance(public_key.curve, SECP256R1 | SECP384R1):
            raise KeyFormatError(
                f"{what} is on the curve {public_key.curve.name}, expected P-256 "
                "or P-384",
                hint=_HINT,
            )
    elif isinstance(public_key, RSAPublicKey):
        _check_rsa(public_key, what)
    elif not isinstance(public_key, Ed25519PublicKey):
        kind = type(public_key).__name__.removesuffix("PublicKey")
        raise KeyFormatError(
            f"{what} is a key of type {kind}, expected ecdsa, ed25519 or rsa",
            hint=_HINT,
        )
    return SSlibKey.from_crypto(public_key)


def public_pem(key: SSlibKey) -> bytes:
    """Return the key as PEM SubjectPublicKeyInfo, the content of a `.pub` file."""
    if key.scheme == ED25519:
        raw = bytes.fromhex(key.keyval["public"])
        return Ed25519PublicKey.from_public_bytes(raw).public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
    return str(key.keyval["public"]).encode("ascii")


def short_id(key: Key) -> str:
    """Return the first 12 hex digits of the key id, for people only."""
    return key.keyid[:12]


def describe(key: SSlibKey) -> str:
    """Return the key's type for people, such as `ecdsa P-256` or `rsa 3072`."""
    if key.scheme == RSA_PSS:
        public = load_pem_public_key(public_pem(key))
        bits = public.key_size if isinstance(public, RSAPublicKey) else 0
        return f"rsa {bits}"
    return {ECDSA_P256: "ecdsa P-256", ECDSA_P384: "ecdsa P-384"}.get(
        key.scheme, key.scheme
    )


def _check_rsa(public_key: RSAPublicKey, what: str) -> None:
    bits = public_key.key_size
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        raise KeyFormatError(
            f"{what} is an rsa key of {bits} bits, expected {MIN_RSA_BITS} to "
            f"{MAX_RSA_BITS}",
            hint=_HINT,
        )
    exponent = public_key.public_numbers().e
    if exponent <= MIN_RSA_EXPONENT:
        raise KeyFormatError(
            f"{what} is an rsa key with exponent {exponent}, expected 65537 or more",
            hint=_HINT,
        )


def _from_pem(text: bytes, what: str) -> SSlibKey:
    if b"PRIVATE KEY-----" in text:
        raise KeyFormatError(
            f"{what} holds a private key, expected a public one",
            hint="give the `.pub` file that `key generate` wrote beside it",
        )
    if b"-----BEGIN CERTIFICATE" in text:
        raise KeyFormatError(
            f"{what} is a certificate, expected a public key",
            hint="take its key out: openssl x509 -in FILE -pubkey -noout",
        )
    if text.count(b"-----BEGIN ") != 1:
        raise KeyFormatError(f"{what} holds several PEM blocks, expected one key")
    return key_of(_load(load_pem_public_key, text, what), what=what)


def _from_tuf_object(data: bytes, what: str) -> SSlibKey:
    value = strict_json.parse(
        data, what=what, limit=MAX_PUBLIC_KEY, error=KeyFormatError
    )
    scheme, key_type, keyval = (
        value.get(name) for name in ("scheme", "keytype", "keyval")
    )
    public = keyval.get("public") if isinstance(keyval, dict) else None
    if not isinstance(public, str) or not isinstance(scheme, str):
        raise KeyFormatError(
            f"{what} is not a TUF key object with keytype, scheme and keyval.public",
            hint=_HINT,
        )
    if scheme not in _KEY_TYPES or key_type not in _KEY_TYPES[scheme]:
        raise KeyFormatError(
            f"{what} has keytype {str(key_type)[:40]!r} and scheme {scheme[:40]!r}, "
            f"expected one of {', '.join(SCHEMES)}",
            hint=_HINT,
        )
    encoded = public.encode("utf-8", "replace").strip()
    if scheme == ED25519:
        key = key_of(_load(_raw_ed25519, encoded, what), what=what)
    else:
        key = _from_pem(encoded, what)
    if key.scheme != scheme:
        raise KeyFormatError(
            f"{what} says {scheme} and holds a key for {key.scheme}", hint=_HINT
        )
    return key


def _raw_ed25519(data: bytes) -> Ed25519PublicKey:
    text = data.decode("ascii")
    # bytes.fromhex skips white space: the same key must not be written in two ways.
    if len(text) != 64 or not text.isalnum():
        raise ValueError("expected 64 hex digits")
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))


def _load(load: Any, data: bytes, what: str) -> PublicKeyTypes:
    try:
        loaded: PublicKeyTypes = load(data)
    except (ValueError, UnsupportedAlgorithm) as why:
        raise KeyFormatError(f"{what} is not a public key", hint=_HINT) from why
    return loaded
