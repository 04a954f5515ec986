"""Keys inside a token: found by label and id, read as public keys, judged, made.

Every function is called inside `Module.use()`, and lets python-pkcs11's errors through:
`tokens.py` and `signer.py` know which token and key to name in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from pkcs11 import Attribute, KeyType, ObjectClass
from pkcs11.exceptions import (
    AttributeSensitive,
    AttributeTypeInvalid,
    FunctionFailed,
)
from securesystemslib.signer import SSlibKey

from margo_supplychain.errors import KeyFormatError, SignerError
from margo_supplychain.signing.keys import RSA_PSS, describe, key_of
from margo_supplychain.signing.pkcs11.uri import TokenUri
from margo_supplychain.signing.public_files import Custody
from margo_supplychain.threshold import material

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from pkcs11 import Session
    from securesystemslib.signer import Key

RSA_SIZES: Final = ("rsa 3072", "rsa 4096")
MAX_OBJECTS: Final = 4096  # keys of one kind that are looked at in a token

# CKA_EC_PARAMS: an OBJECT IDENTIFIER, or for Edwards curves a PrintableString as well.
P256_PARAMS: Final = bytes.fromhex("06082a8648ce3d030107")
P384_PARAMS: Final = bytes.fromhex("06052b81040022")
ED25519_OID: Final = bytes.fromhex("06032b6570")
ED25519_NAME: Final = b"\x13\x0cedwards25519"
_CURVES: Final = {P256_PARAMS: SECP256R1(), P384_PARAMS: SECP384R1()}


class Found(NamedTuple):
    """A key object, as its token describes it.

    Args:
        object: python-pkcs11's; bound to the session that found it.
        label: CKA_LABEL.
        id: CKA_ID, may be empty.
    """

    object: Any
    label: str
    id: bytes

    @property
    def name(self) -> str:
        """The key in messages: `object=root;id=%01`."""
        label = self.label if self.label.isprintable() else ascii(self.label)
        escaped = "".join(f"%{byte:02X}" for byte in self.id)
        return f"object={label};id={escaped}" if escaped else f"object={label}"


def find(session: Session, uri: TokenUri, kind: ObjectClass) -> list[Found]:
    """Return the private or public keys that a URI means, those that are visible.

    Raises:
        SignerError: there are more than anybody looks at.
    """
    wanted: dict[Attribute, Any] = {Attribute.CLASS: kind}
    if uri.object is not None:
        wanted[Attribute.LABEL] = uri.object
    if uri.id is not None:
        wanted[Attribute.ID] = uri.id
    found: list[Any] = []
    for each in session.get_objects(wanted):
        if len(found) == MAX_OBJECTS:
            raise SignerError(f"the token shows more than {MAX_OBJECTS} keys")
        found.append(each)
    # Read only when the search is over: a session does one thing at a time.
    return [
        Found(
            object=each,
            label=read(each, Attribute.LABEL) or "",
            id=read(each, Attribute.ID) or b"",
        )
        for each in found
    ]


def read(key: Any, attribute: Attribute) -> Any:
    """Return an attribute's value; None if the token has none or keeps it."""
    try:
        return key[attribute]
    except (AttributeTypeInvalid, AttributeSensitive, FunctionFailed, ValueError):
        # ValueError: a label that is not UTF-8, a type of the vendor's own.
        return None


def custody_of(private: Any) -> Custody:
    """Return what the token says about a private key; what it does not say is no."""
    return Custody(
        sensitive=bool(read(private, Attribute.SENSITIVE)),
        never_extractable=bool(read(private, Attribute.NEVER_EXTRACTABLE)),
        local=bool(read(private, Attribute.LOCAL)),
    )


def public_key_of(found: Found) -> SSlibKey:
    """Return the public key that an object holds; RSA's private keys hold it, too.

    Raises:
        SignerError: a kind, curve or size that is not signed with.
    """
    kind = read(found.object, Attribute.KEY_TYPE)
    what = f"key {found.name}"
    try:
        if kind == KeyType.EC:
            public = _ec(found.object, what)
        elif kind == KeyType.EC_EDWARDS:
            public = _edwards(found.object, what)
        elif kind == KeyType.RSA:
            public = _rsa(found.object)
        else:
            raise SignerError(
                f"{what} is of type {_kind_name(kind)}, expected EC, Ed25519 or RSA"
            )
        key = key_of(public, what=what)
    except (KeyFormatError, ValueError, TypeError) as why:
        raise SignerError(f"{what} is not usable: {why}", hint=_hint()) from why
    if key.scheme == RSA_PSS and describe(key) not in RSA_SIZES:
        raise SignerError(
            f"{what} is {describe(key)}, expected {' or '.join(RSA_SIZES)}",
            hint=_hint(),
        )
    return key


