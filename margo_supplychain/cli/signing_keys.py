"""Which private keys a command opens, and the public ones that it is given.

`--key` says exactly which. Without it, the command's own settings do: a key that
nothing needs is never asked for, so a build machine that holds only the online key can
publish. A default key whose file is not on this machine is left out and said aloud;
what it would have signed is then missing, and the error names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from margo_supplychain.cli.settings import FILE_NAME, variable_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from securesystemslib.signer import Key, Signer

    from margo_supplychain.cli.invocation import Invocation
    from margo_supplychain.signing.keyring import Keyring

# The keys of a kind of role, in the profiles standard, then small and simple.
ROOT: Final = ("root-key", "offline-key")
TARGETS: Final = ("targets-key", "offline-key")
PUBLISHER: Final = ("publisher-key", "offline-key")
RELEASE: Final = ("release-key",)
# In the profile simple the role targets lists releases, too.
RELEASE_SIMPLE: Final = ("offline-key",)
ONLINE: Final = ("online-key",)


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
    uris = list(given) or _defaults(invocation, settings)
    return [keyring.open(uri) for uri in dict.fromkeys(uris)]


def _defaults(invocation: Invocation, settings: Sequence[str]) -> list[str]:
    uris: list[str] = []
    named = False
    for name in settings:
        setting = invocation.settings.find(name)
        for uri in () if setting is None else setting.values:
            named = True
            if setting is not None and not _is_absent(uri):
                invocation.detail(f"{name} is {uri} ({setting.origin})")
                uris.append(uri)
            else:
                invocation.note(f"{name} {uri} is not on this machine: left out")
    if not named:
        raise click.UsageError(
            f"--key is missing, and neither {variable_of(settings[-1])} nor a "
            f"{FILE_NAME} here or above gives {' or '.join(settings)}"
        )
    return uris


def _is_absent(uri: str) -> bool:
    from margo_supplychain.signing.keyring import path_of

    return not path_of(uri).exists()


def open_key(keyring: Keyring, uri: str) -> tuple[Key, Signer | None]:
    """Return a key that a role shall have, and its signer if it is a private one.

    Raises:
        FormatError: no such file, or no key.
        SignerError: the private key does not open.
    """
    from margo_supplychain.signing import files
    from margo_supplychain.signing.keyring import path_of
    from margo_supplychain.signing.keys import parse_public_key

    data = _read(path_of(uri))
    if files.is_private(data):
        signer = keyring.open(uri)
        return signer.public_key, signer
    return parse_public_key(data, what=uri), None


def read_public(uri: str) -> Key:
    """Return a public key: of a `.pub` file, or of the one beside a private key.

    Raises:
        FormatError: no such file, or no key.
    """
    from margo_supplychain.signing import files
    from margo_supplychain.signing.keyring import path_of
    from margo_supplychain.signing.keys import parse_public_key

    path = path_of(uri)
    data = _read(path)
    if files.is_private(data):
        path = files.public_path(path)
        data = _read(path)
    return parse_public_key(data, what=str(path))


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


def _read(path: Path) -> bytes:
    from margo_supplychain.cli.files import read_named
    from margo_supplychain.signing.files import MAX_KEY_FILE

    return read_named(path, limit=MAX_KEY_FILE, what="a key")
