"""Private keys in files, tokens and key services. Never on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.lazy import exporter

if TYPE_CHECKING:
    from margo_supplychain.signing.envelopes import add_signatures, sign_envelope
    from margo_supplychain.signing.keyring import (
        Keyring,
        PinHandler,
        generate_key,
        open_keyring,
    )
    from margo_supplychain.signing.public_files import Custody, KeyRecord

__all__ = [
    "Custody",
    "KeyRecord",
    "Keyring",
    "PinHandler",
    "add_signatures",
    "generate_key",
    "open_keyring",
    "sign_envelope",
]

__getattr__ = exporter(
    __name__,
    {
        "envelopes": ("add_signatures", "sign_envelope"),
        "keyring": ("Keyring", "PinHandler", "generate_key", "open_keyring"),
        "public_files": ("Custody", "KeyRecord"),
    },
)
