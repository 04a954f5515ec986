"""Which private keys a command opens, and the public ones that it is given.

`--key` says exactly which. Without it, the command's own settings do: a key that
nothing needs is never asked for, so a build machine that holds only the online key can
publish. A default key whose file is not on this machine is left out and said aloud;
what it would have signed is then missing, and the error names it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click

from margo_supplychain.cli.settings import FILE_NAME, variable_of
from margo_supplychain.errors import SignerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from securesystemslib.signer import Signer

    from margo_supplychain.cli.invocation import Invocation
    from margo_supplychain.signing.keyring import Keyring, PinHandler
    from margo_supplychain.signing.public_files import KeyRecord

# The keys of a kind of role, in the profiles standard, then small and simple.
ROOT: Final = ("root-key", "offline-key")
TARGETS: Final = ("targets-key", "offline-key")
PUBLISHER: Final = ("publisher-key", "offline-key")
RELEASE: Final = ("release-key",)
# In the profile simple the role targets lists releases, too.
RELEASE_SIMPLE: Final = ("offline-key",)
ONLINE: Final = ("online-key",)


def keyring_of(
    invocation: Invocation, pin: PinHandler
) -> AbstractContextManager[Keyring]:
    """Return what opens the keys of a command, as the settings of this place say.

    Raises:
        FormatError: the settings name a PKCS#11 module that they may not.
    """
    from margo_supplychain.signing.keyring import open_keyring

    return open_keyring(pin=pin, pkcs11_module=invocation.settings.pkcs11_module)


def open_signers(
    keyring: Keyring,
    invocation: Invocation,
    *,
    given: Sequence[str],
    settings: Sequence[str],
) -> list[Signer]:
    """Open the private keys of a command.

    Args:
        keyring: asks for passphrases, once for each key.
        invocation: knows the settings of this place.
        given: the values of `--key`; they win over all settings.
        settings: the settings whose keys are opened else.

    Raises:
        click.UsageError: there is none at all.
        SignerError: a key does not open.
    """
    uris = list(given) or _defaults(keyring, invocation, settings)
    return [keyring.open(uri) for uri in dict.fromkeys(uris)]


def _defaults(
    keyring: Keyring, invocation: Invocation, settings: Sequence[str]
) -> list[str]:
    from margo_supplychain.signing.redacting import redacted

    uris: list[str] = []
    named = False
    for name in settings:
        setting = invocation.settings.find(name)
        for uri in () if setting is None else setting.values:
            named = True
            reason = _absence(keyring, uri)
            if setting is not None and reason is None:
                invocation.detail(f"{name} is {redacted(uri)} ({setting.origin})")
                uris.append(uri)
            else:
                invocation.note(f"{name} {redacted(uri)} {reason}: left out")
    if not named:
        raise click.UsageError(
            f"--key is missing, and neither {variable_of(settings[-1])} nor a "
            f"{FILE_NAME} here or above gives {' or '.join(settings)}"
        )
    return uris


def _absence(keyring: Keyring, uri: str) -> str | None:
    """Return why a key can't be opened on this machine, or None."""
    try:
        return None if keyring.has_private(uri) else "is not on this machine"
    except SignerError as why:
        return f"can't be used ({why})"


def open_key(keyring: Keyring, uri: str) -> tuple[KeyRecord, Signer | None]:
    """Return a key that a role shall have, and its signer if it is at hand.

    Raises:
        FormatError: no such file, or no key.
        SignerError: the private key does not open.
    """
    if not keyring.has_private(uri):
        return keyring.look(uri), None
    signer = keyring.open(uri)
    return keyring.look(uri), signer


def read_public(keyring: Keyring, uri: str) -> KeyRecord:
    """Return a public key; of a private key in a file that of the `.pub` beside it.

    Raises:
        FormatError: no such file, or no key.
        SignerError: the token or key service does not show it.
    """
    return keyring.look(uri)


def as_setting(uri: str, beside: Callable[[str], str]) -> str:
    """Return how a settings file names a key: a file by its path, others by their URI.

    Without PIN file: a settings file that somebody only walks into may not name one.

    Args:
        uri: the key, as typed.
        beside: makes a path one that is relative to the settings file.

    Raises:
        SignerError: it names no key.
    """
    from margo_supplychain.signing.keyring import is_file, path_of
    from margo_supplychain.signing.pkcs11.uri import TokenUri, is_token_uri

    if is_file(uri):
        return beside(str(path_of(uri)))
    return (
        str(replace(TokenUri.parse(uri), pin_source=None)) if is_token_uri(uri) else uri
    )


def threshold_of(option: str, given: int | None, keys: int) -> int:
    """Return a threshold; with several keys it has no default.

    Raises:
        click.UsageError: it is missing, or above the number of keys.
    """
    if given is None:
        if keys != 1:
            raise click.UsageError(
                f"{option} is missing: {keys} keys are given, and 1 to {keys} of them "
                "may be enough"
            )
        return 1
    if given > keys:
        raise click.UsageError(f"{option} is {given}, and {keys} keys are given")
    return given
