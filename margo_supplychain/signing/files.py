"""Private keys in files: encrypted PKCS#8, mode 0600, never in the clear.

Knows files and encryption; asks nobody for a passphrase (it is a parameter) and keeps
none. Three invariants: an unencrypted private key is neither written nor opened, a file
that others may read is not opened, and a signature is verified before it is returned.

How strong the encryption is: cryptography writes PKCS#8 with AES-256-CBC under
PBKDF2-HMAC-SHA256 with 2048 rounds, and has no option for more (`encryption_builder`
and its `kdf_rounds` exist for OpenSSH and PKCS#12 only, cryptography 50). That slows
down guessing by little, so the passphrase carries the weight: at least 12 characters,
better five random words. A key that was encrypted with a stronger function, such as
`openssl pkcs8 -topk8 -scrypt -in offline.key -out stronger.key`, opens just as well;
how strong it may be has a limit (encryption.py).

Example:
    >>> key = generate(Path("offline.key"), scheme=ECDSA_P256, passphrase=words)
    >>> signature = open_signer(Path("offline.key"), passphrase=words).sign(b"payload")
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_der_private_key,
)
from securesystemslib.signer import CryptoSigner

from margo_supplychain.errors import (
    ConflictError,
    FormatError,
    KeyFormatError,
    SignerError,
    StorageError,
)
from margo_supplychain.signing.checked import CheckedSigner
from margo_supplychain.signing.encryption import parse_encrypted
from margo_supplychain.signing.keys import (
    ECDSA_P256,
    ECDSA_P384,
    ED25519,
    RSA_PSS,
    SCHEMES,
    key_of,
    public_pem,
)
from margo_supplychain.signing.public_files import KeyRecord
from margo_supplychain.signing.redacting import redacted
from margo_supplychain.signing.secret_files import check_mode, read_with_mode
from margo_supplychain.storage import durable
from margo_supplychain.threshold import material

if TYPE_CHECKING:
    from pathlib import Path

    from securesystemslib.signer import Key, SSlibKey

    _PrivateKey = (
        ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
    )

MAX_KEY_FILE: Final = 64 * 1024
MIN_PASSPHRASE: Final = 12  # characters, when a key is made; see the module docstring
MAX_PASSPHRASE: Final = 1023  # bytes: the longest that OpenSSL takes
PRIVATE_MODE: Final = 0o600
_PRIVATE_SUFFIXES: Final = (".key", ".pem")
_RSA_BITS: Final = (3072, 4096)
_SCHEMES_HINT: Final = f"sign with one of {', '.join(SCHEMES)}"
_ENCRYPTED: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
# Traditional OpenSSL files: `RSA PRIVATE KEY` and so on, with or without `Proc-Type`.
_ANY_PRIVATE: Final = b"PRIVATE KEY-----"
_PUBLIC: Final = b"-----BEGIN PUBLIC KEY-----"


def public_path(path: Path) -> Path:
    """Return where the public half lies: `offline.key` has `offline.pub` beside it."""
    if path.suffix in _PRIVATE_SUFFIXES:
        return path.with_suffix(".pub")
    return path.with_name(path.name + ".pub")


def check_new(path: Path) -> None:
    """Check that neither `path` nor its public half exists, also not of another key.

    Raises:
        SignerError: one of them does, or `path` names a public key.
    """
    _check_name(path)
    for each in (path, public_path(path)):
        if os.path.lexists(each):
            raise _exists(each)


def check_replaceable(path: Path) -> None:
    """Check that the public half that would be overwritten is that of `path`.

    `ci.key` and `ci.pem` would both have `ci.pub` beside them, and a `.pub` file may
    record a key in a token: whoever is shown it takes it for another key's.

    Raises:
        SignerError: it belongs to another key, or `path` names a public key.
    """
    _check_name(path)
    public = public_path(path)
    if not os.path.lexists(public):
        return
    hint = f"choose another name; or remove {public} if nobody needs it"
    if not os.path.lexists(path):
        raise SignerError(
            f"{public} exists, and {path} does not: it is another key's public half",
            hint=hint,
        )
    try:
        record = read_public(public)
    except FormatError:
        return  # what is no key is no key's half
    if record is not None and record.uri is not None:
        raise SignerError(
            f"{public} is the public half of {redacted(record.uri)}, not of {path}",
            hint=hint,
        )


def generate(
    path: Path,
    *,
    scheme: str,
    bits: int | None = None,
    passphrase: str,
    replace: bool = False,
) -> SSlibKey:
    """Make a key: write `path` (encrypted, 0600) and its public half beside it.

    Args:
        path: the private key's file.
        scheme: one of `keys.SCHEMES`.
        bits: of an RSA key: 3072, as without it, or 4096.
        passphrase: at least 12 characters.
        replace: overwrite what is there; the old key is lost.

    Raises:
        SignerError: a file exists, or is the half of another key; the scheme is
            unknown, the passphrase is too short.
        StorageError: the disk refuses.
    """
    (check_replaceable if replace else check_new)(path)
    secret = _new_secret(passphrase)
    private = _generate(scheme, bits)
    key = key_of(private.public_key(), what=str(path))
    data = private.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(secret)
    )
    # The private half first: a public key must never exist, and be delegated to, whose
    # private half was not stored. So an old one goes before that.
    if replace and os.path.lexists(public_path(path)):
        durable.remove_file(public_path(path))
    _write(path, data, mode=PRIVATE_MODE, replace=replace)
    open_signer(path, passphrase=passphrase, expect=key)
    _write(public_path(path), public_pem(key), mode=0o644, replace=replace)
    return key


def open_signer(
    path: Path, *, passphrase: str, expect: Key | None = None
) -> CheckedSigner:
    """Open an encrypted private key.

    Args:
        path: a PKCS#8 file that only its owner may read.
        passphrase: opens it.
        expect: the public key that it must belong to, compared by key material.

    Raises:
        SignerError: absent, readable by others, not encrypted, wrong passphrase, or
            the key of somebody else.
    """
    signer = unlock(read_private(path), path=path, passphrase=passphrase)
    if expect is not None:
        check_belongs(signer.public_key, expect, what=str(path))
    return signer


def unlock(data: bytes, *, path: Path, passphrase: str) -> CheckedSigner:
    """Open what `read_private` read.

    Args:
        data: an encrypted private key.
        path: names it in errors.
        passphrase: opens it.

    Raises:
        SignerError: wrong passphrase, too much work to try it, or a key that the
            product does not use.
    """
    try:
        secret = _opening_secret(path, passphrase)
        private = load_der_private_key(_encrypted(path, data), secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as why:
        raise SignerError(
            f"{path} does not open with this passphrase",
            hint="check the passphrase; a damaged file looks the same",
        ) from why
    try:
        key = key_of(private.public_key(), what=str(path))
    except KeyFormatError as why:
        raise SignerError(f"cannot sign: {why}", hint=_SCHEMES_HINT) from why
    return CheckedSigner(CryptoSigner(private, key))


def check_belongs(key: Key, expect: Key, *, what: str) -> None:
    """Check that two keys are the same by material; key ids may be anything.

    Raises:
        SignerError: they differ.
    """
    if (key.scheme, material(key)) != (expect.scheme, material(expect)):
        raise SignerError(
            f"{what} is key {key.keyid[:12]}, expected {expect.keyid[:12]}",
            hint="give the private key that belongs to the public one",
        )


def is_private(data: bytes) -> bool:
    """Tell whether the bytes of a file look like a private key in PEM."""
    return _ANY_PRIVATE in data


def read_private(path: Path) -> bytes:
    """Read a private key's file and return its (still encrypted) bytes.

    Raises:
        SignerError: absent, not a file, readable by others, too large, not encrypted,
            or in a way that takes too much work to open.
    """
    data, mode = read_with_mode(path, limit=MAX_KEY_FILE, what="private key")
    return _check_private(path, data, mode)


def read_key_file(path: Path) -> bytes:
    """Read what somebody named as a key to sign with: private, or a `.pub` record.

    It is read once, because it may be a pipe.

    Raises:
        SignerError: as `read_private` for a private key; absent, too large, no key.
    """
    data, mode = read_with_mode(path, limit=MAX_KEY_FILE, what="private key")
    if _PUBLIC in data and not is_private(data):
        return data
    return _check_private(path, data, mode)


def read_public(path: Path) -> KeyRecord | None:
    """Read a public key's file; None if it holds a private key.

    Raises:
        FormatError: no such file, or no key.
        StorageError: not a regular file, or not readable.
    """
    try:
        with (
            durable.storage_errors(path, "read", missing_passes=True),
            durable.open_regular(path) as stream,
        ):
            data = stream.read(MAX_KEY_FILE + 1)
    except FileNotFoundError as why:
        raise FormatError(
            f"{path}: no such file, expected a key",
            where=str(path),
            hint="name a file that is there",
        ) from why
    if len(data) > MAX_KEY_FILE:
        raise FormatError(
            f"{path} has more than {MAX_KEY_FILE} bytes, expected a key",
            where=str(path),
        )
    return None if is_private(data) else KeyRecord.parse(data, what=str(path))


def _check_private(path: Path, data: bytes, mode: int) -> bytes:
    check_mode(path, mode, "private key")
    if _ENCRYPTED in data and data.count(b"-----BEGIN ") == 1:
        _encrypted(path, data)
        return data
    if is_private(data):
        raise SignerError(
            f"{path} is not an encrypted PKCS#8 key",
            hint=f"encrypt it: openssl pkcs8 -topk8 -scrypt -in {path} -out NEW.key",
        )
    raise SignerError(
        f"{path} is not a private key",
        hint="make one: margo-supplychain key generate offline.key",
    )


def _encrypted(path: Path, data: bytes) -> bytes:
    try:
        return parse_encrypted(data)
    except ValueError as why:
        raise SignerError(
            f"{path} {why}",
            hint="take it from a copy, or encrypt it anew where it was made: "
            f"openssl pkcs8 -in {path} | openssl pkcs8 -topk8 -scrypt -out NEW.key",
        ) from why


def _check_name(path: Path) -> None:
    if path.suffix == ".pub":
        raise SignerError(
            f"{path} is named like a public key",
            hint="name the private key, such as offline.key; offline.pub comes with it",
        )
    public = public_path(path)
    for each in (public.with_suffix(suffix) for suffix in (*_PRIVATE_SUFFIXES, "")):
        if each != path and each.is_file() and _may_be_private(each):
            raise SignerError(
                f"{each} is there: it and {path} would both have {public} beside them",
                hint="choose another name",
            )


def _may_be_private(path: Path) -> bool:
    try:
        with durable.open_regular(path) as stream:
            return is_private(stream.read(MAX_KEY_FILE))
    except (OSError, StorageError):
        return True


def _new_secret(passphrase: str) -> bytes:
    hint = "five random words are easy to type and hard to guess"
    if len(passphrase) < MIN_PASSPHRASE:
        raise SignerError(
            f"the passphrase has {len(passphrase)} characters, expected at least "
            f"{MIN_PASSPHRASE}",
            hint=hint,
        )
    return _encoded(passphrase, "the new passphrase")


def _opening_secret(path: Path, passphrase: str) -> bytes:
    if not passphrase:
        raise SignerError(f"the passphrase of {path} is empty")
    return _encoded(passphrase, f"the passphrase of {path}")


def _encoded(passphrase: str, what: str) -> bytes:
    try:
        secret = passphrase.encode("utf-8")
    except UnicodeEncodeError as why:
        raise SignerError(f"{what} is not UTF-8") from why
    if len(secret) > MAX_PASSPHRASE:
        raise SignerError(f"{what} has more than {MAX_PASSPHRASE} bytes")
    return secret


def _generate(scheme: str, bits: int | None) -> _PrivateKey:
    if bits is not None and (scheme != RSA_PSS or bits not in _RSA_BITS):
        raise SignerError(
            f"cannot make a key of {bits} bits for {scheme}",
            hint="RSA keys have 3072 or 4096 bits; others have no choice",
        )
    if scheme == ECDSA_P256:
        return ec.generate_private_key(ec.SECP256R1())
    if scheme == ECDSA_P384:
        return ec.generate_private_key(ec.SECP384R1())
    if scheme == ED25519:
        return ed25519.Ed25519PrivateKey.generate()
    if scheme == RSA_PSS:
        size = bits or _RSA_BITS[0]
        return rsa.generate_private_key(public_exponent=65537, key_size=size)
    raise SignerError(f"cannot make a key for scheme {scheme!r}", hint=_SCHEMES_HINT)


def _write(path: Path, data: bytes, *, mode: int, replace: bool) -> None:
    if replace:
        durable.write_file(path, data, mode=mode)
        return
    try:
        durable.write_new_file(path, data, mode=mode)
    except ConflictError as why:
        raise _exists(path) from why


def _exists(path: Path) -> SignerError:
    return SignerError(
        f"{path} exists",
        hint="name another file; --force overwrites it, and what it holds is lost",
    )
