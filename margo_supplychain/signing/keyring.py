"""One keyring for every kind of key: each is opened by its URI, and signs.

A key is named by a path (`offline.key`) or `file:PATH`, by `pkcs11:` in a token, by
`awskms:`, `gcpkms:`, `azurekms:` or `hv:` in a key service, or by a `.pub` file that
records one of the latter. Nothing asks what kind it was afterwards: whatever was
opened signs, and each signature is verified before anybody gets it.

What asks for passphrases and PINs is a parameter, so nothing here prompts, reads an
environment variable or writes a secret down; what was opened is forgotten when the
keyring is closed.

Example:
    >>> with open_keyring(pin=ask) as keyring:
    ...     signer = keyring.open("offline.key", expect=public_key)
    ...     signature = signer.sign(b"payload")
"""

from __future__ import annotations

import os
import re
import shlex
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, final

from margo_supplychain.errors import (
    FormatError,
    KeyFormatError,
    SignerError,
    StorageError,
)
from margo_supplychain.signing import files
from margo_supplychain.signing.checked import public_half
from margo_supplychain.signing.keys import ECDSA_P256
from margo_supplychain.signing.public_files import MAX_URI, KeyRecord
from margo_supplychain.signing.redacting import redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from securesystemslib.signer import Key, Signer

    from margo_supplychain.signing.pkcs11 import Tokens
    from margo_supplychain.signing.public_files import Custody

# Two letters at least, and no slash before it: `./a:b` is a path.
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):", re.ASCII)
_FILE: Final = "file"
_TOKEN: Final = "pkcs11"  # noqa: S105 - a kind of URI
_SERVICES: Final = ("awskms", "gcpkms", "azurekms", "hv")


class PinHandler(Protocol):
    """Asks for the secret that opens a key."""

    def __call__(self, *, token: str, tries_left: int | None) -> str:
        """Return the PIN or passphrase.

        Args:
            token: what asks: the key's path; or all that a token says of itself, as
                `pkcs11:token=LABEL;manufacturer=…;serial=…;model=…`.
            tries_left: how many wrong PINs the token still takes; None if that is not
                known, and for files.
        """


class Keyring(Protocol):
    """Opens keys, each once."""

    def open(self, uri: str, *, expect: Key | None = None) -> Signer:
        """Return the signer of `uri`; it verifies each signature that it makes.

        Args:
            uri: a path, a key URI, or a `.pub` file that records one.
            expect: the public key it must belong to.

        Raises:
            KeyFormatError: a `.pub` file that records what none may.
            SignerError: unknown kind of URI, or the key doesn't open.
        """

    def look(self, uri: str, *, custody: bool = True) -> KeyRecord:
        """Return the public key of `uri`, without its private half where possible.

        Of a private key in a file it is the `.pub` file beside it; where there is none
        the private key is opened.

        Args:
            uri: as for `open`.
            custody: what a token says of the private half is wanted, too; most tokens
                say it after a login only.

        Raises:
            FormatError: no such file, or no key.
            SignerError: the key doesn't open, or the token or service doesn't answer.
        """

    def has_private(self, uri: str) -> bool:
        """Tell whether there is a private key for `open`; asks for no secret.

        A file counts when it is there and not just a public key, a token when it is
        plugged in, a key service always; a `.pub` file when what it records is within
        reach of this machine: the token is here, the service's library installed.

        Raises:
            FormatError: the file is there and no key.
            SignerError: a URI that names no key, or no module to ask for tokens.
        """


@contextmanager
def open_keyring(
    *, pin: PinHandler, pkcs11_module: Path | None = None
) -> Iterator[Keyring]:
    """Open a keyring; on leaving, its keys are forgotten and it opens no more.

    Args:
        pin: asked once for each file and token.
        pkcs11_module: the PKCS#11 module of tokens whose URI names none.
    """
    keyring = _Keyring(pin, pkcs11_module)
    try:
        yield keyring
    finally:
        keyring.close()


