"""Where passphrases and PINs come from: a file, a descriptor, or the terminal.

Never an argument, never the environment: other processes see both. Without a terminal
and without either option the answer is an error, not a wait.

`--passphrase-file FILE` gives the first line of FILE for every key,
`--passphrase-file KEY=FILE` for one key, named as on the command line; the option may
be repeated. The last `=` divides; a FILE whose own name holds one is written `=FILE`.
`-` is the standard input. `--passphrase-fd N` reads one line from an open descriptor,
for every key that has no file of its own.

`--pin-file FILE` and `--pin-file TOKEN=FILE` say the PINs of tokens in the same way;
TOKEN is its label, or `pkcs11:token=LABEL;serial=…` where two have the same; what says
more of a token goes before what says less, and before a FILE for any token. A token
counts wrong PINs and locks itself: it never gets what was given as a passphrase.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, final

import click

from margo_supplychain.cli.output import visible
from margo_supplychain.cli.pins import TOKEN, Pins, divided, tries
from margo_supplychain.cli.secret_input import (
    ask,
    ask_twice,
    from_descriptor,
    from_file,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@final
class Passphrases:
    """Answers what opens a key or logs in to a token; a `PinHandler`.

    Args:
        files: key as typed -> file with its passphrase.
        default: file for every other key; `-` is the standard input.
        descriptor: open descriptor with the passphrase of every other key.
        pins: the same for the PINs of tokens.
        new: a key is being made, so a person types the passphrase twice.
    """

    def __init__(
        self,
        *,
        files: Mapping[str, str],
        default: str | None,
        descriptor: int | None,
        pins: Pins | None = None,
        new: bool = False,
    ) -> None:
        self._files = {_name(key): path for key, path in files.items()}
        self._default = default
        self._descriptor = descriptor
        self._pins = pins or Pins()
        self._new = new
        self._lines: dict[int, str] = {}

    @classmethod
    def from_options(
        cls,
        files: Sequence[str],
        descriptor: int | None,
        *,
        pins: Sequence[str] = (),
        new: bool = False,
    ) -> Passphrases:
        """Make one from the values of the options.

        Raises:
            click.UsageError: two answers for the same key.
            SignerError: a token that is named by what is no PKCS#11 URI.
        """
        named = divided("--passphrase-file", files, "key")
        default = named.pop("", None)
        if default is not None and descriptor is not None:
            raise click.UsageError(
                "--passphrase-file and --passphrase-fd both answer for every key"
            )
        for key in named:
            if key.lower().startswith(TOKEN):
                raise click.UsageError(
                    "--passphrase-file names a token: its PIN is given by --pin-file"
                )
        answers = Pins.from_options(pins)
        if answers.reads_input and (
            descriptor == 0 or "-" in (default, *named.values())
        ):
            raise click.UsageError(
                "the standard input gives one line: a passphrase or a PIN, not both"
            )
        return cls(
            files=named, default=default, descriptor=descriptor, pins=answers, new=new
        )

    @property
    def given(self) -> bool:
        """Whether an option says where passphrases come from."""
        return bool(self._files or self._default or self._descriptor is not None)

    @property
    def pins_given(self) -> bool:
        """Whether an option says where PINs come from."""
        return self._pins.given

    @property
    def one_pin_for_all(self) -> bool:
        """Whether one file answers for whatever token asks."""
        return self._pins.for_any

    def __call__(self, *, token: str, tries_left: int | None) -> str:
        """Return the passphrase of a key's file, or the PIN of a token.

        Raises:
            SignerError: no source gives one.
        """
        if token.startswith(TOKEN):
            return self._pin(token, tries_left)
        path = self._files.get(_name(token), self._default)
        if path == "-":
            return self._from_descriptor(0, "passphrase")
        if path is not None:
            return from_file(Path(path), "passphrase")
        if self._descriptor is not None:
            return self._from_descriptor(self._descriptor, "passphrase")
        if self._new:
            return ask_twice(token)
        return ask(f"passphrase for {visible(token)}: ", "passphrase", token)

    def _pin(self, token: str, tries_left: int | None) -> str:
        named = self._pins.named(token)
        path = self._pins.take(token, tries_left)
        if path == "-":
            return self._from_descriptor(0, "PIN")
        if path is not None:
            return from_file(Path(path), "PIN")
        named = visible(named)
        left = "" if tries_left is None else f", {tries(tries_left)} left"
        return ask(f"PIN for {named}{left}: ", "PIN", named)

    def _from_descriptor(self, descriptor: int, what: str) -> str:
        # A pipe gives its line once; every key may ask for it.
        if descriptor not in self._lines:
            self._lines[descriptor] = from_descriptor(descriptor, what)
        return self._lines[descriptor]


def _name(key: str) -> str:
    # Both `./ci.key` and `file:ci.key` are the key that the keyring calls `ci.key`.
    return os.path.realpath(key.removeprefix("file:"))
