"""Where passphrases come from: a file, a file descriptor, or the terminal.

Never an argument, never the environment: other processes see both. Without a terminal
and without either option the answer is an error, not a wait.

`--passphrase-file FILE` gives the first line of FILE for every key,
`--passphrase-file KEY=FILE` for one key, named as on the command line; the option may
be repeated. The last `=` divides, so a PKCS#11 URI fits as KEY; a FILE whose own name
holds one is written `=FILE`. `-` is the standard input. `--passphrase-fd N` reads one
line from an open descriptor, for every key that has no file of its own.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import click

from margo_supplychain.cli.output import visible
from margo_supplychain.errors import SignerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LIMIT: Final = 4096  # bytes of a passphrase file; OpenSSL takes 1023 of a passphrase
_HINT: Final = "give it by --passphrase-file FILE or --passphrase-fd N"


@final
class Passphrases:
    """Answers what opens a key; a `PinHandler`.

    Args:
        files: key as typed -> file with its passphrase.
        default: file for every other key; `-` is the standard input.
        descriptor: open descriptor with the passphrase of every other key.
        new: a key is being made, so a person types the passphrase twice.
    """

    def __init__(
        self,
        *,
        files: Mapping[str, str],
        default: str | None,
        descriptor: int | None,
        new: bool = False,
    ) -> None:
        self._files = {_name(key): path for key, path in files.items()}
        self._default = default
        self._descriptor = descriptor
        self._new = new
        self._lines: dict[int, str] = {}

    @classmethod
    def from_options(
        cls, files: Sequence[str], descriptor: int | None, *, new: bool = False
    ) -> Passphrases:
        """Make one from the values of the two options.

        Raises:
            click.UsageError: two answers for the same key.
        """
        named: dict[str, str] = {}
        for each in files:
            key, _, path = each.rpartition("=")
            if not path:
                raise click.UsageError(f"--passphrase-file {each!r} names no file")
            if key in named:
                what = f"of {key}" if key else "of every key"
                raise click.UsageError(f"--passphrase-file gives that {what} twice")
            named[key] = path
        default = named.pop("", None)
        if default is not None and descriptor is not None:
            raise click.UsageError(
                "--passphrase-file and --passphrase-fd both answer for every key"
            )
        return cls(files=named, default=default, descriptor=descriptor, new=new)

    @property
    def given(self) -> bool:
        """Whether an option says where passphrases come from."""
        return bool(self._files or self._default or self._descriptor is not None)

    def __call__(self, *, token: str, tries_left: int | None) -> str:
        """Return the passphrase of `token`.

        Raises:
            SignerError: no source gives one.
        """
        path = self._files.get(_name(token), self._default)
        if path == "-":
            return self._from_descriptor(0)
        if path is not None:
            return _from_file(Path(path))
        if self._descriptor is not None:
            return self._from_descriptor(self._descriptor)
        if self._new:
            return _ask_twice(token)
        left = "" if tries_left is None else f" ({tries_left} tries left)"
        return _ask(f"passphrase for {visible(token)}{left}: ", token)

    def _from_descriptor(self, descriptor: int) -> str:
        # A pipe gives its line once; every key may ask for it.
        if descriptor not in self._lines:
            line = _read_line(descriptor)
            self._lines[descriptor] = _first_line(line, f"descriptor {descriptor}")
        return self._lines[descriptor]


def _name(key: str) -> str:
    # Both `./ci.key` and `file:ci.key` are the key that the keyring calls `ci.key`.
    return os.path.realpath(key.removeprefix("file:"))


def _from_file(path: Path) -> str:
    from margo_supplychain.signing.files import read_secret_file

    data = read_secret_file(path, limit=_LIMIT, what="passphrase file")
    return _first_line(data, f"passphrase file {path}")


def _read_line(descriptor: int) -> bytes:
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
            f"cannot read the passphrase from descriptor {descriptor}: {reason}",
            hint=_HINT,
        ) from why
    return bytes(data)


def _first_line(data: bytes, what: str) -> str:
    line = data.split(b"\n", 1)[0].removesuffix(b"\r")
    if len(line) >= _LIMIT:
        raise SignerError(f"the first line of {what} is not a passphrase: too long")
    if not line:
        raise SignerError(f"the first line of {what} is empty")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as why:
        raise SignerError(f"the first line of {what} is not UTF-8") from why


def _ask_twice(token: str) -> str:
    passphrase = _ask("passphrase: ", token)
    if _ask("repeat: ", token) != passphrase:
        raise SignerError("the two passphrases differ", hint="run the command again")
    return passphrase


def _ask(prompt: str, token: str) -> str:
    import getpass
    import warnings

    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError as why:
        raise SignerError(
            f"no terminal to ask for the passphrase of {token}", hint=_HINT
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
                "what was typed is not text in the terminal's encoding", hint=_HINT
            ) from why
        except getpass.GetPassWarning as why:
            raise SignerError("the terminal shows what is typed", hint=_HINT) from why
        except EOFError as why:
            raise SignerError(f"no passphrase given for {token}", hint=_HINT) from why