def _hint() -> str:
    return (
        "sign with P-256, P-384, Ed25519, or RSA of 3072 or 4096 bits: "
        "`margo-supplychain key generate` makes such a key inside the token"
    )


def _kind_name(kind: object) -> str:
    return getattr(kind, "name", None) or "unknown"


def _ec(key: Any, what: str) -> PublicKeyTypes:
    curve = _CURVES.get(bytes(key[Attribute.EC_PARAMS]))
    if curve is None:
        raise KeyFormatError(f"{what} is on another curve than P-256 and P-384")
    size = (curve.key_size + 7) // 8
    point = point_of(bytes(key[Attribute.EC_POINT]), (1 + 2 * size, 1 + size))
    return EllipticCurvePublicKey.from_encoded_point(curve, point)


def _edwards(key: Any, what: str) -> PublicKeyTypes:
    if bytes(key[Attribute.EC_PARAMS]) not in (ED25519_OID, ED25519_NAME):
        raise KeyFormatError(f"{what} is on another curve than Ed25519")
    point = point_of(bytes(key[Attribute.EC_POINT]), (32,))
    return Ed25519PublicKey.from_public_bytes(point)


def _rsa(key: Any) -> PublicKeyTypes:
    modulus = int.from_bytes(key[Attribute.MODULUS], "big")
    exponent = int.from_bytes(key[Attribute.PUBLIC_EXPONENT], "big")
    return RSAPublicNumbers(exponent, modulus).public_key()


def point_of(data: bytes, sizes: tuple[int, ...]) -> bytes:
    """Take a point out of CKA_EC_POINT.

    The standard has a DER OCTET STRING. Some tokens give the point itself, others a BIT
    STRING, as early drafts had it for Edwards curves.

    Args:
        data: the attribute.
        sizes: how long a point may be; none is as long as another's encoding.

    Raises:
        ValueError: it holds no point.
    """
    if len(data) in sizes:
        return data
    for size in sizes:
        for header in (bytes((0x04, size)), bytes((0x03, size + 1, 0))):
            if data[: len(header)] == header and len(data) == len(header) + size:
                return data[len(header) :]
    raise ValueError(f"CKA_EC_POINT holds no point: {data[:8].hex()}…")


def public_half(session: Session, private: Found, expect: Key | None) -> SSlibKey:
    """Return the public key of a private one.

    Args:
        session: where `private` was found.
        private: RSA's holds its public half; of others it is the object with their id.
        expect: what it should be; believed where the token does not keep it, because
            each signature is verified with it.

    Raises:
        SignerError: the token does not hold it, or holds several for it.
    """
    if read(private.object, Attribute.MODULUS):
        return public_key_of(private)
    beside = TokenUri(id=private.id) if private.id else TokenUri(object=private.label)
    halves: dict[str, SSlibKey] = {}
    for each in find(session, beside, ObjectClass.PUBLIC_KEY):
        key = public_key_of(each)
        halves[material(key)] = key
    if not halves and isinstance(expect, SSlibKey):
        return expect
    if len(halves) == 1:
        return next(iter(halves.values()))
    if not halves:
        raise SignerError(
            f"key {private.name} has no public half in the token",
            hint="write the public key beside it with the token's own tool, or give a "
            ".pub file that records the URI",
        )
    raise SignerError(
        f"key {private.name} has {len(halves)} public halves in the token",
        hint="remove those that do not belong to it",
    )


def only(found: Sequence[Found], uri: TokenUri, *, token: str, what: str) -> Found:
    """Return the one key that was found.

    Raises:
        SignerError: none, or several, which are listed.
    """
    if len(found) == 1:
        return found[0]
    if not found:
        raise SignerError(
            f"token {token} has no {what} key {uri.key}",
            hint="`margo-supplychain key tokens` lists the keys that are there",
        )
    names = ", ".join(each.name for each in found[:8])
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    raise SignerError(
        f"token {token} has {len(found)} {what} keys {uri.key}: {names}{more}",
        hint="name one by object= and id= together",
    )
