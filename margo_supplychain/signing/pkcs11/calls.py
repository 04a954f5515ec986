"""The calls of PKCS#11 that python-pkcs11 does not offer by themselves.

It logs in only while it opens a session: when the PIN is wrong, that session stays open
for good, and closing a session that it logged in calls C_Logout, which logs out every
other user of the token in this process. And it can't tell whether somebody is logged in
already. So sessions are opened and closed by it without a login, and the login goes
directly to the module that it loaded.

p11-kit's proxy does not allow that: it gives everybody who asks for its functions an
instance of its own, and says nothing about python-pkcs11's. There the login goes by
python-pkcs11 after all (sessions.py), and lasts as long as the process.

Everything here runs under the module's lock (module.py).
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Final, Self, final

from margo_supplychain.signing.pkcs11 import failures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

USER: Final = 1  # CKU_USER

# Positions in CK_FUNCTION_LIST, the same in every version (PKCS#11 3.1, appendix).
_INITIALIZE: Final = 0
_GET_SESSION_INFO: Final = 15
_LOGIN: Final = 18
_FUNCTIONS: Final = 68

_AS_USER: Final = (1, 3)  # CKS_RO_USER_FUNCTIONS, CKS_RW_USER_FUNCTIONS


class _FunctionList(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_ubyte * 2),
        ("functions", ctypes.c_void_p * _FUNCTIONS),
    )


class _SessionInfo(ctypes.Structure):
    _fields_ = (
        ("slot", ctypes.c_ulong),
        ("state", ctypes.c_ulong),
        ("flags", ctypes.c_ulong),
        ("device_error", ctypes.c_ulong),
    )


_Whole = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)
_Info = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_ulong, ctypes.POINTER(_SessionInfo))
_Login = ctypes.CFUNCTYPE(
    ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong
)


@final
class Calls:
    """Direct calls into a module that is loaded already; each returns its CKR code."""

    def __init__(self, functions: Sequence[int]) -> None:
        self._initialize = _Whole(functions[_INITIALIZE])
        self._session_info = _Info(functions[_GET_SESSION_INFO])
        self._login = _Login(functions[_LOGIN])

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Return the calls of a loaded module; None if it has no fixed list of them."""
        try:
            # RTLD_NOLOAD: what python-pkcs11 loaded, and never a second copy.
            library = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_NOW)
            get_list = library.C_GetFunctionList
        except (OSError, AttributeError):
            return None
        get_list.restype = ctypes.c_ulong
        first, second = (ctypes.POINTER(_FunctionList)() for _ in range(2))
        for found in (first, second):
            if get_list(ctypes.byref(found)) != 0:
                return None
        where = [ctypes.addressof(found.contents) for found in (first, second)]
        return cls(first.contents.functions) if where[0] == where[1] else None

    def initialize(self) -> str:
        """C_Initialize, without arguments: one lock of ours guards every call."""
        return failures.code_of(self._initialize(None))

    def login(self, session: int, pin: bytes | None) -> str:
        """C_Login as the user; without a PIN the token asks for it on its own pad."""
        length = 0 if pin is None else len(pin)
        return failures.code_of(self._login(session, USER, pin, length))

    def logged_in(self, session: int) -> bool | None:
        """Tell whether this process is logged in as the user of the session's token.

        None: there is no such session, or no token in it any more.
        """
        info = _SessionInfo()
        code = failures.code_of(self._session_info(session, ctypes.byref(info)))
        return info.state in _AS_USER if code == failures.OK else None
