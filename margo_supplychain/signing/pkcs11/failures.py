"""What a token's refusal means to people: CKR codes in words, with what to do next.

Knows names and numbers of return values (PKCS#11 3.1, 3.11), no module. The text of
python-pkcs11's exceptions is usually empty, so a code is told by the exception's class;
the few that it has no class for are told by their text.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import SignerError

if TYPE_CHECKING:
    from collections.abc import Iterator

OK: Final = "CKR_OK"
PIN_INCORRECT: Final = "CKR_PIN_INCORRECT"
PIN_LOCKED: Final = "CKR_PIN_LOCKED"
ALREADY_LOGGED_IN: Final = "CKR_USER_ALREADY_LOGGED_IN"
NOT_INITIALIZED: Final = "CKR_CRYPTOKI_NOT_INITIALIZED"
ALREADY_INITIALIZED: Final = "CKR_CRYPTOKI_ALREADY_INITIALIZED"

_CODES: Final = {
    0x000: OK,
    0x002: "CKR_HOST_MEMORY",
    0x003: "CKR_SLOT_ID_INVALID",
    0x005: "CKR_GENERAL_ERROR",
    0x006: "CKR_FUNCTION_FAILED",
    0x007: "CKR_ARGUMENTS_BAD",
    0x009: "CKR_NEED_TO_CREATE_THREADS",
    0x00A: "CKR_CANT_LOCK",
    0x030: "CKR_DEVICE_ERROR",
    0x031: "CKR_DEVICE_MEMORY",
    0x032: "CKR_DEVICE_REMOVED",
    0x050: "CKR_FUNCTION_CANCELED",
    0x054: "CKR_FUNCTION_NOT_SUPPORTED",
    0x090: "CKR_OPERATION_ACTIVE",
    0x091: "CKR_OPERATION_NOT_INITIALIZED",
    0x0A0: PIN_INCORRECT,
    0x0A1: "CKR_PIN_INVALID",
    0x0A2: "CKR_PIN_LEN_RANGE",
    0x0A3: "CKR_PIN_EXPIRED",
    0x0A4: PIN_LOCKED,
    0x0B0: "CKR_SESSION_CLOSED",
    0x0B3: "CKR_SESSION_HANDLE_INVALID",
    0x0B8: "CKR_SESSION_READ_WRITE_SO_EXISTS",
    0x0E0: "CKR_TOKEN_NOT_PRESENT",
    0x0E1: "CKR_TOKEN_NOT_RECOGNIZED",
    0x100: ALREADY_LOGGED_IN,
    0x101: "CKR_USER_NOT_LOGGED_IN",
    0x102: "CKR_USER_PIN_NOT_INITIALIZED",
    0x103: "CKR_USER_TYPE_INVALID",
    0x104: "CKR_USER_ANOTHER_ALREADY_LOGGED_IN",
    0x105: "CKR_USER_TOO_MANY_TYPES",
    0x190: NOT_INITIALIZED,
    0x191: ALREADY_INITIALIZED,
    0x200: "CKR_FUNCTION_REJECTED",
}
# Spelt otherwise by python-pkcs11.
_NAMES: Final = {
    "AnotherUserAlreadyLoggedIn": "CKR_USER_ANOTHER_ALREADY_LOGGED_IN",
    "FunctionCancelled": "CKR_FUNCTION_CANCELED",
    "RandomNoRNG": "CKR_RANDOM_NO_RNG",
    "SessionReadWriteSOExists": "CKR_SESSION_READ_WRITE_SO_EXISTS",
    "SlotIDInvalid": "CKR_SLOT_ID_INVALID",
    "TokenNotRecognised": "CKR_TOKEN_NOT_RECOGNIZED",
}
_UNNAMED: Final = re.compile(r"0x[0-9a-fA-F]+|\b[0-9]{2,10}\b")

# A session, login or handle that is no more: everything is looked up anew, once.
# SoftHSM and some drivers say no more than "general" or "device error" for it.
STALE: Final = frozenset(
    {
        "CKR_SESSION_HANDLE_INVALID",
        "CKR_SESSION_CLOSED",
        "CKR_DEVICE_REMOVED",
        "CKR_DEVICE_ERROR",
        "CKR_GENERAL_ERROR",
        "CKR_KEY_HANDLE_INVALID",
        "CKR_OBJECT_HANDLE_INVALID",
        "CKR_OPERATION_ACTIVE",
        "CKR_SLOT_ID_INVALID",
        "CKR_TOKEN_NOT_PRESENT",
        "CKR_USER_NOT_LOGGED_IN",
        NOT_INITIALIZED,
    }
)
# The PIN did not reach the token: trying the same one again costs no try.
UNTRIED: Final = frozenset(
    {
        "CKR_SESSION_HANDLE_INVALID",
        "CKR_SESSION_CLOSED",
        "CKR_SLOT_ID_INVALID",
        NOT_INITIALIZED,
    }
)

_HINTS: Final = {
    PIN_INCORRECT: "the token counts wrong PINs and locks itself: be sure before you "
    "run it again",
    PIN_LOCKED: "too many wrong PINs: unlock it with its SO PIN or PUK, with the "
    "token's own tool",
    "CKR_PIN_EXPIRED": "change the PIN with the token's own tool",
    "CKR_PIN_INVALID": "the token takes no PIN with these characters",
    "CKR_PIN_LEN_RANGE": "the PIN is too short or too long for this token",
    "CKR_USER_PIN_NOT_INITIALIZED": "set the user's PIN with the token's own tool",
    "CKR_USER_ANOTHER_ALREADY_LOGGED_IN": "the security officer is logged in: end "
    "that program first",
    "CKR_TOKEN_NOT_PRESENT": "plug the token in, and run it again",
    "CKR_TOKEN_NOT_RECOGNIZED": "is it a token of this module",
    "CKR_DEVICE_REMOVED": "plug the token in, and run it again",
    "CKR_DEVICE_ERROR": "unplug the token and plug it in again",
    "CKR_DEVICE_MEMORY": "the token is full: remove objects that nobody uses",
    "CKR_TOKEN_WRITE_PROTECTED": "the token takes no new keys",
    "CKR_SESSION_READ_ONLY": "the token takes no new keys",
    "CKR_SESSION_COUNT": "end other programs that use the token",
    "CKR_MECHANISM_INVALID": "the token does not know this kind of signature",
    "CKR_MECHANISM_PARAM_INVALID": "the token does not know this kind of signature",
    "CKR_KEY_FUNCTION_NOT_PERMITTED": "the key was not made for signing",
    "CKR_DATA_LEN_RANGE": "the token takes no payload of this size",
    "CKR_GENERAL_ERROR": "SoftHSM says this when its configuration (SOFTHSM2_CONF) or "
    "token directory is missing or unreadable; before 2.7, also when another process "
    "uses the same tokens",
    ALREADY_INITIALIZED: "another library in this process uses the module already",
    NOT_INITIALIZED: "another library in this process ended the module; run it again",
}


def code_of(number: int) -> str:
    """Return the name of a return value, such as CKR_PIN_INCORRECT."""
    return _CODES.get(number, f"CKR 0x{number:08X}")


def ckr_of(why: BaseException) -> str:
    """Return the name of what python-pkcs11 raised."""
    name = type(why).__name__
    if name == "PKCS11Error":
        text = str(why)
        if "not initialized" in text:
            return NOT_INITIALIZED
        if "already initialized" in text:
            return ALREADY_INITIALIZED
        found = _UNNAMED.search(text)
        return code_of(int(found.group(), 0)) if found else "an unnamed CKR"
    if name in _NAMES:
        return _NAMES[name]
    return "CKR_" + re.sub(r"(?<=.)(?=[A-Z])", "_", name).upper()


def refusal(subject: str, ckr: str, *, hint: str | None = None) -> SignerError:
    """Return the error that says what a token refused.

    Args:
        subject: which token and key, and what was asked of it.
        ckr: the code.
        hint: what to do, where the code does not tell.
    """
    default = "look the code up in the manual of the token's module"
    return SignerError(f"{subject}: {ckr}", hint=hint or _HINTS.get(ckr, default))


@contextmanager
def told(subject: str) -> Iterator[None]:
    """Turn what python-pkcs11 raises inside into an error that names `subject`."""
    from pkcs11 import PKCS11Error

    try:
        yield
    except PKCS11Error as why:
        raise refusal(subject, ckr_of(why)) from why
