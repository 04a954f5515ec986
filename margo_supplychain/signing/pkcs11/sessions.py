"""One session and one login for each token, however many signatures are made.

Knows how to find a token again, to open a session and to log in; nothing of keys. Two
rules about PINs: a handler is asked once for each login and what it answers is sent
once, so no loop of ours locks a token; and a PIN that the token refused is not sent
again, whoever gives it. And one about logging out: this module never calls C_Logout,
because logins are of the process, and somebody else may rely on it. The token logs out
by itself when its last session is closed.

Imported once a module is loaded: python-pkcs11 is there.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, Final, final

from pkcs11 import PROTECTED_AUTH, PKCS11Error, TokenFlag
from pkcs11.exceptions import FunctionNotSupported, RandomNoRNG

from margo_supplychain.errors import SignerError
from margo_supplychain.signing.pkcs11 import failures, slots
from margo_supplychain.signing.pkcs11.module import ProcessLock
from margo_supplychain.signing.secret_files import read_secret_file

if TYPE_CHECKING:
    from pathlib import Path

    from pkcs11 import Token
    from pkcs11._pkcs11 import lib as Library  # noqa: N812 - the class's name there

    from margo_supplychain.signing.keyring import PinHandler
    from margo_supplychain.signing.pkcs11.module import Module
    from margo_supplychain.signing.pkcs11.uri import TokenUri

MAX_PIN: Final = 255  # bytes; SoftHSM's limit, and beyond that of any card

# Fingerprints of refused PINs are of no use to who reads the memory of this process
# later: guessing needs this salt, and it is as secret as the PIN was.
_SALT: Final = os.urandom(32)


@final
class TokenLink:
    """The way to one token, for everything that one keyring does with it.

    Every method but `login`, `pin` and `close` is called inside `module.use()`.

    Attributes:
        name: names it to people: its label, and its serial number where labels repeat.
        epoch: counts the sessions; object handles of an earlier one mean nothing.
        proven: keys whose public half was proved in this epoch to be theirs, with its
            id.
    """

    def __init__(
        self,
        module: Module,
        identity: slots.Identity,
        *,
        slot_id: int | None,
        pin: PinHandler,
        name: TokenUri,
    ) -> None:
        self.module = module
        self.identity = identity
        self.name = name
        self.epoch = 0
        self.proven: set[tuple[TokenUri, str]] = set()
        self._slot_id = slot_id
        self._pin = pin
        self._asking = ProcessLock()
        self._session: Any = None
        self._generation = 0
        self._closed = False

    @property
    def label(self) -> str:
        """The token in messages."""
        identity = self.identity
        return slots.shown(identity.label or identity.serial) or "(without a label)"

    def is_current(self, epoch: int) -> bool:
        """Tell whether what was found in that epoch still means the same."""
        return (
            self.epoch == epoch
            and self._session is not None
            and self._generation == self.module.generation
        )

    def session(self, library: Library) -> Any:
        """Return a session that is open; a new one begins a new epoch.

        Raises:
            SignerError: the token is gone, or another one with its label is there.
        """
        if self._closed:
            raise ValueError("this keyring is closed")
        # Asked first: a search in a session that is gone can't be ended cleanly.
        if not self.is_current(self.epoch) or not self._is_alive():
            self._session = None
            self._session = self.token(library).open()
            self._generation = self.module.generation
            self.epoch += 1
            # Another token may be in the slot by now: what was proved is to be again.
            self.proven.clear()
        return self._session

    def token(self, library: Library) -> Token:
        """Return the very token: its serial number is compared, too.

        Raises:
            SignerError: it is gone, or another one with its label is there.
        """
        tokens, silent = slots.look_into_slots(library)
        found = [
            token
            for token in tokens
            if slots.Identity.of(token) == self.identity
            and self._slot_id in (None, token.slot.slot_id)
        ]
        if len(found) == 1:
            return found[0]
        serial = slots.shown(self.identity.serial)
        if found:
            raise SignerError(
                f"{len(found)} tokens call themselves {self.label} (serial {serial})",
                hint="unplug all but one, or name one by slot-id=",
            )
        same = [token for token in tokens if token.label == self.identity.label]
        instead = f", but {slots.listed(same)} is there" if same else ""
        if silent and not same:
            instead = f" or does not answer ({', '.join(silent[:3])})"
        raise SignerError(
            f"token {self.label} (serial {serial}) is no longer there{instead}",
            hint="plug the same token in again; no PIN is asked for another one",
        )

    def drop(self, epoch: int) -> None:
        """Close the session of that epoch, if nobody did; the next use opens one."""
        if self.is_current(epoch):
            self.module.logins.pop(self.identity, None)
            session, self._session = self._session, None
            try:
                session.close()
            except PKCS11Error:
                return  # it was gone already

    def is_logged_in(self, library: Library) -> bool:
        """Tell whether this process is logged in to the token, whoever did it."""
        session, calls = self.session(library), self.module.calls
        if calls is not None:
            return bool(calls.logged_in(session.handle))
        generation, _ = self.module.logins.get(self.identity, (0, None))
        return generation == self.module.generation

    def close(self) -> None:
        """Let go of the token for good. Never logs out: see the module docstring."""
        with self.module.lock.held():
            # First, and in the lock: nobody opens a session that nobody closes.
            self._closed = True
            if self.module.is_here:
                self.drop(self.epoch)
            self._session = None

    def login(self, source: Path | None = None) -> None:
        """Log in, unless this process is logged in already.

        Args:
            source: a file with the PIN (pin-source); else the handler is asked.

        Raises:
            SignerError: wrong, locked, expired or missing PIN.
        """
        with self._asking.held():
            with self.module.use() as library:
                if self.is_logged_in(library):
                    return
                flags = self.token(library).flags
            if TokenFlag.LOGIN_REQUIRED not in flags:
                return
            on_pad = TokenFlag.PROTECTED_AUTHENTICATION_PATH in flags
            pin = None if on_pad else self._fresh_pin(flags, source)
            code = self._send(pin)
            if code in failures.UNTRIED:
                code = self._send(pin)
            self.judge(code, pin)

    def pin(self, source: Path | None = None) -> str:
        """Ask for the PIN of one use of a key that demands it each time.

        Raises:
            SignerError: locked, empty, or refused before.
        """
        with self.module.use() as library:
            flags = self.token(library).flags
        if TokenFlag.PROTECTED_AUTHENTICATION_PATH in flags:
            raise SignerError(
                f"token {self.label}: a key that wants the PIN for each signature on "
                "the token's own pad",
                hint="make a key without CKA_ALWAYS_AUTHENTICATE",
            )
        with self._asking.held():
            return self._fresh_pin(flags, source)

    def judge(self, code: str, pin: str | None) -> None:
        """Raise what a login's code means, and remember a PIN that was refused.

        Raises:
            SignerError: the login did not succeed.
        """
        if code in (failures.OK, failures.ALREADY_LOGGED_IN):
            self.module.refused.pop(self.identity, None)
            return
        if code != failures.PIN_INCORRECT or pin is None:
            raise failures.refusal(f"token {self.label}: the login failed", code)
        refused = self.module.refused.setdefault(self.identity, set())
        refused.add(_fingerprint(pin))
        raise failures.refusal(f"token {self.label}: wrong PIN{self._left()}", code)

    def _send(self, pin: str | None) -> str:
        with self.module.use() as library:
            session, calls = self.session(library), self.module.calls
            if calls is not None:
                secret = None if pin is None else pin.encode("utf-8")
                return calls.login(session.handle, secret)
            try:
                login = self.token(library).open(user_pin=pin or PROTECTED_AUTH)
            except PKCS11Error as why:
                return failures.ckr_of(why)
            # Never closed: that would log out. See calls.py.
            self.module.logins[self.identity] = (self.module.generation, login)
            return failures.OK

    def _is_alive(self) -> bool:
        calls = self.module.calls
        if calls is not None:
            return calls.logged_in(self._session.handle) is not None
        try:
            self._session.generate_random(64)
        except (RandomNoRNG, FunctionNotSupported):
            return True
        except PKCS11Error:
            return False
        return True

    def _left(self) -> str:
        try:
            with self.module.use() as library:
                flags = self.token(library).flags
        except (PKCS11Error, SignerError):
            return ""
        if TokenFlag.USER_PIN_LOCKED in flags:
            return ", and the token is locked now"
        if TokenFlag.USER_PIN_FINAL_TRY in flags:
            return ", and the next wrong one locks the token"
        return ""

    def _fresh_pin(self, flags: TokenFlag, source: Path | None) -> str:
        if TokenFlag.USER_PIN_LOCKED in flags:
            raise failures.refusal(f"token {self.label}: locked", failures.PIN_LOCKED)
        last = TokenFlag.USER_PIN_FINAL_TRY in flags
        if source is None:
            name = str(self.identity.whole())
            pin = self._pin(token=name, tries_left=1 if last else None)
        elif last:
            raise SignerError(
                f"token {self.label}: one try is left, and {source} is not risked",
                hint="take pin-source out of the URI and type the PIN",
            )
        else:
            pin = _read_pin(source)
        self._check_pin(pin)
        return pin

    def _check_pin(self, pin: str) -> None:
        try:
            size = len(pin.encode("utf-8"))
        except UnicodeEncodeError as why:
            raise SignerError(f"token {self.label}: the PIN is not UTF-8") from why
        if not 0 < size <= MAX_PIN:
            raise SignerError(
                f"token {self.label}: the PIN has {size} bytes, expected 1 to {MAX_PIN}"
            )
        if _fingerprint(pin) in self.module.refused.get(self.identity, ()):
            raise failures.refusal(
                f"token {self.label}: this PIN was refused before, and is not sent "
                "again",
                failures.PIN_INCORRECT,
            )


def _read_pin(path: Path) -> str:
    data = read_secret_file(path, limit=MAX_PIN + 2, what="PIN file")
    line = data.split(b"\n", 1)[0].removesuffix(b"\r")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as why:
        raise SignerError(f"PIN file {path} is not UTF-8") from why


def _fingerprint(pin: str) -> bytes:
    return hashlib.blake2b(pin.encode("utf-8"), key=_SALT, digest_size=32).digest()
