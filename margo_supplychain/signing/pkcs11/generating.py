"""Making a key inside a token: for signatures alone, never to leave it.

Imported once a module is loaded: python-pkcs11 is there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from pkcs11 import Attribute, KeyType, MechanismFlag, ObjectClass, PKCS11Error

from margo_supplychain.errors import SignerError
from margo_supplychain.signing.keys import (
    ECDSA_P256,
    ECDSA_P384,
    ED25519,
    RSA_PSS,
    describe,
    short_id,
)
from margo_supplychain.signing.pkcs11 import failures, objects
from margo_supplychain.signing.pkcs11.signer import (
    checked_signature,
    probe,
    raw_signature,
    signed_data,
)
from margo_supplychain.signing.pkcs11.uri import TokenUri

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pkcs11 import Session
    from securesystemslib.signer import SSlibKey

    from margo_supplychain.signing.public_files import Custody

RSA_BITS: Final = (3072, 4096)
MAX_LABEL: Final = 255  # bytes
_FRESH_ID: Final = 8  # bytes: short enough to type, and no two meet
_CURVES: Final = {
    ECDSA_P256: (KeyType.EC, (objects.P256_PARAMS,)),
    ECDSA_P384: (KeyType.EC, (objects.P384_PARAMS,)),
    # PKCS#11 3.0 allows both, tokens often one.
    ED25519: (KeyType.EC_EDWARDS, (objects.ED25519_OID, objects.ED25519_NAME)),
}
# A token that does not know this way of writing a curve says one of these.
_OTHER_WAY: Final = frozenset(
    {
        "CKR_ARGUMENTS_BAD",
        "CKR_ATTRIBUTE_VALUE_INVALID",
        "CKR_DOMAIN_PARAMS_INVALID",
        "CKR_FUNCTION_FAILED",
        "CKR_GENERAL_ERROR",
        "CKR_TEMPLATE_INCONSISTENT",
    }
)


def check_request(uri: TokenUri, scheme: str, bits: int | None) -> tuple[str, int]:
    """Check what is asked for before anybody types a PIN.

    Returns:
        The new key's name, and the bits it has if it is RSA.

    Raises:
        SignerError: no token or object named, an unknown scheme, a wrong size.
    """
    if uri.token is None or uri.object is None:
        raise SignerError(
            "a new key needs its token and its name",
            hint="as in 'pkcs11:token=root-a;object=root'",
        )
    if uri.type == "public" or len(uri.object.encode("utf-8")) > MAX_LABEL:
        raise SignerError(
            f"a new key needs a name of up to {MAX_LABEL} bytes, and no type=public"
        )
    if scheme != RSA_PSS and scheme not in _CURVES:
        raise SignerError(
            f"cannot make a key for scheme {scheme[:40]!r}",
            hint=f"one of {', '.join((*_CURVES, RSA_PSS))}",
        )
    if bits is not None and (scheme != RSA_PSS or bits not in RSA_BITS):
        raise SignerError(
            f"cannot make a key of {bits} bits for {scheme}",
            hint="RSA keys have 3072 or 4096 bits; others have no choice",
        )
    return uri.object, bits or RSA_BITS[0]


def generate(
    session: Session,
    uri: TokenUri,
    *,
    scheme: str,
    bits: int,
    replace: bool,
    ask: Callable[[str | None], None] | None = None,
) -> tuple[SSlibKey, bytes, Custody]:
    """Make a key pair in a read-write session of a token that is logged in.

    Returns:
        The public key, its CKA_ID and the custody of its private half.

    Raises:
        SignerError: the name or id is taken, the token did not do what was asked.
    """
    old = _taken(session, uri)
    if ask is not None:
        ask(_described(old) if old else None)
    if old and not replace:
        raise SignerError(
            f"the token has {_described(old)} already",
            hint="choose another object=; or replace it, and the old one is lost",
        )
    identifier = uri.id or _fresh_id(session)
    name = uri.object or ""
    public, private = _make(session, scheme, bits, name, identifier)
    try:
        key, custody = _judged(public, private, name, identifier)
    except (SignerError, PKCS11Error):
        private.destroy()
        public.destroy()
        raise
    # The old one last: a token that fails half-way has one key too many, not none.
    for each in old:
        each.object.destroy()
    return key, identifier, custody


def _taken(session: Session, uri: TokenUri) -> Sequence[objects.Found]:
    """Return what will be replaced; nothing that is not clearly meant."""
    kinds = (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY)
    same_name = [
        each
        for kind in kinds
        for each in objects.find(session, TokenUri(object=uri.object), kind)
    ]
    same_id = []
    if uri.id is not None:
        same_id = [
            each
            for kind in kinds
            for each in objects.find(session, TokenUri(id=uri.id), kind)
            if each.label != uri.object
        ]
    if same_id:
        raise SignerError(
            f"id {TokenUri(id=uri.id)} is taken by key {same_id[0].name}",
            hint="choose another id=, or leave it out",
        )
    others = [each for each in same_name if uri.id not in (None, each.id)]
    if others:
        raise SignerError(
            f"the token has key {others[0].name}, which has that name and another id",
            hint="choose another object=, or name the key by its own id=",
        )
    # One private key and one public: a second of either is somebody else's.
    kinds_found = [objects.read(each.object, Attribute.CLASS) for each in same_name]
    ids = {each.id for each in same_name}
    if len(ids) > 1 or len(kinds_found) > len(set(kinds_found)):
        names = ", ".join(sorted({each.name for each in same_name}))
        raise SignerError(
            f"several keys have that name: {names}",
            hint="choose another object=; remove keys with the token's own tool",
        )
    return same_name


def _described(old: Sequence[objects.Found]) -> str:
    """Return a key in words; its id tells whether it is the one of some role."""
    said = f"key {old[0].name}"
    for each in old:
        try:
            key = objects.public_key_of(each)
        except (SignerError, PKCS11Error):
            continue  # an EC private key; or of a kind that is not signed with
        return f"{said} ({describe(key)}, key id {short_id(key)})"
    return said


def _fresh_id(session: Session) -> bytes:
    while True:
        identifier = os.urandom(_FRESH_ID)
        wanted = TokenUri(id=identifier)
        if not objects.find(session, wanted, ObjectClass.PRIVATE_KEY):
            return identifier


def _make(
    session: Session, scheme: str, bits: int, label: str, identifier: bytes
) -> tuple[Any, Any]:
    named: dict[str, Any] = {
        "id": identifier,
        "label": label,
        "store": True,
        # Nothing else: neither decrypt nor unwrap nor derive.
        "capabilities": MechanismFlag.SIGN | MechanismFlag.VERIFY,
        "private_template": {Attribute.EXTRACTABLE: False},
    }
    if scheme == RSA_PSS:
        return session.generate_keypair(KeyType.RSA, bits, **named)
    kind, ways = _CURVES[scheme]
    for parameters in ways[:-1]:
        try:
            return _on_curve(session, kind, parameters, named)
        except PKCS11Error as why:
            if failures.ckr_of(why) not in _OTHER_WAY:
                raise
    return _on_curve(session, kind, ways[-1], named)


def _on_curve(
    session: Session, kind: KeyType, parameters: bytes, named: dict[str, Any]
) -> tuple[Any, Any]:
    domain = session.create_domain_parameters(
        kind, {Attribute.EC_PARAMS: parameters}, local=True
    )
    return domain.generate_keypair(**named)


def _judged(
    public: Any, private: Any, label: str, identifier: bytes
) -> tuple[SSlibKey, Custody]:
    """Check that the token made what it was asked for: it signs, and never leaves."""
    found = objects.Found(object=public, label=label, id=identifier)
    key = objects.public_key_of(found)
    custody = objects.custody_of(private)
    if not all(custody):
        raise SignerError(
            f"the token would not keep key {found.name} inside: it says {custody.text}",
            hint="the key was removed again; look into the token's settings",
        )
    if not objects.read(private, Attribute.ALWAYS_AUTHENTICATE):
        payload = probe()
        data = signed_data(key.scheme, payload)
        raw = raw_signature(private, key.scheme, data, pin=None)
        checked_signature(key, raw, payload, subject=f"key {found.name}")
    return key, custody
