"""Which tokens are there, and which of them a URI means.

Every function is called inside `Module.use()`. Imported once a module is loaded:
python-pkcs11 is there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from pkcs11 import PKCS11Error, TokenFlag
from pkcs11.exceptions import TokenNotPresent, TokenNotRecognised

from margo_supplychain.errors import SignerError
from margo_supplychain.signing.pkcs11 import failures
from margo_supplychain.signing.pkcs11.uri import TokenUri

if TYPE_CHECKING:
    from pathlib import Path

    from pkcs11 import Token
    from pkcs11._pkcs11 import lib as Library  # noqa: N812 - the class's name there

MAX_SHOWN: Final = 8  # candidates in a message


class Identity(NamedTuple):
    """Which token it is, as far as it says so itself."""

    label: str
    serial: str
    manufacturer: str
    model: str

    @classmethod
    def of(cls, token: Token) -> Identity:
        """Read it off a token."""
        return cls(
            label=token.label,
            # ASCII by the standard; what is not must neither fail nor fall together.
            serial=token.serial.decode("ascii", "backslashreplace"),
            manufacturer=token.manufacturer_id,
            model=token.model,
        )

    def uri(self, *, serial: bool = True) -> TokenUri:
        """The token's URI, for people and for records.

        A label that a URI can't hold is left out, and the serial number is in it.
        """
        label = _usable(self.label)
        return TokenUri(
            token=label,
            serial=_usable(self.serial) if serial or label is None else None,
        )

    def whole(self) -> TokenUri:
        """All that it says of itself, printable or not: what is asked a PIN for."""
        return TokenUri(
            token=self.label or None,
            manufacturer=self.manufacturer or None,
            serial=self.serial or None,
            model=self.model or None,
        )


def _usable(text: str) -> str | None:
    return text if text and text.isprintable() else None


def shown(text: str) -> str:
    """Return what a token calls something, safe for a terminal."""
    return text if text.isprintable() else ascii(text)


def look_into_slots(library: Library) -> tuple[list[Token], list[str]]:
    """Return the tokens that are plugged in and initialised.

    And of the others the codes: a card that is broken hides no other token.
    """
    found, silent = [], []
    for slot in library.get_slots(token_present=True):
        try:
            token = slot.get_token()
        except (TokenNotPresent, TokenNotRecognised):
            continue  # pulled out between the two calls
        except PKCS11Error as why:
            silent.append(failures.ckr_of(why))
            continue
        if TokenFlag.TOKEN_INITIALIZED in token.flags:
            found.append(token)
    return found, silent


def present_tokens(library: Library) -> list[Token]:
    """Return the tokens that are plugged in, initialised and answer."""
    return look_into_slots(library)[0]


def matches(token: Token, uri: TokenUri, library: Library) -> bool:
    """Tell whether a token is one that the URI means: every attribute decides."""
    slot = token.slot
    version = ".".join(str(part) for part in library.library_version)
    wanted_version = uri.library_version
    if wanted_version is not None and "." not in wanted_version:
        version = version.partition(".")[0]
    pairs = (
        (uri.token, token.label),
        (uri.serial, token.serial.decode("ascii", "backslashreplace")),
        (uri.manufacturer, token.manufacturer_id),
        (uri.model, token.model),
        (uri.slot_id, slot.slot_id),
        (uri.slot_manufacturer, slot.manufacturer_id),
        (uri.slot_description, slot.slot_description),
        (uri.library_manufacturer, library.manufacturer_id),
        (uri.library_description, library.library_description),
        (wanted_version, version),
    )
    return all(wanted is None or wanted == found for wanted, found in pairs)


def find_token(uri: TokenUri, library: Library, module: Path) -> Token:
    """Return the one token that the URI means.

    Raises:
        SignerError: none, or several; the message lists what is there.
    """
    tokens, silent = look_into_slots(library)
    found = [token for token in tokens if matches(token, uri, library)]
    if len(found) == 1:
        return found[0]
    wanted = replace(uri, object=None, id=None, type=None)
    name = "the URI" if wanted.without_query() == "pkcs11:" else wanted.without_query()
    if not found:
        there = listed(tokens) or "no token"
        if silent:
            there += f", and does not get on with another ({', '.join(silent[:3])})"
        raise SignerError(
            f"no token matches {name} in {module}, which shows {there}",
            hint="plug it in, check the URI, or name another module: "
            "`margo-supplychain key tokens` lists what is there",
        )
    raise SignerError(
        f"{len(found)} tokens match {name}: {listed(found)}",
        hint="name one by its serial number, as in 'pkcs11:token=…;serial=…;object=…'",
    )


def listed(tokens: list[Token]) -> str:
    """Name tokens in a message."""
    names = [str(Identity.of(token).uri()) for token in tokens]
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more
