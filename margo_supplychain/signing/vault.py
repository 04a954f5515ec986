"""Vault's keys as securesystemslib signs with them, without redirections.

hvac follows them, and requests takes only its own kind of credentials out before it
asks another host: `X-Vault-Token` would go to whoever redirects. securesystemslib makes
its client itself and has no option for it, so the key is asked for here.
"""

from __future__ import annotations

from base64 import b64decode
from importlib import import_module
from typing import TYPE_CHECKING, Any

import securesystemslib.signer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.exceptions import UnsupportedLibraryError

from margo_supplychain.signing.keys import key_of

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer, SSlibKey


def import_(name: str) -> tuple[str, SSlibKey]:
    """Return the URI and the public key of a key's newest version.

    Raises:
        UnsupportedLibraryError: hvac is not installed.
    """
    try:
        client: Any = import_module("hvac").Client(allow_redirects=False)
    except ImportError as why:
        raise UnsupportedLibraryError("hvac is not installed") from why
    versions = client.secrets.transit.read_key(name)["data"]["keys"]
    newest = max(versions, key=int)
    public = b64decode(versions[newest]["public_key"])
    key = key_of(Ed25519PublicKey.from_public_bytes(public), what=f"hv:{name}")
    return f"hv:{name}/{newest}", key


def from_priv_key_uri(uri: str, key: Key) -> Signer:
    """Return the signer of one version of a key.

    Raises:
        UnsupportedLibraryError: hvac is not installed.
    """
    signer: Any = securesystemslib.signer.VaultSigner.from_priv_key_uri(uri, key)
    signer._client.adapter.allow_redirects = False  # noqa: SLF001 - it has no option
    opened: Signer = signer
    return opened
