"""Reads one secret: the first line of a file or descriptor, or what somebody types.

`what` is `passphrase` or `PIN` throughout, for messages and hints.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import SignerError

if TYPE_CHECKING:
    from pathlib import Path

_LIMIT: Final = 4096  # bytes of a secret's file; OpenSSL takes 1023 of a passphrase
_HINTS: Final = {
    "passphrase": "give it by --passphrase-file FILE or --passphrase-fd N",
    "PIN": "give it by --pin-file FILE or --pin-file TOKEN=FILE",
}


def from_file(path: Path, what: str) -> str:
    """Return the first line of a file that only its owner may read.

    Raises:
        SignerError: it is not there, others may read it, or there is no such line.
    """
    from margo_supplychain.signing.secret_files import read_secret_file

    named = f"{what} file"
    data = read_secret_file(path, limit=_LIMIT, what=named)
    return _first_line(data, f"{named} {path}", what)


def from_descriptor(descriptor: int, what: str) -> str:
    """Return one line of an open descriptor; what follows stays there.

    Raises:
        SignerError: it is not open, a terminal, or there is no such line.
    """
    return _first_line(_read_line(descriptor, what), f"descriptor {descriptor}", what)


def ask_twice(token: str) -> str:
    """Ask for a new passphrase of a key, twice.

    Raises:
        SignerError: there is no terminal, or the answers differ.
    """
    passphrase = ask("passphrase: ", "passphrase", token)
    if ask("repeat: ", "passphrase", token) != passphrase:
        raise SignerError("the two passphrases differ", hint="run the command again")
    return passphrase


def ask(prompt: str, what: str, token: str) -> str:
    """Ask on the terminal, without echo.

    Args:
        prompt: what is shown.
        what: for messages.
        token: whose secret it is, for messages.

    Raises:
        SignerError: there is no terminal, it would show what is typed, or no answer.
    """
    import getpass
    import warnings

    hint = _HINTS[what]
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError as why:
        raise SignerError(
            f"no terminal to ask for the {what} of {token}", hint=hint
        ) from why
    with warnings.catch_warnings():
        # getpass would go on with echo where it can't turn it off.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(prompt)
        except KeyboardInterrupt:
            with suppress(OSError):
                sys.stderr.write("\n")  # the prompt's line is still open
            raise
        except UnicodeDecodeError as why:
            raise SignerError(
                "what was typed is not text in the terminal's encoding", hint=hint
            ) from why
        except getpass.GetPassWarning as why:
            raise SignerError("the terminal shows what is typed", hint=hint) from why
        except EOFError as why:
            raise SignerError(f"no {what} given for {token}", hint=hint) from why


def _read_line(descriptor: int, what: str) -> bytes:
    data = bytearray()
    try:
        if os.isatty(descriptor):
            raise SignerError(
                f"descriptor {descriptor} is a terminal, which shows what is typed",
                hint="leave the option out to be asked without echo",
            )
        # Byte by byte: what follows the line belongs to somebody else.
        while len(data) <= _LIMIT and not data.endswith(b"\n"):
            byte = os.read(descriptor, 1)
            if not byte:
                break
            data += byte
    except (OSError, OverflowError) as why:
        reason = str(getattr(why, "strerror", None) or "no descriptor").lower()
        raise SignerError(
            f"cannot read the {what} from descriptor {descriptor}: {reason}",
            hint=_HINTS[what],
        ) from why
    return bytes(data)


def _first_line(data: bytes, where: str, what: str) -> str:
    line = data.split(b"\n", 1)[0].removesuffix(b"\r")
    if len(line) >= _LIMIT:
        raise SignerError(f"the first line of {where} is not a {what}: too long")
    if not line:
        raise SignerError(f"the first line of {where} is empty")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as why:
        raise SignerError(f"the first line of {where} is not UTF-8") from why
