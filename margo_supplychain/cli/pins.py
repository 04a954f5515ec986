"""The PINs of tokens: which file answers for which token.

A token counts wrong PINs and locks itself after a few. So it never gets a passphrase
that was meant for a file, a file that was meant for another token, or one of two that
would do; and its last try is left to a person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import click

from margo_supplychain.errors import SignerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TOKEN: Final = "pkcs11:"  # noqa: S105 - what the names of tokens begin with
_OPTION: Final = "--pin-file"
_OTHERS: Final = "*"  # names every token that is not named otherwise
_HINT: Final = "name one token: its label, or 'pkcs11:token=LABEL;serial=…'"

# What a token says of itself: attribute and value.
_Said = frozenset[tuple[str, str]]


@final
class Pins:
    """Where the PINs of tokens come from.

    Args:
        files: token, a label or a PKCS#11 URI -> file with its PIN.
        default: file for every other token; `-` is the standard input.

    Raises:
        click.UsageError: two answers for the same token.
        SignerError: what names no token.
    """

    def __init__(
        self, files: Mapping[str, str] | None = None, default: str | None = None
    ) -> None:
        self._default = default
        self._files: dict[_Said, str] = {}
        for name, path in (files or {}).items():
            said = _named(name)
            if said in self._files:
                raise click.UsageError(f"{_OPTION} gives that of one token twice")
            self._files[said] = path

    @classmethod
    def from_options(cls, options: Sequence[str]) -> Pins:
        """Make one from the values of `--pin-file`.

        A file for any token stands alone: beside named ones it would go to a token
        whose name was mistyped. `*=FILE` says that every other one is meant.

        Raises:
            click.UsageError: two answers for the same token, or for any token beside
                named ones.
            SignerError: what names no token.
        """
        files = divided(_OPTION, options, "token")
        if "" in files and len(files) > 1:
            raise click.UsageError(
                f"{_OPTION} names some tokens, and gives a file for whatever token "
                "asks: name that one too, or say '*=FILE' for every other token"
            )
        default = files.pop("", None) or files.pop(_OTHERS, None)
        return cls(default=default, files=files)

    @property
    def given(self) -> bool:
        """Whether an option says where PINs come from."""
        return bool(self._files or self._default)

    @property
    def for_any(self) -> bool:
        """Whether one file answers for any token."""
        return self._default is not None

    @property
    def reads_input(self) -> bool:
        """Whether a PIN comes from the standard input."""
        return "-" in (self._default, *self._files.values())

    def take(self, token: str, tries_left: int | None) -> str | None:
        """Return the file with the PIN of a token; None without any.

        Args:
            token: all that the token says of itself, as a PKCS#11 URI.
            tries_left: as far as the token says.

        Raises:
            SignerError: it is not clear which file is meant, or the next wrong PIN
                locks the token.
        """
        path = self._file_of(token)
        if path is not None and tries_left == 1:
            raise SignerError(
                f"{self.named(token)} has one try left, and the PIN in {path} is not "
                "risked",
                hint="leave --pin-file out and type the PIN",
            )
        return path

    def _file_of(self, token: str) -> str | None:
        asked = _said(token)
        fitting = [said for said in self._files if said <= asked]
        # What says more, means more: a label with a serial number before the label.
        best = [one for one in fitting if all(other <= one for other in fitting)]
        if best:
            return self._files[best[0]]
        if fitting:
            raise SignerError(
                f"{len(fitting)} values of {_OPTION} fit {self.named(token)}, and none "
                "of them says more than the others",
                hint=_HINT,
            )
        label = {pair for pair in asked if pair[0] == "token"}
        alike = any(label and label <= said for said in self._files)
        if alike and self._default is not None:
            # It may be the same one, with a digit mistyped: a try is not spent on it.
            raise SignerError(
                f"{_OPTION} names a token with that label which is not "
                f"{self.named(token)}",
                hint="where labels repeat, each is named with its serial number",
            )
        return self._default

    @staticmethod
    def named(token: str) -> str:
        """Return a token for people: `token root-a (serial 0002)`."""
        parts = dict(_said(token))
        serial, label = parts.get("serial"), parts.get("token")
        if label is None:
            return "token without a label" if serial is None else f"token {serial}"
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
            raise click.UsageError(f"{option} {_shown(each)} names no file")
        if name in named:
            whose = f"of {_shown(name)}" if name else f"of every {what}"
            raise click.UsageError(f"{option} gives that {whose} twice")
        named[name] = path
    return named


def _shown(text: str) -> str:
    # A URI may hold a PIN that does not belong there.
    if text.lower().startswith(TOKEN):
        return f"{TOKEN}…"
    return repr(text)


def _named(name: str) -> _Said:
    """Return what a label or URI that somebody typed says of a token.

    Raises:
        SignerError: a URI that says nothing of a token, or other things as well.
    """
    if not name.lower().startswith(TOKEN):
        return frozenset({("token", name)})
    from margo_supplychain.signing.pkcs11.uri import TokenUri

    uri = TokenUri.parse(name)
    known = TokenUri(
        token=uri.token,
        manufacturer=uri.manufacturer,
        serial=uri.serial,
        model=uri.model,
    )
    if uri != known:
        raise SignerError(
            f"{_OPTION} names a token by more than token, serial, manufacturer and "
            "model, which are all that it is known by",
            hint=_HINT,
        )
    if uri.token is None and uri.serial is None:
        raise SignerError(
            f"{_OPTION} names tokens by {uri.without_query()}, which may be several",
            hint=_HINT,
        )
    return _said(str(uri))


def _said(token: str) -> _Said:
    """Return what a URI of this program's own making says of a token.

    Not by `TokenUri.parse`: a token may call itself what no URI of a person's may hold.
    """
    from urllib.parse import unquote

    parts = token.removeprefix(TOKEN).split(";")
    pairs = (part.partition("=") for part in parts if part)
    return frozenset((name, unquote(value)) for name, _, value in pairs)
