"""Whom a connection believes, and what it shows of itself.

One context for each registry that the configuration names, one for everybody else: a
client certificate is in the context of its own registry and in no other.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import FetchError

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.transport.network import Network, RegistryAccess

_HINT: Final = "correct the path, or the file: PEM, and readable by this user"


def context(network: Network, access: RegistryAccess, *, url: str) -> ssl.SSLContext:
    """Return the TLS settings for one origin; every certificate is checked.

    Raises:
        FetchError: a named file is not there, or not what it should be. Not a
            FormatError: that would speak of the bytes that `url` should have given.
            Nor is `url` unreachable: that the owner named a wrong file is no reason
            to decide without it.
    """
    ca_file = access.ca_file or network.ca_file
    made = _believing(ca_file, url=url)
    if access.certificate is not None:
        _show(made, access.certificate, access.private_key, url=url)
    return made


def proxy_context(network: Network, *, url: str) -> ssl.SSLContext:
    """Return the TLS settings for a proxy, which is shown no certificate."""
    return _believing(network.ca_file, url=url)


def _believing(ca_file: Path | None, *, url: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as why:  # that of TLS is one, too
        text = f"can't use the certificates in {ca_file}: {_said(why)}"
        raise FetchError(text, url=url, hint=_HINT) from why


def _show(
    made: ssl.SSLContext, certificate: Path, key: Path | None, *, url: str
) -> None:
    is_locked = False

    def passphrase() -> str:
        # Without this, OpenSSL asks whoever sits at the terminal.
        nonlocal is_locked
        is_locked = True
        return ""

    try:
        made.load_cert_chain(certificate, key, passphrase)
    except OSError as why:
        if is_locked:
            said = "it has a passphrase, and nobody is there to give it"
        else:
            said = _said(why)
        files = certificate if key is None else f"{certificate} with {key}"
        text = f"can't use the client certificate {files}: {said}"
        raise FetchError(text, url=url, hint=_HINT) from why


def _said(why: OSError) -> str:
    if not isinstance(why, ssl.SSLError):
        return (why.strerror or type(why).__name__).lower()
    if why.reason == "KEY_VALUES_MISMATCH":
        return "the key does not belong to the certificate"
    return "it holds none that can be read"
