"""Keys in PKCS#11 tokens: HSMs, smart cards, TPMs, SoftHSM.

Needs the extra `hsm` (python-pkcs11), which is imported when the first module is
loaded; URIs and custody are read without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.lazy import exporter

if TYPE_CHECKING:
    from margo_supplychain.signing.pkcs11.tokens import TokenInfo, TokenKey, Tokens
    from margo_supplychain.signing.pkcs11.uri import TokenUri, is_token_uri

__all__ = [
    "TokenInfo",
    "TokenKey",
    "TokenUri",
    "Tokens",
    "is_token_uri",
]

__getattr__ = exporter(
    __name__,
    {
        "tokens": ("TokenInfo", "TokenKey", "Tokens"),
        "uri": ("TokenUri", "is_token_uri"),
    },
)
