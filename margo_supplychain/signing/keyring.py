"""Opening private keys by URI: one place that asks for each secret once.

A key is named by a path (`offline.key`), by `file:PATH`, and in later releases by the
URI of a token or a cloud key. What asks for the passphrase is a parameter, so nothing
here prompts, reads an environment variable or keeps a secret: a passphrase is used and
forgotten, only the opened signer stays until the keyring is closed.

Example:
    >>> with open_keyring(pin=ask) as keyring:
    ...     signer = keyring.open("offline.key", expect=public_key)
    ...     signature = signer.sign(b"payload")
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, final

from margo_supplychain.errors import SignerError
from margo_supplychain.signing import files
from margo_supplychain.signing.keys import ECDSA_P256

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securesystemslib.signer import Key, Signer, SSlibKey

# Two letters at least, and no slash before it: `./a:b` is a path.
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):", re.ASCII)


class PinHandler(Protocol):
    """Asks for the secret that opens a key."""

    def __call__(self, *, token: str, tries_left: int | None) -> str:
        """Return the PIN or passphrase.

        Args:
            token: what asks: the key's path, or a token's label.
            tries_left: how many wrong PINs the token still takes; None for files.
        """


class Keyring(Protocol):
    """Opens keys, each once."""

    def open(self, uri: str, *, expect: Key | None = None) -> Signer:
        """Return the signer of `uri`.

        Args:
            uri: a path or `file:PATH`.
            expect: the public key it must belong to.

        Raises:
            SignerError: unknown kind of URI, or the key doesn't open.
        """


@contextmanager
def open_keyring(*, pin: PinHandler) -> Iterator[Keyring]:
    """Open a keyring; on leaving, its keys are forgotten and it opens no more."""
    keyring = _FileKeyring(pin)
    try:
        yield keyring
    finally:
        keyring.close()


def generate_key(
    uri: str, *, scheme: str = ECDSA_P256, pin: PinHandler, replace: bool = False
) -> SSlibKey:
    """Make a private key at `uri` and return its public half, which lies beside it.

    Args:
        uri: a path or `file:PATH`.
        scheme: `ecdsa-sha2-nistp256`, `ed25519` or `rsassa-pss-sha256` (3072 bits).
        pin: asked once for the new passphrase, of at least 12 characters.
        replace: overwrite what is there; the old key is lost.

    Raises:
        SignerError: a file exists, the scheme is unknown, the passphrase too short.
    """
    path = path_of(uri)
    if not replace:
        files.check_new(path)  # before anybody thinks of a passphrase
    passphrase = pin(token=str(path), tries_left=None)
    return files.generate(path, scheme=scheme, passphrase=passphrase, replace=replace)


def path_of(uri: str) -> Path:
    """Return the path that a key URI names.

    Raises:
        SignerError: another kind of URI, an empty path, or a `file:` URI with a host.
    """
    found = _SCHEME.match(uri)
    scheme = found.group(1).lower() if found else "file"
    if scheme != "file":
        raise SignerError(
            f"key {uri!r} is of kind {scheme}, which comes with a later release",
            hint="give a key file; write ./ before a file name that holds a colon",
        )
    text = uri[found.end() :] if found else uri
    if found and text.startswith("//"):
        # file:///a/b has an empty host (RFC 8089); file://host/a is not this machine.
        text = text[2:] if text.startswith("///") else ""
    if not text or "\0" in text:
        raise SignerError(
            f"key {uri!r} names no file", hint="give a path to a key file"
        )
    return Path(text)


@final
class _FileKeyring:
    def __init__(self, pin: PinHandler) -> None:
        self._pin = pin
        self._signers: dict[str, Signer] = {}
        self._closed = False

    def open(self, uri: str, *, expect: Key | None = None) -> Signer:
        if self._closed:
            raise ValueError("this keyring is closed")
        path = path_of(uri)
        name = os.path.realpath(path)
        signer = self._signers.get(name)
        if signer is None:
            # Whatever keeps the file from being used is said before the question.
            data = files.read_private(path)
            passphrase = self._pin(token=str(path), tries_left=None)
            signer = files.unlock(data, path=path, passphrase=passphrase)
            self._signers[name] = signer
        if expect is not None:
            files.check_belongs(signer.public_key, expect, what=str(path))
        return signer

    def close(self) -> None:
        self._closed = True
        self._signers.clear()