def generate_key(
    uri: str,
    *,
    scheme: str = ECDSA_P256,
    bits: int | None = None,
    pin: PinHandler,
    replace: bool = False,
    ask: Callable[[str | None], None] | None = None,
    pkcs11_module: Path | None = None,
) -> KeyRecord:
    """Make a private key at `uri` and return its public half and where it is.

    Args:
        uri: a path or `file:PATH`, whose public half is written beside it; or
            `pkcs11:token=…;object=…`, where it is made inside and never leaves.
        scheme: one of `keys.SCHEMES`.
        bits: of an RSA key: 3072, as without it, or 4096.
        pin: asked once for the new passphrase, of at least 12 characters, or the PIN.
        replace: overwrite what is there; the old key is lost.
        ask: told which key of the token goes, in words, or None, before one is made;
            it raises to keep it. No backup brings back a key that never left.
        pkcs11_module: the PKCS#11 module, if the URI names none.

    Raises:
        SignerError: a key is there, the scheme is unknown, the passphrase too short, a
            token that refuses, or a URI of a key service.
    """
    kind = kind_of(uri)
    if kind == _TOKEN:
        tokens = _open_tokens(pin, pkcs11_module)
        try:
            return tokens.generate(
                uri, scheme=scheme, bits=bits, replace=replace, ask=ask
            )
        finally:
            tokens.close()
    if kind in _SERVICES:
        raise SignerError(
            f"keys of kind {kind} are not made here: {redacted(uri)!r}",
            hint="make it in the key service, then: margo-supplychain key import "
            f"{kind}:… --out FILE.pub",
        )
    path = path_of(uri)
    # Before anybody thinks of a passphrase.
    (files.check_replaceable if replace else files.check_new)(path)
    passphrase = pin(token=_asking(path), tries_left=None)
    key = files.generate(
        path, scheme=scheme, bits=bits, passphrase=passphrase, replace=replace
    )
    return KeyRecord(key=key)


def kind_of(uri: str) -> str:
    """Return the kind of a key URI: `file`, `pkcs11`, `awskms` and so on.

    Raises:
        SignerError: another kind, or a text that is no URI.
    """
    found = _SCHEME.match(uri)
    kind = found.group(1).lower() if found else _FILE
    if kind not in (_FILE, _TOKEN, *_SERVICES):
        raise SignerError(
            f"key {redacted(uri)!r} is of the unknown kind {kind[:40]}, expected a "
            "file, "
            f"{', '.join(f'{each}:' for each in (_TOKEN, *_SERVICES))}",
            hint="write ./ before a file name that holds a colon",
        )
    if kind != _FILE and (len(uri) > MAX_URI or not uri.isascii()):
        raise SignerError(
            f"key {redacted(uri)!r} is not a URI of up to {MAX_URI} characters"
        )
    return kind


def is_file(uri: str) -> bool:
    """Tell whether a key URI names a file.

    Raises:
        SignerError: it names no key.
    """
    return kind_of(uri) == _FILE


def path_of(uri: str) -> Path:
    """Return the path that a key URI names.

    Raises:
        SignerError: another kind of URI, an empty path, or a `file:` URI with a host.
    """
    if kind_of(uri) != _FILE:
        raise SignerError(
            f"key {redacted(uri)!r} is not in a file",
            hint="give a path to a key file",
        )
    found = _SCHEME.match(uri)
    text = uri[found.end() :] if found else uri
    if found and text.startswith("//"):
        # file:///a/b has an empty host (RFC 8089); file://host/a is not this machine.
        text = text[2:] if text.startswith("///") else ""
    if not text or "\0" in text:
        raise SignerError(
            f"key {redacted(uri)!r} names no file", hint="give a path to a key file"
        )
    return Path(text)


def _asking(path: Path) -> str:
    """Return a path as it is shown to a PIN handler: never like a token's name."""
    text = str(path)
    return f"./{text}" if _SCHEME.match(text) else text


def _open_tokens(pin: PinHandler, module: Path | None) -> Tokens:
    from margo_supplychain.signing.pkcs11 import Tokens

    return Tokens(pin=pin, module=module)


