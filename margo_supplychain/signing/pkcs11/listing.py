"""What is in a token, for `key tokens`: every key that it shows, usable or not.

Imported once a module is loaded: python-pkcs11 is there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pkcs11 import Attribute, ObjectClass, PKCS11Error, TokenFlag

from margo_supplychain.errors import SignerError
from margo_supplychain.signing.pkcs11 import failures, objects
from margo_supplychain.signing.pkcs11.signer import (
    check_pair,
    probe,
    raw_signature,
    signed_data,
)
from margo_supplychain.signing.pkcs11.slots import shown
from margo_supplychain.signing.pkcs11.tokens import TokenInfo, TokenKey

if TYPE_CHECKING:
    from pkcs11 import Session
    from securesystemslib.signer import SSlibKey

    from margo_supplychain.signing.pkcs11.sessions import TokenLink
    from margo_supplychain.signing.pkcs11.uri import TokenUri

_STATES = (
    (TokenFlag.USER_PIN_LOCKED, "locked: too many wrong PINs"),
    (TokenFlag.USER_PIN_FINAL_TRY, "the next wrong PIN locks it"),
    (TokenFlag.USER_PIN_COUNT_LOW, "a wrong PIN was given"),
    (TokenFlag.USER_PIN_TO_BE_CHANGED, "its PIN must be changed"),
)


def info_of(link: TokenLink, wanted: TokenUri) -> TokenInfo:
    """Return a token with the keys that it shows, those that `wanted` means.

    Raises:
        SignerError: the token is gone.
    """
    with link.module.use() as library:
        token = link.token(library)
        session = link.session(library)
        flags = token.flags
        states = [text for flag, text in _STATES if flag in flags][:1]
        needs_pin = TokenFlag.LOGIN_REQUIRED in flags
        if needs_pin and TokenFlag.USER_PIN_INITIALIZED not in flags:
            states = ["it has no user PIN yet"]
        return TokenInfo(
            module=link.module.path,
            label=shown(link.identity.label),
            serial=shown(link.identity.serial),
            manufacturer=shown(link.identity.manufacturer),
            model=shown(link.identity.model),
            uri=str(link.identity.uri()),
            state="".join(states),
            logged_in=link.is_logged_in(library),
            keys=_keys(session, link, wanted),
        )


def failed(link: TokenLink, why: SignerError) -> TokenInfo:
    """Return a token that can't be looked into, with the reason as its state."""
    return TokenInfo(
        module=link.module.path,
        label=shown(link.identity.label),
        serial=shown(link.identity.serial),
        manufacturer=shown(link.identity.manufacturer),
        model=shown(link.identity.model),
        uri=str(link.identity.uri()),
        state=str(why),
        logged_in=False,
        keys=(),
    )


def _keys(session: Session, link: TokenLink, wanted: TokenUri) -> tuple[TokenKey, ...]:
    private = objects.find(session, wanted, ObjectClass.PRIVATE_KEY)
    public = objects.find(session, wanted, ObjectClass.PUBLIC_KEY)
    if wanted.type == "public":
        private = []
    if wanted.type == "private":
        public = []
    ids = {each.id for each in private if each.id}
    names = {each.label for each in private if not each.id}
    alone = [
        each
        for each in public
        if each.id not in ids and not (not each.id and each.label in names)
    ]
    keys = [_key(session, link, each, private=True) for each in private]
    keys += [_key(session, link, each, private=False) for each in alone]
    return tuple(sorted(keys, key=lambda key: key.uri))


def _key(
    session: Session, link: TokenLink, found: objects.Found, *, private: bool
) -> TokenKey:
    key, problem = None, None
    try:
        if private:
            half = objects.public_half(session, found, None)
            problem = _doubt(link, found, half)
            key = None if problem else half
        else:
            key = objects.public_key_of(found)
    except SignerError as why:
        problem = str(why)
    except PKCS11Error as why:
        problem = failures.ckr_of(why)
    named = replace(link.name, object=found.label or None, id=found.id or None)
    return TokenKey(
        uri=str(named),
        key=key,
        custody=objects.custody_of(found.object) if private else None,
        problem=problem,
    )


def _doubt(link: TokenLink, found: objects.Found, key: SSlibKey) -> str | None:
    """Return why it is not sure that this is the private key's own public half."""
    private = found.object
    if objects.read(private, Attribute.ALWAYS_AUTHENTICATE):
        # RSA's private key holds its public half, so there is nothing to prove.
        by_itself = objects.read(private, Attribute.MODULUS) is not None
        return None if by_itself else "not proved: it wants the PIN for each signature"
    payload = probe()
    try:
        data = signed_data(key.scheme, payload)
        raw = raw_signature(private, key.scheme, data, pin=None)
    except PKCS11Error as why:
        return f"not proved: it does not sign ({failures.ckr_of(why)})"
    check_pair(key, raw, payload, subject=f"token {link.label}, key {found.name}")
    return None
