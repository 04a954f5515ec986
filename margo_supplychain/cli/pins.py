"""The PINs of tokens: which file answers for which token.

A token counts wrong PINs and locks itself after a few. So it never gets a passphrase
that was meant for a file, and its last try is left to a person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import click

from margo_supplychain.errors import SignerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TOKEN: Final = "pkcs11:"  # noqa: S105 - what the names of tokens begin with


@final
class Pins:
    """Where the PINs of tokens come from.

    Args:
        files: token, a label or a PKCS#11 URI -> file with its PIN.
        default: file for every other token; `-` is the standard input.
    """

    def __init__(
        self, files: Mapping[str, str] | None = None, default: str | None = None
    ) -> None:
        self._default = default
        self._files = {_token(name): path for name, path in (files or {}).items()}

    @classmethod
    def from_options(cls, options: Sequence[str]) -> Pins:
        """Make one from the values of `--pin-file`.

        Raises:
            click.UsageError: two answers for the same token.
            SignerError: a token that is named by what is no PKCS#11 URI.
        """
        files = divided("--pin-file", options, "token")
        return cls(default=files.pop("", None), files=files)

    @property
    def given(self) -> bool:
        """Whether an option says where PINs come from."""
        return bool(self._files or self._default)

    @property
    def reads_input(self) -> bool:
        """Whether a PIN comes from the standard input."""
        return "-" in (self._default, *self._files.values())

    def take(self, token: str, tries_left: int | None) -> str | None:
        """Return the file with the PIN of a token; None without any.

        Args:
            token: `pkcs11:token=LABEL`, with the serial number where labels repeat.
            tries_left: as far as the token says.

        Raises:
            SignerError: the next wrong PIN locks the token.
        """
        asked = _token(token)
        path = next(
            (path for each, path in self._files.items() if each <= asked), self._default
        )
        if path is not None and tries_left == 1:
            raise SignerError(
                f"{self.named(token)} has one try left, and the PIN in {path} is not "
                "risked",
                hint="leave --pin-file out and type the PIN",
            )
        return path

    @staticmethod
    def named(token: str) -> str:
        """Return a token for people: `token root-a`, with a serial number if given."""
        parts = dict(_token(token))
        serial = parts.get("serial")
        label = parts.get("token", token)
        return f"token {label}" if serial is None else f"token {label} ({serial})"


def tries(count: int) -> str:
    """Return a number of tries for people."""
    return "1 try" if count == 1 else f"{count} tries"


def divided(option: str, values: Sequence[str], what: str) -> dict[str, str]:
    """Return the values of an option `[NAME=]FILE` by name, "" for those without.

    Raises:
        click.UsageError: no file, or a name twice.
    """
    named: dict[str, str] = {}
    for each in values:
        name, _, path = each.rpartition("=")
        if not path:
            raise click.UsageError(f"{option} {each!r} names no file")
        if name in named:
            whose = f"of {name}" if name else f"of every {what}"
            raise click.UsageError(f"{option} gives that {whose} twice")
        named[name] = path
    return named


def _token(name: str) -> frozenset[tuple[str, str]]:
    """Return what a label or a URI says of a token; comparable as sets."""
    if not name.lower().startswith(TOKEN):
        return frozenset({("token", name)})
    from margo_supplychain.signing.pkcs11.uri import TokenUri

    uri = TokenUri.parse(name)
    said = {
        "token": uri.token,
        "serial": uri.serial,
        "manufacturer": uri.manufacturer,
        "model": uri.model,
    }
    return frozenset((key, value) for key, value in said.items() if value is not None)