@final
class _Keyring:
    def __init__(self, pin: PinHandler, module: Path | None) -> None:
        self._pin = pin
        self._module = module
        self._signers: dict[str, Signer] = {}
        self._tokens: Tokens | None = None
        self._closed = False

    def open(self, uri: str, *, expect: Key | None = None) -> Signer:
        self._check_open()
        kind = kind_of(uri)
        if kind == _TOKEN:
            return self._all_tokens().open(uri, expect=expect)
        if kind == _FILE:
            uri = str(path_of(uri))
            signer = self._open_file(Path(uri))
        else:
            signer = self._open_service(uri, expect)
        if expect is not None:
            files.check_belongs(signer.public_key, expect, what=uri)
        return signer

    def look(self, uri: str, *, custody: bool = True) -> KeyRecord:
        self._check_open()
        kind = kind_of(uri)
        if kind == _TOKEN:
            return self._all_tokens().look(uri, custody=custody)
        if kind != _FILE:
            from margo_supplychain.signing import kms

            return kms.look(uri)
        return self._look_at_file(path_of(uri))

    def has_private(self, uri: str) -> bool:
        self._check_open()
        kind = kind_of(uri)
        if kind == _TOKEN:
            return self._all_tokens().present(uri)
        if kind != _FILE:
            return True
        path = path_of(uri)
        try:
            record = files.read_public(path)
        except FormatError:
            if path.exists():
                raise
            return False
        except StorageError:
            return True  # a pipe, or something else that `open` explains
        if record is None or record.uri is None:
            return record is None
        # Its holder may be elsewhere, with modules and libraries of their own.
        try:
            if kind_of(record.uri) == _TOKEN:
                return self._all_tokens().present(record.uri)
            from margo_supplychain.signing import kms

            return kms.installed(record.uri)
        except SignerError:
            return False

    def close(self) -> None:
        self._closed = True
        self._signers.clear()
        if self._tokens is not None:
            self._tokens.close()

    def _open_file(self, path: Path) -> Signer:
        name = os.path.realpath(path)
        signer = self._signers.get(name)
        if signer is None:
            # Whatever keeps the file from being used is said before the question.
            data = files.read_key_file(path)
            if files.is_private(data):
                passphrase = self._pin(token=_asking(path), tries_left=None)
                signer = files.unlock(data, path=path, passphrase=passphrase)
            else:
                signer = self._open_recorded(
                    KeyRecord.parse(data, what=str(path)), path
                )
            self._signers[name] = signer
        return signer

    def _open_recorded(self, record: KeyRecord, path: Path) -> Signer:
        if record.uri is None:
            raise SignerError(
                f"{path} is a public key, and does not say where its private half is",
                hint="give the private key; or record where it is: margo-supplychain "
                f"key import URI --out {shlex.quote(str(path))}",
            )
        signer = self.open(record.uri, expect=record.key)
        if record.custody is not None:
            # Policies read the record: it must not promise more than the token does.
            found = self._custody(record.uri, record.key)
            said = "nothing" if found is None else found.text
            if said != record.custody.text:
                raise SignerError(
                    f"{path} records the custody {record.custody.text}, and "
                    f"{record.uri} says {said}",
                    hint="record it anew: margo-supplychain key import "
                    f"{shlex.quote(record.uri)} --out {shlex.quote(str(path))} "
                    "--force",
                )
        return signer

    def _custody(self, uri: str, key: Key) -> Custody | None:
        if kind_of(uri) != _TOKEN:
            return self.look(uri).custody
        # The token may not keep the public half: the record has it.
        return self._all_tokens().look(uri, expect=key).custody

    def _open_service(self, uri: str, expect: Key | None) -> Signer:
        from margo_supplychain.signing import kms

        name = uri if expect is None else f"{uri} {expect.keyid}"
        if name not in self._signers:
            self._signers[name] = kms.open_signer(uri, expect=expect)
        return self._signers[name]

    def _look_at_file(self, path: Path) -> KeyRecord:
        record = files.read_public(path)
        if record is not None:
            return record
        opened = self._signers.get(os.path.realpath(path))
        beside = files.public_path(path)
        if opened is None and beside.exists():
            half = files.read_public(beside)
            if half is None:
                raise KeyFormatError(f"{beside} holds a private key, expected a public")
            return KeyRecord(key=half.key)
        signer = opened or self._open_file(path)
        return KeyRecord(key=public_half(signer))

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("this keyring is closed")

    def _all_tokens(self) -> Tokens:
        if self._tokens is None:
            self._tokens = _open_tokens(self._pin, self._module)
        return self._tokens
