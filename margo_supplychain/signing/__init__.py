"""Private keys: files now, tokens and key services later. Never on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.lazy import exporter

if TYPE_CHECKING:
    from margo_supplychain.signing.keyring import (
        Keyring,
        PinHandler,
        generate_key,
        open_keyring,
    )

__all__ = [
    "Keyring",
    "PinHandler",
    "generate_key",
    "open_keyring",
]

__getattr__ = exporter(
    __name__,
    {
        "keyring": ("Keyring", "PinHandler", "generate_key", "open_keyring"),
    },
)
